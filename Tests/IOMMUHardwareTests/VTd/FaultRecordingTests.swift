import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// FSTS, FRCD, FECTL: what faults leave behind.
@Suite struct FaultRecordingTests {
  /// QEMU's unit with four records and no compression.
  func fourRecords() throws -> Bench {
    var configuration = RemappingUnitConfiguration.qemu
    configuration.capability.rawValue |= 3 << 40
    configuration.compressesFaults = false
    let bench = try Bench(configuration)
    bench.start(rootTableAddress: 0x10_0000)
    return bench
  }

  @Test func `V50: a read without a root entry`() throws {
    let bench = try Bench.legacy()
    bench.store(0, 0x10_0000)
    #expect(bench.translate().reason == 1)
    #expect(bench.record == (0x1234_5000, 0xc000_0001_0000_0020))
    #expect(bench.read(Offset.fsts) == 2)
  }

  @Test func `V51: a write without permission`() throws {
    let bench = try Bench.legacy()
    bench.store(0x20_0001, 0x11_4000 + 325 * 8)
    #expect(bench.translate(Bench.iova, .write).reason == 5)
    #expect(bench.record == (0x1234_5000, 0x8000_0005_0000_0020))
  }

  @Test func `a fault of a request with PASID says which`() throws {
    let bench = try Bench.scalable()
    bench.store(0x20_0001, 0x11_4000 + 325 * 8)
    let answer = bench.port.translate(
      VTd.Request(Bench.nic, IOVA(Bench.iova), .atomic, pasid: PASID(5)))
    #expect(answer.reason == 0x85)
    // T1=T2=1, PP, PV=5.
    #expect(bench.record.1 == 0xc000_0585_9000_0020)
    bench.clearFaults()
    #expect(bench.translate(Bench.iova, .write).reason == 0x85)
    #expect(bench.record.1 == 0x8000_0085_0000_0020)
  }

  @Test func `address bits above the widest table are not recorded`() throws {
    let bench = try Bench.legacy()
    #expect(bench.translate(0xfffe_0000_1234_5678).reason == 4)
    #expect(bench.record.0 == 0x1234_5000)
  }

  @Test func `FPD blocks in silence`() throws {
    let bench = try Bench.legacy()
    bench.store(0x11_1003, 0x10_1200)
    #expect(bench.translate(0).reason == 6)
    bench.store(2, 0x10_1200)
    #expect(bench.translate().reason == 2)
    #expect(bench.record == (0, 0) && bench.read(Offset.fsts) == 0)
  }

  @Test func `records fill in turn, then faults overflow`() throws {
    let bench = try fourRecords()
    for device in 0..<5 as Range<UInt16> {
      _ = bench.translate(0x1000, from: Requester(rawValue: device))
      #expect(bench.read(Offset.fsts) == (device < 4 ? 2 : 3), "\(device)")
    }
    for index in 0..<4 as Range<UInt64> {
      #expect(bench.read(0x220 + index * 16 + 8, 8) & 0xffff == index)
      #expect(bench.read(0x220 + index * 16 + 12) >> 31 == 1)
    }
    // Software clears the records: PPF goes with the last; PFO stays until it is cleared itself.
    for index in 0..<4 as Range<UInt64> {
      #expect(bench.read(Offset.fsts) == 3)
      bench.write(1 << 31, 0x220 + index * 16 + 12)
    }
    #expect(bench.read(Offset.fsts) == 1)
    _ = bench.translate(0x1000)
    #expect(bench.read(Offset.fsts) == 1)
    bench.write(1, Offset.fsts)
    #expect(bench.read(Offset.fsts) == 0)
    _ = bench.translate(0x1000)
    #expect(bench.read(Offset.fsts) == 2)
  }

