/// What a device may do to a page, seen from the device: read memory, write memory.
@frozen
public struct Permissions: OptionSet, Hashable, Sendable, CustomStringConvertible {
  public var rawValue: UInt8
  @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// The device may read memory. Bit 0, as in a TCE and in a VT-d entry.
  @inlinable public static var read: Permissions { Permissions(rawValue: 1) }
  /// The device may write memory. Bit 1, as in a TCE and in a VT-d entry.
  @inlinable public static var write: Permissions { Permissions(rawValue: 2) }
  /// The device may do both.
  @inlinable public static var readWrite: Permissions { Permissions(rawValue: 3) }
  /// Requests of user privilege may pass. Bit 2, as U/S in a VT-d first-stage entry; other tables
  /// know no privilege.
  @inlinable public static var user: Permissions { Permissions(rawValue: 4) }

  /// `rw`, `r-`, `-w` or `--`.
  public var description: String {
    (contains(.read) ? "r" : "-") + (contains(.write) ? "w" : "-")
  }
}
