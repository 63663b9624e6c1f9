import Glibc
import Synchronization

/// Files with a name that must not stay when a signal ends the program.
package enum Leftovers {
  /// Signals that end a program which has not asked for anything else.
  package static let signals = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]

  /// As many as are open at once, and more: one that finds no room stays after a signal.
  private static let slotCount = 8
  /// Paths as the handler needs them; a slot without one is 0.
  ///
  /// Safe: allocated once and never freed, and each slot changes atomically. Nor is what a slot has led
  /// to ever freed: a handler on another thread may have just looked.
  nonisolated(unsafe) private static let slots = {
    let slots = UnsafeMutablePointer<Atomic<UInt>>.allocate(capacity: slotCount)
    for index in 0..<slotCount { unsafe (slots + index).initialize(to: Atomic(0)) }
    return unsafe slots
  }()

  static func add(_ path: String) {
    // Safe: the copy ends with a zero and stays until the slot lets go of it.
    guard let copy = unsafe strdup(path) else { return }
    for index in 0..<slotCount {
      let slot = unsafe slots + index
      if unsafe slot.pointee.compareExchange(
        expected: 0, desired: UInt(bitPattern: copy), ordering: .releasing
      ).exchanged {
        return
      }
    }
    unsafe free(copy)
  }

  /// Takes a path out of the list.
  ///
  /// - Returns: Whether it was in it.
  @discardableResult
  static func remove(_ path: String) -> Bool {
    for index in 0..<slotCount {
      let slot = unsafe slots + index
      let address = unsafe slot.pointee.load(ordering: .acquiring)
      // Safe: only who has put a path there takes it out again.
      guard let text = unsafe UnsafeMutablePointer<CChar>(bitPattern: address),
        unsafe strcmp(text, path) == 0
      else { continue }
      unsafe slot.pointee.store(0, ordering: .releasing)
      return true
    }
    return false
  }

  /// Lets the signals of ``signals`` remove what is listed before they end the program as they would
  /// have; those that somebody has asked to be ignored stay ignored.
  package static func watchSignals() {
    _ = unsafe slots
    for number in signals {
      // Safe: the handler calls nothing but what may be called from one, and looks at slots only.
      let before = signal(number) { number in
        for index in 0..<Leftovers.slotCount {
          let address = unsafe (Leftovers.slots + index).pointee.load(ordering: .acquiring)
          if let path = unsafe UnsafePointer<CChar>(bitPattern: address) { _ = unsafe unlink(path) }
        }
        _ = signal(number, SIG_DFL)
        raise(number)
      }
      if unsafe unsafeBitCast(before, to: UInt.self) == unsafeBitCast(SIG_IGN, to: UInt.self) {
        _ = signal(number, SIG_IGN)
      }
    }
  }
}
