import IOMMUHardware
import IOMMUTestSupport
import Testing

@testable import IOMMUConformance

/// A driver's life in twenty lines: one chip, one PHB with buses 2 and 3, a 64 KiB table at
/// 0x100000, one page mapped, taken back, and one that lives on.
private enum Life {
  static func register(
    _ op: String, _ offset: String, _ name: String, _ bytes: String
  ) -> String {
    let width = bytes.count / 2
    let pairs = stride(from: 0, to: bytes.count, by: 2).map { Array(bytes)[$0...($0 + 1)] }
    let processor = pairs.reversed().map { String($0) }.joined()
    return """
      "ev":"mmio","op":"\(op)","chip":0,"bbar":"0xfe000000","offset":"\(offset)","reg":"\(name)",\
      "width":\(width),"cpu_value":"0x\(processor)","bus_bytes":"\(bytes)","be_value":"0x\(bytes)"
      """
  }

  /// The lines without their numbers.
  static let lines = [
    "\"ev\":\"phase\",\"name\":\"detect_calgary\"",
    """
    "ev":"pci","op":"read","how":"cf8","bdf":"0000:02:00.0","offset":"0x00","width":4,\
    "value":"0x02a11014"
    """,
    register("readl", "0x4020", "PHB0.DEBUG_STUFF", "5a020311"),
    "\"ev\":\"mem\",\"pa\":\"0x100000\",\"width\":8,\"count\":8192,\"all_zero\":true",
    register("readl", "0x8190", "PHB0.MEM_1_LOW", "e8000000"),
    register("readl", "0x81a0", "PHB0.MEM_1_HIGH", "00000000"),
    register("readl", "0x81c0", "PHB0.MEM_1_SIZE", "febfffff"),
    register("readq", "0x580", "TAR0", "00a0000000000010"),
    register("writeq", "0x580", "TAR0", "00a0000000100010"),
    register("readq", "0x580", "TAR0", "00a0000000100010"),
    register("readl", "0x8160", "PHB0.CONFIG_RW", "00000000"),
    register("writel", "0x8160", "PHB0.CONFIG_RW", "21100000"),
    register("readl", "0x8160", "PHB0.CONFIG_RW", "21100000"),
    "\"ev\":\"call\",\"fn\":\"map_page\",\"dev\":\"0000:03:04.1\",\"pa\":\"0x45ff8\",\"len\":16,\"dir\":\"to_device\"",
    """
    "ev":"mem","pa":"0x100100","width":8,"count":2,"bytes":"00000000000450010000000000046001"
    """,
    "\"ev\":\"ret\",\"fn\":\"map_page\",\"iova\":\"0x20ff8\"",
    register("readq", "0x4870", "PHB0.SPLIT_QUEUE", "7f00000000000000"),
    register("readq", "0x4870", "PHB0.SPLIT_QUEUE", "ff00000000000000"),
    "\"ev\":\"call\",\"fn\":\"unmap_page\",\"dev\":\"0000:03:04.1\",\"iova\":\"0x20ff8\",\"len\":16,\"dir\":\"to_device\"",
    "\"ev\":\"mem\",\"pa\":\"0x100100\",\"width\":8,\"count\":2,\"all_zero\":true",
    "\"ev\":\"ret\",\"fn\":\"unmap\"",
    "\"ev\":\"call\",\"fn\":\"alloc_coherent\",\"dev\":\"0000:03:04.1\",\"len\":4096",
    "\"ev\":\"mem\",\"pa\":\"0x100110\",\"width\":8,\"count\":1,\"bytes\":\"0000000000077003\"",
    "\"ev\":\"ret\",\"fn\":\"alloc_coherent\",\"iova\":\"0x22000\",\"pa\":\"0x77000\"",
  ]

  static var trace: String {
    lines.enumerated().map { "{\"seq\":\($0),\($1)}\n" }.joined()
  }

  static let truth = """
    {"scenario":"small","kernel":1,"driver":"Linux 4.4.60 pci-calgary_64.c","calgary_option":"64k","ram":[["0x0","0x400000","ram"]],
     "tables":[{"bus":2,"chip":0,"phb":0,"tar_be_value":"0x00a0000000100010",
       "config_rw_be":"0x21100000","translated":true,"kernel_table_pa":"0x100000",
       "hw_table_pa":"0x100000","entries":8192,"table_bytes":65536,"size_code":0,
       "nonzero_tces":1,"it_hint":35}],
     "devices":[{"bdf":"0000:02:00.0","vendor":"1014","device":"02a1","root_bus":2}],
     "counts":{"mappings":2,"live":1,"freed":1},
     "mappings":[
      {"id":1,"kernel":1,"dev":"03:04.1","table_bus":2,"api":"map_page","iova":"0x20ff8",
       "pa":"0x45ff8","len":16,"pages":2,"dir":"to_device","state":"freed","seq_map":16,"seq_unmap":21},
      {"id":2,"kernel":1,"dev":"03:04.1","table_bus":2,"api":"alloc_coherent","iova":"0x22000",
       "pa":"0x77000","len":4096,"pages":1,"dir":"bidirectional","state":"live","seq_map":24}]}
    """

