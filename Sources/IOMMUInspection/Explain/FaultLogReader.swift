import IOMMUFormats
import IOMMUTranslation

/// Finds DMA faults in a kernel's log, of whatever generation, among everything else that is there.
///
/// VT-d: `DMAR:[DMA Write] Request device [00:02.0] fault addr 7f000000` with its reason, decimal,
/// on the next line (2.6); both on one line (4.x); `PASID ffffffff` between (5.4); `NO_PASID`,
/// `0x` before all numbers and reasons in hexadecimal (5.14 and later). AMD-Vi: `Event logged
/// [IO_PAGE_FAULT device=… domain=… address=… flags=…]`, with the device before the words in newer
/// ones. Calgary: `DMA error on Calgary PHB 0x6, 0x10010000@CSR 0x04000000@PLSSR`. Time stamps,
/// host names and mail quotation marks do not matter.
public struct FaultLogReader: Sendable {
  /// Distinct faults, in the order of their first lines.
  public private(set) var faults: [LoggedFault] = []

  private var indices: [FaultRecord: Int] = [:]
  private var lineNumber = 0
  /// A fault whose rest is on a line to come.
  private var pending: (record: FaultRecord, line: Int)?
  /// An AMD-Vi event whose bracket ends its line.
  private var awaitsEvent: Int?

  public init() {}

  /// Reads one line, without its newline.
  public mutating func read(_ line: some StringProtocol) {
    lineNumber += 1
    let text = Substring(line)
    if let (fault, line) = pending, let reason = Self.reason(in: text),
      lineNumber - line <= 3, !text.contains("Request device")
    {
      pending = nil
      note(fault.withReason(reason), at: line)
      return
    }
    if text.contains("Request device") {
      readVTd(text)
    } else if text.contains("DMA error on Cal") {
      readCalgary(text)
    } else if let start = Self.rest(of: text, after: "Event logged [") {
      if start.allSatisfy({ $0 == " " || $0 == "\r" }) {
        awaitsEvent = lineNumber
      } else {
        readAMDVi(start, prefix: text)
      }
    } else if let line = awaitsEvent, lineNumber - line <= 2, text.contains("=") {
      awaitsEvent = nil
      readAMDVi(Self.withoutPrefix(text), prefix: text)
    }
  }

  private mutating func note(_ record: FaultRecord, at line: Int) {
    if let index = indices[record] {
      faults[index].count += 1
    } else {
      indices[record] = faults.count
      faults.append(LoggedFault(record: record, line: line, count: 1))
    }
  }

  // MARK: VT-d

  private mutating func readVTd(_ text: Substring) {
    guard let device = Self.rest(of: text, after: "Request device ["),
      let device = try? Notation.device(Self.token(device, until: "]"))
    else { return }
    var record = FaultRecord(source: .vtd(VTd.FaultReason(rawValue: 0)), device: device)
    if text.contains("DMA Write") { record.access = .write }
    if text.contains("DMA Read") { record.access = .read }
    if !text.contains("NO_PASID"), let pasid = Self.number(in: text, after: "PASID "),
      pasid != 0xffff_ffff
    {
      record.pasid = UInt32(truncatingIfNeeded: pasid)
    }
    if let index = Self.number(in: text, after: "fault index ") {
      record.source = .vtdInterrupt(VTd.FaultReason(rawValue: 0))
      record.iova = IOVA(index)
    } else if let address = Self.number(in: text, after: "fault addr ") {
      record.iova = IOVA(address)
    } else {
      return
    }
    if let reason = Self.reason(in: text) {
      pending = nil
      note(record.withReason(reason), at: lineNumber)
    } else {
      pending = (record, lineNumber)
    }
  }

  /// Older kernels print the reason in decimal, newer ones in hexadecimal with `0x`.
  private static func reason(in text: Substring) -> UInt8? {
    guard let rest = rest(of: text, after: "fault reason ") else { return nil }
    let digits = token(rest, until: "]")
    if digits.hasSuffix("h") { return UInt8(digits.dropLast(), radix: 16) }
    return Notation.printed(digits).flatMap { UInt8(exactly: $0) }
  }

  // MARK: AMD-Vi

