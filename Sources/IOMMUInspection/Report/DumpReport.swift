import IOMMUFormats
import IOMMURule
import IOMMUTranslation

/// All that is known of a dump's tables on one page of HTML, which needs nothing else: no network,
/// no script.
public struct DumpReport: Sendable, StreamedEncodable {
  /// A finding with the walk that shows it.
  private struct ShownFinding {
    var rule: RuleID
    var finding: RuleReport.Finding
    var walk: ToldWalk?

    /// What makes two findings one to the reader.
    struct Trouble: Hashable {
      var rule: RuleID
      var text: String
    }

    var trouble: Trouble { Trouble(rule: rule, text: finding.text) }
  }

  /// A table with the first of its mappings.
  private struct Listed {
    /// Its place among all tables.
    var index: Int
    var name: String
    var title: String
    var heading: String
    var runs: [MappingRun]
    var runCount: Int
  }

  private let title: String
  private let machine: Machine
  private let rule: RuleReport?
  private let sources: [String]
  private let notices: [String]
  private let names: DeviceNames
  /// The findings of rules that are broken and not by design, and of those that are not known.
  private let findings: [ShownFinding]
  private let listed: [Listed]
  /// Tables with mappings that are not listed.
  private let unlistedCount: Int
  private let drawing: SpaceDrawing
  private let summary: MapsSummary
  private let interrupts: InterruptReport
  private let tables: [Range<PhysicalAddress>]

  /// Mappings listed for one device; more are counted.
  private static let runLimit = 200

  /// Tables whose mappings are listed; more are counted.
  private static let listLimit = 1 << 10

  /// Devices with the same table that a finding names.
  private static let otherLimit = 8

  /// Findings listed for one rule, each with its walk; more are counted.
  private static let findingLimit = 100

  /// Devices listed that share the table of another; more are counted.
  private static let sharerLimit = 1 << 10

  /// Of these, how many are not folded.
  private static let shownFindingLimit = 8

  /// Reads everything that the page will say.
  ///
  /// - Parameters:
  ///   - title: The heading of the page, as plain text.
  ///   - machine: The units and memory map that the page tells of.
  ///   - memory: Memory that holds the tables.
  ///   - rule: What the Rule says of it; `nil` where nobody knows the crash kernel's memory.
  ///   - sources: What was looked at, and by what.
  ///   - notices: What is doubtful of it: a dump that was cut off, tables that were guessed.
  ///   - names: What drivers the requesters have.
  public init(
    title: String, machine: Machine, in memory: some PhysicalMemory, rule: RuleReport? = nil,
    sources: [String] = [], notices: [String] = [], names: DeviceNames = .none
  ) {
    self.names = names
    self.sources = sources
    self.notices = notices
    self.title = title
    self.machine = machine
    self.rule = rule
    findings = (rule?.verdicts ?? []).filter { !$0.rule.isBrokenByDesign }.flatMap { verdict in
      verdict.findings.prefix(Self.findingLimit).map { finding in
        ShownFinding(
          rule: verdict.rule, finding: finding,
          walk: finding.kind == .broken ? finding.walk(on: machine, in: memory, names: names) : nil)
      }
    }
    tables = Annotator(machine, in: memory).regions.map(\.range)
    var drawing = SpaceDrawing(
      crashKernel: machine.crashKernel, ram: machine.ram, tables: tables)
    var listed: [Listed] = []
    var (index, unlistedCount) = (0, 0)
    let report = MapsReport(all: machine, in: memory, names: names)
    report.forEachTable(in: memory) { maps in
      drawing.add(maps)
      index += 1
      guard !maps.runs.isEmpty, maps.sharedWith == nil else { return }
      guard listed.count < Self.listLimit else {
        unlistedCount += 1
        return
      }
      listed.append(
        Listed(
          index: index, name: maps.table.name, title: maps.title, heading: maps.heading,
          runs: Array(maps.runs.prefix(Self.runLimit)), runCount: maps.runs.count))
    }
    self.drawing = drawing
    self.listed = listed
    self.unlistedCount = unlistedCount
    summary = MapsSummary(report, in: memory)
    interrupts = InterruptReport(machine, in: memory, names: names)
  }

  /// Writes the page.
  public func write(to out: inout some TextOutputStream) {
    writePage(title: "\(title): IOMMU report", to: &out) { out in
      writeHead(to: &out)
      writeGaps(to: &out)
      writeVerdicts(to: &out)
      writeFindings(to: &out)
      writeDrawings(to: &out)
      writeDevices(to: &out)
      writeMappings(to: &out)
      writeInterrupts(to: &out)
      writeWalks(to: &out)
      out.write("<footer>Made by <code>iommu report</code>. Addresses are hexadecimal; ranges are ")
      out.write("half-open.</footer>\n")
    }
  }

