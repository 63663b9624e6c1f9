import IOMMUFormats
import Testing

@testable import IOMMUHardware

@Suite struct AMDViUnitRegisterTests {
  typealias Offset = AMDVi.RegisterOffset

  /// Of the unit that has everything: what reads back after ones were written, and after zeros.
  static let rows: [(name: String, offset: UInt64, ones: UInt64, zeros: UInt64)] = [
    ("DevTabBase", 0x0000, 0x000f_ffff_ffff_f1ff, 0),
    ("CmdBufBase", 0x0008, 0x0f0f_ffff_ffff_f000, 0),
    ("EventLogBase", 0x0010, 0x0f0f_ffff_ffff_f000, 0),
    ("ExclBase", 0x0020, 0x000f_ffff_ffff_f003, 0),
    ("ExclLimit", 0x0028, 0x000f_ffff_ffff_ffff, 0xfff),
    ("EFR", 0x0030, 0x005f_63f3_0031_99df, 0x005f_63f3_0031_99df),
    ("PPRLogBase", 0x0038, 0x0f0f_ffff_ffff_f000, 0),
    ("HwEventHi", 0x0040, 0xffff_ffff_ffff_ffff, 0),
    ("HwEventLo", 0x0048, 0xffff_ffff_ffff_ffff, 0),
    ("HwEventStatus", 0x0050, 0, 0),
    ("SmiFilter 0", 0x0060, 0x3_ffff, 0x3_ffff),
    ("SmiFilter 15", 0x00d8, 0x3_ffff, 0x3_ffff),
    ("GALogBase", 0x00e0, 0x0f0f_ffff_ffff_f000, 0),
    ("GALogTailAddr", 0x00e8, 0x000f_ffff_ffff_fff8, 0),
    ("PPRLogBaseB", 0x00f0, 0, 0),
    ("EventLogBaseB", 0x00f8, 0, 0),
    ("DevTabSegBase 1", 0x0100, 0x000f_ffff_ffff_f0ff, 0),
    ("DevTabSegBase 7", 0x0130, 0x000f_ffff_ffff_f0ff, 0),
    ("DSFX", 0x0138, 0, 0),
    ("DSCX", 0x0140, 0xffff_ffff, 0),
    ("DSSX", 0x0148, 0, 0),
    ("MsiVector0 and 1", 0x0150, 0x0000_001f_0820_3440, 0x0000_0000_0820_3440),
    ("MsiCapHeader, MsiAddrLo", 0x0158, 0xffff_fffc_00f5_7405, 0x0000_0000_0084_7405),
    ("MsiAddrHi, MsiData", 0x0160, 0x0000_ffff_ffff_ffff, 0),
    ("MsiMapCapHeader, PerfOptControl", 0x0168, 0x0000_2000_a803_0008, 0xa803_0008),
    ("XTIntControl", 0x0170, 0xff00_01ff_ffff_ff04, 0),
    ("XTIntControlPPR", 0x0178, 0xff00_01ff_ffff_ff04, 0),
    ("XTIntControlGA", 0x0180, 0xff00_01ff_ffff_ff04, 0),
    ("vIommuStatus", 0x0190, 0, 0),
    ("EFR2", 0x01a0, 0x108, 0x108),
    ("MarcBase", 0x0200, 0, 0),
    ("MarcReloc", 0x0208, 0, 0),
    ("MarcLength", 0x0210, 0, 0),
    ("Reserved", 0x1ff8, 0, 0),
    ("CmdBufHead", 0x2000, 0x7_fff0, 0),
    ("CmdBufTail", 0x2008, 0x7_fff0, 0),
    ("EventLogHead", 0x2010, 0x7_fff0, 0),
    ("EventLogTail", 0x2018, 0x7_fff0, 0),
    ("Status", 0x2020, 0, 0),
    ("PPRLogHead", 0x2030, 0x7_fff0, 0),
    ("PPRLogTail", 0x2038, 0x7_fff0, 0),
    ("GALogHead", 0x2040, 0xfff8, 0),
    ("GALogTail", 0x2048, 0xfff8, 0),
    ("PPRLogHeadB", 0x2050, 0, 0),
    ("PPRLogTailB", 0x2058, 0, 0),
    ("EventLogHeadB", 0x2070, 0, 0),
    ("EventLogTailB", 0x2078, 0, 0),
    ("PPRAutoResponse", 0x2080, 0x1f, 0),
    ("PPROverflowEarly", 0x2088, 0xc000_7fff, 0),
    ("PPROverflowEarlyB", 0x2090, 0xc000_7fff, 0),
    ("nothing", 0x0058, 0, 0),
    ("nothing", 0x3ff8, 0, 0),
  ]

