import IOMMUFormats

extension VTd {
  /// An address space that devices share: what ``Tables`` make of a domain-id.
  public struct Domain: Hashable, Sendable {
    /// How requests are translated.
    public enum Kind: Hashable, Sendable {
      /// Second-stage tables of 3 to 5 levels.
      case secondStage(levels: Int)
      /// First-stage tables of 4 or 5 levels; scalable mode.
      case firstStage(levels: Int)
      /// First-stage tables of 4 or 5 levels that are a guest's, in its own addresses, and the second stage
      /// of the domain of this number; scalable mode.
      case nested(levels: Int, host: UInt16)
      /// The IOVA is the physical address.
      case passThrough
    }

    /// DID, by which caches tell translations apart.
    public let id: UInt16
    public let kind: Kind
  }
}
