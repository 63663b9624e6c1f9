import IOMMUFormats
import IOMMUImages
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// Machine files with a DMAR table.
@Suite struct MachineFileFirmwareTests {
  let scratch = TemporaryDirectory()

  /// Hosts of 39 bits; a unit at 0xfed90000 for 00:02.0, one at 0xfed91000 for all else. Checked by
  /// hand: its bytes add up to zero.
  static let dmar = """
    444d41526800000001994558414d504c5654445441424c45010000005445535401000000260500000000000000000000\
    00001800000000000000d9fe000000000108000000000200\
    00002000010000000010d9fe000000000308000002f01f070408000000001f00
    """

  func unit(_ base: String, _ more: String = "") -> String {
    "{\"kind\": \"intel-vtd\", \"base\": \"\(base)\", \"registers\": {\"0x020\": \"0x1000\"}\(more)}"
  }

  func file(_ units: String, dmar: String) throws(ImageError) -> MachineFile {
    try MachineFile(
      path: scratch.file("m.json", "{\"version\": 1, \"units\": [\(units)], \"dmar\": \(dmar)}"))
  }

  static let inline = "{\"bytes\": \"\(dmar)\"}"

  func message(_ units: String, dmar: String) -> String {
    do throws(ImageError) {
      _ = try file(units, dmar: dmar).machine()
      Issue.record("no error")
      return ""
    } catch {
      return "\(error)".replacing("\(scratch.path)/", with: "")
    }
  }

  /// A unit at 0xfd300000 for 00:00.3 to ff:1f.7 and the I/O APIC: a whole IVRS table, 120 bytes.
  static let ivrs = """
    495652537800000002ca414d44202020416d645461626c6501000000414d44200100000041302000000000000000000010\
    b0280002004000000030fd00000000000000006f8f04800303000004ffff004800000021a00001220720000003ff030000\
    0000000000000000007e000000000000100000000000
    """

  @Test func `firmware says which devices are behind an AMD-Vi unit`() throws {
    func machine(base: String) throws(ImageError) -> Machine {
      try MachineFile(
        path: scratch.file(
          "m.json",
          "{\"version\": 1, \"units\": [{\"kind\": \"amd-vi\", \"base\": \"\(base)\", \"registers\": "
            + "{\"0x000\": \"0x15f0007\"}}], \"ivrs\": {\"bytes\": \"\(Self.ivrs)\"}}")
      ).machine()
    }
    let unit = try #require(try machine(base: "0xfd300000").units[0].as(AMDVi.Unit.self))
    let scope = try #require(unit.scope)
    #expect(scope.answer(for: Requester(rawValue: 0x0003)) == .inside)
    #expect(scope.answer(for: Requester(rawValue: 0x0002)) == .unlisted)
    #expect(unit.segment == 0)
    // A unit that is not listed, and behind it the one that is.
    let strange = try machine(base: "0xfd400000")
    #expect(strange.units.count == 2)
    #expect(strange.units[1].as(AMDVi.UnseenUnit.self)?.scope.base == PhysicalAddress(0xfd30_0000))
  }

