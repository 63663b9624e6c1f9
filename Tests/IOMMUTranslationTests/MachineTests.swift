import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct MachineTests {
  /// Two VT-d units; the second's root table lies at 0x180000 and knows 00:05.0 alone.
  static func twoUnits() throws -> (Machine, FlatMemory) {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var first = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    first.set(0x20_0003, for: 0, level: 1)
    memory.store(0x18_1001, at: 0x18_0000)
    memory.store(0x19_0001, at: 0x18_1280)
    memory.store(0x501, at: 0x18_1288)
    var second = TableBuilder(in: memory, root: 0x19_0000, levels: 3)
    second.set(0x30_0003, for: 0, level: 1)
    let units =
      vtdMachine(.unit()).units + vtdMachine(.unit(), rootTableAddress: 0x18_0000).units
    return (Machine(name: "two units", units: units), memory)
  }

  @Test func `the unit that knows the device translates`() throws {
    let (machine, memory) = try Self.twoUnits()
    func translate(_ text: String) -> Translation {
      machine.translate(Requester(text)!, IOVA(0), access: .read, in: memory)
    }
    #expect(translate("00:04.0") == .to(0x20_0000))
    #expect(translate("00:05.0") == .to(0x30_0000))
    #expect(translate("00:06.0") == .fault(.vtd(.contextEntryNotPresent, isRecorded: true)))
    #expect(translate("01:00.0") == .fault(.vtd(.rootEntryNotPresent, isRecorded: true)))
  }

  @Test func `a unit that is off leaves its devices to the next`() throws {
    var (machine, memory) = try Self.twoUnits()
    machine.units[0] = vtdMachine(.unit(), isOn: false).units[0]
    #expect(
      machine.translate(Requester("00:05.0")!, IOVA(0), access: .read, in: memory)
        == .to(0x30_0000))
  }

  @Test func `faults have numbers where the manual has them and words everywhere`() {
    let faults: [Fault] = [
      .beyondDeviceMask, .vtd(.readNotPermitted, isRecorded: true), .gart(.invalidEntry),
      .calgary(.emptyEntry),
    ]
    #expect(faults.map(\.number) == [nil, 6, nil, nil])
    #expect(faults.map(\.isRecorded) == [false, true, true, true])
    for fault in faults { #expect(!fault.meaning.isEmpty) }
    #expect(Access.read.description == "read" && Access.write.description == "write")
  }
}
