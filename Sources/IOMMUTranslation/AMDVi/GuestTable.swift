import IOMMUFormats

extension AMDVi {
  /// A guest (v2) table in force for one PASID of a device, in host addresses; or, in
  /// ``NestedTables``, in a guest's.
  @frozen
  public struct GuestTable: Sendable, Hashable {
    public let root: PhysicalAddress
    public let format: AMDVi.GuestFormat
    public let rules: AMDVi.Rules
    /// Bits above the width have to repeat its highest one: of all PASIDs but 0.
    public let checksCanonical: Bool
    /// A and D.
    public let marks: StageMarks

    @inlinable
    public init(
      root: PhysicalAddress, levels: Int, rules: AMDVi.Rules = AMDVi.Rules(),
      checksCanonical: Bool, marks: StageMarks = .none
    ) {
      self.root = root
      format = AMDVi.GuestFormat(levels: levels)
      self.rules = rules
      self.checksCanonical = checksCanonical
      self.marks = marks
    }

    /// Where walks start without a cache.
    @inlinable public var start: WalkStart { format.start(at: root) }

    /// Whether the bits above the width repeat the highest one that counts.
    @inlinable
    public func isCanonical(_ address: UInt64) -> Bool {
      let unused = Int64(64 - format.addressWidth)
      return UInt64(bitPattern: (Int64(bitPattern: address) &<< unused) &>> unused) == address
    }

    /// The page of `address`, or why there is none; permissions are not judged.
    @inlinable
    public func page(
      of address: UInt64, writes: Bool, in memory: some PhysicalMemory, marker: some EntryMarker,
      observer: inout some WalkObserver, from start: (WalkStart) -> WalkStart = { $0 }
    ) -> AMDVi.PageOutcome {
      guard !checksCanonical || isCanonical(address) else {
        return .fault(rules.fault(.guestAddressNotCanonical))
      }
      // Nothing is judged before the walk's end.
      var access = MarkingAccess(
        marks, dirtyNeeds: writes ? rules.guestWriteNeeds : nil, marker: marker,
        failed: AMDVi.FaultReason.guestTableUnreadable)
      let walk = format.walk(
        address, from: start(self.start), in: memory, through: &access, observer: &observer)
      guard walk.end == .page else {
        return .fault(
          fault(of: walk)
            ?? rules.fault(.guestTableUnreadable, address: walk.entryAddress.rawValue))
      }
      return .page(
        AMDVi.TablePage(
          page: walk.page, sizeLog2: walk.sizeLog2, host: .readWrite, guest: walk.permissions,
          isDirty: walk.entry & marks.dirty == marks.dirty))
    }

    /// The fault of a walk that met no page; `nil` where the access refused.
    @usableFromInline
    func fault(of walk: Walk) -> AMDVi.RequestFault? {
      switch walk.end {
      case .unreadable:
        rules.fault(.guestTableUnreadable, address: walk.entryAddress.rawValue)
      case .empty: rules.fault(.guestEntryNotPresent)
      case .malformed, .skippedBits: rules.fault(.guestEntryReserved)
      case .refused, .page: nil
      }
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
        of: address, writes: operation.needs.contains(.write), in: memory, marker: marker,
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
}

extension AMDVi.GuestTable: IOTable {
  public var space: IOVASpace {
    rules.space(
      byteCount: 1 << UInt64(format.addressWidth),
      signBit: checksCanonical ? format.addressWidth - 1 : nil)
  }

  public var identity: Self {
    Self(
      root: root, levels: format.levels, rules: rules.identity, checksCanonical: checksCanonical)
  }

  public func access(allowedBy permissions: Permissions) -> MappedAccess? {
    rules.access(allowedBy: permissions, .readWrite)
  }
}

extension AMDVi.Rules {
  /// What a page's guest entries have to allow together for a write.
  @inlinable var guestWriteNeeds: Permissions { isSupervisor ? .write : [.write, .user] }

  /// What requests may do to a page whose entries of the two stages allow this together.
  func access(allowedBy guest: Permissions, _ host: Permissions) -> MappedAccess? {
    var allowed = permissions.intersection(host).intersection(.readWrite)
    allowed.formIntersection(guest)
    guard !allowed.isEmpty else { return nil }
    guard guest.contains(.user) || isSupervisor else {
      // Only requests with PASID tell their privilege.
      return hasPASID ? MappedAccess(allowed, needsSupervisor: true) : nil
    }
    return MappedAccess(allowed, needsSupervisor: isSupervisor)
  }
}
