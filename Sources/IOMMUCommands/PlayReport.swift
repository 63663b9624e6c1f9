import IOMMUFormats
import IOMMUKdump
import IOMMURule
import IOMMUTranslation

/// What `iommu play` prints.
struct PlayReport {
  var results: [PlayResult] = []
  /// Cases that were not played, and why.
  var leftOut: [(mode: TranslationMode, reason: String)] = []

  /// The first screen is read in any terminal.
  private static let width = 80

  func writeText(to out: inout some TextOutputStream) {
    guard let first = results.first else { return }
    let map = first.configuration.map
    write(
      "Kdump IO Rule: \(map.ramText) of RAM, crash kernel \(map.crashKernelText)", to: &out)
    let devices = first.configuration.devices.map { "\($0.name) \($0.requester)" }
    write("devices: " + devices.joined(separator: ", "), to: &out)
    for (mode, reason) in leftOut { write("left out: \(mode.title): \(reason)", to: &out) }
    out.write("\n")
    writeOutcomes(to: &out)
    writeCosts(to: &out)
    for result in results {
      for verdict in result.with.verdicts
      where verdict.outcome == .broken && !verdict.rule.isBrokenByDesign {
        for finding in verdict.findings.prefix(3) {
          let device = finding.subjectText.map { " \($0):" } ?? ""
          write(
            "\(result.configuration.mode.title): \(verdict.rule):\(device) \(finding.text)",
            to: &out)
        }
      }
    }
    let exposed = results.filter { result in
      result.with.verdicts.contains { $0.rule == .exposure && $0.outcome == .broken }
    }
    if !exposed.isEmpty {
      write(
        "The price (R13): before the crash, devices can write the crash kernel: "
          + exposed.map(\.configuration.mode.title).joined(separator: ", "), to: &out)
    }
  }

  private func write(_ line: String, to out: inout some TextOutputStream) {
    for part in wrapped(line, to: Self.width) { out.write(part + "\n") }
  }

  /// What became of each access, with the Rule and without it.
  private func writeOutcomes(to out: inout some TextOutputStream) {
    func table(_ cell: ([String]) -> [String]) -> TextTable {
      var table = TextTable(header: ["case", "Rule", "leftover DMA", "kdump I/O", "verdict"])
      for result in results {
        for (name, rule, report) in [
          (result.configuration.mode.title, "with", result.with), ("", "without", result.without),
        ] {
          table.rows.append([
            [name], [rule], cell(counts(report.counts(of: .leftover))),
            cell(counts(report.counts(of: .kdump))), [report.ruleHolds ? "works" : "fails"],
          ])
        }
      }
      return table
    }
    let wide = table { [$0.joined(separator: ", ")] }
    (wide.width <= Self.width ? wide : table { $0 }).write(to: &out)
    out.write("\nOutcomes are judged by the bytes:\n")
    for outcome in Outcome.allCases where isPresent(outcome) {
      let name = outcome.rawValue + String(repeating: " ", count: 6 - outcome.rawValue.count)
      write("  \(name) \(outcome.meaning)", to: &out)
    }
    out.write("\n")
  }

  /// What the identity map of the crash kernel took.
  private func writeCosts(to out: inout some TextOutputStream) {
    var table = TextTable(
      header: ["case", "tables", "entries", "bytes", "pages", "space", "time"], numbers: 1...6)
    var others: [String] = []
    for result in results {
      let name = result.configuration.mode.title
      guard let setUp = result.with.setUp, let first = setUp.tables.first else {
        others.append(name)
        continue
      }
      let isSame = Set(setUp.tables.map(\.identityEntryCount)).count == 1
      table.rows.append([
        [name], ["\(setUp.tables.count)"],
        [(isSame ? grouped(first.identityEntryCount) : "differ") + " " + first.entryName]
          + (first.entryCount.map { ["of " + grouped($0)] } ?? []),
        [sizeText(first.identityEntryByteCount)]
          + (first.tableByteCount.map { ["of " + sizeText($0)] } ?? []),
        [grouped(first.reservedPageCount)], [percentage(first.shareOfSpace)],
        [milliseconds(setUp.duration)],
      ])
    }
    if !table.rows.isEmpty {
      write(
        "What the Rule takes: entries, bytes, pages and space in each table, time in all", to: &out)
      table.write(to: &out)
    }
    if !others.isEmpty {
      write(others.joined(separator: ", ") + ": nothing, no table stands in the way", to: &out)
    }
    out.write("\n")
  }

