import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// What commands say of dumps of which not all can be read.
@Suite struct UnreadablePageTests {
  let scratch = TemporaryDirectory()

  /// The example as a kdump-compressed dump.
  private func kdump() throws -> [UInt8] {
    var text = ""
    try ImageConvert.parse([
      Examples.path("vtd-crash", "image.elf"), "--to", "kdump", "-o", scratch.path("good"),
    ]).report(to: &text)
    return scratch.contents("good")
  }

  /// What is thrown, the directory left out.
  private func thrown(_ run: () throws -> Void) -> [String] {
    let error = #expect(throws: InputError.self) { try run() }
    return (error?.text.replacing("\(scratch.path)/", with: "") ?? "").split(separator: "\n")
      .map(String.init)
  }

  @Test func `a conclusion that damaged pages led to does not stand alone`() throws {
    var bytes = try kdump()
    // All that is packed; headers, bitmaps and descriptors stay.
    for index in bytes.indices.suffix(16_400) { bytes[index] = 0xff }
    let path = scratch.file("vmcore", bytes)
    var text = ""
    let commands: [() throws -> Void] = [
      { _ = try Maps.parse([path]).report(to: &text) },
      { _ = try Who.parse([path, "0x7663000"]).report(to: &text) },
      { _ = try Walk.parse([path, "00:03.0", "0x1000"]).report(to: &text) },
      { _ = try Verify.parse([path, "--crash-kernel", "160M@336M"]).report(to: &text) },
      { try Report.parse([path, "-o", scratch.path("none.html")]).run() },
      { _ = try Diff.parse([path, scratch.path("good")]).report(to: &text) },
      { _ = try Diff.parse([scratch.path("good"), path]).report(to: &text) },
    ]
    for command in commands {
      let lines = thrown(command)
      #expect(lines.count == 2)
      #expect(lines.first?.contains("zlib data that does not unpack to a page") == true)
      #expect(lines.last?.contains("no table") == true)
    }
    #expect(text.isEmpty)
    // A page is shown as what it is, and is no hole of the dump.
    let shown = thrown { _ = try Hexdump.parse([path, "6a04000+4K"]).report(to: &text) }
    #expect(shown.count == 1)
    #expect(text == "(0x6a04000..<0x6a05000 is damaged in the dump)\n")
    text = ""
    // find has its answer on standard output; its reason is thrown.
    let lines = thrown { _ = try Find.parse([path]).report(to: &text) }
    #expect(lines.count == 1 && lines[0].contains("zlib data"))
  }

  @Test func `a dump that is cut off is read, and info says what is missing`() throws {
    let bytes = try kdump()
    let path = scratch.file("vmcore", Array(bytes[..<(bytes.count - 5000)]))
    var text = ""
    try ImageInfo.parse([path]).report(to: &text)
    let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("incomplete") })
    #expect(line.contains("cut off at byte "))
    #expect(line.contains(" of 97 pages of memory are missing, from physical address 0x"))
    var json = ""
    try ImageInfo.parse([path, "--format", "json"]).report(to: &json)
    for part in [
      "\"incomplete\" : true", "\"disk_full\" : false", "\"claimed_bytes\" : 397312",
      "\"end_of_file\" : \(bytes.count - 5000)", "\"from\" : \"0x",
    ] {
      #expect(json.contains(part), "\(part) is not in \(json)")
    }
    var whole = ""
    try ImageInfo.parse([scratch.path("good"), "--format", "json"]).report(to: &whole)
    #expect(whole.contains("\"incomplete\" : false"))
    // The root table lies before the cut.
    var walk = ""
    _ = try Walk.parse([
      path, "00:03.0", "0xffefd123", "--write", "--machine",
      Examples.path("vtd-crash", "machine.json"),
    ]).report(to: &walk)
    #expect(walk.contains("context table 0x6ab9000"))
  }

  @Test func `a dump of which only headers are left is an error, but info reads them`() throws {
    let path = scratch.file("vmcore", Array(try kdump()[..<0x2800]))
    var text = ""
    #expect(
      thrown { _ = try Maps.parse([path]).report(to: &text) } == [
        "vmcore: none of the memory is in the file; copy it again"
      ])
    try ImageInfo.parse([path]).report(to: &text)
    #expect(text.contains("OSRELEASE=6.1.192-vtdoracle"))
  }

  @Test func `reasons are told once, each in a line`() {
    #expect(InputError(lines: ["a", "b\na", "c"]).text == "a\nb\nc")
  }
}
