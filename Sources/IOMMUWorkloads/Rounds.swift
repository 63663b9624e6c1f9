import Glibc

/// What time is read from.
public enum Clock: Sendable {
  /// CPU time of the calling thread: what neighbours take away does not count.
  case threadCPU
  /// The clock on the wall, for work that several threads share.
  case wall

  public var nanoseconds: UInt64 {
    var time = timespec()
    // Safe: it fills the local that it is given.
    unsafe clock_gettime(self == .wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// In words, for a table's heading.
  public var title: String { self == .wall ? "wall clock" : "thread CPU time" }
}

/// The middle value; the mean of the two middle ones of an even number. 0 of none.
public func median(_ values: [Double]) -> Double {
  guard !values.isEmpty else { return 0 }
  let sorted = values.sorted()
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// Something whose time is compared with that of others.
public struct Contender {
  public var name: String
  /// Done before each run, and not timed.
  public var reset: () -> Void
  /// Does the work once.
  public var run: () -> Void

  public init(_ name: String, reset: @escaping () -> Void = {}, run: @escaping () -> Void) {
    self.name = name
    self.reset = reset
    self.run = run
  }
}

/// Times of contenders that took turns.
///
/// Each round runs every contender once untimed, so that none inherits another's cache contents, and
/// once timed; every other round goes backwards. Ratios are taken within a round, so that slow drift
/// of a busy machine cancels.
public struct Rounds {
  public let names: [String]
  /// By contender and round, nanoseconds for one unit of work.
  public private(set) var times: [[Double]]

  /// - Parameters:
  ///   - contenders: Whose ``names`` these are, in order.
  ///   - units: Units of work in one run: translations, pages, bytes.
  ///   - rounds: How often each contender is timed.
  ///   - clock: What time is read from.
  public init(
    _ contenders: [Contender], units: Int, rounds: Int, clock: Clock = .threadCPU
  ) {
    names = contenders.map(\.name)
    times = contenders.map { _ in [] }
    for number in 0..<rounds {
      let round = Self.round(number, of: contenders, units: units, clock: clock)
      for (index, time) in round.enumerated() { times[index].append(time) }
    }
  }

  /// Runs one round.
  ///
  /// - Parameters:
  ///   - number: An odd round goes backwards.
  ///   - contenders: All of them, in the order of the answer.
  ///   - units: Units of work in one run: translations, pages, bytes.
  ///   - clock: What time is read from.
  /// - Returns: By contender, nanoseconds for one unit of work.
  public static func round(
    _ number: Int, of contenders: [Contender], units: Int, clock: Clock = .threadCPU
  ) -> [Double] {
    var times = [Double](repeating: 0, count: contenders.count)
    let order = Array(contenders.indices)
    for index in number % 2 == 0 ? order : order.reversed() {
      let contender = contenders[index]
      contender.reset()
      contender.run()
      contender.reset()
      let start = clock.nanoseconds
      contender.run()
      times[index] = Double(clock.nanoseconds - start) / Double(units)
    }
    return times
  }

  /// The median time; `nil` for a contender that did not take part.
  public func time(_ name: String) -> Double? {
    names.firstIndex(of: name).map { median(times[$0]) }
  }

  /// The median of the ratios of one round.
  public func ratio(_ name: String, to reference: String) -> Double? {
    guard let one = names.firstIndex(of: name), let other = names.firstIndex(of: reference) else {
      return nil
    }
    return median(zip(times[one], times[other]).map { $0 / $1 })
  }
}
