import IOMMUFormats
import IOMMUTranslation

extension TableGap: Encodable {
  enum CodingKeys: String, CodingKey {
    case scope, cause, address, level, table, text
    case from = "loop_table"
    case leadsTo = "leads_to"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(subjectText, forKey: .scope)
    let cause =
      switch cause {
      case .absent: "absent"
      case .loop: "loop"
      case .tooManyReferences: "too many references"
      case .tooMany: "too many"
      case .unseen: "registers not known"
      case .severalUnits, .unitOff: "several units"
      }
    try container.encode(cause, forKey: .cause)
    if case .loop(let loop) = self.cause {
      try container.encode("\(loop.table)", forKey: .from)
      try container.encode("\(loop.target)", forKey: .leadsTo)
    }
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

  /// A unit's root or device table itself is not known: nothing can be said of the devices behind it.
  public var hidesUnit: Bool { gaps.contains { $0.scope == .unit || $0.cause == .unseen } }

  /// More could be known: work was cut at a limit, or at a table that leads to itself. An answer is
  /// not whole then, whatever it says, and a command ends with status 2 unless something is definitely
  /// wrong.
  public var isCut: Bool { gaps.contains(where: \.cause.isLimit) }

  /// Why the answer is not whole, in words; none where no work was cut. Of many reasons the first, and
  /// how many more there are.
  public var incomplete: [String] {
    let cut = gaps.filter(\.cause.isLimit)
    let shown = cut.prefix(Self.lineLimit).map(\.text)
    let left = cut.count - shown.count
    return left > 0 ? shown + ["\(left) more parts of tables not followed"] : shown
  }

  /// The same with those first that hide most: what was left out for its number, and whole units.
  public var byWeight: [TableGap] {
    let isHeavy = { (gap: TableGap) in gap.cause != .absent || gap.scope == .unit }
    return gaps.filter(isHeavy) + gaps.filter { !isHeavy($0) }
  }

  public mutating func add(_ gaps: some Sequence<TableGap>) { self.gaps += gaps }

  /// Lines for one report at most; more are counted.
  private static let lineLimit = 32

  /// Writes a line for each part that is not known.
  public func write(
    to out: inout some TextOutputStream, ink: Ink = .none, names: DeviceNames = .none
  ) {
    for gap in byWeight.prefix(Self.lineLimit) { out.write(ink.warning(gap.text(names)) + "\n") }
    let left = gaps.count - Self.lineLimit
    if left > 0 { out.write(ink.warning("\(left) more parts of tables unknown") + "\n") }
  }
}
