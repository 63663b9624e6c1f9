import IOMMUFormats

/// What must hold of one page of one address space, while one thread changes it and others look.
///
/// Bits 1:0 say what: not mapped, mapped, or under change. Bits 3:2 are read and write, 31:4 the page
/// frame, 63:32 count the changes: who reads the same word before and after a translation knows that
/// nothing happened between.
struct PageState: Equatable {
  enum Kind: UInt64 { case unmapped, mapped, changing }

  var rawValue: UInt64

  init(rawValue: UInt64) { self.rawValue = rawValue }

  var kind: Kind { Kind(rawValue: rawValue & 3)! }
  var reads: Bool { rawValue & 4 != 0 }
  var writes: Bool { rawValue & 8 != 0 }
  var page: UInt64 { (rawValue >> 4 & 0xfff_ffff) << 12 }

  /// The next state.
  func changing() -> PageState { PageState(rawValue: (rawValue >> 32 &+ 1) << 32 | 2) }
  func unmapped() -> PageState { PageState(rawValue: (rawValue >> 32 &+ 1) << 32) }
  func mapped(_ page: UInt64, reads: Bool, writes: Bool) -> PageState {
    PageState(
      rawValue: (rawValue >> 32 &+ 1) << 32 | (page >> 12) << 4 | (writes ? 8 : 0) | (reads ? 4 : 0)
        | 1)
  }
}

/// The pages of an address space: some in each of several 2 MiB regions far from each other.
final class ShadowSpace: Sendable {
  static let pagesPerRegion = 24

  let number: Int
  let regions: [UInt64]
  private let states: [Word]

  /// - Parameter regions: The first address of each.
  init(number: Int, regions: [UInt64]) {
    self.number = number
    self.regions = regions
    states = (0..<regions.count * Self.pagesPerRegion).map { _ in Word() }
  }

  var pageCount: Int { states.count }

  func address(_ index: Int) -> UInt64 {
    regions[index / Self.pagesPerRegion] + UInt64(index % Self.pagesPerRegion) << 12
  }

  /// The number of the page at an address; `nil` for one that is in no region.
  func index(of address: UInt64) -> Int? {
    for (number, region) in regions.enumerated()
    where address >= region && address - region < UInt64(Self.pagesPerRegion) << 12 {
      return number * Self.pagesPerRegion + Int((address - region) >> 12)
    }
    return nil
  }

  subscript(index: Int) -> PageState {
    get { PageState(rawValue: states[index].load()) }
    set { states[index].store(newValue.rawValue) }
  }

  /// Pages of a region that are mapped.
  func mappedCount(region: Int) -> Int {
    (region * Self.pagesPerRegion..<(region + 1) * Self.pagesPerRegion)
      .count { self[$0].kind != .unmapped }
  }
}
