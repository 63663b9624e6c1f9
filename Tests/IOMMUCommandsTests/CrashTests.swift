import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUCommands
@testable import IOMMUKdump

@Suite struct CrashTests {
  func crash(_ arguments: String) throws -> (answer: Answer, text: String) {
    try Self.crash(arguments.split(separator: " ").map(String.init))
  }

  static func crash(_ arguments: [String]) throws -> (answer: Answer, text: String) {
    let command = try Crash.parse(arguments)
    var screen = ""
    let answer = try command.report(to: &screen)
    return (answer, screen)
  }

  /// What the command says of a machine that cannot be.
  func failure(_ arguments: String) -> String {
    let error = #expect(throws: InputError.self) { try crash(arguments) }
    return error?.text ?? ""
  }

  static func expectFits(_ text: String) {
    for line in text.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
  }

  // MARK: The matrix

  /// What the strategies' own discussions say of VT-d: OWN, blocked, or gone astray, by phase.
  @Test func `the matrix of VT-d has a title and a row for each strategy`() throws {
    let (answer, text) = try crash("")
    #expect(answer == .yes)
    Self.expectFits(text)
    for (title, row) in [
      ("S1 hardware on, capture kernel blind, no identity map", "OWN BLK-F OWN OWN BLK-F"),
      ("S2a crash path switches off, capture kernel blind", "MA SMEAR KILL MA OWN"),
      (
        "S3 capture kernel sets up anew",
        "OWN/BLK-F/BLK-F BLK-F OWN/BLK-F/BLK-F OWN/BLK-F/KILL OWN"
      ),
      (
        "S3x capture kernel switches off", "OWN/MA/MA BLK-F/SMEAR/SMEAR OWN/KILL/KILL OWN/MA/MA OWN"
      ),
      ("S7 the Kdump IO Rule", "OWN BLK-F (KILL) OWN OWN"),
      (
        "S11 contexts copied, attached when a driver maps",
        "OWN/OWN/BLK-F BLK-F OWN/OWN/BLK-F OWN/OWN/KILL OWN"
      ),
    ] {
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      let index = try #require(lines.firstIndex { $0 == title }, "\(title)")
      #expect(lines[index + 1].split(separator: " ").joined(separator: " ") == row)
    }
    #expect(text.contains("\n      P1 translation off: a MA, b SMEAR, c KILL, f MA\n"))
    #expect(text.contains("iommu crash --all"))
  }