  static let registers = """
    {"chips":[{"chip":0,"bbar":"0xfe000000","regs":[
      {"offset":"0x580","reg":"TAR0","width":8,"bus_bytes":"00a0000000100010",
       "be_value":"0x00a0000000100010","driver_read":true,"driver_wrote":true},
      {"offset":"0x4020","reg":"PHB0.DEBUG_STUFF","width":4,"bus_bytes":"5a020311",
       "be_value":"0x5a020311","driver_read":true,"driver_wrote":false},
      {"offset":"0x4870","reg":"PHB0.SPLIT_QUEUE","width":8,"bus_bytes":"ff00000000000000",
       "be_value":"0xff00000000000000","driver_read":true,"driver_wrote":false}]}]}
    """
}

@Suite struct CalgaryConformanceTests {
  /// Plays a directory with these files; an error counts as a result, as it does for the command.
  private func play(
    _ trace: String = Life.trace, _ truth: String = Life.truth,
    _ registers: String = Life.registers, cache: CalgaryOptions.CacheGeometry? = nil,
    runsDriver: Bool = false, isThorough: Bool = false
  ) -> RecordingResult {
    let directory = TemporaryDirectory()
    _ = directory.file("trace.jsonl", trace)
    _ = directory.file("truth.json", truth)
    _ = directory.file("regs.json", registers)
    do {
      return try CalgaryConformance(
        directory: directory.path, cache: cache, differenceLimit: 10, runsDriver: runsDriver,
        isThorough: isThorough
      ).result()
    } catch {
      return RecordingResult(recording: directory.path, error: "\(error)")
    }
  }

  @Test func `a true life passes`() {
    let result = play()
    #expect(result.passed, "\(result)")
    #expect(result.totals.events == 24 && result.totals.calls == 3)
    #expect(result.totals.reads == 4 && result.totals.firmwareReads == 6)
    #expect(result.totals.environmentReads == 1)
    #expect(play(isThorough: true).passed)
  }

  @Test func `a cache without a flush answers for a page that was taken back`() {
    let result = play(cache: .unlimited)
    #expect(result.passed, "\(result)")
    #expect(result.totals.staleHits > 0)
  }

  static let changes: [(old: String, new: String)] = [
    // The notations of one value.
    ("\"cpu_value\":\"0x10001000", "\"cpu_value\":\"0x11001000"),
    ("\"bus_bytes\":\"5a020311\"", "\"bus_bytes\":\"5a020411\""),
    ("\"be_value\":\"0x21100000\"", "\"be_value\":\"0x21100001\""),
    // What is stored, and where.
    ("0000000000045001", "0000000000055001"),
    ("0000000000046001", "0000000000046003"),
    ("0000000000077003", "0000000000077002"),
    ("\"pa\":\"0x100110\"", "\"pa\":\"0x100118\""),
    (
      "\"pa\":\"0x100100\",\"width\":8,\"count\":2,\"all",
      "\"pa\":\"0x100100\",\"width\":8,\"count\":1,\"all"
    ),
    ("\"pa\":\"0x100000\",\"width\"", "\"pa\":\"0x500000\",\"width\""),
    // Calls and returns.
    ("\"iova\":\"0x20ff8\"}", "\"iova\":\"0x21ff8\"}"),
    ("\"pa\":\"0x45ff8\",\"len\":16", "\"pa\":\"0x45ff8\",\"len\":17"),
    ("\"pa\":\"0x45ff8\",\"len\":16", "\"pa\":\"0x46ff8\",\"len\":16"),
    ("\"iova\":\"0x22000\",\"pa\":\"0x77000\"}", "\"iova\":\"0x22000\",\"pa\":\"0x78000\"}"),
    ("\"dir\":\"to_device\"}", "\"dir\":\"from_device\"}"),
    ("\"value\":\"0x02a11014\"", "\"value\":\"0x03081014\""),
    ("\"dev\":\"0000:03:04.1\"", "\"dev\":\"0000:03:04.0\""),
  ]

