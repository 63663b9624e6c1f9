import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

/// Crashes in which a unit's cache still holds an entry that the kernel has cleared in memory:
/// unmapping flushes nothing on Calgary and on the GART, so a leftover DMA goes where it used to.
@Suite struct StaleTCETests {
  private static let disk = Device.usual[0]
  private static let buffer = PhysicalAddress(0x800_0000)..<PhysicalAddress(0x800_1000)

  /// 8 MiB of crash kernel at 16 MiB, and tables of 64 KiB, which end at 32 MiB.
  ///
  /// - Parameter hasCache: A cache that has room for every entry of a table.
  private static func kernel(
    hasCache: Bool, _ change: (inout CalgaryOptions) -> Void = { _ in }
  ) throws -> PrimaryKernel {
    var configuration = try smallConfiguration(
      .calgary, crashKernel: [PhysicalAddress(0x100_0000)..<PhysicalAddress(0x180_0000)])
    configuration.calgary.tableSize = .kib64
    configuration.calgary.options.cache = hasCache ? .init(setCount: 8192, wayCount: 1) : nil
    change(&configuration.calgary.options)
    return try PrimaryKernel(configuration)
  }

  /// The chip, and which of its PHBs is above the disk.
  private static func chip(_ primary: PrimaryKernel) throws -> (unit: CalgaryUnit, phb: Int) {
    let unit = try #require(primary.makeBus().ports.first as? CalgaryUnit)
    return (unit, try #require(unit.bridge(above: 1)))
  }

  /// The quadword of TCE 0x20 on bus 1.
  private static func entry0x20(_ primary: PrimaryKernel) throws -> [UInt8]? {
    let (unit, phb) = try chip(primary)
    let table = unit.value(of: .tableAddress, phb) & 0xffff_ffff_8000
    return primary.memory.bytes(at: PhysicalAddress(table + 0x100), count: 8)
  }

  /// The disk has used its buffer, the kernel has taken it back, and everything crashes.
  private static func crash(_ primary: PrimaryKernel) throws -> CrashReport {
    let setUp = try primary.applyRule()
    let mapped = try primary.map(buffer, for: disk, direction: .fromDevice)
    #expect(mapped.iova == IOVA(0x2_0000))
    #expect(try entry0x20(primary) == [0, 0, 0, 0, 0x08, 0, 0, 0x03])
    var bus = primary.makeBus()
    #expect(bus.write([1, 2, 3, 4], by: disk, at: IOVA(0x2_0000)).fault == nil)
    primary.unmap(mapped)
    #expect(try entry0x20(primary) == [0, 0, 0, 0, 0, 0, 0, 0])
    return CrashSimulation().finish(primary, setUp: setUp)
  }

  private static func leftoverWrite(_ primary: PrimaryKernel) -> DMARecord {
    var bus = primary.makeBus()
    return bus.write([0xde, 0xad, 0xbe, 0xef], by: disk, at: IOVA(0x2_0000))
  }

  @Test func `a cached TCE brings leftover DMA to the old buffer until TAR is written`() throws {
    let primary = try Self.kernel(hasCache: true)
    let report = try Self.crash(primary)
    #expect(report.counts(of: .kdump)[.own] == 24)
    let record = Self.leftoverWrite(primary)
    #expect(
      record.hits == [
        Hit(
          iova: IOVA(0x2_0000)..<IOVA(0x2_0004),
          physical: PhysicalAddress(0x800_0000)..<PhysicalAddress(0x800_0004),
          changedByteCount: 4, fault: nil)
      ])
    #expect(
      Outcome(
        of: record, target: Self.buffer, isDelivered: true, map: primary.configuration.map,
        isKdump: false) == .own)
    #expect(
      primary.memory.bytes(at: Self.buffer.lowerBound, count: 4) == [0xde, 0xad, 0xbe, 0xef])
    let (unit, phb) = try Self.chip(primary)
    #expect(unit.value(of: .channelStatus, phb) == 0)
    let register = 0x580 + 8 * UInt64(phb)
    unit.write(unit.read(at: register, byteCount: 8), at: register, byteCount: 8)
    #expect(Self.leftoverWrite(primary).fault == .calgary(.emptyEntry))
  }

  @Test func `without a cache the same DMA is stopped, and CSR names the device`() throws {
    let primary = try Self.kernel(hasCache: false)
    let report = try Self.crash(primary)
    #expect(report.counts(of: .kdump)[.own] == 24)
    let record = Self.leftoverWrite(primary)
    #expect(record.fault == .calgary(.emptyEntry))
    #expect(record.hits.map(\.physical) == [nil])
    #expect(primary.memory.bytes(at: Self.buffer.lowerBound, count: 4) == [1, 2, 3, 4])
    let (unit, phb) = try Self.chip(primary)
    // Agent 1: device 1 of 01:01.0.
    #expect(unit.value(of: .channelStatus, phb) == 0x1001_0000)
    #expect(unit.value(of: .plssr, phb) == 0x0400_0000)
  }

  @Test(arguments: [CalgaryOptions.Kexec.keepsEverything, .dropsCaches, .resets])
  func `U23: what a kexec leaves of the chip decides what leftover DMA meets`(
    kexec: CalgaryOptions.Kexec
  ) throws {
    let primary = try Self.kernel(hasCache: true) { $0.kexec = kexec }
    _ = try Self.crash(primary)
    let record = Self.leftoverWrite(primary)
    switch kexec {
    case .keepsEverything:
      #expect(record.hits.first?.physical?.lowerBound == Self.buffer.lowerBound)
    case .dropsCaches: #expect(record.fault == .calgary(.emptyEntry))
    // Nothing is translated any more: the number is an address in old memory.
    case .resets: #expect(record.hits.first?.physical?.lowerBound == PhysicalAddress(0x2_0000))
    }
  }

  /// A buffer of 24 MiB at numbers 1 to 25 MiB, among them those of the crash kernel, has been used
  /// and taken back before the Rule is applied.
  private static func used(_ primary: PrimaryKernel) throws {
    let mapped = try primary.map(
      PhysicalAddress(0x400_0000)..<PhysicalAddress(0x580_0000), for: disk, direction: .fromDevice)
    #expect(mapped.iova == IOVA(0x10_0000))
    var bus = primary.makeBus()
    for number: UInt64 in [0x110_0000, 0x17f_f000] {
      #expect(bus.write([1], by: disk, at: IOVA(number)).fault == nil)
    }
    primary.unmap(mapped)
  }

  @Test func `an identity map whose installation flushes is what the kdump kernel meets`() throws {
    let primary = try Self.kernel(hasCache: true)
    try Self.used(primary)
    let report = CrashSimulation().finish(primary, setUp: try primary.applyRule())
    #expect(report.counts(of: .kdump)[.own] == 24)
  }

  @Test func `without the flush its first buffers are aliases of what was there before`() throws {
    let primary = try Self.kernel(hasCache: true)
    try Self.used(primary)
    // The identity map by hand, in the table alone: TCE 0x1000 for 16 MiB, and 2047 more.
    let (unit, phb) = try Self.chip(primary)
    let table = unit.value(of: .tableAddress, phb) & 0xffff_ffff_8000
    for page: UInt64 in 0x1000..<0x1800 {
      primary.memory.store(
        bigEndian: page << 12 | 3, at: PhysicalAddress(table + page * 8))
    }
    let report = CrashSimulation().finish(primary, setUp: nil)
    let disks = report.accesses.filter { $0.owner == .kdump && $0.device == Self.disk }
    #expect(disks.count == 8)
    #expect(disks.map(\.outcome) == [.alias, .alias] + [Outcome](repeating: .own, count: 6))
    #expect(
      disks.prefix(2).map(\.record?.hits.first?.physical?.lowerBound)
        == [PhysicalAddress(0x500_0000), PhysicalAddress(0x56f_f000)])
  }
}

