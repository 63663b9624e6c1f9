import IOMMUFormats
import IOMMUImages
import IOMMUTranslation
import Testing

@Suite struct MachineFileTests {
  let scratch = TemporaryDirectory()

  /// The file with these keys besides the version.
  func file(_ keys: String) throws(ImageError) -> MachineFile {
    try MachineFile(path: scratch.file("m.json", "{\"version\": 1, \(keys)}"))
  }

  func unit(_ keys: String) throws(ImageError) -> TranslationUnit {
    try file("\"units\": [{\(keys)}]").machine().units[0]
  }

  /// What reading and interpreting says; empty and an issue when it says nothing.
  func message(_ keys: String) -> String {
    text { () throws(ImageError) in _ = try file(keys).machine() }
  }

  func text(of work: () throws(ImageError) -> Void) -> String {
    do throws(ImageError) {
      try work()
      Issue.record("no error")
      return ""
    } catch {
      return "\(error)".replacing("\(scratch.path)/", with: "")
    }
  }

  func wholeFile(_ content: String) -> String {
    text { () throws(ImageError) in
      _ = try MachineFile(path: scratch.file("m.json", content))
    }
  }

  func unitMessage(_ keys: String) -> String { message("\"units\": [{\(keys)}]") }

  func calgary(_ registers: String) -> String {
    "\"kind\": \"ibm-calgary\", \"bbar\": \"0xfe000000\", \"registers\": {\(registers)}"
  }
  func gart(_ registers: String) -> String {
    "\"kind\": \"amd-gart\", \"device\": \"0000:00:18.3\", \"registers\": {\(registers)}"
  }
  func vtd(_ registers: String) -> String {
    "\"kind\": \"intel-vtd\", \"base\": \"0xfed90000\", \"registers\": {\(registers)}"
  }

  // MARK: The file

