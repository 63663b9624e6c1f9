import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// GCMD_REG and GSTS_REG, and invalidation by register.
@Suite struct CommandTests {
  @Test func `each command shows in GSTS, and GCMD reads as zero`() throws {
    let bench = try Bench(.currentServer)
    for (bit, status) in [(31, 31), (30, 30), (26, 26), (25, 25), (24, 24), (23, 23)] {
      bench.unit.reset()
      bench.command(bit)
      #expect(bench.read(Offset.gsts) == 1 << UInt64(status), "\(bit)")
      #expect(bench.read(Offset.gcmd) == 0)
      bench.command(bit, false)
      // The one-shots have no way back.
      let stays = bit == 30 || bit == 24
      #expect(bench.read(Offset.gsts) == (stays ? 1 << UInt64(status) : 0))
    }
  }

  @Test func `a command for what the unit lacks does nothing`() throws {
    let bench = try Bench(.unit2008)
    for bit in [26, 25, 24, 23, 27, 29, 28] { bench.command(bit) }
    #expect(bench.read(Offset.gsts) == 0)
  }

  @Test func `a write-buffer flush is done when software looks`() throws {
    var configuration = RemappingUnitConfiguration.unit2008
    configuration.capability.rawValue |= 1 << 4
    let bench = try Bench(configuration)
    bench.command(27)
    #expect(bench.read(Offset.gsts) == 0)
  }

  @Test func `the root table is the one of the last SRTP`() throws {
    let bench = try Bench.legacy()
    bench.write(0x15_0000, Offset.rtaddr, 8)
    #expect(bench.read(Offset.rtaddr, 8) == 0x15_0000)
    #expect(bench.translate().address == 0x20_0678)
    bench.command(30)
    #expect(bench.translate().reason == 1)
  }

  @Test func `a unit that is off passes everything`() throws {
    let bench = try Bench.legacy()
    bench.command(31, false)
    #expect(bench.translate(0xfee0_0000).address == 0xfee0_0000)
    #expect(bench.translate(~0).address == ~0)
    bench.command(31)
    #expect(bench.translate().address == 0x20_0678)
  }

  @Test func `ESRTPS: taking over a root table drops what is cached`() throws {
    for hasESRTPS in [false, true] {
      var configuration = RemappingUnitConfiguration.qemu
      configuration.caches = .everything
      configuration.capability.rawValue |= hasESRTPS ? 1 << 63 : 0
      let bench = try Bench(configuration)
      bench.storeLegacyTables()
      bench.start(rootTableAddress: 0x10_0000)
      #expect(bench.translate().address == 0x20_0678)
      bench.store(0x21_0003, 0x11_4000 + 325 * 8)
      bench.command(30)
      #expect(bench.translate().address == (hasESRTPS ? 0x21_0678 : 0x20_0678))
    }
  }

  @Test func `switching translation off drops everything on a scalable unit only`() throws {
    let legacy = try Bench.legacy(.everything)
    let scalable = try Bench.scalable(.everything)
    for (bench, address) in [(legacy, 0x20_0678), (scalable, 0x21_0678)] as [(Bench, UInt64)] {
      #expect(bench.translate().address == 0x20_0678)
      bench.store(0x21_0003, 0x11_4000 + 325 * 8)
      bench.command(31, false)
      bench.command(31)
      #expect(bench.translate().address == address)
    }
  }

  // MARK: Invalidation by register

  @Test func `G7 to G10: a context command is done as asked`() throws {
    let bench = try Bench.legacy()
    for (request, answer) in [
      (0xa000_0000_0000_0000, 0x2800_0000_0000_0000),
      (0xc000_0000_0000_0005, 0x5000_0000_0000_0005),
      (0xe000_0000_0020_0005, 0x7800_0000_0000_0005), (0x8000_0000_0000_0000, 0),
    ] as [(UInt64, UInt64)] {
      bench.write(request, Offset.ccmd, 8)
      #expect(bench.read(Offset.ccmd, 8) == answer)
    }
    // The low half alone asks for nothing.
    bench.write(5, Offset.ccmd, 4)
    #expect(bench.read(Offset.ccmd, 8) & 1 << 63 == 0)
  }

  @Test func `G11 to G13: an IOTLB command is done as asked`() throws {
    let bench = try Bench.legacy()
    bench.write(0x1234_5040, 0xf0, 8)
    bench.write(0xb000_0005_0000_0000, 0xf8, 8)
    #expect(bench.read(0xf8, 8) == 0x3600_0005_0000_0000)
    bench.write(0x9003_0000_0000_0000, 0xf8, 8)
    #expect(bench.read(0xf8, 8) == 0x1203_0000_0000_0000)
    bench.write(0xa000_0005_0000_0000, 0xf8, 8)
    #expect(bench.read(0xf8, 8) == 0x2400_0005_0000_0000)
  }

  @Test func `a range larger than MAMV and granularity 0 are refused`() throws {
    let bench = try Bench.legacy()
    for mask in [19, 63] as [UInt64] {
      bench.write(mask, 0xf0, 8)
      bench.write(0xb000_0005_0000_0000, 0xf8, 8)
      #expect(bench.read(0xf8, 8) == 0x3000_0005_0000_0000)
    }
    bench.write(18, 0xf0, 8)
    bench.write(0xb000_0005_0000_0000, 0xf8, 8)
    #expect(bench.read(0xf8, 8) == 0x3600_0005_0000_0000)
    bench.write(0x8000_0000_0000_0000, 0xf8, 8)
    #expect(bench.read(0xf8, 8) == 0)
  }

  @Test func `without PSI a page-selective command takes the whole domain`() throws {
    var configuration = RemappingUnitConfiguration.unit2008
    configuration.capability.rawValue &= ~(1 << 39 | 0x3f << 48)
    let bench = try Bench(configuration)
    bench.write(0xb000_0005_0000_0000, 0x108, 8)
    #expect(bench.read(0x108, 8) == 0x3400_0005_0000_0000)
  }

  @Test func `the registers do nothing under scalable tables, with a queue, or in version 6`()
    throws
  {
    let scalable = try Bench.scalable()
    scalable.write(0xa000_0000_0000_0000, Offset.ccmd, 8)
    #expect(scalable.read(Offset.ccmd, 8) == 0x2000_0000_0000_0000)
    scalable.write(0x9000_0000_0000_0000, 0x508, 8)
    #expect(scalable.read(0x508, 8) == 0x1000_0000_0000_0000)
    let version6 = try Bench(.currentServer)
    version6.write(0xa000_0000_0000_0000, Offset.ccmd, 8)
    #expect(version6.read(Offset.ccmd, 8) == 0x2000_0000_0000_0000)
    let queued = try Bench.legacy()
    queued.command(26)
    queued.write(0xa000_0000_0000_0000, Offset.ccmd, 8)
    #expect(queued.read(Offset.ccmd, 8) == 0x2000_0000_0000_0000)
  }
}
