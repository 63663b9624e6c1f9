import IOMMUFormats
import IOMMUTranslation
import IOMMUWorkloads

/// One line of the table of goals: a ratio measured in one run, and what it should be.
public struct Goal {
  public var what: String
  public var measured: Double
  /// At most this; for a ratio of throughputs, at least.
  public var bound: Double
  public var isAtLeast = false

  public var isMet: Bool { isAtLeast ? measured >= bound : measured <= bound }
}

/// One workload's rounds, for the table of times.
public struct Measured {
  public var title: String
  public var rounds: Rounds
}

extension Suite {
  /// Translations of one run.
  public static let count = 1 << 18

  /// Runs contenders in turn over the same addresses.
  ///
  /// - Throws: ``WrongAnswer`` when a Swift contender says anything but where the page is.
  public func measure(
    _ title: String, _ runs: [(name: String, run: Run)], _ addresses: [IOVA], kind: TableKind,
    rounds: Int
  ) throws -> Measured {
    let input = UnsafeMutableBufferPointer<IOVA>.allocate(capacity: addresses.count)
    _ = input.initialize(from: addresses)
    let answers = UnsafeMutableBufferPointer<PackedTranslation>.allocate(capacity: addresses.count)
    answers.initialize(repeating: PackedTranslation(rawValue: 0))
    defer {
      input.deallocate()
      answers.deallocate()
    }
    let source = UnsafeBufferPointer(input)
    for item in runs where item.name != "bare load" {
      item.run(source, answers)
      for index in stride(from: 0, to: addresses.count, by: 61) {
        let expected = tables.expected(addresses[index], kind: kind)
        guard answers[index].physical == expected else {
          throw WrongAnswer(contender: item.name, address: addresses[index])
        }
      }
    }
    let contenders = runs.map { item in Contender(item.name) { item.run(source, answers) } }
    return Measured(
      title: title,
      rounds: Rounds(contenders, units: addresses.count, rounds: rounds))
  }

  /// VT-d: the table of times and the goals that follow from them.
  public func walkGoals(rounds: Int) throws -> (times: [Measured], goals: [Goal]) {
    var times: [Measured] = []
    var goals: [Goal] = []
    let workloads: [(name: String, pattern: AddressPattern, span: UInt64)] = [
      ("hot page", .hot, 1 << 30), ("sequential 1 GiB", .sequential, 1 << 30),
      ("random 1 GiB", .random, 1 << 30), ("random 16 GiB", .random, 16 << 30),
      ("Zipf 0.99, 4 GiB", .zipf, 4 << 30),
    ]
    for workload in workloads {
      let measured = try measure(
        "VT-d, \(workload.name)", walkers(),
        workload.pattern.addresses(count: Self.count, span: workload.span), kind: .vtd4Levels,
        rounds: rounds)
      times.append(measured)
      func ratio(_ one: String, _ other: String) -> Double {
        measured.rounds.ratio(one, to: other)!
      }
      goals += [
        Goal(
          what: "single call, not inlined / C call: \(workload.name)",
          measured: ratio("call", "C walk, call"), bound: 1.05),
        Goal(
          what: "single call, inlined / C inlined: \(workload.name)",
          measured: ratio("inlined", "C walk"), bound: 1.05),
        Goal(
          what: "single call / C call with the same checks: \(workload.name)",
          measured: ratio("call", "C checked walk, call"), bound: 1.05),
      ]
      if workload.name == "random 16 GiB" {
        goals += [
          Goal(
            what: "batch / bare load: random 16 GiB", measured: ratio("batch", "bare load"),
            bound: 2.3),
          Goal(
            what: "batch with region cache / bare load: random 16 GiB",
            measured: ratio("batch, regions", "bare load"), bound: 1.4),
        ]
      }
      if workload.name == "sequential 1 GiB" {
        goals.append(
          Goal(
            what: "batch / C single walk: sequential 1 GiB", measured: ratio("batch", "C walk"),
            bound: 0.5))
      }
    }
    return (times, goals)
  }

  /// TCE tables and GATTs.
  public func flatGoals(rounds: Int) throws -> (times: [Measured], goals: [Goal]) {
    var times: [Measured] = []
    var goals: [Goal] = []
    for (name, pattern) in [("hot page", AddressPattern.hot), ("sequential 1 GiB", .sequential)] {
      let addresses = pattern.addresses(count: Self.count, span: 1 << 30)
      let tce = try measure(
        "TCE, \(name)", tceWalkers(tables: 1), addresses, kind: .tce, rounds: rounds)
      let gatt = try measure(
        "GATT, \(name)", gattWalkers(),
        addresses.map { IOVA($0.rawValue + tables.firstAddress(.gatt).rawValue) }, kind: .gatt,
        rounds: rounds)
      times += [tce, gatt]
      goals += [
        Goal(
          what: "TCE single call, not inlined / C call: \(name)",
          measured: tce.rounds.ratio("call", to: "C call")!, bound: 1.05),
        Goal(
          what: "TCE batch / C loop without SIMD: \(name)",
          measured: tce.rounds.ratio("batch", to: "C loop")!, bound: 1.2),
        Goal(
          what: "GATT batch / C loop without SIMD: \(name)",
          measured: gatt.rounds.ratio("batch", to: "C loop")!, bound: 1.2),
      ]
    }
    // Blocks of addresses from four tables of 4 GiB in turn.
    let addresses = AddressPattern.random.addresses(count: Self.count, span: 4 << 30)
      .enumerated().map { IOVA($1.rawValue | UInt64($0 / 256 % 4) << 32) }
    let cold = try measure(
      "TCE, random 16 GiB", tceWalkers(tables: 4), addresses, kind: .tce, rounds: rounds)
    times.append(cold)
    goals += [
      Goal(
        what: "TCE single call, not inlined / C call: random 16 GiB",
        measured: cold.rounds.ratio("call", to: "C call")!, bound: 1.05),
      Goal(
        what: "TCE batch / bare load: random 16 GiB",
        measured: cold.rounds.ratio("batch", to: "bare load")!, bound: 1.2),
    ]
    return (times, goals)
  }
}

/// A contender that is fast and wrong.
public struct WrongAnswer: Error, CustomStringConvertible {
  var contender: String
  var address: IOVA
  public var description: String { "\(contender): wrong answer for \(address)" }
}
