import IOMMUFormats
import IOMMUTranslation

/// Finds the faults of IOMMUs in a log, of whatever kernel, among everything else that is there.
///
/// Time stamps, host names, colours, and what mail programs do to lines make no difference. What is
/// read of one message never comes from another: a message ends where the next of any kind begins. A
/// line that tells of a fault and is not understood is kept as one, never passed over.
///
/// - Complexity: O(bytes); a line is looked at up to `LogLine.byteCountLimit` around what marks it.
public struct FaultLogReader: Sendable {
  /// Distinct faults, in the order of their first lines.
  public private(set) var faults: [LoggedFault] = []
  /// Lines that tell of faults and are not understood, in their order, the same reason once for each
  /// line.
  public private(set) var unread: [UnreadLine] = []
  /// Distinct faults, and lines that are not understood, beyond what is kept.
  public private(set) var omittedCount = 0
  /// Messages that the kernel says it has left out.
  public private(set) var suppressedCount = 0
  /// Lines read.
  public private(set) var lineCount = 0

  /// So many distinct faults and lines that are not understood are kept each.
  public static let limit = 10_000
  /// A message takes so many lines below its mark at most.
  private static let lineLimit = 4
  /// Bytes before a message that may have its time.
  private static let stampByteCount = 256
  /// Two readings of one fault are at most so many lines apart.
  private static let joinLimit = 8

  private var indices: [FaultRecord: Int] = [:]
  private var pending: Pending?
  /// The fault that was read last.
  private var last: (index: Int, reader: any LogReader.Type, line: Int, isOneLine: Bool)?
  /// The line of that fault from its mark on, where the line was all of it: the next is often the same.
  private var lastText: [UInt8] = []
  /// Messages of faults so far, understood or not.
  private var notedCount = 0
  /// A status of a VT-d unit of which no fault has been read yet.
  private var status: (VTd.FaultStatus, line: Int, time: LogTime?)?

  /// A message whose end is not known yet.
  private struct Pending {
    var reader: any LogReader.Type
    var message: LogMessage
    var lines: ClosedRange<Int>
    var time: LogTime?
    /// How often the line says it came.
    var count: Int
    /// The last line broke within a word.
    var isBrokenInWord: Bool
    /// What was made of it so far.
    var reading: LogReading
  }

  public init() {}

  /// Reads one line, without its newline.
  public mutating func read(_ line: some StringProtocol) { read(utf8: Array(line.utf8)) }

  /// Reads one line, without its newline.
  ///
  /// - Parameters:
  ///   - line: Its bytes; what is no UTF-8 is no error.
  ///   - startsLine: `false` for another piece of the line that was read last.
  public mutating func read(
    utf8 line: some RandomAccessCollection<UInt8>, startsLine: Bool = true
  ) {
    if startsLine { lineCount += 1 }
    // Of one type from here on: what is generic over modules is not specialised.
    var rest = Array(line)[...]
    while let next = readPiece(rest) { rest = next }
  }

  /// Reads a line as far as it is looked at once.
  ///
  /// - Returns: What is behind that; `nil` when nothing is.
  private mutating func readPiece(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
    // Most lines of a log have nothing to do with faults.
    guard let first = LogMarks.first(in: line) else {
      if pending != nil { goOn(LogLine(line)) }
      return nil
    }
    let place = first - line.startIndex
    if pending == nil, let last, lastText.elementsEqual(line[first...]) {
      faults[last.index].count = faults[last.index].count.addingClamped(1)
      let prefix = String(decoding: line[..<first].suffix(Self.stampByteCount), as: UTF8.self)
      faults[last.index].noteTime(LogTime(before: prefix[...]))
      self.last?.line = lineCount
      if faults[last.index].record.source.isOfVTd { status = nil }
      return nil
    }
    lastText = []
    let countBefore = notedCount
    // What stands far before a mark says nothing of it.
    let begin = place > LogLine.byteCountLimit / 2 ? place - 512 : 0
    let clean = LogLine(line.dropFirst(begin))
    read(clean)
    // What VT-d's messages say stands behind their marks; others name devices before them.
    if notedCount == countBefore + 1, pending == nil, let last, last.line == lineCount,
      last.isOneLine, last.reader == VTdLogReader.self, line.count < 1024
    {
      lastText = Array(line[first...])
    }
    // What is behind the part that was looked at is looked at too.
    let rest = line.dropFirst(begin + LogLine.byteCountLimit)
    return rest.isEmpty ? nil : rest
  }

