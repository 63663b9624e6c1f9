import Glibc
import IOMMUFormats
import IOMMUImages
import Testing

@testable import IOMMUCommands

/// A directory of copies that goes away.
private final class Copies {
  let path: String

  /// Copies the recorded life of a driver in the examples.
  init() throws {
    var template = Array("/tmp/conform-gart-XXXXXX".utf8CString)
    path = try #require(mkdtemp(&template).map { String(cString: $0) })
    for file in Self.files {
      try write(file, Self.original(file))
    }
  }

  static let files = [
    "trace.jsonl", "truth.json", "northbridges.json", "trace-kdump.jsonl", "truth-kdump.json",
    "northbridges-kdump.json",
  ]

  static func original(_ file: String) throws -> String {
    let image = try MemoryImage(path: Examples.path("gart-trace", file))
    let count = Int(image.backedRanges[0].byteCount)
    return String(decoding: image.bytes(at: PhysicalAddress(0), count: count)!, as: UTF8.self)
  }

  func write(_ file: String, _ text: String) throws {
    let stream = try #require(fopen("\(path)/\(file)", "w"))
    defer { fclose(stream) }
    fputs(text, stream)
  }

  /// Changes the first place where `old` is found.
  func change(_ file: String, _ old: String, _ new: String) throws {
    let text = try Self.original(file)
    let range = try #require(text.firstRange(of: old), "\(file) has no \(old)")
    try write(file, text.replacingCharacters(in: range, with: new))
  }

