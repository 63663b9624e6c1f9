import IOMMUFormats

extension AMDVi {
  /// Builds the tables of one AMD-Vi unit in memory: the device table, host and guest page tables of any
  /// number of domains, and GCR3 tables.
  ///
  /// ```swift
  /// let tables = try AMDVi.Tables(in: memory)
  /// try tables.map("00:03.0", at: IOVA(0xffff_f000), buffer, .readWrite)
  /// tables.translate("00:03.0", IOVA(0xffff_f040), access: .write)
  /// ```
  ///
  /// A device that something is mapped for, and that is bound to no domain, gets one of its own. What is not
  /// bound is blocked: its entry has V and TV, and neither IR nor IW. Of a device that has address spaces
  /// with PASID, and in a unit without GIoV, requests without PASID pass untranslated unless they are bound.
  ///
  /// Tables lie where the allocator says; without one, in whole pages of the memory from its end down, which
  /// they clear first. They never lie where devices have been given memory, nor do devices get memory where
  /// they lie, unless ``allowsMappingTables`` is set.
  ///
  /// Specification: AMD IOMMU 2.2.
  public final class Tables<Memory: WritableMemory> {
    public let memory: Memory
    /// EFR; `nil` for a unit that has everything.
    public let features: AMDVi.ExtendedFeatures?
    public let limits: AMDVi.Limits
    /// The PCI segment of all devices.
    public let segment: UInt16
    /// Where the unit's registers lie; for ``unit`` alone.
    public let base: PhysicalAddress
    /// Where the device table lies, and how long it is: the register of a live unit.
    public let deviceTable: AMDVi.DeviceTableBase
    private let guestRootLevels: Int

    private let store: TableStore<Memory>
    private var trees: [UInt16: Tree] = [:]
    private var devices: [Requester: Device] = [:]

    /// The page tables of a domain.
    private enum Tree {
      case host(TableTree<AMDVi.HostFormat>)
      case guest(TableTree<AMDVi.GuestFormat>)
      case nested(TableTree<AMDVi.GuestFormat>, GuestTables<Memory>, host: UInt16)
      case passThrough
    }

    /// What a device's entry says.
    private struct Device {
      /// The domain of the host's tables, or one that passes untranslated.
      var host: UInt16?
      /// Somebody bound the device to it, and not only a guest's tables that lie in it.
      var isHostBound = false
      /// The GCR3 table.
      var roots: TableTree<AMDVi.GuestRootFormat>?
      /// Where that lies in a guest; `nil` where it lies in the machine's own memory.
      var rootPages: GuestTables<Memory>?
      var guestLevels = 4
      /// Domains of guest tables by PASID.
      var spaces: [PASID: UInt16] = [:]
      /// Requests without PASID are of PASID 0.
      var usesGuestWithoutPASID = false
    }

    /// A device table by which all devices are blocked.
    ///
    /// - Parameters:
    ///   - memory: Holds the tables.
    ///   - features: EFR, which says how deep tables may be and what else the unit has; everything by
    ///     default.
    ///   - lastBus: The last bus whose devices have an entry: 8 KiB of table for each bus.
    ///   - pasidBits: PASIDs that each device's GCR3 table has room for, as a power of two: 1 to 20.
    ///   - segment: The PCI segment of all devices.
    ///   - base: Where the unit's registers lie.
    ///   - allocator: Gives memory for tables; by default the whole memory from its end down.
    /// - Throws: `TablesError` when there is no room, or the unit's GCR3 tables are too small.
    /// - Precondition: `pasidBits` is 1 to 20.
    public init(
      in memory: Memory, features: AMDVi.ExtendedFeatures? = nil, lastBus: UInt8 = 255,
      pasidBits: Int = 9, segment: UInt16 = 0,
      base: PhysicalAddress = PhysicalAddress(0xfed8_0000), allocator: (any TableAllocator)? = nil
    ) throws(TablesError) {
      precondition(1...20 ~= pasidBits, "a PASID has up to 20 bits")
      guestRootLevels = (pasidBits + 8) / 9
      limits = AMDVi.Limits(features)
      guard guestRootLevels <= limits.guestRootLevels else {
        throw .notSupported(
          "the unit has no GCR3 tables of \(guestRootLevels) levels: give fewer pasidBits")
      }
      store = TableStore(memory, allocator, below: PhysicalAddress(1 << 52))
      self.memory = memory
      self.features = features
      self.segment = segment
      self.base = base
      let byteCount = (UInt64(lastBus) + 1) << 8 * AMDVi.deviceTableEntryByteCount
      let table = try store.allocate("an AMD-Vi device table", byteCount: byteCount)
      guard table.rawValue >> 52 == 0 else {
        throw .badAllocation(table, what: "an AMD-Vi device table, which lies below 2^52")
      }
      deviceTable = AMDVi.DeviceTableBase(address: table, byteCount: byteCount)
      let blocked = Self.blocked
      for number in 0..<byteCount / AMDVi.deviceTableEntryByteCount {
        // All but the first quadword is zero already.
        memory.store(
          blocked.low,
          at: PhysicalAddress(table.rawValue + number * AMDVi.deviceTableEntryByteCount))
      }
    }

