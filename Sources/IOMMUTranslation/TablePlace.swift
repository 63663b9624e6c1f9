import IOMMUFormats

/// A kind of table above the page tables or beside them, as its manual names it.
@frozen
public struct UpperTableKind: Hashable, Sendable, CustomStringConvertible {
  /// How many tables lie between this one and the page tables, this one counted: 1 for those whose
  /// entries lead to page tables, 0 for those that lead to none.
  public let height: Int
  public let name: StaticString

  @inlinable
  public init(height: Int, _ name: StaticString) {
    self.height = height
    self.name = name
  }

  public static func == (left: Self, right: Self) -> Bool {
    left.height == right.height && "\(left.name)" == "\(right.name)"
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(height) }

  public var description: String { "\(name)" }
}

/// Where an entry stands between a unit's registers and memory.
@frozen
public enum TablePlace: Hashable, Sendable, Comparable {
  /// In a page table; entries of level 1 map the smallest pages.
  case level(Int)
  /// In a table above the page tables.
  case upper(UpperTableKind)

  /// The level in the page tables; `nil` above them.
  @inlinable public var level: Int? { if case .level(let level) = self { level } else { nil } }

  /// From the pages up.
  public static func < (left: Self, right: Self) -> Bool {
    switch (left, right) {
    case (.level(let left), .level(let right)): left < right
    case (.level, .upper): true
    case (.upper, .level): false
    case (.upper(let left), .upper(let right)): left.height < right.height
    }
  }
}
