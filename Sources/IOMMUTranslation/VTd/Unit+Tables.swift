import IOMMUFormats

extension VTd {
  /// What a unit's tables above the page tables hold: the one look at all of them.
  ///
  /// Follows present entries whether or not the unit would take them. What memory does not hold is
  /// listed, never taken for empty.
  package struct UpperTables: Sendable {
    /// Every table, once for each who uses it, from the root down.
    package var tables: [UpperTable] = []
    /// The requesters whose root and context entries are present, ascending.
    package var requesters: [Requester] = []
    /// Address spaces whose PASID entries are present, in the order of ``requesters``; none in legacy
    /// mode.
    package var addressSpaces: [AddressSpace] = []
    /// Entries where no memory answers, and what was left out for its number.
    package var gaps: [TableGap] = []
  }

  /// A requester's address space in scalable mode.
  package struct AddressSpace: Hashable, Sendable {
    package var requester: Requester
    package var pasid: PASID
    /// Requests without PASID are translated in it.
    package var isForRequestsWithoutPASID: Bool
  }

  /// More address spaces than this are left out, those that turn out to be broken included: no
  /// machine has so many, a broken dump may.
  package static let addressSpaceLimit = 1 << 18
}

extension VTd.Unit {
  /// The requesters whose root and context entries are present, ascending.
  package func requesters(in memory: some PhysicalMemory) -> [Requester] {
    VTd.UpperTableScan(self, memory).contexts().requesters
  }

  /// The context table of a requester; `nil` where none is present, or memory does not hold its root
  /// entry.
  package func contextTable(
    of requester: Requester, in memory: some PhysicalMemory
  ) -> PhysicalAddress? {
    VTd.UpperTableScan(self, memory).contextTable(of: requester)
  }

  /// Everything above the page tables.
  ///
  /// - Complexity: O(256 contexts for each bus present); in scalable mode O(entries of the PASID
  ///   directories and tables of all requesters), each directory and table read once, and at most
  ///   2^24 directory entries: directories of a broken dump may overlap in thousands of ways.
  package func upperTables(in memory: some PhysicalMemory) -> VTd.UpperTables {
    var scan = VTd.UpperTableScan(self, memory)
    return scan.all()
  }

  /// The tables in force, and what of them is not known.
  ///
  /// What cannot be translated at all has no table and is left out.
  package func tables(in memory: some PhysicalMemory) -> TablesInForce {
    guard translates else { return TablesInForce() }
    let upper = upperTables(in: memory)
    let resolver = VTd.Resolver(self)
    let segment = UInt32(segment ?? 0)
    func owner(_ requester: Requester, _ space: PASID? = nil) -> TableOwner {
      .requester(PCI.Function(segment: segment, requester), addressSpace: space)
    }
    func table(_ owner: TableOwner, _ request: VTd.Request) -> DMATable? {
      // Tables for devices of other units are in no device's way.
      guard scope?.answer(for: request.requester) != .outside else { return nil }
      var observer = DomainObserver()
      let route = resolver.route(of: request, in: memory, observer: &observer)
      let domainID = observer.domainID
      return switch route {
      case .passThrough:
        DMATable(owner: owner, pasid: request.pasid, table: nil, domainID: domainID)
      case .table(let table):
        DMATable(owner: owner, pasid: request.pasid, table: table, domainID: domainID)
      case .untranslated, .blocked: nil
      }
    }
    let tables =
      rootTableAddress.mode == .scalable
      ? upper.addressSpaces.compactMap { space in
        table(
          owner(space.requester, space.pasid),
          VTd.Request(
            space.requester, IOVA(0), pasid: space.isForRequestsWithoutPASID ? nil : space.pasid))
      }
      : upper.requesters.compactMap { table(owner($0), VTd.Request($0, IOVA(0))) }
    let gaps = upper.gaps.map { gap in
      var gap = gap
      gap.segment = segment
      return gap
    }
    return TablesInForce(tables: tables, gaps: gaps, clashes: DomainClash.all(among: tables))
  }
}

