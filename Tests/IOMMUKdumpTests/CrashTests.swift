import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

/// The default machine: 4 GiB of RAM, crash kernel 128 MiB at 16 MiB, three devices.
func defaultConfiguration(_ mode: TranslationMode) throws -> MachineConfiguration {
  let ram = try MemoryMap.ram(byteCount: 4 << 30)
  let map = try MemoryMap(
    ram: ram, crashKernel: [PhysicalAddress(0x100_0000)..<PhysicalAddress(0x900_0000)])
  return MachineConfiguration(mode: mode, map: map)
}

@Suite struct CrashTests {
  @Test(arguments: TranslationMode.allCases)
  func `with the Rule every access reaches its own buffer`(mode: TranslationMode) throws {
    let (report, _) = try CrashSimulation().play(try defaultConfiguration(mode), applyingRule: true)
    #expect(report.counts(of: .leftover).total == 45)
    #expect(report.counts(of: .leftover)[.own] == 45)
    #expect(report.counts(of: .kdump)[.own] == 24)
    #expect(report.counts(of: .kdump).total == 24)
    #expect(report.strayByteCount == 0)
    #expect(report.ruleHolds)
    for verdict in report.verdicts where !verdict.rule.isBrokenByDesign {
      #expect(verdict.outcome == .holds || verdict.outcome == .notApplicable, "\(verdict)")
    }
  }
}

@Suite struct CrashWithoutTheRuleTests {
  @Test(arguments: [TranslationMode.nommu, .swiotlb, .gart])
  func `where devices reach memory directly nothing has to be set up`(mode: TranslationMode) throws
  {
    let (report, _) = try CrashSimulation().play(
      try defaultConfiguration(mode), applyingRule: false)
    #expect(report.setUp == nil)
    #expect(report.ruleHolds)
  }

  @Test(arguments: [TranslationMode.calgary, .vtd, .amdvi])
  func `a live IOMMU stops the kdump kernel and lets leftover DMA through`(
    mode: TranslationMode
  ) throws {
    let (report, _) = try CrashSimulation().play(
      try defaultConfiguration(mode), applyingRule: false)
    #expect(report.counts(of: .leftover)[.own] == 45)
    #expect(report.counts(of: .kdump)[.blockedRecorded] == 24)
    #expect(report.strayByteCount == 0)
    #expect(!report.ruleHolds)
    // Reason 5 for a write, 6 for a read: there is no mapping.
    if mode == .vtd {
      for access in report.accesses where access.owner == .kdump {
        let reason: VTd.FaultReason =
          access.direction == .toDevice ? .readNotPermitted : .writeNotPermitted
        #expect(access.record?.fault == .vtd(reason, isRecorded: true))
      }
    }
  }

  /// Scenario K02: a number of the crash kernel is in use by the primary kernel.
  @Test func `without the reservation kdump's I/O can end in old memory`() throws {
    let disk = Device.usual[0]
    let primary = try PrimaryKernel(try smallConfiguration(.calgary))
    // Next fit climbs into the crash kernel's numbers, 32 to 48 MiB.
    for _ in 0..<60 {
      _ = try primary.mapNewBuffer(byteCount: 1 << 20, for: disk, direction: .fromDevice)
    }
    var simulation = CrashSimulation()
    simulation.roundCount = 2
    let report = simulation.finish(primary, setUp: nil)
    let disks = report.accesses.filter { $0.owner == .kdump && $0.device == disk }
    #expect(disks.count == 4)
    #expect(disks.allSatisfy { $0.outcome == .alias })
    // The dump kernel's data went to the primary kernel's buffers, byte for byte.
    let write = try #require(disks.first { $0.direction == .fromDevice }?.record)
    let hit = try #require(write.hits.first)
    #expect(hit.physical?.byteCount == 4096)
    #expect(primary.mapped.contains { $0.target.overlaps(hit.physical!) })
  }

  @Test func `leftover DMA that ends in the crash kernel is a kill, counted in bytes`() throws {
    let nic = Device.usual[1]
    let primary = try PrimaryKernel(try smallConfiguration(.vtd))
    try primary.applyRule()
    let buffer = try primary.mapNewBuffer(byteCount: 4096, for: nic, direction: .fromDevice)
    // A damaged leaf: the NIC's buffer now names a page in the crash kernel's image.
    var leaf = PhysicalAddress(0)
    let handle = primary.machine.resolve(nic.requester, in: primary.memory)
    if case .table(.secondStage(let table)) = handle.route {
      var observer = Unobserved()
      leaf =
        table.format.walk(
          buffer.iova.rawValue, from: table.root, in: primary.memory, observer: &observer
        ).entryAddress
    }
    primary.memory.store(0x200_3003 as UInt64, at: leaf)
    let report = CrashSimulation().finish(primary, setUp: nil)
    #expect(report.counts(of: .leftover)[.kill] == 3)
    #expect(report.strayByteCount > 4000)
    #expect(!report.ruleHolds)
    #expect(
      report.verdicts.first { $0.rule == .noOtherNumber }?.findings.first?.text
        == "0xfffff000..<0x100000000 maps to 0x2003000, in the crash kernel")
  }
}

@Suite struct DMABusTests {
  private let disk = Device.usual[0]

  @Test func `a write is logged with the bytes it changed`() throws {
    let memory = try FlatMemory(byteCount: 0x10000)
    [UInt8](repeating: 7, count: 16).withUnsafeBytes {
      _ = memory.write($0, at: PhysicalAddress(0x1000))
    }
    var bus = DMABus(memory: memory)
    let record = bus.write([7, 7, 8, 8, 9], by: disk, at: IOVA(0x1000))
    #expect(
      record.hits == [
        Hit(
          iova: IOVA(0x1000)..<IOVA(0x1005),
          physical: PhysicalAddress(0x1000)..<PhysicalAddress(0x1005), changedByteCount: 3,
          fault: nil)
      ])
    #expect(memory.bytes(at: PhysicalAddress(0x1000), count: 6) == [7, 7, 8, 8, 9, 7])
    #expect(bus.log.count == 1)
  }

  @Test func `what leaves RAM reads as all ones and is cut where RAM ends`() throws {
    let memory = try FlatMemory(byteCount: 0x2000)
    var bus = DMABus(memory: memory)
    let record = bus.read(8, by: disk, at: IOVA(0x1ffc))
    #expect(record.bytesRead == [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
    #expect(record.hits.map(\.physical?.byteCount) == [4, nil])
  }

  @Test func `a fault in the second page leaves the first one written`() throws {
    let primary = try PrimaryKernel(try smallConfiguration(.calgary))
    let buffer = try primary.mapNewBuffer(byteCount: 4096, for: disk, direction: .fromDevice)
    var bus = primary.makeBus()
    let start = buffer.iova.rawValue + 4094
    let record = bus.write([1, 2, 3, 4], by: disk, at: IOVA(start))
    #expect(record.hits.map(\.changedByteCount) == [2, 0])
    #expect(record.fault == .calgary(.emptyEntry))
    #expect(
      primary.memory.bytes(
        at: PhysicalAddress(buffer.target.upperBound.rawValue - 2), count: 2) == [1, 2])
  }
}
