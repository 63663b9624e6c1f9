import ArgumentParser
import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUCommands

/// Every command says why it refuses a number, a range or a device, in one line, and exits with 64.
@Suite struct RefusalTests {
  static let image = Examples.path("vtd-crash", "image.elf")

  /// `IMAGE` stands for a file that is there.
  static let refusals: [(String, String)] = [
    (
      "walk IMAGE 00:20.0 1000",
      "'00:20.0' is invalid for '<device>': device '20' is none of 00 to 1f"
    ),
    ("walk IMAGE 0000:03:00 1000", "bus '0000' is none of 00 to ff"),
    ("walk IMAGE fa 1000", "a requester's number alone has 0x in front"),
    ("walk 00:03.0 IMAGE 1000", "this is a file; the image comes first"),
    ("walk IMAGE 00:03.0 0x10g", "'0x10g' is invalid for '<iova>': 'g' is no hexadecimal digit"),
    ("walk IMAGE 00:03.0 1000 --pasid 1048576", "1048576 is above 1048575"),
    ("walk IMAGE 00:03.0 1000 --root 6a0400z", "'z' is no hexadecimal digit"),
    ("who IMAGE 10000000000000000", "it has more than 64 bits"),
    ("who IMAGE ffffffffffffffff", "there is no memory at the end of 64 bits"),
    ("who IMAGE 7663000-", "nothing is there; an address is hexadecimal"),
    ("who IMAGE 1000+ff", "'f' is no decimal digit; a size is decimal"),
    ("who 7663000 IMAGE", "this is a file; the image comes first"),
    ("who IMAGE 1000 --root 0x", "digits are missing"),
    ("maps IMAGE --root 0n6a", "'a' is no decimal digit"),
    ("diff IMAGE IMAGE --root x", "'x' is no hexadecimal digit"),
    (
      "maps IMAGE --root smmu:1000",
      "there are no tables called 'smmu'; known are vtd, vtd-legacy, vtd-scalable, tce, gatt and amdvi"
    ),
    ("diff IMAGE IMAGE --root-after 1GB", "'G' is no hexadecimal digit"),
    ("hexdump IMAGE 6a04000", "it has a start and no end; a range is START-LAST"),
    ("hexdump IMAGE 2000-1000", "it ends before it starts"),
    ("hexdump IMAGE 1000+0", "it holds no byte"),
    ("hexdump IMAGE 1000+ff", "'f' is no decimal digit; a size is decimal"),
    ("hexdump 1000-1fff IMAGE", "this is a file; the image comes first"),
    ("find IMAGE --crash-kernel auto", "with auto the distribution chose the size"),
    ("find IMAGE --crash-kernel 160M@336", "0x336..<0xa000336 is not a multiple of 4 KiB"),
    ("verify IMAGE --crash-kernel 1G,cma", "cma pages belong to programs"),
    ("verify IMAGE --crash-kernel 1G:192M", "'1G:192M' is no size for a machine's RAM"),
    ("verify IMAGE --device 00:03", "its bus, its device or its function is missing"),
    ("report IMAGE --output x --crash-kernel 5", "5 bytes are no whole pages"),
    ("explain IMAGE --root -", "numbers have no sign"),
    ("translate IMAGE --root 1_000", "'_' is no hexadecimal digit"),
    ("play --ram 4GB", "'G' is no decimal digit; a size is decimal"),
    ("play --crash-kernel 0@16M", "it holds no byte"),
    ("play --crash-kernel 128M@16385K", "is not a multiple of 4 KiB"),
    ("play --levels 6", "a whole number from 3 to 5 is expected"),
    ("play --tce-table 3M", "a TCE table has 64K, 128K"),
    ("build --mode vtd --output x --map 01:01.0", "a mapping is DEVICE=RANGE"),
    ("build --mode vtd --output x --map 01:01.0=1000+4K:x", "'x' is no access; it is r, w or rw"),
    ("build --mode vtd --output x --map 0001:01:01.0=1000+4K", "one PCI segment, number 0"),
    ("build --mode vtd --output x --map 01:01.8=1000+4K", "function '8' is none of 0 to 7"),
    ("bench --span 1f", "'f' is no decimal digit"),
    ("bench --threads many", "a whole number from 1 to 64 is expected"),
    ("replay x --iotlb 64y", "a cache is a number of entries, 64, and perhaps its ways, 64x4"),
    ("replay x --sweep 16:64", "a sweep is entries=FIRST:LAST"),
    ("replay x --shard 9/8", "a shard is I/N"),
    ("replay x --warm-up 1X", "'X' is no decimal digit"),
    ("replay x --hit-latency fast", "a latency is a number of nanoseconds, such as 2.5"),
    ("replay x --read-latency inf", "a latency is a number of nanoseconds, such as 2.5"),
    ("conform gart x --caches on --cache-sets 3x4", "a cache is SETSxWAYS, such as 8x4"),
    ("conform calgary x --show all", "a whole number from 0 to 1000000 is expected"),
    ("maps IMAGE --machine x --aperture c0000000", "the machine file says where its is"),
    ("explain IMAGE --forms", "--forms lists what is read, of no log and no dump"),
    ("decode tce 1 --ignore-checksum", "is about tables of firmware, and 'tce' is an entry"),
    ("find IMAGE --measure --all", "--measure lists no candidates"),
    ("find IMAGE --measure --crash-kernel 160M@336M", "--measure lists no candidates"),
    ("hexdump IMAGE --annotate --quadwords --format json", "leave --quadwords out"),
    (
      "walk IMAGE ffefd000 00:03.0",
      "this is an address; a device, such as 00:1f.2, comes before it"
    ),
    (
      "walk IMAGE 0xffefd000 00:03.0", "this is an address; a device, such as 00:1f.2, comes before"
    ),
    ("decode ss-pte 1 --host-address-width 99", "a whole number from 32 to 52 is expected"),
    ("play --ram 1", "1 bytes of RAM make no machine: choose 64M to 64T, a multiple of 4K"),
    ("build --output x --mode vtd --ram 65T", "bytes of RAM make no machine: choose 64M to 64T"),
  ]

