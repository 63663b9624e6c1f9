import IOMMUFormats

extension VTd.Unit {
  /// The requesters whose root and context entries are present, ascending.
  public func requesters(in memory: some PhysicalMemory) -> [Requester] {
    (0...255).flatMap { (bus: UInt8) -> [Requester] in
      let tables = contextTables(bus: bus, in: memory)
      return (0...255).compactMap { (deviceFunction: UInt8) -> Requester? in
        guard let table = tables(deviceFunction) else { return nil }
        let isPresent =
          rootTableAddress.mode == .scalable
          ? VTd.ScalableContextEntry(
            from: memory,
            at: Self.scalableContextEntryAddress(in: table, deviceFunction: deviceFunction))?
            .isPresent
          : VTd.ContextEntry(
            from: memory, at: Self.contextEntryAddress(in: table, deviceFunction: deviceFunction))?
            .isPresent
        guard isPresent == true else { return nil }
        return Requester(rawValue: UInt16(bus) << 8 | UInt16(deviceFunction))
      }
    }
  }

  /// The context tables of a bus that are present: one in legacy mode, two in scalable mode.
  public func contextTables(
    bus: UInt8, in memory: some PhysicalMemory
  ) -> (_ deviceFunction: UInt8) -> PhysicalAddress? {
    let place = rootEntryAddress(bus: bus)
    guard rootTableAddress.mode == .scalable else {
      let root = VTd.RootEntry(from: memory, at: place)
      let table = root.flatMap { $0.isPresent ? $0.contextTable : nil }
      return { _ in table }
    }
    let root = VTd.ScalableRootEntry(from: memory, at: place)
    return { root?.contextTable(deviceFunction: $0) }
  }
}

extension VTd.Resolver {
  /// More address spaces than this are left out, those that turn out to be broken included: no
  /// machine has so many, a broken dump may.
  public static let addressSpaceLimit = 1 << 18

  /// The tables of some requesters, in their order; in scalable mode one for each PASID.
  ///
  /// What cannot be translated at all has no table and is left out.
  public func tables(
    of requesters: [Requester], in memory: some PhysicalMemory
  ) -> [DMATable] {
    var observer = Unobserved()
    guard isScalable else {
      return requesters.compactMap { requester in
        let route = route(
          of: VTd.Request(requester, IOVA(0)), in: memory, observer: &observer)
        return DMATable.Content(route).map {
          DMATable(name: "\(requester)", content: $0, limits: limits)
        }
      }
    }
    var tables: [DMATable] = []
    var scan = PASIDScan()
    var seenCount = 0
    for requester in requesters {
      guard
        case .success(.scalable(let context)) = context(
          of: requester, in: memory, observer: &observer)
      else { continue }
      for pasid in scan.pasids(in: context, of: memory) {
        guard seenCount < Self.addressSpaceLimit else { return tables }
        seenCount += 1
        // Requests without PASID are translated as RID_PASID, all others carry theirs.
        let request = VTd.Request(
          requester, IOVA(0), pasid: pasid == context.requesterPASID ? nil : pasid)
        let route = route(of: request, in: memory, observer: &observer)
        guard let content = DMATable.Content(route) else { continue }
        tables.append(
          DMATable(name: "\(requester)/\(pasid)", content: content, limits: limits))
      }
    }
    return tables
  }
}

/// Finds the PASIDs that have an entry; looks at each directory and each table once, and at no more
/// than 2^24 directory entries: directories of a broken dump may overlap in thousands of ways.
struct PASIDScan {
  private var directories: [Directory: [PASID]] = [:]
  private var tables: [PhysicalAddress: [UInt32]] = [:]
  private var entriesLeft = 1 << 24

  private struct Directory: Hashable {
    var address: PhysicalAddress
    var entryCount: UInt32
  }

  /// The PASIDs of a device whose directory and table entries are present, ascending.
  mutating func pasids(
    in context: VTd.ScalableContextEntry, of memory: some PhysicalMemory
  ) -> [PASID] {
    let directory = Directory(
      address: context.pasidDirectory, entryCount: context.pasidLimit / 64)
    if let known = directories[directory] { return known }
    var found: [PASID] = []
    for index in 0..<directory.entryCount {
      guard entriesLeft > 0 else { break }
      entriesLeft -= 1
      let first = PASID(index * 64)
      let place = VTd.Unit.directoryEntryAddress(in: directory.address, first)
      guard let entry = VTd.PASIDDirectoryEntry(from: memory, at: place), entry.isPresent else {
        continue
      }
      for member in members(of: entry.pasidTable, in: memory) {
        found.append(PASID(first.rawValue + member))
      }
    }
    directories[directory] = found
    return found
  }

  private mutating func members(
    of table: PhysicalAddress, in memory: some PhysicalMemory
  ) -> [UInt32] {
    if let known = tables[table] { return known }
    let found = (0..<64).filter { (index: UInt32) in
      let place = VTd.Unit.pasidEntryAddress(in: table, PASID(index))
      return VTd.PASIDTableEntry(from: memory, at: place)?.isPresent == true
    }
    tables[table] = found
    return found
  }
}
