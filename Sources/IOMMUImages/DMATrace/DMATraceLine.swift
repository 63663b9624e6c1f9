import IOMMUFormats

/// A line of a trace that has an event of IOMMUs in it: which, what of, when and by whom.
///
/// Programs that write traces out differ in what they put before an event, so it is looked for by its
/// name and by what stands right before that.
struct DMATraceLine {
  /// The event's name, without the system that it belongs to.
  let name: ArraySlice<UInt8>
  /// Behind the name and the blanks that follow it.
  let arguments: LineScanner
  /// What stands before the name.
  let head: ArraySlice<UInt8>

  func isNamed(_ text: StaticString) -> Bool {
    let scanner = LineScanner(name)
    return name.count == text.utf8CodeUnitCount && scanner.hasPrefix(text)
  }

  func begins(with text: StaticString) -> Bool { LineScanner(name).hasPrefix(text) }

  var nameText: String { String(decoding: name, as: UTF8.self) }
}

// MARK: QEMU

extension DMATraceLine {
  /// An event of QEMU's VT-d unit: `vtd_name arguments`, at the line's start or behind a stamp.
  ///
  /// QEMU's own messages name its functions with a colon behind them; those are no events.
  init?(ofQEMU line: ArraySlice<UInt8>) {
    var tokens = LineTokens(line)
    var isBehindStamp = true
    while let token = tokens.next() {
      var start = token.endIndex
      while start > token.startIndex, Self.isInQEMUName(token[start - 1]) { start -= 1 }
      let name = token[start...]
      let isWhole = start == token.startIndex
      if isWhole ? isBehindStamp : token[start - 1] == UInt8(ascii: ":"),
        LineScanner(name).hasPrefix("vtd_")
      {
        self.name = name
        arguments = tokens.rest
        head = line[line.startIndex..<start]
        return
      }
      switch token[token.endIndex - 1] {
      case UInt8(ascii: ":"), UInt8(ascii: "]"), UInt8(ascii: ")"), UInt8(ascii: "Z"):
        isBehindStamp = true
      default: isBehindStamp = false
      }
    }
    return nil
  }

  private static func isInQEMUName(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
      UInt8(ascii: "_"):
      true
    default: false
    }
  }
}

// MARK: Linux

extension DMATraceLine {
  /// An event of Linux's systems `iommu` and `dma`: `name: arguments`, behind a time or at the line's
  /// start, as the kernel, trace-cmd and perf write it.
  init?(ofLinux line: ArraySlice<UInt8>) {
    var tokens = LineTokens(line)
    var isBehindTime = true
    while let token = tokens.next() {
      if isBehindTime, let name = Self.linuxName(token, tokens.rest) {
        self.name = name
        arguments = tokens.rest
        head = line[line.startIndex..<token.startIndex]
        return
      }
      isBehindTime = Self.isTime(token)
    }
    return nil
  }

  /// The name in `iommu:map:`, `dma:dma_map_phys:` or `dma_map_phys:`; `nil` for other events, and for
  /// words that are none.
  private static func linuxName(
    _ token: ArraySlice<UInt8>, _ arguments: LineScanner
  ) -> ArraySlice<UInt8>? {
    guard token.last == UInt8(ascii: ":"), token.count > 1 else { return nil }
    let name = token.dropLast()
    let scanner = LineScanner(name)
    if scanner.hasPrefix("iommu:") { return name.dropFirst(6) }
    if scanner.hasPrefix("dma:") { return name.dropFirst(4) }
    if arguments.hasPrefix("IOMMU:") || scanner.isDMAEvent { return name }
    return nil
  }

  /// `12345.678901:` of seconds or ticks; `12us` and a colon; `(+12.5)` of a difference.
  private static func isTime(_ token: ArraySlice<UInt8>) -> Bool {
    if token.first == UInt8(ascii: "("), token.last == UInt8(ascii: ")") { return true }
    guard token.last == UInt8(ascii: ":") else { return false }
    var hasPoint = false
    for byte in token.dropLast() {
      if byte == UInt8(ascii: "."), !hasPoint {
        hasPoint = true
      } else if !(UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte) {
        return false
      }
    }
    return true
  }
}

extension LineScanner {
  /// A name that the DMA API's events have.
  fileprivate var isDMAEvent: Bool {
    hasPrefix("dma_map_") || hasPrefix("dma_unmap_") || hasPrefix("dma_alloc")
      || hasPrefix("dma_free") || hasPrefix("dma_sync_")
  }
}