  @Test(arguments: refusals)
  func `a refusal says why`(line: String, reason: String) {
    let arguments = line.split(separator: " ").map { $0 == "IMAGE" ? Self.image : String($0) }
    do {
      _ = try Tool.parseAsRoot(arguments)
      Issue.record("\(line) is taken")
    } catch {
      let message = Tool.message(for: error)
      #expect(message.contains(reason), "\(message)")
      #expect(!message.contains("\n"))
      #expect(Tool.exitCode(for: error).rawValue == 64)
    }
  }

  @Test(arguments: [
    "walk IMAGE 00:03.0 -1", "who IMAGE -0x1000", "hexdump IMAGE -5", "play --levels -3",
    "verify IMAGE --crash-kernel -1",
  ])
  func `a sign is no option`(line: String) {
    let error = #expect(throws: ValidationError.self) {
      try Tool.refuseSigns(in: line.split(separator: " ").map { String($0) })
    }
    #expect(error?.message.contains("has a sign: numbers here have none") == true)
    if let error { #expect(Tool.exitCode(for: error).rawValue == 64) }
  }

  @Test func `names that begin with a sign can be given all the same`() throws {
    try Tool.refuseSigns(in: ["find", "--", "-1"])
    try Tool.refuseSigns(in: ["find", "./-1", "-o", "--part", "-"])
  }

  // MARK: What is known only when the dump is read

  @Test(arguments: [
    (
      ["--crash-kernel", "160M"],
      "--crash-kernel 160M: says no place, and the dump's RAM has not one hole of that size"
    ),
    (
      ["--crash-kernel", "1G-4G:192M,4G-64G:256M"],
      "--crash-kernel 1G-4G:192M,4G-64G:256M: nothing says how much RAM the machine has"
    ),
    (
      ["--crash-kernel", "72M,low"],
      "--crash-kernel 72M,low: a crash kernel's ,low part counts beside one with ,high only"
    ),
    (
      [], "nothing says where the crash kernel is; give --crash-kernel with its line in /proc/iomem"
    ),
    (
      ["--crash-kernel", "160M@336M", "--device", "0001:00:03.0"],
      "0001:00:03.0: no unit is known to serve PCI segment 0x1"
    ),
  ])
  func `a dump that cannot be judged is told of`(arguments: [String], text: String) throws {
    let command = try Verify.parse([Self.image] + InspectCommandTests.source + arguments)
    var screen = ""
    let error = #expect(throws: InputError.self) { try command.report(to: &screen) }
    #expect(try #require(error).text.hasPrefix(text))
    #expect(screen.isEmpty)
  }

