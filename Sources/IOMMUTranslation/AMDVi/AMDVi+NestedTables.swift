import IOMMUFormats

extension AMDVi {
  /// Nested translation: a guest table in a guest's addresses, which the host's table translates.
  ///
  /// Every guest entry is reached through the host's table, and so is the page. Specification: AMD IOMMU
  /// 2.2.6.
  @frozen
  public struct NestedTables: Sendable, Hashable {
    /// Its root and all addresses in its entries are a guest's.
    public let guest: AMDVi.GuestTable
    public let host: AMDVi.HostTable

    @inlinable
    public init(guest: AMDVi.GuestTable, host: AMDVi.HostTable) {
      self.guest = guest
      self.host = host
    }

    @inlinable public var rules: AMDVi.Rules { guest.rules }

    /// The page of `address`, or why there is none.
    ///
    /// What the guest's entries allow is judged before the host is asked for the page.
    ///
    /// - Parameters:
    ///   - address: A guest's virtual address.
    ///   - operation: What is judged on the way; `nil` judges nothing.
    ///   - isExecute: The request asks to execute.
    ///   - memory: The host's.
    ///   - marker: What sets accessed and dirty bits.
    ///   - observer: Told of every entry read.
    ///   - start: From where the guest's walk goes on in place of its root.
    @inlinable
    public func page(
      of address: UInt64, for operation: VTd.Request.Operation?, isExecute: Bool = false,
      in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver,
      from start: (WalkStart) -> WalkStart = { $0 }
    ) -> AMDVi.PageOutcome {
      guard !guest.checksCanonical || guest.isCanonical(address) else {
        return .fault(rules.fault(.guestAddressNotCanonical))
      }
      let writes = operation?.needs.contains(.write) ?? false
      var access = GuestAccess(
        self, dirtyNeeds: writes ? rules.guestWriteNeeds : nil, memory: memory, marker: marker)
      let walk = guest.format.walk(
        address, from: start(guest.start), in: memory, through: &access, observer: &observer)
      guard walk.end == .page else {
        return .fault(
          guest.fault(of: walk) ?? access.refusal
            ?? rules.fault(.guestTableUnreadable, address: walk.entryAddress.rawValue))
      }
      var mapped = AMDVi.TablePage(
        page: walk.page, sizeLog2: walk.sizeLog2, host: .readWrite, guest: walk.permissions,
        isDirty: walk.entry & guest.marks.dirty == guest.marks.dirty)
      if let operation,
        let reason = mapped.refusal(of: operation, isExecute: isExecute, under: rules)
      {
        return .fault(rules.fault(reason))
      }
      let place = place(address, in: walk.page, sizeLog2: walk.sizeLog2).rawValue
      switch host.page(
        of: place, needs: operation?.needs ?? [], writes: writes, in: memory, marker: marker,
        observer: &observer)
      {
      case .fault(let fault): return .fault(told(fault, of: place))
      case .page(let inner):
        mapped.sizeLog2 = min(walk.sizeLog2, inner.sizeLog2)
        mapped.page = IOMMUTranslation.place(place, in: inner.page, sizeLog2: inner.sizeLog2)
          .alignedDown(to: 1 &<< UInt64(mapped.sizeLog2))
        mapped.host = inner.host
        mapped.isDirty = mapped.isDirty && inner.isDirty
        mapped.isUntranslatedOnly = inner.isUntranslatedOnly
        mapped.forcesCoherence = inner.forcesCoherence
        return .page(mapped)
      }
    }

    /// A fault of the host's table on behalf of the guest's: its event tells the guest's address
    /// (*assumed*).
    @inlinable
    func told(_ fault: AMDVi.RequestFault, of place: UInt64) -> AMDVi.RequestFault {
      var fault = fault
      if fault.address == nil { fault.address = place }
      return fault
    }

