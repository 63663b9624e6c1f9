import ArgumentParser
import Glibc
import IOMMUImages
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// A dump of a dead machine cannot be made again: nothing is written over what is read.
@Suite struct OutputOverInputTests {
  let scratch = TemporaryDirectory()

  /// Copies of an example, and of each a symbolic and a hard link.
  private func prepare() throws {
    for (name, file) in [("vmcore", "image.elf"), ("machine.json", "machine.json")] {
      _ = scratch.file(name, Array(try Self.contents(Examples.path("vtd-crash", file))))
      symlink(name, scratch.path("symbolic-\(name)"))
      link(scratch.path(name), scratch.path("hard-\(name)"))
    }
  }

  private static func contents(_ path: String) throws -> [UInt8] {
    let stream = try #require(fopen(path, "r"))
    defer { fclose(stream) }
    var bytes: [UInt8] = []
    while case let byte = fgetc(stream), byte >= 0 { bytes.append(UInt8(byte)) }
    return bytes
  }

  /// The files are as they were, and the error names both.
  private func expectRefusal(
    of output: String, over input: String, _ run: () throws -> Void,
    _ location: SourceLocation = #_sourceLocation
  ) {
    let before = scratch.files.map { scratch.contents($0) }
    let error = #expect(throws: InputError.self, sourceLocation: location) { try run() }
    let expected =
      output == input
      ? "\(output): is the input; choose another name for what is written"
      : "\(output): is the same file as the input \(input); choose another name for what is written"
    #expect(error?.text == expected, sourceLocation: location)
    #expect(scratch.files.map { scratch.contents($0) } == before, sourceLocation: location)
  }

  private var names: [String] { ["", "symbolic-", "hard-"] }

  @Test func `report is not written over the table of firmware that its machine file names`() throws
  {
    try prepare()
    let table = scratch.file("DMAR", "DMAR\u{0}, not read before it is refused")
    let machine = scratch.file(
      "with-table.json", "{\"version\": 1, \"units\": [], \"dmar\": \"DMAR\"}")
    expectRefusal(of: table, over: table) {
      try Report.parse([scratch.path("vmcore"), "--machine", machine, "-o", table]).run()
    }
  }

  @Test func `report is not written over its dump, nor over its machine file`() throws {
    try prepare()
    let image = scratch.path("vmcore")
    let machine = scratch.path("machine.json")
    for input in [image, machine] {
      for name in names {
        let output = scratch.path(name + input.split(separator: "/").last!)
        expectRefusal(of: output, over: input) {
          try Report.parse([image, "--machine", machine, "-o", output]).run()
        }
      }
    }
    // By another spelling of the same path; and of a split dump each part counts.
    let other = scratch.path("./vmcore")
    expectRefusal(of: other, over: image) {
      try Report.parse([machine, "--part", image, "-o", other]).run()
    }
    try Report.parse([image, "--machine", machine, "-o", scratch.path("new.html")]).run()
    #expect(scratch.contents("new.html").count > 1000)
  }

  @Test func `convert is not written over a part of its dump`() throws {
    try prepare()
    let image = scratch.path("vmcore")
    for name in names {
      let output = scratch.path("\(name)vmcore")
      expectRefusal(of: output, over: image) {
        var text = ""
        try ImageConvert.parse([image, "--to", "kdump", "-o", output]).report(to: &text)
      }
      expectRefusal(of: output, over: image) {
        var text = ""
        try ImageConvert.parse([
          scratch.path("machine.json"), image, "--to", "raw", "-o", output,
        ]).report(to: &text)
      }
    }
  }

  @Test func `a plot is not drawn over its trace, nor over a shard's result`() throws {
    let trace = scratch.file("trace.csv", ReplayTests.trace)
    symlink("trace.csv", scratch.path("symbolic-trace.csv"))
    link(trace, scratch.path("hard-trace.csv"))
    for name in names {
      let output = scratch.path("\(name)trace.csv")
      expectRefusal(of: output, over: trace) {
        _ = try ReplayTests.run([trace, "--sweep", "entries=16:64", "--plot", output])
      }
      expectRefusal(of: output, over: trace) {
        _ = try ReplayTests.run(["/dev/null", trace, "--merge", "--plot", output])
      }
    }
  }

  /// It cannot be an input: there is nothing that could be lost.
  @Test func `a name that no file has is free, and so is a link to none`() throws {
    symlink("nowhere", scratch.path("dangling"))
    let input = scratch.file("input", "text")
    #expect(throws: Never.self) {
      try OutputFile.refuse(
        [scratch.path("none"), scratch.path("dangling")], over: [input, scratch.path("none")])
    }
  }
}