  private func isPresent(_ outcome: Outcome) -> Bool {
    results.contains { result in
      (result.with.accesses + result.without.accesses).contains { $0.outcome == outcome }
    }
  }

  private func counts(_ counts: OutcomeCounts) -> [String] {
    Outcome.allCases.filter { counts[$0] > 0 }
      .map { "\(counts[$0])/\(counts.total) \($0.rawValue)" }
  }

  // MARK: JSON

  var json: PlayJSON {
    PlayJSON(
      cases: results.map(CaseJSON.init),
      leftOut: leftOut.map { PlayJSON.LeftOut(mode: $0.mode.rawValue, reason: $0.reason) })
  }
}

extension MemoryMap {
  /// `8 GiB`: where firmware has taken its 384 KiB below 1 MiB, they are part of what was bought.
  var ramText: String {
    let firmware = PhysicalAddress(0xa_0000)..<PhysicalAddress(0x10_0000)
    let hasGap =
      ram.contains { $0.upperBound == firmware.lowerBound }
      && ram.contains { $0.lowerBound == firmware.upperBound }
    return sizeText(ram.reduce(0) { $0 + $1.byteCount } + (hasGap ? firmware.byteCount : 0))
  }

  /// `128 MiB at 16 MiB`, several with commas.
  var crashKernelText: String {
    crashKernel.map { "\(sizeText($0.byteCount)) at \(sizeText($0.lowerBound.rawValue))" }
      .joined(separator: ", ")
  }
}

/// Rows of cells in columns, each as wide as its longest line; a cell may have several lines.
struct TextTable {
  /// Each row's cells, each cell's lines.
  var rows: [[[String]]] = []
  private let header: [String]
  /// Columns whose texts end at the same place.
  private let numbers: ClosedRange<Int>?

  init(header: [String], numbers: ClosedRange<Int>? = nil) {
    self.header = header
    self.numbers = numbers
  }

  private var widths: [Int] {
    header.indices.map { column in
      rows.reduce(header[column].count) { width, row in
        row[column].reduce(width) { max($0, $1.count) }
      }
    }
  }

  /// Columns of the longest line there can be.
  var width: Int { widths.reduce(0) { $0 + $1 + 2 } - 2 }

  func write(to out: inout some TextOutputStream) {
    let widths = widths
    for row in [header.map { [$0] }] + rows {
      for index in 0..<row.reduce(1, { max($0, $1.count) }) {
        let cells = row.enumerated().map { column, lines in
          let text = index < lines.count ? lines[index] : ""
          let fill = String(repeating: " ", count: widths[column] - text.count)
          return numbers?.contains(column) == true ? fill + text : text + fill
        }
        var line = cells.joined(separator: "  ")
        while line.last == " " { line.removeLast() }
        out.write(line + "\n")
      }
    }
  }
}

/// `3.125 %`, without zeros at the end.
func percentage(_ share: Double) -> String {
  let thousandths = Int((share * 100_000).rounded())
  var text = "\(thousandths / 1000)." + String(String(thousandths % 1000 + 1000).dropFirst())
  while text.last == "0" { text.removeLast() }
  if text.last == "." { text.removeLast() }
  return text + " %"
}

/// `1.23 ms`.
func milliseconds(_ duration: Duration) -> String {
  let (seconds, attoseconds) = duration.components
  let hundredths = seconds * 100_000 + attoseconds / 10_000_000_000_000
  let fraction = String(String(hundredths % 100 + 100).dropFirst())
  return "\(hundredths / 100).\(fraction) ms"
}

struct PlayJSON: Encodable {
  struct LeftOut: Encodable {
    var mode: String
    var reason: String
  }

  var cases: [CaseJSON]
  var leftOut: [LeftOut]

  enum CodingKeys: String, CodingKey {
    case cases
    case leftOut = "left_out"
  }
}

struct CaseJSON: Encodable {
  var mode: String
  var ram: [[String]]
  var crashKernel: [[String]]
  var devices: [DeviceJSON]
  var withRule: CrashJSON
  var withoutRule: CrashJSON

  enum CodingKeys: String, CodingKey {
    case mode, ram, devices
    case crashKernel = "crash_kernel"
    case withRule = "with_rule"
    case withoutRule = "without_rule"
  }

  init(_ result: PlayResult) {
    mode = result.configuration.mode.rawValue
    ram = result.configuration.map.ram.map(\.ends)
    crashKernel = result.configuration.map.crashKernel.map(\.ends)
    devices = result.configuration.devices.map(DeviceJSON.init)
    withRule = CrashJSON(result.with)
    withoutRule = CrashJSON(result.without)
  }
}

