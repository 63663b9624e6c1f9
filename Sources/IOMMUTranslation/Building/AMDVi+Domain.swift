import IOMMUFormats

extension AMDVi {
  /// An address space that devices share: what ``Tables`` make of a DomainID.
  public struct Domain: Hashable, Sendable {
    /// How requests are translated.
    public enum Kind: Hashable, Sendable {
      /// Host (v1) tables of so many levels, 1 to 6; more are put on top when an address asks for them.
      case host(levels: Int)
      /// Guest (v2) tables of 4 or 5 levels, reached through GCR3 tables, in the machine's addresses.
      case guest(levels: Int)
      /// Guest tables of 4 or 5 levels in a guest's own addresses, and the host tables of the domain of
      /// this number.
      case nested(levels: Int, host: UInt16)
      /// The IOVA is the physical address.
      case passThrough
    }

    public let id: UInt16
    public let kind: Kind
  }
}

extension AMDVi.Domain.Kind {
  /// Levels of guest tables; `nil` for what has none.
  var guestLevels: Int? {
    switch self {
    case .guest(let levels), .nested(let levels, _): levels
    case .host, .passThrough: nil
    }
  }
}
