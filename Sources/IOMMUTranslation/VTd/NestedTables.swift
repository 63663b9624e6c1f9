import IOMMUFormats

extension VTd {
  /// Nested translation: a first-stage table in guest addresses, which the second stage translates.
  ///
  /// Every first-stage entry is reached through the second stage, and so is the page.
  /// Specification: Intel VT-d 3.8.
  @frozen
  public struct NestedTables: Sendable, Hashable {
    /// Its root and all addresses in its entries are guest addresses.
    public let firstStage: VTd.FirstStageTable
    public let secondStage: VTd.SecondStageTable

    @inlinable
    public init(firstStage: VTd.FirstStageTable, secondStage: VTd.SecondStageTable) {
      self.firstStage = firstStage
      self.secondStage = secondStage
    }

    @inlinable public var rules: VTd.Rules { firstStage.rules }

    @inlinable
    public func page(
      of address: UInt64, for operation: VTd.Request.Operation?, writes: Bool,
      in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver,
      from start: (WalkStart) -> WalkStart
    ) -> PageOutcome {
      guard firstStage.isCanonical(address) else { return .fault(.addressNotCanonical) }
      let start = start(firstStage.start)
      for _ in 0..<1000 {
        let outcome = attempt(
          address, from: start, for: operation, writes: writes, in: memory, marker: marker,
          observer: &observer)
        if let outcome { return outcome }
      }
      return .fault(.firstStageUpdateFailed)
    }

    /// One walk of both stages; `nil` when software changed the leaf just as D was to be set in it.
    @inlinable
    func attempt(
      _ address: UInt64, from start: WalkStart, for operation: VTd.Request.Operation?, writes: Bool,
      in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver
    ) -> PageOutcome? {
      // Only A on the way: D waits until both stages are known to allow the write.
      var access = NestedAccess(self, memory: memory, marker: marker)
      let walk = firstStage.format.walk(
        address, from: start, in: memory, through: &access, observer: &observer)
      guard walk.end == .page else {
        return .fault(
          VTd.FirstStageTable.reason(for: walk, levels: firstStage.format.levels)
            ?? access.refusal ?? .firstStageUpdateFailed)
      }
      var mapped = MappedPage(
        page: walk.page, sizeLog2: walk.sizeLog2, firstStage: walk.permissions,
        secondStage: .readWrite, isDirty: walk.entry & firstStage.marks.dirty != 0)
      if let operation, let reason = mapped.refusal(of: operation, under: rules) {
        return .fault(reason)
      }
      let guest = place(address, in: walk.page, sizeLog2: walk.sizeLog2).rawValue
      func secondStagePage(writes: Bool, observer: inout some WalkObserver) -> PageOutcome {
        secondStage.page(
          of: guest, for: operation, writes: writes, in: memory, marker: marker,
          observer: &observer)
      }
      let outcome = secondStagePage(writes: false, observer: &observer)
      guard case .page(let inner) = outcome else { return outcome }
      mapped.sizeLog2 = min(walk.sizeLog2, inner.sizeLog2)
      mapped.page = place(guest, in: inner.page, sizeLog2: inner.sizeLog2)
        .alignedDown(to: 1 &<< UInt64(mapped.sizeLog2))
      mapped.secondStage = inner.secondStage
      let isFirstStageDirty = mapped.isDirty
      mapped.isDirty = isFirstStageDirty && inner.isDirty
      guard writes, !mapped.isDirty, mapped.permissions(under: rules).contains(.write) else {
        return .page(mapped)
      }
      if !isFirstStageDirty {
        switch access.markDirty(walk, observer: &observer) {
        case .proceed: break
        case .again: return nil
        case .refused: return .fault(access.refusal ?? .firstStageUpdateFailed)
        }
      }
      if !inner.isDirty {
        let marked = secondStagePage(writes: true, observer: &observer)
        guard case .page = marked else { return marked }
      }
      mapped.isDirty = true
      return .page(mapped)
    }
  }
}

extension VTd.NestedTables: PageTables {}

extension VTd.NestedTables: IOTable {
  public var format: VTd.FirstStageFormat { firstStage.format }
  /// A guest address.
  public var root: PhysicalAddress { firstStage.root }
  public var space: IOVASpace { firstStage.space }
  public var identity: Self {
    Self(firstStage: firstStage.identity, secondStage: secondStage.identity)
  }
}
