import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// The invalidation queue: descriptors as bytes, errors, recovery.
@Suite struct QueueTests {
  /// QEMU's unit with a queue of 256 descriptors of 128 bits.
  func narrow(_ caches: CacheConfiguration = .none) throws -> Bench {
    let bench = try Bench.legacy(caches)
    bench.write(0x40_0000, Offset.iqa, 8)
    bench.command(26)
    return bench
  }

  @Test func `V38: a wait stores its word, at the head of the queue`() throws {
    let bench = try narrow()
    bench.queue([0x11, 0], [0xd2, 0], [0xdead_beef_0000_0065, 0x30_0000])
    #expect(bench.memory.doubleword(at: PhysicalAddress(0x30_0000)) == 0xdead_beef)
    #expect(bench.memory.doubleword(at: PhysicalAddress(0x30_0004)) == 0)
    #expect(bench.read(Offset.iqh, 8) == 0x30)
    #expect(bench.read(Offset.fsts) == 0 && bench.read(Offset.ics) == 0)
  }

  @Test func `V39: a wait interrupts once until software has seen it`() throws {
    let bench = try narrow()
    bench.write(0x41, 0xa4)
    bench.write(0xfee0_1000, 0xa8)
    bench.write(0x2, 0xac)
    bench.write(0, Offset.iectl)
    bench.queue([0x15, 0])
    #expect(
      bench.messages.with { $0 } == [InterruptMessage(address: 0x2_fee0_1000, data: 0x41)])
    #expect(bench.read(Offset.ics) == 1)
    bench.queue([0x15, 0])
    #expect(bench.messages.with { $0.count } == 1)
    bench.write(1, Offset.ics)
    bench.queue([0x15, 0])
    #expect(bench.messages.with { $0.count } == 2)
  }

  @Test func `a masked completion waits, and goes out when it is unmasked`() throws {
    let bench = try narrow()
    bench.queue([0x35 | 7 << 32, 0x30_0000])
    #expect(bench.memory.doubleword(at: PhysicalAddress(0x30_0000)) == 7)
    #expect(bench.read(Offset.iectl) == 0xc000_0000 && bench.messages.with { $0.isEmpty })
    bench.write(0, Offset.iectl)
    #expect(bench.read(Offset.iectl) == 0 && bench.messages.with { $0.count } == 1)
    // Acknowledged before it was unmasked: forgotten.
    bench.write(1, Offset.ics)
    bench.write(1 << 31, Offset.iectl)
    bench.queue([0x15, 0])
    #expect(bench.read(Offset.iectl) == 0xc000_0000)
    bench.write(1, Offset.ics)
    #expect(bench.read(Offset.iectl) == 0x8000_0000)
    bench.write(0, Offset.iectl)
    #expect(bench.messages.with { $0.count } == 1)
  }

  @Test func `V40: a wait that is only a fence is legal`() throws {
    let bench = try narrow()
    bench.queue([0x45, 0], [0x5, 0])
    #expect(bench.read(Offset.iqh, 8) == 0x20 && bench.read(Offset.fsts) == 0)
  }

  @Test func `a status word where no memory answers is lost, one above the width comes down`()
    throws
  {
    let bench = try narrow()
    bench.queue([0x25, 0x7000_0000], [0x25 | 9 << 32, 1 << 60 | 0x30_0008])
    #expect(bench.read(Offset.iqh, 8) == 0x20)
    #expect(bench.memory.doubleword(at: PhysicalAddress(0x30_0008)) == 9)
  }

  @Test func `V28 to V37: a narrow queue under legacy tables takes types 1 to 5`() throws {
    let bench = try narrow()
    for descriptor in [
      [0x11, 0], [0x5_0021, 0], [0x3_0020_0005_0031, 0], [0xd2, 0], [0x1234_0022, 0],
      [0x5_0032, 0x1234_5040], [0x5_0032, 0x4000_0012], [0x04, 0], [0x7_1000_0014, 0],
    ] as [[UInt64]] {
      bench.queue(descriptor)
      #expect(bench.read(Offset.fsts) == 0, "\(descriptor)")
    }
    #expect(bench.read(Offset.iqh, 8) == 0x90)
  }

  @Test func `V41 to V47: a wide queue under scalable tables takes those up to 9`() throws {
    let bench = try Bench.scalable()
    bench.unit.attach(Device(), to: Requester("03:00.0")!)
    for descriptor in [
      [0x1_0000_0025, 0x30_0000], [0x1_2345_0001_0017, 0], [0x37, 0], [0x5_0001_0026, 0],
      [0x5_0001_0036, 0x7fff_ffff_e001], [0x5_0300_0048, 0x1000],
      [0x5_0300_1019, 0xaa8], [0x0300_0000_0003, 0x7fff_ffff_ffff_f001], [0x11, 0], [0xd2, 0],
      [0x04, 0], [0x7, 0],
    ] as [[UInt64]] {
      bench.queue(descriptor)
      #expect(bench.read(Offset.fsts) == 0, "\(descriptor)")
    }
    #expect(bench.read(Offset.iqh, 8) == 12 * 32)
  }

  // MARK: Errors

  struct Bad: Sendable, CustomTestStringConvertible {
    var what: String
    var descriptor: [UInt64]
    var error: UInt64
    var isScalable = false
    var testDescription: String { what }
  }

  static let bad = [
    Bad(what: "type 0", descriptor: [0, 0], error: 3),
    Bad(what: "type Bh", descriptor: [0xb, 0], error: 3),
    Bad(what: "type 11h", descriptor: [0x211, 0], error: 3),
    Bad(what: "device TLB without DT", descriptor: [0x0300_0000_0003, 0], error: 3),
    Bad(what: "PASID cache in a narrow queue", descriptor: [0x37, 0], error: 3),
    Bad(what: "PASID IOTLB in a narrow queue", descriptor: [0x26, 0], error: 3),
    Bad(what: "context granularity 0", descriptor: [0x01, 0], error: 4),
    Bad(what: "IOTLB granularity 0", descriptor: [0x02, 0], error: 4),
    Bad(what: "context, bit 6", descriptor: [0x51, 0], error: 4),
    Bad(what: "context, high half", descriptor: [0x11, 1], error: 4),
    Bad(what: "IOTLB, bit 32", descriptor: [0x1_0000_0012, 0], error: 4),
    Bad(what: "AM 19", descriptor: [0x5_0032, 0x4000_0013], error: 4),
    Bad(what: "interrupt entries, bit 5", descriptor: [0x24, 0], error: 4),
    Bad(what: "wait, PD without PDS", descriptor: [0x85, 0], error: 4),
    Bad(what: "wait, status address bit 0", descriptor: [0x25, 0x30_0001], error: 4),
    Bad(what: "wide: upper half", descriptor: [0x11, 0, 1, 0], error: 4, isScalable: true),
    Bad(what: "wide: top word", descriptor: [0x11, 0, 0, 1], error: 4, isScalable: true),
    Bad(what: "PASID cache granularity 2", descriptor: [0x27, 0], error: 4, isScalable: true),
    Bad(what: "PASID IOTLB granularity 0", descriptor: [0x06, 0], error: 4, isScalable: true),
    Bad(what: "PASID IOTLB granularity 1", descriptor: [0x16, 0], error: 4, isScalable: true),
    Bad(what: "PASID IOTLB AM 46", descriptor: [0x36, 46], error: 4, isScalable: true),
    Bad(what: "host permissions", descriptor: [0x1a, 0], error: 3, isScalable: true),
    Bad(what: "PASID device TLB, bit 65", descriptor: [0x8, 2], error: 4, isScalable: true),
    Bad(what: "page response, bit 5", descriptor: [0x29, 0], error: 4, isScalable: true),
  ]

  @Test(arguments: bad)
  func `a bad descriptor stops the queue, and a repaired one lets it go on`(bad: Bad) throws {
    let bench = bad.isScalable ? try Bench.scalable() : try narrow()
    let width: UInt64 = bad.isScalable ? 32 : 16
    bench.queue([0x11, 0], bad.descriptor, [0x25 | 1 << 32, 0x30_0000])
    #expect(bench.read(Offset.fsts) == 0x10)
    #expect(bench.read(Offset.iqercd, 8) == bad.error)
    #expect(bench.read(Offset.iqh, 8) == width)
    #expect(bench.read(Offset.fectl) == 0xc000_0000)
    // A tail write does not fetch while IQE is set.
    bench.write(bench.read(Offset.iqt, 8), Offset.iqt, 8)
    #expect(bench.read(Offset.iqh, 8) == width)
    // Software puts a wait in its place and clears the error: that alone resumes.
    for word in 0..<(width / 8) {
      bench.store(word == 0 ? 0x45 : 0, 0x40_0000 + width + 8 * word)
    }
    bench.write(0x10, Offset.fsts)
    #expect(bench.read(Offset.iqh, 8) == 3 * width)
    #expect(bench.memory.doubleword(at: PhysicalAddress(0x30_0000)) == 1)
    #expect(bench.read(Offset.fsts) == 0 && bench.read(Offset.fectl) == 0x8000_0000)
  }

  @Test func `IQEI 1: a tail beyond the ring`() throws {
    let bench = try narrow()
    bench.write(0x1000, Offset.iqt, 8)
    #expect(bench.read(Offset.iqercd, 8) == 1 && bench.read(Offset.fsts) == 0x10)
    #expect(bench.read(Offset.iqh, 8) == 0)
  }

  @Test func `IQEI 2: a queue where no memory answers`() throws {
    let bench = try Bench.legacy()
    bench.write(0x7000_0000, Offset.iqa, 8)
    bench.command(26)
    bench.write(0x10, Offset.iqt, 8)
    #expect(bench.read(Offset.iqercd, 8) == 2)
  }

  @Test func `IQEI 5: a narrow queue under scalable tables, a wide one on a legacy unit`() throws {
    let scalable = try Bench(.currentServer)
    scalable.start(rootTableAddress: 0x10_0400, queue: 0x40_0000)
    scalable.write(0x10, Offset.iqt, 8)
    #expect(scalable.read(Offset.iqercd, 8) == 5)
    let legacy = try Bench.legacy()
    legacy.write(0x40_0800, Offset.iqa, 8)
    legacy.command(26)
    legacy.write(0x20, Offset.iqt, 8)
    #expect(legacy.read(Offset.iqercd, 8) == 5)
  }

  @Test func `a unit may be told to take a narrow queue under scalable tables`() throws {
    var configuration = RemappingUnitConfiguration.currentServer
    configuration.acceptsNarrowQueueInScalableMode = true
    let bench = try Bench(configuration)
    bench.start(rootTableAddress: 0x10_0400, queue: 0x40_0000)
    bench.queue([0x11, 0])
    #expect(bench.read(Offset.iqh, 8) == 0x10 && bench.read(Offset.fsts) == 0)
  }

  @Test func `IQEI 6: a tail in the middle of a wide descriptor`() throws {
    let bench = try Bench.scalable()
    bench.write(0x30, Offset.iqt, 8)
    #expect(bench.read(Offset.iqercd, 8) == 6)
  }

  @Test func `IQEI 7: tables of a mode that the unit does not have`() throws {
    for root in [0x10_0800, 0x10_0c00, 0x10_0400] as [UInt64] {
      let bench = try Bench(.qemu)
      bench.start(rootTableAddress: root, queue: 0x40_0000)
      bench.write(0x10, Offset.iqt, 8)
      #expect(bench.read(Offset.iqercd, 8) == 7)
    }
  }

  @Test func `the ring comes round, and stops where software's tail is`() throws {
    let bench = try narrow()
    for round in 0..<600 {
      bench.queue([0x25 | UInt64(round) << 32, 0x30_0000])
      #expect(bench.memory.doubleword(at: PhysicalAddress(0x30_0000)) == UInt32(round))
    }
    #expect(bench.read(Offset.iqh, 8) == 600 % 256 * 16)
    // A full ring: 255 descriptors at once.
    let tail = bench.read(Offset.iqt, 8)
    for place in stride(from: UInt64(0), to: 4096, by: 16) {
      bench.store(0x11, 0x40_0000 + place)
      bench.store(0, 0x40_0008 + place)
    }
    bench.write((tail + 4080) % 4096, Offset.iqt, 8)
    #expect(bench.read(Offset.iqh, 8) == (tail + 4080) % 4096)
  }

  @Test func `switching the queue off takes the head to its start`() throws {
    let bench = try narrow()
    bench.queue([0x11, 0], [0x45, 0])
    bench.command(26, false)
    #expect(bench.read(Offset.iqh, 8) == 0 && bench.read(Offset.iqt, 8) == 0x20)
    bench.write(0, Offset.iqt, 8)
    bench.command(26)
    #expect(bench.read(Offset.iqh, 8) == 0 && bench.read(Offset.fsts) == 0)
  }

  // MARK: Devices

  @Test func `V35 and V46: a device is told what to drop`() throws {
    let bench = try Bench.scalable()
    let device = Device()
    bench.unit.attach(device, to: Requester("03:00.0")!)
    bench.queue([0x0300_0000_0003, 0x7fff_ffff_ffff_f001], [0x5_0300_0048, 0x1000])
    // Global in PASID: GI.
    bench.queue([0x5_0300_0048, 0x1801])
    let told = device.told.with { $0 }
    #expect(told.map(\.1) == [.withoutPASID, .pasid(5), .allPASIDs])
    #expect(told[0].0.sizeLog2 == 64)
    #expect(told[1].0.address == IOVA(0x1000) && told[1].0.sizeLog2 == 12)
    #expect(told[2].0.address == IOVA(0) && told[2].0.sizeLog2 == 14)
  }

  @Test func `a device that does not answer stops the queue until software clears ITE`() throws {
    let bench = try Bench.scalable()
    bench.queue([0x0300_0000_0003, 0], [0x25 | 1 << 32, 0x30_0000])
    #expect(bench.read(Offset.fsts) == 0x40)
    #expect(bench.read(Offset.iqercd, 8) == 0x0300_0000_0000)
    #expect(bench.memory.doubleword(at: PhysicalAddress(0x30_0000)) == 0)
    bench.write(bench.read(Offset.iqt, 8), Offset.iqt, 8)
    #expect(bench.read(Offset.iqh, 8) == 0x20)
    bench.write(0x40, Offset.fsts)
    #expect(bench.memory.doubleword(at: PhysicalAddress(0x30_0000)) == 1)
  }

  @Test func `a device that answers wrongly is told of and nothing stops`() throws {
    let bench = try Bench.scalable()
    let device = Device(.completedWrongly)
    bench.unit.attach(device, to: Requester("03:00.0")!)
    bench.queue([0x0300_0000_0003, 0], [0x25 | 1 << 32, 0x30_0000])
    #expect(bench.read(Offset.fsts) == 0x20)
    #expect(bench.read(Offset.iqercd, 8) == 0x0300_0000_0000_0000)
    #expect(bench.memory.doubleword(at: PhysicalAddress(0x30_0000)) == 1)
  }
}

/// A device TLB that answers as it is told.
final class Device: DeviceTLB {
  let result: DeviceTLBInvalidationResult
  let told = Shared<[(VTd.DeviceTLBRange, DeviceTLBTarget)]>([])
  let responses = Shared<[PageGroupResponse]>([])

  init(_ result: DeviceTLBInvalidationResult = .completed) { self.result = result }

  func invalidate(
    _ range: VTd.DeviceTLBRange, of target: DeviceTLBTarget
  ) -> DeviceTLBInvalidationResult {
    told.with { $0.append((range, target)) }
    return result
  }

  func receive(_ response: PageGroupResponse) { responses.with { $0.append(response) } }
}
