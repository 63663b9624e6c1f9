import IOMMUFormats
import IOMMUImages
import IOMMUTestSupport
import Testing

@testable import IOMMUConformance

private func read(_ text: String, after sequence: UInt64? = nil) throws(ImageError) -> [TraceEvent]
{
  let scratch = TemporaryDirectory()
  var reader = try TraceReader(path: scratch.file("trace.jsonl", text), after: sequence)
  var events: [TraceEvent] = []
  while let event = try reader.next() { events.append(event) }
  return events
}

/// The error that a trace gives, without its directory.
private func complaint(_ text: String, after sequence: UInt64? = nil) -> String? {
  do throws(ImageError) {
    _ = try read(text, after: sequence)
    return nil
  } catch {
    return error.description.split(separator: "/").last.map(String.init)
  }
}

@Suite struct TraceReaderTests {
  @Test func `a register write says its value in three notations`() throws {
    let events = try read(
      """
      {"seq":24,"ev":"mmio","op":"writeq","chip":0,"bbar":"0xfe000000","offset":"0x580",\
      "reg":"TAR0","width":8,"cpu_value":"0x0600c03f00000000","bus_bytes":"000000003fc00006",\
      "be_value":"0x000000003fc00006"}

      """)
    #expect(events.count == 1)
    guard case .register(let access) = events[0].action else {
      Issue.record("no register access")
      return
    }
    #expect(events[0].sequence == 24)
    #expect(events[0].line == 1)
    #expect(access.isWrite)
    #expect(access.base == PhysicalAddress(0xfe00_0000))
    #expect(access.offset == 0x580)
    #expect(access.value == 0x3fc0_0006)
    #expect(access.isConsistent)
    var torn = access
    torn.processorValue ^= 1
    #expect(!torn.isConsistent)
  }

  @Test func `stores are zeros, words one by one, or one word again and again`() throws {
    let events = try read(
      """
      {"seq":0,"ev":"mem","pa":"0x1000","width":8,"count":2,"all_zero":true}
      {"seq":1,"ev":"mem","pa":"0x1008","width":8,"count":1,"bytes":"0000000012345003"}
      {"seq":2,"ev":"mem","pa":"0x2000","width":4,"count":2,"fill_bytes":"1320f14e"}
      """)
    let stores = events.compactMap { event -> MemoryStore? in
      if case .memory(let store) = event.action { store } else { nil }
    }
    #expect(stores.map(\.byteCount) == [16, 8, 8])
    #expect(stores[0].bytes == [UInt8](repeating: 0, count: 16))
    #expect(stores[1].bytes == [0, 0, 0, 0, 0x12, 0x34, 0x50, 3])
    #expect(stores[2].bytes == [0x13, 0x20, 0xf1, 0x4e, 0x13, 0x20, 0xf1, 0x4e])
  }

  @Test func `a call and its return carry the buffer and the number`() throws {
    let events = try read(
      """
      {"seq":7,"ev":"call","fn":"map_page","dev":"0000:00:0f.1","pa":"0x35e77290","len":104,\
      "dir":"bidirectional"}
      {"seq":8,"ev":"ret","fn":"map_page","iova":"0x111f290"}
      {"seq":9,"ev":"call","fn":"unmap_page","dev":"0000:00:0f.1","bus":"0xf2003000","len":4096}
      {"seq":10,"ev":"ret","fn":"unmap"}
      """, after: 6)
    var call = TraceCall(function: .mapPage)
    call.device = Requester(bus: 0, device: 15, function: 1)
    call.physical = PhysicalAddress(0x35e7_7290)
    call.count = 104
    call.direction = .bidirectional
    #expect(events[0].action == .call(call))
    #expect(events[1].action == .ret(TraceReturn(function: .mapPage, iova: IOVA(0x111_f290))))
    var unmap = TraceCall(function: .unmapPage)
    unmap.device = call.device
    unmap.iova = IOVA(0xf200_3000)
    unmap.count = 4096
    #expect(events[2].action == .call(unmap))
  }

  @Test(
    arguments: [
      ("{\"seq\":1,\"ev\":\"wbinvd\"}\n{\"seq\":3,\"ev\":\"wbinvd\"}", "line 2: seq 3 follows 1"),
      ("{\"seq\":1,\"ev\":\"wbinvd\"}\n{\"seq\":1,\"ev\":\"wbinvd\"}", "line 2: seq 1 follows 1"),
      ("{\"seq\":1,\"ev\":\"melt\"}", "line 1: ev: \"melt\" is no event that is known"),
      ("{\"ev\":\"wbinvd\"}", "line 1: seq: is missing"),
      ("{\"seq\":1}", "line 1: ev: is missing"),
      ("{\"seq\":1,\"ev\":\"phase\"}", "line 1: name: is missing"),
      (
        "{\"seq\":1,\"ev\":\"mem\",\"pa\":\"0x10\",\"width\":8,\"count\":1}",
        "line 1: bytes: is missing"
      ),
      (
        "{\"seq\":1,\"ev\":\"mem\",\"pa\":\"0x10\",\"width\":8,\"count\":2,\"bytes\":\"00\"}",
        "line 1: bytes: is not 16 bytes in hexadecimal"
      ),
      ("{\"seq\":1,\"ev\":\"ret\",\"fn\":\"unmap\"}", "line 1: a return, and no call is open"),
      (
        "{\"seq\":1,\"ev\":\"call\",\"fn\":\"melt\"}",
        "line 1: fn: \"melt\" is no call that is known"
      ),
      ("\n\n{\"seq\":1,\"ev\":\"wbinvd\"", "line 3"),
      ("[[[[", "line 1"),
      (String(repeating: "[", count: 200_000), "line 1: more than 64 brackets"),
      ("{\"seq\":1,\u{0}\"ev\":\"wbinvd\"}", "line 1: a zero byte"),
    ])
  func `what is no trace is refused with file and line`(text: String, expected: String) throws {
    let found = try #require(complaint(text))
    #expect(found.hasPrefix("trace.jsonl: " + expected), "\(found)")
  }