  @Test(arguments: rows.indices)
  func `a register of a unit keeps the bits it has`(index: Int) throws {
    let row = Self.rows[index]
    let machine = try AMDViMachine(isRunning: false)
    machine[row.offset] = ~0
    #expect(machine[row.offset] == row.ones, "\(row.name)")
    machine[row.offset] = 0
    #expect(machine[row.offset] == row.zeros, "\(row.name)")
  }

  @Test func `after a reset registers have the manual's values`() throws {
    let machine = try AMDViMachine(isRunning: false)
    for (offset, _) in Self.rows.map({ ($0.offset, 0) }) { machine[offset] = ~0 }
    machine.unit.reset()
    #expect(machine[Offset.control] == 0x400)
    for ring in [0x08, 0x10, 0x38, 0xe0] as [UInt64] {
      #expect(machine[ring] == 0x0800_0000_0000_0000)
    }
    #expect(machine[Offset.exclusionLimit] == 0 && machine[Offset.systemManagementFilter] == 0)
    #expect(machine[Offset.interruptVectors] == 0x0000_0002_0820_3440)
    #expect(machine[Offset.status] == 0 && machine[Offset.deviceTableBase] == 0)
  }

  @Test func `a unit of the first revision has the first registers alone`() throws {
    let machine = try AMDViMachine(.firstRevision, isRunning: false)
    for offset in stride(from: UInt64(0x30), to: 0x2000, by: 8) where !(0x138...0x148 ~= offset) {
      machine[offset] = ~0
      #expect(machine[offset] == 0)
    }
    machine[Offset.control] = 0xffff_ffe3_ffff_ffff
    #expect(machine[Offset.control] == 0x1fff)
    machine[0x2030] = ~0
    #expect(machine[0x2030] == 0)
  }

  @Test func `the control register has the bits of what the unit announces`() throws {
    let machine = try AMDViMachine(isRunning: false)
    machine[Offset.control] = ~(0x4_0000_0000 as UInt64) & ~(1 << 36)
    // Segments 2 of 4; no second logs, no relocation, no marks, no units of guests.
    #expect(machine[Offset.control] == 0x1d4d_fce8_3fff_ffff)
  }

  @Test(arguments: [4, 5, 6, 7])
  func `nothing is taken of a write that asks for too many segments`(code: UInt64) throws {
    let machine = try AMDViMachine(isRunning: false)
    machine[Offset.control] = code << 34 | 0xfff
    #expect(machine[Offset.control] == 0x400)
    machine.unit.write(code << 2, at: Offset.control + 4, byteCount: 4)
    #expect(machine[Offset.control] == 0x400)
  }

  @Test func `a write of some bytes changes those alone`() throws {
    let machine = try AMDViMachine(isRunning: false)
    let unit = machine.unit
    machine[Offset.deviceTableBase] = 0x0001_2345_6789_a0ff
    unit.write(0xdead_b000, at: 0, byteCount: 4)
    #expect(machine[0] == 0x0001_2345_dead_b000)
    unit.write(0x1, at: 4, byteCount: 4)
    #expect(machine[0] == 0x0000_0001_dead_b000)
    unit.write(0xffff, at: 2, byteCount: 2)
    #expect(machine[0] == 0x0000_0001_ffff_b000)
    unit.write(0x77, at: 0, byteCount: 1)
    #expect(machine[0] == 0x0000_0001_ffff_b077)
    #expect(unit.read(0, byteCount: 1) == 0x77 && unit.read(2, byteCount: 2) == 0xffff)
    #expect(unit.read(4, byteCount: 4) == 1 && unit.read(7, byteCount: 1) == 0)
  }

  @Test func `accesses that cross, or are of another size, do nothing`() throws {
    let machine = try AMDViMachine(isRunning: false)
    machine[0] = 0x1234_5000
    for (offset, width) in [(1, 2), (2, 4), (4, 8), (0, 3), (0, 0), (0, 16), (0, -1), (6, 4)] {
      machine.unit.write(0, at: UInt64(offset), byteCount: width)
      #expect(machine.unit.read(UInt64(offset), byteCount: width) == 0)
    }
    for offset: UInt64 in [0x4000, 1 << 40, .max & ~7] {
      machine.unit.write(~0, at: offset, byteCount: 8)
      #expect(machine.unit.read(offset, byteCount: 8) == 0)
    }
    #expect(machine[0] == 0x1234_5000 && machine.unit.windowByteCount == 0x4000)
  }