  @Test(arguments: ["160M@336M", "15000000-1effffff", "160M@15000000", "0x15000000..<0x1f000000"])
  func `a crash kernel has one grammar`(text: String) throws {
    var verified = ""
    _ = try Verify.parse([Self.image, "--crash-kernel", text] + InspectCommandTests.source)
      .report(to: &verified)
    #expect(verified.contains("00:03.0 IOVA 0x15000000, SS-PDPE [0x0] at 0x7538000"))
    #expect(verified.contains("40960 of 40960 pages are not mapped to themselves"))
    var found = ""
    #expect(try Find.parse([Self.image, "--crash-kernel", text]).report(to: &found) == .yes)
    #expect(found.hasPrefix("0x6a04000  VT-d root table, 4 KiB, the dead kernel's, score 100\n"))
  }

  // MARK: Segments

  @Test(arguments: [
    ("0001:00:03.0", "0001:00:03.0: no unit is known to serve PCI segment 0x1"),
    (
      "10000:e1:00.0",
      "10000:e1:00.0: no unit is known to serve PCI segment 0x10000; Linux makes such segments up "
        + "for devices behind a VMD controller"
    ),
  ])
  func `a device of another segment is never walked as one of segment 0`(
    device: String, text: String
  ) throws {
    let command = try Walk.parse([Self.image, device, "ffefd000"] + InspectCommandTests.source)
    var screen = ""
    let error = #expect(throws: InputError.self) { try command.report(to: &screen) }
    #expect(try #require(error).text.hasPrefix(text))
    #expect(screen.isEmpty)
  }

  @Test func `interrupts have no table names and no kernel's layout`() throws {
    for arguments in [
      ["dump", "--interrupts", "--table", "00:03.0"],
      ["dump", "--interrupts", "--format", "debugfs"],
      ["dump", "--interrupts", "--format", "summary"],
    ] {
      #expect(throws: (any Error).self) { try Maps.parse(arguments) }
    }
    #expect(try Maps.parse(["dump", "--interrupts", "--format", "tsv"]).interrupts)
  }

