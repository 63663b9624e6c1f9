import ArgumentParser
import BenchmarkSupport

/// Prints every subject's times and its ratios against their goals. Times are for reading only:
/// machines are noisy.
@main
struct GoalsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "goals",
    abstract: "Ratios within one run, and the goals that they should meet.",
    discussion: """
      Exits 0 whether or not goals are met; 1 when a contender gives a wrong answer.

      subjects:
      \(Subject.all().map { "  \($0.name): \($0.summary)" }.joined(separator: "\n"))
      """)

  @Argument(help: "What to measure; everything when none is named.")
  var subjects: [String] = []

  @Option(help: "How often all contenders take turns.")
  var rounds = 11

  @Option(help: "A dump to read beside those that are made here; may be given again.")
  var dump: [String] = []

  func validate() throws {
    guard rounds > 0 else { throw ValidationError("there is at least one round") }
    for name in subjects where Subject.named(name) == nil {
      throw ValidationError(
        "no subject is called '\(name)'; there are "
          + Subject.all().map(\.name).joined(separator: ", "))
    }
  }

  func run() throws {
    let chosen =
      subjects.isEmpty
      ? Subject.all(dumps: dump) : subjects.compactMap { Subject.named($0, dumps: dump) }
    var report = GoalsReport(rounds: rounds)
    for subject in chosen { try report.measure(subject) }
    report.finish()
  }
}