    /// V and TV alone, as Linux has it for devices that it has not seen.
    private static var blocked: AMDVi.DeviceTableEntry {
      AMDVi.DeviceTableEntry(mode: 0, domainID: 0, permissions: [])
    }

    /// Devices may be given memory in which tables lie, and tables lie in what devices have been given.
    public var allowsMappingTables: Bool {
      get { store.allowsMappingTables }
      set { store.allowsMappingTables = newValue }
    }

    /// Pages of 4 KiB that tables lie in.
    public var tablePageCount: Int { store.tablePages.count }

    // MARK: What they make

    /// The control register of a unit that translates through the tables, for a live one: IommuEn and GTEn
    /// beside what it holds after a reset.
    public var control: AMDVi.Control {
      var control = AMDVi.Control(rawValue: AMDVi.Control.resetValue)
      control.isEnabled = true
      control.translatesGuests = limits.features.contains(.guestTables)
      return control
    }

    /// The unit with its registers as they stand when it translates through the tables.
    public var unit: AMDVi.Unit {
      AMDVi.Unit(
        base: base, deviceTable: deviceTable, control: control, features: features,
        segment: segment)
    }

    /// A machine with this unit alone.
    public var machine: Machine {
      var machine = Machine(name: "tables", units: [.amdvi(unit)], ram: memory.backedRanges)
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
    ///     host's tables map each of these pages when it is made.
    /// - Throws: `TablesError` when the unit lacks the kind, no number or no page is left, or a table of the
    ///   guest's does not go into the host's tables.
    public func makeDomain(
      _ kind: AMDVi.Domain.Kind, id: UInt16? = nil, guestTables: PhysicalAddress? = nil
    ) throws(TablesError) -> AMDVi.Domain {
      try check(kind)
      if let id, trees[id] != nil { throw .domainIDTaken(id) }
      guard let number = id ?? (1...UInt16.max).first(where: { trees[$0] == nil }) else {
        throw .noDomainID
      }
      let tree: Tree
      switch kind {
      case .host(let levels): tree = .host(try store.makeTree(AMDVi.HostFormat(levels: levels)))
      case .guest(let levels): tree = .guest(try store.makeTree(AMDVi.GuestFormat(levels: levels)))
      case .nested(let levels, let host):
        let guest = guest(in: host, from: guestTables)
        let root = try guest.allocate(AMDVi.GuestFormat.tableName)
        tree = .nested(
          TableTree(format: AMDVi.GuestFormat(levels: levels), root: root), guest, host: host)
      case .passThrough: tree = .passThrough
      }
      trees[number] = tree
      return AMDVi.Domain(id: number, kind: kind)
    }

    private func check(_ kind: AMDVi.Domain.Kind) throws(TablesError) {
      switch kind {
      case .host(let levels):
        guard 1...6 ~= levels, levels <= limits.hostLevels else {
          throw .notSupported(
            "the unit has no host tables of \(levels) levels, but of up to \(limits.hostLevels)")
        }
      case .guest(let levels), .nested(let levels, _):
        guard limits.features.contains(.guestTables), 4...5 ~= levels, levels <= limits.guestLevels
        else { throw .notSupported("the unit has no guest tables of \(levels) levels") }
        if case .nested(_, let host) = kind {
          guard case .host = trees[host] else { throw .noPageTables(domain: host) }
        }
      case .passThrough: break
      }
    }

    /// Gives all page tables of a domain back.
    ///
    /// - Throws: `TablesError.domainInUse` while something is bound to it.
    public func remove(_ domain: AMDVi.Domain) throws(TablesError) {
      guard let tree = trees[domain.id] else { throw .noPageTables(domain: domain.id) }
      let isHost = trees.values.contains {
        if case .nested(_, _, let host) = $0 { host == domain.id } else { false }
      }
      guard !isHost,
        !devices.values.contains(where: {
          $0.host == domain.id || $0.spaces.values.contains(domain.id)
        })
      else { throw .domainInUse(domain.id) }
      switch tree {
      case .host(let tree): store.free(tree)
      case .guest(let tree): store.free(tree)
      case .nested(_, let guest, _): guest.releaseAll()
      case .passThrough: break
      }
      trees[domain.id] = nil
    }

    /// A guest whose tables a domain's host tables map.
    private func guest(in host: UInt16, from next: PhysicalAddress?) -> GuestTables<Memory> {
      GuestTables(
        store, from: next,
        mapPage: { [unowned self] (page, place) throws(TablesError) in
          try store.map(
            tablePage: page, at: place,
            in: try grown(host, toReach: place.rawValue + (page.byteCount - 1)))
        },
        unmapPage: { [unowned self] place in
          if case .host(let tree) = trees[host] {
            // It was mapped by itself, so that nothing is split and nothing can be missing.
            try? store.unmap(place, partly: .split, in: tree)
          }
        })
    }

    /// The host tables of a domain, as deep as an address asks for.
    private func grown(
      _ id: UInt16, toReach address: UInt64
    ) throws(TablesError) -> TableTree<AMDVi.HostFormat> {
      guard case .host(let old) = trees[id] else { throw .noPageTables(domain: id) }
      var tree = old
      // Levels that were put on before there was no page stay.
      defer {
        if tree.root != old.root {
          trees[id] = .host(tree)
          for (requester, device) in devices where device.host == id { store(device, requester) }
        }
      }
      try inTables { () throws(TableMappingError) in
        try AMDVi.HostFormat.grow(
          &tree.format, root: &tree.root, toReach: address, maximumLevels: limits.hostLevels,
          in: memory, allocateTable: { try? self.store.allocate(AMDVi.HostFormat.tableName) })
      }
      return tree
    }

    // MARK: Devices

    /// The domain that a device's requests go through; `nil` where they are blocked.
    public func domain(of device: PCI.Function, pasid: PASID? = nil) -> AMDVi.Domain? {
      guard device.segment == UInt32(segment), let state = devices[device.requester] else {
        return nil
      }
      let id =
        if pasid != nil || state.usesGuestWithoutPASID {
          state.spaces[pasid ?? PASID(0)]
        } else {
          state.host
        }
      return id.flatMap(domain(_:))
    }

    private func domain(_ id: UInt16) -> AMDVi.Domain? {
      trees[id].map { tree in
        let kind: AMDVi.Domain.Kind =
          switch tree {
          case .host(let tree): .host(levels: tree.format.levels)
          case .guest(let tree): .guest(levels: tree.format.levels)
          case .nested(let tree, _, let host): .nested(levels: tree.format.levels, host: host)
          case .passThrough: .passThrough
          }
        return AMDVi.Domain(id: id, kind: kind)
      }
    }

    /// Lets a device's requests go through a domain; GCR3 tables are made where they are missing.
    ///
    /// - Parameters:
    ///   - device: A function that the device table has an entry for.
    ///   - pasid: What the requests carry; `nil` for those without PASID, which go through host tables, or
    ///     as PASID 0 through guest tables (GIoV).
    ///   - domain: Of these tables.
    /// - Throws: `TablesError` when the device is bound otherwise, or goes through the tables of another
    ///   host, or no page is left; the device is as it was then.
    public func bind(
      _ device: PCI.Function, pasid: PASID? = nil, to domain: AMDVi.Domain
    ) throws(TablesError) {
      try check(device, pasid)
      guard let tree = trees[domain.id] else { throw .noPageTables(domain: domain.id) }
      var state = devices[device.requester] ?? Device()
      switch tree {
      case .host, .passThrough:
        guard pasid == nil else {
          throw .notSupported("requests with PASID go through guest tables: bind a guest domain")
        }
        guard state.host == nil && !state.usesGuestWithoutPASID || state.host == domain.id else {
          throw .boundOtherwise(device, pasid)
        }
        if case .host = tree, state.host == nil, !state.spaces.isEmpty {
          // The GCR3 table would be a guest's from now on.
          throw .boundOtherwise(device, pasid)
        }
        state.host = domain.id
        state.isHostBound = true
      case .guest(let tree):
        if let host = state.host, case .host = trees[host] { throw .boundOtherwise(device, pasid) }
        try add(
          domain.id, tree, pasid, to: &state, device,
          makeRoots: { () throws(TablesError) in
            let format = AMDVi.GuestRootFormat(levels: self.guestRootLevels)
            return (try self.store.makeTree(format), nil)
          })
      case .nested(let tree, _, let host):
        guard state.host == nil && state.spaces.isEmpty || state.host == host else {
          throw .boundOtherwise(device, pasid)
        }
        try add(
          domain.id, tree, pasid, to: &state, device,
          makeRoots: { () throws(TablesError) in
            let pages = self.guest(in: host, from: nil)
            return (
              TableTree(
                format: AMDVi.GuestRootFormat(levels: self.guestRootLevels),
                root: try pages.allocate(AMDVi.GuestRootFormat.tableName)), pages
            )
          })
        state.host = host
      }
      devices[device.requester] = state
      store(state, device.requester)
    }

    /// Enters a guest table in a device's GCR3 table.
    private func add(
      _ id: UInt16, _ tree: TableTree<AMDVi.GuestFormat>, _ pasid: PASID?, to state: inout Device,
      _ device: PCI.Function,
      makeRoots: () throws(TablesError) -> (
        TableTree<AMDVi.GuestRootFormat>, GuestTables<Memory>?
      )
    ) throws(TablesError) {
      guard pasid != nil || limits.features.contains(.guestTablesWithoutPASID) else {
        throw .notSupported("the unit takes requests without PASID through no guest table")
      }
      if pasid == nil, let host = state.host, case .passThrough = trees[host] {
        throw .boundOtherwise(device, pasid)
      }
      let number = pasid ?? PASID(0)
      if let known = state.spaces[number] {
        guard known == id, pasid != nil || state.usesGuestWithoutPASID else {
          throw .boundOtherwise(device, pasid)
        }
        return
      }
      guard state.spaces.isEmpty || state.guestLevels == tree.format.levels else {
        throw .notSupported(
          "all guest tables of a device have as many levels, and \(device)'s have \(state.guestLevels)"
        )
      }
      if state.roots == nil { (state.roots, state.rootPages) = try makeRoots() }
      guard let roots = state.roots else { return }
      let page = tree.root..<PhysicalAddress(tree.root.rawValue + 4096)
      let place = IOVA(AMDVi.GuestRootFormat.address(of: number))
      do throws(TablesError) {
        if let pages = state.rootPages {
          try pages.map(page, at: place, .readWrite, nil, .smallest, isOver: false, in: roots)
        } else {
          try store.map(tablePage: page, at: place, in: roots)
        }
      } catch {
        if state.spaces.isEmpty { freeRoots(of: &state) }
        throw error
      }
      state.guestLevels = tree.format.levels
      state.spaces[number] = id
      if pasid == nil { state.usesGuestWithoutPASID = true }
    }

    private func freeRoots(of state: inout Device) {
      if let pages = state.rootPages {
        pages.releaseAll()
      } else if let roots = state.roots {
        store.free(roots)
      }
      (state.roots, state.rootPages) = (nil, nil)
    }

    /// Lets a device's requests pass untranslated, in a domain that all such devices share.
    ///
    /// - Throws: As ``bind(_:pasid:to:)``.
    public func pass(_ device: PCI.Function) throws(TablesError) {
      for (id, tree) in trees {
        if case .passThrough = tree {
          return try bind(device, to: AMDVi.Domain(id: id, kind: .passThrough))
        }
      }
      try bindNew(try makeDomain(.passThrough), device, nil)
    }

    /// Blocks a device's requests from now on; its domain stays, with all that is mapped there.
    ///
    /// While a device has nested tables, requests that no such table is for go through the host's.
    ///
    /// - Throws: `TablesError.notBound` where they are blocked already.
    public func unbind(_ device: PCI.Function, pasid: PASID? = nil) throws(TablesError) {
      try check(device, pasid)
      guard var state = devices[device.requester] else { throw .notBound(device, pasid) }
      if pasid == nil, !state.usesGuestWithoutPASID {
        guard state.isHostBound else { throw .notBound(device, pasid) }
        guard state.rootPages == nil else {
          throw .notSupported("unbind the nested address spaces of \(device) first")
        }
        state.host = nil
        state.isHostBound = false
      } else {
        let number = pasid ?? PASID(0)
        guard state.spaces[number] != nil, let roots = state.roots else {
          throw .notBound(device, pasid)
        }
        let place = AMDVi.GuestRootFormat.address(of: number)
        let range = IOVA(place)..<IOVA(place + 4096)
        if let pages = state.rootPages {
          try pages.unmap(range, partly: .split, in: roots)
        } else {
          try store.unmap(range, partly: .split, in: roots)
        }
        state.spaces[number] = nil
        if number == PASID(0) { state.usesGuestWithoutPASID = false }
        if state.spaces.isEmpty {
          if !state.isHostBound { state.host = nil }
          // The entry has to forget the table before its pages are anybody's.
          var cleared = state
          (cleared.roots, cleared.rootPages) = (nil, nil)
          store(cleared, device.requester)
          freeRoots(of: &state)
        }
      }
      let isGone = state.host == nil && state.spaces.isEmpty
      devices[device.requester] = isGone ? nil : state
      store(state, device.requester)
    }

    private func bindNew(
      _ domain: AMDVi.Domain, _ device: PCI.Function, _ pasid: PASID?
    ) throws(TablesError) {
      do throws(TablesError) {
        try bind(device, pasid: pasid, to: domain)
      } catch {
        try remove(domain)
        throw error
      }
    }

    private func check(_ device: PCI.Function, _ pasid: PASID?) throws(TablesError) {
      guard device.segment == UInt32(segment) else {
        throw .otherSegment(device, tables: UInt32(segment))
      }
      guard
        UInt64(device.requester.rawValue) < deviceTable.byteCount / AMDVi.deviceTableEntryByteCount
      else { throw .deviceBeyondTables(device) }
      let limit = AMDVi.GuestRootFormat(levels: guestRootLevels).pasidCount
      if let pasid, UInt64(pasid.rawValue) >= limit {
        throw .pasidBeyondTables(pasid, limit: limit)
      }
    }

    /// Writes a device's entry.
    private func store(_ device: Device, _ requester: Requester) {
      var entry = Self.blocked
      if device.host != nil || device.roots != nil {
        let id = device.host ?? device.spaces.min { $0.key < $1.key }?.value ?? 0
        if let host = device.host, case .host(let tree) = trees[host] {
          entry = AMDVi.DeviceTableEntry(
            mode: tree.format.levels, root: tree.root, domainID: id)
        } else {
          entry = AMDVi.DeviceTableEntry(mode: 0, domainID: id)
        }
      }
      if let roots = device.roots {
        entry.usesGuestTables = true
        entry.guestRootLevelCode = roots.format.levels - 1
        entry.guestRootTable = roots.root
        entry.guestPagingModeCode = device.guestLevels - 4
        // Without a table of their own, requests without PASID find no GCR3 entry, and are stopped.
        entry.usesGuestTablesWithoutPASID =
          device.usesGuestWithoutPASID
          || device.host == nil && limits.features.contains(.guestTablesWithoutPASID)
            && device.spaces[PASID(0)] == nil
      }
      entry.store(
        to: memory,
        at: PhysicalAddress(
          deviceTable.address.rawValue
            + UInt64(requester.rawValue) * AMDVi.deviceTableEntryByteCount))
    }

    // MARK: Mapping

    /// Maps memory for a device, where nothing is mapped; all or nothing.
    ///
    /// A device that is bound to no domain gets one of its own: with host tables of three levels for requests
    /// without PASID, with guest tables of four for others. Host tables grow as addresses ask for it.
    ///
    /// - Parameters:
    ///   - device: A function that the device table has an entry for.
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
      try check(device, pasid)
      let bound = domain(of: device, pasid: pasid)
      try checkCanonical(iova, range.byteCount, pasid, levels: bound?.kind.guestLevels ?? 4)
      if let domain = bound {
        return try map(
          in: domain, at: iova, range, permissions, attributes: attributes, sizes: sizes)
      }
      try store.keepClear(of: range)
      let domain = try makeDomain(
        pasid == nil ? .host(levels: min(3, limits.hostLevels)) : .guest(levels: 4))
      do throws(TablesError) {
        try map(in: domain, at: iova, range, permissions, attributes: attributes, sizes: sizes)
      } catch {
        try remove(domain)
        throw error
      }
      try bindNew(domain, device, pasid)
    }

