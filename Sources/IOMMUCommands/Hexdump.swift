import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection

/// Shows memory as `hexdump -C` does.
package struct Hexdump: ParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract:
      "Show physical memory in the layout of hexdump -C; with --annotate, named and decoded.",
    discussion: """
      Offsets are physical addresses. Without a range, all memory in the image is shown; with \
      --annotate and no range, all tables.

      Example: iommu hexdump vmcore --machine machine.json 0x6a04000+256 --annotate
      """)

  @OptionGroup package var image: ImageOptions

  @Argument(
    help: "START+BYTES, START-LAST or START..<END, in hexadecimal with 0x or with K, M, G.")
  package var range: AddressRangeArgument?

  @Flag(help: "Name and decode every table entry.")
  package var annotate = false

  @Option(help: "How to print it: text or json (the annotated entries).")
  package var format = ReportFormat.text

  package init() {}

  package func validate() throws {
    if format == .json, !annotate {
      throw ValidationError("--format json lists table entries: it goes with --annotate")
    }
  }

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen)
  }

  package func report(to out: inout some TextOutputStream) throws {
    try image.read { memory, machine in
      guard annotate else {
        for range in ranges(memory.backedRanges) {
          IOMMUInspection.Hexdump.write(range, of: memory, to: &out)
        }
        return
      }
      let annotator = Annotator(machine, in: memory)
      if let exhaustion = annotator.exhaustion { warn("\(exhaustion)") }
      let ranges = ranges(joined(annotator.regions.map(\.range)))
      switch format {
      case .text:
        for range in ranges { annotator.writeHexdump(range, of: memory, to: &out) }
      case .json:
        var entries: [EntryAnnotation] = []
        for range in ranges {
          annotator.forEachEntry(in: range, of: memory) { entries.append($0) }
        }
        try writeJSON(entries, to: &out)
      }
    }
  }

  /// The range that was asked for, or all from the first to the last of `whole` as one.
  private func ranges(_ whole: [Range<PhysicalAddress>]) -> [Range<PhysicalAddress>] {
    if let range { return [range.range] }
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
