import IOMMUFormats

/// What an entry says of a page beside its address and what devices may do to it.
///
/// One set for all formats, as `Permissions` is; a format can express some of it, and refuses the rest
/// (``WritableTableFormat/expressibleAttributes``).
@frozen
public struct PageAttributes: OptionSet, Hashable, Sendable {
  public var rawValue: UInt16
  @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// Accesses look into the processors' caches: SNP of a VT-d second-stage leaf, FC of an AMD-Vi host
  /// leaf, C of a GATT entry.
  @inlinable public static var snooped: Self { Self(rawValue: 1 << 0) }
  /// A: a walk has used the entry; set in advance where hardware need not do it.
  @inlinable public static var accessed: Self { Self(rawValue: 1 << 1) }
  /// D: the page was written; set in advance where hardware need not do it.
  @inlinable public static var dirty: Self { Self(rawValue: 1 << 2) }
  /// U/S is clear: requests of user privilege, which all without PASID are, may not pass. VT-d first
  /// stage and AMD-Vi guest tables.
  @inlinable public static var supervisorOnly: Self { Self(rawValue: 1 << 3) }
  /// XD or NX: what is read may not be executed. VT-d first stage and AMD-Vi guest tables.
  @inlinable public static var noExecute: Self { Self(rawValue: 1 << 4) }
  /// IPAT of a VT-d second-stage leaf: the memory type counts alone.
  @inlinable public static var ignoresPAT: Self { Self(rawValue: 1 << 5) }

  /// A memory type: EMT of a VT-d second-stage leaf; of long-mode entries, PAT, PCD and PWT as the number
  /// of an entry of the page attribute table. 0 says nothing.
  ///
  /// - Precondition: `code` is 0 to 7.
  public static func memoryType(_ code: UInt8) -> Self {
    precondition(code < 8, "a memory type has three bits")
    return Self(rawValue: UInt16(code) << memoryTypeShift)
  }

  /// The memory type, 0 to 7.
  @inlinable public var memoryType: UInt8 {
    UInt8(truncatingIfNeeded: rawValue >> Self.memoryTypeShift) & 7
  }

  /// Every memory type.
  @inlinable public static var memoryTypes: Self { Self(rawValue: 7 << memoryTypeShift) }

  @inlinable static var memoryTypeShift: UInt16 { 8 }

  private static let names: [(Self, String)] = [
    (.snooped, "snooped"), (.accessed, "accessed"), (.dirty, "dirty"),
    (.supervisorOnly, "supervisor only"), (.noExecute, "no execute"),
    (.ignoresPAT, "ignores PAT"),
  ]
}

extension PageAttributes: CustomStringConvertible {
  /// `snooped, memory type 6`, or `none`.
  public var description: String {
    let words =
      Self.names.filter { contains($0.0) }.map(\.1)
      + (memoryType == 0 ? [] : ["memory type \(memoryType)"])
    return words.isEmpty ? "none" : words.joined(separator: ", ")
  }
}

/// Which sizes of pages a range is mapped in.
@frozen
public struct PageSizes: Hashable, Sendable {
  /// The largest size, as a power of two.
  public let largestLog2: Int
  /// A unit without the largest size takes the next smaller one it has.
  public let isLenient: Bool
  /// A page never takes the place of a table: smaller pages go into the table.
  public let keepsTables: Bool

  @inlinable
  init(largestLog2: Int, isLenient: Bool, keepsTables: Bool) {
    self.largestLog2 = largestLog2
    self.isLenient = isLenient
    self.keepsTables = keepsTables
  }

  /// Pages of 4 KiB alone.
  @inlinable public static var smallest: Self {
    Self(largestLog2: 12, isLenient: false, keepsTables: false)
  }
  /// The largest pages that the unit has and both addresses and what is left to map allow.
  @inlinable public static var largest: Self {
    Self(largestLog2: 63, isLenient: true, keepsTables: false)
  }
  /// The same, up to pages of 2^`sizeLog2` bytes, a size that the unit must have.
  @inlinable public static func upTo(log2 sizeLog2: Int) -> Self {
    Self(largestLog2: sizeLog2, isLenient: false, keepsTables: false)
  }
  /// The same sizes, and tables that are there stay.
  @inlinable public var keepingTables: Self {
    Self(largestLog2: largestLog2, isLenient: isLenient, keepsTables: true)
  }
}

/// What becomes of a larger page of which only a part is mapped anew or taken away.
@frozen
public enum PartlyChangedPage: Sendable {
  /// Smaller pages take its place, so that the rest goes on as it was: what drivers do.
  case split
  /// The change is refused, and nothing is stored.
  case refused
  /// All of it goes.
  case dropped
}