  @Test func `A14: what is switched on runs, and only with IommuEn`() throws {
    let machine = try AMDViMachine(isRunning: false)
    machine[Offset.control] = 0x1004
    #expect(machine[Offset.status] == 0)
    machine[Offset.control] = 0x1005
    #expect(machine[Offset.status] == 0x18)
    machine[Offset.control] = 0x0005
    #expect(machine[Offset.status] == 0x08)
    machine[Offset.control] = 0x1001
    #expect(machine[Offset.status] == 0x10)
    machine[Offset.control] = 0x1000_e001
    #expect(machine[Offset.status] == 0x180)
    machine[Offset.control] = 0x1000_f004
    #expect(machine[Offset.status] == 0)
  }

  @Test func `where a ring lies does not change while it runs, nor does what the unit writes`()
    throws
  {
    let machine = try AMDViMachine(isRunning: false)
    for (base, head, tail): (UInt64, UInt64?, UInt64?) in [
      (0x08, 0x2000, nil), (0x10, nil, 0x2018), (0x38, nil, 0x2038), (0xe0, nil, 0x2048),
    ] {
      machine[base] = 0x0800_0000_0020_0000
      for place in [head, tail].compactMap({ $0 }) {
        machine[place] = 0x40
        #expect(machine[place] == 0x40)
      }
      // A new base clears both.
      machine[base] = 0x0900_0000_0030_0000
      for place in [head, tail].compactMap({ $0 }) { #expect(machine[place] == 0) }
    }
    machine[Offset.control] = 0x1000_f405
    #expect(machine[Offset.status] == 0x198)
    for place: UInt64 in [0x08, 0x10, 0x38, 0xe0] {
      machine[place] = 0x0800_0000_0020_0000
      #expect(machine[place] == 0x0900_0000_0030_0000)
    }
    for place: UInt64 in [0x2000, 0x2018, 0x2038, 0x2048] {
      machine[place] = 0x40
      #expect(machine[place] == 0)
    }
  }

  @Test func `a ring of a reserved length does not run`() throws {
    let machine = try AMDViMachine(isRunning: false)
    for base: UInt64 in [0x08, 0x10, 0x38, 0xe0] { machine[base] = 0x0700_0000_0020_0000 }
    machine[Offset.control] = 0x1000_f405
    #expect(machine[Offset.status] == 0)
    machine[Offset.commandTail] = 0x40
    #expect(machine[Offset.commandHead] == 0)
  }

  @Test func `a locked filter keeps its device until a reset`() throws {
    let machine = try AMDViMachine(isRunning: false)
    machine[Offset.systemManagementFilter] = 0x1_00a0
    machine[Offset.systemManagementFilter] = 0x3_00a1
    machine[Offset.systemManagementFilter] = 0
    #expect(machine[Offset.systemManagementFilter] == 0x3_00a1)
    machine.unit.reset()
    #expect(machine[Offset.systemManagementFilter] == 0)
  }

  // MARK: The PCI function

  @Test func `the function says what it is and where its capabilities are`() throws {
    let unit = try AMDViMachine(isRunning: false).unit
    #expect(unit.readConfiguration(0x00) == 0x1419_1022)
    #expect(unit.readConfiguration(0x08) == 0x0806_0000)
    #expect(unit.readConfiguration(0x04) == 0x0010_0000)
    #expect(unit.readConfiguration(0x34) == 0x40)
    #expect(unit.readConfiguration(0x40) == 0x190b_640f)
    #expect(unit.readConfiguration(0x50) == 0x0820_3440)
    #expect(unit.readConfiguration(0x54) == 2)
    #expect(unit.readConfiguration(0x64) == 0x0084_7405)
    #expect(unit.readConfiguration(0x74) == 0xa803_0008)
    #expect(unit.readConfiguration(0x100) == .max && unit.readConfiguration(-4) == .max)
  }

  @Test func `the capability block keeps its values from Enable on`() throws {
    let unit = try AMDViMachine(isRunning: false).unit
    #expect(unit.windowBase == nil)
    unit.writeConfiguration(.max, at: 0x48)
    unit.writeConfiguration(1, at: 0x48)
    unit.writeConfiguration(.max, at: 0x4c)
    #expect(unit.readConfiguration(0x4c) == 0xffff_ff80)
    unit.writeConfiguration(0xfed8_3ffe, at: 0x44)
    #expect(unit.readConfiguration(0x44) == 0xfed8_0000 && unit.windowBase == nil)
    unit.writeConfiguration(0xfed8_0001, at: 0x44)
    #expect(unit.windowBase?.rawValue == 0x1_fed8_0000)
    for offset in [0x40, 0x44, 0x48, 0x4c, 0x50, 0x54] {
      let before = unit.readConfiguration(offset)
      unit.writeConfiguration(~before, at: offset)
      #expect(unit.readConfiguration(offset) == before)
    }
    unit.reset()
    #expect(unit.windowBase == nil)
  }

  @Test func `the MSI capability is in the window as well`() throws {
    let machine = try AMDViMachine(isRunning: false)
    machine.enableMessages()
    #expect(machine[0x158] == 0xfee0_1000_0085_7405)
    #expect(machine[0x160] == 0x0000_0040_0000_0000)
    machine.unit.write(0x77, at: 0x164, byteCount: 4)
    machine.unit.write(0, at: 0x158, byteCount: 4)
    #expect(machine.unit.readConfiguration(0x70) == 0x77)
    #expect(machine.unit.readConfiguration(0x64) == 0x0084_7405)
  }

  // MARK: What a unit can be

  @Test func `registers that contradict themselves are refused with a reason`() {
    func problem(_ change: (inout AMDViUnitConfiguration) -> Void) -> String? {
      var configuration = AMDViUnitConfiguration.current
      change(&configuration)
      do throws(AMDViUnitConfigurationError) {
        try configuration.validate()
        return nil
      } catch {
        return error.description
      }
    }
    func features(_ value: UInt64) -> String? {
      problem { $0.features = AMDVi.ExtendedFeatures(rawValue: value) }
    }
    #expect(problem { _ in } == nil)
    #expect(problem { $0 = .qemu } == nil && problem { $0 = .firstRevision } == nil)
    #expect(
      problem { $0.capability = AMDVi.CapabilityHeader(rawValue: 0x1f02_000f) }
        == "capability header: it is no IOMMU's: the id is 0xf and the type 3")
    #expect(
      problem { $0.physicalAddressWidth = 41 } == "PAsize: 41 bits; 40, 48 and 52 are possible")
    #expect(
      problem { $0.capability = AMDVi.CapabilityHeader(hasExtendedFeatures: false) }
        == "EFR: features without EFRSup; clear them or set bit 27 of the header")
    #expect(features(1 << 26) == "EFR: bits 26...27 are reserved; clear them")
    #expect(
      problem { $0.features2 = AMDVi.ExtendedFeatures2(rawValue: 1) }
        == "EFR2: bits 0...0 are reserved; clear them")
    #expect(
      features(1 << 9) == "EFR: not implemented: PCSup, performance counters; clear bit 9")
    #expect(features(0xc000) == "EFR: GLXSup is 3; the largest is 2")
    #expect(features(0x3000) == "EFR: GATS is 3; the largest is 2")
    #expect(features(0x4) == "EFR: XTSup needs GASup; set or clear it")
    #expect(features(1 << 21) == "EFR: GAMSup needs GASup; set or clear it")
    #expect(features(1 << 48) == "EFR: GIoSup needs GTSup; set or clear it")
    #expect(features(1 << 40) == "EFR: PprOvrflwEarlySup needs PPRSup; set or clear it")
    #expect(features(1 << 41) == "EFR: PprAutoRspSup needs PPRSup; set or clear it")
    for bit: UInt64 in [24, 28, 31, 42, 44, 55, 56, 57, 63] {
      #expect(features(1 << bit)?.hasPrefix("EFR: not implemented: ") == true)
    }
  }

  @Test func `of a real unit's features those that are here remain`() throws {
    // A unit of 2022.
    let real = AMDVi.ExtendedFeatures(rawValue: 0x2465_77ef_a225_4afa)
    let supported = AMDViUnitConfiguration.supported(real)
    #expect(supported.rawValue == 0x2065_63ef_0025_48fa)
    try AMDViUnitConfiguration(features: supported).validate()
  }
}
