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

  func makeTree(levels: Int = 3) throws(SetUpError) -> Tree {
    Tree(root: try pages.allocateTable(4096, what: Self.name), levels: levels)
  }

  /// Puts levels on top until the tree has entries up to `end`.
  ///
  /// The entries of devices have to be written anew: root and mode are others.
  func grow(_ tree: inout Tree, toReach end: UInt64) throws(SetUpError) {
    while end > tree.reach, tree.levels < maximumLevels {
      let root = try pages.allocateTable(4096, what: Self.name)
      AMDVi.PageTableEntry(table: tree.root, level: tree.levels)
        .store(to: pages.memory, at: root)
      tree = Tree(root: root, levels: tree.levels + 1)
    }
  }

  /// The table of `level` on the way to an address; made, with those above it, where it is missing.
  func table(ofLevel level: Int, for address: UInt64, in tree: Tree) throws(SetUpError)
    -> PhysicalAddress
  {
    let format = tree.format
    var table = tree.root
    for above in stride(from: tree.levels, to: level, by: -1) {
      let place = format.entryAddress(of: address, in: table, level: above)
      guard let entry = AMDVi.PageTableEntry(from: pages.memory, at: place) else {
        preconditionFailure("a table that is written lies in RAM")
      }
      if case .table(let next, _) = format.kind(of: entry, level: above) {
        table = next
      } else {
        let new = try pages.allocateTable(4096, what: Self.name)
        AMDVi.PageTableEntry(table: new, level: above - 1).store(to: pages.memory, at: place)
        table = new
      }
    }
    return table
  }

  /// Maps one page, in all of the entries that it spans.
  ///
  /// - Returns: How many entries were written.
  @discardableResult
  func store(
    _ page: PhysicalAddress, sizeLog2: Int, at address: UInt64, _ permissions: Permissions,
    in tree: Tree
  ) throws(SetUpError) -> UInt64 {
    let level = Self.level(ofSize: sizeLog2)
    let table = try table(ofLevel: level, for: address, in: tree)
    let entry = AMDVi.PageTableEntry(
      page: page, sizeLog2: sizeLog2, level: level, permissions: permissions,
      forcesCoherence: forcesCoherence)
    let count: UInt64 = 1 << UInt64(sizeLog2 - AMDVi.Paging.sizeLog2(level: level))
    pages.memory.storeSeries(
      from: entry.rawValue, step: 0, count: Int(count), isBigEndian: false,
      at: tree.format.entryAddress(of: address, in: table, level: level))
    return count
  }

  /// The level in whose tables pages of a size are.
  static func level(ofSize sizeLog2: Int) -> Int { (sizeLog2 - 12) / 9 + 1 }

  /// Maps `byteCount` bytes in the largest pages that both addresses and the rest allow.
  ///
  /// - Parameter largest: The largest size, as a power of two; 12 for 4 KiB alone.
  /// - Returns: How many entries were written.
  /// - Precondition: The tree reaches the end; addresses and bytes are multiples of 4 KiB.
  @discardableResult
  func map(
    _ target: PhysicalAddress, at address: UInt64, byteCount: UInt64, _ permissions: Permissions,
    in tree: Tree, largest: Int
  ) throws(SetUpError) -> UInt64 {
    var written: UInt64 = 0
    var done: UInt64 = 0
    while done < byteCount {
      let (from, to) = (address + done, target.rawValue + done)
      guard largest > 12 else {
        // Small pages alone: a table at a time.
        let run = min(byteCount - done, (from | 0x1f_ffff) + 1 - from)
        let table = try table(ofLevel: 1, for: from, in: tree)
        let entry = AMDVi.PageTableEntry(
          page: PhysicalAddress(to), sizeLog2: 12, level: 1, permissions: permissions,
          forcesCoherence: forcesCoherence)
        pages.memory.storeSeries(
          from: entry.rawValue, step: 4096, count: Int(run / 4096), isBigEndian: false,
          at: tree.format.entryAddress(of: from, in: table, level: 1))
        written += run / 4096
        done += run
        continue
      }
      let size = sizeLog2(at: from, to, atMost: min(largest, topBit(byteCount - done)), in: tree)
      written += try store(PhysicalAddress(to), sizeLog2: size, at: from, permissions, in: tree)
      done += 1 << UInt64(size)
    }
    return written
  }

  private func topBit(_ value: UInt64) -> Int { 63 - value.leadingZeroBitCount }

  /// The largest page that both addresses allow, and that displaces no table.
  private func sizeLog2(at address: UInt64, _ target: UInt64, atMost limit: Int, in tree: Tree)
    -> Int
  {
    // No entry of the fourth level maps its own size: Linux leaves 512 GiB out for a hardware bug.
    var size = min((address | target).trailingZeroBitCount, limit, 38)
    size = min(size, AMDVi.Paging.sizeLog2(level: tree.levels + 1) - 1)
    while size > 12 {
      let level = Self.level(ofSize: size)
      let own = UInt64(1) << UInt64(AMDVi.Paging.sizeLog2(level: level))
      let isFree = stride(from: address, to: address + 1 << UInt64(size), by: Int(own)).allSatisfy {
        var observer = Unobserved()
        let walk = tree.format.walk($0, from: tree.root, in: pages.memory, observer: &observer)
        return walk.end == .empty && walk.level >= level
      }
      if isFree { return size }
      size -= 1
    }
    return 12
  }

  /// Takes pages away; what of a larger page lies outside of the range goes too, as it was mapped.
  func clear(_ range: Range<UInt64>, in tree: Tree) {
    var address = range.lowerBound
    while address < range.upperBound {
      var observer = Unobserved()
      let walk = tree.format.walk(address, from: tree.root, in: pages.memory, observer: &observer)
      guard walk.end == .page else {
        address += 4096
        continue
      }
      let level = walk.level
      let own = AMDVi.Paging.sizeLog2(level: level)
      let start = address & ~(1 << UInt64(walk.sizeLog2) - 1)
      let first = walk.entryAddress.rawValue & ~(8 << UInt64(walk.sizeLog2 - own) - 1)
      pages.memory.zero(
        at: PhysicalAddress(first), byteCount: 8 << UInt64(walk.sizeLog2 - own))
      address = start + 1 << UInt64(walk.sizeLog2)
    }
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
