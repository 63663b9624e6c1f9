import Glibc

extension FlatMemory {
  /// Asks the system to hold what is touched from now on in pages of 2 MiB.
  ///
  /// A walk that goes all over large tables waits for two things: for the entry, and before it for the
  /// processor to find the page that the entry lies in, which large pages spare it. Of each 2 MiB of
  /// which one byte is touched all take memory, and are in ``touchedRanges()``.
  ///
  /// - Returns: Whether the system takes the advice; it need not follow it everywhere. Of adopted memory
  ///   `false`: its owner has a say in it.
  ///
  /// Source: Linux `Documentation/admin-guide/mm/transhuge.rst`.
  @discardableResult
  public func preferLargePages() -> Bool {
    guard let start = unsafe reservation.baseAddress else { return false }
    // Safe: advice about the reservation, which changes no byte of it.
    return unsafe madvise(start, reservation.count, MADV_HUGEPAGE) == 0
  }
}
