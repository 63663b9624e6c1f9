import IOMMUFormats
import IOMMUTestSupport
import Testing

@testable import IOMMUImages

/// The forms that Linux's events have, whatever wrote them out.
@Suite struct DMATraceFormTests {
  static let device = DMATraceParserTests.requester("01:00.0")
  static let page =
    "dma_map_page:         0000:01:00.0 dir=TO_DEVICE dma_addr=fff36000 size=4096 "
    + "phys_addr=1164d8000 attrs="
  static let map =
    "map: IOMMU: iova=0x00000000fff36000 - 0x00000000fff37000 paddr=0x00000001164d8000 size=4096"
  static let unmap =
    "unmap: IOMMU: iova=0x00000000fff36000 - 0x00000000fff37000 size=4096 unmapped_size=4096"

  static let mappedPage = DMATraceParserTests.page(device, 0xfff3_6000, .read)
  static let mapped = DMATraceParserTests.page(.all, 0xfff3_6000)
  static let unmapped = DMATraceEvent.invalidate(
    source: .all, iova: IOVA(0xfff3_6000), byteCount: 4096)

  /// What is read of one line that has no newline behind it.
  static func last(
    _ line: String, _ dialect: DMATraceDialect = .ftrace
  ) -> (events: [DMATraceEvent], tally: DMATraceTally, refused: String?) {
    var parser = DMATraceParser(dialect: dialect)
    do {
      let events = try parser.events(in: Array(line.utf8)[...], isUnterminated: true)
      return (events, parser.tally, nil)
    } catch {
      return ([], parser.tally, error.description)
    }
  }

  @Test(arguments: [
    // Latency format: the mark says how long it is since the event before.
    "      dd-2312      1d..1. 12345690us : ", "      dd-2312      1d..1. 12345690us+: ",
    "      dd-2312      1d..1. 12345690us!: ", "      dd-2312      1d..1. 12345690us#: ",
    "      dd-2312      1d..1. 12345690us*: ", "      dd-2312      1d..1. 12345690us@: ",
    "      dd-2312      1d..1. 12345690us$: ", "    dd-2312    128d..1.    4us+: ",
    // With the option verbose.
    "              dd    2312   1 1 00000001 [00005c3a] 47.123ms (+0.012ms): ",
    // The ring in a crash's log.
    "[   12.345680]       dd-2312      1d..1. 12345690us+: ",
    "[   12.345680][ T2312]       dd-2312      1d..1. 12345690us : ",
    "Nov  2 10:00:00 host kernel: [   12.345680] dd-2312      1d..1. 12345690us+: ",
    // Printed into the log at once.
    "[   12.345678] ", "[12345.678901] ", "<6>[   12.345678] ", "[   12.345678][ T2312] ",
    "[   12.345678] [   T2312] ", "[12345.678901][    C1] ",
    "Nov  2 10:00:00 host kernel: [   12.345678] ", "Nov  2 10:00:00 host kernel: ",
    // A comment in the function graph.
    " 1)               |    /* ", " 12345.678901 |   1)    dd-2312    |               |  /* ",
  ])
  func `what the kernel puts before an event is no part of it`(head: String) {
    let tail = head.hasSuffix("/* ") ? " */" : ""
    let result = DMATraceParserTests.read(
      [Self.page, Self.map, Self.unmap].map { head + $0 + tail }.joined(separator: "\n"))
    #expect(result.refused == [])
    #expect(result.tally == DMATraceTally())
    #expect(result.events == [Self.mappedPage, Self.mapped, Self.unmapped])
  }

