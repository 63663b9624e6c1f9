import ArgumentParser
import Glibc
import IOMMUCommands
import IOMMUTestSupport
import Testing

@Suite struct ImageTests {
  func info(_ arguments: [String]) throws -> String {
    var text = ""
    try ImageInfo.parse(arguments).report(to: &text)
    return text
  }

  @Test func `info says what an example is`() throws {
    let path = Examples.path("vtd-crash", "image.elf")
    let text = try info([path])
    #expect(
      text.replacing(path, with: "image.elf").hasPrefix(
        """
        file        image.elf
        format      ELF core
        file size   405,504 bytes
        page size   4,096 bytes
        stored      97 pages
        zero        0 pages
        processors  2
        memory      57 ranges
                    0x2121000..<0x2122000
        """), "\(text)")
    #expect(text.contains("            and 41 more (--all)\n"))
    let all = try info([path, "--all"])
    #expect(!all.contains("more (--all)"))
    #expect(all.split(separator: "\n").count { $0.hasPrefix("            0x") } == 57)
    #expect(text.contains("\nvmcoreinfo  OSRELEASE=6.1.192-vtdoracle\n"))
    #expect(!text.contains("vmcoreinfo  SYMBOL(") && all.contains("vmcoreinfo  SYMBOL(_stext)="))
  }

  @Test func `info in JSON has every field`() throws {
    let json = try info([Examples.path("calgary", "image.elf"), "--format", "json"])
    for part in [
      "\"format\"", "\"flattened\" : false", "\"stored_pages\" : 172", "\"zero_pages\" : 3051",
      "\"range_count\" : 47", "\"page_bytes\" : \"0x1000\"",
    ] {
      #expect(json.contains(part), "\(part) is not in \(json)")
    }
  }

  @Test(arguments: ["raw", "elf", "kdump", "flattened"])
  func `convert writes a dump that maps the same`(target: String) throws {
    let directory = TemporaryDirectory()
    let output = directory.path("converted")
    var text = ""
    try ImageConvert.parse([
      Examples.path("vtd-crash", "image.elf"), "--to", target, "-o", output,
    ]).report(to: &text)
    #expect(text.hasPrefix("\(output)  \(target), 388 KiB read, a file of "))
    func maps(_ image: String) throws -> String {
      var text = ""
      try Maps.parse([
        image, "--machine", Examples.path("vtd-crash", "machine.json"), "--table", "00:03.0",
        "--format", "tsv",
      ]).report(to: &text)
      return text
    }
    let expected = try maps(Examples.path("vtd-crash", "image.elf"))
    #expect(try maps(output) == expected)
    #expect(expected.split(separator: "\n").count == 258)
  }

  @Test func `a dump that is not there is one line`() {
    do {
      _ = try info(["/nonexistent"])
      Issue.record("it was opened")
    } catch {
      #expect(
        (error as? InputError)?.text == "/nonexistent: cannot be opened: No such file or directory")
    }
    #expect(throws: (any Error).self) { try ImageInfo.parse([]) }
    #expect(throws: (any Error).self) { try ImageConvert.parse(["x", "--to", "zip", "-o", "y"]) }
  }

  @Test func `a progress bar fills and says what is left`() {
    #expect(
      ProgressBar.line("convert", done: 25, total: 100, elapsed: .seconds(10))
        == "convert  [#######.......................]  25 %, 30 s left\u{1b}[K")
    #expect(
      ProgressBar.line("convert", done: 0, total: 0, elapsed: .zero).hasPrefix(
        "convert  [##############################]  100 %, 0 s left"))
    var drawn = ""
    let hidden = ProgressBar("x", isShown: false) { drawn += $0 }
    hidden.update(1, of: 2)
    hidden.finish()
    let quick = ProgressBar("x", isShown: true) { drawn += $0 }
    quick.update(1, of: 2)
    quick.finish()
    #expect(drawn == "")
    let slow = ProgressBar("x", isShown: true) { drawn += $0 }
    usleep(510_000)
    slow.update(1, of: 2)
    slow.update(2, of: 2)
    slow.finish()
    #expect(drawn.hasPrefix("\rx  [###############...............]  50 %, "))
    #expect(drawn.hasSuffix("\u{1b}[K\r\u{1b}[K"))
    #expect(drawn.split(separator: "\r").count == 2)
  }
}
