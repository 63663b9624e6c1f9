import BenchmarkSupport
import IOMMUWorkloads

/// The tables of times and ratios, printed as they come.
struct GoalsReport {
  private let rounds: Int
  private var goalCount = 0
  private var missed: [String] = []

  init(rounds: Int) { self.rounds = rounds }

  /// Measures and prints all comparisons of a subject.
  mutating func measure(_ subject: Subject) throws {
    print("\(subject.name): \(subject.summary)")
    for comparison in try subject.comparisons() { measure(comparison, of: subject) }
    print("")
  }

  private mutating func measure(_ comparison: Comparison, of subject: Subject) {
    let measured = Rounds(
      comparison.contenders, units: comparison.units, rounds: rounds, clock: comparison.clock)
    print(
      "  \(comparison.title): ns a \(comparison.unit), \(comparison.clock.title), "
        + "median of \(rounds) rounds of \(grouped(comparison.units))")
    for note in comparison.notes { print("    \(note)") }
    for name in measured.names { row(name, digits(measured.time(name)!)) }
    for ratio in comparison.ratios {
      let value = ratio.value(in: measured)
      guard let bound = bound(ratio) else {
        row(ratio.title, hundredths(value))
        continue
      }
      let isMet = ratio.isMet(by: value)
      row(ratio.title, hundredths(value), "  \(bound)  \(isMet ? "met" : "missed")")
      goalCount += 1
      if !isMet {
        missed.append(
          "\(subject.name), \(comparison.title): \(ratio.title) is \(hundredths(value)), "
            + "should be \(bound)")
      }
    }
  }

  /// Prints how many goals were met, and which were not.
  func finish() {
    print("\(goalCount - missed.count) of \(goalCount) goals met")
    for line in missed { print("  missed: \(line)") }
  }

  private func row(_ name: String, _ number: String, _ verdict: String = "") {
    let gap = String(repeating: " ", count: max(1, 56 - name.count - number.count))
    print("    " + name + gap + number + verdict)
  }

  /// Such as `<= 1.05`; `nil` without a goal.
  private func bound(_ ratio: Ratio) -> String? {
    switch ratio.goal {
    case .atMost(let bound): "<= \(hundredths(bound))"
    case .atLeast(let bound): ">= \(hundredths(bound))"
    case nil: nil
    }
  }
}

/// `1.05`.
private func hundredths(_ value: Double) -> String {
  let scaled = Int((value * 100).rounded())
  return "\(scaled / 100)." + (scaled % 100 < 10 ? "0" : "") + "\(scaled % 100)"
}

/// Hundredths of short times, whole numbers of long ones.
private func digits(_ nanoseconds: Double) -> String {
  nanoseconds < 1000 ? hundredths(nanoseconds) : grouped(Int(nanoseconds.rounded()))
}

/// `262,144`.
private func grouped(_ number: Int) -> String {
  let digits = String(number)
  var text = ""
  for (index, digit) in digits.enumerated() {
    if index > 0, (digits.count - index) % 3 == 0 { text += "," }
    text.append(digit)
  }
  return text
}
