import IOMMUFormats

extension AMDVi {
  /// A host (v1) table in force for one device, or none: in mode 0 every address is its own.
  @frozen
  public struct HostTable: Sendable, Hashable {
    public let root: PhysicalAddress
    public let format: AMDVi.HostFormat
    public let rules: AMDVi.Rules
    /// HAD.
    public let marks: StageMarks
    /// Why no request that the rules let pass gets to a table; `nil` where they do.
    public let stop: AMDVi.RequestFault?

    @inlinable
    public init(
      root: PhysicalAddress, levels: Int, rules: AMDVi.Rules = AMDVi.Rules(),
      marks: StageMarks = .none, stop: AMDVi.RequestFault? = nil
    ) {
      self.root = root
      format = AMDVi.HostFormat(levels: levels)
      self.rules = rules
      self.marks = marks
      self.stop = stop
    }

    /// The fault of every request, where all have the same; `nil` where it depends on the request.
    var blocker: AMDVi.RequestFault? {
      guard rules.exclusion.isEmpty else { return nil }
      if rules.permissions.isEmpty { return rules.fault(.deviceNotPermitted) }
      return rules.permissions == .readWrite ? stop : nil
    }

    /// Every address is its own, and all may be read and written but those of interrupts.
    var passesAll: Bool { isDirect && stop == nil && rules.permissions == .readWrite }

    /// Mode 0: there is no table, and addresses are their own.
    @inlinable public var isDirect: Bool { format.levels == 0 }

    /// Where walks start without a cache.
    @inlinable public var start: WalkStart { format.start(at: root) }

    /// Whether every bit of `address` above the width is zero.
    @inlinable @inline(__always)
    public func reaches(_ address: UInt64) -> Bool {
      format.levels >= 6
        || address &>> UInt64(truncatingIfNeeded: format.addressWidth) == 0
    }

    /// The page of `address`, or why there is none.
    ///
    /// - Parameters:
    ///   - address: Any byte of the page, as requests name it.
    ///   - needs: What entries have to allow together; each is judged as the walk meets it. Nothing for a
    ///     look that judges nothing.
    ///   - writes: D is set in the leaf.
    ///   - memory: Memory that holds the tables.
    ///   - marker: Sets accessed and dirty bits, where the tables want them.
    ///   - observer: Shown every entry read.
    ///   - start: From the uppermost table, the table in which the walk of `address` begins: what a
    ///     page-walk cache knows.
    /// - Precondition: Not in mode 0.
    @inlinable
    public func page(
      of address: UInt64, needs: Permissions, writes: Bool, in memory: some PhysicalMemory,
      marker: some EntryMarker, observer: inout some WalkObserver,
      from start: (WalkStart) -> WalkStart = { $0 }
    ) -> AMDVi.PageOutcome {
      guard reaches(address) else { return .fault(rules.fault(.addressBeyondWidth)) }
      var access = AMDVi.JudgingAccess(
        needs: needs, notPermitted: .notPermitted,
        marking: MarkingAccess(
          marks, dirtyNeeds: writes ? .write : nil, marker: marker, failed: .tableUnreadable))
      let walk = format.walk(
        address, from: start(self.start), in: memory, through: &access, observer: &observer)
      guard walk.end == .page else {
        return .fault(fault(of: walk, refusal: access.refusal, needs: needs))
      }
      let entry = AMDVi.PageTableEntry(rawValue: walk.entry)
      return .page(
        AMDVi.TablePage(
          page: walk.page, sizeLog2: walk.sizeLog2, host: walk.permissions,
          isDirty: walk.entry & marks.dirty == marks.dirty,
          isUntranslatedOnly: entry.isUntranslatedOnly, forcesCoherence: entry.forcesCoherence))
    }

    /// The fault of a walk that met no page.
    @usableFromInline
    func fault(
      of walk: Walk, refusal: AMDVi.FaultReason?, needs: Permissions
    ) -> AMDVi.RequestFault {
      switch walk.end {
      case .unreadable:
        return rules.fault(.tableUnreadable, address: walk.entryAddress.rawValue)
      case .empty: return rules.fault(.entryNotPresent)
      case .malformed where format.isReserved(AMDVi.PageTableEntry(rawValue: walk.entry)):
        return rules.fault(.entryReserved)
      case .malformed, .skippedBits:
        return rules.fault(walk.permissions.isSuperset(of: needs) ? .levelIllegal : .notPermitted)
      case .refused, .page:
        let reason = refusal ?? .tableUnreadable
        return rules.fault(
          reason, address: reason.isUnanswered ? walk.entryAddress.rawValue : nil)
      }
    }

    /// Answers an untranslated request, up to the end of its page.
    @inlinable
    public func answer(
      to address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation,
      in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver
    ) -> AMDVi.Answer {
      if let answer = rules.answer(to: address, byteCount: byteCount, for: operation) {
        return answer
      }
      if let stop { return .fault(stop) }
      if isDirect {
        return .mapped(
          PhysicalAddress(address), byteCount: rules.reach(address, atMost: byteCount))
      }
      switch page(
        of: address, needs: operation.needs, writes: operation.needs.contains(.write), in: memory,
        marker: marker, observer: &observer)
      {
      case .fault(let fault): return .fault(fault)
      case .page(let page):
        return page.answer(to: address, byteCount: byteCount, for: operation, under: rules)
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

extension AMDVi.HostTable: IOTable {
  public var space: IOVASpace {
    if isDirect {
      var space = rules.space(byteCount: 0)
      if stop == nil {
        let interrupts = AMDVi.interruptAddresses
        space.passing = [0..<interrupts.lowerBound, interrupts.upperBound ..< .max]
      }
      return space
    }
    return rules.space(
      byteCount: format.levels >= 6 ? .max : 1 << UInt64(format.addressWidth))
  }

  public var identity: Self {
    Self(root: root, levels: format.levels, rules: rules.identity, stop: stop)
  }

  public func access(allowedBy permissions: Permissions) -> MappedAccess? {
    let allowed = permissions.intersection(rules.permissions).intersection(.readWrite)
    return allowed.isEmpty ? nil : MappedAccess(allowed)
  }
}

extension AMDVi.HostTable: HostStage {
  /// As a guest's own tables are read: what the device table entry allows is judged too.
  public func hostPage(
    of address: UInt64, in memory: some PhysicalMemory
  ) -> (page: PhysicalAddress, sizeLog2: Int, permissions: Permissions)? {
    var observer = Unobserved()
    guard
      case .page(let page) = page(
        of: address, needs: [], writes: false, in: memory, marker: NoMarks(), observer: &observer)
    else { return nil }
    return (page.page, page.sizeLog2, page.host)
  }
}