  @Test func `the second kernel's numbers go on from the first one's`() throws {
    #expect(try read("{\"seq\":5,\"ev\":\"wbinvd\"}", after: 4).count == 1)
    #expect(
      complaint("{\"seq\":5,\"ev\":\"wbinvd\"}", after: 5)?.contains("seq 5 follows 5") == true)
  }

  @Test func `a trace that ends inside a call is cut short`() {
    let text =
      "{\"seq\":1,\"ev\":\"call\",\"fn\":\"alloc_coherent\",\"dev\":\"0000:00:01.0\",\"len\":1}\n"
    #expect(complaint(text)?.contains("ends inside a call of alloc_coherent") == true)
    let second = text + text.replacing("\"seq\":1", with: "\"seq\":2")
    #expect(complaint(second)?.contains("line 2: a call of alloc_coherent inside one") == true)
  }

  @Test(arguments: [0x5eed, 1, 2] as [UInt64])
  func `no damaged trace stops the program`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let good = Array(
      """
      {"seq":0,"ev":"mem","pa":"0x1000","width":8,"count":1,"bytes":"0000000012345003"}
      {"seq":1,"ev":"call","fn":"map_page","dev":"0000:00:0f.1","pa":"0x35e77290","len":1,"dir":"none"}
      {"seq":2,"ev":"ret","fn":"map_page","iova":"0x111f290"}
      """.utf8)
    var refused = 0
    for _ in 0..<300 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
          in: 0...255, using: &generator)
      }
      let scratch = TemporaryDirectory()
      let path = scratch.file("trace.jsonl", bytes)
      do throws(ImageError) {
        var reader = try TraceReader(path: path)
        while try reader.next() != nil {}
      } catch {
        refused += 1
        #expect(error.file == path)
      }
    }
    #expect(refused > 100, "seed \(seed)")
  }
}

@Suite struct TraceTruthTests {
  static let text = """
    {"scenario":"small","kernel":1,"driver":"Linux 4.4.60 pci-calgary_64.c","calgary_option":"64k",
     "ram":[["0x0","0x9f000","ram"],["0x9f000","0x100000","reserved"],["0x100000","0x40000000","ram"]],
     "tables":[{"bus":2,"chip":0,"phb":1,"tar_be_value":"0x3f800000",
       "config_rw_be":"0x21100000","translated":true,"kernel_table_pa":"0x3f800002",
       "hw_table_pa":"0x3f800000","entries":8192,"nonzero_tces":1,"it_hint":33},
      {"bus":4,"chip":0,"phb":3,"tar_be_value":"0x0","config_rw_be":"0x0",
       "translated":false}],
     "counts":{"mappings":2,"live":1,"freed":1,"map_failures":0},
     "devices":[{"bdf":"0000:02:00.0","vendor":"1014","device":"02a1","root_bus":2,"translated":true}],
     "mappings":[{"id":2,"kernel":1,"dev":"03:04.1","table_bus":2,"api":"map_page","iova":"0x21ff8",
       "pa":"0x1687eff8","len":16,"pages":2,"dir":"to_device","state":"live","seq_map":70},
      {"id":1,"kernel":1,"dev":"03:04.1","table_bus":2,"api":"map_page","iova":"0x20000",
       "pa":"0x1687e000","len":118,"pages":1,"dir":"none","state":"freed","seq_map":65,"seq_unmap":86}]}
    """

  @Test func `mappings, tables, functions and memory are read`() throws {
    let scratch = TemporaryDirectory()
    let truth = try TraceTruth(path: scratch.file("truth.json", Self.text))
    #expect(truth.memory == [PhysicalAddress(0)..<PhysicalAddress(0x4000_0000)])
    #expect(truth.mappings.map(\.identifier) == [1, 2])
    #expect(truth.mappings[1].device == Requester(bus: 3, device: 4, function: 1))
    #expect(truth.mappings[1].pageCount == 2)
    #expect(truth.mappings[1].endSequence == nil)
    #expect(truth.tables[0].driverTable == PhysicalAddress(0x3f80_0002))
    #expect(truth.tables[0].hardwareTable == PhysicalAddress(0x3f80_0000))
    #expect(!truth.tables[1].isTranslated)
    #expect(truth.functions[0].device == 0x02a1)
  }

  @Test func `a field that is missing is named with its place`() {
    let scratch = TemporaryDirectory()
    let path = scratch.file(
      "truth.json", Self.text.replacing("\"pa\":\"0x1687e000\",", with: ""))
    let error = #expect(throws: ImageError.self) { try TraceTruth(path: path) }
    #expect(error?.place == "mappings[1].pa")
    #expect(error?.found == "is missing")
  }

  @Test func `the ledger tells what begins and ends at each place`() throws {
    let scratch = TemporaryDirectory()
    let truth = try TraceTruth(path: scratch.file("truth.json", Self.text))
    var ledger = MappingLedger(truth.mappings)
    #expect(ledger.advance(to: 64).begun.isEmpty)
    #expect(ledger.advance(to: 65).begun.map(\.identifier) == [1])
    let step = ledger.advance(to: 86)
    #expect(step.begun.map(\.identifier) == [2])
    #expect(step.ended.map(\.identifier) == [1])
    #expect(ledger.isAtEnd)
  }
}
