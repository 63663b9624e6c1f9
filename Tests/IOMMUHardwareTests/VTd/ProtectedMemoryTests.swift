import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@Suite struct ProtectedMemoryTests {
  /// Low region 20_0000 to 3f_ffff, high region 1_0000_0000 to 1_001f_ffff.
  func bench() throws -> Bench {
    let bench = try Bench(.unit2008)
    bench.write(0x20_0000, 0x68)
    bench.write(0x20_0000, 0x6c)
    bench.write(0x1_0000_0000, 0x70, 8)
    bench.write(0x1_0000_0000, 0x78, 8)
    return bench
  }

  @Test func `PRS follows EPM`() throws {
    let bench = try bench()
    bench.write(1 << 31, Offset.pmen)
    #expect(bench.read(Offset.pmen) == 0x8000_0001)
    bench.write(0, Offset.pmen)
    #expect(bench.read(Offset.pmen) == 0)
  }

  @Test func `DMA into a region is dropped and not recorded`() throws {
    let bench = try bench()
    #expect(bench.translate(0x20_0000).address == 0x20_0000)
    bench.write(1 << 31, Offset.pmen)
    for address in [0x20_0000, 0x3f_ffff, 0x1_0000_0000, 0x1_001f_ffff] as [UInt64] {
      #expect(bench.translate(address) == .fault(.protectedMemory), "\(address)")
      #expect(bench.translate(address, .write) == .fault(.protectedMemory))
    }
    for address in [0x1f_ffff, 0x40_0000, 0xffff_ffff, 0x1_0020_0000] as [UInt64] {
      #expect(bench.translate(address).address == address)
    }
    #expect(bench.read(Offset.fsts) == 0)
  }

  @Test func `a request that runs into a region is cut there`() throws {
    let bench = try bench()
    bench.write(1 << 31, Offset.pmen)
    let answer = bench.port.translate(
      VTd.Request(Bench.nic, IOVA(0x1f_fff0)), byteCount: 4096)
    #expect(answer == .mapped(PhysicalAddress(0x1f_fff0), byteCount: 16))
  }

  @Test func `remapped requests are checked where they end, tables are not`() throws {
    let bench = try bench()
    bench.storeLegacyTables()
    // A table of three levels, for a unit without large pages.
    bench.store(0x11_2001, 0x10_1200)
    bench.store(0x0501, 0x10_1208)
    bench.start(rootTableAddress: 0x10_0000)
    // The tables lie in the first 2 MiB.
    bench.write(0, 0x68)
    bench.write(0x20_0000, 0x6c)
    bench.write(1 << 31, Offset.pmen)
    #expect(bench.translate() == .fault(.protectedMemory))
    bench.store(0x40_0003, 0x11_4000 + 325 * 8)
    bench.write(0x9000_0000_0000_0000, 0x108, 8)
    #expect(bench.translate().address == 0x40_0678)
  }

  @Test func `a limit below the base protects nothing`() throws {
    let bench = try bench()
    bench.write(0, 0x6c)
    bench.write(1 << 31, Offset.pmen)
    #expect(bench.translate(0x20_0000).address == 0x20_0000)
    #expect(bench.translate(0x1_0000_0000) == .fault(.protectedMemory))
  }
}
