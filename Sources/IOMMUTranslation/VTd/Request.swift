import IOMMUFormats

extension VTd {
  /// A request to a VT-d unit, with all that a bus transaction says.
  public struct Request: Hashable, Sendable {
    /// What is done with memory.
    @frozen
    public enum Operation: Hashable, Sendable, CaseIterable {
      case read
      case write
      /// Reads and writes in one.
      case atomic
      /// A read with no byte enabled: asks whether there is a page, and moves no data.
      case zeroLengthRead
    }

    /// The address type of the transaction.
    @frozen
    public enum Kind: Hashable, Sendable {
      case untranslated
      /// A device with a TLB of its own asks for a translation. `noWrite` is the NW flag: it will
      /// only read.
      case translation(noWrite: Bool)
      /// The address is one that a translation request answered.
      case translated
      /// A device asks software to make a page present.
      case page
    }

    public var requester: Requester
    public var address: UInt64
    public var operation: Operation
    public var kind: Kind
    /// The PASID prefix, where there is one.
    public var pasid: PASID?
    /// PR of the prefix: the request is of supervisor privilege.
    public var isPrivileged: Bool
    /// ER of the prefix: what is read is to be executed.
    public var isExecute: Bool

    public init(
      _ requester: Requester, _ address: IOVA, _ operation: Operation = .read,
      kind: Kind = .untranslated, pasid: PASID? = nil, isPrivileged: Bool = false,
      isExecute: Bool = false
    ) {
      self.requester = requester
      self.address = address.rawValue
      self.operation = operation
      self.kind = kind
      self.pasid = pasid
      self.isPrivileged = isPrivileged
      self.isExecute = isExecute
    }
  }
}

extension VTd.Request.Operation {
  /// The operation of a plain DMA.
  @inlinable
  public init(_ access: Access) { self = access == .read ? .read : .write }

  /// What a page has to allow; a zero-length read is taken for a read here.
  @inlinable
  public var needs: Permissions {
    switch self {
    case .read, .zeroLengthRead: .read
    case .write: .write
    case .atomic: .readWrite
    }
  }
}

extension VTd {
  /// A fault with what decides whether it is recorded.
  @frozen
  public struct RequestFault: Error, Hashable, Sendable {
    public var reason: VTd.FaultReason
    /// No FPD met on the way suppresses the record of a qualified fault.
    public var isReported: Bool

    @inlinable
    public init(_ reason: VTd.FaultReason, isReported: Bool = true) {
      self.reason = reason
      self.isReported = isReported
    }

    /// Whether a fault record is written.
    @inlinable public var isRecorded: Bool { isReported || !reason.isQualified }

    @inlinable public var fault: Fault { .vtd(reason, isRecorded: isRecorded) }
  }
}
