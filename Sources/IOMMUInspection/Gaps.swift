import IOMMUFormats
import IOMMUTranslation

extension TableGap: Encodable {
  enum CodingKeys: String, CodingKey { case scope, cause, address, level, table, text }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(subjectText, forKey: .scope)
    let cause =
      switch cause {
      case .absent: "absent"
      case .tooManyReferences: "too many references"
      case .tooMany: "too many"
      case .unseen: "registers not known"
      case .severalUnits: "several units"
      }
    try container.encode(cause, forKey: .cause)
    try container.encode("\(address)", forKey: .address)
    try container.encode(place, level: .level, table: .table)
    try container.encode(text, forKey: .text)
  }
}

/// What a report could not see, for its reader.
public struct Blindness: Sendable {
  /// Every part of a table that is not known, in the order of the tables.
  public private(set) var gaps: [TableGap] = []

  public init(_ gaps: [TableGap] = []) { self.gaps = gaps }

  /// Nothing was hidden: what was not found is not there.
  public var isEmpty: Bool { gaps.isEmpty }

  /// A unit's root table itself is not known: nothing can be said of the devices behind it.
  public var hidesUnit: Bool { gaps.contains { $0.scope == .unit || $0.cause == .unseen } }

  /// The same with those first that hide most: what was left out for its number, and whole units.
  var byWeight: [TableGap] {
    let isHeavy = { (gap: TableGap) in gap.cause != .absent || gap.scope == .unit }
    return gaps.filter(isHeavy) + gaps.filter { !isHeavy($0) }
  }

  public mutating func add(_ gaps: some Sequence<TableGap>) { self.gaps += gaps }

  /// Lines for one report at most; more are counted.
  private static let lineLimit = 32

  /// Writes a line for each part that is not known.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    for gap in byWeight.prefix(Self.lineLimit) { out.write(ink.warning(gap.text) + "\n") }
    let left = gaps.count - Self.lineLimit
    if left > 0 { out.write(ink.warning("\(left) more parts of tables unknown") + "\n") }
  }
}
