import IOMMUFormats

extension AMDVi {
  /// What the tables say of one page: what an IOTLB keeps.
  @frozen
  public struct TablePage: Hashable, Sendable {
    /// The page's first byte in memory.
    public var page: PhysicalAddress
    /// The page has 2^`sizeLog2` bytes: the smaller of both stages.
    public var sizeLog2: Int
    /// What host entries allow together; read and write without a host table.
    public var host: Permissions
    /// What guest entries allow together; everything without a guest table.
    public var guest: Permissions
    /// A write leaves no mark that is not there already. A hit of a write on a page that is not dirty
    /// has to walk again.
    public var isDirty: Bool
    /// U of the host's leaf: a device's own TLB is told to ask for every request.
    public var isUntranslatedOnly: Bool
    /// FC of the host's leaf.
    public var forcesCoherence: Bool

    @inlinable
    public init(
      page: PhysicalAddress, sizeLog2: Int, host: Permissions,
      guest: Permissions = [.read, .write, .user, .execute], isDirty: Bool = true,
      isUntranslatedOnly: Bool = false, forcesCoherence: Bool = false
    ) {
      self.page = page
      self.sizeLog2 = sizeLog2
      self.host = host
      self.guest = guest
      self.isDirty = isDirty
      self.isUntranslatedOnly = isUntranslatedOnly
      self.forcesCoherence = forcesCoherence
    }

    /// Why a request to the page is stopped; `nil` when it is not. What the device table entry allows has
    /// been judged before.
    @inlinable
    public func refusal(
      of operation: VTd.Request.Operation, isExecute: Bool = false, under rules: AMDVi.Rules
    ) -> AMDVi.FaultReason? {
      let needs = operation.needs
      if !guest.isSuperset(
        of: AMDVi.guestNeeds(needs, isExecute: isExecute, isSupervisor: rules.isSupervisor))
      {
        return .guestNotPermitted
      }
      return host.isSuperset(of: needs) ? nil : .notPermitted
    }

    /// Answers a request to `address`, which lies in this page, up to the page's end.
    @inlinable
    public func answer(
      to address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation,
      isExecute: Bool = false, under rules: AMDVi.Rules
    ) -> AMDVi.Answer {
      if let reason = refusal(of: operation, isExecute: isExecute, under: rules) {
        return .fault(rules.fault(reason))
      }
      let length = bytesInPage(address, sizeLog2: sizeLog2, atMost: byteCount)
      return .mapped(
        place(address, in: page, sizeLog2: sizeLog2),
        byteCount: sizeLog2 > 12 ? rules.reach(address, atMost: length) : length)
    }
  }

  /// What guest entries have to allow together.
  @inlinable
  static func guestNeeds(
    _ needs: Permissions, isExecute: Bool, isSupervisor: Bool
  ) -> Permissions {
    var all = needs
    if !isSupervisor { all.insert(.user) }
    if isExecute { all.insert(.execute) }
    return all
  }

  /// What tables make of an address.
  @frozen
  public enum PageOutcome: Sendable {
    case page(AMDVi.TablePage)
    case fault(AMDVi.RequestFault)
  }

  /// Judges every entry as the walk meets it, and sets accessed and dirty bits.
  @frozen
  public struct JudgingAccess<Marker: EntryMarker>: TableAccess {
    /// What the entries have to allow together; nothing for a look that judges nothing.
    public let needs: Permissions
    public let notPermitted: AMDVi.FaultReason
    public var marking: MarkingAccess<Marker, AMDVi.FaultReason>

    @inlinable
    public init(
      needs: Permissions, notPermitted: AMDVi.FaultReason,
      marking: MarkingAccess<Marker, AMDVi.FaultReason>
    ) {
      self.needs = needs
      self.notPermitted = notPermitted
      self.marking = marking
    }

    /// Why the walk was refused.
    @inlinable public var refusal: AMDVi.FaultReason? { marking.refusal }

    @inlinable @inline(__always)
    public mutating func locate(
      _ place: PhysicalAddress, level _: Int, observer _: inout some WalkObserver
    ) -> PhysicalAddress? { place }

    @inlinable
    public mutating func use(
      _ entry: UInt64, _ use: EntryUse, observer: inout some WalkObserver
    ) -> UseOutcome {
      guard use.permissions.isSuperset(of: needs) else { return marking.refuse(notPermitted) }
      return marking.use(entry, use, observer: &observer)
    }
  }
}