  @Test func `FRI names the first record, and logging goes on behind the last`() throws {
    let bench = try fourRecords()
    _ = bench.translate(0x1000)
    bench.write(1 << 31, 0x220 + 12)
    _ = bench.translate(0x2000)
    _ = bench.translate(0x3000)
    #expect(bench.read(Offset.fsts) == 0x102)
    #expect(bench.read(0x230, 8) == 0x2000 && bench.read(0x240, 8) == 0x3000)
    // F of the middle one cleared: PPF is what all F bits say together.
    bench.write(1 << 31, 0x230 + 12)
    #expect(bench.read(Offset.fsts) & 2 == 2)
    bench.write(1 << 31, 0x240 + 12)
    #expect(bench.read(Offset.fsts) & 2 == 0)
  }

  @Test func `the record index starts anew when the unit is off`() throws {
    let bench = try fourRecords()
    _ = bench.translate(0x1000)
    bench.write(1 << 31, 0x220 + 12)
    bench.command(31, false)
    bench.command(31)
    _ = bench.translate(0x2000)
    #expect(bench.read(0x220, 8) == 0x2000)
  }

  @Test func `a compressing unit keeps one record of a requester`() throws {
    var configuration = RemappingUnitConfiguration.qemu
    configuration.capability.rawValue |= 3 << 40
    let bench = try Bench(configuration)
    bench.start(rootTableAddress: 0x10_0000)
    _ = bench.translate(0x1000)
    _ = bench.translate(0x2000)
    _ = bench.translate(0x3000, from: Requester(rawValue: 0x28))
    #expect(bench.read(0x220, 8) == 0x1000 && bench.read(0x230, 8) == 0x3000)
    #expect(bench.read(0x240 + 12) == 0)
  }

  @Test func `writing F as zero, or any other bit, clears nothing`() throws {
    let bench = try Bench.legacy()
    bench.store(0, 0x10_0000)
    _ = bench.translate()
    bench.write(0x7fff_ffff, 0x220 + 12)
    bench.write(~0, 0x220, 8)
    bench.write(~0, 0x228, 4)
    bench.write(0xff02, Offset.fsts)
    // V50, as it was recorded.
    #expect(bench.record == (0x1234_5000, 0xc000_0001_0000_0020))
    #expect(bench.read(Offset.fsts) == 2)
  }

  // MARK: Events

  @Test func `a fault event is sent once while its status lasts`() throws {
    let bench = try fourRecords()
    bench.write(0x42, 0x3c)
    bench.write(0xfee0_2000, 0x40)
    bench.write(0, Offset.fectl)
    _ = bench.translate(0x1000)
    #expect(bench.messages.with { $0 } == [InterruptMessage(address: 0xfee0_2000, data: 0x42)])
    _ = bench.translate(0x2000)
    #expect(bench.messages.with { $0.count } == 1)
    bench.clearFaults()
    _ = bench.translate(0x3000)
    #expect(bench.messages.with { $0.count } == 2)
    #expect(bench.read(Offset.fectl) == 0)
  }

  @Test func `a masked event is pending until it is unmasked or settled`() throws {
    let bench = try fourRecords()
    _ = bench.translate(0x1000)
    #expect(bench.read(Offset.fectl) == 0xc000_0000)
    // IP is the hardware's.
    bench.write(0x8000_0000, Offset.fectl)
    #expect(bench.read(Offset.fectl) == 0xc000_0000)
    bench.write(0, Offset.fectl)
    #expect(bench.messages.with { $0.count } == 1)
    bench.write(1 << 31, Offset.fectl)
    bench.clearFaults()
    _ = bench.translate(0x1000)
    #expect(bench.read(Offset.fectl) == 0xc000_0000)
    bench.clearFaults()
    #expect(bench.read(Offset.fectl) == 0x8000_0000)
    bench.write(0, Offset.fectl)
    #expect(bench.messages.with { $0.count } == 1)
  }

  @Test func `an overflow alone raises no event`() throws {
    let bench = try Bench.legacy()
    bench.store(0, 0x10_0000)
    _ = bench.translate()
    bench.write(0, Offset.fectl)
    #expect(bench.messages.with { $0.count } == 1)
    _ = bench.translate(0x1000, from: Requester(rawValue: 0x28))
    #expect(bench.read(Offset.fsts) == 3 && bench.messages.with { $0.count } == 1)
  }
}
