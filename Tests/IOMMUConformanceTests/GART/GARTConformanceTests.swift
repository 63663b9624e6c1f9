import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUTestSupport
import Testing

@testable import IOMMUConformance

/// Copies of the recorded life of a driver in the examples.
private struct Copies {
  let directory = TemporaryDirectory()

  init() {
    for file in Self.files { _ = directory.file(file, Self.original(file)) }
  }

  static let files = [
    "trace.jsonl", "truth.json", "northbridges.json", "trace-kdump.jsonl", "truth-kdump.json",
    "northbridges-kdump.json",
  ]

  static func original(_ file: String) -> String { Repository.text("Examples/gart-trace/\(file)") }

  /// Changes the first place where `old` is found.
  func change(_ file: String, _ old: String, _ new: String) throws {
    let text = Self.original(file)
    try #require(text.contains(old), "\(file) has no \(old)")
    _ = directory.file(file, text.replacing(old, with: new, maxReplacements: 1))
  }

  /// Makes the list of four at event 242, two pages of which go through the GART, one that finds no
  /// room at first: two entries stored, a flush, two given back. Eight events more, and two flushes.
  func retryList(givenBack: String = #""count":2,"fill_bytes":"13a054eb""#) {
    let old = Self.original("trace.jsonl").split(separator: "\n").map(String.init)
    let first =
      #"{"seq":242,"ev":"mem","pa":"0x1bd561000","width":4,"count":2,"bytes":"13c0577713f0cf90"}"#
    let second = #"{"seq":249,"ev":"mem","pa":"0x1bd561000","width":4,\#(givenBack)}"#
    let flush = old[244..<250]
    let lines = old[..<243] + [first] + flush + [second] + old[243...]
    _ = directory.file(
      "trace.jsonl",
      lines.enumerated().map { number, line in
        #"{"seq":\#(number)"# + line[line.firstIndex(of: ",")!...] + "\n"
      }.joined())
    for file in ["truth.json", "trace-kdump.jsonl", "truth-kdump.json"] {
      let shifted = Self.original(file).replacing(/("seq(?:_map|_unmap)?": ?)([0-9]+)/) {
        let number = UInt64($0.output.2)!
        return "\($0.output.1)\(number > 243 ? number + 8 : number)"
      }
      _ = directory.file(
        file,
        shifted.replacing(
          #""flush_writes_all_nbs":52"#, with: #""flush_writes_all_nbs":54"#))
    }
  }
}

/// Plays a directory; what could not be read counts as a result, as it does for the command.
private func conform(
  _ directory: String, cache: GARTCache.Geometry = .off, differenceLimit: Int = 5,
  runsDriver: Bool = false, isThorough: Bool = false
) -> [RecordingResult] {
  do {
    return try GARTConformance(
      directory: directory, cache: cache, differenceLimit: differenceLimit,
      runsDriver: runsDriver, isThorough: isThorough
    ).results()
  } catch {
    return [RecordingResult(recording: directory, error: "\(error)")]
  }
}

private func differences(_ results: [RecordingResult]) -> [String] {
  results.flatMap(\.differences)
}

@Suite struct GARTConformanceTests {
  static let directory = "\(Repository.path)/Examples/gart-trace"

  @Test(
    arguments: [
      (.off, false, false), (.unlimited, false, false),
      (.sets(setCount: 8, wayCount: 4), false, false), (.off, true, false), (.off, false, true),
    ] as [(GARTCache.Geometry, Bool, Bool)])
  func `the recorded life of a driver comes out as it was`(
    cache: GARTCache.Geometry, runsDriver: Bool, isThorough: Bool
  ) {
    let results = conform(
      Self.directory, cache: cache, runsDriver: runsDriver, isThorough: isThorough)
    #expect(results.map(\.passed) == [true, true], "\(differences(results))")
    #expect(results.allSatisfy { $0.notes.isEmpty })
    let totals = RecordingSummary(results, took: .seconds(1)).totals
    #expect(totals.events == 545)
    #expect(totals.writes == 66 && totals.flushes == 52)
    #expect(totals.reads == 242 && totals.firmwareReads == 54)
    #expect(totals.mappings == 98)
    #expect((totals.staleHits > 0) == (cache != .off))
    #expect((totals.driverSteps > 0) == runsDriver)
  }

  static let changes: [(file: String, old: String, new: String)] = [
    // A read the driver made, of 0x90, of 0x9c during a flush, and of another function.
    (
      "trace.jsonl", #""offset":"0x90","width":4,"value":"0x00000002","bus"#,
      #""offset":"0x90","width":4,"value":"0x00000012","bus"#
    ),
    (
      "trace.jsonl",
      #""op":"read","how":"pci_dev","bdf":"0000:00:18.3","offset":"0x9c","width":4,"value":"0x00000001"}"#,
      #""op":"read","how":"pci_dev","bdf":"0000:00:18.3","offset":"0x9c","width":4,"value":"0x00000003"}"#
    ),
    (
      "trace.jsonl", #""bdf":"0000:02:04.0","offset":"0x0c","width":4,"value":"0x00000000"#,
      #""bdf":"0000:02:04.0","offset":"0x0c","width":4,"value":"0x00000010"#
    ),
    // A register write, an entry, the scratch fill, a call, an answer.
    (
      "trace.jsonl", #""value":"0x01bd5600","bus_bytes":"0056bd01""#,
      #""value":"0x01bd5610","bus_bytes":"1056bd01""#
    ),
    (
      "trace.jsonl", #""value":"0x00000001","bus_bytes":"01000000""#,
      #""value":"0x00000001","bus_bytes":"01000100""#
    ),
    ("trace.jsonl", #""bytes":"2340ea15""#, #""bytes":"2340eb15""#),
    ("trace.jsonl", #""fill_bytes":"13a054eb""#, #""fill_bytes":"13b054eb""#),
    ("trace.jsonl", #""pa":"0x215ea4000","len":4096"#, #""pa":"0x215ea5000","len":4096"#),
    ("trace.jsonl", #""fn":"map_page","bus":"0xf0020000"#, #""fn":"map_page","bus":"0xf0021000"#),
    // The truth.
    (
      "truth.json", #""bus_addr":"0xf0020000","pa":"0x215ea4000""#,
      #""bus_addr":"0xf0020000","pa":"0x215ea6000""#
    ),
    ("truth.json", #""bus_addr":"0xf0020000""#, #""bus_addr":"0xf0021000""#),
    ("truth.json", #""seq_unmap":147"#, #""seq_unmap":146"#),
    ("truth.json", #""zero_entries":32"#, #""zero_entries":33"#),
    ("truth.json", #""scratch_pa":"0x1eb54a000""#, #""scratch_pa":"0x1eb54b000""#),
    ("truth.json", #""map_failures":0"#, #""map_failures":1"#),
    ("truth.json", #""flush_writes_all_nbs":52"#, #""flush_writes_all_nbs":51"#),
    ("truth.json", #""through_gart":true"#, #""through_gart":false"#),
    ("truth.json", #""sg_out":1"#, #""sg_out":2"#),
    ("truth.json", #""len":1514,"pages":1"#, #""len":1515,"pages":1"#),
    // What lies beside.
    (
      "northbridges.json", #""0x94_aperture_base":"0x00000078""#,
      #""0x94_aperture_base":"0x00000070""#
    ),
    ("northbridges.json", #""dis_io":0"#, #""dis_io":1"#),
    ("northbridges.json", #""device":"1103""#, #""device":"1203""#),
    (
      "northbridges-kdump.json", #""0x90_aperture_ctl":"0x00000042""#,
      #""0x90_aperture_ctl":"0x00000043""#
    ),
    (
      "trace-kdump.jsonl", #""offset":"0x90","width":4,"value":"0x00000043""#,
      #""offset":"0x90","width":4,"value":"0x00000003""#
    ),
    ("truth-kdump.json", #""second_kernel_uses_gart":false"#, #""second_kernel_uses_gart":true"#),
  ]

  @Test(arguments: changes)
  func `a changed value fails`(file: String, old: String, new: String) throws {
    let copies = Copies()
    try copies.change(file, old, new)
    let results = conform(copies.directory.path)
    #expect(results.contains { $0.differenceCount > 0 })
    #expect(results.allSatisfy { $0.error == nil })
  }

  @Test(arguments: [.off, .unlimited] as [GARTCache.Geometry])
  func `a list that found no room at first is stored, given back and stored again`(
    cache: GARTCache.Geometry
  ) {
    let copies = Copies()
    copies.retryList()
    let results = conform(copies.directory.path, cache: cache)
    #expect(results.map(\.passed) == [true, true], "\(differences(results))")
    #expect(results[0].totals.flushes + results[1].totals.flushes == 54)
  }

  @Test(arguments: [
    // One entry is left behind; both get another page.
    #""count":1,"fill_bytes":"13a054eb""#, #""count":2,"fill_bytes":"13b054eb""#,
  ])
  func `what a list leaves behind is noticed`(givenBack: String) {
    let copies = Copies()
    copies.retryList(givenBack: givenBack)
    let found = differences(conform(copies.directory.path))
    #expect(found.contains { $0.hasPrefix("seq 258, map_sg: entries stored is ") }, "\(found)")
  }

  @Test func `differences are shown as many as asked for, and all are counted`() throws {
    let copies = Copies()
    try copies.change(
      "truth.json", #""scratch_pa":"0x1eb54a000""#, #""scratch_pa":"0x1eb54b000""#)
    let results = conform(copies.directory.path, differenceLimit: 2)
    #expect(results[0].differences.count == 2)
    #expect(results[0].differenceCount > 2)
  }

  static let nonsense: [(file: String, old: String, new: String, text: String)] = [
    ("trace.jsonl", #""seq":20,"#, #""seq":21,"#, "trace.jsonl: line 21"),
    (
      "trace.jsonl", #""ev":"phase","name":"workload""#, #""ev":"phrase","name":"workload""#,
      "phrase"
    ),
    ("trace.jsonl", #""offset":"0x90","#, "", "offset"),
    ("truth.json", #""gatt_bytes":65536"#, #""gatt_bytes":655360000"#, "none that a GART can have"),
    ("truth.json", #""state":"freed""#, #""state":"gone""#, "state"),
    ("truth.json", #"{"id":2,"#, #"{"id":1,"#, "two mappings have the id 1"),
    ("northbridges.json", #""bdf":"0000:00:19.3""#, #""bdf":"0000:00:18.3""#, "comes twice"),
    (
      "northbridges.json", #""0x90_aperture_ctl":"0x00000043""#,
      #""0x90_aperture_ctl":"0x100000043""#, "too many bits"
    ),
  ]

  @Test(arguments: nonsense)
  func `input that makes no sense is refused with its place`(
    file: String, old: String, new: String, text: String
  ) throws {
    let copies = Copies()
    try copies.change(file, old, new)
    let errors = conform(copies.directory.path).compactMap(\.error)
    #expect(errors.count == 1)
    #expect(errors.first?.contains(text) == true, "\(errors)")
    #expect(errors.first?.hasPrefix(copies.directory.path(file)) == true)
  }

  @Test func `our own driver notices that the real one did something else`() throws {
    let copies = Copies()
    // Both write the same wrong number: the replay alone cannot know.
    try copies.change(
      "trace.jsonl", #""offset":"0x9c","width":4,"value":"0x00000001","bus_bytes":"01000000""#,
      #""offset":"0x9c","width":4,"value":"0x00000005","bus_bytes":"05000000""#)
    #expect(conform(copies.directory.path).map(\.passed) == [true, true])
    let found = differences(conform(copies.directory.path, runsDriver: true))
    #expect(
      found.contains {
        $0.contains("our driver writes 0x1 to 00:18.3 0x9c, the real one 0x5 to 00:18.3 0x9c")
      }, "\(found)")
  }
}
