import IOMMUFormats
import Synchronization

extension VTd {
  /// Finds the way from a request to its page tables, step by step in the manual's order.
  ///
  /// Holds what a unit's registers make of the tables: mode, widths, which bits must be zero. Made
  /// once for a state of the registers, used for any number of requests; a value that refers to
  /// nothing.
  ///
  /// ``translate(_:byteCount:in:marker:observer:)`` does all of it at once. A unit with caches takes
  /// the steps one by one and leaves out those whose answer it remembers:
  ///
  /// 1. ``refusal(of:)``: what the mode and the width of a PASID alone refuse.
  /// 2. ``context(of:in:observer:)``: the root and context entries, checked. *Context cache.*
  /// 3. ``addressSpace(of:admittedBy:)``: whether the context allows this request, and as which
  ///    PASID. To be asked for every request, also on a hit.
  /// 4. ``pasidEntry(of:in:memory:observer:)``: PASID directory and table entries, checked; scalable
  ///    mode only. *PASID cache.*
  /// 5. ``route(of:through:entry:)``: the tables and the rules, as a `DeviceHandle.Route`.
  /// 6. The page: `page(of:from:…)` of ``VTd/SecondStageTable``, ``VTd/FirstStageTable`` or
  ///    ``VTd/NestedTables``, from the root or from a `WalkStart` that a *paging-structure cache*
  ///    remembers; `WalkObserver.descend` says what to remember.
  /// 7. `MappedPage.translation`: permissions and the interrupt range.
  ///    *IOTLB*: a hit takes this step with the page that it remembers, and walks again only for a
  ///    write to a page that is not `MappedPage.isDirty`.
  public struct Resolver: Sendable {
    public let unit: VTd.Unit

    let rootReserved: VTd.RootEntry
    let contextReserved: VTd.ContextEntry
    let scalableRootReserved: VTd.ScalableRootEntry
    let scalableContextReserved: VTd.ScalableContextEntry
    let directoryReserved: VTd.PASIDDirectoryEntry
    let pasidReserved: VTd.PASIDTableEntry
    /// For tables of 3, 4 and 5 levels.
    let secondStageFormats: [VTd.SecondStageFormat]
    /// For tables of 4 and 5 levels, first alone, then nested.
    let firstStageFormats: [VTd.FirstStageFormat]

    public init(_ unit: VTd.Unit) {
      // Whose device it is has been decided by then, and a resolver is copied often.
      var unit = unit
      unit.scope = nil
      self.unit = unit
      let limits = unit.limits
      rootReserved = VTd.RootEntry.reservedMasks(limits)
      contextReserved = VTd.ContextEntry.reservedMasks(limits)
      // A unit that never has scalable-mode tables needs no masks for them. One that is in legacy
      // mode now may still remember entries of the other.
      let hasScalableMode = limits.features.contains(.scalableMode)
      scalableRootReserved =
        hasScalableMode ? VTd.ScalableRootEntry.reservedMasks(limits) : VTd.ScalableRootEntry()
      scalableContextReserved =
        hasScalableMode
        ? VTd.ScalableContextEntry.reservedMasks(limits) : VTd.ScalableContextEntry()
      directoryReserved =
        hasScalableMode
        ? VTd.PASIDDirectoryEntry.reservedMasks(limits) : VTd.PASIDDirectoryEntry(rawValue: 0)
      pasidReserved =
        hasScalableMode ? VTd.PASIDTableEntry.reservedMasks(limits) : VTd.PASIDTableEntry()
      let usesIOPermissions =
        unit.rootTableAddress.usesIOPermissions
        && limits.features.contains(.secondStageIOPermissions)
      secondStageFormats = (3...5).map {
        VTd.SecondStageFormat(levels: $0, limits: limits, usesIOPermissions: usesIOPermissions)
      }
      firstStageFormats =
        hasScalableMode
        ? [false, true].flatMap { isNested in
          (4...5).map { VTd.FirstStageFormat(levels: $0, isNested: isNested, limits: limits) }
        } : []
    }

    /// The last that were asked for.
    private static let made = Mutex<[VTd.Resolver]>([])
    /// Units of one machine that are asked by turns; what is not kept is made again.
    private static let madeLimit = 8

    /// The resolver of a unit: whoever asks what becomes of one device asks of others too, and to make
    /// one, from the tables of all fields, takes longer than any walk.
    static func made(for unit: VTd.Unit) -> VTd.Resolver {
      var unit = unit
      unit.scope = nil
      let known = made.withLock { made in made.first { $0.unit == unit } }
      if let known { return known }
      let resolver = VTd.Resolver(unit)
      made.withLock { made in
        if made.count >= madeLimit { made.removeFirst() }
        made.append(resolver)
      }
      return resolver
    }

