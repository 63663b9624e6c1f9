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
    return VTdUnit.contextEntryAddress(in: table, deviceFunction: requester.deviceFunction)
  }

  /// Where the context entry lies of a device that has one.
  ///
  /// - Precondition: its bus has a table.
  func place(ofKnown requester: Requester) -> PhysicalAddress {
    guard let table = tables[requester.bus] else {
      preconditionFailure("a device with a domain has a context table")
    }
    return VTdUnit.contextEntryAddress(in: table, deviceFunction: requester.deviceFunction)
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
  let format: SecondStageFormat

  /// Makes the tables down to `level` on the way to `address` and stores `leaf` there.
  func store(
    _ leaf: VTd.SecondStageEntry, at address: UInt64, level: Int, root: PhysicalAddress
  ) throws(SetUpError) {
    var table = root
    for above in stride(from: format.levels, to: level, by: -1) {
      let place = format.entryAddress(of: address, in: table, level: above)
      let entry = VTd.SecondStageEntry(from: pages.memory, at: place)!
      if case .table(let next) = format.kind(of: entry, level: above) {
        table = next
      } else {
        table = try pages.allocateTable(4096, what: "a VT-d page table")
        VTd.SecondStageEntry(table: table).store(to: pages.memory, at: place)
      }
    }
    leaf.store(to: pages.memory, at: format.entryAddress(of: address, in: table, level: level))
  }

  /// Maps `buffer`, page by page, from `iova` on.
  func map(
    _ buffer: Range<PhysicalAddress>, at iova: UInt64, _ permissions: Permissions,
    root: PhysicalAddress
  ) throws(SetUpError) {
    let first = buffer.lowerBound.pageNumber
    for page in first...((buffer.upperBound.rawValue - 1) / 4096) {
      try store(
        VTd.SecondStageEntry(
          page: PhysicalAddress(page * 4096), level: 1, permissions: permissions),
        at: iova + (page - first) * 4096, level: 1, root: root)
    }
  }
}
