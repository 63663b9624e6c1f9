import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUHardware

/// What the caches keep, and what each command drops.
@Suite struct AMDViCacheTests {
  typealias Offset = AMDVi.RegisterOffset
  static let device = AMDViMachine.device
  static let other = Requester(rawValue: 0x28)
  static let newPage: UInt64 = 0x6000_0000_0030_0001

  @Test func `a device entry is kept until it is dropped`() throws {
    let machine = try AMDViMachine()
    #expect(machine.translate() == 0x20_0010)
    machine.setEntry([0x6000_0000_0000_0003, 6, 0, 0])
    #expect(machine.translate() == 0x20_0010)
    machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.other))
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 5))
    machine.run(AMDVi.InvalidateInterruptTableCommand(Self.device))
    #expect(machine.translate() == 0x20_0010)
    machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.device))
    #expect(machine.translate() == 0x1234_5010)
    // One without V is kept as well.
    machine.setEntry([0, 0, 0, 0], of: Self.other)
    #expect(machine.translate(of: Self.other) == 0x1234_5010)
    machine.setEntry(AMDViMachine.entry, of: Self.other)
    #expect(machine.translate(of: Self.other) == 0x1234_5010)
    machine.run(AMDVi.InvalidateAllCommand())
    #expect(machine.translate(of: Self.other) == 0x20_0010)
  }

  @Test func `a new device table is read where entries are not known`() throws {
    let machine = try AMDViMachine()
    #expect(machine.translate() == 0x20_0010)
    machine[Offset.deviceTableBase] = 0x20_001f
    #expect(machine.translate() == 0x20_0010)
    machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.device))
    #expect(machine.translate() == 0x1234_5010)
  }

  @Test func `a page is kept until a command names it`() throws {
    let machine = try AMDViMachine()
    machine.store([0x16_1a30: 0x6000_0000_0020_1001])
    func refill() {
      machine.run(AMDVi.InvalidateAllCommand())
      machine.store([0x16_1a28: 0x6000_0000_0020_0001, 0x16_1a30: 0x6000_0000_0020_1001])
      _ = (machine.translate(), machine.translate(0x1234_6000))
      machine.store([0x16_1a28: Self.newPage, 0x16_1a30: 0x6000_0000_0030_1001])
    }
    func isKept(_ command: some AMDViCommand) -> [Bool] {
      refill()
      machine.run(command)
      return [machine.translate() == 0x20_0010, machine.translate(0x1234_6000) == 0x20_1000]
    }
    func pages(
      _ domainID: UInt16, _ address: UInt64, _ sizeLog2: Int, pasid: PASID? = nil
    ) -> AMDVi.InvalidatePagesCommand {
      AMDVi.InvalidatePagesCommand(
        domainID: domainID, pasid: pasid, address: IOVA(address), sizeLog2: sizeLog2,
        dropsUpperLevels: false)
    }
    #expect(isKept(pages(5, 0x1234_5000, 12)) == [false, true])
    #expect(isKept(pages(5, 0x1234_6000, 12)) == [true, false])
    #expect(isKept(pages(5, 0x1234_4000, 12)) == [true, true])
    #expect(isKept(pages(5, 0x1234_4000, 13)) == [false, true])
    #expect(isKept(pages(5, 0x1234_0000, 16)) == [false, false])
    #expect(isKept(pages(5, 0, 64)) == [false, false])
    #expect(isKept(pages(6, 0, 64)) == [true, true])
    #expect(isKept(pages(5, 0, 64, pasid: PASID(0))) == [true, true])
    #expect(isKept(AMDVi.InvalidateDeviceEntryCommand(Self.device)) == [true, true])
    #expect(isKept(AMDVi.InvalidateAllCommand()) == [false, false])
  }

  @Test func `a large page goes with any of its bytes`() throws {
    let machine = try AMDViMachine()
    machine.store([0x16_2488: 0x6000_0000_0020_0001])
    #expect(machine.translate(0x1220_0010) == 0x20_0010)
    machine.store([0x16_2488: 0x6000_0000_0000_0001])
    #expect(machine.translate(0x123f_f010) == 0x3f_f010)
    machine.run(
      AMDVi.InvalidatePagesCommand(
        domainID: 5, address: IOVA(0x1234_5000), sizeLog2: 12, dropsUpperLevels: false))
    #expect(machine.translate(0x1220_0010) == 0x10)
  }

  @Test func `entries that are no leaves stay without PDE`() throws {
    let machine = try AMDViMachine()
    // Another leaf table at 0x18_0000.
    machine.store([0x18_0a28: 0x6000_0000_0030_0001])
    #expect(machine.translate() == 0x20_0010)
    machine.store([0x16_2488: 0x6000_0000_0018_0201])
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 5, dropsUpperLevels: false))
    #expect(machine.translate() == 0x20_0010)
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 6))
    #expect(machine.translate() == 0x20_0010)
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 5))
    #expect(machine.translate() == 0x30_0010)
  }

  @Test func `translations are those of a domain, whichever device asked`() throws {
    let machine = try AMDViMachine()
    #expect(machine.translate() == 0x20_0010)
    machine.store([0x16_1a28: Self.newPage])
    machine.setEntry(AMDViMachine.entry, of: Self.other)
    #expect(machine.translate(of: Self.other) == 0x20_0010)
    var entry = AMDViMachine.entry
    entry[1] = 6
    let third = Requester(rawValue: 0x30)
    machine.setEntry(entry, of: third)
    #expect(machine.translate(of: third) == 0x30_0010)
  }

  @Test func `a page that is not there is not kept, but with NpCache`() throws {
    for (configuration, isKept) in [(AMDViUnitConfiguration.current, false), (.qemu, true)] {
      let machine = try AMDViMachine(configuration)
      machine.store([0x16_1a28: 0])
      #expect(machine.translate() == nil)
      machine.store([0x16_1a28: Self.newPage])
      #expect(machine.translate() == (isKept ? nil : 0x30_0010))
      #expect(machine.events().count == (isKept ? 2 : 1))
      machine.run(
        AMDVi.InvalidatePagesCommand(domainID: 5, address: IOVA(0x1234_5000), sizeLog2: 12))
      #expect(machine.translate() == 0x30_0010)
    }
  }

  @Test func `a kept page never denies`() throws {
    let machine = try AMDViMachine()
    machine.store([0x16_1a28: 0x2000_0000_0020_0001])
    #expect(machine.translate() == 0x20_0010)
    #expect(machine.translate(AMDViMachine.address, .write) == nil)
    machine.store([0x16_1a28: Self.newPage])
    #expect(machine.translate(AMDViMachine.address, .write) == 0x30_0010)
  }

  @Test func `D is set although a read has filled the cache`() throws {
    let machine = try AMDViMachine()
    machine.setEntry([0x6000_0000_0016_3783, 5, 0, 0])
    #expect(machine.translate() == 0x20_0010)
    #expect(machine.word(0x16_1a28) == 0x6000_0000_0020_0021)
    #expect(machine.translate(AMDViMachine.address, .write) == 0x20_0010)
    #expect(machine.word(0x16_1a28) == 0x6000_0000_0020_0061)
    #expect(machine.word(0x16_2488) == 0x6000_0000_0016_1221)
  }

  @Test func `GCR3 entries and guest pages go by PASID`() throws {
    let machine = try AMDViMachine()
    var entry = AMDVi.DeviceTableEntry(mode: 0, domainID: 7)
    entry.usesGuestTables = true
    entry.guestRootTable = PhysicalAddress(0x18_0000)
    machine.setEntry((0..<4).map { entry.quadwords[$0] })
    machine[Offset.control] = 0x1_1405
    machine.store([
      0x18_0008: 0x18_1001, 0x18_0010: 0x19_1001,
      0x18_1000: 0x18_2007, 0x18_2000: 0x18_3007, 0x18_3000: 0x18_4007, 0x18_4028: 0x30_0067,
      0x19_1000: 0x19_2007, 0x19_2000: 0x19_3007, 0x19_3000: 0x19_4007, 0x19_4028: 0x31_0067,
    ])
    func place(_ pasid: UInt32) -> UInt64? { machine.translate(0x5000, pasid: PASID(pasid)) }
    #expect(place(1) == 0x30_0000 && place(2) == 0x31_0000)
    machine.store([0x18_0008: 0x19_1001, 0x19_4028: 0x32_0067])
    #expect(place(1) == 0x30_0000 && place(2) == 0x31_0000)
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 7))
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 6, pasid: PASID(1)))
    #expect(place(1) == 0x30_0000 && place(2) == 0x31_0000)
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 7, pasid: PASID(1)))
    #expect(place(1) == 0x32_0000 && place(2) == 0x31_0000)
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 7, pasid: PASID(2)))
    #expect(place(2) == 0x32_0000)
  }

  @Test func `what is nested goes with its host's translations`() throws {
    let machine = try AMDViMachine()
    // The guest's table in guest addresses 0x1234_5000..; the host maps 0x1234_5xxx to 0x20_0000 and
    // 0x1234_6xxx to 0x20_1000 and so on.
    var entry = AMDVi.DeviceTableEntry(
      mode: 3, root: PhysicalAddress(0x16_3000), domainID: 5)
    entry.usesGuestTables = true
    entry.guestRootTable = PhysicalAddress(0x1234_5000)
    machine.setEntry((0..<4).map { entry.quadwords[$0] })
    machine[Offset.control] = 0x1_1405
    for index: UInt64 in 0..<6 {
      machine.store([0x16_1a28 + index * 8: 0x6000_0000_0020_0001 + index << 12])
    }
    machine.store([
      0x20_0000: 0x1234_6001, 0x20_1000: 0x1234_7007, 0x20_2000: 0x1234_8007,
      0x20_3000: 0x1234_9007, 0x20_4028: 0x1234_a067,
    ])
    func place() -> UInt64? { machine.translate(0x5000, pasid: PASID(0)) }
    #expect(place() == 0x20_5000)
    machine.store([0x16_1a50: 0x6000_0000_0039_0001])
    #expect(place() == 0x20_5000)
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 5, pasid: PASID(3)))
    #expect(place() == 0x20_5000)
    machine.run(
      AMDVi.InvalidatePagesCommand(domainID: 5, address: IOVA(0x1234_a000), sizeLog2: 12))
    #expect(place() == 0x39_0000)
  }

  @Test func `each cache counts what it did`() throws {
    let machine = try AMDViMachine(caches: .hardware)
    for _ in 0..<3 { #expect(machine.translate() == 0x20_0010) }
    var counters = machine.unit.counters
    #expect(counters.deviceEntries.hits == 2 && counters.deviceEntries.misses == 1)
    #expect(counters.translations.hits == 2 && counters.translations.misses == 1)
    #expect(counters.pageWalks.misses == 1)
    machine.run(AMDVi.InvalidateAllCommand())
    counters = machine.unit.counters
    #expect(counters.translations.invalidations == 1 && counters.deviceEntries.invalidations == 1)
    #expect(counters.pageWalks.invalidations == 2)
  }

  @Test func `a unit without caches reads everything anew`() throws {
    let machine = try AMDViMachine(caches: .none)
    #expect(machine.translate() == 0x20_0010)
    machine.store([0x16_1a28: Self.newPage])
    #expect(machine.translate() == 0x30_0010)
    machine.setEntry([0, 0, 0, 0])
    #expect(machine.translate() == 0x1234_5010)
  }

  @Test func `a reset forgets everything`() throws {
    let machine = try AMDViMachine()
    #expect(machine.translate() == 0x20_0010)
    machine.unit.reset()
    machine.store([0x16_1a28: Self.newPage])
    machine[Offset.deviceTableBase] = AMDViMachine.deviceTable | 0x1f
    machine[Offset.control] = 0x1405
    #expect(machine.translate() == 0x30_0010)
  }

  /// A device of domain 7 with a guest table of one page for PASID 1: 0x5000 to 0x30_0000.
  private func guestMachine() throws -> (AMDViMachine, AMDVi.DeviceTableEntry) {
    let machine = try AMDViMachine()
    var entry = AMDVi.DeviceTableEntry(mode: 0, domainID: 7)
    entry.usesGuestTables = true
    entry.guestRootTable = PhysicalAddress(0x18_0000)
    machine.setEntry((0..<4).map { entry.quadwords[$0] })
    machine[Offset.control] = 0x1_1405
    machine.store([
      0x18_0008: 0x18_1001, 0x18_1000: 0x18_2007, 0x18_2000: 0x18_3007, 0x18_3000: 0x18_4007,
      0x18_4028: 0x30_0067,
    ])
    return (machine, entry)
  }

  @Test func `what a device may do goes with its entry, of guest tables too`() throws {
    var (machine, entry) = try guestMachine()
    #expect(machine.translate(0x5000, .write, pasid: PASID(1)) == 0x30_0000)
    entry.quadwords[0] &= ~(1 << 62)
    machine.setEntry((0..<4).map { entry.quadwords[$0] })
    machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.device))
    #expect(machine.translate(0x5000, .write, pasid: PASID(1)) == nil)
    #expect(machine.translate(0x5000, .read, pasid: PASID(1)) == 0x30_0000)
  }

  @Test func `registers take effect at once, whatever is known of GCR3 tables`() throws {
    let (machine, _) = try guestMachine()
    #expect(machine.translate(0x5000, pasid: PASID(1)) == 0x30_0000)
    machine[Offset.control] = 0x1405
    #expect(machine.translate(0x5000, pasid: PASID(1)) == nil)
    machine[Offset.control] = 0x1_1405
    #expect(machine.translate(0x5000, pasid: PASID(1)) == 0x30_0000)
  }

  @Test func `a walk uses no pointer of another tree, nor a page beyond its own width`() throws {
    let machine = try AMDViMachine()
    #expect(machine.translate() == 0x20_0010)
    // The same domain, another root: 0x1234_6000 is mapped in its tables alone.
    machine.setEntry([0x6000_0000_0018_0603, 5, 0, 0], of: Self.other)
    machine.store([
      0x18_0000: 0x6000_0000_0018_1401, 0x18_1488: 0x6000_0000_0018_2201,
      0x18_2a30: 0x6000_0000_0030_0001,
    ])
    #expect(machine.translate(0x1234_6000, of: Self.other) == 0x30_0000)
    // The same domain with four levels: an address that three do not reach.
    machine.setEntry([0x6000_0000_0018_3803, 5, 0, 0], of: Requester(rawValue: 0x30))
    machine.store([0x18_3008: 0x6000_0000_0016_3601])
    let far = 1 << 39 | AMDViMachine.address
    #expect(machine.translate(far, of: Requester(rawValue: 0x30)) == 0x20_0010)
    #expect(machine.translate(far) == nil)
  }

  @Test func `for PASID 0 an address is what its tables look at`() throws {
    let (machine, _) = try guestMachine()
    machine.store([0x18_0000: 0x18_1001])
    let aliases: [UInt64] = [0x5000, 1 << 50 | 0x5000]
    for alias in aliases { #expect(machine.translate(alias, pasid: PASID(0)) == 0x30_0000) }
    machine.store([0x18_4028: 0x31_0067])
    for alias in aliases { #expect(machine.translate(alias, pasid: PASID(0)) == 0x30_0000) }
    machine.run(
      AMDVi.InvalidatePagesCommand(
        domainID: 7, pasid: PASID(0), address: IOVA(0x5000), sizeLog2: 12))
    for alias in aliases { #expect(machine.translate(alias, pasid: PASID(0)) == 0x31_0000) }
    // Other PASIDs have canonical addresses alone.
    #expect(machine.translate(1 << 50 | 0x5000, pasid: PASID(1)) == nil)
  }
}