  // MARK: JSON

  enum CodingKeys: String, CodingKey {
    case title, sources, notices, units, maps, rule, interrupts
    case crashKernel = "crash_kernel"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(
      machine.crashKernel.map { ["\($0.lowerBound)", "\($0.upperBound)"] }, forKey: .crashKernel)
    try container.encode(interrupts, forKey: .interrupts)
    try container.encode(summary, forKey: .maps)
    try container.encode(notices, forKey: .notices)
    try container.encodeIfPresent(rule, forKey: .rule)
    try container.encode(sources, forKey: .sources)
    try container.encode(title, forKey: .title)
    try container.encode(machine.units.map(\.words.text), forKey: .units)
  }

  // MARK: Sections

  private func writeHead(to out: inout some TextOutputStream) {
    out.write("<h1>\(escaped(title))</h1>\n<p class=\"lead\">")
    out.write(escaped(machine.units.map(\.words.text).joined(separator: "; ")))
    out.write("</p>\n")
    for text in sources { out.write("<p class=\"note mono\">\(escaped(text))</p>\n") }
    for text in notices { out.write("<p class=\"note\"><b>Note:</b> \(escaped(text))</p>\n") }
    out.write("<div class=\"facts\">\n")
    let mapping = summary.rows.filter { !$0.pages.isEmpty }
    let distinct = summary.rows.filter { $0.sharedWith == nil }
    let bytes = distinct.reduce(0) { $0 &+ $1.byteCount }
    fact("\(summary.rows.count)", "devices or buses with a table", to: &out)
    fact("\(mapping.count)", "of them with mappings", to: &out)
    fact(approximateByteCountText(bytes), "mapped, shared tables once", to: &out)
    fact("\(tables.count)", "table pages and tables", to: &out)
    let crash = machine.crashKernel.reduce(0) { $0 &+ $1.byteCount }
    fact(crash == 0 ? "not known" : byteCountText(crash), "crash kernel", to: &out)
    out.write("</div>\n")
  }

  private func fact(_ value: String, _ name: String, to out: inout some TextOutputStream) {
    out.write("<div class=\"fact\"><b>\(escaped(value))</b><span>\(escaped(name))</span></div>\n")
  }

  /// What of the tables is not known: a root or device table hides all devices behind its unit.
  public var blindness: Blindness { summary.blindness }

  private func writeGaps(to out: inout some TextOutputStream) {
    let gaps = blindness.byWeight
    guard !gaps.isEmpty else { return }
    out.write("<h2 id=\"unknown\">Not known</h2>\n<p class=\"note\">What rests on these is not in ")
    out.write("this page, and nothing of it counts as empty.</p>\n<div class=\"card\"><ul>\n")
    for gap in gaps.prefix(Self.findingLimit) {
      out.write("<li>\(escaped(gap.text(names)))</li>\n")
    }
    out.write("</ul>\n")
    let left = gaps.count - Self.findingLimit
    if left > 0 { out.write("<p class=\"note\">\(left) more: <code>iommu maps</code></p>\n") }
    out.write("</div>\n")
  }

  private func writeVerdicts(to out: inout some TextOutputStream) {
    out.write("<h2 id=\"rule\">The Kdump IO Rule</h2>\n")
    guard let rule else {
      out.write("<p class=\"note\">Not judged: nothing says where the crash kernel is. ")
      out.write("<code>--crash-kernel</code> does.</p>\n")
      return
    }
    let conclusion =
      switch rule.conclusion {
      case .holds: "holds"
      case .broken: "broken"
      case .unknown: "unknown"
      }
    let text = rule.conclusionText
    out.write("<span class=\"verdict \(conclusion)\">")
    out.write(escaped(text.prefix(1).uppercased() + text.dropFirst()))
    out.write(rule.conclusion == .holds ? ", as far as a dump can show" : "")
    out.write("</span>\n<div class=\"rules\">\n")
    for verdict in rule.verdicts {
      // A mark for those who see no colours, or print without them.
      let (kind, mark, text) =
        switch verdict.outcome {
        case .holds: ("holds", "✓", "holds")
        case .broken where verdict.rule.isBrokenByDesign: ("design", "!", "broken by design")
        case .broken: ("broken", "✗", "broken")
        case .unknown: ("unknown", "?", "unknown")
        case .notApplicable: ("none", "–", "not applicable")
        }
      out.write("<div class=\"rule \(kind)\"><b>\(verdict.rule)</b><div>")
      out.write("\(escaped(verdict.rule.statement))<i><b>\(mark)</b>\(text)</i></div></div>\n")
    }
    out.write("</div>\n")
  }

