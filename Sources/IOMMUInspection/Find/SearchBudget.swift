import IOMMUFormats
import IOMMUTranslation

/// How much a search may still follow, in proportion to the memory that is searched.
///
/// A candidate that has been begun is finished: what it took is subtracted afterwards, and the next
/// one is not begun when nothing is left. What one candidate takes has bounds of its own: the 2^16
/// requesters of a root table, ``VTd/addressSpaceLimit``, and a share of the tables.
struct SearchBudget: Equatable {
  /// Entries of root, context and PASID tables, or as much work.
  var entries: Int
  /// Page tables.
  var tables: UInt64
  /// Something was left out because nothing was left: a search is not whole then. One whose last candidate
  /// took the last of it is.
  private(set) var isCut = false

  /// 2^20 entries and 256 for each page, 1024 tables and 4 for each page; never more than a search
  /// of 1 GiB may take of entries, or one of 256 MiB of tables.
  init(for memory: some PhysicalMemory) {
    let pages = min(memory.storedPageBound, 1 << 18)
    entries = min(1 << 26, 1 << 20 + 256 * Int(pages))
    tables = min(1 << 18, 1024 + 4 * pages)
  }

  /// Whether one more candidate may be begun; that it may not is remembered.
  mutating func allowsAnother() -> Bool {
    if entries <= 0 || tables == 0 { isCut = true }
    return !isCut
  }

  /// Takes away the page tables that were gone through.
  ///
  /// - Parameter isCut: There were more of them than ``tables``.
  mutating func spend(onPageTables count: UInt64, isCut: Bool) {
    tables -= min(tables, count)
    if isCut { self.isCut = true }
  }

  /// The entries that have to be read to find the requesters, in context tables that may be empty.
  ///
  /// - Parameter contextTables: How many the root table names, one as often as it is named.
  mutating func spend(onContextTables count: Int) { entries -= 256 + 256 * count }

  /// The entries that have to be read to find the requesters' tables: a context entry of scalable mode
  /// leads to a directory of up to 2^14 entries.
  mutating func spend(on requesters: [Requester], of kind: TableCandidate.Kind) {
    entries -= (kind == .scalableRootTable ? 1024 : 64) * requesters.count
  }

  /// The address spaces that the requesters have.
  mutating func spend(on tables: [DMATable]) { entries -= 64 * tables.count }
}
