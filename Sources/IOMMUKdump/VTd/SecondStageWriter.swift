import IOMMUFormats
import IOMMUTranslation

/// Second-stage tables, as a kernel writes them.
struct SecondStageWriter {
  let pages: PagePool
  let format: VTd.SecondStageFormat

  /// Makes the tables down to `level` on the way to `address` and stores `leaf` there.
  func store(
    _ leaf: VTd.SecondStageEntry, at address: UInt64, level: Int, root: PhysicalAddress
  ) throws(SetUpError) {
    do throws(TableMappingError) {
      let table = try format.table(
        ofLevel: level, for: IOVA(address), partly: .dropped, root: root, in: pages.memory,
        allocateTable: allocateTable)
      leaf.store(to: pages.memory, at: format.entryAddress(of: address, in: table, level: level))
    } catch {
      throw Self.setUpError(error)
    }
  }

  /// Maps the pages of `buffer` from `iova` on.
  func map(
    _ buffer: Range<PhysicalAddress>, at iova: UInt64, _ permissions: Permissions,
    root: PhysicalAddress
  ) throws(SetUpError) {
    let end = PhysicalAddress(((buffer.upperBound.rawValue - 1) | 0xfff) + 1)
    do throws(TableMappingError) {
      try format.remap(
        buffer.lowerBound.alignedDown(to: 4096)..<end, at: IOVA(iova), permissions,
        partly: .dropped, root: root, in: pages.memory, allocateTable: allocateTable)
    } catch {
      throw Self.setUpError(error)
    }
  }

  /// Maps the pages of `range` to themselves.
  func mapIdentity(_ range: Range<PhysicalAddress>, root: PhysicalAddress) throws(SetUpError) {
    do throws(TableMappingError) {
      try format.mapIdentity(
        range, partly: .dropped, root: root, in: pages.memory, allocateTable: allocateTable)
    } catch {
      throw Self.setUpError(error)
    }
  }

  /// Copies a tree, leaves and all, as it stands in memory: what points nowhere still does.
  func copy(_ root: PhysicalAddress) throws(SetUpError) -> PhysicalAddress {
    try copy(root, level: format.levels)
  }

  private func copy(_ table: PhysicalAddress, level: Int) throws(SetUpError) -> PhysicalAddress {
    let copy = try pages.allocateTable(4096, what: "the copy of \(Self.tableName)")
    guard let bytes = pages.memory.bytes(at: table, count: 4096) else { return copy }
    pages.memory.write(bytes, at: copy)
    guard level > 1 else { return copy }
    for index in 0..<UInt64(512) {
      let place = PhysicalAddress(copy.rawValue + index * 8)
      guard let entry = VTd.SecondStageEntry(from: pages.memory, at: place),
        case .table(let child, _) = format.kind(of: entry, level: level),
        pages.memory.isBacked(child, byteCount: 4096)
      else { continue }
      let new = try self.copy(child, level: level - 1)
      VTd.SecondStageEntry(rawValue: entry.rawValue - child.rawValue + new.rawValue)
        .store(to: pages.memory, at: place)
    }
    return copy
  }

  private static let tableName = "a VT-d page table"

  private func allocateTable() -> PhysicalAddress? {
    try? pages.allocateTable(4096, what: Self.tableName)
  }

  private static func setUpError(_ error: TableMappingError) -> SetUpError {
    switch error {
    case .noPageForTable: .outOfMemory(what: tableName)
    case .beyondTable(let range, let reach):
      .beyondTable(
        name: "a VT-d domain", range: range.mapBounds(to: PhysicalAddress.self), coverage: reach,
        wayOut: "use tables with more levels")
    default: .tables(error)
    }
  }
}
