/// What a memory has of an address: bytes, or the reason why it has none.
///
/// An address that does not answer is a fact about the machine only when there is no memory of the
/// machine there; all other reasons leave open what the machine held.
public enum Presence: Sendable, Hashable {
  /// Bytes.
  case stored
  /// Zeros that a dump counts and does not store. `makedumpfile -E` leaves pages out in the same
  /// way, so that an ELF core of its making cannot tell the two apart.
  case zeroFill
  /// Memory of the machine that the dump leaves out, as makedumpfile was told to.
  case excluded
  /// In a file of a split dump that was not named.
  case elsewhere
  /// Lost: the file ends before it, or before what would say whether there was memory at all.
  case cutOff
  /// The dump stores it, and what is stored does not make a page.
  case damaged
  /// The dump stores it packed, and the library that unpacks it is not installed.
  ///
  /// - Parameter package: What to install, as Debian names it.
  case locked(package: String)
  /// No memory of the machine, as far as is known.
  case absent

  /// Whether a load of the address answers.
  public var isReadable: Bool { self == .stored || self == .zeroFill }
}

extension Presence {
  /// Where a byte of the machine is that the dump does not hold, as words behind `is`.
  public var whereabouts: String { self == .absent ? "not in this dump" : description }
}

extension Presence: CustomStringConvertible {
  /// A few words that go on a sentence about an address, such as `left out of the dump`.
  public var description: String {
    switch self {
    case .stored: "stored"
    case .zeroFill: "zero fill"
    case .excluded: "left out of the dump"
    case .elsewhere: "in a file of the split dump that was not named"
    case .cutOff: "lost with the end of the dump"
    case .damaged: "damaged in the dump"
    case .locked(let package): "packed, and what unpacks it is not installed (\(package))"
    case .absent: "no memory, as far as the dump says"
    }
  }
}