  /// Ends what has begun: no more lines come.
  public mutating func finish() {
    close()
    tellStatus()
  }

  // MARK: Messages

  /// A line with at least one mark.
  private mutating func read(_ line: LogLine) {
    let text = line.text[...]
    let marks = LogMarks.all(in: text)
    guard let first = marks.first else {
      if pending != nil { goOn(line) }
      return
    }
    // Words that a line may have by chance are no end of a message.
    if first.reader == OtherUnitsLogReader.self, let open = pending {
      var longer = open.message
      longer.text += " " + text
      let isOthers =
        switch OtherUnitsLogReader.read(
          LogMessage(text: String(text[first.index...]), prefix: String(text[..<first.index])))
        {
        case .nothing: false
        default: true
        }
      if !isOthers || !open.reader.read(longer).says(theSameAs: open.reading) {
        goOn(line)
        return
      }
    }
    var begin = text.startIndex
    var isFirst = true
    for (number, mark) in marks.enumerated() {
      let end = number + 1 < marks.count ? marks[number + 1].index : text.endIndex
      if let open = pending, open.reader == mark.reader,
        open.reader.continues(
          (open.message.text + " " + text[begin..<mark.index])[...], at: text[mark.index...])
      {
        // The message goes on up to the next mark.
        goOn(
          String(text[begin..<end]), isSameLine: !isFirst,
          isBrokenInWord: end == text.endIndex && line.isBrokenInWord)
      } else {
        let prefix = text[..<mark.index]
        if isFirst, pending != nil { goOn(String(prefix), isBrokenInWord: false) }
        close()
        pending = Pending(
          reader: mark.reader,
          message: LogMessage(text: "", prefix: String(prefix)),
          lines: lineCount...lineCount, time: LogTime(before: prefix),
          count: Self.repetitions(prefix), isBrokenInWord: true, reading: .nothing)
        goOn(
          String(text[mark.index..<end]),
          isBrokenInWord: end == text.endIndex && line.isBrokenInWord)
      }
      isFirst = false
      begin = end
    }
  }

  /// A line below the mark.
  private mutating func goOn(_ line: LogLine) {
    goOn(line.text, isBrokenInWord: line.isBrokenInWord)
  }

  private mutating func goOn(_ text: String, isSameLine: Bool = false, isBrokenInWord: Bool) {
    guard var open = pending else { return }
    if lineCount - open.lines.lowerBound > open.reader.lineLimit
      || open.message.text.utf8.count > 4096
    {
      close()
      return
    }
    let isJoined = open.isBrokenInWord || isSameLine || text.utf8.first == UInt8(ascii: " ")
    open.message.text += (isJoined ? "" : " ") + text
    open.isBrokenInWord = isBrokenInWord
    let before = open.reading
    open.reading = open.reader.read(open.message)
    // Lines count as the message's where they said something.
    if !open.reading.says(theSameAs: before) {
      open.lines = open.lines.lowerBound...max(open.lines.upperBound, lineCount)
    }
    pending = open
    switch open.reading {
    case .unfinished, .begun, .begunTable: break
    case .fault, .unread, .table, .words, .suppressed, .repeated, .nothing:
      if !isBrokenInWord { close() }
    }
  }

