import IOMMUFormats

/// Pages of 4 KiB in a range of memory.
struct PagePool {
  private var free: [UInt64]

  init(_ range: Range<UInt64>) {
    free = stride(from: range.lowerBound, to: range.upperBound, by: 4096).reversed()
  }

  var isEmpty: Bool { free.isEmpty }

  /// Any of them, so that what comes back is used again soon and by others.
  mutating func take(_ generator: inout Generator) -> UInt64 {
    guard !free.isEmpty else { fail("no page is left") }
    free.swapAt(generator.below(free.count), free.count - 1)
    return free.removeLast()
  }

  mutating func giveBack(_ page: UInt64) { free.append(page) }
}

/// How leaves and pointers of an address space are written.
enum TableStyle {
  /// Second stage: R, W.
  case secondStage
  /// First stage: P, R/W, U/S, A, D.
  case firstStage

  var pointer: UInt64 { self == .secondStage ? 3 : 0x27 }

  func leaf(_ page: UInt64, reads: Bool, writes: Bool) -> UInt64 {
    switch self {
    case .secondStage: page | (reads ? 1 : 0) | (writes ? 2 : 0)
    case .firstStage: page | 0x65 | (writes ? 2 : 0)
    }
  }
}

/// An address space with its tables in memory, as a driver keeps them.
///
/// Lower tables go away with their last page, and the page they lay in comes back as anything: what a
/// unit remembers of them must be gone by then.
final class TableSpace {
  let shadow: ShadowSpace
  let domain: UInt16
  let style: TableStyle
  let levels: Int
  let root: UInt64
  private let memory: FlatMemory
  /// The tables that lead to each region, the uppermost of them first; none without pages.
  private var paths: [[UInt64]]
  /// Pages for data: no other address space ever maps them.
  let frames: Range<UInt64>
  var freeFrames: PagePool

  init(
    _ shadow: ShadowSpace, domain: UInt16, style: TableStyle, levels: Int, root: UInt64,
    frames: Range<UInt64>, in memory: FlatMemory
  ) {
    self.shadow = shadow
    self.domain = domain
    self.style = style
    self.levels = levels
    self.root = root
    self.memory = memory
    self.frames = frames
    paths = shadow.regions.map { _ in [] }
    freeFrames = PagePool(frames)
    memory.zero(at: PhysicalAddress(root), byteCount: 4096)
  }

  private func entry(_ address: UInt64, level: Int, of table: UInt64) -> PhysicalAddress {
    PhysicalAddress(table + (address >> UInt64(9 * level + 3) & 511) * 8)
  }

  /// Writes a leaf; makes the tables on the way.
  func map(
    _ index: Int, to page: UInt64, reads: Bool, writes: Bool, tables: inout PagePool,
    _ generator: inout Generator
  ) {
    let region = index / ShadowSpace.pagesPerRegion
    let address = shadow.address(index)
    if paths[region].isEmpty {
      var table = root
      for level in stride(from: levels, to: 1, by: -1) {
        let place = entry(address, level: level, of: table)
        let word = memory.quadword(at: place)!
        if word == 0 {
          let lower = tables.take(&generator)
          memory.zero(at: PhysicalAddress(lower), byteCount: 4096)
          memory.store(lower | style.pointer, at: place)
          table = lower
        } else {
          table = word & 0xf_ffff_ffff_f000
        }
        paths[region].append(table)
      }
    }
    memory.store(
      style.leaf(page, reads: reads, writes: writes),
      at: entry(address, level: 1, of: paths[region].last!))
  }

  /// Clears a leaf.
  func clear(_ index: Int) {
    let region = index / ShadowSpace.pagesPerRegion
    memory.store(
      UInt64(0), at: entry(shadow.address(index), level: 1, of: paths[region].last!))
  }

  /// Takes the lowest table of a region out of the tree.
  ///
  /// - Returns: The table's page, which is free after the next invalidation; `nil` where there is none.
  func prune(region: Int) -> UInt64? {
    guard let table = paths[region].last else { return nil }
    let upper = paths[region].count > 1 ? paths[region][paths[region].count - 2] : root
    memory.store(UInt64(0), at: entry(shadow.regions[region], level: 2, of: upper))
    paths[region] = []
    return table
  }
}