  @Test(arguments: [
    // perf script -F comm,tid,event,trace; comm,tid,cpu,event,trace; with period; event,trace.
    "              dd  2312        ", "              dd  2312 [001]        ",
    "              dd  2312/2312        ",
    "              dd  2312 [001] 12345.678901:          1                  ", "        ",
    "dd ",
  ])
  func `an event with its system counts wherever it stands`(head: String) {
    let result = DMATraceParserTests.read(
      ["dma:" + Self.page, "iommu:" + Self.map, "iommu:" + Self.unmap].map { head + $0 }
        .joined(separator: "\n"))
    #expect(result.refused == [])
    #expect(result.tally == DMATraceTally())
    #expect(result.events == [Self.mappedPage, Self.mapped, Self.unmapped])
  }

  /// The kernel's option `fields`, and `trace-cmd report -R`.
  @Test(arguments: [
    """
    dd-2312 [001] ..... 1.000001: map: iova=0xfff36000 (4294139904) paddr=0x1164d8000 (4669145088) size=0x1000 (4096)
    dd-2312 [001] ..... 1.000002: dma_map_page: device=0000:01:00.0 phys_addr=0x1164d8000 (4669145088) dma_addr=0xfff36000 (4294139904) size=0x1000 (4096) dir=0x1 (1) attrs=0x0 (0)
    dd-2312 [001] ..... 1.000003: dma_unmap_page: device=0000:01:00.0 addr=0xfff36000 (4294139904) size=0x1000 (4096) dir=0x1 (1) attrs=0x0 (0)
    dd-2312 [001] ..... 1.000004: unmap: iova=0xfff36000 (4294139904) size=0x1000 (4096) unmapped_size=0x1000 (4096)
    """,
    """
              dd-2312  [001]     1.000001: map:                  iova=4294139904 paddr=4669145088 size=4096
              dd-2312  [001]     1.000002: dma_map_page:         device=0000:01:00.0 phys_addr=4669145088 dma_addr=4294139904 size=4096 dir=1 attrs=0x0
              dd-2312  [001]     1.000003: dma_unmap_page:       device=0000:01:00.0 addr=4294139904 size=4096 dir=1 attrs=0x0
              dd-2312  [001]     1.000004: unmap:                iova=4294139904 size=4096 unmapped_size=4096
    """,
  ])
  func `fields that are printed one by one are the same event`(text: String) {
    let result = DMATraceParserTests.read(text)
    #expect(result.refused == [])
    #expect(result.tally == DMATraceTally())
    #expect(
      result.events == [
        Self.mapped, Self.mappedPage,
        .invalidate(source: Self.device, iova: IOVA(0xfff3_6000), byteCount: 4096),
        Self.unmapped,
      ])
  }

  @Test(
    arguments: [
      (
        "dd-1 [000] 1.000000: dma_map_sg: device=0000:01:00.0 phys_addrs=ARRAY[00, 80] "
          + "dma_addrs=ARRAY[00, 80] lengths=ARRAY[00, 10] dir=1 attrs=0x0",
        "dma_map_sg with its lists as fields; print it without raw fields"
      ),
      (
        "     0.000 dd/2312 iommu:map(iova: 4294139904, paddr: 4669145088, size: 4096)",
        "an event as 'perf trace' prints it; 'perf script' writes what is read"
      ),
      (
        "dd-1 [000] 1.000000: dma_map_page: device=0000:01:00.0 dma_addr=4294139904 size=4096",
        "dma_map_page with other arguments"
      ),
      (
        "12 dd IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096",
        "the values of an event, and no name that is known"
      ),
      (
        "dd-1 map_page 0000:01:00.0 dir=TO_DEVICE dma_addr=1000 size=4096",
        "the values of an event, and no name that is known"
      ),
    ])
  func `a form that is not read is told`(line: String, reason: String) {
    let result = DMATraceParserTests.read(line)
    #expect(result.events == [])
    #expect(result.refused == [reason])
  }

  @Test(arguments: [
    "[   12.345678] usb 1-1: dma_map_sg: failed", "[   12.345678] dma_alloc_coherent: no memory",
    "[    1.000000] DMAR: IOMMU: Setting identity map", "perf record -e iommu:map -e dma:*",
    " 1)               |    dma_map_page_attrs() {", "[   12.345678] Dumping ftrace buffer:",
    "dd-1 [000] ..... 1.000000: sched_switch: map: x",
  ])
  func `a line of something else is no event`(line: String) {
    let result = DMATraceParserTests.read(Self.map + "\n" + line)
    #expect(result.refused == [])
    #expect(result.events == [Self.mapped])
    #expect(result.tally.passedOver == 1)
  }

  // MARK: Lists

  @Test func `a list is unmapped by its memory`() {
    let head = "dd-1 [000] ..... 1.000000: "
    let result = DMATraceParserTests.read(
      """
      \(head)dma_map_sg: 0000:01:00.0 dir=TO_DEVICE nents=3/3 ents=2/2 dma_addrs={0x1000,0x8000} sizes={0x2000,0x1000} phys_addrs={0x5000,0x6000,0x7000} attrs=
      \(head)dma_map_sg: 0000:02:00.0 dir=TO_DEVICE dma_addrs={0x20000} sizes={0x3000} phys_addrs={0x5000,0x6000,0x7000} attrs=
      \(head)dma_unmap_sg: 0000:01:00.0 dir=TO_DEVICE phys_addrs={0x5000,0x6000,0x7000} attrs=
      \(head)dma_unmap_sg: 0000:01:00.0 dir=TO_DEVICE phys_addrs={0x5000,0x6000,0x7000} attrs=
      \(head)dma_unmap_sg: 0000:02:00.0 dir=TO_DEVICE phys_addrs={0x5000} attrs=
      \(head)dma_unmap_sg: 0000:02:00.0 dir=TO_DEVICE phys_addrs={0x5000,0x6000,0x7000} attrs=
      """)
    #expect(result.refused == [])
    let other = DMATraceParserTests.requester("02:00.0")
    #expect(
      result.events == [
        .request(
          source: Self.device, iova: IOVA(0x1000), byteCount: 0x2000, access: .read,
          pageSizeLog2: nil),
        .request(
          source: Self.device, iova: IOVA(0x8000), byteCount: 0x1000, access: .read,
          pageSizeLog2: nil),
        .request(
          source: other, iova: IOVA(0x20000), byteCount: 0x3000, access: .read,
          pageSizeLog2: nil),
        .invalidate(source: Self.device, iova: IOVA(0x1000), byteCount: 0x2000),
        .invalidate(source: Self.device, iova: IOVA(0x8000), byteCount: 0x1000),
        .invalidateUnknown(source: Self.device, physicalAddresses: [0x5000, 0x6000, 0x7000]),
        .invalidateUnknown(source: other, physicalAddresses: [0x5000]),
        .invalidate(source: other, iova: IOVA(0x20000), byteCount: 0x3000),
      ])
    #expect(result.tally.unmatchedUnmaps == 2)
    #expect(result.tally.passedOver == 0)
  }

  /// A kernel prints 128 pieces of what it maps and may print all of what it unmaps.
  @Test func `a cut list is unmapped by what there is of it`() {
    var lists = MappedLists()
    let memory = (0..<200).map { UInt64($0) << 12 }
    let pieces = [DMATracePiece(iova: 0x1000, byteCount: 0x1000)]
    lists.map(Array(memory.prefix(128)), of: .all, to: pieces)
    #expect(lists.unmap(Array(memory.prefix(127)), of: .all) == nil)
    #expect(lists.unmap(memory, of: .all) == pieces)
    #expect(lists.unmap(memory, of: .all) == nil)
  }

  @Test func `the newest mapping goes first, and old ones are forgotten`() {
    // A list of one page and one piece weighs seven.
    var lists = MappedLists(limit: 20)
    func pieces(_ iova: UInt64) -> [DMATracePiece] { [DMATracePiece(iova: iova, byteCount: 1)] }
    lists.map([1], of: .all, to: pieces(10))
    lists.map([1], of: .all, to: pieces(11))
    #expect(lists.unmap([1], of: .all) == pieces(11))
    #expect(lists.unmap([1], of: .all) == pieces(10))
    for number in 1...8 { lists.map([UInt64(number)], of: .all, to: pieces(UInt64(number))) }
    // Two halves of three.
    #expect(lists.unmap([3], of: .all) == nil)
    #expect(lists.unmap([4], of: .all) == pieces(4))
    #expect(lists.unmap([8], of: .all) == pieces(8))
  }

  // MARK: Cut lines

  @Test(arguments: [
    "dma_map_page: 0000:01:00.0 dir=TO_DEVICE dma_addr=fff36000 size=65",
    "dma_map_page: 0000:01:00.0 dir=TO_DEVICE dma_addr=fff36000 size=65536",
    "dma_map_resource: 0000:01:00.0 dir=TO_DEVICE dma_addr=fff36000 size=65536 phys_",
    "dma_unmap_page: 0000:01:00.0 dir=TO_DEVICE dma_addr=fff36000 size=65536",
    "dma_alloc: 0000:01:00.0 dma_addr=fff36000 size=65", "dma_free_sgt: a dma_addr=1000 size=65",
    "dma_map_sg: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x1000} sizes={0x1000}",
    "dma_map_sg: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x1000} sizes={0x1000} phys_addrs={0x5",
    "dma_unmap_sg: 0000:01:00.0 dir=TO_DEVICE phys_addrs={0x5000,0x6",
    "map: IOMMU: iova=0x00000000fff36000 - 0x00000000fff46000 paddr=0x00000001164d8000 size=6553",
    "unmap: IOMMU: iova=0x00000000fff36000 - 0x00000000fff46000 size=65",
    "unmap: IOMMU: iova=0x00000000fff36000 - 0x00000000fff46000 size=65536",
  ])
  func `an event without what has to follow is not understood`(event: String) {
    let name = event.prefix { $0 != ":" }
    let result = DMATraceParserTests.read("dd-1 [000] ..... 1.000000: " + event)
    #expect(result.events == [])
    #expect(result.refused == ["\(name) with other arguments"])
    let last = Self.last("dd-1 [000] ..... 1.000000: " + event)
    #expect(last.events == [])
    #expect(last.refused == "\(name) in a last line that is cut off")
  }

  /// Nothing follows these numbers: only the newline says that they are whole.
  @Test func `a last number without a newline is whole where something says so`() {
    let head = "dd-1 [000] ..... 1.000000: "
    let sync = head + "dma_sync_single_for_device: 0000:01:00.0 dir=TO_DEVICE dma_addr=1000 size=64"
    #expect(DMATraceParserTests.read(sync).events.count == 1)
    #expect(
      Self.last(sync).refused == "dma_sync_single_for_device in a last line that is cut off")
    #expect(Self.last(head + "map: IOMMU: iova=0x1000 paddr=0x5000 size=4096").events == [])
    #expect(Self.last(head + Self.map).events == [Self.mapped])
    #expect(Self.last(head + Self.unmap).events == [Self.unmapped])
    #expect(Self.last(head + Self.page).events == [Self.mappedPage])
    let translate = "7@1.6:vtd_dmar_translate dev 00:05.00 iova 0x1000 -> gpa 0x400000 mask "
    #expect(Self.last(translate + "0xfff", .qemu).events.count == 1)
    #expect(
      Self.last(translate + "0xff", .qemu).refused
        == "vtd_dmar_translate in a last line that is cut off")
    #expect(
      Self.last("7@1.9:vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x1", .qemu).refused
        == "vtd_inv_desc_iotlb_domain in a last line that is cut off")
  }

  @Test(
    arguments: [
      ("dd-1 [000] ..... 1.000000: dma_ma", .ftrace, true), ("dd-1 [000] .....", .ftrace, true),
      ("dd-1 [000] ..... 1.000000: sched_switch: prev_comm=d", .ftrace, false),
      ("236498@1676271757.075075:vtd_dm", .qemu, true), ("236498@16762717", .qemu, true),
    ] as [(String, DMATraceDialect, Bool)])
  func `a last line may be cut inside its name`(
    line: String, dialect: DMATraceDialect, isCut: Bool
  ) {
    let result = Self.last(line, dialect)
    #expect(result.refused == nil)
    #expect(result.events == [])
    #expect(result.tally.cutLines == (isCut ? 1 : 0))
    #expect(result.tally.passedOver == (isCut ? 0 : 1))
  }

  // MARK: Other things in a trace

  @Test func `a line with zeros is a hole`() {
    let result = DMATraceParserTests.read(
      "\(Self.map)\ndd-1 [000]\0\0\0\0: \(Self.map)\n\(Self.unmap)")
    #expect(result.events == [Self.mapped, Self.unmapped])
    #expect(result.refused == [])
    #expect(result.tally.holes == 1)
    #expect(result.tally.passedOver == 0)
  }

  @Test func `notices with a number and without are told apart`() {
    let result = DMATraceParserTests.read(
      """
      CPU:1 [LOST 5 EVENTS]
      CPU:0 [LOST EVENTS]
      [   12.345678] CPU:1 [LOST 7 EVENTS]
      [LINE TOO BIG]
      """)
    #expect(result.tally.lostEvents == 13)
    #expect(result.tally.lossNotices == 4)
    #expect(result.tally.uncountedLosses == 1)
    #expect(result.tally.passedOver == 0)
  }

  @Test func `a mapping may be larger than any request`() {
    let result = DMATraceParserTests.read(
      "map: IOMMU: iova=0x0000000000000000 - 0x0000002000000000 paddr=0x0000000000000000 "
        + "size=137438953472")
    #expect(result.refused == [])
    #expect(
      result.events == [
        .request(
          source: .all, iova: IOVA(0), byteCount: 128 << 30, access: .write, pageSizeLog2: nil)
      ])
  }

  @Test func `most of the first lines say which dialect it is`() {
    let guest = "[    1.000000] " + Self.page
    let translate =
      "7@1.6:vtd_dmar_translate dev 00:05.00 iova 0x1000 -> gpa 0x400000 mask 0xfff"
    func dialect(_ lines: [String]) -> DMATraceDialect? {
      var parser = DMATraceParser()
      parser.findDialect(in: Array(lines.joined(separator: "\n").utf8)[...])
      return parser.dialect
    }
    #expect(dialect([guest, translate, translate]) == .qemu)
    #expect(dialect([guest, guest, translate]) == .ftrace)
    #expect(dialect([guest, translate]) == .ftrace)
    #expect(dialect(["# \(translate)", "other: line"]) == nil)
    var parser = DMATraceParser()
    parser.findDialect(in: Array([guest, translate, translate].joined(separator: "\n").utf8)[...])
    #expect(try! parser.events(in: Array(guest.utf8)[...]) == [])
    #expect(try! parser.events(in: Array(translate.utf8)[...]).count == 1)
    #expect(parser.tally.otherEvents == 1)
    #expect(parser.tally.passedOver == 0)
  }

  @Test func `columns may have marks around them`() {
    let result = DMATraceParserTests.read(
      """
      "requester","iova","bytes","access"
      "01:00.0","0x1000","4096","w"
      01:00.0,0x1000,4096,w
      """)
    #expect(result.refused == [])
    #expect(
      result.events == [
        DMATraceParserTests.page(Self.device, 0x1000),
        DMATraceParserTests.page(Self.device, 0x1000),
      ])
    #expect(
      DMATraceParserTests.read("\"01:00.0\",\"0x1000\",\"4096\",\"w\"").events == [
        DMATraceParserTests.page(Self.device, 0x1000)
      ])
  }
}
