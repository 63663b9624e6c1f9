import IOMMUFormats

/// Who did what a line of a trace tells of, and when.
package struct DMATraceStamp: Sendable, Equatable {
  /// The task with its number, `kworker/0:1-123`; `nil` where the trace has none.
  package var task: String?
  /// Of the trace's own clock.
  package var microseconds: UInt64

  /// Reads `TASK-PID [CPU] FLAGS SECONDS: event` of ftrace and `PID@SECONDS:event` of QEMU; `nil` for
  /// other lines.
  package init?(of line: ArraySlice<UInt8>, _ dialect: DMATraceDialect) {
    var scanner = LineScanner(line)
    switch dialect {
    case .table: return nil
    case .qemu:
      guard scanner.decimal() != nil, scanner.skip(past: "@") else { return nil }
    case .ftrace:
      // The task's name may hold anything, brackets too.
      var isAtFlags = false
      var end = line.startIndex
      while !isAtFlags, scanner.skip(past: "[") {
        end = scanner.position - 1
        isAtFlags = scanner.decimal() != nil && scanner.hasPrefix("] ")
      }
      guard isAtFlags, scanner.skip(past: "] ") else { return nil }
      let name = String(decoding: line[..<end], as: UTF8.self)
      task = name.split(separator: " ").joined(separator: " ")
      scanner.skipBlanks()
      _ = scanner.word(until: " ")
      scanner.skipBlanks()
    }
    guard let seconds = scanner.decimal(), seconds < 1 << 40, scanner.skip(past: ".") else {
      return nil
    }
    let digits = scanner.word(until: ": ")
    guard digits.count == 6, let fraction = Notation.decimal(utf8: digits) else { return nil }
    microseconds = seconds * 1_000_000 + fraction
  }
}
