import IOMMUFormats

extension VTd {
  /// What a unit's tables above the page tables hold: the one look at all of them.
  ///
  /// Follows present entries whether or not the unit would take them. What memory does not hold is
  /// listed, never taken for empty.
  package struct UpperTables: Sendable {
    /// Every table, once for each who uses it, from the root down; PASID tables without a legal entry,
    /// which nobody can use, once.
    package var tables: [UpperTable] = []
    /// The requesters whose root and context entries are present, ascending.
    package var requesters: [Requester] = []
    /// Address spaces whose directory and PASID entries are legal, in the order of ``requesters``; none
    /// in legacy mode. No request can be translated in any other.
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

  /// More address spaces that requests with PASID may be translated in are left out, and said to be: no
  /// machine has so many, a broken dump may. What cannot translate counts for nothing, and that for
  /// requests without PASID is never left out.
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
  ///   directories and tables), each page of them read once, however many directories of a broken dump
  ///   overlap there.
  ///
  /// - Parameter limit: The most address spaces for requests with PASID.
  package func upperTables(
    in memory: some PhysicalMemory, limit: Int = VTd.addressSpaceLimit
  ) -> VTd.UpperTables {
    var scan = VTd.UpperTableScan(self, memory, limit)
    return scan.all()
  }

  /// The tables in force, and what of them is not known.
  ///
  /// What cannot be translated at all has no table and is left out.
  package func tables(in memory: some PhysicalMemory) -> TablesInForce {
    guard translates else { return TablesInForce() }
    let upper = upperTables(in: memory)
    let resolver = VTd.Resolver.made(for: self)
    let segment = UInt32(segment ?? 0)
    func owner(_ requester: Requester, _ space: PASID? = nil) -> TableOwner {
      .requester(PCI.Function(segment: segment, requester), addressSpace: space)
    }
    var damages: [TableDamage] = []
    var omittedDamageCount = 0
    func addDamage(_ scope: TableGap.Scope, _ fault: Fault, _ observer: DomainObserver) {
      guard let (kind, address) = observer.last, fault.vtdReason?.isOfDamage == true else { return }
      guard damages.count < TableDamage.limit else {
        omittedDamageCount += 1
        return
      }
      damages.append(
        TableDamage(
          scope: scope, segment: segment, kind: kind, entryAddress: address, fault: fault))
    }
    // A root entry that stops all devices of a bus is told once.
    var stoppedBuses: Set<UInt8> = []
    for bus in UInt8.min...UInt8.max {
      let first = Requester(bus: bus, device: 0, function: 0)
      for requester in [first, Requester(rawValue: first.rawValue | 0x80)] {
        var observer = DomainObserver()
        guard
          case .blocked(let fault) = resolver.route(
            of: VTd.Request(requester, IOVA(0)), in: memory, observer: &observer),
          observer.last?.kind == VTd.rootTable, fault.vtdReason?.isOfDamage == true,
          stoppedBuses.insert(bus).inserted
        else { continue }
        addDamage(.requesters(first.rawValue...first.rawValue | 0xff), fault, observer)
      }
    }
    func table(_ owner: TableOwner, _ request: VTd.Request) -> DMATable? {
      // Tables for devices of other units are in no device's way.
      guard scope?.answer(for: request.requester) != .outside else { return nil }
      var observer = DomainObserver()
      let route = resolver.route(of: request, in: memory, observer: &observer)
      let domainID = observer.domainID
      if case .blocked(let fault) = route, !stoppedBuses.contains(request.requester.bus),
        case .requester(_, let space) = owner
      {
        let number = request.requester.rawValue
        addDamage(
          space.map { .addressSpaces(request.requester, $0.rawValue...$0.rawValue) }
            ?? .requesters(number...number), fault, observer)
      }
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
    return TablesInForce(
      tables: tables, gaps: gaps, clashes: DomainClash.all(among: tables), damages: damages,
      omittedDamageCount: omittedDamageCount)
  }
}

/// Keeps the domain that a requester's context or PASID entry names, and the last entry read.
private struct DomainObserver: WalkObserver {
  var domainID: UInt16?
  var last: (kind: UpperTableKind, address: PhysicalAddress)?

  mutating func read<Entry: TableEntry>(
    _ entry: Entry, at address: PhysicalAddress, in place: TablePlace, index _: UInt64,
    as _: @autoclosure () -> Entry.Variant
  ) {
    if case .upper(let kind) = place { last = (kind, address) }
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
    var starts: [Tag: Set<Start>] = [:]
    var clashes: [Tag: DomainClash] = [:]
    var order: [Tag] = []
    func add(_ table: DMATable, _ tag: Tag, _ start: Start) {
      guard starts[tag, default: []].insert(start).inserted else { return }
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
    private let resolver: VTd.Resolver
    private var directories: [PhysicalAddress: DirectoryPage] = [:]
    private var members: [PhysicalAddress: Members] = [:]
    private var spacesLeft: Int
    /// Pages of directories and PASID tables that may still be kept: of the pages that a dump stores no
    /// more can be any.
    private var pagesLeft: UInt64
    /// What answers; empty in legacy mode.
    private let backed: [Range<PhysicalAddress>]

    /// A page of a PASID directory: 512 entries.
    private struct DirectoryPage {
      typealias Pointer = (index: UInt32, table: PhysicalAddress)
      /// Entries whose tables have a legal entry.
      var live: [Pointer] = []
      /// Entries whose tables have none, but some that are missing.
      var unknown: [Pointer] = []
      /// Legal entries whose tables have neither.
      var dead: [Pointer] = []
      var missing = Entries()
      /// Entries from here on were not looked at.
      var limit: UInt32?
    }

    /// A PASID table: the entries that are legal, and those that are missing.
    private struct Members {
      var legal: [UInt32] = []
      var missing = Entries()
    }

    /// The entries of a table that are missing.
    struct Entries {
      private(set) var missing: [ClosedRange<UInt32>] = []

      static func all(_ count: UInt32) -> Entries {
        var entries = Entries()
        entries.missing = [0...count - 1]
        return entries
      }

      mutating func addMissing(_ index: UInt32) {
        if let last = missing.last, last.upperBound + 1 == index {
          missing[missing.count - 1] = last.lowerBound...index
        } else {
          missing.append(index...index)
        }
      }
    }

    init(_ unit: VTd.Unit, _ memory: Memory, _ limit: Int = VTd.addressSpaceLimit) {
      spacesLeft = limit
      self.unit = unit
      self.memory = memory
      isScalable = unit.rootTableAddress.mode == .scalable
      resolver = VTd.Resolver.made(for: unit)
      // Safe: there are fewer than 2^52 pages.
      pagesLeft = isScalable ? 1 << 18 + memory.storedPageBound : 0
      backed = isScalable ? memory.backedRanges : []
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
      for requester in all.requesters { addAddressSpaces(of: requester, to: &all) }
      return all
    }

    private mutating func addAddressSpaces(of requester: Requester, to all: inout VTd.UpperTables) {
      guard let contexts = contextTable(of: requester),
        let entry = VTd.ScalableContextEntry(
          from: memory, at: contextEntryAddress(requester.deviceFunction, in: contexts))
      else { return }
      let directory = entry.pasidDirectory
      let entryCount = entry.pasidLimit / 64
      all.tables.append(
        table(
          .pasidDirectory(requester), directory,
          byteCount: UInt64(entryCount) * UInt64(VTd.PASIDDirectoryEntry.byteCount)))
      var observer = Unobserved()
      // A context entry that is not legal lets nothing pass, whatever lies below.
      guard
        case .success(.scalable(let context)) = resolver.context(
          of: requester, in: memory, observer: &observer)
      else { return }
      // Without PASIDE there are no requests but those without PASID.
      let count = min(entryCount, context.allowsPASIDs ? reach : 0)
      var look = Look(requester: requester, own: context.requesterPASID)
      var next: UInt32 = 0
      while next < count, look.leftOut == nil {
        add(&look, of: directory, next..<min(count, next + Self.entriesPerPage), to: &all)
        next = min(count, look.leftOut.map { $0 + 1 } ?? next + Self.entriesPerPage)
      }
      // That one is never left out.
      let own = UInt32(look.own.directoryIndex)
      if own >= next { add(&look, of: directory, own..<own + 1, isForOwnAlone: true, to: &all) }
      look.finish(count: count, directory: directory, to: &all)
    }

    private static var entriesPerPage: UInt32 {
      UInt32(PageCount.pageByteCount) / UInt32(VTd.PASIDDirectoryEntry.byteCount)
    }

    /// Directory entries that PASIDs of the unit's width can name.
    private var reach: UInt32 {
      let limits = unit.limits
      guard limits.features.contains(.pasids) else { return .max }
      return max(1, 1 << UInt32(limits.pasidBits) / 64)
    }

    /// A look at one requester's address spaces.
    private struct Look {
      let requester: Requester
      /// The PASID of requests that carry none.
      let own: PASID
      /// The first directory entry with address spaces that are left out.
      var leftOut: UInt32?
      private var gaps: [TableGap] = []
      /// PASIDs of gaps that are not listed.
      private var unlisted: ClosedRange<UInt32>?

      init(requester: Requester, own: PASID) {
        self.requester = requester
        self.own = own
      }

      /// Gaps of a unit that are told one by one; behind them one stands for all of a requester's.
      private static var gapLimit: Int { 1 << 16 }

      /// - Parameter known: How many gaps others have.
      /// - Returns: Whether more can be listed.
      @discardableResult
      mutating func add(
        _ cause: TableGap.Cause, _ pasids: ClosedRange<UInt32>, _ kind: UpperTableKind,
        _ address: PhysicalAddress, known: Int
      ) -> Bool {
        guard known + gaps.count < Self.gapLimit || gaps.isEmpty else {
          unlisted =
            min(
              pasids.lowerBound, unlisted?.lowerBound ?? .max)...max(
              pasids.upperBound, unlisted?.upperBound ?? 0)
          return false
        }
        gaps.append(
          TableGap(cause, .addressSpaces(requester, pasids), in: .upper(kind), at: address))
        return true
      }

      /// Adds what is not known to all else.
      func finish(count: UInt32, directory: PhysicalAddress, to all: inout VTd.UpperTables) {
        all.gaps += gaps
        var cut = unlisted
        if let leftOut, leftOut < count {
          cut =
            min(
              leftOut * 64, cut?.lowerBound ?? .max)...max(
              count * 64 - 1, cut?.upperBound ?? 0)
        }
        guard let cut else { return }
        all.gaps.append(
          TableGap(
            .tooMany, .addressSpaces(requester, cut), in: .upper(VTd.pasidDirectory), at: directory)
        )
      }
    }

    /// Adds the address spaces of part of a directory's page.
    private mutating func add(
      _ look: inout Look, of directory: PhysicalAddress, _ range: Range<UInt32>,
      isForOwnAlone: Bool = false, to all: inout VTd.UpperTables
    ) {
      let start = range.lowerBound / Self.entriesPerPage * Self.entriesPerPage
      let place = VTd.Unit.directoryEntryAddress(in: directory, PASID(start * 64))
      let isNew = directories[place] == nil
      let page = directoryPage(at: place)
      if isNew {
        for (index, table) in page.dead where range.contains(start + index) {
          all.tables.append(
            self.table(.pasids(look.requester, first: PASID((start + index) * 64)), table))
        }
      }
      for missing in page.missing.missing {
        let first = max(start + missing.lowerBound, range.lowerBound)
        let last = min(start + missing.upperBound, range.upperBound - 1)
        guard first <= last else { continue }
        let isListed = look.add(
          .absent, first * 64...last * 64 + 63, VTd.pasidDirectory,
          VTd.Unit.directoryEntryAddress(in: directory, PASID(first * 64)), known: all.gaps.count)
        guard isListed else { break }
      }
      for (index, table) in page.unknown where range.contains(start + index) {
        guard add(&look, start + index, table, isForOwnAlone, to: &all) else {
          // As much as that of the rest, so that nobody has to go through it.
          look.add(
            .absent, (start + index) * 64...range.upperBound * 64 - 1, VTd.pasidTable, table,
            known: all.gaps.count)
          break
        }
      }
      for (index, table) in page.live where range.contains(start + index) {
        add(&look, start + index, table, isForOwnAlone, to: &all)
        if look.leftOut != nil { break }
      }
      if let limit = page.limit, start + limit < range.upperBound {
        look.leftOut = min(look.leftOut ?? .max, max(start + limit, range.lowerBound))
      }
    }

    /// Adds the address spaces of a PASID table.
    ///
    /// - Returns: Whether all of its gaps are listed.
    @discardableResult
    private mutating func add(
      _ look: inout Look, _ index: UInt32, _ start: PhysicalAddress, _ isForOwnAlone: Bool,
      to all: inout VTd.UpperTables
    ) -> Bool {
      guard let members = members(of: start) else { return true }
      let first = index * 64
      var isUsed = false
      for member in members.legal {
        let pasid = PASID(first + member)
        let isOwn = pasid == look.own
        guard isOwn || !isForOwnAlone else { continue }
        if !isOwn {
          guard spacesLeft > 0 else {
            look.leftOut = index
            continue
          }
          spacesLeft -= 1
        }
        isUsed = true
        all.addressSpaces.append(
          VTd.AddressSpace(
            requester: look.requester, pasid: pasid, isForRequestsWithoutPASID: isOwn))
      }
      var isListed = true
      for missing in members.missing.missing {
        let pasids = first + missing.lowerBound...first + missing.upperBound
        guard !isForOwnAlone || pasids.contains(look.own.rawValue) else { continue }
        isUsed = true
        isListed =
          look.add(
            .absent, pasids, VTd.pasidTable,
            VTd.Unit.pasidEntryAddress(in: start, PASID(missing.lowerBound)), known: all.gaps.count)
          && isListed
      }
      if isUsed {
        all.tables.append(table(.pasids(look.requester, first: PASID(first)), start))
      }
      return isListed
    }

    /// What a page of a directory says.
    private mutating func directoryPage(at place: PhysicalAddress) -> DirectoryPage {
      if let known = directories[place] { return known }
      var page = DirectoryPage()
      switch content(ofPage: place) {
      case .absent:
        page.missing = .all(Self.entriesPerPage)
        return page
      case .zeros: return page
      case .bytes: break
      }
      guard pagesLeft > 0 else {
        page.limit = 0
        return page
      }
      pagesLeft -= 1
      for index in 0..<Self.entriesPerPage {
        guard
          let entry = VTd.PASIDDirectoryEntry(
            from: memory, at: VTd.Unit.directoryEntryAddress(in: place, PASID(index * 64)))
        else {
          page.missing.addMissing(index)
          continue
        }
        guard entry.isPresent, !entry.overlaps(resolver.directoryReserved) else { continue }
        let pointer = (index, entry.pasidTable)
        guard let members = members(of: entry.pasidTable) else {
          page.limit = index
          break
        }
        if !members.legal.isEmpty {
          page.live.append(pointer)
        } else if !members.missing.missing.isEmpty {
          page.unknown.append(pointer)
        } else {
          page.dead.append(pointer)
        }
      }
      directories[place] = page
      return page
    }

    /// The entries of a PASID table; `nil` when too many tables were read before.
    private mutating func members(of table: PhysicalAddress) -> Members? {
      if let known = members[table] { return known }
      var entries = Members()
      switch content(ofPage: table) {
      case .absent:
        entries.missing = .all(64)
        return entries
      case .zeros: return entries
      case .bytes: break
      }
      guard pagesLeft > 0 else { return nil }
      pagesLeft -= 1
      for index in UInt32(0)..<64 {
        let place = VTd.Unit.pasidEntryAddress(in: table, PASID(index))
        if let entry = VTd.PASIDTableEntry(from: memory, at: place) {
          if resolver.refusal(of: entry) == nil { entries.legal.append(index) }
        } else {
          entries.missing.addMissing(index)
        }
      }
      members[table] = entries
      return entries
    }

    private enum PageContent { case absent, zeros, bytes }

    /// Whether there is anything to read in a page. Zeros that a dump claims to hold cost it nothing,
    /// and are to cost nothing here.
    private func content(ofPage place: PhysicalAddress) -> PageContent {
      let (end, isLast) = place.rawValue.addingReportingOverflow(PageCount.pageByteCount)
      let index = backed.partitioningIndex { $0.upperBound > place }
      guard index < backed.count, isLast || backed[index].lowerBound.rawValue < end else {
        return .absent
      }
      guard let bytes = memory.bytes(at: place, count: Int(PageCount.pageByteCount)) else {
        return .bytes
      }
      return bytes.allSatisfy { $0 == 0 } ? .zeros : .bytes
    }
  }
}
