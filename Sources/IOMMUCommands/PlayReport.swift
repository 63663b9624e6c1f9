import IOMMUFormats
import IOMMUKdump
import IOMMUTranslation

/// What `iommu play` prints.
struct PlayReport {
  var results: [PlayResult]

  private static let header = [
    "case", "Rule", "tables", "entries", "bytes", "of entries", "of bytes", "pages", "of space",
    "time", "leftover DMA", "kdump I/O", "verdict",
  ]

  func writeText(to out: inout some TextOutputStream) {
    guard let first = results.first else { return }
    let map = first.configuration.map
    let ram = map.ram.reduce(0) { $0 + $1.byteCount }
    // The firmware's 384 KiB below 1 MiB are part of what was bought.
    let bought = ram + (0x10_0000 - 0xa_0000)
    let crash = map.crashKernel.map {
      "\(sizeText($0.byteCount)) at \(sizeText($0.lowerBound.rawValue))"
    }.joined(separator: ", ")
    print("Kdump IO Rule: \(sizeText(bought)) of RAM, crash kernel \(crash)", to: &out)
    let devices = first.configuration.devices.map { "\($0.name) \($0.requester)" }
    print("devices: " + devices.joined(separator: ", "), to: &out)
    print("", to: &out)

    var rows = [Self.header]
    for result in results {
      rows.append(
        [result.configuration.mode.title, "with"] + cost(result.with.setUp) + outcome(result.with))
      rows.append(["", "without"] + Array(repeating: "", count: 8) + outcome(result.without))
    }
    let widths = Self.header.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    let numbers = 2...9
    for row in rows {
      let cells = row.enumerated().map { column, text in
        let fill = String(repeating: " ", count: widths[column] - text.count)
        return numbers.contains(column) ? fill + text : text + fill
      }
      var line = cells.joined(separator: "  ")
      while line.last == " " { line.removeLast() }
      print(line, to: &out)
    }
    print("", to: &out)
    print(
      "entries, bytes, pages: in each table. time: all tables. Outcomes are judged by the bytes:",
      to: &out)
    for outcome in Outcome.allCases where isPresent(outcome) {
      let name = outcome.rawValue + String(repeating: " ", count: 6 - outcome.rawValue.count)
      print("  \(name) \(outcome.meaning)", to: &out)
    }
    for result in results {
      for verdict in result.with.verdicts
      where verdict.outcome == .broken && !verdict.rule.isBrokenByDesign {
        for finding in verdict.findings.prefix(3) {
          let subject = finding.device.map { "\($0)" } ?? finding.owner.map { "\($0)" }
          let device = subject.map { " \($0):" } ?? ""
          print(
            "\(result.configuration.mode.title): \(verdict.rule):\(device) \(finding.text)",
            to: &out)
        }
      }
    }
    let exposed = results.filter { result in
      result.with.verdicts.contains { $0.rule == .exposure && $0.outcome == .broken }
    }
    if !exposed.isEmpty {
      print(
        "The price (R13): before the crash, devices can write the crash kernel: "
          + exposed.map(\.configuration.mode.title).joined(separator: ", "), to: &out)
    }
  }

  private func isPresent(_ outcome: Outcome) -> Bool {
    results.contains { result in
      (result.with.accesses + result.without.accesses).contains { $0.outcome == outcome }
    }
  }

  /// Columns `tables` to `time`.
  private func cost(_ setUp: SetUpReport?) -> [String] {
    guard let setUp, let table = setUp.tables.first else {
      return ["none"] + Array(repeating: "-", count: 7)
    }
    let entries = Set(setUp.tables.map(\.identityEntryCount)).count == 1
    return [
      "\(setUp.tables.count)",
      (entries ? grouped(table.identityEntryCount) : "differ") + " " + table.entryName,
      sizeText(table.identityEntryByteCount),
      table.entryCount.map { grouped($0) } ?? "-",
      table.tableByteCount.map { sizeText($0) } ?? "-",
      grouped(table.reservedPageCount),
      percentage(table.shareOfSpace),
      milliseconds(setUp.duration),
    ]
  }

  /// Columns `leftover DMA` to `verdict`.
  private func outcome(_ report: CrashReport) -> [String] {
    [
      counts(report.counts(of: .leftover)), counts(report.counts(of: .kdump)),
      report.ruleHolds ? "works" : "fails",
    ]
  }

  private func counts(_ counts: OutcomeCounts) -> String {
    Outcome.allCases.filter { counts[$0] > 0 }
      .map { "\(counts[$0])/\(counts.total) \($0.rawValue)" }.joined(separator: ", ")
  }

  // MARK: JSON

  var json: PlayJSON { PlayJSON(cases: results.map(CaseJSON.init)) }
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

struct PlayJSON: Encodable { var cases: [CaseJSON] }

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
    func text(_ ranges: [Range<PhysicalAddress>]) -> [[String]] {
      ranges.map { ["\($0.lowerBound)", "\($0.upperBound)"] }
    }
    ram = text(result.configuration.map.ram)
    crashKernel = text(result.configuration.map.crashKernel)
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
    var identityBytes: UInt64
    var newTablePages: UInt64
    var reservedPages: UInt64
    var tableEntries: UInt64?
    var tableBytes: UInt64?
    var spaceBytes: UInt64
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
    var bytes: UInt64
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
            writtenEntries: $0.writtenEntryCount, identityBytes: $0.identityEntryByteCount,
            newTablePages: $0.newTablePageCount, reservedPages: $0.reservedPageCount,
            tableEntries: $0.entryCount, tableBytes: $0.tableByteCount,
            spaceBytes: $0.spaceByteCount, shareOfSpace: $0.shareOfSpace)
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
    checks = report.verdicts.map {
      Check(
        rule: "\($0.rule)", statement: $0.rule.statement, outcome: $0.outcome.rawValue,
        byDesign: $0.rule.isBrokenByDesign,
        findings: $0.findings.map { finding in
          (finding.device.map { "\($0): " } ?? finding.owner.map { "\($0): " } ?? "")
            + finding.text
        })
    }
    accesses = report.accesses.map { access in
      AccessJSON(
        owner: access.owner.rawValue, requester: "\(access.device.requester)",
        access: access.record?.access.description, iova: "\(access.iova.lowerBound)",
        bytes: access.iova.byteCount,
        physical: (access.record?.hits ?? []).compactMap { hit in
          hit.physical.map { ["\($0.lowerBound)", "\($0.upperBound)"] }
        },
        changedBytes: (access.record?.hits ?? []).reduce(0) { $0 + $1.changedByteCount },
        fault: access.record?.fault?.meaning, outcome: access.outcome.rawValue)
    }
  }
}