    var limits: VTd.Limits { unit.limits }
    /// Whether ``VTd/Unit/rootTableAddress`` selects scalable mode.
    public var isScalable: Bool { unit.rootTableAddress.mode == .scalable }

    // MARK: 1. The mode

    /// Why no request of this kind is translated at all, whatever the tables say; `nil` when some
    /// may be.
    ///
    /// A PASID with more bits than ECAP.PSS allows ends here, also where the context entry admits no
    /// PASID. *Assumed*: as no entry has been read, no FPD suppresses the record. Without ECAP.PASID
    /// the register does not say how many bits there are, and the context entry refuses.
    ///
    /// Specification: Intel VT-d 7.1.3, conditions of the root table pointer.
    public func refusal(of request: VTd.Request) -> VTd.RequestFault? {
      let features = limits.features
      switch unit.rootTableAddress.mode {
      case .legacy:
        if unit.rootTableAddress.usesIOPermissions { return VTd.RequestFault(.invalidTableMode) }
        if request.kind == .page { return VTd.RequestFault(.pageRequestInLegacyMode) }
        if request.pasid != nil { return VTd.RequestFault(.pasidInLegacyMode) }
      case .scalable:
        guard features.contains(.scalableMode) else { return VTd.RequestFault(.invalidTableMode) }
        if let pasid = request.pasid, features.contains(.pasids),
          pasid.rawValue >> UInt32(limits.pasidBits) != 0
        {
          return VTd.RequestFault(.pasidBeyondSupportedBits)
        }
      case .abortDMA:
        return VTd.RequestFault(features.contains(.abortDMA) ? .abortDMAMode : .invalidTableMode)
      case .reserved:
        return VTd.RequestFault(.invalidTableMode)
      }
      if request.isExecute, request.pasid != nil, limits.majorVersion >= 8 {
        return VTd.RequestFault(.executeRequestRefused)
      }
      return nil
    }

    // MARK: 2. Root and context entries

    /// The context entry of a requester: present, no reserved bit set, of a kind that the unit
    /// supports.
    ///
    /// Reads two entries, shown to `observer` in ``VTd/rootTable`` and ``VTd/contextTable``.
    public func context(
      of requester: Requester, in memory: some PhysicalMemory, observer: inout some WalkObserver
    ) -> Result<VTd.Context, VTd.RequestFault> {
      isScalable
        ? scalableContext(of: requester, in: memory, observer: &observer)
        : legacyContext(of: requester, in: memory, observer: &observer)
    }

    private func legacyContext(
      of requester: Requester, in memory: some PhysicalMemory, observer: inout some WalkObserver
    ) -> Result<VTd.Context, VTd.RequestFault> {
      // 5. The root entry: faults here are never qualified, there is no FPD yet.
      let rootPlace = unit.rootEntryAddress(bus: requester.bus)
      guard let root = VTd.RootEntry(from: memory, at: rootPlace) else {
        return .failure(VTd.RequestFault(.rootTableUnreadable))
      }
      observer.read(
        root, at: rootPlace, in: .upper(VTd.rootTable), index: UInt64(requester.bus),
        as: limits)
      guard root.isPresent else { return .failure(VTd.RequestFault(.rootEntryNotPresent)) }
      guard !root.overlaps(rootReserved) else {
        return .failure(VTd.RequestFault(.rootEntryReserved))
      }
      // 6. The context entry.
      let place = VTd.Unit.contextEntryAddress(
        in: root.contextTable, deviceFunction: requester.deviceFunction)
      guard let context = VTd.ContextEntry(from: memory, at: place) else {
        return .failure(VTd.RequestFault(.contextTableUnreadable))
      }
      observer.read(
        context, at: place, in: .upper(VTd.contextTable),
        index: UInt64(requester.deviceFunction), as: limits)
      // 7. FPD counts even when the entry is not present; then P, reserved bits, type, width.
      func fault(_ reason: VTd.FaultReason) -> Result<VTd.Context, VTd.RequestFault> {
        .failure(VTd.RequestFault(reason, isReported: !context.suppressesFaultReports))
      }
      guard context.isPresent else { return fault(.contextEntryNotPresent) }
      var reserved = contextReserved
      if context.translationType == .passThrough { reserved.low &= ~VTd.ContextEntry.pointerMask }
      guard !context.overlaps(reserved) else { return fault(.contextEntryReserved) }
      let isSupported =
        switch context.translationType {
        case .secondStage: true
        case .secondStageWithDeviceTLB: limits.hasDeviceTLBs
        case .passThrough: limits.hasPassThrough
        case .reserved: false
        }
      guard isSupported, limits.supports(levels: context.levels) else {
        return fault(.contextEntryInvalid)
      }
      return .success(.legacy(context))
    }

