import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection

/// Looks for tables.
package struct Find: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "find",
    abstract: "Find translation tables in a dump by their structure alone.",
    discussion: """
      A dump has no registers. This looks at every page and lists what may be a VT-d root table, an \
      AMD-Vi device table, a Calgary TCE table, a GATT, an ACPI DMAR or IVRS table or a Rio table, \
      with a score of 0 to 100 and the reasons. From \(TableCandidate.certainScore) on a candidate is taken for certain: the \
      other commands use all of those that can be of one machine, when no machine file and no \
      --root is given.

      With --crash-kernel the tables inside that range are the capture kernel's, those outside the \
      dead one's; without it the places of the tables decide, where they can.

      Of a dump whose kernel can be read each is told whose it is by that kernel's own list of units, \
      and where the list has a table that was not found for certain, that too.

      Exits 0 when there is a certain table that translates, 1 when there is none, 2 when more places \
      look like tables than are followed, or when a table of one that is certain leads to itself.

      Example: iommu find Examples/vtd-crash/image.elf
      """)

  @OptionGroup package var files: ImageFiles

  @OptionGroup package var crash: CrashKernelOptions

  @Flag(help: "Show candidates that are not certain too.")
  package var all = false

  @Flag(
    help: "Measure: bytes searched per second, and how that compares with merely reading them.")
  package var measure = false

  @Option(help: "How to print the candidates: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func validate() throws {
    guard measure else { return }
    guard !all, crash.crashKernel.isEmpty else {
      throw ValidationError(
        "--measure lists no candidates: leave --all and --crash-kernel out, or --measure")
    }
  }

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    try files.read { memory in
      if measure {
        let measurement = SearchMeasurement(memory)
        switch format {
        case .text: measurement.write(to: &out)
        case .json: try writeJSON(measurement, to: &out)
        }
        return .yes
      }
      let crashKernel = try crash.named(on: nil, in: memory)
      let bar = ProgressBar("search")
      let path = files.image
      // A kernel's symbols and types are read one after the other: a quarter of the work of a small dump.
      let (kernel, search) = alongside {
        KernelKnowledge(of: memory, path: path)
      } _: {
        TableSearch(in: memory, crashKernel: crashKernel) {
          bar.update($0.doneByteCount, of: $0.byteCount)
        }
      }
      bar.finish()
      if search.isExhausted { warn(Self.exhaustedText) }
      let candidates =
        kernel?.claims.completing(search.candidates, in: memory) ?? search.candidates
      let shown = candidates.filter { all || $0.isCertain || $0.claim?.state == .unit }
      switch format {
      case .text:
        for candidate in shown { write(candidate, to: &out, ink: ink) }
        let hidden = candidates.count - shown.count
        if shown.isEmpty { out.write("nothing that is certainly a table\n") }
        if hidden > 0 { out.write("\(hidden) less certain; --all shows them\n") }
      case .json:
        try writeJSON(
          IncompleteList(shown, incomplete: search.isExhausted ? [Self.exhaustedText] : []),
          to: &out)
      }
      let certain = search.candidates.filter { $0.isCertain && $0.kind.translates }
      let isCut = search.isExhausted || certain.contains { !$0.incomplete.isEmpty }
      return isCut ? .unknown : Answer(!certain.isEmpty)
    }
  }

  static let exhaustedText =
    "more places look like tables than any machine has; not all were followed"

  private func write(
    _ candidate: TableCandidate, to out: inout some TextOutputStream, ink: Ink
  ) {
    let owner = candidate.owner.map { ", the \($0.rawValue)'s" } ?? ""
    let score = candidate.isCertain ? ink.good("\(candidate.score)") : "\(candidate.score)"
    out.write(
      "\(ink.address("\(candidate.address)"))  \(ink.strong(candidate.kind.name)), "
        + "\(byteCountText(candidate.byteCount))\(owner), score \(score)\n")
    for reason in candidate.reasons { out.write("  \(reason)\n") }
    if let claim = candidate.claim {
      out.write(
        "  \(claim.agrees == false ? ink.warning(claim.text.visible) : claim.text.visible)\n")
    }
  }
}
