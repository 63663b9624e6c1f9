import IOMMUFormats
import IOMMUTranslation

/// A range of I/O addresses that two tables translate differently.
public struct RunDifference: Sendable, Hashable {
  /// What became of the range from the first table to the second.
  public enum Change: String, Sendable, CaseIterable, Encodable {
    case mapped
    case unmapped
    /// The same numbers lead to other memory.
    case reaimed = "re-aimed"
    case permissions
  }

  public var change: Change
  public var iova: Range<IOVA>
  /// Where the first byte went; `nil` for a new mapping.
  public var before: Target?
  /// Where it goes now; `nil` for a mapping that is gone.
  public var after: Target?

  /// Where a range leads, and what may be done there.
  public struct Target: Sendable, Hashable, Encodable {
    public var physical: PhysicalAddress
    public var access: MappedAccess

    public init(physical: PhysicalAddress, access: MappedAccess) {
      self.physical = physical
      self.access = access
    }

    public init(physical: PhysicalAddress, permissions: Permissions) {
      self.init(physical: physical, access: MappedAccess(permissions))
    }

    enum CodingKeys: String, CodingKey { case physical, access }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode("\(physical)", forKey: .physical)
      try container.encode("\(access)", forKey: .access)
    }

    fileprivate func advanced(byBytes byteCount: UInt64) -> Target {
      Target(physical: PhysicalAddress(physical.rawValue &+ byteCount), access: access)
    }
  }

  /// `0xfff00000..<0xfff01000  4 KiB  re-aimed  0x7663000 rw -> 0x1234000 rw`.
  public var text: String {
    let size = byteCountText(iova.byteCount)
    switch change {
    case .mapped: return "mapped       \(iova.text)  \(size)  -> \(after?.text ?? "")"
    case .unmapped: return "unmapped     \(iova.text)  \(size)  was -> \(before?.text ?? "")"
    case .reaimed, .permissions:
      let word = change.rawValue.padded(to: 11)
      return "\(word)  \(iova.text)  \(size)  \(before?.text ?? "") -> \(after?.text ?? "")"
    }
  }
}

extension RunDifference.Target {
  fileprivate var text: String { "\(physical) \(access)" }
}

extension RunDifference: Encodable {
  enum CodingKeys: String, CodingKey { case change, iova, bytes, before, after }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(change, forKey: .change)
    try container.encode("\(iova.lowerBound)", forKey: .iova)
    try container.encode(hexadecimal(iova.byteCount), forKey: .bytes)
    try container.encodeIfPresent(before, forKey: .before)
    try container.encodeIfPresent(after, forKey: .after)
  }
}

extension RunDifference {
  /// What differs between two lists of runs, each ascending by IOVA and without overlaps.
  ///
  /// - Parameters:
  ///   - before: The older list.
  ///   - after: The newer one.
  ///   - unknown: Addresses, half-open, of which one of the lists says nothing: they do not differ.
  /// - Returns: Maximal ranges, ascending.
  /// - Complexity: O(runs of both, and pieces × unknown ranges).
  public static func between(
    _ before: [MappingRun], _ after: [MappingRun], unknown: [Range<IOVA>] = []
  ) -> [RunDifference] {
    RunDifferences(between: before, after, unknown: unknown, limit: .max).told
  }
}

/// What differs between two tables: ranges, and of many the first of them and how many there are.
struct RunDifferences: Sendable {
  /// How many ranges changed in one way, and their bytes.
  struct Tally: Sendable {
    var count = 0
    var byteCount: UInt64 = 0
  }

  /// Maximal ranges, ascending, up to a limit.
  private(set) var told: [RunDifference] = []
  /// All of them.
  private(set) var tallies: [RunDifference.Change: Tally] = [:]

  /// Ranges that are counted and not told.
  var omittedCount: Int { tallies.values.reduce(0) { $0 + $1.count } - told.count }

  /// Nothing differs.
  init() {}

