import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection

/// Shows memory as `hexdump -C` does.
package struct Hexdump: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "hexdump",
    abstract:
      "Show physical memory in the layout of hexdump -C; with --annotate, named and decoded.",
    discussion: """
      Offsets are physical addresses. Without a range, all memory in the image is shown; with \
      --annotate and no range, all tables. Exits 2 when some table was not followed to its end, \
      because it leads to itself or a limit was met, and when a root or device table is not in the \
      dump.

      Example: iommu hexdump Examples/vtd-crash/image.elf 0x6a04000+256 --annotate \
      --machine Examples/vtd-crash/machine.json
      """)

  @OptionGroup package var image: ImageOptions

  @Argument(
    help: ArgumentHelp(
      "START+BYTES, START-LAST, BYTES@START or START..<END; addresses are hexadecimal, numbers of "
        + "bytes decimal unless they begin with 0x.",
      valueName: "range"),
    transform: { try physicalRange($0) })
  package var ranges: [Range<PhysicalAddress>] = []

  @Flag(help: "Name and decode every table entry.")
  package var annotate = false

  @Flag(help: "Show 64-bit words, as entries are read, instead of bytes.")
  package var quadwords = false

  @Option(help: "How to print it: text or json; with --annotate the entries that are not zero.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func validate() throws {
    if annotate, quadwords, format == .json {
      throw ValidationError(
        "--annotate --format json has the words of each entry: leave --quadwords out")
    }
  }

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  @discardableResult
  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    let style = HexdumpStyle(showsQuadwords: quadwords, ink: ink)
    guard annotate else {
      return try image.files.read { memory in
        let ranges = ranges(or: memory.backedRanges)
        guard format == .text else {
          IOMMUInspection.Hexdump.writeJSON(
            ranges, of: memory, showsQuadwords: quadwords, to: &out)
          return .yes
        }
        for range in ranges {
          IOMMUInspection.Hexdump.write(range, of: memory, style: style, to: &out)
        }
        return .yes
      }
    }
    return try image.read { memory, machine, kernel in
      let annotator = Annotator(machine, in: memory, names: kernel.names)
      let blindness = Blindness(annotator.gaps)
      for gap in blindness.byWeight.prefix(8) { warn(gap.text) }
      let ranges = ranges(or: joined(annotator.regions.map(\.range)))
      switch format {
      case .text:
        for range in ranges { annotator.writeHexdump(range, of: memory, style: style, to: &out) }
      case .json:
        var entries: [EntryAnnotation] = []
        for range in ranges {
          annotator.forEachEntry(in: range, of: memory) { entries.append($0) }
        }
        try writeJSON(IncompleteList(entries, incomplete: blindness.incomplete), to: &out)
      }
      return blindness.hidesUnit || blindness.isCut ? .unknown : .yes
    }
  }

  /// The ranges that were asked for; else `whole`, without annotation from first to last as one.
  private func ranges(or whole: [Range<PhysicalAddress>]) -> [Range<PhysicalAddress>] {
    if !ranges.isEmpty { return ranges }
    guard let first = whole.first, let last = whole.last else { return [] }
    return annotate ? whole : [first.lowerBound..<last.upperBound]
  }

  /// Ascending ranges that do not touch.
  private func joined(_ ranges: [Range<PhysicalAddress>]) -> [Range<PhysicalAddress>] {
    var result: [Range<PhysicalAddress>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = result.last, range.lowerBound <= last.upperBound {
        result[result.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    return result
  }
}
