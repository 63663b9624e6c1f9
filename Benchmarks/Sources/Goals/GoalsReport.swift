import BenchmarkSupport
import IOMMUWorkloads

/// The tables of times and ratios, printed as they come.
struct GoalsReport {
  private let rounds: Int
  private var goalCount = 0
  private var missed: [String] = []

  /// Prints what the times are taken on.
  init(rounds: Int) {
    self.rounds = rounds
    print("on \(Processor.current)\n")
  }

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
      "  \(comparison.title): ns per \(comparison.unit), \(comparison.clock.title); "
        + "\(grouped(comparison.units)) in one run, median of \(rounds) "
        + (rounds == 1 ? "round" : "rounds"))
    for note in comparison.notes { print("    \(note)") }
    for name in measured.names { row(name, time(measured.time(name)!)) }
    for ratio in comparison.ratios {
      let value = ratio.value(in: measured)
      guard let bound = bound(ratio) else {
        row(ratio.title, fixed(value, 3))
        continue
      }
      let isMet = ratio.isMet(by: value)
      row(ratio.title, fixed(value, 3), "  \(bound)  \(isMet ? "met" : "missed")")
      goalCount += 1
      if !isMet {
        missed.append(
          "\(subject.name), \(comparison.title): \(ratio.title) is \(fixed(value, 3)), "
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
    case .atMost(let bound): "<= \(fixed(bound, 2))"
    case .atLeast(let bound): ">= \(fixed(bound, 2))"
    case nil: nil
    }
  }
}

/// With so many digits after the point, such as `1.05`.
private func fixed(_ value: Double, _ digits: Int) -> String {
  var scale = 1
  for _ in 0..<digits { scale *= 10 }
  let scaled = Int((value * Double(scale)).rounded())
  let fraction = String(scaled % scale)
  return "\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
}

/// Hundredths of short times, whole numbers of long ones.
private func time(_ nanoseconds: Double) -> String {
  nanoseconds < 1000 ? fixed(nanoseconds, 2) : grouped(Int(nanoseconds.rounded()))
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
