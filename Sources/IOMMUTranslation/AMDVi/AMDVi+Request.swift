import IOMMUFormats

extension AMDVi {
  /// A request to a unit, with all that a bus transaction says.
  public struct Request: Hashable, Sendable {
    /// The device by the number that the unit sees.
    public var requester: Requester
    public var address: UInt64
    public var operation: VTd.Request.Operation
    /// The PASID prefix, where there is one.
    public var pasid: PASID?
    /// Of a request with PASID: it is of supervisor privilege.
    public var isSupervisor: Bool
    /// Of a request with PASID: what is read is to be executed.
    public var isExecute: Bool
    /// The device asks for a translation to keep (ATS).
    public var isTranslation: Bool

    public init(
      _ requester: Requester, _ address: IOVA, _ operation: VTd.Request.Operation = .read,
      pasid: PASID? = nil, isSupervisor: Bool = false, isExecute: Bool = false,
      isTranslation: Bool = false
    ) {
      self.requester = requester
      self.address = address.rawValue
      self.operation = operation
      self.pasid = pasid
      self.isSupervisor = isSupervisor
      self.isExecute = isExecute
      self.isTranslation = isTranslation
    }
  }

  /// Writes there are interrupts, not memory: FEE0_0000h to FEEF_FFFFh. Half-open. Specification: AMD
  /// IOMMU 2.1.4.
  @inlinable public static var interruptAddresses: Range<UInt64> { 0xfee0_0000..<0xfef0_0000 }

  /// What requests of one device have in common once its tables are found.
  @frozen
  public struct Rules: Hashable, Sendable {
    /// DomainID of the device table entry.
    public var domainID: UInt16
    /// SA is clear.
    public var isReported: Bool
    /// SE is set.
    public var isReportedOnce: Bool
    /// IR and IW of the device table entry.
    public var permissions: Permissions
    /// The requests carry a PASID, which no interrupt does.
    public var hasPASID: Bool
    /// The requests are of supervisor privilege; of requests with PASID only.
    public var isSupervisor: Bool
    /// Addresses that pass untranslated, half-open; empty without an exclusion range.
    public var exclusion: Range<UInt64>

    @inlinable
    public init(
      domainID: UInt16 = 0, isReported: Bool = true, isReportedOnce: Bool = false,
      permissions: Permissions = .readWrite, hasPASID: Bool = false, isSupervisor: Bool = false,
      exclusion: Range<UInt64> = 0..<0
    ) {
      self.domainID = domainID
      self.isReported = isReported
      self.isReportedOnce = isReportedOnce
      self.permissions = permissions
      self.hasPASID = hasPASID
      self.isSupervisor = isSupervisor
      self.exclusion = exclusion
    }

    @inlinable
    func fault(_ reason: AMDVi.FaultReason, address: UInt64? = nil) -> AMDVi.RequestFault {
      AMDVi.RequestFault(
        reason, domainID: domainID, address: address, isReported: isReported,
        isReportedOnce: isReportedOnce)
    }

    /// Those that say which requests a page lets pass: nothing of how faults are told.
    var identity: Self {
      var rules = self
      rules.domainID = 0
      rules.isReported = true
      rules.isReportedOnce = false
      return rules
    }

    /// What becomes of an address before any table is asked; `nil` where tables decide.
    ///
    /// The order is that of the manual's readers: interrupts, exclusion, IR and IW.
    @inlinable
    public func answer(
      to address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation
    ) -> AMDVi.Answer? {
      if !hasPASID, AMDVi.interruptAddresses.contains(address) {
        return operation == .write
          ? .interruptMessage : .fault(fault(.interruptRangeNotWritten))
      }
      if exclusion.contains(address) {
        return .mapped(
          PhysicalAddress(address), byteCount: min(byteCount, exclusion.upperBound &- address))
      }
      guard permissions.isSuperset(of: operation.needs) else {
        return .fault(fault(.deviceNotPermitted))
      }
      return nil
    }

    /// Bytes from `address` on to which the same rule applies, at most `byteCount`.
    @inlinable
    func reach(_ address: UInt64, atMost byteCount: UInt64) -> UInt64 {
      var count = byteCount
      if !hasPASID, address < AMDVi.interruptAddresses.lowerBound {
        count = min(count, AMDVi.interruptAddresses.lowerBound &- address)
      }
      if !exclusion.isEmpty, address < exclusion.lowerBound {
        count = min(count, exclusion.lowerBound &- address)
      }
      return count
    }

    /// The addresses of a table under these rules.
    func space(byteCount: UInt64, signBit: Int? = nil) -> IOVASpace {
      IOVASpace(
        byteCount: byteCount, signBit: signBit,
        holes: (hasPASID ? [] : [AMDVi.interruptAddresses])
          + (exclusion.isEmpty ? [] : [exclusion]),
        passing: exclusion.isEmpty ? [] : [exclusion])
    }
  }

  /// What becomes of a request: `Translation` with all that an event says.
  @frozen
  public enum Answer: Equatable, Sendable {
    /// The request's first `byteCount` bytes go to this address.
    case mapped(PhysicalAddress, byteCount: UInt64)
    /// A write to the interrupt address range: a message, not memory.
    case interruptMessage
    /// The unit stops the request.
    case fault(AMDVi.RequestFault)

    /// The answer that all hardware gives.
    public var translation: Translation {
      switch self {
      case .mapped(let address, let byteCount): .mapped(address, byteCount: byteCount)
      case .interruptMessage: .interruptMessage
      case .fault(let fault): .fault(fault.fault)
      }
    }
  }
}
