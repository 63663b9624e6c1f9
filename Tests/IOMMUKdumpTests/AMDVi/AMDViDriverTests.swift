import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

@Suite struct AMDViDriverTests {
  static let device = Device.usual[0]

  static func primary(
    _ amdvi: AMDViConfiguration, crashKernel: Range<UInt64> = 0x200_0000..<0x300_0000,
    devices: [Device] = Device.usual, ramByteCount: UInt64 = 256 << 20
  ) throws -> PrimaryKernel {
    var configuration = try smallConfiguration(
      .amdvi, devices: devices,
      crashKernel: [
        PhysicalAddress(crashKernel.lowerBound)..<PhysicalAddress(crashKernel.upperBound)
      ], ramByteCount: ramByteCount)
    configuration.amdvi = amdvi
    return try PrimaryKernel(configuration)
  }

  static func register(_ offset: UInt64, of primary: PrimaryKernel) -> UInt64 {
    primary.amdviPlatform!.registers(at: AMDViPlatform.base)!.read(offset, byteCount: 8)
  }

  /// The four quadwords of a device's entry.
  static func entry(_ device: Requester, of primary: PrimaryKernel) -> [UInt64] {
    let table = register(0, of: primary) & 0xf_ffff_ffff_f000
    return (0..<4).map {
      primary.memory.quadword(
        at: PhysicalAddress(table + UInt64(device.rawValue) * 32 + UInt64($0) * 8))!
    }
  }

  /// The leaf entry of an address, by its place in tables of three levels.
  static func leaf(_ address: UInt64, _ device: Requester, of primary: PrimaryKernel) -> UInt64 {
    let root = PhysicalAddress(entry(device, of: primary)[0] & 0xf_ffff_ffff_f000)
    var observer = Unobserved()
    return AMDVi.HostFormat(levels: 3).walk(
      address, from: root, in: primary.memory, observer: &observer
    ).entry
  }

  static func buffer(_ start: UInt64, _ byteCount: UInt64) -> Range<PhysicalAddress> {
    PhysicalAddress(start)..<PhysicalAddress(start + byteCount)
  }

  // MARK: Today's driver

  @Test func `a device is stopped until its driver maps`() throws {
    let primary = try Self.primary(AMDViConfiguration())
    #expect(Self.entry(Self.device.requester, of: primary) == [3, 0, 0, 0])
    #expect(Self.entry(Requester(rawValue: 0xffff), of: primary) == [3, 0, 0, 0])
    _ = try primary.map(
      Self.buffer(0x800_0000, 4096), for: Self.device, direction: .bidirectional)
    let entry = Self.entry(Self.device.requester, of: primary)
    // V, TV, mode 3, IR, IW; DomainID 1.
    #expect(entry[0] & ~0xf_ffff_ffff_f000 == 0x6000_0000_0000_0603)
    #expect(entry[1...] == [1, 0, 0])
    #expect(Self.register(AMDVi.RegisterOffset.deviceTableBase, of: primary) & 0xfff == 0x1ff)
    // IommuEn, EventLogEn, CmdBufEn, Coherent.
    #expect(Self.register(AMDVi.RegisterOffset.control, of: primary) == 0x1405)
  }

  @Test(
    arguments: [
      (.toDevice, 0x3000_0000_0800_0001), (.fromDevice, 0x5000_0000_0800_0001),
      (.bidirectional, 0x7000_0000_0800_0001),
    ] as [(DMADirection, UInt64)])
  func `a page has the rights of its direction`(direction: DMADirection, entry: UInt64) throws {
    let primary = try Self.primary(AMDViConfiguration())
    let mapped = try primary.map(
      Self.buffer(0x800_0000, 4096), for: Self.device, direction: direction)
    #expect(mapped.iova == IOVA(0xffff_f000))
    #expect(Self.leaf(0xffff_f000, Self.device.requester, of: primary) == entry)
  }