  @Test func `every part of a file is read`() throws {
    let file = try file(
      """
      "name": "one", "image": "a.elf", "images": ["/b.elf"], "comment": {"any": [1.5, null]},
      "units": [{"kind": "amd-gart", "device": "0000:00:18.3", "registers": {"0x90": 66}}],
      "ram": [["0x100000", "0x20000000"], ["0x0", "0xa0000"]],
      "crash_kernel": [["0x2000000", "0xa000000"]]
      """)
    #expect(file.name == "one")
    #expect(file.images == ["a.elf", "/b.elf"])
    #expect(file.imagePaths == [scratch.path("a.elf"), "/b.elf"])
    #expect(file.ram == [.physical(0..<0xa0000), .physical(0x100000..<0x2000_0000)])
    #expect(file.crashKernel == [.physical(0x200_0000..<0xa00_0000)])
    #expect(
      file.units == [
        .gart(device: Requester(bus: 0, device: 0x18, function: 3), registers: [0x90: 0x42])
      ])
    #expect(try file.machine().name == "one")
  }

  @Test func `a machine without units is a machine`() throws {
    #expect(try file("\"units\": []").machine().units.isEmpty)
    #expect(message("\"name\": \"x\"") == "m.json: units: is missing; add it")
  }

  @Test func `only version 1 is read`() {
    #expect(
      wholeFile("{\"version\": 2, \"units\": []}")
        == "m.json: version: 2 is not known; this program reads version 1")
    #expect(wholeFile("{\"units\": []}") == "m.json: version: is missing; add it")
  }

  @Test func `malformed JSON is told with what the decoder says`() {
    #expect(
      wholeFile("{\"version\": 1,\n \"units\": [}")
        == "m.json: line 2 at byte 0x1a: '}' closes nothing that is open; correct the JSON")
    #expect(
      wholeFile("{\"version\": 1,\n \"units\": [")
        == "m.json: line 2 at byte 0x19: '[' is never closed; "
        + "the file is cut short, or correct it")
    #expect(wholeFile("{\n\n\"a\\\"}").hasPrefix("m.json: line 3 at byte 0x3: a string that"))
    #expect(
      wholeFile("{\"version\" 1}") == "m.json: The given data was not valid JSON.")
    #expect(wholeFile("").contains("is empty"))
    #expect(wholeFile("[]").hasPrefix("m.json: "))
    #expect(wholeFile("{\"a\": 1}\0").contains("at byte 0x8: a zero byte"))
    #expect(message("\"units\": [7]").hasPrefix("m.json: units[0]: "))
  }

  @Test func `text in another encoding is refused`() throws {
    for bytes in [[0xff, 0xfe, 0x7b], [0x7b, 0x22, 0xc3, 0x22, 0x7d]] as [[UInt8]] {
      let path = scratch.file("m.json", bytes)
      #expect(
        text { () throws(ImageError) in _ = try MachineFile(path: path) }
          .contains("is not UTF-8 text"))
    }
  }

  @Test func `deep nesting is refused before it is decoded`() {
    let deep = String(repeating: "[", count: 1_000_000)
    #expect(wholeFile(deep).contains("line 1 at byte 0x40: JSON nested more than 64 deep"))
    // Brackets in strings, and after an escaped quote, do not count.
    #expect((try? file("\"units\": [], \"name\": \"\\\"\(deep)\"")) != nil)
  }

  @Test func `a file that is too long is refused`() {
    let path = scratch.file("m.json", [UInt8](repeating: 0x20, count: 64 << 20 | 1))
    #expect(
      text { () throws(ImageError) in _ = try MachineFile(path: path) }
        .contains("has more than 67108864 bytes"))
  }

  @Test func `a unit has a PCI segment where the file says so`() throws {
    let registers = "\"0x020\": \"0x1000\""
    for (text, segment) in [
      ("", nil), (", \"segment\": 1", 1), (", \"segment\": \"0xffff\"", 0xffff),
    ]
      as [(String, UInt16?)]
    {
      let machine = try file("\"units\": [{\(vtd(registers))\(text)}]").machine()
      #expect(machine.units[0].model.segment == segment)
      #expect(try MachineFile(machine: machine, images: []).machine().units == machine.units)
    }
    #expect(
      unitMessage(vtd(registers) + ", \"segment\": 65536")
        == "m.json: units[0].segment: 0x10000; PCI segments of units have 16 bits; leave it out if not "
        + "known")
  }

  // MARK: Numbers and ranges

  @Test func `a number is a string in hexadecimal, or a plain integer`() throws {
    for good in ["\"0X1000\"", "\"1000\"", "\"4K\"", "\"0n4096\"", "4096"] {
      #expect(try file("\"units\": [], \"ram\": [[0, \(good)]]").ram == [.physical(0..<0x1000)])
    }
    for (bad, why) in [
      ("\"0x\"", "digits are missing"), ("\"0x10000000000000000\"", "it has more than 64 bits"),
      ("\"-0x1\"", "numbers have no sign"), ("\"0xfg\"", "'g' is no hexadecimal digit"),
    ] {
      #expect(
        message("\"units\": [], \"ram\": [[0, \(bad)]]")
          == "m.json: ram[0][1]: \(bad): \(why); an address is hexadecimal (7663000 or "
          + "0x7663000), decimal behind 0n, or a size such as 16M")
    }
    #expect(message("\"units\": [], \"ram\": [[0, -1]]").hasPrefix("m.json: ram[0][1]: "))
    #expect(message("\"units\": [], \"ram\": [[0, 1.5]]").hasPrefix("m.json: ram[0][1]: "))
    #expect(message("\"units\": [], \"ram\": [[0, 1e999]]").hasPrefix("m.json: "))
  }

  @Test(arguments: [
    ("[[0]]", "ram[0]: 1 numbers"),
    ("[[0, 1, 2]]", "ram[0]: 3 numbers"),
    ("[[0, 4096], [8192, 8192]]", "ram[1]: 0x2000 to 0x2000 is empty"),
    ("[[2, 1]]", "ram[0]: 0x2 to 0x1 is empty or the wrong way round"),
    ("[[0, \"0x10000000000001\"]]", "ram[0]: 0x10000000000001 is above 0x10000000000000"),
    (
      "[[8192, 16384], [0, 8193]]",
      "ram[0]: 0x2000..<0x4000 overlaps ram[1], 0x0..<0x2001"
    ),
  ])
  func `a bad RAM range is named`(json: String, expected: String) {
    #expect(message("\"units\": [], \"ram\": \(json)").hasPrefix("m.json: \(expected)"))
  }

  @Test(arguments: [
    ("[[1, 4096]]", "crash_kernel[0]: 0x1..<0x1000 is not a multiple of 4 KiB"),
    ("[[0, 8192], [4096, 12288]]", "crash_kernel[1]: 0x1000..<0x3000 overlaps crash_kernel[0]"),
    ("[[0, 4096], [16384, 40960]]", "crash_kernel[1]: 0x4000..<0xa000 is not all RAM"),
    ("[[\"0x100000\", \"0x101000\"]]", "crash_kernel[0]: 0x100000..<0x101000 is not all RAM"),
  ])
  func `a bad crash kernel range is named`(json: String, expected: String) {
    let ram = "\"ram\": [[0, 16384], [16384, 32768], [36864, 65536]]"
    #expect(
      message("\"units\": [], \(ram), \"crash_kernel\": \(json)").hasPrefix("m.json: \(expected)"))
  }

  @Test func `a misspelt key is told, and one of somebody's own is not`() throws {
    let path = scratch.file(
      "slips.json",
      """
      {"version": 1, "note": "ours", "Ram": [], "crashkernel": [["0x0", "0x1000"]],
       "units": [{"kind": "intel-vtd", "base": "0xfed90000", "host_adress_width": 39,
                  "registers": {"0x020": "0x6a04000"}}]}
      """)
    #expect(
      try MachineFile(path: path).warnings.prefix(3) == [
        "\(path): [\"Ram\"]: not a key that is known, and passed over; did you mean \"ram\"?",
        "\(path): crashkernel: not a key that is known, and passed over; did you mean \"crash_kernel\"?",
        "\(path): units[0].host_adress_width: not a key that is known, and passed over; did you mean "
          + "\"host_address_width\"?",
      ])
    // Beside the key that is known a like one is somebody's own.
    let both = scratch.file(
      "both.json",
      #"{"version": 1, "units": [], "crash_kernel": [], "crashkernel": "128M"}"#)
    #expect(try MachineFile(path: both).warnings.isEmpty)
  }

  @Test(arguments: [
    (
      #""units": [], "crash_kernel": ["0x2000000", "0xa000000"]"#,
      "crash_kernel[0]: a string; ranges are a list of pairs, first byte and one past the last: "
        + #"[["0x2000000", "0xa000000"]]"#
    ),
    (#""units": [], "ram": "4G""#, "ram: a string; ranges are a list of pairs"),
    (#""units": [], "ram": [[null, 5]]"#, "ram[0][0]: "),
    (#""units": {}"#, "units: an object, where a list belongs"),
    (#""units": [], "name": 5"#, "name: a number, where a string belongs"),
    (
      #""units": [{"kind": "intel-vtd", "base": "0xfed90000", "registers": [1]}]"#,
      "units[0].registers: a list, where an object belongs"
    ),
  ])
  func `a value of the wrong kind is told in our words`(json: String, expected: String) {
    let text = message(json)
    #expect(text.hasPrefix("m.json: \(expected)"), "\(text)")
    #expect(!text.contains("decode") && !text.contains("Array<"))
  }

  @Test func `a crash kernel may span touching RAM ranges, or lie anywhere when RAM is not known`()
    throws
  {
    let ram = "\"ram\": [[16384, 32768], [0, 16384]]"
    let crash = "\"crash_kernel\": [[8192, 20480], [4096, 8192]]"
    let ranges: [Range<PhysicalAddress>] = [
      .physical(0x2000..<0x5000), .physical(0x1000..<0x2000),
    ]
    #expect(try file("\"units\": [], \(ram), \(crash)").crashKernel == ranges)
    #expect(try file("\"units\": [], \(crash)").crashKernel == ranges)
  }

  // MARK: Units and registers

  @Test func `an unknown kind is answered with the known ones`() {
    #expect(
      unitMessage("\"kind\": \"riscv-iommu\", \"registers\": {}")
        == "m.json: units[0].kind: \"riscv-iommu\" is not known; "
        + "known are ibm-calgary, ibm-calioc2, amd-gart, intel-vtd, amd-vi")
  }

  @Test func `a register value must fit its register`() {
    #expect(
      unitMessage(gart("\"0x90\": \"0x1ffffffff\""))
        == "m.json: units[0].registers[\"0x90\"]: \"0x1ffffffff\" does not fit 32 bits")
    #expect(unitMessage(calgary("\"0x4020\": \"0x100000000\"")).contains("does not fit 32 bits"))
    #expect(unitMessage(vtd("\"0x01c\": \"0x100000000\"")).contains("does not fit 32 bits"))
    #expect(
      unitMessage(gart("\"0x90\": \"0x10000000000000000\"")).hasPrefix(
        "m.json: units[0].registers[\"0x90\"]: \"0x10000000000000000\": it has more than 64 bits"))
  }

  @Test func `two spellings of one register are refused`() {
    #expect(
      unitMessage(gart("\"0x90\": \"0x0\", \"0x090\": \"0x0\"")).contains(
        "register 0x90 is there twice"))
  }

  @Test(arguments: ["91", "0x91", "0x1000", "4K", "ninety", "0x", "0xffffffffffffffffff"])
  func `a key that is no register offset is refused`(key: String) {
    #expect(
      unitMessage(gart("\"\(key)\": \"0x0\"")).hasPrefix(
        "m.json: units[0].registers[\"\(key)\"]: is n"))
  }

  @Test func `what tells a unit from another must be there and make sense`() {
    #expect(
      unitMessage("\"kind\": \"ibm-calgary\", \"registers\": {}").hasPrefix(
        "m.json: units[0].bbar: is missing"))
    #expect(
      unitMessage("\"kind\": \"ibm-calgary\", \"bbar\": \"0x1\", \"registers\": {}").hasPrefix(
        "m.json: units[0].bbar: \"0x1\" is no multiple of 4 KiB"))
    #expect(
      unitMessage("\"kind\": \"intel-vtd\", \"registers\": {}").hasPrefix(
        "m.json: units[0].base: is missing"))
    #expect(
      unitMessage("\"kind\": \"amd-gart\", \"registers\": {}").hasPrefix(
        "m.json: units[0].device: is missing"))
    #expect(
      unitMessage("\"kind\": \"amd-gart\", \"device\": \"18.3\\u0007\", \"registers\": {}")
        .hasPrefix("m.json: units[0].device: \"18.3\\u{7}\" is not a PCI function"))
    #expect(
      unitMessage("\"kind\": \"amd-gart\"").hasPrefix("m.json: units[0].registers: is missing"))
  }

  @Test func `a value of another form than its key has is named`() {
    for (keys, place) in [
      (gart("\"0x90\": 0") + ", \"erratum_156\": 1", "erratum_156"),
      (vtd("\"0x020\": 0") + ", \"transient_mappings\": \"yes\"", "transient_mappings"),
      (vtd("\"0x020\": 0") + ", \"segment\": [0]", "segment"),
      ("\"kind\": \"intel-vtd\", \"base\": {}, \"registers\": {}", "base"),
      ("\"kind\": \"amd-gart\", \"device\": 24, \"registers\": {}", "device"),
    ] {
      #expect(unitMessage(keys).hasPrefix("m.json: units[0].\(place): "))
    }
  }

  @Test func `keys that a kind does not have are passed over`() throws {
    let keys = gart("\"0x90\": \"0xe\"") + ", \"base\": \"nowhere\", \"segment\": 65536"
    #expect(try unit(keys).as(GART.Node.self)?.device == Requester("00:18.3"))
  }

  // MARK: VT-d

  @Test func `of VT-d the root table is needed, the rest is assumed`() throws {
    #expect(
      unitMessage(vtd("")).hasPrefix("m.json: units[0].registers[\"0x020\"]: is missing"))
    guard let unit = try unit(vtd("\"0x20\": \"0x6a04000\"")).as(VTd.Unit.self) else {
      return #expect(Bool(false))
    }
    #expect(unit.base == PhysicalAddress(0xfed9_0000))
    #expect(unit.rootTableAddress.rootTable == PhysicalAddress(0x6a0_4000))
    // Nobody knows whether translation is on; tables are looked at as if it were.
    #expect(unit.status == nil)
    #expect(unit.translates)
    #expect(unit.limits == .permissive)
  }

  @Test func `VT-d capabilities become limits`() throws {
    let registers = "\"0x8\": \"0xd2008c222f0606\", \"0x10\": \"0xf00f4a\", \"0x20\": \"0x1000\""
    guard let unit = try unit(vtd(registers)).as(VTd.Unit.self) else { return #expect(Bool(false)) }
    #expect(unit.limits.maximumGuestAddressWidth == 48)
    #expect(unit.limits.hostAddressWidth == 48)
    #expect(unit.limits.supportedWidths == 0b110)
    #expect(unit.limits.domainIDBits == 16)
    #expect(unit.limits.has2MiBPages)
    #expect(unit.limits.hasPassThrough)
    #expect(!unit.limits.hasDeviceTLBs)
    #expect(!unit.limits.hasTransientMappings)
    let wide = vtd(registers) + ", \"host_address_width\": 40"
    guard let unit = try self.unit(wide).as(VTd.Unit.self) else { return #expect(Bool(false)) }
    #expect(unit.limits.hostAddressWidth == 40)
  }

  @Test func `one missing VT-d capability register restricts nothing`() throws {
    guard let first = try unit(vtd("\"0x10\": \"0x0\", \"0x20\": \"0x1000\"")).as(VTd.Unit.self),
      let second = try unit(vtd("\"0x8\": \"0x0\", \"0x20\": \"0x1000\"")).as(VTd.Unit.self)
    else { return #expect(Bool(false)) }
    #expect(first.limits.hostAddressWidth == 52)
    #expect(first.limits.maximumGuestAddressWidth == 57)
    #expect(!first.limits.hasPassThrough)
    #expect(second.limits.maximumGuestAddressWidth == 1)
    #expect(second.limits.hasPassThrough)
    #expect(second.limits.hasTransientMappings)
  }

  @Test func `an absurd host address width is refused`() {
    for width in ["31", "53", "18446744073709551615"] {
      #expect(
        unitMessage(vtd("\"0x20\": \"0x0\"") + ", \"host_address_width\": \(width)")
          == "m.json: units[0].host_address_width: \(width) bits; "
          + "host addresses have 32 to 52 bits")
    }
  }

  @Test func `the registers of a scalable-mode unit give its tables and what it has`() throws {
    guard
      let unit = try unit(
        vtd(
          "\"0x000\": \"0x40\", \"0x008\": \"0xd2008c222f0606\", "
            + "\"0x010\": \"0x490080f00f4a\", \"0x01c\": \"0xc7000000\", "
            + "\"0x020\": \"0x6a2f400\"")
      ).as(VTd.Unit.self)
    else { return #expect(Bool(false)) }
    #expect(unit.rootTableAddress.mode == .scalable)
    #expect(unit.rootTableAddress.rootTable == PhysicalAddress(0x6a2_f000))
    #expect(unit.status == VTd.GlobalStatus(rawValue: 0xc700_0000))
    #expect(unit.limits.features == [.scalableMode, .secondStage, .pasids, .supervisorRequests])
    #expect(unit.limits.pasidBits == 1)
    #expect(unit.limits.majorVersion == 4)
  }

  // MARK: GART

  @Test func `of a GART that is on all of aperture and table is needed`() {
    #expect(unitMessage(gart("")).hasPrefix("m.json: units[0].registers[\"0x90\"]: is missing"))
    #expect(
      unitMessage(gart("\"0x90\": \"0x1\", \"0x98\": \"0x0\"")).hasPrefix(
        "m.json: units[0].registers[\"0x94\"]: is missing"))
    #expect(
      unitMessage(gart("\"0x90\": \"0x1\", \"0x94\": \"0x0\"")).hasPrefix(
        "m.json: units[0].registers[\"0x98\"]: is missing"))
    #expect(
      unitMessage(gart("\"0x90\": \"0xf\"")).hasPrefix(
        "m.json: units[0].registers[\"0x90\"]: GartSize 7 is not defined"))
  }

  @Test func `of a GART that is off the control register suffices`() throws {
    guard let node = try unit(gart("\"0x90\": \"0xe\"")).as(GART.Node.self) else {
      return #expect(Bool(false))
    }
    #expect(node.control.rawValue == 0xe)
    #expect(node.window == nil)
  }

  @Test func `GART nodes that differ are kept with a warning`() throws {
    let registers = "\"0x90\": \"0x43\", \"0x94\": \"0x78\", \"0x98\": \"0x398400\""
    let same = try file("\"units\": [{\(gart(registers))}, {\(gart(registers))}]")
    #expect(same.warnings.isEmpty)
    let other = registers.replacing("0x78", with: "0x79").replacing("398400", with: "398500")
    let file = try file("\"units\": [{\(gart(registers))}, {\(gart(other))}]")
    #expect(
      file.warnings == [
        "units[1] and units[0] differ in register 0x94, register 0x98: all nodes should have "
          + "the same aperture and table; the first that translates counts"
      ])
    #expect(try file.machine().units.count == 2)
  }

  // MARK: Calgary

  func bridges(_ registers: String) throws -> [Calgary.Chip.HostBridge?] {
    guard let chip = try unit(calgary(registers)).as(Calgary.Chip.self) else {
      Issue.record("not a Calgary")
      return []
    }
    #expect(chip.base == PhysicalAddress(0xfe00_0000))
    return chip.hostBridges
  }

  @Test func `a PHB is read from its registers`() throws {
    let bridges = try bridges(
      """
      "0x588": "0x3f800006", "0x5020": "0x5a010311", "0x9160": "0x21500000",
      "0x9190": "0xd9000000", "0x91a0": "0x0", "0x91c0": "0xd9efffff",
      "0x92b0": "0x14000000", "0x92c0": "0x1", "0x92d0": "0x1", "0x92e0": "0x14ffffff"
      """)
    #expect(bridges.count == 4)
    #expect(bridges[0] == nil && bridges[2] == nil && bridges[3] == nil)
    let bridge = try #require(bridges[1])
    #expect(bridge.buses == 1...3)
    #expect(bridge.tableAddress.table == PhysicalAddress(0x3f80_0000))
    #expect(bridge.tableAddress.tableSize == .mib4)
    #expect(bridge.configuration.rawValue == 0x2150_0000)
    #expect(bridge.memory1 == IOVA(0xd900_0000)..<IOVA(0xd9f0_0000))
    #expect(bridge.memory2 == IOVA(0x1_1400_0000)..<IOVA(0x1_1500_0000))
  }

  @Test func `a PHB with a table must say its buses, one that translates its table`() {
    let stuff = "m.json: units[0].registers[\"0x4020\"]: is missing"
    #expect(unitMessage(calgary("\"0x580\": \"0x8000\"")).hasPrefix(stuff))
    #expect(
      unitMessage(calgary("\"0x580\": \"0x0\", \"0x8160\": \"0x20000000\"")).hasPrefix(stuff))
    let table = "m.json: units[0].registers[\"0x580\"]: is missing"
    #expect(
      unitMessage(calgary("\"0x4020\": \"0x0\", \"0x8160\": \"0x20000000\"")).hasPrefix(table))
    #expect(unitMessage(calgary("\"0x8160\": \"0x20000000\"")).hasPrefix(table))
  }

  @Test func `without CONFIG_RW a PHB with a table translates`() throws {
    let with = try #require(try bridges("\"0x580\": \"0x8000\", \"0x4020\": \"0x20000\"")[0])
    #expect(with.configuration.translates)
    #expect(with.buses == 2...2)
    let without = try #require(try bridges("\"0x580\": \"0x7\", \"0x4020\": \"0x20000\"")[0])
    #expect(!without.configuration.translates)
    #expect(try bridges("\"0x580\": \"0x7\"")[0] == nil)
  }

  @Test func `a PHB with its buses the wrong way round has none`() throws {
    #expect(try bridges("\"0x580\": \"0x8000\", \"0x4020\": \"0x020100\"")[0] == nil)
  }

  @Test(
    arguments: [
      ("\"0x8190\": \"0x1000\", \"0x81a0\": \"0x0\", \"0x81c0\": \"0x0\"", 0x1000..<0x100000),
      ("\"0x8190\": \"0x1000\", \"0x81a0\": \"0x0\", \"0x81c0\": \"0xffffffff\"", 0x1000..<1 << 32),
      ("\"0x8190\": \"0x1000\", \"0x81a0\": \"0x1\", \"0x81c0\": \"0xffffffff\"", 0..<0),
      ("\"0x8190\": \"0x1000\", \"0x81a0\": \"0x0\", \"0x81c0\": \"0xfff\"", 0..<0),
      ("\"0x8190\": \"0x1000\", \"0x81c0\": \"0xffff\"", 0..<0),
    ] as [(String, Range<UInt64>)])
  func `MEM_1 goes from its start to its last byte`(registers: String, window: Range<UInt64>)
    throws
  {
    let base = "\"0x580\": \"0x8000\", \"0x4020\": \"0x20000\", "
    let bridge = try #require(try bridges(base + registers)[0])
    #expect(bridge.memory1 == IOVA(window.lowerBound)..<IOVA(window.upperBound))
  }

  @Test func `MEM_2 needs all its registers and ends before 2^64`() throws {
    let base = "\"0x580\": \"0x8000\", \"0x4020\": \"0x20000\", \"0x82b0\": \"0x1000\""
    let some = try #require(try bridges(base + ", \"0x82c0\": 0, \"0x82e0\": \"0xffff\"")[0])
    #expect(some.memory2.isEmpty)
    let all = try #require(
      try bridges(
        base + ", \"0x82c0\": 0, \"0x82d0\": \"0xffffffff\", \"0x82e0\": \"0xffffffff\"")[0])
    #expect(all.memory2 == IOVA(0x1000)..<IOVA(.max))
  }

  // MARK: There and back

  /// Writes the machine, reads it back, and looks for differences.
  func roundTrip(_ units: [TranslationUnit]) throws {
    let machine = Machine(
      name: "a \"machine\"", units: units,
      ram: [.physical(0..<0xa0000), .physical(0x100000..<0x4000_0000)],
      crashKernel: [.physical(0x200_0000..<0x300_0000), .physical(0x100000..<0x200000)])
    let path = scratch.path("round.json")
    try MachineFile(machine: machine, images: ["a.elf", "b.elf"]).write(to: path)
    let file = try MachineFile(path: path)
    let back = try file.machine()
    #expect(back.name == machine.name)
    #expect(back.units == machine.units)
    #expect(back.ram == machine.ram)
    #expect(back.crashKernel == machine.crashKernel)
    #expect(file.images == ["a.elf", "b.elf"])
    var renamed = MachineFile(machine: back, images: file.images)
    renamed.path = path
    #expect(renamed == file)
  }

  @Test func `a machine without units comes back equal`() throws { try roundTrip([]) }

  @Test(arguments: [Calgary.Chip.Model.calgary, .calioc2])
  func `a Calgary machine comes back equal`(model: Calgary.Chip.Model) throws {
    let bridge = Calgary.Chip.HostBridge(
      buses: 2...5, tableAddress: .init(rawValue: 0x1234_0000_3f80_0006),
      configuration: .init(rawValue: 0x2150_0000),
      memory1: IOVA(0xd800_0000)..<IOVA(0xd8f0_0000),
      memory2: IOVA(0x1_1000_0000)..<IOVA(0x2_1000_0000))
    let plain = Calgary.Chip.HostBridge(
      buses: 0...0, tableAddress: .init(rawValue: 0), configuration: .init(rawValue: 0))
    try roundTrip([
      .calgary(
        Calgary.Chip(
          model: model, base: PhysicalAddress(0xfe00_0000), hostBridges: [plain, nil, bridge, nil]))
    ])
  }

  @Test func `a GART machine comes back equal`() throws {
    for erratum in [false, true] {
      try roundTrip([
        .gart(
          GART.Node(
            device: Requester(bus: 0, device: 0x18, function: 3),
            control: .init(rawValue: 0x43), base: .init(rawValue: 0x78),
            tableBase: .init(rawValue: 0x0039_8400), hasErratum156: erratum))
      ])
    }
  }

  @Test func `an AMD-Vi machine comes back equal`() throws {
    func unit(_ change: (inout AMDVi.Unit) -> Void) -> TranslationUnit {
      var unit = AMDVi.Unit(
        base: PhysicalAddress(0xfed8_0000),
        deviceTable: AMDVi.DeviceTableBase(rawValue: 0x150e_8007), control: nil)
      change(&unit)
      return .amdvi(unit)
    }
    try roundTrip([unit { _ in }])
    try roundTrip([
      unit {
        $0.control = AMDVi.Control(rawValue: 0x3_f48f | 1 << 34)
        $0.features = AMDVi.ExtendedFeatures(rawValue: 0x29d3)
        $0.features2 = AMDVi.ExtendedFeatures2(rawValue: 0x8)
        $0.segment = 2
        $0.exclusionBase = AMDVi.ExclusionBase(rawValue: 0x20_0001)
        $0.exclusionLimit = AMDVi.ExclusionLimit(rawValue: 0x2f_f000)
        $0.furtherSegments = [AMDVi.DeviceTableSegmentBase(rawValue: 0x30_00ff)]
      }
    ])
  }

  @Test func `of AMD-Vi the device table is needed, the rest is assumed`() throws {
    func machine(_ registers: String) throws(ImageError) -> Machine {
      try file(
        "\"units\": [{\"kind\": \"amd-vi\", \"base\": \"0xfed80000\", \"registers\": "
          + "{\(registers)}}]"
      ).machine()
    }
    let unit = try #require(try machine("\"0x000\": \"0x15f0007\"").units[0].as(AMDVi.Unit.self))
    #expect(unit.deviceTable.byteCount == 0x8000 && unit.translates)
    let off = try #require(
      try machine("\"0x000\": \"0x15f0007\", \"0x018\": \"0x0\"").units[0].as(AMDVi.Unit.self))
    #expect(!off.translates)
    #expect(throws: ImageError.self) { try machine("\"0x018\": \"0x1\"") }
    // An exclusion range that nobody knows the end of.
    #expect(throws: ImageError.self) {
      try machine("\"0x000\": \"0x15f0007\", \"0x020\": \"0x200001\"")
    }
  }

  @Test func `a scalable-mode machine comes back equal`() throws {
    for (features, pasidBits, majorVersion) in [
      (.all, 20, 1), ([.scalableMode, .firstStage, .walkSnoop], 7, 6),
    ] as [(VTd.Features, Int, Int)] {
      try roundTrip([
        .vtd(
          VTd.Unit(
            base: PhysicalAddress(0xfed9_0000),
            rootTableAddress: VTd.RootTableAddress(rawValue: 0x1234_5400),
            status: VTd.GlobalStatus(translates: true),
            limits: VTd.Limits(
              hostAddressWidth: 46, maximumGuestAddressWidth: 57, supportedWidths: 0b01110,
              has2MiBPages: true, has1GiBPages: true, domainIDBits: 16, hasSnoopControl: true,
              hasPassThrough: true, hasDeviceTLBs: true, hasTransientMappings: false,
              features: features, pasidBits: pasidBits, majorVersion: majorVersion)))
      ])
    }
  }

  @Test func `a VT-d machine comes back equal, whatever its limits`() throws {
    var limits: [VTd.Limits] = [.permissive]
    for bits in 0..<64 {
      limits.append(
        VTd.Limits(
          hostAddressWidth: 32 + bits % 21, maximumGuestAddressWidth: 1 + bits,
          supportedWidths: UInt8(bits % 32), has2MiBPages: bits & 1 != 0,
          has1GiBPages: bits & 2 != 0, domainIDBits: 4 + 2 * (bits % 7),
          hasSnoopControl: bits & 4 != 0, hasPassThrough: bits & 8 != 0,
          hasDeviceTLBs: bits & 16 != 0, hasTransientMappings: bits & 32 != 0))
    }
    // Of a unit that is not known but for its width, and whether it is an old one.
    for hasTransientMappings in [false, true] {
      var narrow = VTd.Limits.permissive
      narrow.hostAddressWidth = 39
      narrow.hasTransientMappings = hasTransientMappings
      limits.append(narrow)
    }
    for limits in limits {
      for status in [VTd.GlobalStatus(rawValue: 0xc700_0000), nil] {
        try roundTrip([
          .vtd(
            VTd.Unit(
              base: PhysicalAddress(0xfed9_0000), rootTableAddress: .init(rawValue: 0x6a0_4000),
              status: status, limits: limits))
        ])
      }
    }
  }

  @Test func `keys are written as the manuals write them`() throws {
    let unit = VTd.Unit(
      base: PhysicalAddress(0xfed9_0000), rootTableAddress: .init(rawValue: 0x6a0_4000),
      status: .init(translates: true), limits: .permissive)
    let machine = Machine(name: "m", units: [.vtd(unit)])
    try MachineFile(machine: machine, images: ["dump/a.elf"]).write(to: scratch.path("m.json"))
    #expect(
      String(decoding: scratch.contents("m.json"), as: UTF8.self) == """
        {
          "image" : "dump/a.elf",
          "name" : "m",
          "units" : [
            {
              "base" : "0xfed90000",
              "kind" : "intel-vtd",
              "registers" : {
                "0x01c" : "0xc0000000",
                "0x020" : "0x6a04000"
              }
            }
          ],
          "version" : 1
        }

        """)
  }

  @Test func `a damaged machine file is refused or read, never trapped on`() throws {
    let seed = UInt64.random(in: 0 ... .max)
    print("damaged machine files: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    let text = Array(
      """
      {"version": 1, "units": [{\(calgary("\"0x580\": \"0x8000\", \"0x4020\": 131072"))},
      {\(vtd("\"0x020\": \"0x1000\""))}, {\(gart("\"0x90\": \"0x0\""))}],
      "ram": [["0x0", "0x2000"], [8192, 12288]], "crash_kernel": [["0x1000", "0x3000"]]}
      """.utf8)
    _ = try MachineFile(path: scratch.file("m.json", text)).machine()
    for count in 0..<text.count {
      _ = try? MachineFile(path: scratch.file("m.json", Array(text[..<count]))).machine()
    }
    for _ in 0..<2000 {
      var bytes = text
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[.random(in: bytes.indices, using: &generator)] =
          Array("\"[]{}:,-0129xfe.\\\u{80}".utf8).randomElement(using: &generator)!
      }
      _ = try? MachineFile(path: scratch.file("m.json", bytes)).machine()
    }
  }
}
