import IOMMUFormats

/// What the GART's driver takes memory for.
package enum GARTTable: String, CaseIterable {
  case table = "the GATT"
  case scratchPage = "the GART's scratch page"
  case agpScratchPage = "AGP's scratch page"
}

/// The memory of a kernel, as far as its GART driver asks for it.
package protocol GARTPages: AnyObject {
  var memory: FlatMemory { get }

  /// Zeroed memory at a multiple of 4 KiB.
  func allocate(_ table: GARTTable, byteCount: UInt64) throws(SetUpError) -> PhysicalAddress

  /// Takes a range out of use, whether it is free or not.
  func reserve(_ range: Range<PhysicalAddress>)

  /// Takes a range if all of it is free RAM.
  func take(_ range: Range<PhysicalAddress>) -> Bool
}

extension PagePool: GARTPages {
  package func allocate(
    _ table: GARTTable, byteCount: UInt64
  ) throws(SetUpError) -> PhysicalAddress { try allocateTable(byteCount, what: table.rawValue) }
}

/// Pages of which a recording, or a worked example, says where the driver's tables lie.
package final class PlacedPages: GARTPages {
  package let memory: FlatMemory
  private let places: [GARTTable: PhysicalAddress]
  private let pool: PagePool

  /// - Parameter places: In RAM of `memory`, whole pages.
  package init(memory: FlatMemory, map: MemoryMap, places: [GARTTable: PhysicalAddress]) {
    self.memory = memory
    self.places = places
    pool = PagePool(memory: memory, map: map)
  }

  package func allocate(
    _ table: GARTTable, byteCount: UInt64
  ) throws(SetUpError) -> PhysicalAddress {
    guard let place = places[table], place.isAligned(to: 4096),
      memory.isBacked(place, byteCount: byteCount)
    else { throw .outOfMemory(what: table.rawValue) }
    memory.zero(at: place, byteCount: byteCount)
    return place
  }

  package func reserve(_ range: Range<PhysicalAddress>) { pool.reserve(range) }
  package func take(_ range: Range<PhysicalAddress>) -> Bool { pool.take(range) }
}