  /// 32 KiB, aligned in both spaces: eight entries of one page; behind it 4 KiB.
  @Test func `a page is as large as both addresses allow, in all its entries`() throws {
    let primary = try Self.primary(AMDViConfiguration())
    let mapped = try primary.map(
      Self.buffer(0x800_8000, 0x9000), for: Self.device, direction: .bidirectional)
    #expect(mapped.iova == IOVA(0xffff_0000))
    for page in 0..<8 as Range<UInt64> {
      #expect(
        Self.leaf(0xffff_0000 + page << 12, Self.device.requester, of: primary)
          == 0x7000_0000_0800_be01)
    }
    #expect(
      Self.leaf(0xffff_8000, Self.device.requester, of: primary) == 0x7000_0000_0801_0001)
    primary.unmap(mapped)
    for page in 0..<9 as Range<UInt64> {
      #expect(Self.leaf(0xffff_0000 + page << 12, Self.device.requester, of: primary) == 0)
    }
  }

  @Test(arguments: AMDViFlushes.allCases)
  func `a page that was taken back is reached until the unit is told`(
    flushes: AMDViFlushes
  ) throws {
    let primary = try Self.primary(
      AMDViConfiguration(kernel: .current(flushes: flushes), caches: .everything))
    var bus = primary.makeBus()
    let first = try primary.map(
      Self.buffer(0x800_0000, 4096), for: Self.device, direction: .bidirectional)
    bus.write([1, 2, 3, 4], by: Self.device, at: first.iova)
    primary.unmap(first)
    let record = bus.write([5, 6, 7, 8], by: Self.device, at: first.iova)
    #expect((record.fault == nil) == (flushes == .lazy))
    // The number is another one as long as the old one is not told of.
    let second = try primary.map(
      Self.buffer(0x900_0000, 4096), for: Self.device, direction: .bidirectional)
    #expect(second.iova == IOVA(flushes == .lazy ? 0xffff_e000 : 0xffff_f000))
    guard flushes == .lazy else { return }
    for _ in 0..<255 {
      primary.unmap(
        try primary.map(
          Self.buffer(0xa00_0000, 4096), for: Self.device, direction: .bidirectional))
    }
    #expect(bus.write([5], by: Self.device, at: first.iova).fault != nil)
    let third = try primary.map(
      Self.buffer(0x900_0000, 4096), for: Self.device, direction: .bidirectional)
    #expect(third.iova == IOVA(0xffff_f000))
  }

  @Test func `firmware's memory is mapped to itself, an exclusion range too`() throws {
    let blocks = [
      AMDVi.IVRS.Block(
        memory: PhysicalAddress(0x700_0000)..<PhysicalAddress(0x700_2000),
        for: .one(Self.device.requester), permissions: .read),
      AMDVi.IVRS.Block(
        memory: PhysicalAddress(0x710_0800)..<PhysicalAddress(0x710_1000), for: .all,
        permissions: [], isExclusion: true),
    ]
    let primary = try Self.primary(AMDViConfiguration(firmwareBlocks: blocks))
    for device in Device.usual[0...1] {
      _ = try primary.map(
        Self.buffer(0x800_0000, 4096), for: device, direction: .bidirectional)
    }
    let (first, second) = (Device.usual[0].requester, Device.usual[1].requester)
    #expect(Self.leaf(0x700_0000, first, of: primary) == 0x3000_0000_0700_0e01)
    #expect(Self.leaf(0x700_0000, second, of: primary) == 0)
    #expect(Self.leaf(0x710_0000, first, of: primary) == 0x7000_0000_0710_0001)
    #expect(Self.leaf(0x710_0000, second, of: primary) == 0x7000_0000_0710_0001)
    #expect(Self.register(AMDVi.RegisterOffset.exclusionBase, of: primary) == 0)
  }

  /// Beyond 512 GiB three levels do not reach.
  @Test func `tables grow by a level where numbers are high`() throws {
    let primary = try Self.primary(AMDViConfiguration())
    let iova = IOVA(0x123_4567_8000)
    let mapped = try primary.map(
      page: PhysicalAddress(0x800_0000), at: iova, for: Self.device, direction: .bidirectional)
    #expect(Self.entry(Self.device.requester, of: primary)[0] >> 9 & 7 == 4)
    var bus = primary.makeBus()
    #expect(
      bus.write([9], by: Self.device, at: mapped.iova).hits[0].physical?.lowerBound
        == PhysicalAddress(0x800_0000))
    // Below, everything is where it was.
    let low = try primary.map(
      Self.buffer(0x900_0000, 4096), for: Self.device, direction: .bidirectional)
    #expect(
      bus.write([9], by: Self.device, at: low.iova).hits[0].physical?.lowerBound
        == PhysicalAddress(0x900_0000))
  }

  /// A unit of an emulator remembers that there was no page.
  @Test func `a page that appears is told where that is remembered`() throws {
    let primary = try Self.primary(
      AMDViConfiguration(cachesNotPresent: true, caches: .everything))
    _ = try primary.map(
      Self.buffer(0x800_0000, 4096), for: Self.device, direction: .bidirectional)
    var bus = primary.makeBus()
    #expect(bus.write([1], by: Self.device, at: IOVA(0xffff_e000)).fault != nil)
    let mapped = try primary.map(
      Self.buffer(0x900_0000, 4096), for: Self.device, direction: .bidirectional)
    #expect(mapped.iova == IOVA(0xffff_e000))
    #expect(bus.write([1], by: Self.device, at: mapped.iova).fault == nil)
  }

  @Test func `what is stopped is in the event log`() throws {
    let primary = try Self.primary(AMDViConfiguration())
    let mapped = try primary.map(
      Self.buffer(0x800_0000, 4096), for: Self.device, direction: .toDevice)
    var bus = primary.makeBus()
    bus.write([1], by: Self.device, at: IOVA(0x1234_5678))
    bus.write([1], by: Self.device, at: mapped.iova)
    bus.read(1, by: Device.usual[1], at: IOVA(0x1234_5678))
    #expect(Self.register(AMDVi.RegisterOffset.eventTail, of: primary) == 48)
    let log = Self.register(AMDVi.RegisterOffset.eventLogBase, of: primary) & 0xf_ffff_ffff_f000
    #expect(
      (0..<6).map { primary.memory.quadword(at: PhysicalAddress(log + 8 * $0))! } == [
        // Domain 1, RW; PE, RW and PR; and of a device without a domain PE and PR.
        0x2020_0001_0000_0108, 0x1234_5678, 0x2070_0001_0000_0108, 0xffff_f000,
        0x2050_0000_0000_0208, 0x1234_5678,
      ])
  }

  @Test func `the Rule takes the largest pages, or 4 KiB ones`() throws {
    for (policy, entries) in [(PageSizePolicy.largest, UInt64(8)), (.smallest, 4096)] {
      var configuration = try smallConfiguration(.amdvi)
      configuration.pageSize = policy
      let primary = try PrimaryKernel(configuration)
      let setUp = try primary.applyRule()
      #expect(setUp.tables.map(\.identityEntryCount) == [entries, entries, entries])
      #expect(setUp.tables.map(\.writtenEntryCount) == [entries, entries, entries])
      // 16 MiB at 32 MiB: bits 22:12 set, 23 clear.
      #expect(
        Self.leaf(0x2ab_c000, Self.device.requester, of: primary)
          == (policy == .largest ? 0x7000_0000_027f_fe01 : 0x7000_0000_02ab_c001))
      #expect(try primary.applyRule().writtenEntryCount == 0)
    }
  }

  // MARK: Linux 2.6.27

  static func old(
    _ blocks: [AMDVi.IVRS.Block] = [], aperture: UInt64 = 64 << 20, isolates: Bool = false
  ) -> AMDViConfiguration {
    AMDViConfiguration(
      kernel: .linux2_6_27(apertureByteCount: aperture, isolatesDevices: isolates),
      firmwareBlocks: blocks)
  }

  @Test func `2.6.27 gives numbers from the bottom, in one domain, and logs nothing`() throws {
    let primary = try Self.primary(Self.old())
    // V, TV and SA: stopped silently.
    #expect(Self.entry(Self.device.requester, of: primary) == [3, 4 << 32, 0, 0])
    let first = try primary.map(
      Self.buffer(0x800_0123, 0x2000), for: Device.usual[0], direction: .toDevice)
    let second = try primary.map(
      Self.buffer(0x900_0000, 4096), for: Device.usual[1], direction: .fromDevice)
    #expect(first.iova == IOVA(0x1123))
    #expect(second.iova == IOVA(0x4000))
    let entries = Device.usual[0...1].map { Self.entry($0.requester, of: primary) }
    #expect(entries[0] == entries[1], "one domain for both")
    #expect(entries[0][0] & ~0xf_ffff_ffff_f000 == 0x6000_0000_0000_0603)
    #expect(entries[0][1] == 4 << 32 | 1)
    // PR, FC, IR to the device, IW from it.
    #expect(Self.leaf(0x1000, Self.device.requester, of: primary) == 0x3000_0000_0800_0001)
    #expect(Self.leaf(0x4000, Self.device.requester, of: primary) == 0x5000_0000_0900_0001)
    var bus = primary.makeBus()
    let fault = bus.write([1], by: Self.device, at: IOVA(0x7000)).fault
    #expect(fault == .amdvi(.entryNotPresent, isRecorded: false))
    // IommuEn, CmdBufEn, Coherent: no event log.
    #expect(Self.register(AMDVi.RegisterOffset.control, of: primary) == 0x1401)
    primary.unmap(first)
    #expect(Self.leaf(0x1000, Self.device.requester, of: primary) == 0)
    // The search goes on where it was.
    let third = try primary.map(
      Self.buffer(0x900_0000, 4096), for: Device.usual[0], direction: .bidirectional)
    #expect(third.iova == IOVA(0x5000))
  }

  @Test func `2.6.27 isolates devices when told to`() throws {
    let primary = try Self.primary(Self.old(isolates: true))
    for device in Device.usual[0...1] {
      let mapped = try primary.map(
        Self.buffer(0x800_0000, 4096), for: device, direction: .bidirectional)
      #expect(mapped.iova == IOVA(0x1000))
    }
    #expect(
      Device.usual[0...1].map { Self.entry($0.requester, of: primary)[1] }
        == [4 << 32 | 1, 4 << 32 | 2])
  }

  /// One page is told by its number, more by all of the domain; upper entries are left; after mapping
  /// as well, though the unit does not cache what is not present. Each waits by the status bit.
  @Test func `2.6.27 sends these commands`() throws {
    let primary = try Self.primary(Self.old())
    let one = try primary.map(
      Self.buffer(0x800_0000, 4096), for: Self.device, direction: .bidirectional)
    let two = try primary.map(
      Self.buffer(0x800_0000, 8192), for: Self.device, direction: .bidirectional)
    primary.unmap(one)
    primary.unmap(two)
    let ring = Self.register(AMDVi.RegisterOffset.commandBufferBase, of: primary)
    #expect(ring >> 56 == 9)
    let tail = Self.register(AMDVi.RegisterOffset.commandTail, of: primary)
    let words = stride(from: 0, to: tail, by: 8).map {
      primary.memory.quadword(at: PhysicalAddress(ring & 0xf_ffff_ffff_f000 + $0))!
    }
    let wait: [UInt64] = [0x1000_0000_0000_0002, 0]
    let entry: [UInt64] = [0x2000_0000_0000_0108, 0]
    let page: [UInt64] = [0x3000_0001_0000_0000, 0x1000]
    let all: [UInt64] = [0x3000_0001_0000_0000, 0x7fff_ffff_ffff_f001]
    #expect(words == entry + wait + page + wait + all + wait + page + wait + all + wait)
  }

  @Test func `2.6.27 cannot have a crash kernel beyond its aperture`() throws {
    let primary = try Self.primary(Self.old(), crashKernel: 0x200_0000..<0x600_0000)
    let error = #expect(throws: SetUpError.self) { try primary.applyRule() }
    #expect(
      error?.description == """
        crash kernel 0x2000000..<0x6000000 ends beyond the 0x4000000 bytes of I/O space that the table \
        of an AMD-Vi domain of Linux 2.6.27 covers: boot with amd_iommu_size=128M or move the crash \
        kernel down
        """)
    let larger = try Self.primary(
      Self.old(aperture: 128 << 20), crashKernel: 0x200_0000..<0x600_0000)
    #expect(try larger.applyRule().tables.map(\.identityEntryCount) == [0x4000])
    #expect(CrashSimulation().finish(larger, setUp: nil).ruleHolds)
  }

  @Test func `2.6.27 takes a unit's block with HtTunEn for memory`() throws {
    // Start and length are what lies at these bytes: segment and features; the second word is EFR's.
    let block = AMDVi.IVRS.Block(
      .extendedUnit, deviceID: Self.device.requester, base: PhysicalAddress(0xfed8_0000),
      segment: 0x8000, flags: .hyperTransportTunnel, messageNumber: 0, features: 0,
      extendedFeatures: 0x1000, entries: [])
    let primary = try Self.primary(Self.old([block]))
    _ = try primary.map(
      Self.buffer(0x800_0000, 4096), for: Self.device, direction: .bidirectional)
    // Rights are bits 1 and 2 of the flags, which are clear; FC is not set.
    #expect(Self.leaf(0x8000, Self.device.requester, of: primary) == 0x8001)
    #expect(Self.leaf(0x9000, Self.device.requester, of: primary) == 0)
  }

  /// PassPW, ResPassPW and Isoc are bits 8, 9 and 11 of the control register; HtTunEn would be bit 1.
  @Test(
    arguments: [
      ([], 0x1401), (.hyperTransportTunnel, 0x1d01), (.passesPostedWrites, 0x1e01),
      (.responsesPassPostedWrites, 0x1401), ([.isCoherent, .hasDeviceTLBs], 0x1401),
    ] as [(AMDVi.IVRS.UnitFlags, UInt64)])
  func `2.6.27 takes numbers of bits for masks`(
    flags: AMDVi.IVRS.UnitFlags, control: UInt64
  ) throws {
    var configuration = Self.old()
    configuration.firmwareFlags = flags
    let primary = try Self.primary(configuration)
    #expect(Self.register(AMDVi.RegisterOffset.control, of: primary) == control)
  }

  @Test func `2.6.27 excludes a page too many`() throws {
    let block = AMDVi.IVRS.Block(
      memory: PhysicalAddress(0x300_0000)..<PhysicalAddress(0x300_2000),
      for: .one(Self.device.requester), permissions: [], isExclusion: true)
    let primary = try Self.primary(Self.old([block]), crashKernel: 0x200_0000..<0x280_0000)
    #expect(Self.register(AMDVi.RegisterOffset.exclusionBase, of: primary) == 0x300_0001)
    #expect(
      Self.register(AMDVi.RegisterOffset.exclusionLimit, of: primary) & ~0xfff == 0x300_2000)
    // EX and SA.
    #expect(Self.entry(Self.device.requester, of: primary)[1] == 0x84 << 32)
    #expect(Self.entry(Device.usual[1].requester, of: primary)[1] == 4 << 32)
    _ = try primary.map(
      Self.buffer(0x800_0000, 4096), for: Self.device, direction: .bidirectional)
    var bus = primary.makeBus()
    let record = bus.write([1], by: Self.device, at: IOVA(0x300_2ff8))
    #expect(record.hits[0].physical?.lowerBound == PhysicalAddress(0x300_2ff8))
    #expect(bus.write([1], by: Self.device, at: IOVA(0x300_3000)).fault != nil)
  }
}