  /// The differences of two lists of runs, as ``RunDifference/between(_:_:unknown:)`` has them.
  init(
    between before: [MappingRun], _ after: [MappingRun], unknown: [Range<IOVA>], limit: Int
  ) {
    var sweep = RunSweep(unknown: unknown, limit: limit)
    var indices = (before: 0, after: 0)
    var position: UInt64 = 0
    while true {
      while indices.before < before.count, before[indices.before].end <= position {
        indices.before += 1
      }
      while indices.after < after.count, after[indices.after].end <= position {
        indices.after += 1
      }
      let old = indices.before < before.count ? before[indices.before] : nil
      let new = indices.after < after.count ? after[indices.after] : nil
      // The next place where one of the two begins or ends.
      var next = UInt64.max
      var isLast = true
      for edge in [old?.start, old?.end, new?.start, new?.end] {
        guard let edge, edge > position else { continue }
        next = min(next, edge)
        isLast = false
      }
      if isLast { break }
      sweep.add(
        position..<next, before: old?.target(at: position), after: new?.target(at: position))
      position = next
    }
    sweep.finish()
    told = sweep.told
    tallies = sweep.tallies
  }
}

extension MappingRun {
  fileprivate var start: UInt64 { iova.lowerBound.rawValue }
  fileprivate var end: UInt64 { iova.upperBound.rawValue }

  /// Where an address of the run leads; `nil` outside it.
  fileprivate func target(at address: UInt64) -> RunDifference.Target? {
    guard iova.contains(IOVA(address)) else { return nil }
    return RunDifference.Target(
      physical: PhysicalAddress(physical.rawValue &+ (address - start)), access: access)
  }
}

/// Joins pieces that are changed in the same way.
private struct RunSweep {
  let unknown: [Range<IOVA>]
  let limit: Int
  var told: [RunDifference] = []
  var tallies: [RunDifference.Change: RunDifferences.Tally] = [:]
  /// May still go on.
  private var last: RunDifference?

  init(unknown: [Range<IOVA>], limit: Int) {
    self.unknown = unknown.sorted { $0.lowerBound < $1.lowerBound }
    self.limit = limit
  }

  /// Adds a piece without what is unknown of it.
  mutating func add(
    _ range: Range<UInt64>, before: RunDifference.Target?, after: RunDifference.Target?
  ) {
    guard before != after else { return }
    var start = range.lowerBound
    func add(upTo end: UInt64) {
      guard start < end else { return }
      let distance = start - range.lowerBound
      join(
        start..<end, before: before?.advanced(byBytes: distance),
        after: after?.advanced(byBytes: distance))
    }
    for gap in unknown where gap.lowerBound.rawValue < range.upperBound {
      guard gap.upperBound.rawValue > start else { continue }
      add(upTo: max(start, gap.lowerBound.rawValue))
      start = min(range.upperBound, gap.upperBound.rawValue)
    }
    add(upTo: range.upperBound)
  }

  private mutating func join(
    _ range: Range<UInt64>, before: RunDifference.Target?, after: RunDifference.Target?
  ) {
    let change: RunDifference.Change =
      switch (before, after) {
      case (nil, _): .mapped
      case (_, nil): .unmapped
      case (let old?, let new?): old.physical == new.physical ? .permissions : .reaimed
      }
    let iova = IOVA(range.lowerBound)..<IOVA(range.upperBound)
    if let last, last.change == change, last.iova.upperBound == iova.lowerBound,
      last.before?.advanced(byBytes: last.iova.byteCount) == before,
      last.after?.advanced(byBytes: last.iova.byteCount) == after
    {
      self.last?.iova = last.iova.lowerBound..<iova.upperBound
    } else {
      finish()
      last = RunDifference(change: change, iova: iova, before: before, after: after)
    }
  }

  /// Counts the last range, which goes on no further, and tells it within the limit.
  mutating func finish() {
    guard let last else { return }
    tallies[last.change, default: RunDifferences.Tally()].count += 1
    tallies[last.change, default: RunDifferences.Tally()].byteCount &+= last.iova.byteCount
    if told.count < limit { told.append(last) }
    self.last = nil
  }
}
