import IOMMUFormats

extension VTd {
  /// Builds the tables of one VT-d unit in memory: root, context and PASID tables, and the page tables of
  /// any number of domains.
  ///
  /// ```swift
  /// let tables = try VTd.Tables(in: memory)
  /// try tables.map("00:03.0", at: IOVA(0xffff_f000), buffer, .readWrite)
  /// tables.translate("00:03.0", IOVA(0xffff_f040), access: .write)
  /// ```
  ///
  /// A device that something is mapped for, and that is bound to no domain, gets one of its own. What is not
  /// bound is blocked. Tables are written as drivers write them, entry by entry, so that a unit may look at
  /// them at any time; what it has cached is the caller's affair.
  ///
  /// Tables lie where the allocator says; without one, in whole pages of the memory from its end down, which
  /// they clear first. They never lie where devices have been given memory, nor do devices get memory where
  /// they lie, unless ``allowsMappingTables`` is set.
  ///
  /// Specification: Intel VT-d 3.4, 3.6 to 3.8, 9.
  public final class Tables<Memory: WritableMemory> {
    public let memory: Memory
    /// Legacy or scalable.
    public let mode: VTd.TranslationTableMode
    /// What the unit has: its widths, page sizes and features.
    public let limits: VTd.Limits
    /// The PCI segment of all devices.
    public let segment: UInt16
    /// Where the unit's registers lie; for ``unit`` alone.
    public let base: PhysicalAddress
    /// The root table's first byte.
    public let rootTable: PhysicalAddress
    /// PASIDs from 0 on that each device's directory has room for, as a power of two.
    private let pasidBits: Int
    private let levels: Int

    private let store: TableStore<Memory>
    private var trees: [UInt16: Tree] = [:]
    private var bindings: [Space: VTd.Domain] = [:]

    /// The page tables of a domain.
    private enum Tree {
      case secondStage(TableTree<VTd.SecondStageFormat>)
      case firstStage(TableTree<VTd.FirstStageFormat>)
      case nested(TableTree<VTd.FirstStageFormat>, GuestTables<Memory>, host: UInt16)
      case passThrough
    }

    /// One address space of a device; in legacy mode its only one.
    private struct Space: Hashable {
      var requester: Requester
      var pasid: PASID
    }

    /// An empty root table, by which all devices are blocked.
    ///
    /// - Parameters:
    ///   - memory: Holds the tables.
    ///   - mode: Legacy or scalable.
    ///   - limits: What the unit has; everything legal by default.
    ///   - levels: Levels of second-stage tables that are made without being asked for, 3 to 5; by default 4
    ///     where the unit has them.
    ///   - pasidBits: PASIDs that each device's directory has room for, as a power of two: 13 to 20.
    ///   - segment: The PCI segment of all devices.
    ///   - base: Where the unit's registers lie.
    ///   - allocator: Gives memory for tables; by default the whole memory from its end down.
    /// - Throws: `TablesError` when the unit lacks the mode or the levels, or no page is left.
    /// - Precondition: `mode` is legacy or scalable, and `pasidBits` 13 to 20.
    public init(
      in memory: Memory, mode: VTd.TranslationTableMode = .legacy,
      limits: VTd.Limits = .permissive, levels: Int? = nil, pasidBits: Int = 15,
      segment: UInt16 = 0, base: PhysicalAddress = PhysicalAddress(0xfed9_0000),
      allocator: (any TableAllocator)? = nil
    ) throws(TablesError) {
      precondition(mode == .legacy || mode == .scalable, "tables are of legacy or scalable mode")
      precondition(13...20 ~= pasidBits, "a PASID directory has room for 2^13 to 2^20 PASIDs")
      guard mode == .legacy || limits.features.contains(.scalableMode) else {
        throw .notSupported(
          "the unit has no scalable mode: give it the feature, or use legacy mode")
      }
      let usual = limits.supports(levels: 4) ? 4 : limits.supports(levels: 3) ? 3 : 5
      guard limits.supports(levels: levels ?? usual) else {
        throw .notSupported("the unit has no second-stage tables of \(levels ?? usual) levels")
      }
      store = TableStore(
        memory, allocator, below: PhysicalAddress(1 << UInt64(limits.hostAddressWidth)))
      self.memory = memory
      self.mode = mode
      self.limits = limits
      self.segment = segment
      self.base = base
      self.levels = levels ?? usual
      self.pasidBits = pasidBits
      rootTable = try store.allocate("a VT-d root table")
    }