  /// Rule by rule: the first findings, the rest folded, and how many there are.
  private func writeFindings(to out: inout some TextOutputStream) {
    guard let rule, !findings.isEmpty else { return }
    // Devices with the same trouble are one finding; each has its own walk.
    let same = Dictionary(grouping: findings.indices) { findings[$0].trouble }
    out.write("<h2 id=\"findings\">Findings</h2>\n<div class=\"card\">\n")
    for verdict in rule.verdicts where !verdict.rule.isBrokenByDesign && !verdict.findings.isEmpty {
      let troubles = findings.indices.filter { findings[$0].rule == verdict.rule }
        .compactMap { same[findings[$0].trouble]?.first == $0 ? same[findings[$0].trouble] : nil }
      let count = "\(verdict.findings.count)\(verdict.isTruncated ? " and more" : "")"
      let noun = verdict.findings.count == 1 && !verdict.isTruncated ? "finding" : "findings"
      out.write("<h3>\(verdict.rule): \(escaped(verdict.rule.statement)) ")
      out.write("<span class=\"count\">\(count) \(noun)</span></h3>\n<ol class=\"findings\">\n")
      for trouble in troubles.prefix(Self.shownFindingLimit) { writeTrouble(trouble, to: &out) }
      out.write("</ol>\n")
      let folded = troubles.dropFirst(Self.shownFindingLimit)
      let left = verdict.findings.count - Self.findingLimit
      guard !folded.isEmpty || left > 0 else { continue }
      out.write("<details><summary>the rest</summary>\n")
      out.write("<ol class=\"findings\" start=\"\(Self.shownFindingLimit + 1)\">\n")
      for trouble in folded { writeTrouble(trouble, to: &out) }
      out.write("</ol>\n")
      if left > 0 {
        out.write("<p class=\"note\">\(left) \(verdict.isTruncated ? "and more " : "")further ")
        out.write("findings: <code>iommu verify</code></p>\n")
      }
      out.write("</details>\n")
    }
    out.write("</div>\n")
  }

  /// One line for all devices with the same trouble, by their places in `findings`.
  private func writeTrouble(_ same: [Int], to out: inout some TextOutputStream) {
    let shown = findings[same[0]]
    out.write("<li\(shown.finding.kind == .unknown ? " class=\"unknown\"" : "")>")
    out.write(escaped(shown.finding.text))
    let subjects = same.compactMap { index in
      findings[index].finding.title.map { subject in
        findings[index].walk == nil
          ? " <code>\(escaped(subject))</code>"
          : " <a class=\"mono\" href=\"#walk-\(index + 1)\">\(escaped(subject))</a>"
      }.map { $0 + othersText(findings[index].finding.others) }
    }
    out.write((subjects.isEmpty ? "" : ":") + subjects.joined() + "</li>\n")
  }

  /// Those that share a table with a finding's first device; of many, how many.
  private func othersText(_ others: [TableOwner]) -> String {
    let shown = others.count > Self.otherLimit ? [] : others
    return shown.map { " <code>\(escaped(names.text($0)))</code>" }.joined()
      + (others.count > shown.count ? " and \(others.count) more" : "")
  }

  private func writeDrawings(to out: inout some TextOutputStream) {
    out.write("<h2 id=\"iova\">I/O address space</h2>\n<p class=\"note\">The numbers that devices ")
    out.write("may use. Empty stretches are left out; a window is as wide as the root of its ")
    out.write("size.</p>\n<div class=\"card\">\n")
    drawing.writeIOVASpace(isComplete: blindness.isEmpty, to: &out)
    out.write("</div>\n<h2 id=\"memory\">Physical memory</h2>\n<p class=\"note\">Where those ")
    out.write("numbers lead, and where the tables themselves lie.</p>\n<div class=\"card\">\n")
    drawing.writeMemory(to: &out)
    out.write("</div>\n")
  }

