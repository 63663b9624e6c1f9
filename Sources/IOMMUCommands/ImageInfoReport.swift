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

  /// What one file lacks.
  struct Missing: Encodable {
    var file: String
    var isDiskFull: Bool
    var endOfFile: UInt64
    var bytes: UInt64
    var claimedBytes: UInt64
    var from: String?
    var unknownFrom: String?
    var programHeaders: UInt64

    enum CodingKeys: String, CodingKey {
      case file, bytes, from
      case isDiskFull = "disk_full"
      case endOfFile = "end_of_file"
      case claimedBytes = "claimed_bytes"
      case unknownFrom = "unknown_from"
      case programHeaders = "program_headers"
    }
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
  var missing: [Missing]
  /// For people, a line for each of `missing`.
  private let missingText: [String]
  private let pageByteCount: UInt64
  var dumpLevel: Int32?
  var fileBytes: UInt64?
  var pageBytes: String
  var storedPages: UInt64
  var zeroPages: UInt64
  var excludedPages: UInt64?
  var packings: [Packing]
  var rangeCount: Int
  var ranges: [[String]]
  var processors: Int
  var vmcoreinfo: [Line]

  enum CodingKeys: String, CodingKey {
    case files, format, version, missing, packings, ranges, processors, vmcoreinfo
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
    format = "\(summary.format)"
    isFlattened = summary.isFlattened
    version = summary.version
    isIncomplete = !summary.incompleteness.isEmpty
    missing = summary.incompleteness.map {
      Missing(
        file: $0.path, isDiskFull: $0.isMarked, endOfFile: $0.endOfFile, bytes: $0.missingByteCount,
        claimedBytes: $0.claimedByteCount, from: $0.firstMissing.map { "\($0)" },
        unknownFrom: $0.unknownFrom.map { "\($0)" }, programHeaders: $0.missingHeaderCount)
    }
    missingText = summary.incompleteness.map {
      (summary.paths.count == 1 ? "" : "\($0.path): ") + "\($0.reason): \($0.extent)"
    }
    dumpLevel = summary.dumpLevel
    fileBytes = summary.fileByteCount
    pageByteCount = summary.pageByteCount
    pageBytes = hexadecimal(pageByteCount)
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
      print(label + String(repeating: " ", count: 12 - label.count) + text.visible, to: &out)
    }
    for file in files { line("file", file) }
    let version = version.map { " version \($0)" } ?? ""
    line("format", format + version + (isFlattened ? ", flattened" : ""))
    for text in missingText { line("incomplete", text) }
    if let dumpLevel { line("dump level", "\(dumpLevel)") }
    if let fileBytes { line("file size", "\(grouped(fileBytes)) bytes") }
    line("page size", "\(grouped(pageByteCount)) bytes")
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