    /// Devices may be given memory in which tables lie, and tables lie in what devices have been given.
    public var allowsMappingTables: Bool {
      get { store.allowsMappingTables }
      set { store.allowsMappingTables = newValue }
    }

    /// Pages of 4 KiB that tables lie in.
    public var tablePageCount: Int { store.tablePages.count }

    // MARK: What they make

    /// RTADDR_REG, for a live unit.
    public var rootTableAddress: VTd.RootTableAddress {
      VTd.RootTableAddress(rootTable: rootTable, mode: mode)
    }

    /// The unit with its registers as they stand when it translates through the tables.
    public var unit: VTd.Unit {
      VTd.Unit(
        base: base, rootTableAddress: rootTableAddress,
        status: VTd.GlobalStatus(translates: true), limits: limits, segment: segment)
    }

    /// A machine with this unit alone.
    public var machine: Machine {
      var machine = Machine(name: "tables", units: [.vtd(unit)], ram: memory.backedRanges)
      machine.segment = UInt32(segment)
      return machine
    }

    /// What becomes of a request: it goes to memory up to the end of its page, or faults.
    ///
    /// - Parameters:
    ///   - device: Who makes it.
    ///   - pasid: What it carries; `nil` for a request without PASID.
    ///   - iova: Its first byte.
    ///   - byteCount: At least 1.
    ///   - access: Whether it reads or writes.
    /// - Precondition: `device` is of the tables' segment.
    /// - Complexity: One entry read per table on the way; to translate much, resolve the device once
    ///   (``machine``).
    public func translate(
      _ device: PCI.Function, pasid: PASID? = nil, _ iova: IOVA, byteCount: UInt64 = 1,
      access: Access
    ) -> Translation {
      precondition(
        device.segment == UInt32(segment), "these tables are of another PCI segment than the device"
      )
      return machine.resolve(device.requester, pasid: pasid, in: memory)
        .translate(iova, byteCount: byteCount, access: access, in: memory)
    }

    // MARK: Domains

    /// A domain without a mapping.
    ///
    /// - Parameters:
    ///   - kind: How its requests are translated.
    ///   - id: Its number; by default the lowest from 1 on that is free.
    ///   - guestTables: Of nested tables, the guest's address of its first table, a multiple of 4 KiB; those
    ///     that follow come behind it. By default every table has the address that it has in the host. The
    ///     host's second stage maps each of these pages for reading and writing when it is made.
    /// - Throws: `TablesError` when the unit or the mode lacks the kind, no number or no page is left, or a
    ///   table of the guest's does not go into the host's second stage.
    public func makeDomain(
      _ kind: VTd.Domain.Kind, id: UInt16? = nil, guestTables: PhysicalAddress? = nil
    ) throws(TablesError) -> VTd.Domain {
      try check(kind)
      let number = try domainID(id)
      let tree: Tree
      switch kind {
      case .secondStage(let levels):
        tree = .secondStage(
          try store.makeTree(VTd.SecondStageFormat(levels: levels, limits: limits)))
      case .firstStage(let levels):
        tree = .firstStage(
          try store.makeTree(VTd.FirstStageFormat(levels: levels, limits: limits)))
      case .nested(let levels, let host):
        let guest = guest(in: host, from: guestTables)
        let format = VTd.FirstStageFormat(levels: levels, isNested: true, limits: limits)
        let root = try guest.allocate(VTd.FirstStageFormat.tableName)
        tree = .nested(TableTree(format: format, root: root), guest, host: host)
      case .passThrough: tree = .passThrough
      }
      trees[number] = tree
      return VTd.Domain(id: number, kind: kind)
    }

