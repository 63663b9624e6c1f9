import Glibc
import IOMMUInspection

/// One line on a terminal that says how far a long job has come and when it ends.
///
/// Says nothing in the first second, and nothing at all when standard error is no terminal.
struct ProgressLine {
  private let title: String
  private let start = Self.seconds()
  private var last = 0.0
  private var isShown = false
  private let isTerminal = isatty(STDERR_FILENO) == 1

  init(_ title: String) { self.title = title }

  /// Shows that `done` of `total` bytes are through.
  mutating func show(done: UInt64, of total: UInt64) {
    guard isTerminal else { return }
    let now = Self.seconds()
    guard now - start >= 1, now - last >= 0.1, total > 0, done > 0 else { return }
    last = now
    isShown = true
    write("\r" + Self.text(title, done: done, of: total, seconds: now - start) + "\u{1b}[K")
  }

  /// Takes the line away.
  mutating func finish() {
    if isShown { write("\r\u{1b}[K") }
    isShown = false
  }

  /// `searching 42 %, 1.3 GiB of 3.0 GiB, 4.2 GiB/s, 2 s left`.
  static func text(_ title: String, done: UInt64, of total: UInt64, seconds: Double) -> String {
    let share = Double(done) / Double(total)
    let rate = Double(done) / seconds
    let left = Int((Double(total - min(done, total)) / rate).rounded(.up))
    return "\(title) \(Int(share * 100)) %, \(gibibytes(Double(done))) of "
      + "\(gibibytes(Double(total))), \(gibibytes(rate))/s, \(duration(left)) left"
  }

  private static func gibibytes(_ byteCount: Double) -> String {
    let tenths = Int((byteCount / Double(1 << 30) * 10).rounded())
    return "\(tenths / 10).\(tenths % 10) GiB"
  }

  private static func duration(_ seconds: Int) -> String {
    seconds < 120 ? "\(seconds) s" : "\(seconds / 60) min"
  }

  private static func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  private func write(_ text: String) {
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}