  /// The message that is open has ended.
  private mutating func close() {
    guard let open = pending else { return }
    pending = nil
    notedCount &+= 1
    switch open.reading {
    case .fault(let record), .unfinished(let record): note(record, open)
    case .begun(let reason):
      note(UnreadLine(line: open.lines.lowerBound, unit: open.reader.unit, reason: reason))
    case .unread(let reason, let unit):
      note(
        UnreadLine(line: open.lines.lowerBound, unit: unit ?? open.reader.unit, reason: reason))
    case .table(let piece): note(piece, line: open.lines.lowerBound)
    case .words(let words):
      if let last, faults[last.index].record.source.isOfVTd == words.isOfVTd {
        faults[last.index].add(words)
      }
    case .suppressed(let count): suppressedCount = suppressedCount.addingClamped(count)
    case .repeated(let count):
      if let last, lineCount - last.line <= 2 {
        faults[last.index].count = faults[last.index].count.addingClamped(count)
      }
    case .begunTable, .nothing: break
    }
  }

  // MARK: What was read

  private mutating func note(_ record: FaultRecord, _ open: Pending) {
    if case .vtdStatus(let value) = record.source {
      // Xen tells one bit a line.
      if let status, status.line + 1 < open.lines.lowerBound || status.0 == value { tellStatus() }
      status = (value, open.lines.lowerBound, open.time)
      return
    }
    if record.source.isOfVTd { status = nil }
    if let last, last.reader == open.reader,
      open.lines.lowerBound - last.line <= Self.joinLimit,
      let joined = open.reader.joined(faults[last.index].record, record)
    {
      replace(last.index, with: joined, lines: open.lines)
      return
    }
    guard let index = place(record, lines: open.lines, time: open.time, count: open.count) else {
      return
    }
    last = (index, open.reader, open.lines.upperBound, open.lines.count == 1)
  }

  /// Finds or makes the place of a fault; `nil` when there are too many.
  private mutating func place(
    _ record: FaultRecord, lines: ClosedRange<Int>, time: LogTime?, count: Int
  ) -> Int? {
    if let index = indices[record] {
      faults[index].count = faults[index].count.addingClamped(count)
      faults[index].noteTime(time)
      return index
    }
    guard faults.count < Self.limit else {
      omittedCount += 1
      last = nil
      return nil
    }
    indices[record] = faults.count
    var fault = LoggedFault(record, lines: lines, time: time)
    fault.count = count
    faults.append(fault)
    return faults.count - 1
  }

  /// A fault of which more has become known.
  private mutating func replace(_ index: Int, with record: FaultRecord, lines: ClosedRange<Int>) {
    guard faults[index].record != record else { return }
    if let other = indices[record], other != index {
      // The one that has just come is the one from before.
      faults[index].count -= 1
      let time = faults[index].removeLastTime()
      if faults[index].count == 0, index == faults.count - 1 {
        indices[faults[index].record] = nil
        faults.removeLast()
      }
      faults[other].count += 1
      faults[other].noteTime(time)
      last?.index = other
      return
    }
    guard faults[index].count == 1 else { return }
    indices[faults[index].record] = nil
    indices[record] = index
    faults[index].record = record
    faults[index].lines = faults[index].lines.lowerBound...lines.upperBound
  }

  private mutating func note(_ line: UnreadLine) {
    guard unread.count < Self.limit else {
      omittedCount += 1
      return
    }
    if unread.last != line { unread.append(line) }
  }

  private mutating func note(_ piece: LoggedTables.Piece, line: Int) {
    guard let last, piece.belongs(to: faults[last.index].record.source) else {
      return noteOrphan(piece, line: line)
    }
    if case .heading(let iova) = piece, let address = faults[last.index].record.address,
      address >> 12 != iova >> 12
    {
      self.last = nil
      return noteOrphan(piece, line: line)
    }
    // Of a fault that comes again, the first print counts.
    if faults[last.index].count == 1 { faults[last.index].tables.add(piece) }
  }

  /// Entries without their fault: its line is not in the log.
  private mutating func noteOrphan(_ piece: LoggedTables.Piece, line: Int) {
    switch piece {
    case .heading(let iova):
      note(
        UnreadLine(
          line: line, unit: VTdTableLogReader.unit,
          reason: "entries for \(hexadecimal(iova)), and no line about the fault before them"))
    case .deviceEntry(word: 0, _, _):
      note(
        UnreadLine(
          line: line, unit: AMDViLogReader.unit,
          reason: "a device table entry, and no line about its event before it"))
    default: return
    }
  }

