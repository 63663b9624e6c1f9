import Glibc

/// CPU time of the calling thread, in nanoseconds.
public func threadNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
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
  /// Does the work once.
  public var run: () -> Void

  public init(_ name: String, run: @escaping () -> Void) {
    self.name = name
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
  /// By contender and round, nanoseconds of thread CPU time for one unit of work.
  public private(set) var times: [[Double]]

  /// - Parameter units: Units of work in one run: translations, pages, bytes.
  public init(_ contenders: [Contender], units: Int, rounds: Int) {
    names = contenders.map(\.name)
    times = contenders.map { _ in [] }
    for round in 0..<rounds {
      let order = Array(contenders.indices)
      for index in round % 2 == 0 ? order : order.reversed() {
        contenders[index].run()
        let start = threadNanoseconds()
        contenders[index].run()
        times[index].append(Double(threadNanoseconds() - start) / Double(units))
      }
    }
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