  /// Makes the list of four at event 242, two pages of which go through the GART, one that finds no
  /// room at first: two entries stored, a flush, two given back. Eight events more, and two flushes.
  func retryList(givenBack: String = #""count":2,"fill_bytes":"13a054eb""#) throws {
    let old = try Self.original("trace.jsonl").split(separator: "\n").map(String.init)
    let first =
      #"{"seq":242,"ev":"mem","pa":"0x1bd561000","width":4,"count":2,"bytes":"13c0577713f0cf90"}"#
    let second = #"{"seq":249,"ev":"mem","pa":"0x1bd561000","width":4,\#(givenBack)}"#
    let flush = old[244..<250]
    let lines = old[..<243] + [first] + flush + [second] + old[243...]
    try write(
      "trace.jsonl",
      lines.enumerated().map { number, line in
        #"{"seq":\#(number)"# + line[line.firstIndex(of: ",")!...] + "\n"
      }.joined())
    for file in ["truth.json", "trace-kdump.jsonl", "truth-kdump.json"] {
      let shifted = try Self.original(file).replacing(/("seq(?:_map|_unmap)?": ?)([0-9]+)/) {
        let number = UInt64($0.output.2)!
        return "\($0.output.1)\(number > 243 ? number + 8 : number)"
      }
      try write(
        file,
        shifted.replacing(
          #""flush_writes_all_nbs":52"#, with: #""flush_writes_all_nbs":54"#))
    }
  }

  deinit {
    for file in Self.files + ["gatt.bin", "image.elf", "northbridges-after-shutdown.json"] {
      unlink("\(path)/\(file)")
    }
    rmdir(path)
  }
}

extension String {
  fileprivate func replacingCharacters(in range: Range<Index>, with text: String) -> String {
    var copy = self
    copy.replaceSubrange(range, with: text)
    return copy
  }
}

private func conform(
  _ directory: String, _ options: String...
) throws -> (ok: Bool, text: String, errors: [String]) {
  var text = ""
  let outcome = try ConformGART.parse([directory] + options).report(to: &text)
  return (outcome.failed == 0, text, outcome.errors)
}

@Suite struct ConformGARTTests {
  static let directory = "\(Examples.directory)/gart-trace"

  @Test(arguments: [
    [], ["--caches", "on"], ["--caches", "on", "--cache-sets", "8x4"], ["--driver"], ["--thorough"],
  ])
  func `the recorded life of a driver comes out as it was`(options: [String]) throws {
    var text = ""
    let command = try ConformGART.parse([Self.directory] + options)
    let outcome = try command.report(to: &text)
    #expect(outcome.passed == 2 && outcome.failed == 0 && outcome.errors.isEmpty)
    #expect(text.contains("events              545, "))
    #expect(text.contains("register writes     66, 52 flushes\n"))
    #expect(text.contains("reads compared      242, and 54 of what firmware left\n"))
    #expect(text.contains("mappings compared   98, "))
    #expect(text.contains("differences         0\n"))
    #expect(text.hasSuffix("2 passed, 0 failed\n"))
    #expect(text.contains(" 0 still in a cache") == !options.contains("on"))
    // 64 calls, 66 writes of each kernel's own, and two boots.
    #expect(text.contains("our own driver      0 steps") == !options.contains("--driver"))
  }

  @Test func `the result is there as JSON too`() throws {
    let (ok, text, _) = try conform(Self.directory, "--format", "json")
    #expect(ok)
    #expect(text.contains("\"failed\" : 0"))
    #expect(text.contains("\"reads\" : 242"))
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
    let copies = try Copies()
    try copies.change(file, old, new)
    let (ok, text, errors) = try conform(copies.path)
    #expect(!ok && errors.isEmpty)
    #expect(text.contains("FAIL \(copies.path)/"))
    #expect(!text.contains(", 0 failed\n"))
  }

  @Test(arguments: [[], ["--caches", "on"]])
  func `a list that found no room at first is stored, given back and stored again`(
    options: [String]
  ) throws {
    let copies = try Copies()
    try copies.retryList()
    var text = ""
    let outcome = try ConformGART.parse([copies.path] + options).report(to: &text)
    #expect(outcome.passed == 2 && outcome.failed == 0, "\(text)")
    #expect(text.contains("events              553, "))
    #expect(text.contains("register writes     68, 54 flushes\n"))
  }

  @Test(arguments: [
    // One entry is left behind; both get another page.
    #""count":1,"fill_bytes":"13a054eb""#, #""count":2,"fill_bytes":"13b054eb""#,
  ])
  func `what a list leaves behind is noticed`(givenBack: String) throws {
    let copies = try Copies()
    try copies.retryList(givenBack: givenBack)
    let (ok, text, _) = try conform(copies.path)
    #expect(!ok)
    #expect(text.contains("seq 258, map_sg: entries stored is "))
  }

  @Test func `differences are shown as many as asked for, and all are counted`() throws {
    let copies = try Copies()
    try copies.change(
      "truth.json", #""scratch_pa":"0x1eb54a000""#, #""scratch_pa":"0x1eb54b000""#)
    let text = try conform(copies.path, "--show", "2").text
    #expect(text.split(separator: "\n").count { $0.hasPrefix("       ") } == 2)
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
    let copies = try Copies()
    try copies.change(file, old, new)
    let (ok, screen, errors) = try conform(copies.path)
    #expect(!ok)
    #expect(errors.count == 1)
    #expect(errors.first?.contains(text) == true, "\(errors)")
    #expect(errors.first?.hasPrefix("\(copies.path)/\(file)") == true)
    #expect(screen.hasSuffix("0 passed, 1 failed\n"))
  }

  @Test func `a directory without a trace fails and the others are played`() throws {
    var text = ""
    let command = try ConformGART.parse(["/nowhere", Self.directory])
    let outcome = try command.report(to: &text)
    #expect(outcome.passed == 2 && outcome.failed == 1)
    #expect(outcome.errors.first?.hasPrefix("/nowhere/truth.json: ") == true)
  }

  @Test func `our own driver notices that the real one did something else`() throws {
    let copies = try Copies()
    // Both write the same wrong number: the replay alone cannot know.
    try copies.change(
      "trace.jsonl", #""offset":"0x9c","width":4,"value":"0x00000001","bus_bytes":"01000000""#,
      #""offset":"0x9c","width":4,"value":"0x00000005","bus_bytes":"05000000""#)
    #expect(try conform(copies.path).ok)
    let (ok, text, _) = try conform(copies.path, "--driver")
    #expect(!ok)
    #expect(
      text.contains("our driver writes 0x1 to 00:18.3 0x9c, the real one 0x5 to 00:18.3 0x9c"))
  }

  @Test(arguments: [
    ["a", "--caches", "maybe"], [], ["a", "--cache-sets", "8x4"],
    ["a", "--caches", "on", "--cache-sets", "3x4"], ["a", "--show", "-1"],
  ])
  func `a wrong command line is refused`(arguments: [String]) {
    #expect(throws: (any Error).self) { try ConformGART.parse(arguments) }
  }
}
