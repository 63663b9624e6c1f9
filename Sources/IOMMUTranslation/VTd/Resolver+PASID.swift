import IOMMUFormats

extension VTd {
  /// A PASID table entry that has passed all checks: what a PASID cache keeps.
  @frozen
  public struct PASIDEntry: Hashable, Sendable {
    public var entry: VTd.PASIDTableEntry
    /// FPD is clear in the directory entry and in this one.
    public var isReported: Bool

    @inlinable
    public init(entry: VTd.PASIDTableEntry, isReported: Bool) {
      self.entry = entry
      self.isReported = isReported
    }
  }
}

extension VTd.Resolver {
  // MARK: 4. PASID directory and table

  /// The entry of an address space: present, no reserved bit set, of a kind that the unit supports.
  ///
  /// Reads two entries, shown to `observer` in ``VTd/pasidDirectory`` and ``VTd/pasidTable``.
  ///
  /// - Parameters:
  ///   - pasid: Below the context's ``VTd/ScalableContextEntry/pasidLimit``, as
  ///     ``addressSpace(of:admittedBy:)`` returns it.
  ///   - context: The device's context entry, from ``context(of:in:observer:)``.
  ///   - memory: Memory that holds directory and table.
  ///   - observer: Shown both entries.
  public func pasidEntry(
    of pasid: PASID, in context: VTd.ScalableContextEntry, memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> Result<VTd.PASIDEntry, VTd.RequestFault> {
    var isReported = !context.suppressesFaultReports
    func fault(_ reason: VTd.FaultReason) -> Result<VTd.PASIDEntry, VTd.RequestFault> {
      .failure(VTd.RequestFault(reason, isReported: isReported))
    }
    let directoryPlace = VTd.Unit.directoryEntryAddress(in: context.pasidDirectory, pasid)
    guard let directory = VTd.PASIDDirectoryEntry(from: memory, at: directoryPlace) else {
      return fault(.pasidDirectoryUnreadable)
    }
    observer.read(
      directory, at: directoryPlace, in: .upper(VTd.pasidDirectory),
      index: pasid.directoryIndex, as: limits)
    isReported = isReported && !directory.suppressesFaultReports
    guard directory.isPresent else { return fault(.pasidDirectoryEntryNotPresent) }
    guard !directory.overlaps(directoryReserved) else {
      return fault(.pasidDirectoryEntryReserved)
    }
    let place = VTd.Unit.pasidEntryAddress(in: directory.pasidTable, pasid)
    guard let entry = VTd.PASIDTableEntry(from: memory, at: place) else {
      return fault(.pasidTableUnreadable)
    }
    observer.read(
      entry, at: place, in: .upper(VTd.pasidTable), index: pasid.tableIndex,
      as: limits)
    isReported = isReported && !entry.suppressesFaultReports
    if let reason = refusal(of: entry) { return fault(reason) }
    return .success(
      VTd.PASIDEntry(
        entry: entry,
        isReported: !directory.suppressesFaultReports && !entry.suppressesFaultReports))
  }

  /// Why no request goes through a PASID table entry, whoever sends it; `nil` when some may.
  func refusal(of entry: VTd.PASIDTableEntry) -> VTd.FaultReason? {
    guard entry.isPresent else { return .pasidEntryNotPresent }
    guard !entry.withoutUnusedPointers.overlaps(pasidReserved) else { return .pasidEntryReserved }
    return limits.supports(entry) ? nil : .pasidEntryInvalid
  }

  // MARK: 5. The route

  /// The tables of a request and the rules that it is judged by.
  ///
  /// - Parameters:
  ///   - request: Its kind, PASID, privilege and execute bit count; its address does not.
  ///   - context: From ``context(of:in:observer:)``.
  ///   - entry: From ``pasidEntry(of:in:memory:observer:)``; `nil` in legacy mode.
  /// - Precondition: a scalable context comes with an entry; both have passed the checks of a
  ///   resolver for a unit with the same limits.
  public func route(
    of request: VTd.Request, through context: VTd.Context, entry: VTd.PASIDEntry?
  ) -> Result<DeviceHandle.Route, VTd.RequestFault> {
    switch context {
    case .legacy(let context):
      return .success(route(through: context))
    case .scalable(let context):
      guard let entry else { preconditionFailure("a scalable-mode route needs a PASID entry") }
      return route(of: request, through: context, entry: entry)
    }
  }

  private func route(through context: VTd.ContextEntry) -> DeviceHandle.Route {
    let rules = VTd.Rules(
      isReported: !context.suppressesFaultReports,
      allowsZeroLengthReads: limits.features.contains(.zeroLengthReads))
    if context.translationType == .passThrough {
      return .passThrough(hostAddressWidth: limits.hostAddressWidth, rules: rules)
    }
    return .table(
      .secondStage(
        VTd.SecondStageTable(
          root: context.secondStageTable, format: secondStageFormats[context.levels - 3],
          addressWidth: limits.secondStageWidth(levels: context.levels), rules: rules)))
  }

  private func route(
    of request: VTd.Request, through context: VTd.ScalableContextEntry, entry cached: VTd.PASIDEntry
  ) -> Result<DeviceHandle.Route, VTd.RequestFault> {
    let entry = cached.entry
    let isReported = !context.suppressesFaultReports && cached.isReported
    let isSupervisor = request.pasid != nil ? request.isPrivileged : context.requesterIsSupervisor
    switch request.kind {
    case .untranslated, .translation:
      if request.isExecute, request.pasid != nil, !limits.features.contains(.executeRequests) {
        return .failure(VTd.RequestFault(.executeNotSupported, isReported: isReported))
      }
      if isSupervisor, !entry.allowsSupervisor {
        return .failure(VTd.RequestFault(.supervisorNotEnabled, isReported: isReported))
      }
    case .translated, .page: break
    }
    let rules = VTd.Rules(
      isScalable: true, isReported: isReported, hasPASID: request.pasid != nil,
      isSupervisor: isSupervisor,
      admitsSupervisor: entry.allowsSupervisor && request.pasid != nil,
      protectsFromSupervisor: entry.protectsFromSupervisor,
      allowsZeroLengthReads: limits.features.contains(.zeroLengthReads))
    switch entry.translationType {
    case .firstStage:
      return .success(.table(.firstStage(firstStage(entry, rules))))
    case .secondStage:
      return .success(.table(.secondStage(secondStage(entry, rules))))
    case .nested:
      return .success(
        .table(
          .nested(
            VTd.NestedTables(
              firstStage: firstStage(entry, rules), secondStage: secondStage(entry, rules)))))
    default:
      return .success(.passThrough(hostAddressWidth: limits.hostAddressWidth, rules: rules))
    }
  }

  private func firstStage(_ entry: VTd.PASIDTableEntry, _ rules: VTd.Rules) -> VTd.FirstStageTable {
    let nestedOffset = entry.translationType == .nested ? 2 : 0
    return VTd.FirstStageTable(
      root: entry.firstStageTable,
      format: firstStageFormats[nestedOffset + entry.firstStageLevels - 4], rules: rules,
      marks: StageMarks(
        accessed: VTd.FirstStageEntry.accessedBits(extended: entry.marksExtendedAccessed),
        dirty: VTd.FirstStageEntry.dirtyBit,
        isSnooped: limits.allowsMarks(snoopsWalks: entry.snoopsWalks)))
  }

  private func secondStage(_ entry: VTd.PASIDTableEntry, _ rules: VTd.Rules) -> VTd.SecondStageTable
  {
    VTd.SecondStageTable(
      root: entry.secondStageTable, format: secondStageFormats[entry.secondStageLevels - 3],
      addressWidth: limits.secondStageWidth(levels: entry.secondStageLevels), rules: rules,
      marks: entry.marksSecondStage
        ? StageMarks(
          accessed: VTd.SecondStageEntry.accessedBit, dirty: VTd.SecondStageEntry.dirtyBit,
          isSnooped: limits.allowsMarks(snoopsWalks: entry.snoopsWalks)) : .none)
  }

  // MARK: All steps

  /// The steps up to the page tables; what stops the request on the way is a blocked route.
  public func route(
    of request: VTd.Request, in memory: some PhysicalMemory, observer: inout some WalkObserver
  ) -> DeviceHandle.Route {
    // 0. Translation off: addresses pass unchanged.
    guard unit.translates else { return .untranslated }
    switch resolve(request, in: memory, observer: &observer) {
    case .success(let route): return route
    case .failure(let fault): return .blocked(fault.fault)
    }
  }

  /// The same of a unit that is on, with the fault as it was found.
  public func resolve(
    _ request: VTd.Request, in memory: some PhysicalMemory, observer: inout some WalkObserver
  ) -> Result<DeviceHandle.Route, VTd.RequestFault> {
    if let fault = refusal(of: request) { return .failure(fault) }
    do throws(VTd.RequestFault) {
      let context = try context(of: request.requester, in: memory, observer: &observer).get()
      let pasid = try addressSpace(of: request, admittedBy: context).get()
      guard case .scalable(let scalable) = context else {
        return route(of: request, through: context, entry: nil)
      }
      let entry = try pasidEntry(of: pasid, in: scalable, memory: memory, observer: &observer).get()
      return route(of: request, through: context, entry: entry)
    } catch {
      return .failure(error)
    }
  }

  /// Translates an untranslated or a translated request, all from memory, up to the end of its page.
  ///
  /// - Parameters:
  ///   - request: Untranslated or translated.
  ///   - byteCount: At least 1.
  ///   - memory: Memory that holds the tables.
  ///   - marker: Sets accessed and dirty bits: `AtomicMarks` for a live machine, `NoMarks` for a
  ///     dump.
  ///   - observer: Shown every entry read.
  /// - Precondition: translation requests have ``completion(of:in:marker:observer:)``, and page
  ///   requests end with ``route(of:in:observer:)``.
  public func translate(
    _ request: VTd.Request, byteCount: UInt64 = 1, in memory: some PhysicalMemory,
    marker: some EntryMarker, observer: inout some WalkObserver
  ) -> Translation {
    switch request.kind {
    case .untranslated:
      if unit.translates, request.pasid == nil, VTd.isInterruptAddress(request.address) {
        return DeviceHandle.interruptAnswer(request.operation, at: request.address)
      }
      return route(of: request, in: memory, observer: &observer).translate(
        request.address, byteCount: byteCount, for: request.operation, in: memory, marker: marker,
        observer: &observer)
    case .translated:
      return route(of: request, in: memory, observer: &observer).pass(
        request.address, byteCount: byteCount, hostAddressWidth: limits.hostAddressWidth)
    case .translation, .page:
      preconditionFailure("only untranslated and translated requests move data")
    }
  }
}