/// Keeps the domain that a requester's context or PASID entry names.
private struct DomainObserver: WalkObserver {
  var domainID: UInt16?

  mutating func read<Entry: TableEntry>(
    _ entry: Entry, at _: PhysicalAddress, in _: TablePlace, index _: UInt64,
    as _: @autoclosure () -> Entry.Variant
  ) {
    if let entry = entry as? VTd.ContextEntry { domainID = entry.domainID }
    if let entry = entry as? VTd.PASIDTableEntry { domainID = entry.domainID }
  }
}

extension DomainClash {
  /// What paging-structure caches are told apart by: second-stage entries by domain, first-stage
  /// entries by domain and PASID. Specification: Intel VT-d 6.2.
  private struct Tag: Hashable {
    var domainID: UInt16
    var pasid: PASID?
  }

  /// Where a tag's entries start.
  private struct Start: Hashable {
    var root: PhysicalAddress
    var levels: Int
    /// The second stage's table, for a first stage that lies in its guest's memory.
    var guest: PhysicalAddress?
  }

  /// Tags that several tables of a unit have, in the order of the tables.
  fileprivate static func all(among tables: [DMATable]) -> [DomainClash] {
    var starts: [Tag: [Start]] = [:]
    var clashes: [Tag: DomainClash] = [:]
    var order: [Tag] = []
    func add(_ table: DMATable, _ tag: Tag, _ start: Start) {
      if starts[tag, default: []].contains(start) { return }
      starts[tag, default: []].append(start)
      if clashes[tag] == nil {
        clashes[tag] = DomainClash(domainID: tag.domainID, tables: [])
        order.append(tag)
      }
      clashes[tag]?.tables.append((table.owner, start.root))
    }
    for table in tables {
      guard let domainID = table.domainID else { continue }
      let second = Tag(domainID: domainID)
      var first = Tag(domainID: domainID)
      if case .requester(_, let space) = table.owner { first.pasid = space }
      switch table.table {
      case .secondStage(let stage):
        add(table, second, Start(root: stage.root, levels: stage.format.levels))
      case .firstStage(let stage):
        add(table, first, Start(root: stage.root, levels: stage.format.levels))
      case .nested(let stages):
        let host = stages.secondStage
        add(table, second, Start(root: host.root, levels: host.format.levels))
        add(
          table, first,
          Start(
            root: stages.firstStage.root, levels: stages.firstStage.format.levels,
            guest: host.root))
      default: break
      }
    }
    return order.compactMap { tag in
      starts[tag].map { $0.count > 1 } == true ? clashes[tag] : nil
    }
  }
}

