import IOMMUFormats
import IOMMUInspection
import IOMMUKdump
import IOMMURule
import IOMMUTranslation

/// Crashes as one page of HTML, which needs nothing else: no network, no script.
struct CrashPage {
  /// The matrix; `nil` for a page of one crash.
  private let matrix: CrashMatrixReport?
  private let crashes: [PlayedCrash]

  init(_ matrix: CrashMatrixReport) {
    self.matrix = matrix
    crashes = matrix.lines.map(\.crash)
  }

  init(_ crash: PlayedCrash) {
    matrix = nil
    crashes = [crash]
  }

  private var title: String {
    guard matrix == nil, let crash = crashes.first else { return "Leftover DMA after a crash" }
    return crash.title
  }

  func write(to out: inout some TextOutputStream) {
    writePage(title: title, style: crashStyle, to: &out) { out in
      out.write("<h1>\(escaped(title))</h1>\n")
      writeLead(to: &out)
      writeOutcomes(to: &out)
      if let matrix {
        for unit in matrix.units { writeMatrix(of: unit, matrix, to: &out) }
        writeLeftOut(matrix, to: &out)
        out.write("<h2 id=\"crashes\">Crash by crash</h2>\n<p class=\"note\">What happens when, ")
        out.write("what each access comes to, and whose memory it changes.</p>\n")
        for crash in crashes {
          out.write("<details><summary><b>\(escaped(crash.run.strategy.rawValue))</b> on ")
          out.write("\(escaped(crash.run.unit.title)): \(escaped(crash.run.strategy.title)) ")
          out.write("<span>\(escaped(crash.run.strategy.history))</span></summary>\n")
          out.write("<div id=\"\(crash.anchor)\">\n")
          writeCrash(crash, to: &out)
          out.write("</div></details>\n")
        }
      } else if let crash = crashes.first {
        writeDevices(crash, to: &out)
        writeCrash(crash, to: &out)
      }
      out.write("<footer>Made by <code>iommu crash</code> \(Tool.configuration.version). ")
      out.write("Addresses are hexadecimal; ranges are half-open.</footer>\n")
    }
  }

  // MARK: The head

  private func writeLead(to out: inout some TextOutputStream) {
    let text: String
    if let matrix {
      let flush = matrix.omitsFlushes ? ", not flushed" : ""
      text =
        "What DMA comes to that goes on after a crash, by what kernels do about it. Every cell was "
        + "played on machine M1 (8 GiB of RAM, crash kernel 128 MiB at 16 MiB; caches: "
        + "\(matrix.caches.rawValue)\(flush)) and is judged by where the bytes are."
    } else {
      let crash = crashes[0]
      text = "\(crash.run.strategy.history). \(crash.machineText)"
    }
    out.write("<p class=\"lead\">\(escaped(text))</p>\n")
  }

  private var outcomes: [Outcome] {
    let found = Set(crashes.flatMap { $0.steps.flatMap(\.accesses).map(\.outcome) })
    return Outcome.allCases.filter(found.contains)
  }

  private func writeOutcomes(to out: inout some TextOutputStream) {
    out.write("<div class=\"legend\">")
    for outcome in outcomes {
      out.write("<span>\(badge(outcome)) \(escaped(outcome.meaning))</span>")
    }
    out.write("</div>\n<div class=\"phases\">")
    for phase in CrashPhase.allCases {
      out.write("<span><b>\(phase.rawValue)</b> \(escaped(phase.meaning))</span>")
    }
    out.write("</div>\n")
  }

  /// The word in its colour; the word alone says it.
  private func badge(_ outcome: Outcome) -> String {
    "<span class=\"o o-\(outcome.rawValue.lowercased())\">\(outcome.rawValue)</span>"
  }

  // MARK: The matrix