  private func writeDevices(to out: inout some TextOutputStream) {
    out.write("<h2 id=\"devices\">Devices</h2>\n<div class=\"card\"><table>\n<tr><th>device</th>")
    out.write("<th>table</th><th class=\"n\">mapped</th><th class=\"n\">runs</th><th>pages</th>")
    out.write("<th class=\"n\">rw</th><th class=\"n\">r-</th><th class=\"n\">-w</th></tr>\n")
    var sharerCount = 0
    let places = Set(listed.map(\.index))
    for (index, row) in summary.rows.enumerated() {
      if row.sharedWith != nil { sharerCount += 1 }
      guard row.sharedWith == nil || sharerCount <= Self.sharerLimit else { continue }
      let name = escaped(row.title)
      let link =
        row.pages.isEmpty || row.sharedWith != nil || !places.contains(index + 1)
        ? name : "<a href=\"#maps-\(index + 1)\">\(name)</a>"
      let heading = row.sharedTitle.map { "the same as \($0)" } ?? row.heading
      out.write("<tr><td class=\"mono\">\(link)</td><td class=\"s\">\(escaped(heading))</td>")
      out.write("<td class=\"n\">\(row.pages.isEmpty ? "" : byteCountText(row.byteCount))</td>")
      out.write("<td class=\"n\">\(row.pages.isEmpty ? "" : "\(row.runCount)")</td>")
      out.write("<td>\(escaped(row.pagesText))</td>")
      for count in [row.access.readWrite, row.access.readOnly, row.access.writeOnly] {
        out.write("<td class=\"n\">\(count == 0 ? "" : "\(count)")</td>")
      }
      out.write("</tr>\n")
    }
    out.write("</table></div>\n")
    let left = sharerCount - Self.sharerLimit
    if left > 0 {
      out.write("<p class=\"note\">\(left) more that share tables of these: ")
      out.write("<code>iommu maps --format summary</code></p>\n")
    }
    for text in summary.wrong.prefix(Self.findingLimit) {
      out.write("<p class=\"note\">\(escaped(text))</p>\n")
    }
    let more = summary.wrong.count - Self.findingLimit
    if more > 0 { out.write("<p class=\"note\">\(more) more: <code>iommu maps</code></p>\n") }
  }

  private func writeMappings(to out: inout some TextOutputStream) {
    out.write("<h2 id=\"mappings\">Mappings</h2>\n")
    for map in listed {
      out.write("<details id=\"maps-\(map.index)\"><summary class=\"mono\">")
      out.write("\(escaped(map.title)) <span>\(escaped(map.heading)), ")
      out.write("\(countText(map.runCount, "run"))</span></summary>\n<table>\n<tr><th>IOVA</th>")
      out.write("<th class=\"n\">size</th><th>physical</th><th>access</th></tr>\n")
      for run in map.runs {
        out.write("<tr><td class=\"mono\">\(escaped(run.iova.text))</td>")
        out.write("<td class=\"n\">\(byteCountText(run.byteCount))</td>")
        out.write("<td class=\"mono\">\(escaped(run.physicalRange.text))</td>")
        out.write("<td class=\"mono\">\(run.permissions)</td></tr>\n")
      }
      out.write("</table>\n")
      let left = map.runCount - map.runs.count
      if left > 0 {
        out.write("<p class=\"note\">\(left) more: <code>iommu maps --table ")
        out.write("\(escaped(map.name))</code></p>\n")
      }
      out.write("</details>\n")
    }
    if unlistedCount > 0 {
      out.write("<p class=\"note\">\(unlistedCount) more tables: <code>iommu maps</code></p>\n")
    }
  }

  private func writeInterrupts(to out: inout some TextOutputStream) {
    let units = interrupts.units.filter { $0.mappings != nil || $0.isUnknown }
    guard !units.isEmpty else { return }
    out.write("<h2 id=\"interrupts\">Interrupts</h2>\n")
    for unit in units {
      out.write("<details><summary class=\"mono\">\(escaped(unit.name)) <span>")
      out.write("\(escaped(unit.heading))</span></summary>\n")
      let mappings = unit.mappings?.mappings ?? []
      if !mappings.isEmpty {
        out.write("<table>\n<tr><th>entry</th><th>what becomes of the interrupt</th></tr>\n")
        for (mapping, entry) in zip(mappings, unit.entries).prefix(Self.runLimit) {
          out.write("<tr><td class=\"mono\">\(hexadecimal(mapping.index))</td><td>")
          out.write(escaped(entry.statement + entry.entry.violations.map { ", " + $0 }.joined()))
          out.write("</td></tr>\n")
        }
        out.write("</table>\n")
      }
      let left = mappings.count - Self.runLimit
      if left > 0 {
        out.write("<p class=\"note\">\(left) more: <code>iommu maps --interrupts</code></p>\n")
      }
      for gap in unit.mappings?.gaps ?? [] {
        out.write("<p class=\"note\">\(escaped(gap.text))</p>\n")
      }
      out.write("</details>\n")
    }
  }

  private func writeWalks(to out: inout some TextOutputStream) {
    let walks = findings.enumerated().compactMap { index, entry in
      entry.walk.map { (index + 1, entry.rule, $0) }
    }
    guard !walks.isEmpty else { return }
    out.write("<h2 id=\"walks\">Walks</h2>\n<p class=\"note\">Every entry that hardware reads on ")
    out.write("the way to each finding.</p>\n")
    for (number, rule, walk) in walks {
      out.write("<details id=\"walk-\(number)\"><summary class=\"mono\">\(rule) ")
      out.write("\(escaped(walk.title)) \(walk.access)s \(walk.iova) <span>")
      out.write("\(escaped(walk.endText))</span></summary>\n<pre>")
      var text = ""
      walk.write(to: &text)
      out.write("\(escaped(text))</pre></details>\n")
    }
  }
}