struct DeviceJSON: Encodable {
  var name: String
  var requester: String
  var dmaMask: String
  enum CodingKeys: String, CodingKey {
    case name, requester
    case dmaMask = "dma_mask"
  }
  init(_ device: Device) {
    name = device.name
    requester = "\(device.requester)"
    dmaMask = hexadecimal(device.dmaMask)
  }
}

struct CrashJSON: Encodable {
  struct Table: Encodable {
    var table: String
    var entry: String
    var identityEntries: UInt64
    var writtenEntries: UInt64
    var identityBytes: String
    var newTablePages: UInt64
    var reservedPages: UInt64
    var tableEntries: UInt64?
    var tableBytes: String?
    var spaceBytes: String
    var shareOfSpace: Double
    enum CodingKeys: String, CodingKey {
      case table, entry
      case identityEntries = "identity_entries"
      case writtenEntries = "written_entries"
      case identityBytes = "identity_bytes"
      case newTablePages = "new_table_pages"
      case reservedPages = "reserved_pages"
      case tableEntries = "table_entries"
      case tableBytes = "table_bytes"
      case spaceBytes = "space_bytes"
      case shareOfSpace = "share_of_space"
    }
  }

  struct SetUp: Encodable {
    var tables: [Table]
    var nanoseconds: Int64
  }

  struct AccessJSON: Encodable {
    var owner: String
    var requester: String
    var access: String?
    var iova: String
    var bytes: String
    var physical: [[String]]
    var changedBytes: Int
    var fault: String?
    var outcome: String
    enum CodingKeys: String, CodingKey {
      case owner, requester, access, iova, bytes, physical, fault, outcome
      case changedBytes = "changed_bytes"
    }
  }

  struct Check: Encodable {
    var rule: String
    var statement: String
    var outcome: String
    var byDesign: Bool
    var findings: [String]
    enum CodingKeys: String, CodingKey {
      case rule, statement, outcome, findings
      case byDesign = "by_design"
    }

    init(_ verdict: RuleVerdict) {
      rule = "\(verdict.rule)"
      statement = verdict.rule.statement
      outcome = verdict.outcome.rawValue
      byDesign = verdict.rule.isBrokenByDesign
      findings = verdict.findings.map { finding in
        (finding.subjectText.map { "\($0): " } ?? "") + finding.text
      }
    }
  }

  var setUp: SetUp?
  var leftover: [String: Int]
  var kdump: [String: Int]
  var strayBytes: Int
  var holds: Bool
  var checks: [Check]
  var accesses: [AccessJSON]

  enum CodingKeys: String, CodingKey {
    case leftover, kdump, holds, checks, accesses
    case setUp = "set_up"
    case strayBytes = "stray_bytes"
  }

  init(_ report: CrashReport) {
    setUp = report.setUp.map { setUp in
      let (seconds, attoseconds) = setUp.duration.components
      return SetUp(
        tables: setUp.tables.map {
          Table(
            table: "\($0.table)", entry: $0.entryName, identityEntries: $0.identityEntryCount,
            writtenEntries: $0.writtenEntryCount,
            identityBytes: hexadecimal($0.identityEntryByteCount),
            newTablePages: $0.newTablePageCount, reservedPages: $0.reservedPageCount,
            tableEntries: $0.entryCount, tableBytes: $0.tableByteCount.map { hexadecimal($0) },
            spaceBytes: hexadecimal($0.spaceByteCount), shareOfSpace: $0.shareOfSpace)
        }, nanoseconds: seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
    func counts(_ owner: CrashAccess.Owner) -> [String: Int] {
      Dictionary(
        uniqueKeysWithValues: report.counts(of: owner).counts.map { ($0.key.rawValue, $0.value) })
    }
    leftover = counts(.leftover)
    kdump = counts(.kdump)
    strayBytes = report.strayByteCount
    holds = report.ruleHolds
    checks = report.verdicts.map(Check.init)
    accesses = report.accesses.map { access in
      AccessJSON(
        owner: access.owner.rawValue, requester: "\(access.device.requester)",
        access: access.record?.access.description, iova: "\(access.iova.lowerBound)",
        bytes: hexadecimal(access.iova.byteCount),
        physical: (access.record?.hits ?? []).compactMap { hit in
          hit.physical?.ends
        },
        changedBytes: (access.record?.hits ?? []).reduce(0) { $0 + $1.changedByteCount },
        fault: access.record?.fault?.meaning, outcome: access.outcome.rawValue)
    }
  }
}
