import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUKdump
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUCommands

@Suite struct PlayTests {
  func play(_ arguments: String...) throws -> (answer: Answer, text: String) {
    let command = try Play.parse(arguments)
    var screen = ""
    let answer = try command.report(to: &screen)
    return (answer, screen)
  }

  @Test func `the default machine shows the proposal's own numbers`() throws {
    let (answer, text) = try play("--mode", "calgary")
    #expect(answer == .yes)
    let rows = text.split(separator: "\n")
    #expect(rows.contains("IBM Calgary  with     45/45 OWN     24/24 OWN    works"))
    #expect(rows.contains("             without  45/45 OWN     24/24 BLK-F  fails"))
    let index = try #require(rows.lastIndex { $0.hasPrefix("IBM Calgary") })
    #expect(
      rows[index].prefixMatch(
        of: /IBM Calgary       3    32,768 TCE   256 KiB  32,768  3.125 %  +\d+\.\d\d ms/) != nil)
    #expect(rows[index + 1] == "                     of 1,048,576  of 8 MiB")
  }

  @Test func `the first screen is the one that README shows, within 80 columns`() throws {
    let (answer, text) = try play()
    #expect(answer == .yes)
    func withoutTimes(_ text: some StringProtocol) -> String {
      String(text).replacing(#/ +\d+\.\d\d ms/#, with: " TIME").replacing(#/ +time/#, with: " TIME")
    }
    let shown = try #require(
      Repository.text("README.md").split(separator: "```\n$ make run\n").last?
        .split(separator: "\n```\n").first)
    let played = withoutTimes(text).split(separator: "\n")
    #expect(played == withoutTimes(shown).split(separator: "\n"))
    for line in text.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
  }

  @Test func `a case that cannot be played is left out and told why`() throws {
    let arguments = ["--ram", "8G", "--crash-kernel", "256M@5G"]
    let (answer, text) = try play(
      arguments[0], arguments[1], arguments[2], arguments[3])
    // The 32-bit controller reaches nothing up there.
    #expect(answer == .no)
    let lines = text.split(separator: "\n")
    let reason = try #require(lines.firstIndex { $0.hasPrefix("left out: IBM Calgary: ") })
    #expect(lines[reason].contains("crash kernel 0x140000000..<0x150000000"))
    #expect(lines.contains { $0.hasPrefix("Intel VT-d  with ") })
    #expect(!lines.contains { $0.hasPrefix("IBM Calgary  with ") })
    for line in lines { #expect(line.count <= 80, "\(line)") }
    let (_, json) = try play(
      arguments[0], arguments[1], arguments[2], arguments[3], "--format", "json")
    #expect(json.contains("\"left_out\" : [\n    {\n      \"mode\" : \"calgary\","))
    // Alone it is an error.
    #expect(throws: InputError.self) {
      try play("--mode", "calgary", arguments[0], arguments[1], arguments[2], arguments[3])
    }
  }

  @Test func `cases that were left out leave the answer open`() throws {
    let (answer, text) = try play("--tce-table", "256K")
    #expect(answer == .unknown)
    #expect(text.contains("\nleft out: IBM Calgary: "))
  }

  /// 64 MiB of numbers do not hold the proposal's crash kernel.
  @Test func `Linux 2.6.27 has too few numbers on AMD-Vi, unless it is told to have more`() throws {
    let error = #expect(throws: InputError.self) {
      try play("--mode", "amdvi", "--aperture", "64M")
    }
    #expect(
      error?.text == """
        crash kernel 0x1000000..<0x9000000 ends beyond the 0x4000000 bytes of I/O space that the table \
        of an AMD-Vi domain of Linux 2.6.27 covers: boot with amd_iommu_size=256M or move the crash \
        kernel down
        """)
    let (answer, text) = try play("--mode", "amdvi", "--aperture", "256M")
    #expect(answer == .yes)
    // One table for all devices; what is stopped, nobody hears of.
    #expect(text.contains("AMD-Vi  with     45/45 OWN     24/24 OWN    works"))
    #expect(text.contains("        without  45/45 OWN     24/24 BLK-S  fails"))
    #expect(text.contains("AMD-Vi       1  32,768 PTE  256 KiB  32,768   50 %"))
  }

  @Test func `cells with many outcomes take several lines rather than a wide one`() {
    var table = TextTable(header: ["case", "entries"], numbers: 1...1)
    table.rows = [[["a"], ["1 TCE", "of 1,024"]], [["longer"], ["2"]]]
    var text = ""
    table.write(to: &text)
    #expect(
      text == """
        case     entries
        a          1 TCE
                of 1,024
        longer         2

        """)
    #expect(table.width == 16)
  }

  @Test(arguments: [
    (["play", "--mode", "vtd", "--tce-table", "64K"], "--tce-table is about IBM Calgary"),
    (["play", "--mode", "calgary", "--levels", "3"], "--levels is about Intel VT-d"),
    (["play", "--mode", "gart", "--page-size", "smallest"], "--page-size is about Intel VT-d"),
    (["play", "--mode", "vtd", "--aperture", "64M"], "--aperture is about AMD-Vi, and --mode vtd"),
    (
      ["play", "--mode", "amdvi", "--aperture", "48M"],
      "an aperture has 32M, 64M, 128M, 256M, 512M or 1G"
    ),
    (
      ["build", "--mode", "nommu", "--output", "x", "--levels", "4"],
      "--levels is about Intel VT-d, and --mode nommu has none; leave it out, or give --mode vtd"
    ),
  ])
  func `options of other hardware are refused`(arguments: [String], text: String) throws {
    let error = #expect(throws: (any Error).self) { try Tool.parseAsRoot(arguments) }
    let message = Tool.message(for: try #require(error))
    #expect(message.contains(text), "\(message)")
    #expect(Tool.exitCode(for: try #require(error)).rawValue == 64)
  }

  @Test(arguments: TranslationMode.allCases)
  func `each case can be played alone, and as JSON`(mode: TranslationMode) throws {
    let (answer, text) = try play("--mode", mode.rawValue, "--format", "json", "--ram", "256M")
    #expect(answer == .yes)
    #expect(text.contains("\"mode\" : \"\(mode.rawValue)\""))
    #expect(text.contains("\"rule\" : \"R13\""))
    #expect(text.hasSuffix("}\n"))
  }

  @Test func `a crash kernel out of a device's reach fails without being an error`() throws {
    let (answer, text) = try play(
      "--mode", "nommu", "--ram", "8G", "--crash-kernel", "128M@6G")
    #expect(answer == .no)
    #expect(text.contains("16/24 OWN, 8/24 NOMAP"))
    #expect(
      text.contains(
        "nommu: R6: 00:03.0: 0x180000000..<0x188000000 is beyond the device's mask"))
  }

  @Test(arguments: [
    ["--tce-table", "256K", "--mode", "calgary"], ["--crash-kernel", "128M@6G"],
    ["--crash-kernel", "3G"],
    ["--crash-kernel", "4G-:128M", "--ram", "2G"], ["--crash-kernel", "72M,low"],
    ["--crash-kernel", "128M,high", "--crash-kernel", "128M@16M"],
    ["--ram", "8G", "--crash-kernel", "128M@6G", "--mode", "calgary"],
  ])
  func `what cannot be set up is one line, and nothing is written`(arguments: [String]) throws {
    let directory = TemporaryDirectory()
    let output = directory.path + "/out"
    let command = try Play.parse(arguments + ["--output", output])
    var screen = ""
    let error = #expect(throws: InputError.self) { try command.report(to: &screen) }
    #expect(screen.isEmpty)
    #expect(try !#require(error).text.contains("\n"))
    #expect(directory.files.isEmpty)
  }

  @Test func `what was written is read back with the same mappings`() throws {
    let directory = TemporaryDirectory()
    let small = ["--ram", "256M", "--crash-kernel", "16M@32M", "--output", directory.path]
    let command = try Play.parse(small)
    var screen = ""
    #expect(try command.report(to: &screen) == .yes)
    #expect(
      directory.files == [
        "amdvi.elf", "amdvi.json", "calgary.elf", "calgary.json", "gart.elf", "gart.json",
        "nommu.elf", "nommu.json",
        "swiotlb.elf", "swiotlb.json", "vtd.elf", "vtd.json",
      ])
    for mode in TranslationMode.allCases {
      let memory = try MemoryImage(path: "\(directory.path)/\(mode).elf")
      let file = try MachineFile(path: "\(directory.path)/\(mode).json")
      let machine = try file.machine()
      #expect(machine.crashKernel == [PhysicalAddress(0x200_0000)..<PhysicalAddress(0x300_0000)])
      // What the kdump kernel's disk does still goes where it went.
      let disk = Requester(bus: 1, device: 1, function: 0)
      #expect(
        machine.translate(disk, IOVA(0x2ff_f123), access: .write, in: memory)
          == .mapped(PhysicalAddress(0x2ff_f123), byteCount: 1))
    }
    var maps = ""
    try Maps.parse([
      "\(directory.path)/calgary.elf", "--machine", "\(directory.path)/calgary.json",
      "--format", "tsv", "--table", "bus:01",
    ]).report(to: &maps)
    #expect(maps.contains("bus:01\t0x2000000\t0x1000000\t0x2000000\trw\n"))
  }

  @Test func `bridges of a built machine take slots that no device has`() throws {
    let directory = TemporaryDirectory()
    func build(_ mode: String, _ devices: [String]) throws {
      let maps = devices.enumerated().flatMap { number, device in
        ["--map", "\(device)=\(hexadecimal(UInt64(0x100_0000 + number * 4096)))+4K:rw"]
      }
      var screen = ""
      try Build.parse(["--mode", mode, "--output", directory.path] + maps).report(to: &screen)
    }
    func slots(_ bus: String, _ devices: Range<UInt8>) -> [String] {
      devices.map { "\(bus):\(hexadecimal($0, digits: 2)).0" }
    }
    try build("calgary", ["03:08.0", "04:00.0", "05:00.0", "06:08.0", "07:00.0"])
    // Whichever bus the last of four bridges begins with, it has a device in each slot that a bridge
    // to the others may take.
    let calgary = #expect(throws: InputError.self) {
      try build("calgary", ["03", "04", "05", "06", "07", "08"].flatMap { slots($0, 8..<32) })
    }
    let vtd = #expect(throws: InputError.self) {
      try build("vtd", slots("00", 0..<32) + ["04:00.0"])
    }
    for error in [calgary, vtd] {
      let text = try #require(error).text
      #expect(
        text.wholeMatch(
          of: /bus 0\d has no free slot for a bridge to bus 0\d: put fewer devices on it/) != nil,
        "\(text)")
    }
  }

  @Test(arguments: ["elf", "raw"])
  func `build writes the tables that its options name`(format: String) throws {
    let directory = TemporaryDirectory()
    let command = try Build.parse([
      "--mode", "vtd", "--ram", "64M", "--crash-kernel", "8M@16M", "--output", directory.path,
      "--image", format, "--map", "05:00.0=0x1234000+8K:r",
    ])
    var screen = ""
    try command.report(to: &screen)
    #expect(directory.files == ["vtd.\(format)", "vtd.json"].sorted())
    #expect(screen.contains("05:00.0  IOVA 0xffffe000  0x2000 bytes  -> 0x1234000"))
    let memory = try MemoryImage(path: "\(directory.path)/vtd.\(format)")
    let machine = try MachineFile(path: "\(directory.path)/vtd.json").machine()
    let device = Requester(bus: 5, device: 0, function: 0)
    #expect(
      machine.translate(device, IOVA(0xffff_f678), access: .read, in: memory)
        == .mapped(PhysicalAddress(0x123_5678), byteCount: 1))
    #expect(
      machine.translate(device, IOVA(0xffff_f678), access: .write, in: memory)
        == .fault(.vtd(.writeNotPermitted, isRecorded: true)))
  }
}
