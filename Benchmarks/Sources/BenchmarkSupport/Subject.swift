import IOMMUWorkloads

/// One matter that is measured: comparisons that belong together, under one name.
///
/// What is compared lives here once; programs differ in how they print it.
public struct Subject: Sendable {
  /// One word, such as `Walk`.
  public let name: String
  /// What is measured, in one line.
  public let summary: String
  private let make: @Sendable () throws -> [Comparison]

  init(
    _ name: String, _ summary: String, comparisons: @escaping @Sendable () throws -> [Comparison]
  ) {
    self.name = name
    self.summary = summary
    make = comparisons
  }

  /// Lays out the workloads, and asks every contender once for answers that are known.
  ///
  /// - Throws: ``WrongAnswer``; or why a workload cannot be laid out.
  public func comparisons() throws -> [Comparison] { try make() }
}

/// Contenders for the same work, and the ratios between their times that are looked at.
public struct Comparison {
  /// The workload, such as `random 16 GiB`.
  public var title: String
  /// What one unit of work is, such as `translation`.
  public var unit: String
  /// Units of work in one run of every contender.
  public var units: Int
  public var contenders: [Contender]
  public var ratios: [Ratio]
  public var clock: Clock
  /// What a reader of the numbers has to know, a line each.
  public var notes: [String]

  init(
    _ title: String, unit: String, units: Int, contenders: [Contender], ratios: [Ratio],
    clock: Clock = .threadCPU, notes: [String] = []
  ) {
    let names = contenders.map(\.name)
    for ratio in ratios {
      precondition(
        names.contains(ratio.name) && names.contains(ratio.reference),
        "\(title): \(ratio.title) is a ratio of contenders")
    }
    self.title = title
    self.unit = unit
    self.units = units
    self.contenders = contenders
    self.ratios = ratios
    self.clock = clock
    self.notes = notes
  }
}

/// How one contender does against another in the same round.
public struct Ratio {
  /// What the ratio should be.
  public enum Goal: Sendable {
    /// Of times, for one unit of work.
    case atMost(Double)
    /// Of throughputs.
    case atLeast(Double)
  }

  public var name: String
  public var reference: String
  /// `nil` for a ratio that is only told.
  public var goal: Goal?

  init(_ name: String, to reference: String, _ goal: Goal? = nil) {
    self.name = name
    self.reference = reference
    self.goal = goal
  }

  /// Such as `call / C call`.
  public var title: String { "\(name) / \(reference)" }

  /// The ratio of throughputs counts, and more is better.
  public var isOfThroughputs: Bool { if case .atLeast = goal { true } else { false } }

  /// The ratio in one round.
  ///
  /// - Parameters:
  ///   - names: Those of the contenders, in the order of `times`.
  ///   - times: For one unit of work, in any unit of time.
  public func value(_ names: [String], _ times: [Double]) -> Double {
    let one = times[names.firstIndex(of: name)!]
    let other = times[names.firstIndex(of: reference)!]
    return isOfThroughputs ? other / one : one / other
  }

  /// The median of the rounds' ratios.
  public func value(in rounds: Rounds) -> Double {
    median(
      (rounds.times.first ?? []).indices.map { round in
        value(rounds.names, rounds.times.map { $0[round] })
      })
  }

  /// Whether a ratio meets the goal; true without one.
  public func isMet(by ratio: Double) -> Bool {
    switch goal {
    case .atMost(let bound): ratio <= bound
    case .atLeast(let bound): ratio >= bound
    case nil: true
    }
  }
}

/// A contender that is fast and wrong.
public struct WrongAnswer: Error, CustomStringConvertible {
  public let description: String

  init(_ contender: String, _ what: String) {
    description = "\(contender): wrong answer for \(what)"
  }
}