  private mutating func readAMDVi(_ event: Substring, prefix: Substring) {
    let words = event.split(whereSeparator: { $0 == " " || $0 == "]" })
    guard let name = words.first, name.allSatisfy({ $0.isLetter || $0 == "_" }), name.count > 3
    else { return }
    var record = FaultRecord(source: .amdvi(event: String(name), flags: nil))
    for word in words.dropFirst() {
      guard let equals = word.firstIndex(of: "=") else { continue }
      let value = word[word.index(after: equals)...]
      switch word[..<equals] {
      case "device": record.device = try? Notation.device(value)
      case "address": record.iova = Notation.printed(value).map { IOVA($0) }
      case "pasid": record.pasid = Notation.printed(value).map { UInt32(truncatingIfNeeded: $0) }
      case "flags":
        let flags = Notation.printed(value)
          .map { AMDViFlags(rawValue: UInt16(truncatingIfNeeded: $0)) }
        record.source = .amdvi(event: String(name), flags: flags)
        if name == "IO_PAGE_FAULT" {
          record.access = flags.map { $0.contains(.isWrite) ? .write : .read }
        }
      default: continue
      }
    }
    if record.device == nil { record.device = Self.device(before: "AMD-Vi:", in: prefix) }
    note(record, at: lineNumber)
  }

  /// Newer kernels name the device before their message: `nvme 0000:01:00.0: AMD-Vi: …`.
  private static func device(before mark: String, in text: Substring) -> PCI.Function? {
    guard let end = text.firstRange(of: mark)?.lowerBound else { return nil }
    let words = text[..<end].split(separator: " ")
    return words.last.flatMap { word in
      try? Notation.device(word.hasSuffix(":") ? word.dropLast() : word)
    }
  }

  // MARK: Calgary

  private mutating func readCalgary(_ text: Substring) {
    guard let bus = Self.number(in: text, after: "PHB "), bus < 256,
      let end = text.firstRange(of: "@CSR")?.lowerBound,
      let csr = text[..<end].split(separator: " ").last.flatMap({ Notation.printed($0) }),
      let plssrEnd = text.firstRange(of: "@PLSSR")?.lowerBound,
      let plssr = text[..<plssrEnd].split(whereSeparator: { $0 == " " || $0 == "," }).last
        .flatMap({ Notation.printed($0) })
    else { return }
    note(
      FaultRecord(
        source: .calgary(
          csr: UInt32(truncatingIfNeeded: csr), plssr: UInt32(truncatingIfNeeded: plssr)),
        bus: UInt8(bus)), at: lineNumber)
  }

  // MARK: Words

  private static func rest(of text: Substring, after mark: String) -> Substring? {
    text.firstRange(of: mark).map { text[$0.upperBound...] }
  }

  private static func token(_ text: Substring, until end: Character) -> Substring {
    text.prefix { $0 != end && $0 != " " && $0 != "\r" }
  }

  /// A hexadecimal number, with `0x` or without.
  private static func number(in text: Substring, after mark: String) -> UInt64? {
    guard let rest = rest(of: text, after: mark) else { return nil }
    let digits = rest.hasPrefix("0x") ? rest.dropFirst(2) : rest
    let number = digits.prefix { $0.isHexDigit }
    return UInt64(number, radix: 16)
  }

  /// The line from its first word with an underscore on: what follows host name and time stamp.
  private static func withoutPrefix(_ text: Substring) -> Substring {
    let words = text.split(separator: " ")
    guard let event = words.first(where: { $0.contains("_") && !$0.contains("=") }) else {
      return text
    }
    return text[event.startIndex...]
  }
}

extension FaultRecord {
  fileprivate func withReason(_ reason: UInt8) -> FaultRecord {
    var record = self
    let reason = VTd.FaultReason(rawValue: reason)
    // The kernel tells interrupt faults by their reasons, 20h to 2fh.
    if case .vtdInterrupt = source {
      record.source = .vtdInterrupt(reason)
    } else {
      record.source = .vtd(reason)
    }
    return record
  }
}

extension Substring {
  /// The first place where `mark` lies in the text.
  fileprivate func firstRange(of mark: String) -> Range<Index>? {
    guard let first = mark.utf8.first else { return nil }
    var start = startIndex
    while let index = utf8[start...].firstIndex(of: first) {
      if utf8[index...].starts(with: mark.utf8) {
        return index..<utf8.index(index, offsetBy: mark.utf8.count)
      }
      start = utf8.index(after: index)
    }
    return nil
  }

  fileprivate func contains(_ mark: String) -> Bool { firstRange(of: mark) != nil }
}
