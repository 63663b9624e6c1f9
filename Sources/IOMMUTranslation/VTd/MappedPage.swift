import IOMMUFormats

/// What the tables say of one page: what an IOTLB keeps.
///
/// ``translation(of:byteCount:for:under:)`` answers a request from it without reading a table, so
/// that a hit and a walk end in the same words.
@frozen
public struct MappedPage: Hashable, Sendable {
  /// The page's first byte in memory.
  public var page: PhysicalAddress
  /// The page has 2^`sizeLog2` bytes: the smaller of both stages.
  public var sizeLog2: Int
  /// What the first-stage entries allow together, U/S among it; everything without first stage.
  public var firstStage: Permissions
  /// What the second-stage entries allow together; read and write without second stage.
  public var secondStage: Permissions
  /// A write leaves no mark that is not there already. A hit of a write on a page that is not dirty
  /// has to walk again.
  public var isDirty: Bool

  @inlinable
  public init(
    page: PhysicalAddress, sizeLog2: Int, firstStage: Permissions, secondStage: Permissions,
    isDirty: Bool
  ) {
    self.page = page
    self.sizeLog2 = sizeLog2
    self.firstStage = firstStage
    self.secondStage = secondStage
    self.isDirty = isDirty
  }

  /// Every permission there is, for a stage that is not used.
  @inlinable public static var unrestricted: Permissions { [.read, .write, .user] }

  /// What requests under `rules` may do.
  @inlinable
  public func permissions(under rules: VTd.Rules) -> Permissions {
    var allowed = secondStage.intersection(.readWrite)
    if !firstStage.isSuperset(of: rules.firstStageReadNeeds) { allowed.remove(.read) }
    if !firstStage.isSuperset(of: rules.firstStageWriteNeeds) { allowed.remove(.write) }
    return allowed
  }

  /// Why an operation is not permitted; `nil` when it is.
  ///
  /// Of several reasons the one that a walk meets first: user before write before read, the first
  /// stage before the second.
  @inlinable
  public func refusal(
    of operation: VTd.Request.Operation, under rules: VTd.Rules
  ) -> VTd.FaultReason? {
    var needs = operation.needs
    if operation == .zeroLengthRead, rules.allowsZeroLengthReads,
      !permissions(under: rules).isEmpty
    {
      needs = []
    }
    if permissions(under: rules).isSuperset(of: needs) { return nil }
    guard rules.isScalable else {
      return needs.contains(.write) && !secondStage.contains(.write)
        ? .writeNotPermitted : .readNotPermitted
    }
    if !firstStage.isSuperset(of: rules.firstStageReadNeeds) { return .userNotPermitted }
    if needs.contains(.write), !firstStage.isSuperset(of: rules.firstStageWriteNeeds) {
      return .scalableWriteNotPermitted
    }
    if secondStage.isDisjoint(with: .readWrite) { return .secondStageEntryNotPresent }
    return needs.contains(.write) && !secondStage.contains(.write)
      ? .scalableWriteNotPermitted : .scalableReadNotPermitted
  }

  /// Answers an untranslated request to `address`, which lies in this page.
  ///
  /// Judges permissions and the interrupt address range, and cuts the request at the end of the
  /// page.
  @inlinable
  public func translation(
    of address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation,
    under rules: VTd.Rules
  ) -> Translation {
    if let reason = refusal(of: operation, under: rules) { return rules.fault(reason) }
    let physical = place(address, in: page, sizeLog2: sizeLog2)
    // A page in the interrupt range is no memory.
    guard !VTd.isInterruptAddress(physical.rawValue) else {
      return rules.fault(
        rules.isScalable ? .scalableInterruptAddressReached : .interruptAddressReached)
    }
    var length = bytesInPage(address, sizeLog2: sizeLog2, atMost: byteCount)
    // The interrupt range starts at a multiple of 2 MiB: only a larger page can run into it.
    if sizeLog2 > VTd.Paging.sizeLog2(level: 2) {
      if !rules.hasPASID { length = bytesBeforeInterruptRange(address, atMost: length) }
      length = bytesBeforeInterruptRange(physical.rawValue, atMost: length)
    }
    return .mapped(physical, byteCount: length)
  }
}

/// What a stage makes of an address before anybody judges the permissions.
@frozen
public enum PageOutcome: Sendable {
  case page(MappedPage)
  case fault(VTd.FaultReason)
}
