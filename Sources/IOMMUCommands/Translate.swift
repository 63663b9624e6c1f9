import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTranslation

/// Answers DMA requests from an image.
package struct Translate: ParsableCommand {
  package enum Format: String, ExpressibleByArgument, CaseIterable { case tsv, json }

  package static let configuration = CommandConfiguration(
    commandName: "translate",
    abstract:
      "Translate DMA requests from standard input: where each goes, or which fault it meets.",
    discussion: """
      A request is a line 'requester TAB iova TAB r|w', the IOVA in hexadecimal; the answer is \
      the same line and the physical address, 'fault:0x5' with the manual's reason number, \
      'fault' where the hardware has no number, 'interrupt' for a write to the interrupt range, \
      or 'unknown' where the dump lacks an entry that decides, where no unit is known to serve the \
      requester's PCI segment, or where two may be above it and answer differently; why is said once \
      for each requester on standard error. A request with PASID has it behind the requester, \
      '00:03.0/5'. Lines that start with # are passed over.

      Example: printf '00:03.0\\t0xffefd000\\tw\\n' | iommu translate \
      Examples/vtd-crash/image.elf --machine Examples/vtd-crash/machine.json
      """)

  @OptionGroup package var image: ImageOptions

  @Option(help: "How to print answers: tsv, or json with one object a line.")
  package var format = Format.tsv

  package init() {}

  package func run() throws {
    try image.read { memory, machine, kernel in
      var answers = RequestAnswers(
        machine: machine, memory: memory, format: format, names: kernel.names)
      tellWaiting(for: "requests, such as '00:1f.2 fffff000 r',")
      var output: [UInt8] = []
      try forEachLine(of: STDIN_FILENO, name: "standard input") { line, number in
        try answers.answer(line, number: number, into: &output)
        if output.count >= 1 << 16 {
          output.withUnsafeBytes { StandardOutput.write($0) }
          output.removeAll(keepingCapacity: true)
        }
      }
      output.withUnsafeBytes { StandardOutput.write($0) }
    }
  }
}