extension VTd {
  /// A look at a unit's tables above the page tables under way.
  fileprivate struct UpperTableScan<Memory: PhysicalMemory> {
    let unit: VTd.Unit
    let memory: Memory
    private let isScalable: Bool
    private var directories: [Directory: Entries] = [:]
    private var members: [PhysicalAddress: Entries] = [:]
    private var entriesLeft = 1 << 24

    struct Directory: Hashable {
      var address: PhysicalAddress
      var entryCount: UInt32
    }

    /// The entries of a table that are present, with what they point to, and those that are missing.
    struct Entries {
      var present: [(index: UInt32, table: PhysicalAddress)] = []
      var missing: [ClosedRange<UInt32>] = []
      /// Entries from here on were not looked at.
      var limit: UInt32?

      mutating func addMissing(_ index: UInt32) {
        if let last = missing.last, last.upperBound + 1 == index {
          missing[missing.count - 1] = last.lowerBound...index
        } else {
          missing.append(index...index)
        }
      }
    }

    init(_ unit: VTd.Unit, _ memory: Memory) {
      self.unit = unit
      self.memory = memory
      isScalable = unit.rootTableAddress.mode == .scalable
    }

    private func table(
      _ kind: VTd.UpperTable.Kind, _ start: PhysicalAddress, byteCount: UInt64 = 4096
    ) -> VTd.UpperTable {
      VTd.UpperTable(kind: kind, start: start, byteCount: byteCount, isScalable: isScalable)
    }

    /// The root table, and the context tables with the requesters in them.
    func contexts() -> VTd.UpperTables {
      var all = VTd.UpperTables()
      guard isScalable || unit.rootTableAddress.mode == .legacy else { return all }
      all.tables = [table(.root, unit.rootTableAddress.rootTable)]
      var roots = Entries()
      for bus in UInt8.min...UInt8.max {
        guard let tables = contextTables(bus: bus) else {
          roots.addMissing(UInt32(bus))
          continue
        }
        for (first, start) in tables {
          all.tables.append(table(.contexts(bus: bus, firstDeviceFunction: first), start))
          addRequesters(of: start, bus: bus, from: first, to: &all)
        }
      }
      all.gaps =
        roots.missing.map { buses in
          TableGap(
            .absent,
            buses == 0...255
              ? .unit
              : .requesters(UInt16(buses.lowerBound) << 8...UInt16(buses.upperBound) << 8 | 0xff),
            in: .upper(VTd.rootTable),
            at: unit.rootEntryAddress(bus: UInt8(buses.lowerBound)))
        } + all.gaps
      return all
    }

    /// The context tables of a bus that are present, with the first device and function that each is
    /// for: one in legacy mode, up to two in scalable mode. `nil` where the root entry is missing.
    private func contextTables(bus: UInt8) -> [(first: UInt8, table: PhysicalAddress)]? {
      let place = unit.rootEntryAddress(bus: bus)
      guard isScalable else {
        return VTd.RootEntry(from: memory, at: place).map {
          $0.isPresent ? [(UInt8(0), $0.contextTable)] : []
        }
      }
      return VTd.ScalableRootEntry(from: memory, at: place).map { root in
        let halves: [UInt8] = [0, 128]
        return halves.compactMap { first in
          root.contextTable(deviceFunction: first).map { (first, $0) }
        }
      }
    }

    func contextTable(of requester: Requester) -> PhysicalAddress? {
      contextTables(bus: requester.bus)?
        .last {
          $0.first <= requester.deviceFunction && requester.deviceFunction - $0.first < size
        }?
        .table
    }

    /// Devices and functions that one context table is for.
    private var size: Int { isScalable ? 128 : 256 }

    private func addRequesters(
      of table: PhysicalAddress, bus: UInt8, from first: UInt8, to all: inout VTd.UpperTables
    ) {
      var entries = Entries()
      for deviceFunction in first...(isScalable ? first | 0x7f : 255) {
        switch isPresent(deviceFunction, in: table) {
        case true?:
          all.requesters.append(Requester(rawValue: UInt16(bus) << 8 | UInt16(deviceFunction)))
        case false?: break
        case nil: entries.addMissing(UInt32(deviceFunction))
        }
      }
      for missing in entries.missing {
        let base = UInt16(bus) << 8
        all.gaps.append(
          TableGap(
            .absent,
            .requesters(base | UInt16(missing.lowerBound)...base | UInt16(missing.upperBound)),
            in: .upper(VTd.contextTable),
            at: contextEntryAddress(UInt8(missing.lowerBound), in: table)))
      }
    }

    private func contextEntryAddress(
      _ deviceFunction: UInt8, in table: PhysicalAddress
    ) -> PhysicalAddress {
      isScalable
        ? VTd.Unit.scalableContextEntryAddress(in: table, deviceFunction: deviceFunction)
        : VTd.Unit.contextEntryAddress(in: table, deviceFunction: deviceFunction)
    }

    /// Whether a device's context entry is present; `nil` where it is missing.
    private func isPresent(_ deviceFunction: UInt8, in table: PhysicalAddress) -> Bool? {
      let place = contextEntryAddress(deviceFunction, in: table)
      return isScalable
        ? VTd.ScalableContextEntry(from: memory, at: place)?.isPresent
        : VTd.ContextEntry(from: memory, at: place)?.isPresent
    }

    /// Everything.
    mutating func all() -> VTd.UpperTables {
      var all = contexts()
      guard isScalable else { return all }
      for requester in all.requesters {
        guard
          let contexts = contextTable(of: requester),
          let context = VTd.ScalableContextEntry(
            from: memory, at: contextEntryAddress(requester.deviceFunction, in: contexts))
        else { continue }
        guard all.addressSpaces.count < VTd.addressSpaceLimit,
          all.tables.count < VTd.addressSpaceLimit
        else {
          all.gaps.append(
            TableGap(
              .tooMany, .requesters(requester.rawValue...UInt16.max),
              in: .upper(VTd.pasidDirectory), at: context.pasidDirectory))
          return all
        }
        addAddressSpaces(of: requester, context, to: &all)
      }
      return all
    }

    private mutating func addAddressSpaces(
      of requester: Requester, _ context: VTd.ScalableContextEntry, to all: inout VTd.UpperTables
    ) {
      let directory = Directory(
        address: context.pasidDirectory, entryCount: context.pasidLimit / 64)
      let entries = entries(of: directory)
      all.tables.append(
        table(
          .pasidDirectory(requester), directory.address,
          byteCount: UInt64(directory.entryCount) * UInt64(VTd.PASIDDirectoryEntry.byteCount)))
      func gap(
        _ cause: TableGap.Cause, _ pasids: ClosedRange<UInt32>, _ kind: UpperTableKind,
        _ address: PhysicalAddress
      ) {
        all.gaps.append(
          TableGap(cause, .addressSpaces(requester, pasids), in: .upper(kind), at: address))
      }
      for missing in entries.missing {
        gap(
          .absent, missing.lowerBound * 64...missing.upperBound * 64 + 63, VTd.pasidDirectory,
          VTd.Unit.directoryEntryAddress(in: directory.address, PASID(missing.lowerBound * 64)))
      }
      for (index, start) in entries.present {
        let first = index * 64
        guard all.tables.count < VTd.addressSpaceLimit else {
          return gap(
            .tooMany, first...directory.entryCount * 64 - 1, VTd.pasidDirectory, directory.address)
        }
        all.tables.append(table(.pasids(requester, first: PASID(first)), start))
        let members = addressSpaces(of: start)
        for (member, _) in members.present where all.addressSpaces.count < VTd.addressSpaceLimit {
          all.addressSpaces.append(
            VTd.AddressSpace(
              requester: requester, pasid: PASID(first + member),
              isForRequestsWithoutPASID: PASID(first + member) == context.requesterPASID))
        }
        for missing in members.missing {
          gap(
            .absent, first + missing.lowerBound...first + missing.upperBound, VTd.pasidTable,
            VTd.Unit.pasidEntryAddress(in: start, PASID(missing.lowerBound)))
        }
      }
      if let limit = entries.limit {
        gap(
          .tooMany, limit * 64...directory.entryCount * 64 - 1, VTd.pasidDirectory,
          directory.address)
      }
    }

    /// The entries of a PASID directory, each for 64 PASIDs.
    private mutating func entries(of directory: Directory) -> Entries {
      if let known = directories[directory] { return known }
      var entries = Entries()
      for index in 0..<directory.entryCount {
        guard entriesLeft > 0 else {
          entries.limit = index
          break
        }
        entriesLeft -= 1
        let place = VTd.Unit.directoryEntryAddress(in: directory.address, PASID(index * 64))
        if let entry = VTd.PASIDDirectoryEntry(from: memory, at: place) {
          if entry.isPresent { entries.present.append((index, entry.pasidTable)) }
        } else {
          entries.addMissing(index)
        }
      }
      directories[directory] = entries
      return entries
    }

    /// The entries of a PASID table.
    private mutating func addressSpaces(of table: PhysicalAddress) -> Entries {
      if let known = members[table] { return known }
      var entries = Entries()
      for index in UInt32(0)..<64 {
        let place = VTd.Unit.pasidEntryAddress(in: table, PASID(index))
        if let entry = VTd.PASIDTableEntry(from: memory, at: place) {
          if entry.isPresent { entries.present.append((index, place)) }
        } else {
          entries.addMissing(index)
        }
      }
      members[table] = entries
      return entries
    }
  }
}
