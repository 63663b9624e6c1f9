import IOMMUFormats
import IOMMUImages
import Testing

@Suite struct DMATraceParserTests {
  static func events(_ lines: [String]) throws -> [DMATraceEvent] {
    var parser = DMATraceParser()
    return try lines.flatMap { line in
      try parser.events(in: Array(line.utf8)[...])
    }
  }

  static func requester(_ text: String) -> DMATraceEvent.Source {
    .device(PCI.Function(Requester(text)!))
  }

  @Test func `a table is read with commas, tabs, comments and a heading`() throws {
    let events = try Self.events([
      "requester,iova,bytes,access", "# a comment", "", "00:1f.2,0x1000,512,r",
      "00:1f.2\t1000\t0x10\tw\t2M", "0000:02:00.0,0xfffff000,4096,u\r",
    ])
    #expect(
      events == [
        .request(
          source: Self.requester("00:1f.2"), iova: IOVA(0x1000), byteCount: 512, access: .read,
          pageSizeLog2: nil),
        .request(
          source: Self.requester("00:1f.2"), iova: IOVA(0x1000), byteCount: 16, access: .write,
          pageSizeLog2: 21),
        .invalidate(
          source: Self.requester("02:00.0"), iova: IOVA(0xffff_f000), byteCount: 4096),
      ])
  }

  @Test(arguments: [
    ("00:1f.2,0x1000,512", "3 columns"), ("00:1f.2,0x1000,512,x", "r, w, or u"),
    ("nowhere,0x1000,512,r", "00:1f.2"), ("00:1f.2,0x1g,512,r", "'g' is no hexadecimal digit"),
    ("00:1f.2,0x10000000000000000,512,r", "more than 64 bits"),
    ("00:1f.2,0x1000,0,r", "at least one byte"),
    ("00:1f.2,0x1000,1,r,8k", "4k, 2m or 1g"), ("00:1f.2,0,0xffffffffffffffff,w", "64 GiB"),
  ])
  func `a bad table line says what is wrong`(line: String, text: String) throws {
    let error = #expect(throws: DMATraceError.self) { try Self.events([line]) }
    #expect(try #require(error).description.contains(text))
  }

  @Test func `QEMU's log gives requests by domain, and invalidations`() throws {
    let events = try Self.events([
      "32763@1795346742.524651:vtd_context_cache_reset ",
      "7@1.5:vtd_iotlb_cc_update IOTLB context update bus 0x0 devfn 0xfa high 0xa02 low 0x6b68001 "
        + "gen 0 -> gen 1",
      "7@1.6:vtd_dmar_translate dev 00:1f.02 iova 0xfffe0000 -> gpa 0x18543000 mask 0xfff",
      "7@1.7:vtd_iotlb_page_update IOTLB page update sid 0x10 iova 0xfffe0400 slpte 0x18543003 "
        + "domain 0xb",
      "7@1.8:vtd_dmar_translate dev 00:02.00 iova 0x200000 -> gpa 0x400000 mask 0x1fffff",
      "7@1.8:vtd_dmar_translate dev 00:05.00 iova 0x1000 -> gpa 0x400000 mask 0xfff",
      "vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x8 addr 0x55aa001000 mask 0x2",
      "7@1.9:vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0xa",
      "7@2.0:vtd_inv_desc_iotlb_global iotlb invalidate global",
      "7@2.1:virtio_queue_notify vdev 0x55d5 n 0 vq 0x7f",
    ])
    #expect(
      events == [
        .request(
          source: .domain(10), iova: IOVA(0xfffe_0000), byteCount: 1, access: .read,
          pageSizeLog2: 12),
        .request(
          source: .domain(11), iova: IOVA(0x20_0000), byteCount: 1, access: .read,
          pageSizeLog2: 21),
        .request(
          source: Self.requester("00:05.0"), iova: IOVA(0x1000), byteCount: 1, access: .read,
          pageSizeLog2: 12),
        .invalidate(source: .domain(8), iova: IOVA(0x55_aa00_0000), byteCount: 0x4000),
        .invalidateSource(.domain(10)), .invalidateAll,
      ])
  }

  @Test func `ftrace's iommu and dma events give requests and invalidations`() throws {
    let head = "          insmod-101     [001] d..1.     2.489464: "
    let events = try Self.events([
      "# tracer: nop",
      head + "map: IOMMU: iova=0x00000000fffe0000 - 0x00000000fffe1000 paddr=0x0000000018543000 "
        + "size=4096",
      head + "unmap: IOMMU: iova=0x00000000fff3f000 - 0x00000000fff40000 size=4096 "
        + "unmapped_size=4096",
      head + "dma_map_page: 0000:00:03.0 dir=TO_DEVICE dma_addr=fffff040 size=64 "
        + "phys_addr=1234040 attrs=",
      head + "dma_map_sg: 0000:00:1f.2 dir=FROM_DEVICE nents=2/2 ents=2/2 "
        + "dma_addrs={0xffffe000,0xffffc000} sizes={0x1000,0x2000} phys_addrs={0x1,0x2} attrs=",
      head + "dma_unmap_page: 0000:00:03.0 dir=TO_DEVICE dma_addr=fffff040 size=64 attrs=",
      head + "dma_sync_single_for_cpu: 0000:00:03.0 dir=FROM_DEVICE dma_addr=1000 size=64",
      "  my [odd] task-7  [000] .....  3.1: sched_switch: whatever this holds",
    ])
    #expect(
      events == [
        .request(
          source: .all, iova: IOVA(0xfffe_0000), byteCount: 4096, access: .write,
          pageSizeLog2: nil),
        .invalidate(source: .all, iova: IOVA(0xfff3_f000), byteCount: 4096),
        .request(
          source: Self.requester("00:03.0"), iova: IOVA(0xffff_f040), byteCount: 64,
          access: .read, pageSizeLog2: nil),
        .request(
          source: Self.requester("00:1f.2"), iova: IOVA(0xffff_e000), byteCount: 4096,
          access: .write, pageSizeLog2: nil),
        .request(
          source: Self.requester("00:1f.2"), iova: IOVA(0xffff_c000), byteCount: 8192,
          access: .write, pageSizeLog2: nil),
        .invalidate(source: Self.requester("00:03.0"), iova: IOVA(0xffff_f040), byteCount: 64),
      ])
  }

  @Test(arguments: [
    "7@1.6:vtd_dmar_translate dev 00:1f.02 iova 0xfffe0000",
    "7@1.6:vtd_dmar_translate dev 00:1f.02 iova 0xf -> gpa 0x1 mask 0xffe",
    "7@1.6:vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x8 addr 0x0 mask 0x40",
    "7@1.6:vtd_iotlb_page_update IOTLB page update sid 0x10000 domain 0xb",
  ])
  func `an event of QEMU with other arguments is an error`(line: String) {
    #expect(throws: DMATraceError.self) { try Self.events([line]) }
  }

  /// The lines of a trace, with what the reader counted beside them and the lines that it refused.
  static func read(
    _ text: String
  ) -> (events: [DMATraceEvent], tally: DMATraceTally, refused: [String]) {
    var parser = DMATraceParser()
    var result: (events: [DMATraceEvent], tally: DMATraceTally, refused: [String]) = (
      [], DMATraceTally(), []
    )
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      do {
        result.events += try parser.events(in: Array(line.utf8)[...])
      } catch {
        result.refused.append(error.description)
      }
    }
    result.tally = parser.tally
    return result
  }

  static func page(
    _ source: DMATraceEvent.Source, _ iova: UInt64, _ access: DMATraceEvent.Access = .write
  ) -> DMATraceEvent {
    .request(
      source: source, iova: IOVA(iova), byteCount: 4096, access: access, pageSizeLog2: nil)
  }

  /// Event by event the same, whoever writes it out.
  @Test(arguments: [
    "dd-2312  [001] ..... 12345.678901: ", "dd-2312    (   2312) [001] d..1. 12345.678901: ",
    "dd-2312  [001] 12345.678901: ", "dd-2312  [001] ..... 12345.678901234: ",
    "dd-2312    1..... 12345678us : ", "dd-2312  [001] 12345.678901: (+12.500) ",
    "[   12.345678] dd-2312    1..... 12345678us : ", "my [odd] task-7 [000] ..... 3.1: ", "",
  ])
  func `whatever stands before an event of Linux, it is read`(head: String) {
    let text = """
      \(head)map:                  IOMMU: iova=0x00000000fff36000 - 0x00000000fff37000 \
      paddr=0x00000001164d8000 size=4096
      \(head)iommu:unmap: IOMMU: iova=0x00000000fff36000 - 0x00000000fff37000 size=4096 \
      unmapped_size=4096
      \(head)dma_map_phys:         0000:02:00.0 dir=TO_DEVICE dma_addr=fff36000 size=4096 \
      phys_addr=1164d8000 attrs=
      \(head)  dma:dma_unmap_phys: 0000:02:00.0 dir=TO_DEVICE dma_addr=fff36000 size=4096 attrs=
      """
    let result = Self.read(text)
    #expect(result.refused == [])
    #expect(result.tally == DMATraceTally())
    #expect(
      result.events == [
        Self.page(.all, 0xfff3_6000),
        .invalidate(source: .all, iova: IOVA(0xfff3_6000), byteCount: 4096),
        Self.page(Self.requester("02:00.0"), 0xfff3_6000, .read),
        .invalidate(source: Self.requester("02:00.0"), iova: IOVA(0xfff3_6000), byteCount: 4096),
      ])
  }

  @Test func `perf's columns are no part of an event`() {
    let result = Self.read(
      """
      # captured on: Mon Nov  2 10:00:00 2026
                  dd  2312 [001] 12345.678901:                  iommu:map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096
      \tffffffff81a3c4d5 iommu_map+0x10 ([kernel.kallsyms])
          my prog  2312/2313 [001] 12345.678902:       dma:dma_map_page: 0000:01:00.0 dir=FROM_DEVICE dma_addr=2000 size=4096 phys_addr=5000 attrs=
             dd  2312 [001] 12345.678903:       sched:sched_switch: prev_comm=dd prev_pid=2312
             dd  2312 [001] 12345.678904: PERF_RECORD_LOST lost 17
      """)
    #expect(result.refused == [])
    #expect(
      result.events == [Self.page(.all, 0x1000), Self.page(Self.requester("01:00.0"), 0x2000)])
    #expect(result.tally.passedOver == 2)
    #expect(result.tally.lostEvents == 17)
    #expect(result.tally.lossNotices == 1)
  }

  @Test func `devices are told apart, on PCI and elsewhere`() {
    let head = "dd-1 [000] 1.000000: dma_map_phys:    "
    let tail = "dir=FROM_DEVICE dma_addr=1000 size=4096 phys_addr=5000 attrs="
    let result = Self.read(
      ["fe800000.usb", "fe900000.usb", "10000:e1:00.0", "0000:e1:00.0", "fe800000.usb", "0000:e1"]
        .map { "\(head)\($0) \(tail)" }.joined(separator: "\n"))
    let far = DMATraceEvent.Source.device(
      PCI.Function(segment: 0x10000, Requester("e1:00.0")!))
    #expect(
      result.events
        == [.other(0), .other(1), far, Self.requester("e1:00.0"), .other(0), .other(2)].map {
          Self.page($0, 0x1000)
        })
    let sources: [DMATraceEvent.Source] = [
      .other(0), .other(1), far, Self.requester("e1:00.0"), .all, .domain(0), .domain(1),
    ]
    #expect(Set(sources.map(\.number)).count == sources.count)
  }

  @Test func `what could not be mapped is none, and counted`() {
    let head = "dd-1 [000] ..... 1.000000: "
    let result = Self.read(
      """
      \(head)dma_map_page: 0000:01:00.0 dir=TO_DEVICE dma_addr=ffffffffffffffff size=4096 phys_addr=5000 attrs=
      \(head)dma_map_sg_err: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x5000} err=-5 attrs=
      \(head)dma_alloc: 0000:01:00.0 dir=BIDIRECTIONAL dma_addr=0 size=4096 virt_addr=(null) flags=GFP_KERNEL attrs=
      \(head)dma_alloc_pages: 0000:01:00.0 dir=BIDIRECTIONAL dma_addr=0 size=4096 virt_addr=0000000000000000 flags=GFP_KERNEL attrs=
      \(head)dma_alloc: 0000:01:00.0 dma_addr=fffff000 size=4096 virt_addr=00000000deadbeef flags=GFP_KERNEL attrs=
      \(head)unmap: IOMMU: iova=0x1000 - 0x2000 size=4096 unmapped_size=0
      """)
    #expect(result.refused == [])
    #expect(result.events == [Self.page(Self.requester("01:00.0"), 0xffff_f000)])
    #expect(result.tally.failedMappings == 4)
  }

  @Test func `notices of lost events are counted, whoever wrote them`() {
    let result = Self.read(
      """
      # tracer: nop
      # entries-in-buffer/entries-written: 205/1205   #P:2
      version = 6
      cpus=2
      CPU 0 is empty
      CPU:1 [LOST 1234 EVENTS]
      CPU:1 [LOST EVENTS]
      CPU:7 [204600 EVENTS DROPPED]
      CPU:7 [EVENTS DROPPED]
      """)
    #expect(result.refused == [])
    #expect(result.events == [])
    #expect(result.tally.lostEvents == 1000 + 1234 + 204_600)
    #expect(result.tally.lossNotices == 5)
    #expect(result.tally.passedOver == 0)
  }

  @Test func `a list that the kernel cut is counted`() {
    let result = Self.read(
      """
      dd-1 [000] ..... 1.000000: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE nents=128/200 ents=2/200 [TRUNCATED] dma_addrs={0x1000,0x3000} sizes={0x1000,0x1000} phys_addrs={0x1,0x2} attrs=
      """)
    #expect(result.events.count == 2)
    #expect(result.tally.cutLists == 1)
  }

  @Test(arguments: [
    "dma_map_folio: 0000:01:00.0 dir=TO_DEVICE dma_addr=1000 size=4096",
    "iommu:map_range: IOMMU: iova=0x1000 size=4096", "remap: IOMMU: iova=0x1000 size=4096",
    "map: IOMMU: iova=0x1000 - 0x2000", "map: IOMMU: paddr=0x1000 size=4096",
    "dma_map_page: dir=TO_DEVICE dma_addr=1000 size=4096",
    "dma_map_page: [FAILED TO PARSE] device=0000:01:00.0 dma_addr=4096 size=4096",
    "dma_map_sg: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x1000,0x2000} sizes={0x1000}",
    "dma_map_sg: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x1000,0x20",
  ])
  func `what looks like an event and is not understood is refused`(event: String) {
    let result = Self.read("dd-1 [000] ..... 1.000000: \(event)")
    #expect(result.refused.count == 1)
    #expect(result.events == [])
  }

  @Test func `QEMU's invalidations of a PASID go for the domain`() {
    let result = Self.read(
      """
      vtd_inv_desc_iotlb_pasid_pages iotlb invalidate domain 0x1 addr 0xffffe000 mask 0x0 pasid 0x0
      7@1.7:vtd_inv_desc_iotlb_pasid iotlb invalidate domain 0x2 pasid 0x5
      2026-01-08T17:05:43.000000Z vtd_inv_desc_iotlb_global iotlb invalidate global
      """)
    #expect(result.refused == [])
    #expect(
      result.events == [
        .invalidate(source: .domain(1), iova: IOVA(0xffff_e000), byteCount: 4096),
        .invalidateSource(.domain(2)), .invalidateAll,
      ])
    #expect(
      Self.read("vtd_inv_desc_iotlb_pasid_range iotlb invalidate domain 0x1").refused == [
        "vtd_inv_desc_iotlb_pasid_range, an invalidation of a kind that is not known"
      ])
  }

  /// Bits 23 to 8 of the high quadword are a domain in legacy mode only.
  @Test func `a context entry of scalable mode tells no domain`() {
    let update =
      "7@1.5:vtd_iotlb_cc_update IOTLB context update bus 0x0 devfn 0x18 high 0xa02 low 0x1"
    let translate = "7@1.6:vtd_dmar_translate dev 00:03.00 iova 0x1000 -> gpa 0x5000 mask 0xfff"
    let page =
      "7@1.6:vtd_iotlb_page_hit IOTLB page hit sid 0x18 iova 0x1000 slpte 0x5003 domain 0x7"
    func sources(_ lines: [String]) -> [UInt64] {
      Self.read(lines.joined(separator: "\n")).events.compactMap {
        if case .request(let source, _, _, _, _) = $0 { source.number } else { nil }
      }
    }
    let isLegacy = "7@1.4:vtd_reg_dmar_root addr 0x1000 scalable 0"
    let isScalable = "7@1.4:vtd_reg_dmar_root addr 0x1000 scalable 1"
    #expect(sources([isLegacy, update, translate]) == [1 << 48 | 10])
    #expect(sources([isScalable, page, update, translate]) == [1 << 48 | 7])
  }

  @Test func `a log of QEMU has other messages, before the first event too`() {
    let result = Self.read(
      """
      char device redirected to /dev/pts/3 (label serial0)
      {"QMP":{"version":1},"a":2,"b":3}
      236498@1676271757.075075:vtd_dmar_translate dev 0b:00.00 iova 0xffffe000 -> gpa 0x1234000 mask 0xfff
      236498@1676271757.075076:vtd_dmar_fault sid 0xb00 fault 6 addr 0x1187a9000 write 0
      2023-01-01T00:00:00.075174Z qemu-system-x86_64: vtd_iommu_translate: detected translation failure (dev=0b:00:00, iova=0x1187a9000)
      236498@1676271757.075077:vtd_dmar_translate dev 0b:00.00 iova 0xffffe000 -> gpa 0x1234000 mask 0xfff
      """)
    #expect(result.refused == [])
    #expect(result.events.count == 2)
    #expect(result.tally.passedOver == 4)
  }

  @Test(arguments: seeds)
  func `no line of bytes traps the parser`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let words = [
      "7@1.6:vtd_dmar_translate ", "dev ", "iova ", "mask ", "0x", "fff", "{", "}", ",", "\t",
      "[001] ", ": ", "1.5: ", "dma_map_sg: ", "iommu:", "CPU:1 [LOST ", " EVENTS]", "virt_addr=",
      "dma_addrs=", "sizes=", "map: IOMMU: iova=", " size=", "r",
    ]
    for _ in 0..<3000 {
      var line: [UInt8] = []
      for _ in 0..<Int.random(in: 0..<12, using: &generator) {
        line += Array(words.randomElement(using: &generator)!.utf8)
        if Bool.random(using: &generator) {
          line.append(UInt8.random(in: 0...255, using: &generator))
        }
      }
      var parser = DMATraceParser(
        dialect: DMATraceDialect.allCases.randomElement(using: &generator))
      // An error is as good as an answer.
      _ = try? parser.events(in: line[...])
    }
  }
}
