import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

@Suite struct ExplainTests {
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
    (
      "--iomem - < Examples/logs/dmesg.txt", 64,
      "standard input is the log, and '--iomem -' would read it too"
    ),
    ("- --trace - < Examples/logs/dmesg.txt", 64, "'--trace -' would read it too"),
    ("--dmar - < Examples/logs/dmesg.txt", 64, "'--dmar -' would read it too"),
    ("--ivrs - Examples/gart/image.elf < Examples/logs/dmesg.txt", 64, "'--ivrs -' would read"),
    (
      "Examples/logs/dmesg.txt --iomem - --trace - < Examples/logs/iomem.txt", 64,
      "--iomem - and --trace -: standard input is read once"
    ),
  ])
  func `what cannot be read is refused with the way out`(
    arguments: String, status: Int32, text: String
  ) {
    let run = HelpTests.run("iommu explain \(arguments)")
    #expect(run.status == status)
    #expect(run.output.contains(text), "\(run.output)")
  }

  /// A DMAR table without its end, in which the timer 00:1e.6 and the reserved memory are.
  @Test func `what a table without its end may name is not known`() {
    let explain = "iommu explain Examples/logs/dmesg.txt --format json"
    let whole = HelpTests.run("\(explain) --dmar Examples/logs/dmar.bin")
    let cut = HelpTests.run("head -c 100 Examples/logs/dmar.bin | \(explain) --dmar -")
    #expect(cut.status == whole.status)
    #expect(whole.output.contains("firmware: 00:1e.6 is HPET 0, a timer"))
    #expect(
      cut.output.contains(
        "standard input: at byte 0x4: a length of 144 bytes, and only 100 are there; the table is cut "
          + "off, copy it again; bytes 96 to 143 of the table could not be read, and what firmware says "
          + "there is not known\n"))
    #expect(
      cut.output.contains(
        "what there is of firmware's table does not list 00:1e.6; the missing part may, and otherwise "
          + "the unit at 0xfed91000 has all that is listed nowhere"))
    let short = HelpTests.run("head -c 40 Examples/logs/dmar.bin | \(explain) --dmar -")
    #expect(short.status == 2)
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

  @Test(arguments: [
    "Examples/logs/dmesg.txt --iomem - < Examples/logs/iomem.txt",
    "Examples/logs/dmesg.txt --iomem - < iomem.gz", "Examples/logs/dmesg.txt --iomem iomem.gz",
    "--iomem iomem.gz < Examples/logs/dmesg.txt",
  ])
  func `a list of memory may be packed, or come from standard input`(arguments: String) {
    let run = HelpTests.run(
      "gzip -c Examples/logs/iomem.txt > iomem.gz && iommu explain \(arguments)")
    #expect(run.status == 1)
    #expect(run.output.contains("number is System RAM: perhaps one that"), "\(run.output)")
  }

  /// What a trace says of 00:03.0, which wrote 0x1000 at 301.000002 s.
  static func before(_ trace: [String]) -> (status: Int32, texts: [String]) {
    let run = HelpTests.run(
      "printf '%b\\n' \(trace.map { "'\($0)'" }.joined(separator: " ")) "
        + "| iommu explain Examples/logs/dmesg.txt --trace - --format json")
    let lines = run.output.split(separator: "\n").drop { !$0.contains("\"history\" : [") }
    let texts = lines.dropFirst().prefix { !$0.contains("]") }
    return (
      run.status,
      texts.map { $0.trimmingPrefix { $0 == " " }.split(separator: "\"")[0] }.map(String.init)
    )
  }

  private static let head = "dd-1 [000] ..... "

  @Test func `a trace's event is about the page that it touches`() {
    let (status, texts) = Self.before([
      Self.head
        + "290.000001: dma_map_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=1842 size=1514 phys_addr=107036842 attrs=",
      Self.head
        + "292.000001: dma_unmap_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=1842 size=1514 attrs=",
    ])
    #expect(status == 1)
    #expect(
      texts == [
        "mapped 0x1842..<0x1e2c for 00:03.0 by dd-1, 11.000001 s before (line 1)",
        "unmapped 0x1842..<0x1e2c for 00:03.0 by dd-1, 9.000001 s before (line 2)",
        "taken back before the fault: the device used the number too late",
        "the trace ends 9.000001 s before the fault: what came then is not in it",
      ])
    #expect(
      Self.before(["00:03.0,1842,1514,r"]).texts == [
        "read 0x1842..<0x1e2c for 00:03.0 (line 1)",
        "the log's time and the trace's cannot be compared: these are the last of the whole trace, and "
          + "whether they came before the fault is not known",
      ])
  }

  @Test func `lists, syncs and devices of a trace are told apart`() {
    let map =
      "290.000002: dma_map_sg: 0000:00:03.0 dir=FROM_DEVICE dma_addrs={0x1000,0x8000} "
      + "sizes={0x1000,0x1000} phys_addrs={0x7000,0x9000} attrs="
    let sync =
      "293.000002: dma_sync_single_for_device: 0000:00:03.0 dir=FROM_DEVICE dma_addr=1000 size=64"
    let others =
      "294.000002: dma_map_page: 1e784000.usb dir=FROM_DEVICE dma_addr=1000 size=64 phys_addr=7000 attrs="
    let end =
      "400.000002: dma_map_page: 1e784000.usb dir=FROM_DEVICE dma_addr=1000 size=64 phys_addr=7000 attrs="
    func texts(_ lines: String...) -> [String] { Self.before(lines.map { Self.head + $0 }).texts }
    #expect(
      texts(
        map,
        "292.000002: dma_unmap_sg: 0000:00:03.0 dir=FROM_DEVICE phys_addrs={0x7000,0x9000} attrs=",
        sync, others, end) == [
          "mapped 0x1000..<0x2000 for 00:03.0 by dd-1, 11.000000 s before (line 1)",
          "unmapped 0x1000..<0x2000 for 00:03.0 by dd-1, 9.000000 s before (line 2)",
          "synced 0x1000..<0x1040 for 00:03.0 by dd-1, 8.000000 s before (line 3)",
          "taken back before the fault: the device used the number too late",
        ])
    #expect(
      texts(map, "292.000002: dma_unmap_sg: 0000:00:03.0 dir=FROM_DEVICE attrs=", end).last
        == "taken back perhaps: line 2 unmaps a list, and it is not known whether it is this one")
    #expect(texts(map, others, end).last == "mapped at the time of the fault")
    #expect(
      texts(others, end)
        == ["no event of the trace before the fault is about this number"])
    #expect(
      texts(
        "290.000002: dma_map_sg: 0000:00:03.0 dir=FROM_DEVICE nents=128/200 ents=1/200 [TRUNCATED] "
          + "dma_addrs={0x5000} sizes={0x1000} phys_addrs={0x7000} attrs=", end) == [
          "no event of the trace before the fault is about this number; but the list of line 1 was "
            + "cut, and the number may be in what is missing"
        ])
  }

  @Test func `a line of a trace that is not understood may have taken anything back`() {
    let map =
      "290.000002: dma_map_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=1000 size=64 phys_addr=7000 attrs="
    #expect(
      Self.before([
        Self.head + map, Self.head + "291.000002: dma_unmap_page: 0000:00:03.0 addr=1000",
        Self.head + map.replacing("290", with: "400").replacing("1000", with: "5000"),
      ]).texts.last
        == "mapped as far as is known: what line 2 tells is lost or not understood")
  }

  @Test func `a hole in a trace may have taken anything back`() {
    let map =
      "290.000002: dma_map_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=1000 size=64 phys_addr=7000 attrs="
    #expect(
      Self.before([
        Self.head + map, Self.head + "291.\\0000\\0000x",
        Self.head + map.replacing("290", with: "400").replacing("1000", with: "5000"),
      ]).texts.last
        == "mapped as far as is known: what line 2 tells is lost or not understood")
  }

  /// The latency format counts from the trace's beginning, not from the machine's.
  @Test func `a time of the latency format is not the log's`() {
    let (_, texts) = Self.before([
      "      dd-2312      1d..1. 290000002us+: dma_map_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=1000 "
        + "size=64 phys_addr=7000 attrs="
    ])
    #expect(
      texts == [
        "mapped 0x1000..<0x1040 for 00:03.0 by dd-2312 (line 1)",
        "the log's time and the trace's cannot be compared: these are the last of the whole trace, and "
          + "whether they came before the fault is not known",
      ])
  }

  @Test func `QEMU's translations are of pages`() {
    let run = HelpTests.run(
      "echo '7@100.000000:vtd_dmar_fault sid 0x200 fault 6 addr 0xfff36420 write 0' > log && "
        + "echo '7@99.000000:vtd_dmar_translate dev 02:00.00 iova 0xfff36000 -> gpa 0x7000 mask 0xfff' "
        + "| iommu explain log --trace -")
    #expect(run.status == 0)
    #expect(
      run.output.contains(
        "  before      translated 0xfff36000..<0xfff37000 for 02:00.0, 1.000000 s before\n"),
      "\(run.output)")
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