  @Test(arguments: changes.indices)
  func `a changed value in the trace fails`(index: Int) throws {
    let change = Self.changes[index]
    let trace = Life.trace.replacing(change.old, with: change.new, maxReplacements: 1)
    #expect(trace != Life.trace)
    let result = play(trace)
    #expect(!result.passed)
    // Each difference has its place.
    let texts = result.differences + [result.error].compactMap { $0 }
    #expect(texts.allSatisfy { $0.contains(".jsonl:") || $0.contains(".json: ") }, "\(texts)")
  }

  static let truthChanges: [(old: String, new: String)] = [
    ("\"iova\":\"0x22000\"", "\"iova\":\"0x23000\""),
    ("\"pa\":\"0x77000\"", "\"pa\":\"0x78000\""),
    ("\"len\":4096", "\"len\":4097"),
    ("\"len\":4096,\"pages\":1", "\"len\":4096,\"pages\":2"),
    ("\"seq_map\":24", "\"seq_map\":23"),
    ("\"seq_unmap\":21", "\"seq_unmap\":24"),
    ("\"table_bus\":2,\"api\":\"alloc", "\"table_bus\":3,\"api\":\"alloc"),
    ("\"dir\":\"bidirectional\"", "\"dir\":\"to_device\""),
    ("\"nonzero_tces\":1", "\"nonzero_tces\":2"),
    ("\"hw_table_pa\":\"0x100000\"", "\"hw_table_pa\":\"0x110000\""),
    ("\"size_code\":0", "\"size_code\":1"),
    ("\"live\":1", "\"live\":2"),
    ("\"state\":\"live\"", "\"state\":\"freed\""),
    ("\"device\":\"02a1\"", "\"device\":\"0308\""),
    ("\"bus\":2", "\"bus\":3"),
  ]

  @Test(arguments: truthChanges.indices)
  func `a changed value in the truth fails`(index: Int) throws {
    let change = Self.truthChanges[index]
    let truth = Life.truth.replacing(change.old, with: change.new, maxReplacements: 1)
    #expect(truth != Life.truth)
    #expect(!play(Life.trace, truth).passed)
  }

  @Test func `a changed register state fails`() {
    let registers = Life.registers.replacing("0x5a020311", with: "0x5a020411")
    let result = play(Life.trace, Life.truth, registers)
    #expect(result.differenceCount == 1)
    #expect(
      result.differences[0].hasSuffix(
        "regs.json: chip 0 PHB0.DEBUG_STUFF: holds 0x5a020311 here, 0x5a020411 there"))
  }

  @Test func `a trace that cannot be read fails its directory with file and line`() {
    let trace = Life.trace.replacing("{\"seq\":3,", with: "{\"seq\":4,")
    let result = play(trace)
    #expect(!result.passed)
    #expect(result.error?.contains("/trace.jsonl: line 4: seq 4 follows 2") == true)
  }

  @Test func `our own driver takes the same steps, and says where it does not`() {
    let result = play(runsDriver: true)
    // Without a device on the bus our driver leaves it alone.
    #expect(result.differenceCount == 1)
    #expect(
      result.differences[0].hasSuffix(
        "/trace.jsonl:14: the real driver goes on, at line 3, where ours is done"))
  }

  @Test func `memory and tables that cannot be are errors of the file`() {
    let noMemory = Life.truth.replacing("[[\"0x0\",\"0x400000\",\"ram\"]]", with: "[]")
    func error(_ truth: String) -> String { play(Life.trace, truth).error ?? "none" }
    #expect(error(noMemory).contains("truth.json: ram: a machine needs"))
    let fifth = Life.truth.replacing("\"phb\":0", with: "\"phb\":4")
    #expect(error(fifth).contains("tables[0].phb: 4: a chip has four PHBs"))
    let high = Life.truth.replacing("\"pa\":\"0x77000\"", with: "\"pa\":\"0xf000000077000\"")
    #expect(!play(Life.trace, high).passed)
  }

  @Test(arguments: seeds)
  func `no damage to a life stops the program`(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    // Digits become digits more often than not, so that the damage is read.
    let digits = Array("0123456789abcdef\"{,".utf8)
    var failed = 0
    for round in 0..<40 {
      var texts = [Array(Life.trace.utf8), Array(Life.truth.utf8)]
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let place = texts[round % 2].indices.randomElement(using: &random)!
        texts[round % 2][place] = digits.randomElement(using: &random)!
      }
      let result = play(
        String(decoding: texts[0], as: UTF8.self), String(decoding: texts[1], as: UTF8.self),
        cache: round % 4 < 2 ? .unlimited : nil, runsDriver: round % 4 >= 2)
      failed += result.passed ? 0 : 1
    }
    #expect(failed > 20)
  }
}