  @Test func `requests that rest on what the dump lacks are answered with unknown`() throws {
    // A dump of 1 MiB whose root table lies behind its end, and a requester whose tables are there.
    let memory = LackingMemory(try FlatMemory(byteCount: 1 << 20))
    for (ram, expected) in [
      (0x1000_0000, "unknown"), (0x10_0000, "fault:0x8"),
    ] as [(UInt64, String)] {
      var warnings: [String] = []
      let machine = Machine(
        name: "",
        units: [
          .vtd(
            VTd.Unit(
              base: PhysicalAddress(0), rootTableAddress: VTd.RootTableAddress(rawValue: 0x10_0000),
              status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive))
        ], ram: [PhysicalAddress(0)..<PhysicalAddress(ram)])
      var answers = RequestAnswers(machine: machine, memory: memory, format: .tsv) {
        warnings.append($0)
      }
      var output: [UInt8] = []
      for line in ["00:03.0\tabc000\tr", "00:03.0\tabd000\tr"] {
        try Array(line.utf8).withUnsafeBytes { try answers.answer($0, number: 1, into: &output) }
      }
      #expect(
        String(decoding: output, as: UTF8.self)
          == "00:03.0\tabc000\tr\t\(expected)\n00:03.0\tabd000\tr\t\(expected)\n")
      #expect(
        warnings
          == (expected == "unknown"
            ? [
              "00:03.0: unknown at 0xabc000 and perhaps elsewhere: 0x100000 is not in this dump"
            ] : []))
    }
  }

  @Test func `requests that two units answer differently are answered with unknown`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    // 00:02.0 in two root tables: address 0 leads to different pages, 0x1000 to the same.
    for root in [0x1_0000, 0x2_0000] as [UInt64] {
      for (place, word) in [
        (0, root + 0x1001), (0x1100, root + 0x2001), (0x1108, 0x101), (0x2000, root + 0x3003),
        (0x3000, root + 0x4003), (0x4000, root + 0x7_0003), (0x4008, 0xa_0003),
      ] as [(UInt64, UInt64)] {
        memory.store(word, at: PhysicalAddress(root + place))
      }
    }
    let units = [0x1_0000, 0x2_0000].map { root in
      TranslationUnit.vtd(
        VTd.Unit(
          base: PhysicalAddress(0xfed8_0000 + root),
          rootTableAddress: VTd.RootTableAddress(rawValue: root), status: nil,
          limits: .permissive))
    }
    // The unit at 0xfed90000 has 00:02.0 and nothing else, that at 0xfeda0000 all the rest.
    let firmware = VTd.DMAR(
      header: ACPI.TableHeader(revision: 1, oemID: "T", oemTableID: "T", creatorID: "T"),
      platform: VTd.DMAR.Platform(hostAddressWidth: 39),
      structures: [
        .hardwareUnit(
          .init(
            base: PhysicalAddress(0xfed9_0000),
            scopes: [.init(.endpoint, Requester("00:02.0")!)])),
        .hardwareUnit(.init(base: PhysicalAddress(0xfeda_0000), includesAllPCI: true)),
      ])
    for (units, lines, warning) in [
      (
        units, ["00:02.0\t0\tr\tunknown", "00:02.0\t1000\tr\t0xa0000"],
        ["00:02.0 may be behind another unit as well: Intel VT-d unit at 0xfeda0000"]
      ),
      (
        firmware.completing(units),
        ["00:02.0\t0\tr\t0x80000", "00:02.0\t1000\tr\t0xa0000"], []
      ),
      (
        firmware.completing([units[1]]),
        ["00:02.0\t0\tr\tunknown", "00:02.0\t1000\tr\tunknown"],
        ["00:02.0: unknown, the registers of the unit above the device are not known"]
      ),
    ] as [([TranslationUnit], [String], [String])] {
      var warnings: [String] = []
      var answers = RequestAnswers(
        machine: Machine(name: "", units: units), memory: memory, format: .tsv
      ) { warnings.append($0) }
      var output: [UInt8] = []
      for line in ["00:02.0\t0\tr", "00:02.0\t1000\tr"] {
        try Array(line.utf8).withUnsafeBytes { try answers.answer($0, number: 1, into: &output) }
      }
      #expect(
        String(decoding: output, as: UTF8.self).split(separator: "\n").map(String.init) == lines)
      #expect(warnings == warning)
    }
  }

  @Test func `requests of another segment are answered with unknown`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    let unit = VTd.Unit(
      base: PhysicalAddress(0), rootTableAddress: VTd.RootTableAddress(rawValue: 0),
      status: VTd.GlobalStatus(rawValue: 0), limits: .permissive)
    for (format, expected) in [
      (Translate.Format.tsv, "0001:00:03.0 abc r\tunknown\n00:03.0 abc r\t0xabc\n"),
      (
        .json,
        #"{"requester":"0001:00:03.0","iova":"0xabc","access":"read","unknown":true}"# + "\n"
          + #"{"requester":"00:03.0","iova":"0xabc","access":"read","physical":"0xabc"}"# + "\n"
      ),
    ] {
      var answers = RequestAnswers(
        machine: .init(name: "", units: [.vtd(unit)]), memory: memory, format: format)
      var output: [UInt8] = []
      for line in ["0001:00:03.0 abc r", "00:03.0 abc r"] {
        try Array(line.utf8).withUnsafeBytes { try answers.answer($0, number: 1, into: &output) }
      }
      #expect(String(decoding: output, as: UTF8.self) == expected)
    }
  }
}
