import ArgumentParser
import Foundation
import IOMMUImages
import IOMMUInspection
import IOMMULinux
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// `iommu dmesg` and `iommu vmcore` on the pages of a real vmcore that they look at.
@Suite struct KernelCommandTests {
  private static let dump = Examples.path("vmcore", "vmcore.kdump")

  private static func dmesg(_ arguments: String...) throws -> (lines: [String], answer: Answer) {
    var text = ""
    let answer = try Dmesg.parse([dump] + arguments).report(to: &text)
    return (text.split(separator: "\n").map(String.init), answer)
  }

  /// The truth is what drgn and makedumpfile take out of the same dump.
  @Test func `the log of a real kernel, as dmesg prints it`() throws {
    let (lines, answer) = try Self.dmesg()
    #expect(lines.count == 598 && answer == .yes)
    #expect(
      lines[0].hasPrefix(
        "[    0.000000] Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org)"))
    #expect(lines[2] == "[    0.000000] BIOS-provided physical RAM map:")
    #expect(lines.contains("[   58.367401] Kernel panic - not syncing: sysrq triggered crash"))
    #expect(lines.last == "[   58.402733]  </TASK>")
    let late = try Self.dmesg("--since", "58.367401").lines
    #expect(late.first == "[   58.367401] Kernel panic - not syncing: sysrq triggered crash")
    #expect(late == Array(lines.suffix(late.count)))
    #expect(try Self.dmesg("--raw").lines[0].hasPrefix("<5>[    0.000000] Linux version "))
    #expect(try Self.dmesg("-x").lines[1].hasPrefix("kern  :info  : [    0.000000] Command line: "))
  }

  @Test func `the log in JSON`() throws {
    let text = try Self.dmesg("--format", "json").lines.joined(separator: "\n")
    let logs = try #require(
      JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]])
    #expect(logs.count == 1 && logs[0]["kernel"] as? String == "old")
    #expect(
      logs[0]["release"] as? String == "6.1.0-56-amd64" && logs[0]["buffer"] as? String == "ring")
    let messages = try #require(logs[0]["messages"] as? [[String: Any]])
    #expect(messages.count == 598)
    let panic = try #require(
      messages.first {
        $0["text"] as? String == "Kernel panic - not syncing: sysrq triggered crash"
      })
    #expect(panic["seconds"] as? Double == 58.367401)
    #expect(panic["level"] as? String == "emerg" && panic["facility"] as? String == "kern")
  }

  @Test func `messages of several lines, and levels and facilities that have no name`() {
    let record = PrintkRecord(
      nanoseconds: 123_456_789_012_345, facility: 13, level: 7, text: "one\n\ntwo")
    #expect(
      record.lines() == ["[123456.789012] one", "[123456.789012] ", "[123456.789012] two"])
    #expect(record.lines(.raw)[0] == "<111>[123456.789012] one")
    #expect(record.lines(.decoded)[2] == "13    :debug : [123456.789012] two")
    #expect(PrintkRecord(facility: 0, text: "old").lines(.raw) == ["old"])
  }

  @Test func `points of time are seconds`() throws {
    for (text, nanoseconds) in [
      ("0", 0), ("12", 12_000_000_000), ("    1.5", 1_500_000_000), ("58.367401", 58_367_401_000),
    ] as [(String, UInt64)] {
      #expect(try KernelTime(text).nanoseconds == nanoseconds)
    }
    for text in ["", "-1", "1.", "1.0000000001", "yesterday", "1e3", "99999999999"] {
      #expect(throws: (any Error).self) { try KernelTime(text) }
    }
  }

  /// Every number was held against what debug information says of the whole dump (`.ci/linux`).
  @Test func `a screen of a real kernel`() throws {
    var text = ""
    let answer = try Vmcore.parse([Self.dump]).report(to: &text)
    #expect(answer == .yes)
    #expect(text.split(separator: "\n").allSatisfy { $0.count <= 80 })
    #expect(
      text == """
        kernel      6.1.0-56-amd64 x86_64, #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2
                    (2026-11-16)
        died        [   58.367401] Kernel panic - not syncing: sysrq triggered crash
                    2026-11-28 12:14:29 UTC
        command     console=ttyS0,115200 panic=-1 ipv6.disable=1 intel_iommu=on
                    trace_event=iommu:map,iommu:unmap trace_buf_size=2M
                    trace_clock=local hugepages=20 nvme_core.io_timeout=100000
                    oracle.mode=crash oracle.aw=48 iommu=nopt iommu.strict=0
                    crashkernel=128M
        memory      383.4 MiB of RAM, 2 processors
                    crash kernel at 0x3000000..<0xb000000, 128 MiB
        unit        dmar0 at 0xfed90000, intel-vtd, root table at 0xff8e000, queue at
                    0x13d1000, interrupt table at 0x1800000

        device   driver      group domain      id       table  pages  live cached  wait
        00:00.0  -           0     DMA-FQ       2   0xffba000      0     0      0     0
        00:03.0  e1000e      1     DMA-FQ       3   0xfff4000    349   258    503   100
        00:03.1  e1000e      2     DMA-FQ       4  0x10805000    420   329    403   136
        00:05.0  pcieport    3     DMA-FQ       5  0x10817000      0     0      0     0
        00:06.0  virtio-pci  4     DMA-FQ       6  0x10820000   1696    98    135     0
        00:07.0  pcieport    5     DMA-FQ       7  0x10823000      0     0      0     0
        00:08.0  vfio-pci    6     unmanaged    8  0x17567000   2744     -      -     -
        00:09.0  nvme        7     DMA-FQ       9  0x10851000   1715    29     27     0
        00:1f.0  -           8     DMA-FQ      10  0x1085f000   5194    40     19     0
        00:1f.2  ahci        8     DMA-FQ      10  0x1085f000   5194    40     19     0
        00:1f.3  -           8     DMA-FQ      10  0x1085f000   5194    40     19     0
        01:00.0  nvme        9     DMA-FQ      11  0x10874000   1715    19     37     0
        02:00.0  -           10    DMA-FQ      12  0x1088a000    348   257      6     0
        03:02.0  e1000       10    DMA-FQ      12  0x1088a000    348   257      6     0

        """)
  }

  @Test func `all of it in JSON`() throws {
    var text = ""
    _ = try Vmcore.parse([Self.dump, "--format", "json"]).report(to: &text)
    let kernels = try #require(
      JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]])
    let kernel = try #require(kernels.first)
    #expect(kernel["kernel"] as? String == "old" && kernel["found"] as? String == "notes")
    #expect(kernel["crash_kernel"] as? [[String]] == [["0x3000000", "0xb000000"]])
    #expect((kernel["modules"] as? [Any])?.count == 29 && (kernel["groups"] as? [Any])?.count == 11)
    #expect((kernel["unknown"] as? [Any])?.isEmpty == true)
    let devices = try #require(kernel["devices"] as? [[String: Any]])
    let card = try #require(devices.first { $0["device"] as? String == "00:03.0" })
    #expect(card["driver"] as? String == "e1000e" && card["group"] as? Int == 1)
    #expect(
      (card["tables"] as? [String: Any])?["root"] as? String == "0xfff4000"
        && (card["iovas"] as? [String: Int])?["reserved"] == 5)
    #expect(!text.contains("range_list"))
    _ = try Vmcore.parse([Self.dump, "--format", "json", "--iovas"]).report(to: &text)
    #expect(text.contains("range_list") && text.contains("waiting_list"))
    #expect(throws: (any Error).self) { try Vmcore.parse([Self.dump, "--iovas"]) }
  }

  /// Units, root table and crash kernel are the kernel's own words.
  @Test func `other commands need no machine file either`() throws {
    var text = ""
    let answer = try Walk.parse([Self.dump, "00:03.0", "fffff000"]).report(to: &text)
    #expect(answer == .yes || answer == .no)
    #expect(text.contains("0xfff4000"))
    let knowledge = try #require(
      KernelKnowledge(of: MemoryImage(path: Self.dump), path: "dump"))
    #expect(knowledge.machine.units.count == 1)
    #expect(knowledge.machine.crashKernel.map(\.text) == ["0x3000000..<0xb000000"])
    #expect(
      knowledge.notices == [
        "no machine file: taking the root table at 0xff8e000, as the kernel says of dmar0 at 0xfed90000"
      ])
    text = ""
    // No option says where the crash kernel is, or which tables are in force.
    #expect(try Verify.parse([Self.dump]).report(to: &text) == .no)
    #expect(text.contains("R1  broken") && text.contains("R6  holds") && text.contains("R8  holds"))
    #expect(knowledge.devices?.count == 14)
    #expect(
      knowledge.devices?.contains { $0.name == "00:03.0 e1000e" && $0.dmaMask == .max } == true)
    // A kernel without structures says nothing, and a search finds what there is.
    let bare = try MemoryImage(path: Examples.path("vtd-crash", "image.elf"))
    #expect(bare.vmcoreInfo != nil && KernelKnowledge(of: bare, path: "bare") == nil)
  }

  @Test func `found tables are told whose they are by the kernel`() throws {
    var text = ""
    _ = try Find.parse([Self.dump]).report(to: &text)
    #expect(text.contains("0xff8e000  VT-d root table, 4 KiB"))
    #expect(text.contains("\n  root table of dmar0, by the kernel\n"))
    text = ""
    _ = try Find.parse([Self.dump, "--format", "json"]).report(to: &text)
    let all = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]])
    let root = try #require(all.first { $0["address"] as? String == "0xff8e000" })
    #expect((root["kernel"] as? [String: Any])?["state"] as? String == "unit")
    // A kernel that cannot be read changes nothing.
    text = ""
    _ = try Find.parse([Examples.path("vtd-crash", "image.elf")]).report(to: &text)
    #expect(!text.contains("by the kernel"))
  }

  /// No kernel does what the Rule demands: all numbers of the crash kernel are free in each allocator.
  @Test func `verdicts rest on allocators and on what drivers have switched on`() throws {
    var text = ""
    #expect(try Verify.parse([Self.dump]).report(to: &text) == .no)
    #expect(
      text.contains(
        "\n  00:03.0 e1000e IOVA 0x3000000, SS-PDPE [0x0] at 0x17df8000, raw 0x0000000000000000: "
          + "0x3000000..<0xb000000 is free in the allocator: never reserved\n"))
    #expect(text.contains("R9  unknown") && text.contains("of the kernel's array of struct page: "))
    #expect(text.contains("\n  looked at: what 10 of the kernel's IOVA allocators hold\n"))
    #expect(
      text.contains(
        "R10  broken: interrupts of devices reach the kdump kernel\n  the unit at 0xfed90000 remaps "
          + "interrupts and blocks those in the compatibility format (GSTS.CFIS=0)\n"
          + "  looked at: what the kernel's drivers have written to registers last\n"))
    #expect(
      text.contains(
        "R8  holds: every device that the kdump kernel needs has a table\n"
          + "  looked at: the 14 devices that the kernel lists\n"))
  }

  @Test func `requesters have their drivers wherever they are printed`() throws {
    func json(_ text: String) throws -> [String: Any] {
      try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }
    func text(_ run: (inout String) throws -> Void) throws -> String {
      var text = ""
      try run(&text)
      return text
    }
    let maps = try text { _ = try Maps.parse([Self.dump, "--format", "summary"]).report(to: &$0) }
    #expect(maps.contains("\n00:03.0 e1000e       1396 KiB  259 runs, "))
    #expect(maps.contains("\n02:00.0              1392 KiB  243 runs, "))
    let tables = try json(
      try text {
        _ = try Maps.parse([Self.dump, "--table", "00:09.0", "--format", "json"]).report(to: &$0)
      })["tables"]
    let table = try #require((tables as? [[String: Any]])?.first)
    #expect(table["table"] as? String == "00:09.0" && table["driver"] as? String == "nvme")
    let lines = try text {
      _ = try Maps.parse([Self.dump, "--format", "tsv"]).report(to: &$0)
    }
    #expect(lines.contains("\n00:03.0\t") && !lines.contains("e1000e"))
    let walk = try text {
      _ = try Walk.parse([Self.dump, "00:03.0", "fffff000"]).report(to: &$0)
    }
    #expect(walk.hasPrefix("00:03.0 e1000e reads IOVA 0xfffff000: second-stage table"))
    let verdicts = try text { _ = try Verify.parse([Self.dump]).report(to: &$0) }
    #expect(verdicts.contains("\n  00:1f.0, 00:1f.2 ahci and 00:1f.3 IOVA 0x3000000, "))
    let same = try text { _ = try Diff.parse([Self.dump, Self.dump]).report(to: &$0) }
    #expect(same.hasPrefix("0 devices different, "))
    let entry = try text {
      _ = try Hexdump.parse([Self.dump, "0xffbb180+16", "--annotate"]).report(to: &$0)
    }
    #expect(entry.contains("context entry 00:03.0 e1000e: second-stage table 0xfff4000"))
    let memory = try MemoryImage(path: Self.dump)
    let knowledge = try #require(KernelKnowledge(of: memory, path: "dump"))
    var answers = RequestAnswers(
      machine: knowledge.machine, memory: memory, format: .json, names: knowledge.names)
    var answer: [UInt8] = []
    try Array("00:03.0\t0xfffff000\tw".utf8).withUnsafeBytes {
      try answers.answer($0, number: 1, into: &answer)
    }
    #expect(
      String(decoding: answer, as: UTF8.self).hasPrefix(
        #"{"requester":"00:03.0","driver":"e1000e","iova":"0xfffff000","#))
  }

  @Test func `a dump without what is needed is an error that says so`() throws {
    let directory = TemporaryDirectory()
    let page = TinyELF([TinyELF.Load(physical: 0x1000, data: [UInt8](repeating: 1, count: 4096))])
    let path = directory.file("bare", page.bytes)
    func message(_ body: () throws -> Void) -> String {
      do {
        try body()
        return ""
      } catch {
        return "\(error)"
      }
    }
    var text = ""
    #expect(
      message { _ = try Dmesg.parse([path]).report(to: &text) }
        .contains("\(path): no Linux kernel: no VMCOREINFO in the notes, and none in the memory"))
    #expect(
      message { _ = try Dmesg.parse([Self.dump, "--kernel", "capture"]).report(to: &text) }
        .contains("no capture kernel in this dump; leave out --kernel"))
    // Tables and a note alone: nothing is known, and that is told.
    let bare = Examples.path("vtd-crash", "image.elf")
    #expect(
      message { _ = try Dmesg.parse([bare]).report(to: &text) }.contains("the log cannot be read: ")
    )
    text = ""
    #expect(try Vmcore.parse([bare]).report(to: &text) == .unknown)
    #expect(text.contains("kernel      6.1.192-vtdoracle") && text.contains("\nunknown     "))
  }

  /// A buffer of characters, a root table, a context entry for 00:03.0, and page tables without an entry.
  private static func withLog(_ log: String) -> [UInt8] {
    func page(_ address: UInt64, _ words: [Int: UInt64]) -> TinyELF.Load {
      var bytes = [UInt8](repeating: 0, count: 4096)
      for (place, word) in words {
        bytes.replaceSubrange(place..<place + 8, with: TinyELF.little(word, 8))
      }
      return TinyELF.Load(physical: address, data: bytes)
    }
    let text = Array(log.utf8)
    let info = """
      OSRELEASE=3.2.0
      SYMBOL(swapper_pg_dir)=ffffffff90000000
      SYMBOL(_stext)=ffffffff81000000
      SYMBOL(log_buf)=ffffffff80010000
      SYMBOL(log_buf_len)=ffffffff80010008
      SYMBOL(log_end)=ffffffff80010010
      SYMBOL(logged_chars)=ffffffff80010018

      """
    return TinyELF([
      .note("VMCOREINFO", info),
      page(0x2000, [0: 0x3001]), page(0x3000, [0x18 * 16: 0x4001, 0x18 * 16 + 8: 0x102]),
      page(0x4000, [:]),
      page(
        0x1_0000,
        [0: 0xffff_ffff_8001_1000, 8: 4096, 16: UInt64(text.count), 24: UInt64(text.count)]),
      TinyELF.Load(
        physical: 0x1_1000, data: text + [UInt8](repeating: 0, count: 4096 - text.count)),
    ]).bytes
  }

  private static let fault = """
    <3>[   12.000000] DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0xffe00000 \
    [fault reason 0x05] PTE Write access is not set

    """

  @Test(.enabled(if: Command.path != nil))
  func `explain takes the log that is in the dump`() throws {
    let directory = TemporaryDirectory()
    let path = directory.file("dump", Self.withLog(Self.fault))
    let asked = try Command.run(["explain", path, "--root", "2000", "--dmesg"], input: "no log")
    #expect(asked.status == 0, "\(asked)")
    #expect(asked.output.contains("00:03.0") && asked.output.contains("0xffe00000"))
    // Standard input has none.
    let none = try Command.run(["explain", path, "--root", "2000"])
    #expect(none.output == asked.output && none.status == 0)
    // It has one: that is the log.
    let given = try Command.run(
      ["explain", path, "--root", "2000"], input: Self.fault.replacing("00:03.0", with: "00:04.0"))
    #expect(given.output.contains("00:04.0") && !given.output.contains("00:03.0"))
    let empty = directory.file("empty", Self.withLog("<6>nothing to see\n"))
    let silent = try Command.run(["explain", empty, "--root", "2000"])
    #expect(silent.status == 2 && silent.errors.contains("the log in \(empty): no fault line"))
    let log = directory.file("log", Array(Self.fault.utf8))
    #expect(try Command.run(["explain", log, path, "--root", "2000", "--dmesg"]).status == 64)
    #expect(try Command.run(["explain", log, "--dmesg"]).status == 64)
  }
}