@Suite struct StaleGATTEntryTests {
  private static let controller = Device.usual[2]

  private static func kernel(_ cache: GARTCache.Geometry) throws -> PrimaryKernel {
    var configuration = try defaultConfiguration(.gart)
    configuration.gart.model.cache = cache
    return try PrimaryKernel(configuration)
  }

  private static func northbridges(_ primary: PrimaryKernel) throws -> Northbridges {
    try #require(primary.makeBus().ports.first as? Northbridges)
  }

  /// The doubleword of GATT entry 0x20.
  private static func entry0x20(_ primary: PrimaryKernel) throws -> UInt32 {
    let table = UInt64(try northbridges(primary).nodes[0].register(at: 0x98)) << 8
    return try #require(primary.memory.doubleword(at: PhysicalAddress(table + 0x80)))
  }

  private static func leftoverWrite(_ primary: PrimaryKernel) -> PhysicalAddress? {
    var bus = primary.makeBus()
    let record = bus.write([0xde, 0xad, 0xbe, 0xef], by: controller, at: IOVA(0xd002_0000))
    #expect(record.hits.count == 1 && record.fault == nil)
    return record.hits.first?.physical?.lowerBound
  }

  @Test(arguments: [GARTCache.Geometry.off, .unlimited, .sets(setCount: 8, wayCount: 4)])
  func `an unmapped page is the old buffer while it is cached, then the scratch page`(
    cache: GARTCache.Geometry
  ) throws {
    let primary = try Self.kernel(cache)
    let scratch = try Self.entry0x20(primary)
    #expect(scratch & 3 == 3)
    let mapped = try primary.map(
      PhysicalAddress(0x1_2000_0000)..<PhysicalAddress(0x1_2000_1000), for: Self.controller,
      direction: .fromDevice)
    #expect(mapped.iova == IOVA(0xd002_0000))
    #expect(try Self.entry0x20(primary) == 0x2000_0013)
    var bus = primary.makeBus()
    #expect(bus.write([1, 2, 3, 4], by: Self.controller, at: mapped.iova).fault == nil)
    primary.unmap(mapped)
    #expect(try Self.entry0x20(primary) == scratch)

    let report = CrashSimulation().finish(primary, setUp: nil)
    #expect(report.ruleHolds)
    let scratchPage = PhysicalAddress(UInt64(scratch & 0xffff_f000))
    let buffer = PhysicalAddress(0x1_2000_0000)
    #expect(Self.leftoverWrite(primary) == (cache == .off ? scratchPage : buffer))
    #expect(
      primary.memory.bytes(at: buffer, count: 4)
        == (cache == .off ? [1, 2, 3, 4] : [0xde, 0xad, 0xbe, 0xef]))
    // InvGart: the one flush there is.
    try Self.northbridges(primary).writeConfiguration(1, to: Requester("00:18.3")!, at: 0x9c)
    #expect(Self.leftoverWrite(primary) == scratchPage)
  }
}

@Suite struct ChosenNumberTests {
  @Test(arguments: TranslationMode.allCases)
  func `a number can be chosen where devices have tables, and is refused elsewhere`(
    mode: TranslationMode
  ) throws {
    let primary = try PrimaryKernel(try smallConfiguration(mode))
    // A small machine's TCE table does not reach as far as the others'.
    let number = IOVA(mode == .calgary ? 0x1c0_0000 : 0x7000_0000)
    func map() throws(MappingFailure) -> MappedBuffer {
      try primary.map(
        page: PhysicalAddress(0x800_0000), at: number, for: Device.usual[0],
        direction: .bidirectional)
    }
    guard mode != .vtd, mode != .amdvi, mode != .calgary else {
      return #expect(try map().iova == number)
    }
    #expect(throws: MappingFailure.noChoice(IOVA(0x7000_0000))) { try map() }
    #expect(primary.mapped.isEmpty && primary.events.isEmpty)
  }
}
