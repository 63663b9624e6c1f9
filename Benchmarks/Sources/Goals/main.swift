import BenchmarkSupport
import IOMMUWorkloads

// The goals of the hot path, each a ratio within one run: contenders take turns, thread CPU time, the
// median of same-round ratios. Times are for reading only; machines are noisy.

func padded(_ text: String, _ width: Int) -> String {
  String(repeating: " ", count: max(0, width - text.count)) + text
}

func hundredths(_ value: Double) -> String {
  let scaled = Int((value * 100).rounded())
  return "\(scaled / 100)." + (scaled % 100 < 10 ? "0" : "") + "\(scaled % 100)"
}

func run() throws {
  let rounds = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 11
  let suite = try Suite()
  let walks = try suite.walkGoals(rounds: rounds)
  let flats = try suite.flatGoals(rounds: rounds)
  print("ns per translation, median of \(rounds) rounds of \(Suite.count) (thread CPU time)")
  for measured in walks.times + flats.times {
    print(measured.title)
    for name in measured.rounds.names {
      print("  " + padded(name, 22) + padded(hundredths(measured.rounds.time(name)!), 9))
    }
  }
  print("\nratios within a round, median of \(rounds)")
  print(padded("measured", 9) + padded("goal", 9) + "        what")
  for goal in walks.goals + flats.goals {
    let bound = (goal.isAtLeast ? ">= " : "<= ") + hundredths(goal.bound)
    print(
      padded(hundredths(goal.measured), 9) + padded(bound, 9) + "  "
        + (goal.isMet ? "met   " : "missed") + "  " + goal.what)
  }
}

try run()
