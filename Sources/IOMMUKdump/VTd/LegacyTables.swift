import IOMMUFormats
import IOMMUTranslation

/// Root and context tables in legacy mode, as a kernel writes them.
struct ContextTables {
  let rootTable: PhysicalAddress
  private let pages: PagePool
  private var tables: [UInt8: PhysicalAddress] = [:]

  /// An empty root table.
  init(pages: PagePool) throws(SetUpError) {
    self.pages = pages
    rootTable = try pages.allocateTable(4096, what: "the VT-d root table")
  }

  /// Where a device's context entry lies; its bus gets a table when it has none yet.
  mutating func place(of requester: Requester) throws(SetUpError) -> PhysicalAddress {
    let table: PhysicalAddress
    if let known = tables[requester.bus] {
      table = known
    } else {
      table = try pages.allocateTable(4096, what: "a VT-d context table")
      tables[requester.bus] = table
      VTd.RootEntry(contextTable: table)
        .store(
          to: pages.memory, at: PhysicalAddress(rootTable.rawValue + UInt64(requester.bus) * 16))
    }
    return VTd.Unit.contextEntryAddress(in: table, deviceFunction: requester.deviceFunction)
  }

  /// Where the context entry lies of a device that has one.
  ///
  /// - Precondition: its bus has a table.
  func place(ofKnown requester: Requester) -> PhysicalAddress {
    guard let table = tables[requester.bus] else {
      preconditionFailure("a device with a domain has a context table")
    }
    return VTd.Unit.contextEntryAddress(in: table, deviceFunction: requester.deviceFunction)
  }

  /// A device's context entry; one that is not present where its bus has no table.
  func entry(of requester: Requester) -> VTd.ContextEntry {
    guard tables[requester.bus] != nil else { return VTd.ContextEntry() }
    return VTd.ContextEntry(from: pages.memory, at: place(ofKnown: requester))!
  }

  /// Stores a device's context entry, P last.
  mutating func store(
    _ entry: VTd.ContextEntry, for requester: Requester
  ) throws(SetUpError) {
    entry.store(to: pages.memory, at: try place(of: requester))
  }
}

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
        ofLevel: level, for: IOVA(address), root: root, in: pages.memory,
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
      try format.map(
        buffer.lowerBound.alignedDown(to: 4096)..<end, at: IOVA(iova), permissions, root: root,
        in: pages.memory, allocateTable: allocateTable)
    } catch {
      throw Self.setUpError(error)
    }
  }

  /// Maps the pages of `range` to themselves.
  func mapIdentity(_ range: Range<PhysicalAddress>, root: PhysicalAddress) throws(SetUpError) {
    do throws(TableMappingError) {
      try format.mapIdentity(
        range, root: root, in: pages.memory, allocateTable: allocateTable)
    } catch {
      throw Self.setUpError(error)
    }
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
    }
  }
}
