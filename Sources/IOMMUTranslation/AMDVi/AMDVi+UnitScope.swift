import IOMMUFormats

extension AMDVi {
  /// Which devices are behind a unit, and by which numbers it sees them, as far as an IVRS table says it.
  ///
  /// Specification: AMD IOMMU 5.2.2.
  public struct UnitScope: Sendable {
    /// One reference: units are copied often.
    private let index: Index
    /// What firmware says of all units.
    public var table: AMDVi.IVRS { index.table }
    /// Where the registers lie.
    public var base: PhysicalAddress { index.base }
    /// The PCI segment of the devices; `nil` where the table lists no such unit.
    public var segment: UInt16? { index.segment }

    private final class Index: Sendable {
      let table: AMDVi.IVRS
      let base: PhysicalAddress
      let segment: UInt16?
      let own: [AMDVi.IVRS.Block.Span]
      let others: [AMDVi.IVRS.Block.Span]

      init(_ table: AMDVi.IVRS, _ base: PhysicalAddress) {
        self.table = table
        self.base = base
        let units = table.units
        let segment = units.first { $0.base == base }?.segment
        self.segment = segment
        own = units.filter { $0.base == base }.flatMap(\.spans)
        others = units.filter { $0.base != base && $0.segment == segment }.flatMap(\.spans)
      }
    }

    /// The scope of the unit at a place.
    ///
    /// - Complexity: O(entries of the table).
    public init(_ table: AMDVi.IVRS, base: PhysicalAddress) { index = Index(table, base) }

    /// Whether a device is behind the unit.
    public enum Answer: Hashable, Sendable {
      case inside
      /// It is behind another.
      case outside
      /// The table names no unit for it.
      case unlisted
    }

    /// Whether a device of ``segment`` is behind the unit.
    public func answer(for requester: Requester) -> Answer {
      func isListed(_ spans: [AMDVi.IVRS.Block.Span]) -> Bool {
        spans.contains { $0.devices.contains(requester.rawValue) }
      }
      if isListed(index.own) { return .inside }
      return isListed(index.others) ? .outside : .unlisted
    }

    /// The devices behind the unit, in ranges as the table has them.
    public var devices: [ClosedRange<UInt16>] { index.own.map(\.devices) }

    /// The devices whose requests carry another's number, with that one; ascending.
    var aliases: [(device: Requester, source: Requester)] {
      var sources: [UInt16: Requester] = [:]
      for span in index.own {
        guard let source = span.source else { continue }
        for number in span.devices { sources[number] = source }
      }
      return sources.filter { $0.key != $0.value.rawValue }.sorted { $0.key < $1.key }
        .map { (Requester(rawValue: $0.key), $0.value) }
    }

    /// The number that a device's requests carry: another's for an alias.
    public func source(of requester: Requester) -> Requester {
      index.own.last { $0.devices.contains(requester.rawValue) && $0.source != nil }?.source
        ?? requester
    }
  }
}

extension AMDVi.UnitScope: Hashable {
  public static func == (left: Self, right: Self) -> Bool {
    left.base == right.base && left.table == right.table
  }
  public func hash(into hasher: inout Hasher) { hasher.combine(base) }
}

extension AMDVi.IVRS {
  /// A machine's units with what the table says of them, and behind them those of which only the table
  /// says that they are there.
  ///
  /// A unit of which nobody knows the place has the table's, where that lists one alone.
  package func completing(_ units: [TranslationUnit]) -> [TranslationUnit] {
    let places = Set(self.units.map(\.base)).sorted()
    var known: Set<PhysicalAddress> = []
    var hasUnplaced = false
    let completed = units.map { unit -> TranslationUnit in
      guard var own = unit.as(AMDVi.Unit.self) else { return unit }
      if own.base.rawValue == 0, places.count == 1 { own.base = places[0] }
      guard own.base.rawValue != 0 else {
        hasUnplaced = true
        return unit
      }
      known.insert(own.base)
      let scope = AMDVi.UnitScope(self, base: own.base)
      own.segment = own.segment ?? scope.segment
      own.scope = scope
      return .amdvi(own)
    }
    // Which of the others is the one without a place, nobody knows.
    guard !hasUnplaced else { return completed }
    return completed
      + places.filter { !known.contains($0) }.map {
        TranslationUnit(AMDVi.UnseenUnit(AMDVi.UnitScope(self, base: $0)))
      }
  }
}