  /// A unit has said that faults wait, and no line says which.
  private mutating func tellStatus() {
    guard let (value, line, time) = status else { return }
    status = nil
    _ = place(
      FaultRecord(source: .vtdStatus(value)), lines: line...line, time: time, count: 1)
  }

  /// `message repeated 3 times: [` of a syslog daemon.
  private static func repetitions(_ prefix: Substring) -> Int {
    guard let count = LogScanner(prefix).decimal(after: "message repeated ") else { return 1 }
    return Int(clamping: max(count, 1))
  }
}

extension Int {
  /// The sum, or the largest number there is: a log may claim any.
  fileprivate func addingClamped(_ other: Int) -> Int {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}

extension LogReader {
  /// Lines that a message takes below its mark.
  fileprivate static var lineLimit: Int { self == SMMUv3LogReader.self ? 12 : 4 }
}

extension LogReading {
  fileprivate func says(theSameAs other: LogReading) -> Bool {
    switch (self, other) {
    case (.unfinished(let first), .unfinished(let second)): first == second
    case (.begun(let first), .begun(let second)): first == second
    default: false
    }
  }
}

extension FaultRecord.Source {
  fileprivate var isOfVTd: Bool {
    switch self {
    case .vtd, .vtdInterrupt, .vtdStatus, .vtdQueue: true
    case .amdvi, .amdviPageRequest, .smmuv3, .calgary: false
    }
  }
}

extension LoggedTables.Piece {
  /// Whether kernels print it behind a fault of this kind.
  fileprivate func belongs(to source: FaultRecord.Source) -> Bool {
    switch self {
    case .deviceEntry, .control:
      if case .amdvi(let event, _) = source {
        event.code == .illegalDeviceTableEntry
      } else {
        false
      }
    default: source.isOfVTd
    }
  }
}

extension LoggedWords {
  /// Descriptors of the invalidation queue; commands are AMD-Vi's.
  fileprivate var isOfVTd: Bool { name.hasPrefix("QI ") }
}

extension LoggedFault {
  fileprivate mutating func add(_ piece: LoggedWords) {
    guard count == 1, words.count < 8 else { return }
    if let index = words.firstIndex(where: { $0.name == piece.name }) {
      if words[index].words.count < 8 { words[index].words += piece.words }
    } else {
      words.append(piece)
    }
  }
}

extension LogTime {
  /// The time that stands before a message, the last one when there are several.
  init?(before prefix: Substring) {
    // Xen counts from its own start.
    guard !prefix.contains("(XEN)") else { return nil }
    if let at = prefix.utf8.lastIndex(of: UInt8(ascii: "@")),
      let (seconds, fraction) = Self.numbers(prefix[prefix.index(after: at)...])
    {
      self.init(.epoch, microseconds: seconds &* 1_000_000 &+ fraction)
      return
    }
    var rest = prefix
    var found: LogTime?
    while let open = rest.utf8.firstIndex(of: UInt8(ascii: "[")) {
      rest = rest[rest.utf8.index(after: open)...]
      if let (seconds, fraction) = Self.numbers(rest.drop { $0 == " " }) {
        found = LogTime(.kernel, microseconds: seconds &* 1_000_000 &+ fraction)
      }
    }
    guard let found else { return nil }
    self = found
  }

  /// `301.000002`, with six digits behind the point.
  private static func numbers(_ text: Substring) -> (UInt64, UInt64)? {
    let seconds = text.prefix { $0.isASCII && $0.isNumber }
    let behind = text[seconds.endIndex...]
    guard behind.first == ".", let whole = UInt64(seconds), whole < 1 << 40 else { return nil }
    let digits = behind.dropFirst().prefix { $0.isASCII && $0.isNumber }
    guard digits.count == 6, let fraction = UInt64(digits) else { return nil }
    return (whole, fraction)
  }
}
