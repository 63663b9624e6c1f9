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

  @Test func `the replay that the documentation shows is what is printed`() throws {
    let output = Self.output([
      Examples.path("dma-trace", "qemu.log"), "--iotlb", "1024", "--paging-caches", "16",
    ])
    let page = try Examples.text("\(Examples.directory)/../docs/replay.md")
    #expect(output.split(separator: "\n").count == 5)
    #expect(page.contains(output))
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
      #expect(Self.output([path, "--skip-bad"]).contains(", 64 lines skipped\n"))
    }
  }

  @Test func `a bad line is named, or passed over and counted`() throws {
    let bad = Self.trace + "00:03.0,nowhere,64,r\n"
    try Self.withFiles(["trace.csv": bad]) { directory in
      let path = "\(directory)/trace.csv"
      let error = #expect(throws: InputError.self) { try Self.run([path]) }
      #expect(error?.text.hasPrefix("\(path): line 8: 'n' is no hexadecimal digit") == true)
      #expect(Self.output([path, "--skip-bad"]).contains(", 1 lines skipped\n"))
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
