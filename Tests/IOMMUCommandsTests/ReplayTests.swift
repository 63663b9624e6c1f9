import IOMMUImages
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

@Suite struct ReplayTests {
  /// Calls `body` with a directory of its own with files in it.
  static func withFiles(_ files: [String: String], _ body: (String) throws -> Void) throws {
    let directory = TemporaryDirectory()
    for (name, text) in files { _ = directory.file(name, text) }
    try body(directory.path)
  }

  static func run(_ arguments: [String]) throws -> String {
    var screen = ""
    try Replay.parse(arguments).report(to: &screen)
    return screen
  }

  /// The output; what was thrown instead of it.
  static func output(_ arguments: [String]) -> String {
    do { return try run(arguments) } catch { return "thrown: \(error)" }
  }

  static let trace = """
    requester,iova,bytes,access
    00:03.0,0x1000,64,r
    00:03.0,0x1040,64,w
    00:03.0,0x2ff0,32,w
    00:1f.2,0x200000,4096,r,2m
    00:03.0,0x1000,4096,u
    00:03.0,0x1000,64,r

    """

  @Test func `a trace is replayed to the last count`() throws {
    try Self.withFiles(["trace.csv": Self.trace]) { directory in
      #expect(
        Self.output(["\(directory)/trace.csv"]) == """
          5 requests, 6 pages looked up, 1 invalidations, 0 beyond 48 bits
          IOTLB 64x4 lru: 1 hits (16.67 %), 5 misses
          entries read: level 4 5, level 3 5, level 2 5, level 1 4
          paging-structure caches: none
          modelled latency: 1.2 us, 192.0 ns a lookup (2 ns each, 60 ns an entry read)

          """)
      #expect(
        Self.output(["\(directory)/trace.csv", "--sweep", "entries=1:4", "--format", "csv"]) == """
          entries,ways,policy,lookups,hits,misses,hit_rate
          1,1,lru,6,1,5,0.166667
          2,2,lru,6,1,5,0.166667
          4,4,lru,6,1,5,0.166667

          """)
    }
  }

  @Test func `a trace without a request is the wrong file`() throws {
    try Self.withFiles(["empty.csv": ""]) { directory in
      #expect(Self.output(["\(directory)/empty.csv"]).contains("empty.csv: no DMA request in it"))
    }
  }

  /// 64 lines that ask for 64 GiB each would be a thousand million look-ups.
  @Test func `what a trace may touch follows its lines`() throws {
    let line = "00:03.0,0x0,68719476736,r"
    let trace = (["00:03.0,0x0,4096,r"] + [String](repeating: line, count: 64))
      .joined(separator: "\n")
    try Self.withFiles(["trace.csv": trace]) { directory in
      let path = "\(directory)/trace.csv"
      let error = #expect(throws: InputError.self) { try Self.run([path]) }
      #expect(
        error?.text.hasPrefix(
          "\(path): line 2: a request of 68719476736 bytes in pages of 4 KiB: with it") == true)
      // Pages of 1 GiB are 65 to a line.
      #expect(
        Self.output([path, "--page-size", "1g"]).hasPrefix("65 requests, 4,097 pages looked up"))
      #expect(
        Self.output([path, "--skip-bad"]).contains(
          "\n64 lines not understood and left out; the first is line 2\n"))
    }
  }

  /// The cache tells 131,072 sources apart; a trace with more is refused, as those beyond would be one.
  @Test func `so many devices are of no machine`() throws {
    let trace = (0...131_072).map { number in
      let segment = String(number >> 13, radix: 16)
      let bus = String(number >> 5 & 0xff, radix: 16)
      let device = String(number & 0x1f, radix: 16)
      return "\(segment):\(bus):\(device).0,0x1000,64,r\n"
    }.joined()
    try Self.withFiles(["trace.csv": trace]) { directory in
      let error = #expect(throws: InputError.self) { try Self.run(["\(directory)/trace.csv"]) }
      #expect(
        error?.text.hasSuffix("more than 131,072 devices and domains; is it of one machine?")
          == true)
    }
  }

  @Test func `a bad line is named, or passed over and counted`() throws {
    let bad = Self.trace + "00:03.0,nowhere,64,r\n"
    try Self.withFiles(["trace.csv": bad]) { directory in
      let path = "\(directory)/trace.csv"
      let error = #expect(throws: InputError.self) { try Self.run([path]) }
      #expect(error?.text.hasPrefix("\(path): line 8: 'n' is no hexadecimal digit") == true)
      #expect(
        Self.output([path, "--skip-bad"]).contains(
          "\n1 line not understood and left out; the first is line 8\n"))
    }
  }

  /// Forms in which people have traces; addresses and names are made up.
  @Test(arguments: [
    // trace-cmd report, with its headers: two devices are two domains.
    (
      """
      version = 6
      cpus=2
                    dd-2312  [001] 12345.678910: dma_map_page:         0000:01:00.0 dir=FROM_DEVICE dma_addr=fff36000 size=4096 phys_addr=1164d8000 attrs=
                    dd-2312  [001] 12345.678911: dma_map_page:         0000:02:00.0 dir=FROM_DEVICE dma_addr=fff36000 size=4096 phys_addr=1164d8000 attrs=
                    dd-2312  [001] 12345.678912: dma_map_page:         0000:01:00.0 dir=FROM_DEVICE dma_addr=fff36000 size=4096 phys_addr=1164d8000 attrs=
      """,
      """
      3 requests, 3 pages looked up, 0 invalidations, 0 beyond 48 bits
      IOTLB 64 lru: 1 hits (33.33 %), 2 misses

      """
    ),
    // perf script.
    (
      """
                  dd  2312 [001] 12345.678901:                  iommu:map: IOMMU: iova=0x00000000fff36000 - 0x00000000fff37000 paddr=0x00000001164d8000 size=4096
                  dd  2312 [001] 12345.678920:                iommu:unmap: IOMMU: iova=0x00000000fff36000 - 0x00000000fff37000 size=4096 unmapped_size=4096
                  dd  2312 [001] 12345.678930:                  iommu:map: IOMMU: iova=0x00000000fff36000 - 0x00000000fff37000 paddr=0x00000001164d8000 size=4096
      """,
      """
      2 requests, 2 pages looked up, 1 invalidations, 0 beyond 48 bits
      IOTLB 64 lru: 0 hits (0.00 %), 2 misses

      """
    ),
    // A reader of trace_pipe that was too slow.
    (
      """
      # tracer: nop
                    dd-2312  [001] ..... 12345.678901: map: IOMMU: iova=0x00000000fff36000 - 0x00000000fff37000 paddr=0x00000001164d8000 size=4096
      CPU:1 [LOST 1234 EVENTS]
                    dd-2312  [001] ..... 12345.678920: unmap: IOMMU: iova=0x00000000fff36000 - 0x00000000fff37000 size=4096 unmapped_size=4096
      """,
      """
      1 requests, 1 pages looked up, 1 invalidations, 0 beyond 48 bits
      1,234 events were lost
      IOTLB 64 lru: 0 hits (0.00 %), 1 misses

      """
    ),
    // Failed mappings are no faults.
    (
      """
      dd-1 [000] ..... 1.000000: dma_map_phys: 0000:01:00.0 dir=TO_DEVICE dma_addr=ffffffffffffffff size=4096 phys_addr=5000 attrs=
      dd-1 [000] ..... 1.000001: dma_map_phys: 0000:01:00.0 dir=TO_DEVICE dma_addr=1000 size=4096 phys_addr=5000 attrs=
      CPU:0 [LOST EVENTS]
      """,
      """
      1 requests, 1 pages looked up, 0 invalidations, 0 beyond 48 bits
      events were lost; the trace does not say how many
      1 mapping failed, and nothing was mapped
      IOTLB 64 lru: 0 hits (0.00 %), 1 misses

      """
    ),
    // QEMU's invalidations with a PASID.
    (
      """
      vtd_iotlb_page_update IOTLB page update sid 0x18 iova 0xffffe000 slpte 0x1234003 domain 0x1
      vtd_dmar_translate dev 00:03.00 iova 0xffffe000 -> gpa 0x1234000 mask 0xfff
      vtd_inv_desc_iotlb_pasid_pages iotlb invalidate domain 0x1 addr 0xffffe000 mask 0x0 pasid 0x0
      vtd_dmar_translate dev 00:03.00 iova 0xffffe000 -> gpa 0x1234000 mask 0xfff
      """,
      """
      2 requests, 2 pages looked up, 1 invalidations, 0 beyond 48 bits
      IOTLB 64 lru: 0 hits (0.00 %), 2 misses

      """
    ),
    // QEMU's log with other messages in it.
    (
      """
      char device redirected to /dev/pts/3 (label serial0)
      236498@1676271757.075075:vtd_dmar_translate dev 0b:00.00 iova 0xffffe000 -> gpa 0x1234000 mask 0xfff
      2023-01-01T00:00:00.075174Z qemu-system-x86_64: vtd_iommu_translate: detected translation failure (dev=0b:00:00, iova=0x1187a9000)
      236498@1676271757.075077:vtd_dmar_translate dev 0b:00.00 iova 0xffffe000 -> gpa 0x1234000 mask 0xfff
      """,
      """
      2 requests, 2 pages looked up, 0 invalidations, 0 beyond 48 bits
      2 other lines passed over
      IOTLB 64 lru: 1 hits (50.00 %), 1 misses

      """
    ),
    // Notices with a number and without.
    (
      """
      CPU:1 [LOST 5 EVENTS]
      CPU:0 [LOST EVENTS]
      dd-1 [000] ..... 1.000000: map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096
      """,
      """
      1 requests, 1 pages looked up, 0 invalidations, 0 beyond 48 bits
      5 events were lost, and a notice does not say how many
      IOTLB 64 lru: 0 hits (0.00 %), 1 misses

      """
    ),
    // Lists, one of which was mapped before the trace began.
    (
      """
      dd-1 [000] ..... 1.000000: dma_unmap_sg: 0000:01:00.0 dir=TO_DEVICE phys_addrs={0x9000} attrs=
      dd-1 [000] ..... 1.000001: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x1000} sizes={0x1000} phys_addrs={0x5000} attrs=
      dd-1 [000] ..... 1.000002: dma_unmap_sg: 0000:01:00.0 dir=TO_DEVICE phys_addrs={0x5000} attrs=
      dd-1 [000] ..... 1.000003: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x1000} sizes={0x1000} phys_addrs={0x5000} attrs=
      """,
      """
      2 requests, 2 pages looked up, 1 invalidations, 0 beyond 48 bits
      1 dma_unmap_sg without the dma_map_sg before: what was unmapped is not known
      IOTLB 64 lru: 0 hits (0.00 %), 2 misses

      """
    ),
    // A guest's trace on the console that QEMU's log is on as well.
    (
      """
      [    1.000000] dma_map_page: 0000:01:00.0 dir=TO_DEVICE dma_addr=1000 size=4096 phys_addr=5000 attrs=
      236498@1676271757.075075:vtd_dmar_translate dev 0b:00.00 iova 0xffffe000 -> gpa 0x1234000 mask 0xfff
      236498@1676271757.075077:vtd_dmar_translate dev 0b:00.00 iova 0xffffe000 -> gpa 0x1234000 mask 0xfff
      """,
      """
      2 requests, 2 pages looked up, 0 invalidations, 0 beyond 48 bits
      1 event of another kind of trace passed over; --trace-format says which kind is read
      IOTLB 64 lru: 1 hits (50.00 %), 1 misses

      """
    ),
    // A hole.
    (
      """
      dd-1 [000] ..... 1.000000: map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096
      dd-1 [000]\0\0\0\0000: map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096
      """,
      """
      1 requests, 1 pages looked up, 0 invalidations, 0 beyond 48 bits
      1 line with zeros in it passed over: the file has holes
      IOTLB 64 lru: 0 hits (0.00 %), 1 misses

      """
    ),
  ])
  func `traces are read as people have them`(trace: String, start: String) throws {
    try Self.withFiles(["trace.txt": trace + "\n"]) { directory in
      let output = Self.output(["\(directory)/trace.txt", "--iotlb", "64"])
      #expect(output.hasPrefix(start), "\(output)")
    }
  }

  @Test func `a trace that ends within a line is told to`() throws {
    let map = "dd-1 [000] ..... 1.000000: map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096\n"
    try Self.withFiles([
      "name.txt": map + "dd-1 [000] ..... 1.000000: dma_ma",
      "number.txt":
        map + "dd-1 [000] ..... 1.000000: dma_map_page: a dir=TO_DEVICE dma_addr=1000 size=65",
    ]) { directory in
      var screen = ""
      let name = try Replay.parse(["\(directory)/name.txt"])
      #expect(try name.report(to: &screen) == .yes)
      #expect(screen.contains(" 48 bits\nthe last line is cut off\nIOTLB"))
      screen = ""
      let number = try Replay.parse(["\(directory)/number.txt"])
      #expect(try number.report(to: &screen) == .no)
      #expect(
        screen.contains(" 48 bits\n1 line not understood and left out; the first is line 2\nIOTLB"))
    }
  }

  @Test func `a mapping of more than a trace may touch is called one`() throws {
    let map =
      "map: IOMMU: iova=0x0000000000000000 - 0x0000002000000000 paddr=0x0000000000000000 "
      + "size=137438953472\n"
    try Self.withFiles(["trace.txt": map]) { directory in
      let path = "\(directory)/trace.txt"
      let error = #expect(throws: InputError.self) { try Self.run([path]) }
      #expect(
        error?.text.hasPrefix(
          "\(path): line 1: a mapping of 137438953472 bytes in pages of 4 KiB: with it") == true)
      #expect(
        Self.output([path, "--page-size", "1g"]).hasPrefix("1 requests, 128 pages looked up"))
    }
  }

  @Test func `an event that is not understood is counted and told, and fails the command`() throws {
    let head = "dd-1 [000] ..... 1.000000: "
    let trace = """
      \(head)map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096
      \(head)map_range: IOMMU: iova=0x1000 size=4096
      \(head)map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096
      \(head)map: IOMMU: iova=0x

      """
    try Self.withFiles(["trace.txt": trace]) { directory in
      var screen = ""
      let command = try Replay.parse(["\(directory)/trace.txt"])
      #expect(try command.report(to: &screen) == .no)
      #expect(
        screen.hasPrefix(
          """
          2 requests, 2 pages looked up, 0 invalidations, 0 beyond 48 bits
          2 lines not understood and left out; the first is line 2
          IOTLB 64x4 lru: 1 hits
          """), "\(screen)")
      let tolerant = try Replay.parse(["\(directory)/trace.txt", "--skip-bad"])
      #expect(try tolerant.report(to: &screen) == .yes)
      let json = try Self.run(["\(directory)/trace.txt", "--format", "json"])
      #expect(json.contains("\"skipped_lines\" : 2"))
      #expect(json.contains("\"line\" : 2"))
      let second = try Self.run(["\(directory)/trace.txt", "--shard", "2/2", "--format", "json"])
      #expect(second.contains("\"offset\" : 233"))
      #expect(!second.contains("\"line\""))
    }
  }

  @Test(arguments: [
    (["--iotlb", "60x4"], "15 sets; the number of sets"),
    (["--policy", "plru", "--iotlb", "48"], "48 ways; with plru"),
    (["--levels", "6"], "from 3 to 5"), (["--plot", "x.svg"], "give --sweep"),
    (["--address-width", "64"], "from 12 to 57"), (["other.csv"], "one trace at a time"),
  ])
  func `impossible caches are a usage error that says why`(arguments: [String], text: String) {
    do {
      _ = try Replay.parse(["trace.csv"] + arguments)
      Issue.record("\(arguments) is taken")
    } catch {
      #expect(Replay.message(for: error).contains(text))
    }
  }

  /// Longer than its shards' warm-ups, so that the shards' caches begin as the whole's stood.
  static func longTrace() -> String {
    var generator = SeededGenerator(seed: 2008)
    return (0..<4000).map { _ in
      "00:03.0,0x\(String(UInt64.random(in: 0...0x3f_ffff, using: &generator), radix: 16)),64,r\n"
    }.joined()
  }

  @Test func `shards add up to the whole`() throws {
    try Self.withFiles(["trace.csv": Self.longTrace()]) { directory in
      let path = "\(directory)/trace.csv"
      var files: [String] = []
      for shard in 1...3 {
        let file = "\(directory)/\(shard).json"
        let result = try Self.run([
          path, "--shard", "\(shard)/3", "--sweep", "entries=16:256", "--format", "json",
        ])
        let output = try OutputFile(path: file)
        try output.write(Array(result.utf8))
        try output.commit()
        files.append(file)
      }
      let merged = try Self.run(["--merge", "--format", "csv"] + files)
      #expect(merged == Self.output([path, "--sweep", "entries=16:256", "--format", "csv"]))
      let error = #expect(throws: InputError.self) { try Self.run(["--merge"] + files.dropLast()) }
      #expect(error?.text == "shard 3/3 is missing; merge all of them")
      let twice = #expect(throws: InputError.self) {
        try Self.run(["--merge"] + files + [files[0]])
      }
      #expect(twice?.text.hasSuffix("shard 1/3 is there already") == true)
      let other = #expect(throws: InputError.self) { try Self.run(["--merge", path]) }
      #expect(other?.text.contains("no result of iommu replay") == true)
    }
  }

  @Test func `numbers that no replay writes are not added up`() throws {
    try Self.withFiles(["trace.csv": Self.trace]) { directory in
      let sound = try Self.run([
        "\(directory)/trace.csv", "--shard", "1/1", "--sweep", "entries=1:1", "--format", "json",
      ])
      let wrong = [
        ("\"lookups\" : 6", "\"lookups\" : 9223372036854775807"),
        ("\"requests\" : 5", "\"requests\" : -1"), ("\"levels\" : 4", "\"levels\" : 400000000"),
        ("\"entries\" : 1", "\"entries\" : 0"), ("\"shards\" : 1", "\"shards\" : -1"),
        ("\"shard\" : 1", "\"shard\" : 2"), ("\"hits\" : 1", "\"hits\" : 7"),
        ("      0\n    ]", "      0,\n      0\n    ]"),
      ]
      for (old, new) in wrong {
        #expect(sound.contains(old), "\(old)")
        try Self.withFiles(["1.json": sound.replacing(old, with: new)]) { shards in
          let error = #expect(throws: InputError.self, "\(new)") {
            try Self.run(["--merge", "\(shards)/1.json"])
          }
          #expect(
            error?.text.hasSuffix("numbers that no replay writes; replay the shard again") == true)
        }
      }
      try Self.withFiles(["1.json": sound]) { shards in
        #expect(Self.output(["--merge", "\(shards)/1.json"]).hasPrefix("5 requests"))
      }
    }
  }

  @Test func `a sweep is drawn`() throws {
    try Self.withFiles(["trace.csv": Self.longTrace()]) { directory in
      let plot = "\(directory)/hits.svg"
      _ = try Self.run(["\(directory)/trace.csv", "--sweep", "entries=16:64", "--plot", plot])
      let text = String(decoding: try DMATraceFile(path: plot).contents(), as: UTF8.self)
      #expect(text.contains(">IOTLB hit rate</text>"))
      #expect(text.contains(">64</text>"))
    }
  }

  /// What QEMU's own IOTLB of 1,024 entries missed is in its log, beside each request.
  @Test func `the misses of QEMU's log are the misses of a cache like QEMU's`() throws {
    let lines = [
      "7@1.0:vtd_iotlb_page_update IOTLB page update sid 0x18 iova 0x1040 slpte 0x5003 domain 0x9",
      "7@1.1:vtd_dmar_translate dev 00:03.00 iova 0x1000 -> gpa 0x5000 mask 0xfff",
      "7@1.2:vtd_dmar_translate dev 00:03.00 iova 0x1000 -> gpa 0x5000 mask 0xfff",
      "7@1.3:vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x9",
      "7@1.4:vtd_iotlb_page_update IOTLB page update sid 0x18 iova 0x1080 slpte 0x5003 domain 0x9",
      "7@1.5:vtd_dmar_translate dev 00:03.00 iova 0x1000 -> gpa 0x5000 mask 0xfff",
    ]
    try Self.withFiles(["trace.log": lines.joined(separator: "\n") + "\n"]) { directory in
      let text = try Self.run(["\(directory)/trace.log", "--iotlb", "1024"])
      #expect(text.contains("IOTLB 1024 lru: 1 hits (33.33 %), 2 misses\n"))
    }
  }
}
