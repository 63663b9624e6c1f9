import IOMMUFormats
import IOMMUImages

/// What `iommu image info` says.
struct ImageInfoReport: Encodable {
  struct Packing: Encodable {
    var name: String
    var pages: UInt64
    var bytes: UInt64
    var install: String?
  }

  struct Line: Encodable {
    var key: String
    var value: String
  }

  /// Ranges and lines of VMCOREINFO that are shown when not all are asked for.
  private static let shownRangeCount = 16
  /// What most people look for in VMCOREINFO.
  private static let shownKeys = [
    "OSRELEASE", "BUILD-ID", "PAGESIZE", "CRASHTIME", "KERNELOFFSET", "NUMBER(phys_base)",
    "NUMBER(pgtable_l5_enabled)", "NUMBER(sme_mask)",
  ]

  var files: [String]
  var format: String
  var isFlattened: Bool
  var version: Int32?
  var isIncomplete: Bool
  var dumpLevel: Int32?
  var fileBytes: UInt64?
  var pageBytes: UInt64
  var storedPages: UInt64
  var zeroPages: UInt64
  var excludedPages: UInt64?
  var packings: [Packing]
  var rangeCount: Int
  var ranges: [[String]]
  var processors: Int
  var vmcoreinfo: [Line]

  enum CodingKeys: String, CodingKey {
    case files, format, version, packings, ranges, processors, vmcoreinfo
    case isFlattened = "flattened"
    case isIncomplete = "incomplete"
    case dumpLevel = "dump_level"
    case fileBytes = "file_bytes"
    case pageBytes = "page_bytes"
    case storedPages = "stored_pages"
    case zeroPages = "zero_pages"
    case excludedPages = "excluded_pages"
    case rangeCount = "range_count"
  }

  init(_ summary: ImageSummary, isComplete: Bool) {
    func pages(_ byteCount: UInt64) -> UInt64 {
      byteCount / summary.pageByteCount + (byteCount % summary.pageByteCount == 0 ? 0 : 1)
    }
    files = summary.paths
    format = summary.format.name
    isFlattened = summary.isFlattened
    version = summary.version
    isIncomplete = summary.isIncomplete
    dumpLevel = summary.dumpLevel
    fileBytes = summary.fileByteCount
    pageBytes = summary.pageByteCount
    storedPages = pages(summary.storedByteCount)
    zeroPages = pages(summary.zeroByteCount)
    excludedPages = summary.excludedByteCount.map(pages)
    packings = summary.packings.map {
      Packing(name: $0.name, pages: $0.pageCount, bytes: $0.byteCount, install: $0.missingPackage)
    }
    rangeCount = summary.ranges.count
    ranges = summary.ranges.prefix(isComplete ? .max : Self.shownRangeCount).map {
      ["\($0.lowerBound)", "\($0.upperBound)"]
    }
    processors = summary.processorCount
    vmcoreinfo = (summary.vmcoreInfo?.entries ?? [])
      .filter { isComplete || Self.shownKeys.contains($0.key) }
      .map { Line(key: $0.key, value: $0.value) }
  }

  func writeText(to out: inout some TextOutputStream) {
    func line(_ label: String, _ text: String) {
      print(label + String(repeating: " ", count: 12 - label.count) + text, to: &out)
    }
    for file in files { line("file", file) }
    let version = version.map { " version \($0)" } ?? ""
    line("format", format + version + (isFlattened ? ", flattened" : ""))
    if isIncomplete { line("", "incomplete: the disk was full") }
    if let dumpLevel { line("dump level", "\(dumpLevel)") }
    if let fileBytes { line("file size", "\(grouped(fileBytes)) bytes") }
    line("page size", "\(grouped(pageBytes)) bytes")
    line("stored", "\(grouped(storedPages)) pages")
    line("zero", "\(grouped(zeroPages)) pages")
    if let excludedPages { line("excluded", "\(grouped(excludedPages)) pages") }
    for packing in packings {
      let install = packing.install.map { ", not installed: apt-get install \($0)" } ?? ""
      line(
        "packing",
        "\(packing.name): \(grouped(packing.pages)) pages, \(grouped(packing.bytes)) bytes"
          + install)
    }
    if processors > 0 { line("processors", grouped(UInt64(processors))) }
    line("memory", "\(grouped(UInt64(rangeCount))) ranges")
    for range in ranges { line("", "\(range[0])..<\(range[1])") }
    if ranges.count < rangeCount {
      line("", "and \(grouped(UInt64(rangeCount - ranges.count))) more (--all)")
    }
    for entry in vmcoreinfo { line("vmcoreinfo", "\(entry.key)=\(entry.value)") }
  }
}
