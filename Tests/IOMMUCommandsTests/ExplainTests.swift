import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

@Suite struct ExplainTests {
  /// The blocks of a page that begin with a command: the command, and what it prints.
  static func shown(_ page: String, _ command: String) -> [(line: String, output: String)] {
    Repository.text(page).split(separator: "```\n", omittingEmptySubsequences: false).compactMap {
      guard $0.hasPrefix("$ "), let end = $0.firstIndex(of: "\n") else { return nil }
      let line = String($0[..<end].dropFirst(2))
      guard line.contains(command) else { return nil }
      return (line, String($0[end...].dropFirst()))
    }
  }

  @Test(arguments: ["docs/explain.md", "README.md"])
  func `what the documentation shows is what is printed`(page: String) {
    let blocks = Self.shown(page, "iommu explain")
    #expect(blocks.count >= (page == "README.md" ? 1 : 5))
    for (line, output) in blocks {
      #expect(HelpTests.run(line).output == output, "\(line)")
    }
  }

  static let dump = ["Examples/vtd-crash/image.elf", "--machine Examples/vtd-crash/machine.json"]
    .joined(separator: " ")

  @Test(arguments: [
    "Examples/logs/dmesg.txt \(dump)",
    "Examples/vtd-crash/image.elf Examples/logs/dmesg.txt "
      + "--machine Examples/vtd-crash/machine.json", "\(dump) < Examples/logs/dmesg.txt",
    "\(dump) - < Examples/logs/dmesg.txt", "- \(dump) < Examples/logs/dmesg.txt",
  ])
  func `the log may stand anywhere`(arguments: String) {
    let (status, output) = HelpTests.run("iommu explain \(arguments)")
    #expect(status == 1)
    #expect(output.contains("  now         the same: faults 0x5"))
  }

  @Test(arguments: [
    ("Examples/logs/dmesg.txt Examples/logs/entries.txt", 64, "are both texts"),
    ("Examples/vtd-crash/image.elf Examples/calgary/image.elf", 64, "is a text"),
    ("a b c", 64, "one log and one dump at most; 3 files were named"),
    ("--machine m.json < Examples/logs/dmesg.txt", 64, "are about a dump, and none is named"),
    ("nowhere.txt < /dev/null", 2, "nowhere.txt"),
    ("< /dev/null", 2, "no fault line of Intel VT-d"),
    ("Examples/README.md", 2, "Examples/README.md: no fault line of"),
    ("Examples", 2, "Examples"),
    ("--dmar Examples/logs < Examples/logs/iomem.txt", 2, "no fault line of"),
    ("--dmar Examples/gart < Examples/logs/dmesg.txt", 2, "has no file that begins with 'DMAR'"),
    ("--dmar Examples/logs/iomem.txt < Examples/logs/dmesg.txt", 2, "iomem.txt"),
    ("--iomem Examples/logs/dmesg.txt < Examples/logs/dmesg.txt", 2, "no line 'START-LAST : NAME'"),
    ("--trace Examples/logs/dmesg.txt < Examples/logs/dmesg.txt", 2, "no mapping in it"),
    ("--trace nowhere < Examples/logs/dmesg.txt", 2, "nowhere"),
  ])
  func `what cannot be read is refused with the way out`(
    arguments: String, status: Int32, text: String
  ) {
    let run = HelpTests.run("iommu explain \(arguments)")
    #expect(run.status == status)
    #expect(run.output.contains(text), "\(run.output)")
  }

  @Test func `the exit status says whether all was understood`() {
    func status(_ lines: String) -> Int32 {
      HelpTests.run("printf '\(lines)\\n' | iommu explain").status
    }
    let fault = "DMAR: [DMA Write] Request device [00:03.0] fault addr 1000 [fault reason 05] x"
    #expect(status(fault) == 0)
    #expect(status("arm-smmu: Unhandled context fault: fsr=0x402") == 1)
    #expect(status(fault + "\\narm-smmu: Unhandled context fault: fsr=0x402") == 1)
  }

  @Test func `JSON has lines that are not understood among the faults`() throws {
    let run = HelpTests.run("iommu explain Examples/logs/dmesg.txt --format json")
    #expect(run.status == 1)
    #expect(
      run.output.contains(
        """
            "line" : 6,
            "unit" : "Arm SMMU",
            "unread" : "a fault of a kind that is not read"
        """))
  }

  /// A line without an end, bytes without sense: read to the end, in pieces.
  @Test func `a line of megabytes loses no fault`() {
    let fault = "DMAR: [DMA Write] Request device [00:03.0] fault addr 1000 [fault reason 05] x"
    let run = HelpTests.run(
      "(head -c 3000000 /dev/zero | tr '\\0' 'x'; printf ' \(fault) '; head -c 2000000 /dev/zero; "
        + "printf '\\n\(fault)\\n') | iommu explain")
    #expect(run.status == 0)
    #expect(run.output.hasPrefix("line 1, 2 times: 00:03.0 wrote IOVA 0x1000\n"))
  }
}
