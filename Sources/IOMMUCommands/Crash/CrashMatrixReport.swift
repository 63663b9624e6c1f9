import IOMMUFormats
import IOMMUInspection
import IOMMUKdump
import IOMMUTranslation

/// What `iommu crash` prints of the matrix: every strategy of some units, played.
struct CrashMatrixReport {
  /// A line and the crash that it was read off.
  struct Line {
    var line: MatrixLine
    var crash: PlayedCrash
  }

  var units: [CrashUnit]
  var lines: [Line] = []
  /// Strategies that could not be played, and why.
  var leftOut: [(unit: CrashUnit, strategy: CrashStrategy, reason: String)] = []
  var caches: CacheLevel
  var omitsFlushes: Bool

  private static let width = 80

  /// How many lines the units have.
  static func lineCount(_ units: [CrashUnit]) -> Int {
    units.reduce(0) { $0 + $1.strategies.count }
  }

  func writeText(to out: inout some TextOutputStream, ink: Ink) {
    write(ink.strong("What leftover DMA comes to after a crash, by strategy"), to: &out)
    write(
      "Machine M1: 8 GiB of RAM, crash kernel 128 MiB at 16 MiB; caches: \(caches.rawValue)"
        + (omitsFlushes ? ", not flushed" : ""), to: &out)
    for unit in units {
      let lines = lines.filter { $0.line.unit == unit }
      guard !lines.isEmpty else { continue }
      out.write("\n")
      writeTable(lines.map(\.line), heading: unit.title, to: &out, ink: ink)
    }
    for (unit, strategy, reason) in leftOut {
      write("left out: \(strategy.rawValue) on \(unit.title): \(reason)", to: &out)
    }
    out.write("\n")
    writeLegend(to: &out)
  }

  private func write(_ line: String, to out: inout some TextOutputStream) {
    for part in wrapped(line, to: Self.width) { out.write(part + "\n") }
  }

  /// A title for each line, and below it its columns.
  private func writeTable(
    _ lines: [MatrixLine], heading: String, to out: inout some TextOutputStream, ink: Ink
  ) {
    let rows = LeftoverStream.Row.allCases
    let cells = lines.map { line in rows.map { line.cellText($0) } + [line.ownIOText] }
    let names = rows.map(\.rawValue) + ["d"]
    let widths = names.indices.map { column in
      cells.reduce(names[column].count) { max($0, $1[column].count) }
    }
    func columns(_ texts: [String]) -> String {
      var line = "   "
      for (text, width) in zip(texts, widths) {
        line += " " + text + String(repeating: " ", count: width - text.count)
      }
      while line.last == " " { line.removeLast() }
      return line
    }
    out.write(ink.strong(heading) + "\n")
    out.write(columns(names) + "\n")
    for (line, cells) in zip(lines, cells) {
      write("\(line.strategy.rawValue) \(line.strategy.title)", to: &out)
      out.write(ink.outcomes(columns(cells)) + "\n")
      for text in line.momentTexts {
        for part in wrapped("      \(text)", to: Self.width) {
          out.write(ink.outcomes(part) + "\n")
        }
      }
      if let failure = line.run.failure { write("      ends early: \(failure)", to: &out) }
    }
  }

  private func writeLegend(to out: inout some TextOutputStream) {
    write("P1/P2/P3, one word where all are the same; - is no traffic:", to: &out)
    for phase in MatrixLine.phases { write("  \(phase.rawValue) \(phase.meaning)", to: &out) }
    for row in LeftoverStream.Row.allCases { write("  \(row.rawValue)  \(row.meaning)", to: &out) }
    write("  d  the capture kernel's own I/O", to: &out)
    write(
      "In parentheses: a number that the old kernel could not hand out, so an access there is wild. "
        + "Below a line: what goes wrong in states that last for a moment.", to: &out)
    for outcome in Outcome.allCases where isPresent(outcome) {
      write("  \(outcome.padded) \(outcome.meaning)", to: &out)
    }
    var hints = units.count == 1 ? ["iommu crash --all: every unit"] : []
    hints.append("--strategy S11 --unit vtd: one crash from second to second")
    hints.append("--scenario all: questions that people asked")
    hints.append("--runs 1000: random machines")
    hints.append("--report crash.html: all of it as a page")
    write("More: " + hints.joined(separator: "; "), to: &out)
  }

