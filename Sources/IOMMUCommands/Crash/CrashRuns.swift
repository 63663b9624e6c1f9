import FoundationEssentials
import IOMMUImages
import IOMMUInspection
import IOMMUKdump

/// Random crashes, or a part of them: what `iommu crash --runs` finds, and what parts are merged from.
package struct CrashRuns: Codable, Equatable {
  /// Machines of the whole series.
  var runs: Int
  /// Both `nil` for a whole series.
  var shard: Int?
  var shards: Int?
  /// When devices that a driver resets come to rest, as the option says it; `nil` for either.
  var reset: String?
  var tally: CrashTally

  /// Machines of a series at most: counts of accesses stay far below what numbers of JSON can hold.
  static let runLimit = 1_000_000_000

  /// The machines of a part: together the parts are the series, each machine once.
  static func indices(of shard: ShardArgument, in runs: Int) -> Range<UInt64> {
    func start(_ index: Int) -> UInt64 {
      UInt64(runs / shard.count * index + min(index, runs % shard.count))
    }
    return start(shard.index - 1)..<start(shard.index)
  }

  private var machineCount: Int {
    guard let shard, let shards else { return runs }
    return Self.indices(of: ShardArgument(index: shard, count: shards), in: runs).count
  }

  /// More of anything comes of no series.
  private static let largestCount = 1 << 53

  /// Looks for numbers that no series comes to; a file may hold any.
  ///
  /// - Throws: ``InputError`` that names the file.
  private func check(_ file: String) throws {
    guard 1...Self.runLimit ~= runs, reset.map({ ResetArgument(rawValue: $0) != nil }) ?? true,
      shards.map({ shards in
        1...Self.runLimit ~= shards && shard.map { 1...shards ~= $0 } == true
      }) ?? (shard == nil)
    else {
      throw InputError("\(file): no part of a series of crashes; play the part again")
    }
    let words = Set(Outcome.allCases.map(\.rawValue))
    let count = machineCount
    var seen: [(CrashStrategy, CrashUnit)] = []
    for entry in tally.entries {
      let ofCrashes =
        [
          entry.failureCount, entry.blockedCount, entry.ownFailureCount, entry.collisionCount,
          entry.luckCount,
        ] + entry.crashes.values + entry.ownIO.values
      let others = [entry.numberCount, entry.numberInRangeCount] + entry.accesses.values
      let isSound =
        entry.crashCount == count && entry.unit.strategies.contains(entry.strategy)
        && ofCrashes.allSatisfy { 0...count ~= $0 }
        && others.allSatisfy { 0...Self.largestCount ~= $0 }
        && entry.numberInRangeCount <= entry.numberCount
        && [entry.strayByteSum, entry.strayByteSquareSum].allSatisfy { $0 >= 0 && $0.isFinite }
        && [entry.crashes, entry.ownIO, entry.accesses].allSatisfy {
          $0.keys.allSatisfy(words.contains)
        }
        && !seen.contains { $0 == (entry.strategy, entry.unit) }
      guard isSound else {
        throw InputError("\(file): numbers that no series comes to; play the part again")
      }
      seen.append((entry.strategy, entry.unit))
    }
  }

  /// What was played, in order.
  private var played: [String] {
    tally.entries.map { "\($0.strategy.rawValue) \($0.unit.rawValue)" }
  }

  /// Adds up the parts of one series.
  ///
  /// - Throws: ``InputError`` when they are not all of one series, each once.
  package static func merge(_ parts: [(file: String, runs: CrashRuns)]) throws -> CrashRuns {
    guard let first = parts.first else {
      throw InputError("nothing to merge; name the JSON files of all parts")
    }
    var sum = CrashRuns(
      runs: first.runs.runs, reset: first.runs.reset, tally: CrashTally(seed: first.runs.tally.seed)
    )
    var files: [Int: String] = [:]
    var played: (file: String, names: [String])?
    for (file, part) in parts {
      try part.check(file)
      guard let shard = part.shard, let shards = part.shards else {
        throw InputError("\(file): a whole series; merge those of --shard I/N")
      }
      guard part.tally.seed == sum.tally.seed else {
        throw InputError(
          "\(file): seed \(part.tally.seed), and \(first.file) has \(sum.tally.seed); merge parts of "
            + "one series")
      }
      guard part.runs == sum.runs, shards == first.runs.shards else {
        throw InputError(
          "\(file): part of \(part.runs) runs in \(shards), and \(first.file) is of \(sum.runs) in "
            + "\(first.runs.shards ?? 0); merge parts of one series")
      }
      guard part.reset == sum.reset else {
        throw InputError(
          "\(file): \(Self.resetText(part.reset)), and \(first.file) has "
            + "\(Self.resetText(sum.reset)); merge parts of one series")
      }
      if let other = files[shard] {
        throw InputError("\(file): part \(shard)/\(shards) again, which \(other) is already")
      }
      files[shard] = file
      if part.machineCount > 0 {
        if let played, played.names != part.played {
          throw InputError(
            "\(file): other strategies or units than \(played.file); merge parts of one series")
        }
        played = played ?? (file, part.played)
      }
      sum.tally.merge(part.tally)
    }
    let shards = first.runs.shards ?? 0
    guard files.count == shards else {
      let missing = (1...).first { files[$0] == nil } ?? 0
      throw InputError("part \(missing)/\(shards) is missing; merge all of them")
    }
    try sum.check("the sum of all parts")
    return sum
  }

  /// Reads what `iommu crash --runs` has written.
  package init(json: [UInt8]) throws {
    self = try JSONDecoder().decode(Self.self, from: Data(json))
  }

  private static func resetText(_ reset: String?) -> String {
    reset.map { "devices reset \($0)" } ?? "devices reset as drawn"
  }

  init(
    runs: Int, shard: Int? = nil, shards: Int? = nil, reset: String? = nil, tally: CrashTally
  ) {
    self.runs = runs
    self.reset = reset
    self.shard = shard
    self.shards = shards
    self.tally = tally
  }
}