  private func writeMatrix(
    of unit: CrashUnit, _ matrix: CrashMatrixReport, to out: inout some TextOutputStream
  ) {
    let lines = matrix.lines.filter { $0.line.unit == unit }
    guard !lines.isEmpty else { return }
    out.write("<h2 id=\"\(unit.rawValue)\">\(escaped(unit.title))</h2>\n<div class=\"card\">")
    out.write("<table class=\"matrix\">\n<tr><th>strategy</th>")
    for row in LeftoverStream.Row.allCases {
      out.write("<th><b>\(row.rawValue)</b> \(escaped(row.meaning))</th>")
    }
    out.write("<th><b>d</b> the capture kernel&#39;s own I/O</th></tr>\n")
    for line in lines { writeLine(line, to: &out) }
    out.write("</table></div>\n")
  }

  private func writeLine(_ played: CrashMatrixReport.Line, to out: inout some TextOutputStream) {
    let line = played.line
    let link = "href=\"#\(played.crash.anchor)\""
    out.write("<tr><td><a \(link)><b>\(escaped(line.strategy.rawValue))</b></a> ")
    out.write("\(escaped(line.strategy.title))")
    if let failure = line.run.failure {
      out.write("<i>ends early: \(escaped(failure))</i>")
    }
    for moment in line.moments {
      let wrong = line.wrongAccesses(in: moment)
      guard !wrong.isEmpty else { continue }
      out.write("<i>\(moment.phase.rawValue), \(escaped(moment.step.rawValue)): ")
      out.write(
        wrong.map { "<span class=\"pair\">\($0.row.rawValue) \(badge($0.outcome))</span>" }
          .joined(separator: " "))
      out.write("</i>")
    }
    out.write("</td>")
    for row in LeftoverStream.Row.allCases {
      let words = MatrixLine.phases.map { line.outcomes[row]?[$0] }
      let isSame = Set(words).count == 1
      let cells = (isSame ? [words[0]] : words).enumerated().map { index, outcome in
        let badge = outcome.map(badge) ?? "<span class=\"o\">-</span>"
        return isSame ? badge : "<i>\(MatrixLine.phases[index].rawValue)</i>\(badge)"
      }
      let isWild = line.wildRows.contains(row)
      out.write("<td><a class=\"cell\" \(link)>\(isWild ? "(" : "")")
      out.write(cells.joined(separator: isSame ? " " : "<br>"))
      out.write("\(isWild ? ")" : "")</a></td>")
    }
    let own = Set(line.ownIO).count == 1 ? Array(line.ownIO.prefix(1)) : line.ownIO
    out.write(
      "<td><a class=\"cell\" \(link)>\(own.isEmpty ? "-" : own.map(badge).joined(separator: "<br>"))"
    )
    out.write("</a></td></tr>\n")
  }

  private func writeLeftOut(_ matrix: CrashMatrixReport, to out: inout some TextOutputStream) {
    let usesParentheses = matrix.lines.contains { !$0.line.wildRows.isEmpty }
    if usesParentheses {
      out.write(
        "<p class=\"note\">In parentheses: a number that the old kernel could not hand out, ")
      out.write("so an access there is wild.</p>\n")
    }
    for (unit, strategy, reason) in matrix.leftOut {
      out.write("<p class=\"note\">Left out: \(escaped(strategy.rawValue)) on ")
      out.write("\(escaped(unit.title)): \(escaped(reason))</p>\n")
    }
  }

  // MARK: One crash

  private func writeDevices(_ crash: PlayedCrash, to out: inout some TextOutputStream) {
    out.write("<h2 id=\"devices\">Devices</h2>\n<div class=\"card\"><ul class=\"plain\">\n")
    for device in crash.setup.machine.devices { out.write("<li>\(escaped(device.text))</li>\n") }
    out.write("</ul></div>\n")
  }

  private func writeCrash(_ crash: PlayedCrash, to out: inout some TextOutputStream) {
    writeTimeline(crash, to: &out)
    if let failure = crash.run.failure {
      out.write("<p class=\"note\"><b>The strategy comes to an end before its time:</b> ")
      out.write("\(escaped(failure))</p>\n")
    }
    writeMemory(crash, to: &out)
    writeRule(crash, to: &out)
  }