    private func check(_ kind: VTd.Domain.Kind) throws(TablesError) {
      func need(_ features: VTd.Features, _ name: String) throws(TablesError) {
        guard mode == .scalable else {
          throw .notSupported("\(name) is of scalable mode: make the tables with mode: .scalable")
        }
        guard limits.features.isSuperset(of: features) else {
          throw .notSupported("the unit has no \(name)")
        }
      }
      switch kind {
      case .secondStage(let levels):
        if mode == .scalable { try need(.secondStage, "second stage") }
        guard limits.supports(levels: levels) else {
          throw .notSupported("the unit has no second-stage tables of \(levels) levels")
        }
      case .firstStage(let levels):
        try need(.firstStage, "first stage")
        try check(firstStageLevels: levels)
      case .nested(let levels, let host):
        try need(.nesting, "nested translation")
        try check(firstStageLevels: levels)
        guard case .secondStage = trees[host] else { throw .noPageTables(domain: host) }
      case .passThrough:
        guard limits.hasPassThrough else {
          throw .notSupported("the unit passes no device through")
        }
      }
    }

    private func check(firstStageLevels levels: Int) throws(TablesError) {
      guard levels == 4 || levels == 5 && limits.features.contains(.fiveLevelFirstStage) else {
        throw .notSupported("the unit has no first-stage tables of \(levels) levels")
      }
    }

    private func domainID(_ wanted: UInt16?) throws(TablesError) -> UInt16 {
      let last = UInt16(truncatingIfNeeded: (1 << limits.domainIDBits) - 1)
      if let wanted {
        guard trees[wanted] == nil else { throw .domainIDTaken(wanted) }
        guard wanted <= last else { throw .noDomainID }
        return wanted
      }
      // 0 is no number for a unit with caching mode.
      guard let free = (1...max(1, last)).first(where: { trees[$0] == nil }) else {
        throw .noDomainID
      }
      return free
    }

    /// Gives all page tables of a domain back.
    ///
    /// - Throws: `TablesError.domainInUse` while something is bound to it.
    public func remove(_ domain: VTd.Domain) throws(TablesError) {
      guard let tree = trees[domain.id] else { throw .noPageTables(domain: domain.id) }
      let isHost = trees.values.contains {
        if case .nested(_, _, let host) = $0 { host == domain.id } else { false }
      }
      guard !isHost, !bindings.values.contains(where: { $0.id == domain.id }) else {
        throw .domainInUse(domain.id)
      }
      switch tree {
      case .secondStage(let tree): store.free(tree)
      case .firstStage(let tree): store.free(tree)
      case .nested(_, let guest, _): guest.releaseAll()
      case .passThrough: break
      }
      trees[domain.id] = nil
    }

    // MARK: Devices

    /// The domain that a device's requests go through; `nil` where they are blocked.
    public func domain(of device: PCI.Function, pasid: PASID? = nil) -> VTd.Domain? {
      guard device.segment == UInt32(segment) else { return nil }
      return bindings[Space(requester: device.requester, pasid: pasid ?? PASID(0))]
    }

