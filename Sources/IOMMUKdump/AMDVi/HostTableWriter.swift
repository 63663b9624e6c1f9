import IOMMUFormats
import IOMMUTranslation

/// Host page tables, as a kernel writes them: a tree that grows a level at its top when it has to.
struct HostTableWriter {
  let pages: PagePool
  /// Levels of the deepest table that the unit has.
  let maximumLevels: Int
  /// Leaves say that accesses look into the processors' caches (FC), as Linux has it for DMA.
  let forcesCoherence: Bool

  /// A tree and how deep it is.
  struct Tree: Equatable {
    var root: PhysicalAddress
    /// Mode of the device table entries that lead to it.
    var levels: Int

    var format: AMDVi.HostFormat { AMDVi.HostFormat(levels: levels) }
    /// Bytes of address that it has entries for; 2^64 counts as one less.
    var reach: UInt64 {
      levels >= 6 ? .max : 1 << UInt64(AMDVi.Paging.addressWidth(levels: levels))
    }
  }

  private static let name = "an AMD-Vi page table"

  private var attributes: PageAttributes { forcesCoherence ? .snooped : [] }

  private func allocateTable() -> PhysicalAddress? {
    try? pages.allocateTable(4096, what: Self.name)
  }

  func makeTree(levels: Int = 3) throws(SetUpError) -> Tree {
    Tree(root: try pages.allocateTable(4096, what: Self.name), levels: levels)
  }

  /// Puts levels on top until the tree has entries up to `end`.
  ///
  /// The entries of devices have to be written anew: root and mode are others.
  func grow(_ tree: inout Tree, toReach end: UInt64) throws(SetUpError) {
    do throws(TableMappingError) {
      var format = tree.format
      defer { tree.levels = format.levels }
      try AMDVi.HostFormat.grow(
        &format, root: &tree.root, toReach: end - 1, maximumLevels: maximumLevels,
        in: pages.memory, allocateTable: allocateTable)
    } catch {
      throw Self.setUpError(error)
    }
  }

  /// The table of `level` on the way to an address; made, with those above it, where it is missing.
  func table(ofLevel level: Int, for address: UInt64, in tree: Tree) throws(SetUpError)
    -> PhysicalAddress
  {
    do throws(TableMappingError) {
      return try tree.format.table(
        ofLevel: level, for: IOVA(address), partly: .dropped, root: tree.root, in: pages.memory,
        allocateTable: allocateTable)
    } catch {
      throw Self.setUpError(error)
    }
  }

  /// Maps one page, in all of the entries that it spans.
  ///
  /// - Returns: How many entries were written.
  @discardableResult
  func store(
    _ page: PhysicalAddress, sizeLog2: Int, at address: UInt64, _ permissions: Permissions,
    in tree: Tree
  ) throws(SetUpError) -> UInt64 {
    try map(
      page, at: address, byteCount: 1 << UInt64(sizeLog2), permissions, in: tree,
      .upTo(log2: sizeLog2))
    return 1 << UInt64((sizeLog2 - 12) % 9)
  }

  /// Maps `byteCount` bytes in the largest pages that both addresses and the rest allow, and that displace no
  /// table.
  ///
  /// - Parameter largest: The largest size, as a power of two; 12 for 4 KiB alone. No entry of the fourth
  ///   level maps its own size: Linux leaves 512 GiB out for a hardware bug.
  /// - Returns: How many entries were written.
  /// - Precondition: The tree reaches the end; addresses and bytes are multiples of 4 KiB.
  @discardableResult
  func map(
    _ target: PhysicalAddress, at address: UInt64, byteCount: UInt64, _ permissions: Permissions,
    in tree: Tree, largest: Int
  ) throws(SetUpError) -> UInt64 {
    try map(
      target, at: address, byteCount: byteCount, permissions, in: tree,
      .upTo(log2: min(largest, 38)).keepingTables)
    guard largest > 12 else { return byteCount / PageCount.pageByteCount }
    return entryCount(
      of: [PhysicalAddress(address)..<PhysicalAddress(address + byteCount)], in: tree)
  }

  private func map(
    _ target: PhysicalAddress, at address: UInt64, byteCount: UInt64, _ permissions: Permissions,
    in tree: Tree, _ sizes: PageSizes
  ) throws(SetUpError) {
    do throws(TableMappingError) {
      try tree.format.remap(
        target..<PhysicalAddress(target.rawValue + byteCount), at: IOVA(address), permissions,
        attributes: attributes, sizes: sizes, partly: .dropped, root: tree.root, in: pages.memory,
        allocateTable: allocateTable)
    } catch {
      throw Self.setUpError(error)
    }
  }

  /// Takes pages away; what of a larger page lies outside of the range goes too, as it was mapped.
  func clear(_ range: Range<UInt64>, in tree: Tree) {
    do throws(TableMappingError) {
      try tree.format.unmap(
        IOVA(range.lowerBound)..<IOVA(range.upperBound), partly: .dropped, keepingTables: true,
        root: tree.root, in: pages.memory)
    } catch {
      preconditionFailure("numbers that were mapped lie in the tree: \(error)")
    }
  }

  private static func setUpError(_ error: TableMappingError) -> SetUpError {
    if case .noPageForTable = error { .outOfMemory(what: name) } else { .tables(error) }
  }

  /// Leaf entries that map these ranges.
  func entryCount(of ranges: [Range<PhysicalAddress>], in tree: Tree) -> UInt64 {
    var count: UInt64 = 0
    for range in ranges {
      var address = range.lowerBound.rawValue
      while address < range.upperBound.rawValue {
        var observer = Unobserved()
        let walk = tree.format.walk(
          address, from: tree.root, in: pages.memory, observer: &observer)
        // All entries of one last-level table map 4 KiB or more: each has at least one of its own.
        let size = walk.end == .page ? AMDVi.Paging.sizeLog2(level: walk.level) : 12
        count += 1
        address = address & ~(1 << UInt64(size) - 1) + 1 << UInt64(size)
      }
    }
    return count
  }

  /// Gives all tables back.
  func free(_ tree: Tree) {
    for table in tree.format.tables(from: tree.root, in: pages.memory) {
      pages.freeTable(table..<PhysicalAddress(table.rawValue + 4096))
    }
  }
}