  private func writeTimeline(_ crash: PlayedCrash, to out: inout some TextOutputStream) {
    out.write("<h3>From second to second</h3>\n<div class=\"card\"><table class=\"timeline\">\n")
    out.write("<tr><th>device</th><th>what it does</th><th>IOVA</th>")
    out.write("<th class=\"n\">times</th><th>outcome</th><th></th></tr>\n")
    for step in crash.steps {
      let shown = step.shownAccesses
      out.write("<tr class=\"step\(step.momentary == nil ? "" : " moment")\"><td colspan=\"6\">")
      out.write("\(escaped(step.heading))")
      if shown.isEmpty {
        out.write(
          "<span>\(step.accesses.isEmpty ? "no DMA" : "nothing goes wrong in it")</span>")
      }
      out.write("</td></tr>\n")
      for access in shown {
        out.write("<tr><td>\(escaped(access.device.name))</td><td>\(escaped(access.sourceText)), ")
        out.write("\(access.isRead ? "read" : "write")</td>")
        out.write("<td class=\"mono\">\(access.iovaText)</td>")
        out.write("<td class=\"n\">\(escaped(access.countText))</td>")
        out.write("<td>\(badge(access.outcome))</td>")
        out.write("<td class=\"s\">\(escaped(access.remark ?? ""))</td></tr>\n")
      }
    }
    out.write("</table></div>\n")
  }

  private func writeMemory(_ crash: PlayedCrash, to out: inout some TextOutputStream) {
    let memory = MemoryOwnership(crash)
    guard !memory.rows.isEmpty else { return }
    out.write("<h3>Memory before and after</h3>\n<div class=\"card\">\n")
    memory.draw(to: &out)
    out.write("<table>\n<tr><th>memory</th><th>before the crash</th><th>after it</th>")
    out.write("<th>what DMA did there</th></tr>\n")
    for row in memory.rows {
      out.write("<tr><td class=\"mono\">\(escaped(row.range.text))</td>")
      out.write("<td>\(escaped(row.before))</td><td>\(escaped(row.after))</td><td>")
      out.write(
        row.reached.map { reached in
          "\(reached.phasesText): \(escaped(reached.text)) \(badge(reached.key.outcome))"
        }.joined(separator: "<br>"))
      out.write("</td></tr>\n")
    }
    out.write("</table>\n<p class=\"note\">Bytes of the crash kernel that leftover DMA changed: ")
    out.write("<b>\(grouped(crash.steps.strayByteCount))</b></p>\n</div>\n")
  }

  private func writeRule(_ crash: PlayedCrash, to out: inout some TextOutputStream) {
    guard !crash.verdicts.isEmpty else { return }
    out.write("<h3>The checks of the Rule</h3>\n<div class=\"card\"><table>\n")
    for verdict in crash.verdicts {
      out.write("<tr><td><b>\(verdict.rule)</b></td><td>\(escaped(verdict.outcomeText))</td>")
      out.write("<td>\(escaped(verdict.rule.statement))")
      for finding in verdict.findings.prefix(PlayedCrash.findingLimit) {
        let subject = finding.subjectText.map { "\($0): " } ?? ""
        out.write("<br><span class=\"s\">\(escaped(subject + finding.text))</span>")
      }
      out.write("</td></tr>\n")
    }
    out.write("</table></div>\n")
  }
}

extension PlayedCrash {
  /// Where the crash is on a page of many.
  fileprivate var anchor: String { "\(run.unit.rawValue)-\(run.strategy.rawValue)" }
}

/// Whose memory what is, before a crash and after it.
struct MemoryOwnership {
  struct Row {
    var range: Range<PhysicalAddress>
    var before: String
    var after: String
    var reached: [ReachedMemory]
  }

  private(set) var rows: [Row] = []
  private let map: MemoryMap