    /// Answers an untranslated request, up to the end of its page.
    @inlinable
    public func answer(
      to address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation,
      isExecute: Bool = false, in memory: some PhysicalMemory, marker: some EntryMarker,
      observer: inout some WalkObserver
    ) -> AMDVi.Answer {
      if let answer = rules.answer(to: address, byteCount: byteCount, for: operation) {
        return answer
      }
      switch page(
        of: address, for: operation, isExecute: isExecute, in: memory, marker: marker,
        observer: &observer)
      {
      case .fault(let fault): return .fault(fault)
      case .page(let page):
        return page.answer(
          to: address, byteCount: byteCount, for: operation, isExecute: isExecute, under: rules)
      }
    }

    /// The same as all hardware answers.
    @inlinable
    func translate(
      _ address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation,
      in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver
    ) -> Translation {
      answer(
        to: address, byteCount: byteCount, for: operation, in: memory, marker: marker,
        observer: &observer
      ).translation
    }
  }

  /// Reaches guest entries through the host's table, and sets their marks where that lets them be
  /// written.
  @frozen
  public struct GuestAccess<Memory: PhysicalMemory, Marker: EntryMarker>: TableAccess {
    public let tables: AMDVi.NestedTables
    public let dirtyNeeds: Permissions?
    public let memory: Memory
    public let marker: Marker
    /// Why the walk was refused.
    public var refusal: AMDVi.RequestFault?
    @usableFromInline var attemptsLeft = 1000

    @inlinable
    public init(
      _ tables: AMDVi.NestedTables, dirtyNeeds: Permissions?, memory: Memory, marker: Marker
    ) {
      self.tables = tables
      self.dirtyNeeds = dirtyNeeds
      self.memory = memory
      self.marker = marker
    }

    @inlinable
    public mutating func locate(
      _ place: PhysicalAddress, level _: Int, observer: inout some WalkObserver
    ) -> PhysicalAddress? {
      host(place, .read, writes: false, &observer)
    }

    @usableFromInline
    mutating func host(
      _ place: PhysicalAddress, _ needs: Permissions, writes: Bool,
      _ observer: inout some WalkObserver
    ) -> PhysicalAddress? {
      switch tables.host.page(
        of: place.rawValue, needs: needs, writes: writes, in: memory, marker: marker,
        observer: &observer)
      {
      case .fault(let fault):
        refusal = tables.told(fault, of: place.rawValue)
        return nil
      case .page(let page):
        return IOMMUTranslation.place(place.rawValue, in: page.page, sizeLog2: page.sizeLog2)
      }
    }

    @inlinable
    public mutating func use(
      _ entry: UInt64, _ use: EntryUse, observer: inout some WalkObserver
    ) -> UseOutcome {
      let bits = tables.guest.marks.missing(in: entry, use, dirtyNeeds: dirtyNeeds)
      guard bits != 0 else { return .proceed(entry) }
      guard host(use.place, .readWrite, writes: true, &observer) != nil else { return .refused }
      switch marker.set(bits, in: entry, at: use.host) {
      case .done: return .proceed(entry | bits)
      case .changed where attemptsLeft > 0:
        attemptsLeft -= 1
        return .again
      case .changed, .failed:
        refusal = tables.rules.fault(.guestTableUnreadable, address: use.host.rawValue)
        return .refused
      }
    }
  }
}

extension AMDVi.NestedTables: IOTable {
  public var format: AMDVi.GuestFormat { guest.format }
  /// A guest's address.
  public var root: PhysicalAddress { guest.root }
  public var space: IOVASpace { guest.space }
  public var identity: Self { Self(guest: guest.identity, host: host.identity) }
  public func access(allowedBy permissions: Permissions) -> MappedAccess? {
    rules.access(allowedBy: permissions, .readWrite)
  }
}

extension AMDVi.NestedTables: TwoStageTables {
  public var hostStage: AMDVi.HostTable { host }
  public func access(allowedBy guest: Permissions, _ host: Permissions) -> MappedAccess? {
    rules.access(allowedBy: guest, host)
  }
}
