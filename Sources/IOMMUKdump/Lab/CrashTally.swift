/// What many crashes came to, by strategy.
///
/// Tallies of parts of a series add up to that of the whole, in any order.
public struct CrashTally: Sendable, Codable, Equatable {
  /// One strategy on one unit.
  public struct Entry: Sendable, Codable, Equatable {
    public var strategy: CrashStrategy
    public var unit: CrashUnit
    public var crashCount = 0
    /// Crashes whose strategy came to an end before its time.
    public var failureCount = 0
    /// Crashes in which a leftover access came to such an outcome, or the capture kernel's own I/O did
    /// (``ownIO``), by the outcome's word.
    public var crashes: [String: Int] = [:]
    public var ownIO: [String: Int] = [:]
    /// Crashes in which a leftover access was stopped, recorded or not.
    public var blockedCount = 0
    /// Crashes in which an access of the capture kernel's own I/O did not come to ``Outcome/own``.
    public var ownFailureCount = 0
    /// Leftover accesses by the outcome's word, each state of the machine counted once a stream.
    public var accesses: [String: Int] = [:]
    /// Crashes in which the capture kernel hands out a number that leftover DMA of the device still uses.
    public var collisionCount = 0
    /// Crashes in which an access would have gone wrong had it fallen into a momentary state.
    public var luckCount = 0
    /// Leftover numbers, and those of them that lie inside the crash kernel's range.
    public var numberCount = 0
    public var numberInRangeCount = 0
    /// Bytes of the crash kernel that leftover DMA changed: sum and sum of squares over the crashes.
    public var strayByteSum: Double = 0
    public var strayByteSquareSum: Double = 0

    public init(_ strategy: CrashStrategy, on unit: CrashUnit) {
      self.strategy = strategy
      self.unit = unit
    }

    enum CodingKeys: String, CodingKey {
      case strategy, unit, crashes, accesses
      case crashCount = "crash_count"
      case failureCount = "failure_count"
      case ownIO = "own_io"
      case blockedCount = "blocked_count"
      case ownFailureCount = "own_failure_count"
      case collisionCount = "collision_count"
      case luckCount = "luck_count"
      case numberCount = "number_count"
      case numberInRangeCount = "number_in_range_count"
      case strayByteSum = "stray_byte_sum"
      case strayByteSquareSum = "stray_byte_square_sum"
    }
  }

  /// Where the series began, which tells one from another.
  public var seed: UInt64
  public private(set) var entries: [Entry] = []

  public init(seed: UInt64) { self.seed = seed }

  /// The entry of a strategy on a unit; an empty one where none was played.
  public subscript(strategy: CrashStrategy, unit: CrashUnit) -> Entry {
    get {
      entries.first { $0.strategy == strategy && $0.unit == unit } ?? Entry(strategy, on: unit)
    }
    set {
      if let index = entries.firstIndex(where: { $0.strategy == strategy && $0.unit == unit }) {
        entries[index] = newValue
      } else {
        entries.append(newValue)
      }
    }
  }

  /// Adds what another part of the series came to.
  ///
  /// - Precondition: both have the same seed.
  public mutating func merge(_ other: CrashTally) {
    precondition(seed == other.seed, "parts of one series have one seed")
    for entry in other.entries {
      var sum = self[entry.strategy, entry.unit]
      sum.crashCount += entry.crashCount
      sum.failureCount += entry.failureCount
      sum.crashes.merge(entry.crashes, uniquingKeysWith: +)
      sum.ownIO.merge(entry.ownIO, uniquingKeysWith: +)
      sum.accesses.merge(entry.accesses, uniquingKeysWith: +)
      sum.blockedCount += entry.blockedCount
      sum.ownFailureCount += entry.ownFailureCount
      sum.collisionCount += entry.collisionCount
      sum.luckCount += entry.luckCount
      sum.numberCount += entry.numberCount
      sum.numberInRangeCount += entry.numberInRangeCount
      sum.strayByteSum += entry.strayByteSum
      sum.strayByteSquareSum += entry.strayByteSquareSum
      self[entry.strategy, entry.unit] = sum
    }
  }
}

/// A share of crashes, and how sure it is.
public struct Proportion: Sendable, Equatable {
  public var value: Double
  /// The 95 % interval of Wilson.
  public var interval: ClosedRange<Double>

  /// - Precondition: `count` is at most `total`, and `total` is not 0.
  public init(_ count: Int, of total: Int) {
    precondition(0...total ~= count && total > 0, "a share is of something")
    let n = Double(total)
    let p = Double(count) / n
    let z = 1.959964
    let centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    let reach = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)).squareRoot()
    value = p
    interval = max(0, centre - reach)...min(1, centre + reach)
  }
}

extension CrashTally.Entry {
  /// The mean of the bytes of the crash kernel that leftover DMA changed, and half its 95 % interval.
  public var strayBytes: (mean: Double, halfWidth: Double) {
    guard crashCount > 1 else { return (strayByteSum, .infinity) }
    let n = Double(crashCount)
    let mean = strayByteSum / n
    let variance = max(0, strayByteSquareSum - n * mean * mean) / (n - 1)
    return (mean, 1.959964 * (variance / n).squareRoot())
  }
}