/// Turns request lines into answer lines. A requester's handle is resolved once.
package struct RequestAnswers<Memory: PhysicalMemory> {
  let machine: Machine
  let memory: Memory
  let format: Translate.Format
  private let names: DeviceNames
  private let warn: (String) -> Void
  private var devices: [Source: Device] = [:]
  /// The device of the last request, of which most others are too.
  private var last: (source: Source, device: Device)?
  /// Those of which a request was found to rest on what the dump lacks.
  private var blind: Set<Source> = []
  /// What JSON says of the drivers of requesters that were met.
  private var drivers: [PCI.Function: String] = [:]

  /// What is known of who sends requests.
  private enum Device {
    /// No unit is known to serve it, or nothing is known of the one that does.
    case unserved
    /// At least one handle, and more where several units have tables for it: the answer is theirs only
    /// where they agree.
    case served([DeviceHandle], by: Machine)
  }

  /// - Parameters:
  ///   - machine: Its units, whose tables answer.
  ///   - memory: Memory that holds the tables.
  ///   - format: How answers are written.
  ///   - names: What drivers the requesters have: JSON has them.
  ///   - warn: Gets a line for each requester of which something is not known.
  package init(
    machine: Machine, memory: Memory, format: Translate.Format, names: DeviceNames = .none,
    warn: @escaping (String) -> Void = IOMMUCommands.warn
  ) {
    self.machine = machine
    self.memory = memory
    self.format = format
    self.names = names
    self.warn = warn
  }

  /// Appends the answer to one line, without its newline, to `output`; nothing for comments.
  package mutating func answer(
    _ line: UnsafeRawBufferPointer, number: Int, into output: inout [UInt8]
  ) throws {
    guard let first = line.first, first != UInt8(ascii: "#") else { return }
    let columns = Columns(line)
    guard columns.count >= 3 else {
      throw bad(
        line, number,
        "a request is 'requester TAB iova TAB r|w', such as '00:1f.2\\t0xfffff000\\tr'")
    }
    let source: Source
    let iova: UInt64
    do {
      source = try Source(columns[0])
      iova = try Notation.address(utf8: columns[1])
    } catch {
      throw bad(line, number, error.description)
    }
    let access: Access
    switch columns[2].first {
    case UInt8(ascii: "r") where columns[2].count == 1: access = .read
    case UInt8(ascii: "w") where columns[2].count == 1: access = .write
    default: throw bad(line, number, "the access is r or w")
    }
    let answer = answer(source, IOVA(iova), access)
    switch format {
    case .tsv:
      output.append(contentsOf: columns.text(first: 3))
      output.append(UInt8(ascii: "\t"))
      appendText(answer, to: &output)
    case .json:
      appendJSON(source, iova, access, answer, to: &output)
    }
    output.append(UInt8(ascii: "\n"))
  }

  /// What becomes of a request; `nil` where nobody knows.
  private mutating func answer(_ source: Source, _ iova: IOVA, _ access: Access) -> Translation? {
    guard case .served(let handles, let machine) = device(source) else { return nil }
    let answer = handles[0].translate(iova, byteCount: 1, access: access, in: memory)
    for other in handles.dropFirst()
    where other.translate(iova, byteCount: 1, access: access, in: memory) != answer { return nil }
    // Only a fault of these few can be the dump's and not the machine's: others cost no second look.
    if case .fault(let fault) = answer, fault.isUnanswered,
      let absent = machine.absentAddress(
        behind: source.function.requester, pasid: source.pasid, iova, access: access, in: memory)
    {
      if blind.insert(source).inserted {
        warn(
          "\(title(source)): unknown at \(iova) and perhaps elsewhere: \(absent) is "
            + memory.presence(of: absent).whereabouts)
      }
      return nil
    }
    return answer
  }

  /// Who it is, with the driver.
  private func title(_ source: Source) -> String {
    names.text(.requester(source.function, addressSpace: source.pasid))
  }

  private mutating func device(_ source: Source) -> Device {
    if let last, last.source == source { return last.device }
    let device = devices[source] ?? find(source)
    devices[source] = device
    last = (source, device)
    return device
  }

  /// Looks a requester up for the first time, and tells what is not known of it.
  private func find(_ source: Source) -> Device {
    do throws(UnservedSegment) {
      let machine = try machine.serving(source.function)
      let requester = source.function.requester
      let others = machine.owners(of: requester, pasid: source.pasid, in: memory).others
      for other in others {
        warn("\(title(source)) may be behind another unit as well: \(machine.units[other].name)")
      }
      let handles = machine.handles(of: requester, pasid: source.pasid, in: memory)
      if case .blocked(.unitUnseen) = handles[0].route {
        warn("\(title(source)): unknown, \(Fault.unitUnseen.meaning)")
        return .unserved
      }
      return .served(handles, by: machine)
    } catch {
      warn("\(error)")
      return .unserved
    }
  }

  private func appendText(_ answer: Translation?, to output: inout [UInt8]) {
    switch answer {
    case nil:
      output.append(contentsOf: "unknown".utf8)
    case .mapped(let physical, _):
      append(hexadecimal: physical.rawValue, to: &output)
    case .interruptMessage:
      output.append(contentsOf: "interrupt".utf8)
    case .fault(let fault):
      output.append(contentsOf: "fault".utf8)
      guard let number = fault.number else { return }
      output.append(UInt8(ascii: ":"))
      append(hexadecimal: UInt64(number), to: &output)
    }
  }

  private func append(hexadecimal value: UInt64, to output: inout [UInt8]) {
    output.append(UInt8(ascii: "0"))
    output.append(UInt8(ascii: "x"))
    let digits = max(1, (64 - value.leadingZeroBitCount + 3) / 4)
    for index in stride(from: digits - 1, through: 0, by: -1) {
      let digit = UInt8(value >> UInt64(4 * index) & 15)
      output.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
    }
  }

  /// `"driver":"e1000e",`; nothing where it is not known.
  private mutating func driverJSON(_ device: PCI.Function) -> String {
    guard let driver = names[device] else { return "" }
    if let known = drivers[device] { return known }
    let text = "\"driver\":\(jsonText(driver)),"
    drivers[device] = text
    return text
  }

  private mutating func appendJSON(
    _ source: Source, _ iova: UInt64, _ access: Access, _ answer: Translation?,
    to output: inout [UInt8]
  ) {
    let pasid = source.pasid.map { "\"pasid\":\($0)," } ?? ""
    var text =
      "{\"requester\":\"\(source.function)\",\(driverJSON(source.function))\(pasid)\"iova\":\"\(hexadecimal(iova))\",\"access\":\"\(access)\","
    switch answer {
    case nil: text += "\"unknown\":true}"
    case .mapped(let physical, _): text += "\"physical\":\"\(physical)\"}"
    case .interruptMessage: text += "\"interrupt\":true}"
    case .fault(let fault):
      let number = fault.number.map { "\"reason\":\"\(hexadecimal($0))\"," } ?? ""
      text += "\"fault\":{\(number)\"meaning\":\"\(fault.meaning)\"}}"
    }
    output.append(contentsOf: text.utf8)
  }

  private func bad(_ line: UnsafeRawBufferPointer, _ number: Int, _ why: String) -> InputError {
    let shown = String(decoding: line.prefix(60), as: UTF8.self).debugDescription
    return InputError("standard input, line \(number): \(shown): \(why)")
  }
}

