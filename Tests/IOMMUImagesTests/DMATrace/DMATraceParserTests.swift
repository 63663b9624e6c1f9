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

  @Test(arguments: seeds)
  func `no line of bytes traps the parser`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let words = [
      "7@1.6:vtd_dmar_translate ", "dev ", "iova ", "mask ", "0x", "fff", "{", "}", ",", "\t",
      "[001] ", ": ", "dma_map_sg: ", "dma_addrs=", "sizes=", "map: IOMMU: iova=", " size=", "r",
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
