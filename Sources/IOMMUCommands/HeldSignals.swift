import Glibc
import IOMMUImages

/// Signals that would end the program, kept waiting while work is under way that has to clean up behind
/// itself: it asks ``isPending`` now and then.
struct HeldSignals {
  /// Somebody has sent one.
  struct Interruption: Error {}

  private let held: [Int32]
  private let before: sigset_t

  private init() {
    var (nothing, old) = (sigset_t(), sigset_t())
    sigemptyset(&nothing)
    pthread_sigmask(SIG_BLOCK, &nothing, &old)
    // One that is ignored, or was held before, would be taken for one that ends the program.
    let held = Leftovers.signals.filter { number in
      var action = sigaction()
      sigaction(number, nil, &action)
      return sigismember(&old, number) == 0
        && unsafeBitCast(action.__sigaction_handler.sa_handler, to: UInt.self)
          != unsafeBitCast(SIG_IGN, to: UInt.self)
    }
    var set = nothing
    for number in held { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
    (self.held, before) = (held, old)
  }

  /// Runs work; what was sent in the meantime has its effect behind it.
  static func during<Result>(_ body: (HeldSignals) throws -> Result) throws -> Result {
    let signals = HeldSignals()
    defer {
      var before = signals.before
      pthread_sigmask(SIG_SETMASK, &before, nil)
    }
    return try body(signals)
  }

  var isPending: Bool {
    var set = sigset_t()
    sigpending(&set)
    return held.contains { sigismember(&set, $0) == 1 }
  }

  /// - Throws: ``Interruption`` when one waits.
  func check() throws {
    if isPending { throw Interruption() }
  }
}