  @Test func `all units have all their strategies`() throws {
    let (answer, text) = try crash("--all")
    #expect(answer == .yes)
    Self.expectFits(text)
    let lines = text.split(separator: "\n").map(String.init)
    for unit in CrashUnit.allCases {
      let start = try #require(lines.firstIndex(of: unit.title))
      for strategy in unit.strategies {
        #expect(
          lines[start...].contains("\(strategy.rawValue) \(strategy.title)"),
          "\(unit) \(strategy)")
      }
    }
    #expect(!text.contains("left out"))
  }

  @Test func `colours add nothing but themselves`() throws {
    let command = try Crash.parse(["--unit", "zx1"])
    var (plain, colored) = ("", "")
    _ = try command.report(to: &plain)
    _ = try command.report(to: &colored, ink: .init(isOn: true))
    #expect(!plain.contains("\u{1b}"))
    #expect(colored.contains("\u{1b}[32mOWN\u{1b}[0m"))
    #expect(colored.replacing(#/\u{1b}\[[0-9]+m/#, with: "") == plain)
  }

  // MARK: One crash

  @Test func `a timeline tells what each access came to, and whose memory changed`() throws {
    let (answer, text) = try crash("--strategy S11 --unit vtd --device nic")
    #expect(answer == .yes)
    Self.expectFits(text)
    #expect(text.hasPrefix("S11 on Intel VT-d: contexts copied, attached when a driver maps\n"))
    #expect(text.contains("\n  nic 01:00.0: receive ring, transmit ring; reset after mapping\n"))
    #expect(text.contains("\nP1  at 0 s, for 5 s: the crash, the other kernel boots\n"))
    // The first number that both kernels hand out: the frame of 1536 bytes lands in the new buffer.
    #expect(text.contains("  nic  receive ring   writes  0xfffff000       1  KILL\n"))
    #expect(text.contains("\n      changed 1,536 bytes of the capture kernel's nic buffer,"))
    #expect(text.contains("\nBytes of the crash kernel that leftover DMA changed: 1,536\n"))
    // VT-d fault reason 2, as the manual has it.
    #expect(text.contains("\n      fault 0x2: "))
    // A strategy that has nothing to do with the Rule is not judged by it.
    #expect(!text.contains("R13"))
  }

  @Test func `the Rule's own crash comes with its thirteen checks`() throws {
    let (_, text) = try crash("--strategy s7 --unit vtd --device nic,gpu --phase P4")
    #expect(text.contains("\nP4  at "))
    #expect(!text.contains("P0  1 s") && !text.contains("R1 "))
    let (_, whole) = try crash("--strategy S7 --unit vtd --device nic --device gpu")
    Self.expectFits(whole)
    for rule in 1...13 { #expect(whole.contains("\n  R\(rule) "), "R\(rule)") }
    #expect(whole.contains("\n  R13 broken by design: "))
    #expect(whole.contains("Bytes of the crash kernel that leftover DMA changed: 0\n"))
  }

  @Test(arguments: CrashUnit.allCases)
  func `every unit can be played on the machine of nine devices, and as JSON`(
    unit: CrashUnit
  ) throws {
    let strategy = try #require(unit.strategies.last).rawValue
    let (answer, text) = try crash("--strategy \(strategy) --unit \(unit.rawValue)")
    #expect(answer == .yes)
    Self.expectFits(text)
    let (_, json) = try crash("--strategy \(strategy) --unit \(unit.rawValue) --format json")
    #expect(json.contains("\"strategy\" : \"\(strategy)\""))
    #expect(json.contains("\"name\" : \"bmc\""))
  }

  @Test func `resets and flushes make a difference`() throws {
    let base = "--strategy S11 --unit vtd --device nic"
    #expect(try crash(base).text.contains("KILL\n"))
    #expect(try !crash("\(base) --reset by-driver").text.contains("KILL\n"))
    #expect(
      try crash("\(base) --caches none --no-flush").text.contains("; caches: none, not flushed\n"))
  }

  // MARK: Machines

  @Test(arguments: [
    ("--ram 4G --crash-kernel 256M@512M", "4 GiB of RAM, crash kernel 256 MiB at 512 MiB"),
    ("--crash-kernel 192M,high", "crash kernel 192 MiB at 9024 MiB, 256 MiB at 16 MiB"),
    (
      "--crash-kernel 128M,high --crash-kernel 72M,low",
      "crash kernel 128 MiB at 9088 MiB, 72 MiB at 16 MiB"
    ),
    ("--crash-kernel 1G-4G:64M,4G-:160M@32M", "crash kernel 160 MiB at 32 MiB"),
    ("--crash-kernel 1000000-8ffffff", "crash kernel 128 MiB at 16 MiB"),
  ])
  func `the crash kernel is where its parameters say`(arguments: String, text: String) throws {
    #expect(try crash("--strategy S7 --unit vtd --device nic \(arguments)").text.contains(text))
  }

  @Test func `a machine file gives RAM, and the crash kernel where it has one`() throws {
    let directory = TemporaryDirectory()
    let ram = "\"ram\": [[\"0x0\", \"0x20000000\"]]"
    let whole = directory.file(
      "whole.json",
      "{\"version\": 1, \"units\": [], \(ram), \"crash_kernel\": [[\"0x2000000\", \"0xa000000\"]]}")
    let part = directory.file("part.json", "{\"version\": 1, \"units\": [], \(ram)}")
    let none = directory.file("none.json", "{\"version\": 1, \"units\": []}")
    let base = "--strategy S7 --unit amdvi --device sas --machine"
    let text = try crash("\(base) \(whole)").text
    #expect(text.contains("512 MiB of RAM, crash kernel 128 MiB at 32 MiB"))
    #expect(
      try crash("\(base) \(part) --crash-kernel 32M").text.contains("crash kernel 32 MiB at 16 MiB")
    )
    #expect(
      failure("\(base) \(part)")
        == "\(part): no crash kernel in it; give --crash-kernel, such as 128M@16M")
    #expect(
      failure("\(base) \(none)") == "\(none): no RAM in it; give --ram instead of --machine")
  }

  @Test(arguments: [
    (
      "--unit vtd --ram 64M",
      """
      crash kernel 0x1000000..<0x9000000 is not in RAM (0x0..<0xa0000, 0x100000..<0x4000000): choose \
      another size or offset
      """
    ),
    (
      "--unit vtd --crash-kernel 72M,low", "a crash kernel's ,low part counts beside one with ,high"
    ),
    ("--unit vtd --crash-kernel 16G-:128M", "sets nothing aside on a machine of 8192 MiB"),
    ("--unit calgary --crash-kernel 128M@5G", "ends beyond the 0x100000000 bytes of I/O space"),
    (
      "--unit vtd --crash-kernel 64M@3008M",
      "has firmware's memory of raid at 0xbf000000..<0xbf002000 in it"
    ),
  ])
  func `a machine that cannot be is told in one line`(arguments: String, text: String) {
    let told = failure("--strategy S7 \(arguments)")
    #expect(told.contains(text), "\(told)")
    #expect(!told.contains("\n"))
  }

  @Test(arguments: [4096, 8192, 65_536, 1 << 20] as [UInt64], CrashUnit.allCases)
  func `a crash kernel of a page or two ends no program`(
    byteCount: UInt64, unit: CrashUnit
  ) throws {
    for strategy in unit.strategies {
      let range = PhysicalAddress(0x100_0000)..<PhysicalAddress(0x100_0000 + byteCount)
      let machine = try CrashMachine.m1(
        crashKernel: [range], devices: [DeviceProfile.nic.device(number: 0)])
      do throws(SetUpError) {
        let lab = try CrashLab(CrashSetup(strategy, on: unit, machine: machine))
        lab.startDevices()
        #expect(!lab.play().steps.isEmpty)
      } catch {
        // The Rule does not fit, or the kernel's tables do not: an answer as well.
        #expect(!"\(error)".isEmpty)
      }
    }
  }

  // MARK: The command line

  @Test(arguments: [
    ("--strategy S77", "there is no strategy 'S77'; did you mean 'S7'?"),
    ("--strategy blind", "there is no strategy 'blind'; there are S0, S1, S2a,"),
    ("--strategy S7 --unit vdt", "there is no unit 'vdt'; did you mean 'vtd'?"),
    ("--strategy S7 --unit vtd --phase P7", "there is no phase 'P7'; did you mean 'P0'?"),
    ("--strategy S7 --unit vtd --device nci", "there is no device 'nci'; did you mean 'nic'?"),
    ("--strategy S7 --unit vtd --device nic,,raid", "there is no device ''; there are raid, nic,"),
    ("--strategy S7 --unit vtd --device nic+", "there is no device ''; there are raid, nic,"),
    (
      "--strategy S7 --unit vtd --device nic+bmc/gpu",
      "'nic+bmc/gpu': devices are behind one bridge (+) or functions of one card (/)"
    ),
    (
      "--strategy S7 --unit vtd --device nic/nic/nic/nic/nic/nic/nic/nic/nic",
      "a card has at most 8 functions"
    ),
    (
      "--strategy S7 --unit vtd --device nic:msak=32",
      "there is no property of a device 'msak'; did you mean 'mask'?"
    ),
    (
      "--strategy S7 --unit vtd --device nic:reset",
      "'reset' of a device has a value, such as reset=never"
    ),
    ("--strategy S7 --unit vtd --device nic:mask=65", "mask=65: a device has 24 to 64 address"),
    ("--strategy S7 --unit vtd --device nic:mask=", "mask=: a device has 24 to 64 address lines"),
    (
      "--strategy S7 --unit vtd --device nic:reset=sometimes",
      "there is no reset 'sometimes'; there are by-driver, after-mapping, never"
    ),
    (
      "--strategy S7 --unit vtd --device nic:driver=maybe",
      "there is no answer to driver 'maybe'; there are yes, no"
    ),
    (
      "--strategy S7 --unit vtd --device nic:mask=32:mask=40",
      "'nic:mask=32:mask=40': mask is said twice of one device, which has one; leave one of them out"
    ),
    (
      "--strategy S7 --unit vtd --device bmc,nic:reset=never:mask=32:reset=by-driver/bmc",
      "'nic:reset=never:mask=32:reset=by-driver': reset is said twice of one device"
    ),
    (
      "--strategy S7 --unit vtd --device nic:ats=yes+bmc",
      "behind a bridge to conventional PCI there is no ATS"
    ),
    ("--scenario K99", "there is no scenario 'K99'"),
    ("--strategy S3", "S3 is played on several units; give --unit gart, --unit calgary,"),
    (
      "--strategy S14a --unit vtd",
      "Intel VT-d has no S14a: it is played on smmuv3, and vtd has S1, S2a, S2b, S3,"
    ),
    ("--all --unit vtd", "--all is every unit; leave out --unit"),
    ("--all --strategy S7", "--all is for the matrix, and changes nothing about one crash"),
    ("--phase P2", "--phase is for one crash (--strategy), and changes nothing about the matrix"),
    ("--ram 4G", "--ram is for one crash (--strategy), and changes nothing about the matrix"),
    ("--crash-kernel 64M", "--crash-kernel is for one crash"),
    ("--device nic", "--device is for one crash"),
    ("--machine m.json", "--machine is for one crash"),
    (
      "--runs 5 --caches none",
      "--caches is for the matrix and one crash (--strategy), and changes nothing about random"
    ),
    ("--runs 5 --output x", "--output is for the matrix and one crash"),
    ("--runs 5 --report x.html", "--report is for the matrix and one crash"),
    ("--scenario all --seed 4", "--seed is for random machines"),
    ("--scenario all --no-flush", "--no-flush is for the matrix"),
    (
      "--merge a.json --runs 5", "--runs is for random machines (--runs), and changes nothing about"
    ),
    ("--seed 4", "--runs says how many random machines"), ("--shard 1/2", "--runs says how many"),
    ("--runs 0", "--runs"), ("--runs 5 --shard 3/2", "a shard is I/N, such as 2/8"),
    (
      "--strategy S7 --unit vtd --ram 1G --machine m.json",
      "--machine says how much RAM there is; leave out --ram"
    ),
    ("--strategy S7 --unit smmuv3 --output x", "is modelled outside of memory"),
    (
      "--strategy S7 --unit vtd --device "
        + [String](repeating: "nic", count: 29).joined(separator: ","), "has at most 28 devices"
    ),
    ("--strategy S7 --unit vtd --reset sometimes", "by-driver"),
  ])
  func `a command line that means nothing is refused with the way out`(
    arguments: String, text: String
  ) throws {
    let words = ["crash"] + arguments.split(separator: " ").map(String.init)
    let error = #expect(throws: (any Error).self) { try Tool.parseAsRoot(words) }
    let message = Tool.message(for: try #require(error))
    #expect(message.contains(text), "\(message)")
    #expect(Tool.exitCode(for: try #require(error)).rawValue == 64)
  }

  @Test func `a device may be other than hardware of its kind`() throws {
    let text = try crash(
      "--strategy S3 --unit vtd --phase P0 --device nic:driver=no:firmware=yes,"
        + "bmc:firmware=no:driver=yes:reset=by-driver,gpu:ats=no,igb:reset=never"
    ).text
    #expect(
      text.contains(
        """
          nic 01:00.0: receive ring, transmit ring, mailbox; no driver in the capture
            kernel; firmware's memory 0xbf000000..<0xbf002000
          bmc 02:00.0: mailbox; reset before anything is mapped
          gpu 03:00.0: graphics; no driver in the capture kernel
          igb 04:00.0: receive ring, transmit ring; never at rest

        """), "\(text)")
    // 32 address lines: a number below 4 GiB, and without tables a buffer there.
    let lines = try crash("--strategy S0 --unit nommu --device nic:mask=32 --phase P0").text
    #expect(lines.contains("nic  receive ring   writes  0xbffff000   1,000  OWN"))
    let wide = try crash("--strategy S0 --unit nommu --device nic:mask=64 --phase P0").text
    #expect(wide.contains("nic  receive ring   writes  0x23ffff000   1,000  OWN"))
    // Behind one bridge each has its own.
    let both = try crash(
      "--strategy S0 --unit nommu --device nic:mask=64+usb:mask=32 --phase P0"
    ).text
    #expect(both.contains("nic  receive ring    writes  0x23ffff000   1,000  OWN"), "\(both)")
    #expect(both.contains("usb  USB controller  writes  0xbffff000    1,000  OWN"), "\(both)")
  }

  @Test func `tables are nowhere in firmware's memory`() throws {
    let text = try crash("--strategy S7 --unit calgary --device nic,bmc").text
    #expect(text.contains("\n  R1  holds: "), "\(text)")
    #expect(!text.contains("  R9  broken"))
  }

  @Test func `devices below one host bridge of Calgary's are neighbours`() throws {
    let text = try crash(
      "--strategy S3 --unit calgary --device usb:driver=no,ahci --reset by-driver --phase P3"
    ).text
    // The USB controller has the first number, and nobody stops it.
    #expect(
      text.contains(
        """
        P3  at 25 s, for 1 ms: ahci: mapped
          usb   USB controller  writes  0x20000  1  KILL

        """), "\(text)")
  }

  @Test func `devices of one kind have numbers, and a phase may have nothing in it`() throws {
    let base = "--strategy S11 --unit vtd --device nic,igb/igb"
    let text = try crash(base).text
    for line in ["nic 01:00.0: ", "igb-1 02:00.0: ", "igb-2 02:00.1 in one domain with 02:00.0: "] {
      #expect(text.contains("\n  \(line)"))
    }
    #expect(text.contains("leftover DMA changed: 1,536\n"))
    let (answer, none) = try crash("\(base) --phase P4")
    #expect(answer == .yes)
    #expect(
      none.hasSuffix("\nThere is no P4 in this crash (no driver comes until the reboot).\n"))
    let json = try crash("\(base) --phase P4 --format json").text
    #expect(json.contains("\"stray_bytes\" : 0"))
  }

  @Test func `the only unit of a strategy need not be named`() throws {
    #expect(try crash("--strategy S14b --device nic").text.hasPrefix("S14b on Arm SMMUv3: "))
  }

  // MARK: Files

  @Test func `memory before and after is written with the Rule and without`() throws {
    let directory = TemporaryDirectory()
    _ = try crash("--strategy S3 --unit vtd --device nic --output \(directory.path)")
    #expect(
      directory.files == [
        "vtd-S3-after.elf", "vtd-S3-after.json", "vtd-S3-before.elf", "vtd-S3-before.json",
        "vtd-S7-after.elf", "vtd-S7-after.json", "vtd-S7-before.elf", "vtd-S7-before.json",
      ])
    let nic = Requester(bus: 1, device: 0, function: 0)
    func reached(_ name: String, _ iova: UInt64) throws -> PhysicalAddress? {
      let memory = try MemoryImage(path: directory.path("\(name).elf"))
      let machine = try MachineFile(path: directory.path("\(name).json")).machine()
      guard
        case .mapped(let physical, _) = machine.translate(
          nic, IOVA(iova), access: .write, in: memory)
      else { return nil }
      return physical
    }
    // The ring of the old kernel lies above 4 GiB; the same number is the new kernel's after it.
    let before = try #require(try reached("vtd-S3-before", 0xffff_f000))
    let after = try #require(try reached("vtd-S3-after", 0xffff_f000))
    #expect(before.rawValue >= 0x1_0000_0000)
    #expect(0x100_0000..<0x900_0000 ~= after.rawValue)
    // With the Rule tables stay, and the crash kernel has its own numbers before and after.
    #expect(try reached("vtd-S7-after", 0xffff_f000) == before)
    for name in ["vtd-S7-before", "vtd-S7-after"] {
      #expect(try reached(name, 0x200_0000) == PhysicalAddress(0x200_0000))
    }
    #expect(try reached("vtd-S3-before", 0x200_0000) == nil)
  }

  @Test func `a matrix writes every machine that is hardware`() throws {
    let directory = TemporaryDirectory()
    _ = try crash("--unit gart --output \(directory.path)")
    #expect(directory.files.count == 16)
    #expect(directory.files.contains("gart-S2a-before.elf"))
  }

  // MARK: The page

  /// What a browser would have to repair, or fetch.
  static func expectWhole(_ page: String) {
    for forbidden in ["<script", "http:", "https:", "src=", "@import", "url("] {
      #expect(!page.contains(forbidden), "\(forbidden)")
    }
    for tag in [
      "html", "main", "div", "table", "tr", "td", "th", "details", "summary", "a", "span",
    ] {
      let opened = page.ranges(of: "<\(tag)>").count + page.ranges(of: "<\(tag) ").count
      #expect(opened == page.ranges(of: "</\(tag)>").count, "\(tag)")
    }
    let places = page.matches(of: #/ id="([^"]+)"/#).map { String($0.1) }
    #expect(Set(places).count == places.count)
    let links = Set(page.matches(of: /href="#([^"]+)"/).map { String($0.1) })
    #expect(links.subtracting(places).isEmpty, "\(links.subtracting(places))")
  }

  @Test func `the page of a matrix leads from each cell to its crash`() throws {
    let directory = TemporaryDirectory()
    _ = try crash("--unit smmuv3 --report \(directory.path("page.html"))")
    let page = String(decoding: directory.contents("page.html"), as: UTF8.self)
    Self.expectWhole(page)
    // Four strategies: the name, rows a, b, c, f and d lead to the crash.
    #expect(page.ranges(of: "href=\"#smmuv3-S14b\"").count == 6)
    #expect(page.ranges(of: "<details>").count == 4)
    #expect(page.contains("<div id=\"smmuv3-S14b\">"))
    // The word is in the cell.
    #expect(page.contains("<i>P2</i><span class=\"o o-kill\">KILL</span>"))
    #expect(page.contains("<h3>Memory before and after</h3>"))
    #expect(page.contains("@media print"))
    #expect(page.contains("prefers-color-scheme:dark"))
  }

  @Test func `the page of one crash tells of its memory`() throws {
    let directory = TemporaryDirectory()
    _ = try crash(
      "--strategy S11 --unit vtd --device nic,gpu --report \(directory.path("page.html"))")
    let page = String(decoding: directory.contents("page.html"), as: UTF8.self)
    Self.expectWhole(page)
    #expect(page.contains("<h1>S11 on Intel VT-d: "))
    #expect(
      page.contains(
        "<td>set aside for the crash</td><td>the capture kernel&#39;s nic buffer</td>")
        || page.contains(
          "<td>set aside for the crash</td><td>the capture kernel's nic buffer</td>")
    )
    #expect(page.contains("nic changed 1,536 bytes <span class=\"o o-kill\">KILL</span>"))
    #expect(page.contains("<rect class=\"m-wrong\""))
  }

  @Test func `a page that cannot be written is an error, and memory comes first`() throws {
    #expect(
      failure("--unit zx1 --report /nowhere/page.html").hasPrefix("/nowhere/page.html: cannot be"))
  }

  // MARK: Scenarios

  private func result(_ lines: [(String, String, String, String?)]) -> ScenarioResult {
    var result = ScenarioResult(name: "K00", title: "a question")
    for (subject, expected, found, remark) in lines {
      result.expect(subject, expected, found: found, remark: remark)
    }
    return result
  }

  @Test func `a scenario that differs needs a remark`() {
    func text(_ report: CrashScenarioReport) -> String {
      var text = ""
      report.writeText(to: &text, ink: .none)
      Self.expectFits(text)
      return text
    }
    let agreeing = CrashScenarioReport(results: [result([("a", "OWN", "OWN", "nothing")])])
    #expect(agreeing.isExplained)
    #expect(
      text(agreeing) == """
        K00: a question
          subject  expected  found
          a        OWN       OWN
          1 of 1 as expected

        """)
    let explained = CrashScenarioReport(results: [
      result([("a", "OWN", "OWN", nil), ("b", "MA", "KILL", "the number is in RAM")])
    ])
    #expect(explained.isExplained)
    #expect(text(explained).contains("  b        MA        KILL  differs\n  b: the number is in"))
    let wrong = CrashScenarioReport(results: [
      result([("a", "OWN", "MA", nil)]),
      result([("a", String(repeating: "long ", count: 20), "b", nil)]),
    ])
    #expect(!wrong.isExplained)
    #expect(text(wrong).contains("\n    found    b  DIFFERS\n"))
    #expect(
      text(wrong).hasSuffix(
        "2 scenarios: 0 of 2 lines as expected, 0 differ with a remark, 2 without\n"))
  }

  @Test func `all scenarios are played`() throws {
    let (answer, text) = try crash("--scenario all")
    #expect(answer == .yes)
    for scenario in CrashScenario.all { #expect(text.contains("\(scenario.name): ")) }
    Self.expectFits(text)
    #expect(try crash("--scenario all --format json").text.contains("\"scenarios\" :"))
  }

  // MARK: Random machines

  @Test func `parts of a series add up to the whole, wherever it is cut`() throws {
    let directory = TemporaryDirectory()
    let series = "--runs 7 --seed 11 --unit vtd"
    let whole = try crash(series)
    Self.expectFits(whole.text)
    #expect(whole.text.hasPrefix("7 random machines, seed 11\n"))
    let json = try crash("\(series) --format json").text
    for count in [1, 3, 9] {
      var files: [String] = []
      for index in 1...count {
        let part = try crash("\(series) --shard \(index)/\(count) --format json").text
        files.append(directory.file("\(count)-\(index).json", part))
      }
      // In any order.
      let merge = "--merge \(files.reversed().joined(separator: " "))"
      #expect(try crash("\(merge) --format json").text == json)
      #expect(try crash(merge).text == whole.text)
    }
  }

  /// Wilson's interval of nothing in 20 ends at z^2 / (20 + z^2), z = 1.959964.
  @Test func `shares come with their intervals`() throws {
    let text = try crash("--runs 20 --seed 3 --strategy S7 --unit vtd").text
    let lines = text.split(separator: "\n")
    let row = try #require(lines.firstIndex { $0.hasPrefix("S7  ") })
    #expect(lines[row].split(separator: " ") == ["S7", "0", "0", "0", "0", "0", "0", "0"])
    #expect(lines[row + 1].split(separator: " ").allSatisfy { $0 == "0-16.1" })
  }

  @Test func `parts that are none of one series are refused by name`() throws {
    let directory = TemporaryDirectory()
    func part(_ name: String, _ arguments: String) throws -> String {
      let text = try crash("--format json --unit zx1 \(arguments)").text
      return directory.file(name, text)
    }
    let first = try part("first", "--runs 4 --seed 1 --shard 1/2")
    let second = try part("second", "--runs 4 --seed 1 --shard 2/2")
    let seed = try part("seed", "--runs 4 --seed 2 --shard 2/2")
    let runs = try part("runs", "--runs 6 --seed 1 --shard 2/2")
    let other = try part("other", "--runs 4 --seed 1 --shard 2/2 --strategy S5")
    let reset = try part("reset", "--runs 4 --seed 1 --shard 2/2 --reset by-driver")
    let whole = try part("whole", "--runs 4 --seed 1")
    let text = String(decoding: directory.contents("second"), as: UTF8.self)
    func changed(_ name: String, _ old: String, _ new: String) -> String {
      #expect(text.contains(old))
      return directory.file(name, text.replacing(old, with: new))
    }
    let minus = changed("minus", "\"crash_count\" : 2", "\"crash_count\" : -2")
    let huge = changed("huge", "\"number_count\" : ", "\"number_count\" : 9")
    let unknown = changed("unknown", "\"strategy\" : \"S5\"", "\"strategy\" : \"S99\"")
    let shard = changed("shard", "\"shard\" : 2", "\"shard\" : 20")
    let cut = directory.file("cut", String(text.dropLast(20)))
    for (files, told) in [
      ("\(first) \(seed)", "\(seed): seed 2, and \(first) has 1; merge parts of one series"),
      ("\(first) \(first)", "\(first): part 1/2 again, which \(first) is already"),
      ("\(first) \(runs)", "\(runs): part of 6 runs in 2, and \(first) is of 4 in 2;"),
      (
        "\(first) \(reset)",
        "\(reset): devices reset by-driver, and \(first) has devices reset as drawn; merge parts of one"
      ),
      ("\(first) \(other)", "\(other): other strategies or units than \(first);"),
      (first, "part 2/2 is missing; merge all of them"),
      (whole, "\(whole): a whole series; merge those of --shard I/N"),
      ("\(first) \(minus)", "\(minus): numbers that no series comes to; play the part again"),
      ("\(first) \(shard)", "\(shard): no part of a series of crashes; play the part again"),
      ("\(first) \(unknown)", "\(unknown): no result of iommu crash --runs --format json ("),
      ("\(first) \(cut)", "\(cut): no result of iommu crash --runs --format json (no JSON)"),
      ("\(directory.path)/nowhere", "\(directory.path)/nowhere: "),
    ] {
      let found = failure("--merge \(files)")
      #expect(found.hasPrefix(told), "\(found)")
    }
    // What can be is believed.
    #expect(try crash("--merge \(first) \(huge)").answer == .yes)
    #expect(try crash("--merge \(second) \(first)").answer == .yes)
  }
}