/// Goes along the words of a line, which blanks part.
private struct LineTokens {
  private let line: ArraySlice<UInt8>
  private var position: Int

  init(_ line: ArraySlice<UInt8>) {
    self.line = line
    position = line.startIndex
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == 9 || byte == 13
  }

  private func skippingBlanks(from place: Int) -> Int {
    var place = place
    while place < line.endIndex, Self.isBlank(line[place]) { place += 1 }
    return place
  }

  mutating func next() -> ArraySlice<UInt8>? {
    let start = skippingBlanks(from: position)
    position = start
    while position < line.endIndex, !Self.isBlank(line[position]) { position += 1 }
    return position == start ? nil : line[start..<position]
  }

  /// What follows the word that was given last, without the blanks before it.
  var rest: LineScanner { LineScanner(line[skippingBlanks(from: position)...]) }
}

// MARK: Who and when

/// Who did what a line of a trace tells of, and when.
package struct DMATraceStamp: Sendable, Equatable {
  /// The task with its number, `kworker/0:1-123`; `nil` where the trace has none.
  package var task: String?
  /// Of the trace's own clock.
  package var microseconds: UInt64

  /// Reads what stands before an event: `TASK-PID [CPU] FLAGS SECONDS:` of the kernel and trace-cmd,
  /// `TASK PID [CPU] SECONDS:` of perf, `PID@SECONDS:` of QEMU; `nil` for other lines.
  package init?(of line: ArraySlice<UInt8>, _ dialect: DMATraceDialect) {
    let event: DMATraceLine?
    switch dialect {
    case .table: event = nil
    case .qemu: event = DMATraceLine(ofQEMU: line)
    case .ftrace: event = DMATraceLine(ofLinux: line)
    }
    guard let event else { return nil }
    if dialect == .qemu {
      var scanner = LineScanner(event.head)
      guard scanner.decimal() != nil, scanner.skip(past: "@"), let time = scanner.microseconds()
      else { return nil }
      microseconds = time
      return
    }
    var tokens = LineTokens(event.head)
    var words: [ArraySlice<UInt8>] = []
    while let token = tokens.next() { words.append(token) }
    // A difference to the event before may follow the time.
    guard let place = words.lastIndex(where: { $0.last == UInt8(ascii: ":") }) else { return nil }
    var scanner = LineScanner(words[place])
    guard let time = scanner.microseconds() else { return nil }
    microseconds = time
    task = Self.task(words[..<place])
  }

  /// The task in the words before the time.
  private static func task(_ words: ArraySlice<ArraySlice<UInt8>>) -> String? {
    // "[001]" is the processor's number; the task's name may hold anything, brackets too.
    guard
      let processor = words.lastIndex(where: {
        $0.first == UInt8(ascii: "[") && $0.last == UInt8(ascii: "]")
          && Notation.decimal(utf8: $0.dropFirst().dropLast()) != nil
      })
    else { return nil }
    var names = words[..<processor].map { String(decoding: $0, as: UTF8.self) }
    // The kernel may put the process in parentheses behind the task: "(   2312)", "(-------)".
    if names.last?.hasSuffix(")") == true,
      let start = names.lastIndex(where: { $0.hasPrefix("(") }),
      start > 0
    {
      names.removeSubrange(start...)
    }
    guard let last = names.last else { return nil }
    // perf has the task's number, perhaps behind its process's, in a column of its own.
    let number = last.split(separator: "/").last ?? ""
    if names.count > 1, number.allSatisfy(\.isNumber), !number.isEmpty {
      return names.dropLast().joined(separator: " ") + "-\(number)"
    }
    return names.joined(separator: " ")
  }
}

extension LineScanner {
  /// `SECONDS.FRACTION:` with six digits behind the point, or nine, of which six count.
  fileprivate mutating func microseconds() -> UInt64? {
    guard let seconds = decimal(), seconds < 1 << 40, peek == UInt8(ascii: "."), skip(past: ".")
    else { return nil }
    let digits = word(until: ": ")
    guard digits.count == 6 || digits.count == 9,
      let fraction = Notation.decimal(utf8: digits.prefix(6))
    else { return nil }
    return seconds * 1_000_000 + fraction
  }
}