    /// Lets a device's requests go through a domain; context and PASID tables are made where they are
    /// missing.
    ///
    /// - Parameters:
    ///   - device: Any function of the tables' segment.
    ///   - pasid: What the requests carry; `nil` for those without PASID, which are translated as PASID 0,
    ///     so that none may carry it. Legacy mode knows no others.
    ///   - domain: Of these tables.
    /// - Throws: `TablesError` when the device is bound to another domain, the unit has no such PASIDs, or
    ///   no page is left; the device is as it was then.
    public func bind(
      _ device: PCI.Function, pasid: PASID? = nil, to domain: VTd.Domain
    ) throws(TablesError) {
      let space = try space(device, pasid)
      guard let tree = trees[domain.id] else { throw .noPageTables(domain: domain.id) }
      if let bound = bindings[space] {
        guard bound == domain else { throw .boundOtherwise(device, pasid) }
        return
      }
      if mode == .legacy {
        let entry: VTd.ContextEntry
        switch tree {
        case .secondStage(let tree):
          entry = VTd.ContextEntry(
            secondStageTable: tree.root, levels: tree.format.levels, domainID: domain.id)
        case .passThrough:
          entry = VTd.ContextEntry(passingLevels: widestLevels, domainID: domain.id)
        case .firstStage, .nested: throw .noPageTables(domain: domain.id)
        }
        entry.store(to: memory, at: try contextEntry(of: space.requester))
      } else {
        let place = try pasidEntry(of: space, isAsked: pasid != nil)
        pasidEntry(for: tree, domain.id).store(to: memory, at: place)
      }
      bindings[space] = domain
    }

    /// Lets a device's requests pass untranslated, in a domain that all such devices share.
    ///
    /// - Throws: As ``bind(_:pasid:to:)``.
    public func pass(_ device: PCI.Function, pasid: PASID? = nil) throws(TablesError) {
      for (id, tree) in trees {
        if case .passThrough = tree {
          return try bind(device, pasid: pasid, to: VTd.Domain(id: id, kind: .passThrough))
        }
      }
      try bindNew(try makeDomain(.passThrough), device, pasid)
    }

    /// Blocks a device's requests from now on; its domain stays, with all that is mapped there.
    ///
    /// - Throws: `TablesError.notBound` where they are blocked already.
    public func unbind(_ device: PCI.Function, pasid: PASID? = nil) throws(TablesError) {
      let space = try space(device, pasid)
      guard bindings[space] != nil else { throw .notBound(device, pasid) }
      if mode == .legacy {
        VTd.ContextEntry().store(to: memory, at: try contextEntry(of: space.requester))
      } else {
        // The quadword with P goes first.
        let place = try pasidEntry(of: space, isAsked: pasid != nil)
        memory.store(0 as UInt64, at: place)
        memory.zero(at: place, byteCount: 64)
      }
      bindings[space] = nil
    }

    /// Binds to a domain that was made for it, and does away with it where that fails.
    private func bindNew(
      _ domain: VTd.Domain, _ device: PCI.Function, _ pasid: PASID?
    ) throws(TablesError) {
      do throws(TablesError) {
        try bind(device, pasid: pasid, to: domain)
      } catch {
        try remove(domain)
        throw error
      }
    }

    private func space(_ device: PCI.Function, _ pasid: PASID?) throws(TablesError) -> Space {
      guard device.segment == UInt32(segment) else {
        throw .otherSegment(device, tables: UInt32(segment))
      }
      if let pasid {
        guard mode == .scalable else {
          throw .notSupported("PASIDs are of scalable mode: make the tables with mode: .scalable")
        }
        guard limits.features.contains(.pasids) else {
          throw .notSupported("the unit takes no requests with PASID")
        }
        guard pasid != PASID(0) else {
          throw .notSupported("PASID 0 stands for requests without PASID: leave it out")
        }
        let bits = min(pasidBits, limits.pasidBits)
        guard pasid.rawValue >> UInt32(bits) == 0 else {
          throw .pasidBeyondTables(pasid, limit: 1 << UInt64(bits))
        }
      }
      return Space(requester: device.requester, pasid: pasid ?? PASID(0))
    }

    /// AW of a device that passes: the largest width of the unit.
    private var widestLevels: Int { (3...5).last { limits.supports(levels: $0) } ?? levels }

    // MARK: Tables above the page tables