/// Who sends a request: `00:03.0`, or with a PASID `00:03.0/5`.
private struct Source: Hashable, CustomStringConvertible {
  var function: PCI.Function
  var pasid: PASID?

  init(_ text: Slice<UnsafeRawBufferPointer>) throws(NotationError) {
    guard text.contains(UInt8(ascii: "/")) else {
      function = try Notation.device(utf8: text)
      return
    }
    let text = String(decoding: text, as: UTF8.self)
    (function, pasid) = try Notation.deviceAndPASID(text)
  }
}

extension Source {
  var description: String { "\(function)" + (pasid.map { "/\($0)" } ?? "") }
}

/// The columns of a line, between tabs or runs of spaces.
private struct Columns {
  private let line: UnsafeRawBufferPointer
  private var starts = (0, 0, 0)
  private var ends = (0, 0, 0)
  private(set) var count = 0

  init(_ line: UnsafeRawBufferPointer) {
    self.line = line
    var index = 0
    while count < 3 {
      while index < line.count, Self.isSpace(line[index]) { index += 1 }
      guard index < line.count else { return }
      let start = index
      while index < line.count, !Self.isSpace(line[index]) { index += 1 }
      switch count {
      case 0: (starts.0, ends.0) = (start, index)
      case 1: (starts.1, ends.1) = (start, index)
      default: (starts.2, ends.2) = (start, index)
      }
      count += 1
    }
  }

  subscript(column: Int) -> Slice<UnsafeRawBufferPointer> {
    switch column {
    case 0: line[starts.0..<ends.0]
    case 1: line[starts.1..<ends.1]
    default: line[starts.2..<ends.2]
    }
  }

  /// The line up to the end of the third column, as it was given.
  func text(first _: Int) -> Slice<UnsafeRawBufferPointer> { line[starts.0..<ends.2] }

  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "\t") || byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\r")
  }
}

/// Calls `body` with each line of a file, without its newline, and its number from 1.
///
/// Reads a mebibyte at a time; a line may be of any length up to 1 MiB.
///
/// - Parameter cuttingLongLines: Longer lines come in pieces of the same number, cut at blanks where
///   there are any.
package func forEachLine(
  of file: Int32, name: String, cuttingLongLines: Bool = false,
  _ body: (UnsafeRawBufferPointer, Int) throws -> Void
) throws {
  let capacity = 1 << 20
  let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 16)
  defer { buffer.deallocate() }
  var filled = 0
  var number = 0
  // The line that begins the buffer has had its number.
  var isInLine = false
  while true {
    let count = read(file, buffer.baseAddress! + filled, capacity - filled)
    if count < 0, errno == EINTR { continue }
    guard count >= 0 else { throw InputError("\(name): \(String(cString: strerror(errno)))") }
    filled += count
    var start = 0
    while start < filled,
      let newline = memchr(buffer.baseAddress! + start, 10, filled - start)
    {
      let end = newline - buffer.baseAddress!
      if !isInLine { number += 1 }
      isInLine = false
      try body(UnsafeRawBufferPointer(rebasing: buffer[start..<end]), number)
      start = end + 1
    }
    if count == 0 {
      if start < filled {
        try body(
          UnsafeRawBufferPointer(rebasing: buffer[start..<filled]), isInLine ? number : number + 1)
      }
      return
    }
    if cuttingLongLines, start == 0, filled == capacity {
      let blank = buffer[(capacity - 4096)...].lastIndex(of: UInt8(ascii: " "))
      start = (blank ?? capacity - 1) + 1
      if !isInLine { number += 1 }
      isInLine = true
      try body(UnsafeRawBufferPointer(rebasing: buffer[..<start]), number)
    }
    guard start > 0 || filled < capacity else {
      throw InputError("\(name), line \(number + 1): longer than 1 MiB; is this a request file?")
    }
    memmove(buffer.baseAddress!, buffer.baseAddress! + start, filled - start)
    filled -= start
  }
}
