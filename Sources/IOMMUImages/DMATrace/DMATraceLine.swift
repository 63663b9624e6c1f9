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

  /// The arguments are fields, one by one, with the device's name as the first.
  var hasFields: Bool { arguments.hasPrefix("device=") }

  /// What an event of the DMA API calls its device.
  var deviceName: ArraySlice<UInt8>? {
    guard hasFields else { return arguments.textBeforeKeys() }
    var scanner = arguments
    _ = scanner.skip(past: "device=")
    let name = scanner.word(until: " ")
    return name.isEmpty ? nil : name
  }

  var nameText: String { String(decoding: name, as: UTF8.self) }
}

// MARK: QEMU

extension DMATraceLine {
  /// An event of QEMU's VT-d unit: `vtd_name arguments`, at the line's start or behind a stamp.
  ///
  /// QEMU's own messages name its functions with a colon behind them; those are no events.
  ///
  /// - Parameter isOpen: The line has no end: what stands last in it may go on.
  init?(ofQEMU line: ArraySlice<UInt8>, isOpen: Bool = false) {
    var tokens = LineTokens(line, isOpen: isOpen)
    var isBehindStamp = true
    while let token = tokens.next() {
      var start = token.endIndex
      while start > token.startIndex, Self.isInName(token[start - 1]) { start -= 1 }
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

  static func isInName(_ byte: UInt8) -> Bool {
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
  /// An event of Linux's systems `iommu` and `dma`: `name: arguments`, as the kernel, trace-cmd and perf
  /// write it.
  ///
  /// `iommu:map:` and `IOMMU: iova=` are of no other line and count wherever they stand. Other names do
  /// at the line's start, behind a time, and in a comment of the function graph.
  ///
  /// - Parameter isOpen: The line has no end: what stands last in it may go on.
  init?(ofLinux line: ArraySlice<UInt8>, isOpen: Bool = false) {
    var tokens = LineTokens(line, isOpen: isOpen)
    var place = Place.time
    while let token = tokens.next() {
      if let name = Self.linuxName(token, tokens.rest, place) {
        self.name = name
        arguments = place == .comment ? Self.comment(tokens.rest) : tokens.rest
        head = line[line.startIndex..<token.startIndex]
        return
      }
      place = Place(behind: token)
    }
    return nil
  }

  /// Where in a line a word stands.
  private enum Place {
    /// Behind the time of a trace, or at the line's start.
    case time
    /// Behind the time of the kernel's log.
    case log
    /// Behind the mark of a comment.
    case comment
    case elsewhere

    init(behind token: ArraySlice<UInt8>) {
      if token.elementsEqual("/*".utf8) {
        self = .comment
      } else if DMATraceLine.isTime(token) {
        self = .time
      } else if DMATraceLine.isLogTime(token) || DMATraceLine.isLogCaller(token) {
        self = .log
      } else {
        self = .elsewhere
      }
    }
  }

  /// What a comment says, without its end.
  private static func comment(_ arguments: LineScanner) -> LineScanner {
    arguments.dropping(suffix: "*/")
  }

  /// The name in `iommu:map:`, `dma:dma_map_phys:` or `dma_map_phys:`; `nil` for other events, and for
  /// words that are none.
  private static func linuxName(
    _ token: ArraySlice<UInt8>, _ arguments: LineScanner, _ place: Place
  ) -> ArraySlice<UInt8>? {
    guard token.last == UInt8(ascii: ":"), token.count > 1 else { return nil }
    let name = token.dropLast()
    let scanner = LineScanner(name)
    if scanner.hasPrefix("iommu:") {
      let event = name.dropFirst(6)
      return isEventName(event) ? event : nil
    }
    if scanner.hasPrefix("dma:dma_") { return name.dropFirst(4) }
    guard isEventName(name) else { return nil }
    // "iova=" without "IOMMU:" is how the fields are printed one by one.
    let isMapping = name.elementsEqual("map".utf8) || name.elementsEqual("unmap".utf8)
    let isEvent =
      switch place {
      case .time, .comment:
        arguments.hasPrefix("IOMMU:") || isMapping && arguments.hasPrefix("iova=")
          || scanner.isDMAEvent
      // The kernel's other messages begin with words and a colon as well.
      case .log:
        arguments.hasPrefix("IOMMU:") || scanner.isDMAEvent && arguments.hasDMAValues
      case .elsewhere:
        isMapping && arguments.hasPrefix("IOMMU: iova=")
          || scanner.isDMAEvent && arguments.hasDMAValues
      }
    return isEvent ? name : nil
  }

  fileprivate static func isEventName(_ name: ArraySlice<UInt8>) -> Bool {
    !name.isEmpty && name.allSatisfy(isInName)
  }

  /// `12345.678901:` of seconds or ticks; `12us:` with a mark of how long it took before the colon, which
  /// may stand alone; `(+12.5)` and `(+0.012ms):` of a difference.
  fileprivate static func isTime(_ token: ArraySlice<UInt8>) -> Bool {
    if token.first == UInt8(ascii: "("),
      token.last == UInt8(ascii: ")") || token.suffix(2).elementsEqual("):".utf8)
    {
      return true
    }
    if latencyMicroseconds(token) != nil { return token.last == UInt8(ascii: ":") }
    guard token.last == UInt8(ascii: ":") else { return false }
    return isNumberWithPoint(token.dropLast())
  }

  private static func isNumberWithPoint(_ digits: ArraySlice<UInt8>) -> Bool {
    var hasPoint = false
    for byte in digits {
      if byte == UInt8(ascii: "."), !hasPoint {
        hasPoint = true
      } else if !isDigit(byte) {
        return false
      }
    }
    return true
  }

  fileprivate static func isDigit(_ byte: UInt8) -> Bool {
    UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
  }

  /// The number in `12us`, `12us:` or `12us+:`.
  fileprivate static func latencyMicroseconds(_ token: ArraySlice<UInt8>) -> UInt64? {
    var scanner = LineScanner(token)
    guard let number = scanner.decimal(), scanner.hasPrefix("us") else { return nil }
    let rest = scanner.rest.dropFirst(2)
    switch rest.count {
    case 0: return number
    case 1: return rest.first == UInt8(ascii: ":") ? number : nil
    // More than 10 us, 100 us, 1 ms, 10 ms, 100 ms and 1 s since the event before.
    case 2:
      return rest.last == UInt8(ascii: ":") && "+!#*@$".utf8.contains(rest[rest.startIndex])
        ? number : nil
    default: return nil
    }
  }

  /// `12.345678]` or `[12345.678901]` of the kernel's log, perhaps with the bracket of what follows.
  fileprivate static func isLogTime(_ token: ArraySlice<UInt8>) -> Bool {
    logMicroseconds(token) != nil
  }

  fileprivate static func logMicroseconds(_ token: ArraySlice<UInt8>) -> UInt64? {
    var scanner = LineScanner(token)
    if let bracket = token.firstIndex(of: UInt8(ascii: "[")), bracket < token.endIndex - 1 {
      // A level may stand before: "<6>[12345.678901]".
      guard scanner.skip(past: "[") else { return nil }
    }
    guard let time = scanner.microseconds(until: "]"), scanner.hasPrefix("]") else { return nil }
    return time
  }

  /// Which task or processor a line of the kernel's log is of: `T2312]`, `C1]`.
  fileprivate static func isLogCaller(_ token: ArraySlice<UInt8>) -> Bool {
    let word = token.first == UInt8(ascii: "[") ? token.dropFirst() : token
    return word.count > 2 && (word.first == UInt8(ascii: "T") || word.first == UInt8(ascii: "C"))
      && word.last == UInt8(ascii: "]") && word.dropFirst().dropLast().allSatisfy(isDigit)
  }

  /// Why a line that is no event in any form that is read has something of one, where it has.
  static func unreadForm(_ line: ArraySlice<UInt8>) -> DMATraceError? {
    let scanner = LineScanner(line)
    for system in ["iommu:", "dma:dma_"] as [StaticString] {
      var rest = scanner
      guard rest.skip(past: system) else { continue }
      let event = rest.word(until: ":( ,")
      if rest.hasPrefix("("), isEventName(event) {
        return DMATraceError(
          "an event as 'perf trace' prints it; 'perf script' writes what is read")
      }
    }
    let hasValues =
      scanner.contains("IOMMU: iova=")
      || scanner.contains(" dma_addr=") && scanner.contains(" dir=") && scanner.contains(" size=")
    return hasValues ? DMATraceError("the values of an event, and no name that is known") : nil
  }

  /// Whether a line that is no event of IOMMUs has the whole name of another.
  static func isOtherEvent(_ line: ArraySlice<UInt8>) -> Bool {
    var tokens = LineTokens(line)
    var isBehindTime = false
    while let token = tokens.next() {
      if isBehindTime, token.count > 1, token.last == UInt8(ascii: ":"), !isTime(token) {
        return true
      }
      isBehindTime = isTime(token)
    }
    return false
  }
}

extension LineScanner {
  /// A name that the DMA API's events have.
  fileprivate var isDMAEvent: Bool {
    hasPrefix("dma_map_") || hasPrefix("dma_unmap_") || hasPrefix("dma_alloc")
      || hasPrefix("dma_free") || hasPrefix("dma_sync_")
  }

  /// Values that the DMA API's events have, and messages have not.
  fileprivate var hasDMAValues: Bool {
    contains(" dma_addr=") || contains(" dma_addrs=") || contains(" phys_addrs=")
  }
}

/// Goes along the words of a line, which blanks part.
private struct LineTokens {
  private let line: ArraySlice<UInt8>
  private let isOpen: Bool
  private var position: Int

  init(_ line: ArraySlice<UInt8>, isOpen: Bool = false) {
    self.line = line
    self.isOpen = isOpen
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
  var rest: LineScanner {
    LineScanner(line[skippingBlanks(from: position)...], isOpen: isOpen)
  }
}

// MARK: Who and when

/// Who did what a line of a trace tells of, and when.
package struct DMATraceStamp: Sendable, Equatable {
  /// The task with its number, `kworker/0:1-123`; `nil` where the trace has none.
  package var task: String? = nil
  /// `nil` where the line has no time, or one of ticks.
  package var microseconds: UInt64? = nil
  /// The time counts from the trace's own beginning, as in Linux's latency format, and is of no clock that
  /// another file has.
  package var isSinceTraceBegan = false

  /// Reads what stands before an event: `TASK-PID [CPU] FLAGS SECONDS:` of the kernel and trace-cmd, its
  /// latency format and that of the function graph, `TASK PID [CPU] SECONDS:` of perf with fewer columns
  /// too, `[SECONDS]` of the kernel's log, `PID@SECONDS:` of QEMU; `nil` for lines that tell neither.
  package init?(of line: ArraySlice<UInt8>, _ dialect: DMATraceDialect) {
    switch dialect {
    case .table: return nil
    case .qemu:
      guard let event = DMATraceLine(ofQEMU: line) else { return nil }
      var scanner = LineScanner(event.head)
      guard scanner.decimal() != nil, scanner.skip(past: "@"),
        let time = scanner.microseconds(until: ": ")
      else { return nil }
      microseconds = time
    case .ftrace:
      guard let event = DMATraceLine(ofLinux: line) else { return nil }
      read(event.head)
      if task == nil, microseconds == nil { return nil }
    }
  }

  private typealias Words = ArraySlice<ArraySlice<UInt8>>

  /// Reads what stands before an event of Linux.
  private mutating func read(_ head: ArraySlice<UInt8>) {
    var tokens = LineTokens(head)
    var all: [ArraySlice<UInt8>] = []
    while let token = tokens.next() { all.append(token) }
    var words = all[...]
    var logTime: UInt64?
    if let (time, count) = Self.logHead(words) {
      logTime = time
      words = words.dropFirst(count)
    }
    if words.last?.elementsEqual("/*".utf8) == true {
      readGraph(words)
    } else if words.isEmpty {
      // An event that the kernel printed at once.
      microseconds = logTime
    } else if !readVerbose(words), !readLatency(words) {
      readColumns(words)
    }
  }

  /// The time in the kernel's log and the words of it: `[   12.345678]`, perhaps `[   T2312]`.
  private static func logHead(_ words: Words) -> (time: UInt64, count: Int)? {
    for place in words.indices {
      guard let time = DMATraceLine.logMicroseconds(words[place]) else { continue }
      let hasBracket = words[place].dropLast().contains(UInt8(ascii: "["))
      guard hasBracket || place > 0 && words[place - 1].last == UInt8(ascii: "[") else { continue }
      var count = place + 1
      if count < words.endIndex, words[count].elementsEqual("[".utf8) { count += 1 }
      if count < words.endIndex, DMATraceLine.isLogCaller(words[count]) {
        count += 1
      } else {
        count = place + 1
      }
      return (time, count)
    }
    return nil
  }

  /// `12345.678901 |   1)    dd-2312    |   FLAGS |   /*`, of which all but the processor may be absent.
  private mutating func readGraph(_ words: Words) {
    let bar = { (word: ArraySlice<UInt8>) in word.elementsEqual("|".utf8) }
    if words.count > 1, let first = words.first, bar(words[words.startIndex + 1]) {
      var scanner = LineScanner(first)
      microseconds = scanner.microseconds(until: " ")
    }
    guard
      let processor = words.firstIndex(where: {
        $0.last == UInt8(ascii: ")") && $0.count > 1
          && $0.dropLast().allSatisfy(DMATraceLine.isDigit)
      })
    else { return }
    let column = words[(processor + 1)...].prefix { !bar($0) }
    if let last = column.last, Self.endsWithNumber(last) { task = Self.joined(column) }
  }

  /// `TASK PID CPU FLAGS COUNT [STAMP] MILLISECONDS (+DIFFERENCE):`.
  private mutating func readVerbose(_ words: Words) -> Bool {
    guard words.count >= 8, let last = words.last, last.starts(with: "(+".utf8),
      last.suffix(2).elementsEqual("):".utf8)
    else { return false }
    let stamp = words.endIndex - 3
    guard words[stamp].first == UInt8(ascii: "["), words[stamp].last == UInt8(ascii: "]") else {
      return false
    }
    let number = words[stamp - 4]
    guard number.allSatisfy(DMATraceLine.isDigit) else { return false }
    task = Self.joined(words[..<(stamp - 4)]) + "-" + String(decoding: number, as: UTF8.self)
    let time = words[stamp + 1]
    guard time.suffix(2).elementsEqual("ms".utf8) else { return true }
    // Milliseconds with three digits behind the point.
    let parts = time.dropLast(2).split(separator: UInt8(ascii: "."))
    if parts.count == 2, parts[1].count == 3, let whole = Notation.decimal(utf8: parts[0]),
      whole < 1 << 50, let fraction = Notation.decimal(utf8: parts[1])
    {
      microseconds = whole * 1_000 + fraction
      isSinceTraceBegan = true
    }
    return true
  }

  /// `TASK-PID    1d..1. 12us+:`.
  private mutating func readLatency(_ words: Words) -> Bool {
    var place = words.endIndex - 1
    if words[place].elementsEqual(":".utf8) { place -= 1 }
    guard place >= words.startIndex, let time = DMATraceLine.latencyMicroseconds(words[place])
    else { return false }
    microseconds = time
    isSinceTraceBegan = true
    task = Self.task(beforeFlags: words[..<place])
    return true
  }

  /// The task before `1d..1.`.
  private static func task(beforeFlags words: Words) -> String? {
    guard let flags = words.last, flags.count > 3, let first = flags.first,
      DMATraceLine.isDigit(first), words.count > 1, let name = words.dropLast().last,
      endsWithNumber(name)
    else { return nil }
    return joined(words.dropLast())
  }

  private mutating func readColumns(_ words: Words) {
    // A difference to the event before may follow the time, a number of events too.
    let isTime = { (word: ArraySlice<UInt8>) in
      word.first != UInt8(ascii: "(") && DMATraceLine.isTime(word)
    }
    if let place = words.lastIndex(where: isTime) {
      var scanner = LineScanner(words[place])
      microseconds = scanner.microseconds(until: ":")
      task = Self.task(words[..<place]) ?? Self.task(beforeFlags: words[..<place])
    } else {
      task = Self.task(words) ?? Self.task(inColumns: words)
    }
  }

  /// Whether a word is a task's name with its number: `dd-2312`.
  private static func endsWithNumber(_ word: ArraySlice<UInt8>) -> Bool {
    guard let dash = word.lastIndex(of: UInt8(ascii: "-")) else { return false }
    let number = word[word.index(after: dash)...]
    return !number.isEmpty && number.allSatisfy(DMATraceLine.isDigit)
  }

  private static func joined(_ words: Words) -> String {
    words.map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
  }

  /// The task in the words before the time.
  private static func task(_ words: Words) -> String? {
    // "[001]" is the processor's number; the task's name may hold anything, brackets too.
    guard
      let processor = words.lastIndex(where: {
        $0.first == UInt8(ascii: "[") && $0.last == UInt8(ascii: "]")
          && Notation.decimal(utf8: $0.dropFirst().dropLast()) != nil
      })
    else { return nil }
    var names = words[..<processor]
    // The kernel may put the process in parentheses behind the task: "(   2312)", "(-------)".
    if names.last?.last == UInt8(ascii: ")"),
      let start = names.lastIndex(where: { $0.first == UInt8(ascii: "(") }),
      start > names.startIndex
    {
      names = names[..<start]
    }
    return task(inColumns: names) ?? (names.isEmpty ? nil : joined(names))
  }

  /// perf has the task's number, perhaps behind its process's, in a column of its own.
  private static func task(inColumns words: Words) -> String? {
    guard words.count > 1, let last = words.last,
      let number = last.split(separator: UInt8(ascii: "/")).last,
      number.allSatisfy(DMATraceLine.isDigit)
    else { return nil }
    return joined(words.dropLast()) + "-" + String(decoding: number, as: UTF8.self)
  }
}

extension LineScanner {
  /// `SECONDS.FRACTION` with six digits behind the point, or nine, of which six count, up to one of
  /// `ends`.
  fileprivate mutating func microseconds(until ends: StaticString) -> UInt64? {
    guard let seconds = decimal(), seconds < 1 << 40, peek == UInt8(ascii: "."), skip(past: ".")
    else { return nil }
    let digits = word(until: ends)
    guard digits.count == 6 || digits.count == 9,
      let fraction = Notation.decimal(utf8: digits.prefix(6))
    else { return nil }
    return seconds * 1_000_000 + fraction
  }
}