    /// Where a context entry lies; its table is made where it is missing.
    private func contextEntry(of requester: Requester) throws(TablesError) -> PhysicalAddress {
      let place = unit.rootEntryAddress(bus: requester.bus)
      let name = "a VT-d context table"
      guard mode == .scalable else {
        var table = VTd.RootEntry(from: memory, at: place) ?? VTd.RootEntry()
        if !table.isPresent {
          table = VTd.RootEntry(contextTable: try store.allocate(name))
          table.store(to: memory, at: place)
        }
        return try store.checked(
          VTd.Unit.contextEntryAddress(
            in: table.contextTable, deviceFunction: requester.deviceFunction), of: name)
      }
      let entry = VTd.ScalableRootEntry(from: memory, at: place) ?? VTd.ScalableRootEntry()
      let known = entry.contextTable(deviceFunction: requester.deviceFunction)
      let table: PhysicalAddress
      if let known { table = known } else { table = try store.allocate(name) }
      if known == nil {
        let isUpper = requester.deviceFunction >= 128
        VTd.ScalableRootEntry(
          lowerContextTable: isUpper
            ? entry.isLowerPresent ? entry.lowerContextTable : nil : table,
          upperContextTable: isUpper
            ? table : entry.isUpperPresent ? entry.upperContextTable : nil
        ).store(to: memory, at: place)
      }
      return try store.checked(
        VTd.Unit.scalableContextEntryAddress(
          in: table, deviceFunction: requester.deviceFunction), of: name)
    }

    /// Where a PASID table entry lies; the tables on the way are made where they are missing.
    ///
    /// - Parameter isAsked: Requests with PASID are to be translated, which the context entry has to say.
    private func pasidEntry(
      of space: Space, isAsked: Bool
    ) throws(TablesError) -> PhysicalAddress {
      let place = try contextEntry(of: space.requester)
      var context =
        VTd.ScalableContextEntry(from: memory, at: place) ?? VTd.ScalableContextEntry()
      if !context.isPresent || isAsked && !context.allowsPASIDs {
        let byteCount = max(4096, UInt64(8) << UInt64(pasidBits - 6))
        let directory: PhysicalAddress
        if context.isPresent {
          directory = context.pasidDirectory
        } else {
          directory = try store.allocate("a VT-d PASID directory", byteCount: byteCount)
        }
        context = VTd.ScalableContextEntry(
          pasidDirectory: directory, directorySizeCode: UInt64(pasidBits - 13),
          allowsPASIDs: isAsked || context.allowsPASIDs)
        context.store(to: memory, at: place)
      }
      let directoryPlace = try store.checked(
        VTd.Unit.directoryEntryAddress(in: context.pasidDirectory, space.pasid),
        of: "a VT-d PASID directory")
      var directoryEntry =
        VTd.PASIDDirectoryEntry(from: memory, at: directoryPlace)
        ?? VTd.PASIDDirectoryEntry(rawValue: 0)
      if !directoryEntry.isPresent {
        directoryEntry = VTd.PASIDDirectoryEntry(
          pasidTable: try store.allocate("a VT-d PASID table"))
        directoryEntry.store(to: memory, at: directoryPlace)
      }
      return try store.checked(
        VTd.Unit.pasidEntryAddress(in: directoryEntry.pasidTable, space.pasid),
        of: "a VT-d PASID table")
    }