  init(_ crash: PlayedCrash) {
    map = crash.setup.machine.map
    let reached = crash.reached
    func add(_ range: Range<PhysicalAddress>, _ before: String, _ after: String) {
      guard !rows.contains(where: { $0.range == range }) else { return }
      rows.append(
        Row(
          range: range, before: before, after: after,
          reached: reached.filter { $0.key.range == range }))
    }
    for stream in crash.streams {
      guard let target = stream.target else { continue }
      let owner =
        "\(stream.device.name)'s "
        + (stream.row.map { "buffer \($0.rawValue)" } ?? stream.source.rawValue)
      let isInCrashKernel = map.crashKernelOverlaps(target)
      add(target, owner, isInCrashKernel ? "the capture kernel" : "old memory, for the dump")
    }
    for memory in reached {
      let isInCrashKernel = map.crashKernelOverlaps(memory.key.range)
      add(
        memory.key.range, isInCrashKernel ? "set aside for the crash" : "the old kernel",
        isInCrashKernel ? memory.owner : "old memory, for the dump")
    }
    for range in map.crashKernel {
      add(range, "set aside for the crash", "the capture kernel")
    }
    rows.sort {
      ($0.range.lowerBound, $1.range.byteCount) < ($1.range.lowerBound, $0.range.byteCount)
    }
  }

  private static let width = 1060.0
  private static let left = 96.0
  private static let laneHeight = 26.0
  private static let markWidth = 4.0

  /// What a stretch of a lane is: bits, since several may be too close to tell apart.
  private enum Mark {
    static let crashKernel: UInt8 = 1
    static let buffer: UInt8 = 2
    static let changed: UInt8 = 4
    static let wrong: UInt8 = 8
  }

  /// Two lanes over one line of addresses, empty stretches left out.
  func draw(to out: inout some TextOutputStream) {
    func closed(_ range: Range<PhysicalAddress>) -> ClosedRange<UInt64> {
      range.lowerBound.rawValue...range.upperBound.rawValue - 1
    }
    let axis = AddressAxis(
      rows.map { closed($0.range) }, start: Self.left, width: Self.width - Self.left - 4)
    let labels = Drawing.labels(of: axis.windows, width: Self.width)
    let top = Drawing.top(below: labels)
    let height = top + 2 * (Self.laneHeight + 8) + 8
    Drawing.open(
      width: Self.width, height: height, title: "memory before and after the crash", to: &out)
    Drawing.windows(axis, labels, top: top, bottom: height - 4, to: &out)
    for (index, name) in ["before", "after"].enumerated() {
      var lane = Lane(start: Self.left, width: Self.width - Self.left)
      for row in rows {
        for span in axis.spans(of: closed(row.range)) {
          // A buffer can be seen beside 128 MiB.
          lane.mark(
            (span.x, max(Self.markWidth, span.width)), mark(row, isAfter: index == 1))
        }
      }
      let y = top + 6 + Double(index) * (Self.laneHeight + 8)
      Drawing.text("name", 0, y + 17, name, to: &out)
      for run in lane.runs {
        Drawing.rectangle(Self.kind(run.state), run.x, y, run.width, Self.laneHeight, to: &out)
      }
    }
    out.write("</svg>\n")
    Drawing.key(
      [
        ("m-crash", "crash kernel"), ("m-buffer", "buffers of devices"),
        ("m-changed", "reached by DMA as meant"),
        ("m-wrong", "reached by DMA that was not meant for it"),
      ], to: &out)
  }

  private func mark(_ row: Row, isAfter: Bool) -> UInt8 {
    if map.crashKernel.contains(row.range) { return Mark.crashKernel }
    let reached = row.reached.filter { memory in
      isAfter == memory.phases.contains { $0 != .normal }
    }
    guard isAfter else {
      // What the capture kernel will have is nobody's buffer yet.
      return row.before == "set aside for the crash" ? Mark.crashKernel : Mark.buffer
    }
    if reached.contains(where: { $0.key.outcome != .own }) { return Mark.wrong }
    return reached.isEmpty ? Mark.buffer : Mark.changed
  }

