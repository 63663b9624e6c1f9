import IOMMUFormats

extension VTd {
  /// What requests of one kind have in common once their tables are found.
  @frozen
  public struct Rules: Hashable, Sendable {
    /// Scalable-mode fault numbers.
    public var isScalable: Bool
    /// No FPD was met on the way.
    public var isReported: Bool
    /// The requests carry a PASID: the interrupt address range is memory to them.
    public var hasPASID: Bool
    /// The requests are of supervisor privilege.
    public var isSupervisor: Bool
    /// SRE: requests with a PASID may be of supervisor privilege.
    public var admitsSupervisor: Bool
    /// WPE: R/W binds supervisor requests too.
    public var protectsFromSupervisor: Bool
    /// CAP.ZLR: zero-length reads are satisfied by pages that can only be written.
    public var allowsZeroLengthReads: Bool

    @inlinable
    public init(
      isScalable: Bool = false, isReported: Bool = true, hasPASID: Bool = false,
      isSupervisor: Bool = false, admitsSupervisor: Bool = false,
      protectsFromSupervisor: Bool = false,
      allowsZeroLengthReads: Bool = false
    ) {
      self.isScalable = isScalable
      self.isReported = isReported
      self.hasPASID = hasPASID
      self.isSupervisor = isSupervisor
      self.admitsSupervisor = admitsSupervisor
      self.protectsFromSupervisor = protectsFromSupervisor
      self.allowsZeroLengthReads = allowsZeroLengthReads
    }

    @inlinable
    func fault(_ reason: VTd.FaultReason) -> Translation {
      .fault(VTd.RequestFault(reason, isReported: isReported).fault)
    }

    /// What a page's first-stage entries have to allow together for a write.
    @inlinable
    var firstStageWriteNeeds: Permissions {
      isSupervisor ? (protectsFromSupervisor ? .write : []) : [.user, .write]
    }

    /// What a page's first-stage entries have to allow together for a read.
    @inlinable
    var firstStageReadNeeds: Permissions { isSupervisor ? [] : .user }
  }
}

extension Table {
  /// The rules that requests are judged by; `nil` for tables of other hardware.
  public var rules: VTd.Rules? {
    switch self {
    case .secondStage(let table): table.rules
    case .firstStage(let table): table.rules
    case .nested(let tables): tables.rules
    default: nil
    }
  }
}

extension DeviceHandle.Route {
  /// The rules that requests are judged by; `nil` where no VT-d tables stand in the way.
  public var rules: VTd.Rules? {
    switch self {
    case .passThrough(_, let rules): rules
    case .table(let table): table.rules
    case .untranslated, .blocked: nil
    }
  }
}

extension VTd.Rules {
  /// Those that say which requests a page lets pass: nothing of how faults are told.
  var permissionRules: Self {
    var rules = self
    rules.isReported = true
    rules.allowsZeroLengthReads = false
    return rules
  }

  /// What requests may do to a page whose entries of the two stages allow this together.
  func access(allowedBy firstStage: Permissions, _ secondStage: Permissions) -> MappedAccess? {
    let page = MappedPage(
      page: PhysicalAddress(0), sizeLog2: 12, firstStage: firstStage, secondStage: secondStage,
      isDirty: true)
    let allowed = page.permissions(under: self)
    if !allowed.isEmpty { return MappedAccess(allowed, needsSupervisor: isSupervisor) }
    guard admitsSupervisor, !isSupervisor else { return nil }
    var rules = self
    rules.isSupervisor = true
    let privileged = page.permissions(under: rules)
    return privileged.isEmpty ? nil : MappedAccess(privileged, needsSupervisor: true)
  }

  /// The addresses of a table under these rules: to requests without PASID the interrupt range is no
  /// memory, and no entry leads there.
  func space(byteCount: UInt64, signBit: Int?) -> IOVASpace {
    IOVASpace(
      byteCount: byteCount, signBit: signBit, holes: hasPASID ? [] : [VTd.interruptAddresses],
      unreachable: VTd.interruptAddresses)
  }
}
