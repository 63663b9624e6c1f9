import Benchmark
import BenchmarkSupport
import IOMMUWorkloads

/// Registers every comparison of a subject as a benchmark of its own.
///
/// One iteration is one round, in which all contenders take turns: ratios stay ratios within a round,
/// and the percentiles are those of rounds. A ratio comes in thousandths of the reference's time (of
/// its throughput, where more is better), a time in picoseconds for one unit of work. A subject that
/// cannot be laid out, or has a contender that is wrong, becomes one benchmark that fails.
public func register(_ subject: Subject) {
  do {
    for comparison in try subject.comparisons() { register(comparison) }
  } catch {
    let problem = "\(error)"
    Benchmark(subject.name) { $0.error(problem) }
  }
}

private func register(_ comparison: Comparison) {
  let ratios = comparison.ratios.map { ratio in
    BenchmarkMetric.custom(
      "\(ratio.title), ‰",
      polarity: ratio.isOfThroughputs ? .prefersLarger : .prefersSmaller, useScalingFactor: false)
  }
  let times = comparison.contenders.map { contender in
    BenchmarkMetric.custom("\(contender.name), ps per \(comparison.unit)", useScalingFactor: false)
  }
  let names = comparison.contenders.map(\.name)
  // All digits, whatever the size of the number.
  let units = Dictionary(uniqueKeysWithValues: (ratios + times).map { ($0, BenchmarkUnits.count) })
  let configuration = Benchmark.Configuration(
    metrics: ratios + times, units: units, warmupIterations: 0, maxDuration: .seconds(5),
    maxIterations: 21)
  Benchmark(comparison.title, configuration: configuration) { benchmark in
    let round = Rounds.round(
      benchmark.currentIteration, of: comparison.contenders, units: comparison.units,
      clock: comparison.clock)
    for (metric, ratio) in zip(ratios, comparison.ratios) {
      benchmark.measurement(metric, Int((ratio.value(names, round) * 1000).rounded()))
    }
    for (metric, time) in zip(times, round) {
      benchmark.measurement(metric, Int((time * 1000).rounded()))
    }
  }
}