  private static func kind(_ state: UInt8) -> String {
    if state & Mark.wrong != 0 { return "m-wrong" }
    if state & Mark.changed != 0 { return "m-changed" }
    return state & Mark.buffer != 0 ? "m-buffer" : "m-crash"
  }
}

/// What outcomes look like: colours that are told apart without red and green (Okabe and Ito), each with
/// its word.
private let crashStyle = """
  :root{--own:#cfeee3;--blkf:#d3eafa;--blks:#c3d9ee;--ma:#faf3b0;--smear:#fbd991;--kill:#b84e00;\
  --alias:#a04d7d;--nomap:#e2e2e2;--word:#14161b;--m-crash:#9fb4cc;--m-buffer:#8a8f99;\
  --m-changed:#009e73;--m-wrong:#d55e00}
  @media (prefers-color-scheme:dark){:root{--own:#0d4a39;--blkf:#134363;--blks:#0f3557;--ma:#5c5510;\
  --smear:#774d00;--kill:#d55e00;--alias:#b5638f;--nomap:#44474e;--word:#f2f0ea;--m-crash:#4b627d;\
  --m-buffer:#8f96a3;--m-changed:#1fbf90;--m-wrong:#ff8a3d}}
  .o{display:inline-block;border-radius:4px;padding:0 6px;font:600 12px/1.6 ui-monospace,SFMono-Regular,\
  Menlo,Consolas,"DejaVu Sans Mono",monospace;color:var(--word);white-space:nowrap}
  .o-own{background:var(--own)}.o-blk-f{background:var(--blkf)}.o-blk-s{background:var(--blks)}
  .o-ma{background:var(--ma)}.o-smear{background:var(--smear)}.o-nomap{background:var(--nomap)}
  .o-kill{background:var(--kill);color:#fff}.o-alias{background:var(--alias);color:#fff}
  .legend,.phases{display:flex;flex-wrap:wrap;gap:6px 18px;margin:0 0 12px;color:var(--soft);\
  font-size:13px}.phases b{color:var(--ink)}
  .matrix td,.matrix th{vertical-align:top;white-space:normal}
  .pair,.timeline td:nth-child(2){white-space:nowrap}.pair{margin-right:4px}
  .matrix td:first-child{min-width:320px;padding-right:24px}.matrix td:first-child i{display:block;font-style:normal;\
  color:var(--soft);font-size:12px;margin-top:3px}
  .matrix a{text-decoration:none}.cell{white-space:nowrap;color:var(--ink);display:block}
  .cell i{font-style:normal;color:var(--soft);font-size:11px;margin-right:4px}
  .cell:hover{outline:2px solid var(--rw);outline-offset:2px;border-radius:4px}
  .timeline tr.step td{font-weight:600;padding-top:14px}.timeline tr.step span{font-weight:400;\
  color:var(--soft);margin-left:10px}.timeline tr.moment td{font-style:italic}
  .timeline tr.step td{white-space:normal}.timeline td{border-bottom:0;padding:2px 12px 2px 0}
  details h3,h3{font-size:15px;margin:20px 0 6px}
  details .card{border:0;padding:0;background:none;overflow-x:auto}
  details:has(:target){border-color:var(--rw);box-shadow:0 0 0 2px var(--rw)}
  ul.plain{margin:0;padding-left:18px}
  .m-crash{fill:var(--m-crash)}.m-buffer{fill:var(--m-buffer)}.m-changed{fill:var(--m-changed)}
  .m-wrong{fill:var(--m-wrong)}
  @media print{.o{border:1px solid #888;-webkit-print-color-adjust:exact;print-color-adjust:exact}\
  rect{-webkit-print-color-adjust:exact;print-color-adjust:exact}.cell{color:#000}}

  """
