import IOMMUFormats

extension VTd {
  /// A VT-d second-stage table in force for one device.
  @frozen
  public struct SecondStageTable: Sendable, Hashable {
    public let root: PhysicalAddress
    public let format: VTd.SecondStageFormat
    /// Bits of IOVA that are translated: the smaller of the unit's and the table's.
    public let addressWidth: Int
    public let rules: VTd.Rules
    /// SSADE; legacy mode has none.
    public let marks: StageMarks

    @inlinable
    public init(
      root: PhysicalAddress, format: VTd.SecondStageFormat, addressWidth: Int, rules: VTd.Rules,
      marks: StageMarks = .none
    ) {
      self.root = root
      self.format = format
      self.addressWidth = addressWidth
      self.rules = rules
      self.marks = marks
    }

    /// A table of legacy mode.
    @inlinable
    public init(
      root: PhysicalAddress, format: VTd.SecondStageFormat, addressWidth: Int, isReported: Bool
    ) {
      self.init(
        root: root, format: format, addressWidth: addressWidth,
        rules: VTd.Rules(isReported: isReported))
    }

    @inlinable public var isReported: Bool { rules.isReported }

    /// Whether every bit of `address` above the width is zero; second-stage addresses are not
    /// sign-extended.
    @inlinable @inline(__always)
    public func reaches(_ address: UInt64) -> Bool {
      address &>> UInt64(truncatingIfNeeded: addressWidth) == 0
    }

    @inlinable
    public func page(
      of address: UInt64, for operation: VTd.Request.Operation?, writes: Bool,
      in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver,
      from start: (WalkStart) -> WalkStart
    ) -> PageOutcome {
      guard reaches(address) else {
        return .fault(rules.isScalable ? .scalableAddressBeyondWidth : .addressBeyondWidth)
      }
      let start = start(self.start)
      let walk: Walk
      if marks.isNone {
        var access = PlainAccess()
        walk = format.walk(address, from: start, in: memory, through: &access, observer: &observer)
      } else {
        var access = MarkingAccess(
          marks, dirtyNeeds: writes ? .write : nil, marker: marker,
          notSnooped: .secondStageUpdateNotSnooped, failed: VTd.FaultReason.secondStageUpdateFailed)
        walk = format.walk(address, from: start, in: memory, through: &access, observer: &observer)
        if walk.end == .refused { return .fault(access.refusal ?? .secondStageUpdateFailed) }
      }
      guard walk.end == .page else { return .fault(reason(for: walk, operation ?? .read)) }
      return .page(
        MappedPage(
          page: walk.page, sizeLog2: walk.sizeLog2, firstStage: MappedPage.unrestricted,
          secondStage: walk.permissions, isDirty: walk.entry & marks.dirty == marks.dirty))
    }

    /// Where walks start without a cache.
    @inlinable public var start: WalkStart { format.start(at: root) }

    /// The fault of a walk that met no page.
    @inlinable
    func reason(for walk: Walk, _ operation: VTd.Request.Operation) -> VTd.FaultReason {
      switch walk.end {
      case .unreadable:
        if walk.level == format.levels {
          return rules.isScalable ? .secondStageRootUnreadable : .contextEntryInvalid
        }
        return rules.isScalable ? .secondStageTableUnreadable : .tableUnreadable
      case .malformed, .skippedBits:
        return rules.isScalable ? .scalableSecondStageEntryReserved : .secondStageEntryReserved
      case .empty, .refused, .page:
        if rules.isScalable { return .secondStageEntryNotPresent }
        return operation.needs.contains(.write) ? .writeNotPermitted : .readNotPermitted
      }
    }
  }
}

extension VTd.SecondStageTable: PageTables {}

extension VTd.SecondStageTable: IOTable {
  public var space: IOVASpace {
    rules.space(byteCount: 1 << UInt64(addressWidth), signBit: nil)
  }

  public var identity: Self {
    Self(root: root, format: format, addressWidth: addressWidth, rules: rules.permissionRules)
  }
}
