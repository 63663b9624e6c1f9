import Foundation
import IOMMUTestSupport
import Testing

/// Work that is interrupted leaves what was there, and nothing else.
@Suite struct InterruptionTests {
  let scratch = TemporaryDirectory()

  /// A dump of 256 MiB that takes a while to convert, made of one page of bytes.
  private func dump() throws -> String {
    let path = scratch.path("dump")
    let file = try #require(fopen(path, "w"))
    defer { fclose(file) }
    var page = [UInt8](repeating: 0, count: 1 << 20)
    for number in 0..<256 {
      for index in stride(from: 0, to: page.count, by: 8) {
        page[index] = UInt8(truncatingIfNeeded: index &* 31 &+ number)
      }
      fwrite(page, 1, page.count, file)
    }
    return path
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP, SIGKILL])
  func `a signal leaves nothing of an output`(signal: Int32) throws {
    let dump = try dump()
    _ = scratch.file("old", Array("old".utf8))
    let started = try Command.started([
      "image", "convert", dump, "--to", "kdump", "-o", scratch.path("old"),
    ])
    // As soon as it has something to write to.
    usleep(300_000)
    kill(started.process.processIdentifier, signal)
    started.process.waitUntilExit()
    let command = started.finish()
    #expect(scratch.files == ["dump", "old"])
    if command.status == nil { #expect(scratch.contents("old") == Array("old".utf8)) }
  }

  @Test func `a limit on the size of files is an error`() throws {
    let dump = scratch.file(
      "dump", TinyELF([.init(physical: 0, data: [UInt8](repeating: 1, count: 1 << 20))]).bytes)
    let command = try Command.run(
      ["image", "convert", dump, "--to", "raw", "-o", scratch.path("new")], shell: "ulimit -f 16")
    #expect(command.status == 2)
    #expect(command.errors == "iommu: \(scratch.path("new")): cannot be written: File too large\n")
    #expect(scratch.files == ["dump"])
  }
}