  private func isPresent(_ outcome: Outcome) -> Bool {
    lines.contains { line in
      line.line.ownIO.contains(outcome)
        || line.line.outcomes.values.contains { $0.values.contains(outcome) }
        || line.line.moments.contains { $0.outcomes.values.contains(outcome) }
    }
  }
}

extension MatrixLine {
  /// The phases of the matrix's columns.
  static let phases: [CrashPhase] = [.panicked, .waiting, .driven]

  /// A row's words, in parentheses where nobody handed the number out although somebody might have.
  func cellText(_ row: LeftoverStream.Row) -> String {
    wildRows.contains(row) ? "(\(text(row)))" : text(row)
  }

  /// The capture kernel's own I/O: one word where all accesses came to the same.
  var ownIOText: String {
    let words = ownIO.map(\.rawValue)
    return Set(words).count == 1 ? words[0] : words.isEmpty ? "-" : words.joined(separator: "/")
  }

  /// What goes wrong in a state that lasts for a moment: `P2 translation off: a MA, c KILL`.
  var momentTexts: [String] {
    moments.compactMap { moment in
      let wrong = wrongAccesses(in: moment)
      guard !wrong.isEmpty else { return nil }
      let words = wrong.map { "\($0.row.rawValue) \($0.outcome.rawValue)" }
      return "\(moment.phase.rawValue) \(moment.step.rawValue): " + words.joined(separator: ", ")
    }
  }

  /// Accesses that do not reach their own buffers; one that nobody handed a number out for goes wrong
  /// where it is not stopped.
  func wrongAccesses(in moment: Moment) -> [(row: LeftoverStream.Row, outcome: Outcome)] {
    LeftoverStream.Row.allCases.compactMap { row in
      guard let outcome = moment.outcomes[row], outcome != .own else { return nil }
      let isStopped = outcome == .blockedRecorded || outcome == .blockedSilently
      return isStopped && (row == .b || wildRows.contains(row)) ? nil : (row, outcome)
    }
  }
}

extension Ink {
  /// A line with every outcome's word in it in its colour.
  func outcomes(_ line: String) -> String {
    guard isOn else { return line }
    var result = ""
    var word = ""
    func flush() {
      result += Outcome(rawValue: word).map(outcome) ?? word
      word = ""
    }
    for character in line {
      if character.isLetter || character == "-" {
        word.append(character)
      } else {
        flush()
        result.append(character)
      }
    }
    flush()
    return result
  }
}

// MARK: JSON

struct CrashMatrixJSON: Encodable {
  struct Moment: Encodable {
    var phase: String
    var state: String
    var outcomes: [String: String]
  }

  struct Line: Encodable {
    var strategy: String
    var unit: String
    var title: String
    var outcomes: [String: [String: String]]
    var wildRows: [String]
    var ownIo: [String]
    var moments: [Moment]
    var failure: String?
    var strayBytes: Int
    var checks: [CrashJSON.Check]
  }

  struct LeftOut: Encodable {
    var strategy: String
    var unit: String
    var reason: String
  }

  var caches: String
  var omitsFlushes: Bool
  var lines: [Line]
  var leftOut: [LeftOut]

  init(_ report: CrashMatrixReport) {
    caches = report.caches.rawValue
    omitsFlushes = report.omitsFlushes
    lines = report.lines.map { line in
      let line = line.line
      func words<Key: RawRepresentable<String>>(_ outcomes: [Key: Outcome]) -> [String: String] {
        Dictionary(
          uniqueKeysWithValues: outcomes.map { ($0.key.rawValue, $0.value.rawValue) })
      }
      return Line(
        strategy: line.strategy.rawValue, unit: line.unit.rawValue, title: line.strategy.title,
        outcomes: Dictionary(
          uniqueKeysWithValues: line.outcomes.map { ($0.key.rawValue, words($0.value)) }),
        wildRows: line.wildRows.map(\.rawValue).sorted(), ownIo: line.ownIO.map(\.rawValue),
        moments: line.moments.map {
          Moment(
            phase: $0.phase.rawValue, state: $0.step.rawValue, outcomes: words($0.outcomes))
        },
        failure: line.run.failure, strayBytes: line.run.strayByteCount,
        checks: line.run.verdicts.map(CrashJSON.Check.init))
    }
    leftOut = report.leftOut.map {
      LeftOut(strategy: $0.strategy.rawValue, unit: $0.unit.rawValue, reason: $0.reason)
    }
  }
}