    /// Maps memory in a domain, where nothing is mapped; all or nothing. Otherwise as
    /// ``map(_:pasid:at:_:_:attributes:sizes:)``.
    public func map(
      in domain: AMDVi.Domain, at iova: IOVA, _ range: Range<PhysicalAddress>,
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
      in domain: AMDVi.Domain, at iova: IOVA, _ range: Range<PhysicalAddress>,
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
      in domain: AMDVi.Domain, _ range: Range<IOVA>, partly: PartlyChangedPage = .split
    ) throws(TablesError) {
      switch trees[domain.id] {
      case .host(let tree): try store.unmap(range, partly: partly, in: tree)
      case .guest(let tree): try store.unmap(range, partly: partly, in: tree)
      case .nested(let tree, let guest, _): try guest.unmap(range, partly: partly, in: tree)
      case .passThrough, nil: throw .noPageTables(domain: domain.id)
      }
    }

    private func bound(
      _ device: PCI.Function, _ pasid: PASID?
    ) throws(TablesError) -> AMDVi.Domain {
      try check(device, pasid)
      guard let domain = domain(of: device, pasid: pasid) else { throw .notBound(device, pasid) }
      return domain
    }

    /// Requests with a PASID other than 0 have addresses whose upper bits repeat the highest that counts.
    private func checkCanonical(
      _ iova: IOVA, _ byteCount: UInt64, _ pasid: PASID?, levels: Int
    ) throws(TablesError) {
      guard let pasid, pasid != PASID(0), byteCount > 0 else { return }
      let half: UInt64 = 1 << UInt64(AMDVi.Paging.addressWidth(levels: levels) - 1)
      let end = iova.advanced(byBytes: byteCount) ?? IOVA(.max)
      guard end.rawValue <= half || iova.rawValue >= 0 &- half else {
        throw .mapping(.beyondTable(iova..<end, reach: half))
      }
    }

    private func change(
      _ domain: AMDVi.Domain, at iova: IOVA, _ range: Range<PhysicalAddress>,
      _ permissions: Permissions, _ attributes: PageAttributes?, _ sizes: PageSizes, isOver: Bool
    ) throws(TablesError) {
      switch trees[domain.id] {
      case .host(var tree):
        if range.byteCount > 0, let last = iova.advanced(byBytes: range.byteCount - 1),
          iova.isAligned(to: 4096)
        {
          tree = try grown(domain.id, toReach: last.rawValue)
        }
        try store.map(range, at: iova, permissions, attributes, sizes, isOver: isOver, in: tree)
      case .guest(let tree):
        try store.map(range, at: iova, permissions, attributes, sizes, isOver: isOver, in: tree)
      case .nested(let tree, let guest, _):
        try guest.map(range, at: iova, permissions, attributes, sizes, isOver: isOver, in: tree)
      case .passThrough, nil: throw .noPageTables(domain: domain.id)
      }
    }
  }
}