    private func pasidEntry(for tree: Tree, _ id: UInt16) -> VTd.PASIDTableEntry {
      var entry: VTd.PASIDTableEntry
      func setFirstStage(_ tree: TableTree<VTd.FirstStageFormat>) {
        entry.firstStageTable = tree.root
        entry.firstStageLevels = tree.format.levels
      }
      func setSecondStage(_ tree: TableTree<VTd.SecondStageFormat>) {
        entry.secondStageTable = tree.root
        entry.secondStageLevels = tree.format.levels
      }
      switch tree {
      case .secondStage(let tree):
        entry = VTd.PASIDTableEntry(type: .secondStage, domainID: id)
        setSecondStage(tree)
      case .firstStage(let tree):
        entry = VTd.PASIDTableEntry(type: .firstStage, domainID: id)
        setFirstStage(tree)
        // AW says nothing here, and drivers set it in every entry.
        entry.secondStageLevels = levels
      case .nested(let tree, _, let host):
        entry = VTd.PASIDTableEntry(type: .nested, domainID: id)
        setFirstStage(tree)
        if case .secondStage(let host) = trees[host] { setSecondStage(host) }
      case .passThrough:
        entry = VTd.PASIDTableEntry(type: .passThrough, domainID: id)
        entry.secondStageLevels = widestLevels
      }
      entry.snoopsWalks = limits.features.contains(.walkSnoop)
      return entry
    }

    // MARK: Mapping

    /// Maps memory for a device, where nothing is mapped; all or nothing.
    ///
    /// A device that is bound to no domain gets one of its own, with second-stage tables where the unit has
    /// them.
    ///
    /// - Parameters:
    ///   - device: Any function of the tables' segment.
    ///   - pasid: What its requests carry; `nil` for those without PASID.
    ///   - iova: The first page's number, a multiple of 4 KiB.
    ///   - range: Half-open; both ends at multiples of 4 KiB. Of a nested domain, guest addresses.
    ///   - permissions: What requests may do; not nothing.
    ///   - attributes: What entries say beside that; `nil` for what drivers write.
    ///   - sizes: Which pages are used.
    /// - Throws: `TablesError`. Nothing is mapped then that was not before.
    public func map(
      _ device: PCI.Function, pasid: PASID? = nil, at iova: IOVA, _ range: Range<PhysicalAddress>,
      _ permissions: Permissions, attributes: PageAttributes? = nil, sizes: PageSizes = .smallest
    ) throws(TablesError) {
      let space = try space(device, pasid)
      if let domain = bindings[space] {
        return try map(
          in: domain, at: iova, range, permissions, attributes: attributes, sizes: sizes)
      }
      try store.keepClear(of: range)
      let domain = try makeDomain(usualKind)
      do throws(TablesError) {
        try map(in: domain, at: iova, range, permissions, attributes: attributes, sizes: sizes)
      } catch {
        try remove(domain)
        throw error
      }
      try bindNew(domain, device, pasid)
    }

    private var usualKind: VTd.Domain.Kind {
      mode == .legacy || limits.features.contains(.secondStage)
        ? .secondStage(levels: levels) : .firstStage(levels: 4)
    }

    /// Maps memory in a domain, where nothing is mapped; all or nothing. Otherwise as
    /// ``map(_:pasid:at:_:_:attributes:sizes:)``.
    public func map(
      in domain: VTd.Domain, at iova: IOVA, _ range: Range<PhysicalAddress>,
      _ permissions: Permissions, attributes: PageAttributes? = nil, sizes: PageSizes = .smallest
    ) throws(TablesError) {
      try change(domain, at: iova, range, permissions, attributes, sizes, isOver: false)
    }

    /// Maps memory for a device over whatever is mapped there: larger pages of which only a part is meant are
    /// split.
    ///
    /// - Throws: `TablesError`; what lies below the address that a mapping error names has been changed.
    public func remap(
      _ device: PCI.Function, pasid: PASID? = nil, at iova: IOVA, _ range: Range<PhysicalAddress>,
      _ permissions: Permissions, attributes: PageAttributes? = nil, sizes: PageSizes = .smallest
    ) throws(TablesError) {
      try remap(
        in: try bound(device, pasid), at: iova, range, permissions, attributes: attributes,
        sizes: sizes)
    }