  func vtd(_ unit: TranslationUnit) throws -> VTd.Unit { try #require(unit.as(VTd.Unit.self)) }

  @Test func `a table in a file or written down gives scopes, segment and width`() throws {
    _ = scratch.file("DMAR", hexdump(Self.dmar))
    for dmar in ["\"DMAR\"", Self.inline] {
      let file = try file(unit("0xfed91000") + "," + unit("0xfed90000"), dmar: dmar)
      #expect(file.firmwarePaths == (dmar == Self.inline ? [] : [scratch.path("DMAR")]))
      #expect(file.warnings.isEmpty)
      let units = try file.machine().units
      #expect(units.count == 2)
      let rest = try vtd(units[0])
      #expect(rest.limits.hostAddressWidth == 39 && rest.segment == 0)
      #expect(rest.scope?.answer(for: Requester("00:02.0")!) == .outside)
      #expect(rest.scope?.answer(for: Requester("00:1f.2")!) == .inside)
      #expect(try vtd(units[1]).scope?.answer(for: Requester("00:02.0")!) == .inside)
    }
  }

  @Test func `what the machine file says of a unit counts, and that the table differs is told`()
    throws
  {
    let file = try file(
      unit("0xfed90000", ", \"host_address_width\": 46") + ","
        + unit("0xfed91000", ", \"segment\": 1"), dmar: Self.inline)
    let units = try file.machine().units
    #expect(try vtd(units[0]).limits.hostAddressWidth == 46)
    #expect(try vtd(units[0]).segment == 0)
    #expect(try vtd(units[1]).limits.hostAddressWidth == 39)
    #expect(try vtd(units[1]).segment == 1)
    #expect(
      file.warnings == [
        "units[0].host_address_width: 46, and the DMAR table says 39; the machine file counts",
        "units[1].segment: 1, and the DMAR table says 0; the machine file counts",
      ])
  }

  @Test func `units that only one of file and table has are told`() throws {
    let file = try file(unit("0xfed90000") + "," + unit("0xfee00000"), dmar: Self.inline)
    #expect(
      file.warnings == [
        "units[1]: the DMAR table lists no unit at 0xfee00000, and says of no device that it is behind "
          + "it",
        "the DMAR table lists a unit at 0xfed91000, which the machine file does not have: what becomes "
          + "of requests of devices behind it is unknown",
      ])
    let machine = try file.machine()
    #expect(machine.units.count == 3)
    #expect(try vtd(machine.units[1]).scope == nil)
    let memory = try FlatMemory(byteCount: 0x1_0000)
    #expect(
      machine.resolve(Requester("00:1f.2")!, in: memory).route == .blocked(.unitUnseen))
  }

  @Test func `a machine comes back equal with its table`() throws {
    for units in [
      unit("0xfed90000") + "," + unit("0xfed91000"), unit("0xfed90000"),
      unit("0xfed90000", ", \"host_address_width\": 46, \"segment\": 2"),
    ] {
      let machine = try file(units, dmar: Self.inline).machine()
      let written = MachineFile(machine: machine, images: [])
      #expect(try written.machine().units == machine.units)
      try written.write(to: scratch.path("out.json"))
      let text = String(decoding: scratch.contents("out.json"), as: UTF8.self)
      #expect(text.contains("\"dmar\" : {\n    \"bytes\" : \"\(Self.dmar)\"\n  }"))
      #expect(try MachineFile(path: scratch.path("out.json")).machine().units == machine.units)
    }
  }

  @Test func `what is no DMAR table is named with its file or key`() {
    let one = unit("0xfed90000")
    #expect(
      message(one, dmar: "{\"bytes\": \"444d4152\"}").hasPrefix(
        "m.json: dmar: 4 bytes are no DMAR table"))
    #expect(
      message(one, dmar: "{\"bytes\": \"\(Self.dmar.replacing("1f07", with: "1f06"))\"}")
        == "m.json: dmar: is no DMAR table: the sum of its bytes is not zero; copy the table again")
    #expect(
      message(one, dmar: "{\"bytes\": \"44x\"}")
        == "m.json: dmar.bytes: is not hexadecimal, two digits for each byte")
    #expect(message(one, dmar: "{}") == "m.json: dmar.bytes: is missing; add it")
    #expect(message(one, dmar: "[7]").hasPrefix("m.json: dmar: "))
    #expect(message(one, dmar: "\"missing\"").hasPrefix("missing: "))
    _ = scratch.file("text", "DMAR: no such device")
    #expect(message(one, dmar: "\"text\"").hasPrefix("text: is a text, and no dump of"))
    // Byte 0x32 is the length of the first structure.
    var short = hexdump(Self.dmar)
    (short[0x32], short[9]) = (1, short[9] &+ 0x17)
    _ = scratch.file("short", short)
    #expect(
      message(one, dmar: "\"short\"").hasPrefix("short: at byte 0x30: DRHD with a length"))
  }
}
