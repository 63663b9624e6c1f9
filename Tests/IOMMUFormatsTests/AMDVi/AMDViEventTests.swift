import IOMMUFormats
import Testing

/// Entries of the event log, as VirtualBox's header, illumos' header and AMD's own words about PASIDs
/// have them.
@Suite struct AMDViEventTests {
  /// Bits that mean something, of both quadwords; all others are reserved.
  static let told: [(code: UInt8, low: UInt64, high: UInt64)] = [
    // DeviceID, PASID, GN, I, RW, RZ, TR.
    (0x1, 0xf1a9_ffff_000f_ffff, ~0),
    // DeviceID, domain or PASID, all flags.
    (0x2, 0xf1ff_ffff_000f_ffff, ~0),
    // DeviceID, I, RW, TR, Type: no domain, no PASID.
    (0x3, 0xf728_0000_0000_ffff, ~0),
    // DeviceID, domain or PASID, GN, I, RW, TR, Type.
    (0x4, 0xf729_ffff_000f_ffff, ~0),
    // The command's address alone.
    (0x5, 0xf000_0000_0000_0000, ~0),
    // Type.
    (0x6, 0xf600_0000_0000_0000, ~0),
    // DeviceID.
    (0x7, 0xf000_0000_0000_ffff, ~0),
    // DeviceID, PASID, GN, US, TR, Type.
    (0x8, 0xff03_ffff_000f_ffff, ~0),
    // DeviceID, PASID, tag, flags.
    (0x9, 0xf1ff_3fff_ffff_ffff, ~0),
    // CounterNote.
    (0xa, 0xf000_0000_0000_0000, 0xffff_ffff_000f_ffff),
    // DeviceID, flags of the reverse map, the guest, flags.
    (0xd, 0xffff_ffff_00ff_ffff, ~0),
    (0xe, 0xffff_ffff_0000_ffff, ~0),
    // Nobody knows.
    (0x0, ~0, ~0), (0xb, ~0, ~0), (0xc, ~0, ~0), (0xf, ~0, ~0),
  ]

  @Test(arguments: told)
  func `an event has the fields of its code and no others`(
    code: UInt8, low: UInt64, high: UInt64
  ) {
    var found: [UInt64] = [0, 0]
    for field in AMDVi.Event.fields(AMDVi.EventCode(rawValue: code)) where field.use != .ignored {
      found[field.quadwordIndex] |= field.mask
    }
    #expect(found == [low, high], "\(hexadecimal(found[0])), \(hexadecimal(found[1]))")
  }

  @Test(arguments: told)
  func `an event that is made has nothing in reserved bits`(
    code: UInt8, low: UInt64, high _: UInt64
  ) {
    let event = AMDVi.Event(
      AMDVi.EventCode(rawValue: code), device: Requester(rawValue: 0xffff), domain: .max)
    #expect(event.low & ~low == 0 && event.low >> 60 == UInt64(code))
    #expect(event.low & 0xffff == low & 0xffff)
  }

  @Test func `E11 to E15: events about memory and commands`() {
    let device = Requester("03:00.0")!
    func low(
      _ code: AMDVi.EventCode, device: Requester = Requester(rawValue: 0), domain: UInt64 = 0,
      flags: UInt64 = 0
    ) -> UInt64 {
      AMDVi.Event(code, device: device, domain: domain, flags: flags, address: 0x1000).low
    }
    #expect(low(.deviceTableHardwareError, device: device, flags: 0x400) == 0x3400_0000_0000_0300)
    #expect(
      low(.pageTableHardwareError, device: device, domain: 5, flags: 0x420)
        == 0x4420_0005_0000_0300)
    // With a PASID of 20 bits: GN.
    #expect(
      low(.pageTableHardwareError, device: device, domain: 0x1_2345, flags: 0x401)
        == 0x4401_2345_0001_0300)
    #expect(low(.illegalCommand) == 0x5000_0000_0000_0000)
    #expect(low(.commandHardwareError, flags: 0x600) == 0x6600_0000_0000_0000)
    #expect(low(.invalidationTimeout, device: device) == 0x7000_0000_0000_0300)
    // A kernel prints the device that is the unit, and 0 for what there is none of.
    #expect(low(.illegalCommand, device: device, domain: 5) == 0x5000_0000_0000_0000)
    #expect(low(.deviceTableHardwareError, device: device, domain: 5) == 0x3000_0000_0000_0300)
  }

  @Test func `a counter's note is in two parts, the upper first`() {
    let event = AMDVi.Event(low: 0xa000_0000_0000_0000, high: 0x89ab_cdef_0004_5678)
    #expect(event.code == .counterZero && event.counterNote == 0x4_5678_89ab_cdef)
  }

  @Test func `only the fault of the reverse map has flags of it`() {
    func low(_ code: AMDVi.EventCode) -> UInt64 {
      AMDVi.Event(
        reverseMap: code, device: Requester("03:00.0")!, guestTag: 0x1234, reverseMapFlags: 0x56,
        flags: 0x789, address: 0
      ).low
    }
    #expect(low(.reverseMapFault) == 0xd789_1234_0056_0300)
    #expect(low(.reverseMapHardwareError) == 0xe789_1234_0000_0300)
  }
}