    private func scalableContext(
      of requester: Requester, in memory: some PhysicalMemory, observer: inout some WalkObserver
    ) -> Result<VTd.Context, VTd.RequestFault> {
      // The root entry: each half that is present is checked, also the one not used.
      let rootPlace = unit.rootEntryAddress(bus: requester.bus)
      guard let root = VTd.ScalableRootEntry(from: memory, at: rootPlace) else {
        return .failure(VTd.RequestFault(.scalableRootTableUnreadable))
      }
      observer.read(
        root, at: rootPlace, in: .upper(VTd.rootTable), index: UInt64(requester.bus),
        as: limits)
      guard let table = root.contextTable(deviceFunction: requester.deviceFunction) else {
        return .failure(VTd.RequestFault(.scalableRootEntryNotPresent))
      }
      var rootReserved = scalableRootReserved
      if !root.isLowerPresent { rootReserved.low = 0 }
      if !root.isUpperPresent { rootReserved.high = 0 }
      guard !root.overlaps(rootReserved) else {
        return .failure(VTd.RequestFault(.scalableRootEntryReserved))
      }
      // The context entry.
      let place = VTd.Unit.scalableContextEntryAddress(
        in: table, deviceFunction: requester.deviceFunction)
      guard let context = VTd.ScalableContextEntry(from: memory, at: place) else {
        return .failure(VTd.RequestFault(.scalableContextTableUnreadable))
      }
      observer.read(
        context, at: place, in: .upper(VTd.contextTable),
        index: UInt64(requester.deviceFunction & 0x7f), as: limits)
      func fault(_ reason: VTd.FaultReason) -> Result<VTd.Context, VTd.RequestFault> {
        .failure(VTd.RequestFault(reason, isReported: !context.suppressesFaultReports))
      }
      guard context.isPresent else { return fault(.scalableContextEntryNotPresent) }
      guard !context.overlaps(scalableContextReserved) else {
        return fault(.scalableContextEntryReserved)
      }
      guard !context.isContradictory else { return fault(.scalableContextEntryInvalid) }
      return .success(.scalable(context))
    }

    // MARK: 3. The request before the context entry

    /// The address space that a request is for; a fault when its context does not allow it.
    ///
    /// - Returns: The PASID to look up: that of the request, RID_PASID for one without, and 0 in
    ///   legacy mode, where nothing is looked up.
    public func addressSpace(
      of request: VTd.Request, admittedBy context: VTd.Context
    ) -> Result<PASID, VTd.RequestFault> {
      func fault(_ reason: VTd.FaultReason) -> Result<PASID, VTd.RequestFault> {
        .failure(VTd.RequestFault(reason, isReported: context.isReported))
      }
      switch context {
      case .legacy(let entry):
        guard request.kind == .untranslated || entry.translationType == .secondStageWithDeviceTLB
        else { return fault(.requestKindNotAllowed) }
        return .success(PASID(0))
      case .scalable(let entry):
        switch request.kind {
        case .translation, .translated:
          guard entry.allowsDeviceTLB else { return fault(.deviceTLBNotEnabled) }
        case .page:
          guard entry.allowsPageRequests else { return fault(.pageRequestNotEnabled) }
        case .untranslated: break
        }
        guard let pasid = request.pasid else { return .success(entry.requesterPASID) }
        if request.kind == .translated {
          guard entry.allowsTranslatedPASIDs else { return fault(.translatedPASIDNotEnabled) }
        }
        guard entry.allowsPASIDs else { return fault(.pasidNotEnabled) }
        guard pasid.rawValue < entry.pasidLimit else { return fault(.pasidBeyondDirectory) }
        guard pasid != entry.requesterPASID else { return fault(.pasidIsRequesterPASID) }
        return .success(pasid)
      }
    }
  }
}

extension VTd {
  /// A context entry that has passed all checks: what a context cache keeps.
  @frozen
  public enum Context: Hashable, Sendable {
    case legacy(VTd.ContextEntry)
    case scalable(VTd.ScalableContextEntry)

    /// FPD is clear: faults of the device are recorded.
    public var isReported: Bool {
      switch self {
      case .legacy(let entry): !entry.suppressesFaultReports
      case .scalable(let entry): !entry.suppressesFaultReports
      }
    }
  }
}
