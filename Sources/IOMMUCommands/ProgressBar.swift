import Glibc

/// One line on standard error that says how far long work has come, when standard error is a
/// terminal and the work takes more than a moment.
package final class ProgressBar {
  private static let width = 30
  /// Work that ends sooner says nothing.
  private static let firstDraw = Duration.milliseconds(500)
  private static let interval = Duration.milliseconds(100)

  private let title: String
  private let isShown: Bool
  private let draw: (String) -> Void
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private var next: ContinuousClock.Instant
  private var hasDrawn = false

  /// - Parameters:
  ///   - title: What is done, such as `convert`.
  ///   - isShown: Whether there is somebody to see it; by default, whether standard error is a
  ///     terminal.
  ///   - draw: Where the line goes.
  package init(
    _ title: String, isShown: Bool = isatty(STDERR_FILENO) == 1,
    draw: @escaping (String) -> Void = ProgressBar.toStandardError
  ) {
    self.title = title
    self.isShown = isShown
    self.draw = draw
    start = clock.now
    next = start + Self.firstDraw
  }

  /// Says that `done` of `total` is done; draws now and then.
  package func update(_ done: UInt64, of total: UInt64) {
    guard isShown else { return }
    let now = clock.now
    guard now >= next else { return }
    next = now + Self.interval
    hasDrawn = true
    draw("\r" + Self.line(title, done: done, total: total, elapsed: now - start))
  }

  /// Takes the line away.
  package func finish() {
    guard hasDrawn else { return }
    draw("\r\u{1b}[K")
    hasDrawn = false
  }

  /// `convert  [#####...]  42 %, 3 s left`.
  package static func line(
    _ title: String, done: UInt64, total: UInt64, elapsed: Duration
  ) -> String {
    let share = total == 0 ? 1 : min(1, Double(done) / Double(total))
    let filled = Int(share * Double(width))
    let bar =
      String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
    let seconds = elapsed / .seconds(1)
    let left = share > 0 ? Int((seconds / share * (1 - share)).rounded(.up)) : 0
    return "\(title)  [\(bar)]  \(Int(share * 100)) %, \(left) s left\u{1b}[K"
  }

  /// Writes to standard error.
  package static func toStandardError(_ text: String) {
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}
