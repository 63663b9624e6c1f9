import IOMMUFormats

extension VTd {
  /// A VT-d first-stage table in force for one PASID of a device, in host addresses.
  @frozen
  public struct FirstStageTable: Sendable, Hashable {
    public let root: PhysicalAddress
    public let format: VTd.FirstStageFormat
    public let rules: VTd.Rules
    /// A and, under EAFE, EA; D.
    public let marks: StageMarks

    @inlinable
    public init(
      root: PhysicalAddress, format: VTd.FirstStageFormat, rules: VTd.Rules, marks: StageMarks
    ) {
      self.root = root
      self.format = format
      self.rules = rules
      self.marks = marks
    }

    /// Whether the bits above the width repeat the highest one that counts.
    @inlinable
    public func isCanonical(_ address: UInt64) -> Bool {
      let unused = Int64(64 - format.addressWidth)
      return UInt64(bitPattern: (Int64(bitPattern: address) &<< unused) &>> unused) == address
    }

    /// Where walks start without a cache.
    @inlinable public var start: WalkStart { format.start(at: root) }

    @inlinable
    public func page(
      of address: UInt64, for _: VTd.Request.Operation?, writes: Bool,
      in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver,
      from start: (WalkStart) -> WalkStart
    ) -> PageOutcome {
      guard isCanonical(address) else { return .fault(.addressNotCanonical) }
      var access = MarkingAccess(
        marks, dirtyNeeds: writes ? rules.firstStageWriteNeeds : nil, marker: marker,
        notSnooped: .firstStageUpdateNotSnooped, failed: VTd.FaultReason.firstStageUpdateFailed)
      let walk = format.walk(
        address, from: start(self.start), in: memory, through: &access, observer: &observer)
      guard walk.end == .page else {
        return .fault(
          Self.reason(for: walk, levels: format.levels) ?? access.refusal
            ?? .firstStageUpdateFailed)
      }
      return .page(
        MappedPage(
          page: walk.page, sizeLog2: walk.sizeLog2, firstStage: walk.permissions,
          secondStage: .readWrite, isDirty: walk.entry & marks.dirty != 0))
    }

    /// The fault of a first-stage walk that met no page; `nil` when something else refused it.
    @inlinable
    static func reason(for walk: Walk, levels: Int) -> VTd.FaultReason? {
      switch walk.end {
      case .unreadable:
        walk.level == levels ? .firstStageRootUnreadable : .firstStageTableUnreadable
      case .malformed, .skippedBits: .firstStageEntryReserved
      case .empty: .firstStageEntryNotPresent
      case .refused, .page: nil
      }
    }
  }
}

extension VTd.FirstStageTable: PageTables {}

extension VTd.FirstStageTable: IOTable {
  public var space: IOVASpace {
    rules.space(byteCount: 1 << UInt64(format.addressWidth), signBit: format.addressWidth - 1)
  }

  public var identity: Self {
    Self(root: root, format: format, rules: rules.permissionRules, marks: .none)
  }

  public func access(allowedBy permissions: Permissions) -> MappedAccess? {
    rules.access(allowedBy: permissions, .readWrite)
  }
}