    /// Maps memory in a domain over whatever is mapped there. Otherwise as
    /// ``remap(_:pasid:at:_:_:attributes:sizes:)``.
    public func remap(
      in domain: VTd.Domain, at iova: IOVA, _ range: Range<PhysicalAddress>,
      _ permissions: Permissions, attributes: PageAttributes? = nil, sizes: PageSizes = .smallest
    ) throws(TablesError) {
      try change(domain, at: iova, range, permissions, attributes, sizes, isOver: true)
    }

    /// Takes a device's mappings away, and gives tables back in which nothing is left. Numbers that nothing
    /// is mapped at are passed over.
    ///
    /// - Parameters:
    ///   - device: A device that is bound to a domain with page tables.
    ///   - pasid: The address space; `nil` for requests without PASID.
    ///   - range: Half-open; both ends at multiples of 4 KiB.
    ///   - partly: What becomes of a larger page of which the range is only a part.
    /// - Throws: `TablesError`; what lies below the address that a mapping error names has been unmapped.
    public func unmap(
      _ device: PCI.Function, pasid: PASID? = nil, _ range: Range<IOVA>,
      partly: PartlyChangedPage = .split
    ) throws(TablesError) {
      try unmap(in: try bound(device, pasid), range, partly: partly)
    }

    /// Takes mappings of a domain away. Otherwise as ``unmap(_:pasid:_:partly:)``.
    public func unmap(
      in domain: VTd.Domain, _ range: Range<IOVA>, partly: PartlyChangedPage = .split
    ) throws(TablesError) {
      switch trees[domain.id] {
      case .secondStage(let tree): try store.unmap(range, partly: partly, in: tree)
      case .firstStage(let tree): try store.unmap(range, partly: partly, in: tree)
      case .nested(let tree, let guest, _): try guest.unmap(range, partly: partly, in: tree)
      case .passThrough, nil: throw .noPageTables(domain: domain.id)
      }
    }

    private func bound(_ device: PCI.Function, _ pasid: PASID?) throws(TablesError) -> VTd.Domain {
      guard let domain = bindings[try space(device, pasid)] else { throw .notBound(device, pasid) }
      return domain
    }

    private func change(
      _ domain: VTd.Domain, at iova: IOVA, _ range: Range<PhysicalAddress>,
      _ permissions: Permissions, _ attributes: PageAttributes?, _ sizes: PageSizes, isOver: Bool
    ) throws(TablesError) {
      switch trees[domain.id] {
      case .secondStage(let tree):
        let reach: UInt64 = 1 << UInt64(limits.secondStageWidth(levels: tree.format.levels))
        let end = iova.advanced(byBytes: range.byteCount) ?? IOVA(.max)
        guard end.rawValue <= reach else {
          throw .mapping(.beyondTable(iova..<end, reach: reach))
        }
        try store.map(
          range, at: iova, permissions, attributes, sizes, isOver: isOver, in: tree)
      case .firstStage(let tree):
        try store.map(
          range, at: iova, permissions, attributes, sizes, isOver: isOver, in: tree)
      case .nested(let tree, let guest, _):
        try guest.map(
          range, at: iova, permissions, attributes, sizes, isOver: isOver, in: tree)
      case .passThrough, nil: throw .noPageTables(domain: domain.id)
      }
    }

    /// A guest whose tables a domain's second stage maps.
    private func guest(
      in host: UInt16, from next: PhysicalAddress?
    ) -> GuestTables<Memory> {
      GuestTables(
        store, from: next,
        mapPage: { [unowned self] (page, place) throws(TablesError) in
          guard case .secondStage(let tree) = trees[host] else { throw .noPageTables(domain: host) }
          try store.map(tablePage: page, at: place, in: tree)
        },
        unmapPage: { [unowned self] place in
          if case .secondStage(let tree) = trees[host] {
            // It was mapped by itself, so that nothing is split and nothing can be missing.
            try? store.unmap(place, partly: .split, in: tree)
          }
        })
    }
  }
}