// MARK: Text

extension CrashRuns {
  private static let width = 80

  func writeText(to out: inout some TextOutputStream, ink: Ink) {
    let part =
      (reset.map { ", \(Self.resetText($0))" } ?? "")
      + (shards.map { ", part \(shard ?? 0) of \($0)" } ?? "")
    write(
      ink.strong("\(groupedCount(runs, "random machine")), seed \(tally.seed)\(part)"), to: &out)
    var units: [CrashUnit] = []
    for entry in tally.entries where !units.contains(entry.unit) { units.append(entry.unit) }
    for unit in units {
      out.write("\n")
      writeTable(tally.entries.filter { $0.unit == unit }, unit, to: &out, ink: ink)
    }
    out.write("\n")
    for text in [
      "Percent of crashes, below each share its 95 % interval (Wilson): leftover DMA reached the crash "
        + "kernel (KILL) or other memory of the old one (SMEAR), was stopped (BLK), found no memory "
        + "(MA); the capture kernel's own I/O failed (own I/O); the capture kernel handed out a number "
        + "that the device still used (f1); an access would have gone wrong had it fallen into a state "
        + "that lasts for a moment (luck).",
      "Stray: bytes of the crash kernel that leftover DMA changed in a crash, the mean with its "
        + "interval. In range: leftover numbers that lie in the crash kernel's range.",
    ] { write(text, to: &out) }
  }

  private func write(_ line: String, to out: inout some TextOutputStream) {
    for part in wrapped(line, to: Self.width) { out.write(part + "\n") }
  }

  private static let columns = ["KILL", "SMEAR", "BLK", "MA", "own I/O", "f1", "luck"]
  private static let columnWidth = 9

  private func writeTable(
    _ entries: [CrashTally.Entry], _ unit: CrashUnit, to out: inout some TextOutputStream, ink: Ink
  ) {
    let names = entries.reduce(0) { max($0, $1.strategy.rawValue.count) }
    func line(_ name: String, _ cells: [String]) -> String {
      name + String(repeating: " ", count: max(0, names - name.count))
        + cells.map { " " + right($0, Self.columnWidth) }.joined()
    }
    out.write(ink.strong(unit.title) + "\n")
    out.write(line("", Self.columns) + "\n")
    for entry in entries {
      guard entry.crashCount > 0 else { continue }
      let shares = entry.shares.map { Proportion($0, of: entry.crashCount) }
      out.write(line(entry.strategy.rawValue, shares.map { percent($0.value) }) + "\n")
      out.write(
        line(
          "", shares.map { percent($0.interval.lowerBound) + "-" + percent($0.interval.upperBound) }
        )
          + "\n")
    }
    for entry in entries where entry.crashCount > 0 {
      let stray = entry.strayBytes
      let interval =
        stray.halfWidth.isFinite
        ? " (\(rounded(max(0, stray.mean - stray.halfWidth)))-\(rounded(stray.mean + stray.halfWidth)))"
        : ""
      let early = entry.failureCount > 0 ? "; \(grouped(entry.failureCount)) ended early" : ""
      write(
        "\(entry.strategy.rawValue): stray \(rounded(stray.mean))\(interval) bytes; "
          + "\(grouped(entry.numberInRangeCount)) of "
          + "\(groupedCount(entry.numberCount, "number")) in range\(early)", to: &out)
    }
  }

  /// A whole number with commas; no number of a file is too large for it.
  private func rounded(_ value: Double) -> String {
    grouped(Int(min(value.rounded(), 9e15)))
  }

  /// `12.3`, `0.05`, `100`: at most four characters.
  private func percent(_ share: Double) -> String {
    let percent = 100 * share
    if percent == 0 { return "0" }
    // What is not all, or not nothing, is not told as if it were.
    if percent < 0.005 { return "0.00" }
    if percent < 1 { return fixed(percent, digits: 2) }
    if percent == 100 { return "100" }
    return fixed(min(percent, 99.9), digits: 1)
  }
}

extension CrashTally.Entry {
  /// Crashes for each column of the table.
  fileprivate var shares: [Int] {
    [
      crashes[Outcome.kill.rawValue] ?? 0, crashes[Outcome.smear.rawValue] ?? 0, blockedCount,
      crashes[Outcome.masterAbort.rawValue] ?? 0, ownFailureCount, collisionCount, luckCount,
    ]
  }
}
