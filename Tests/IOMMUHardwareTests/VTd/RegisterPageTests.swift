import IOMMUFormats
import IOMMUHardware
import Testing

@Suite struct RegisterPageTests {
  @Test func `a unit says what it is`() throws {
    let bench = try Bench(.qemu)
    #expect(bench.read(0x00) == 0x10)
    #expect(bench.read(0x08, 8) == 0x00d2_008c_222f_0606)
    #expect(bench.read(0x0c) == 0x00d2_008c)
    #expect(bench.read(0x10, 8) == 0xf0_0f4a)
    #expect(bench.unit.windowByteCount == 4096)
  }

  @Test func `after a reset events are masked and all else is zero`() throws {
    let bench = try Bench(.currentServer)
    for offset in stride(from: UInt64(0x18), to: bench.unit.windowByteCount, by: 4) {
      let isEventControl = offset == 0x38 || offset == 0xa0 || offset == 0xe0
      #expect(bench.read(offset) == (isEventControl ? 0x8000_0000 : 0), "\(offset)")
    }
  }

  /// Offset, width, and what reads back of all ones.
  static let writable: [(offset: UInt64, width: Int, bits: UInt64)] = [
    (0x20, 8, 0xffff_ffff_ffff_fc80), (0x3c, 4, 0xffff), (0x40, 4, 0xffff_fffc),
    (0x44, 4, 0xffff_ffff), (0x68, 4, 0xffe0_0000), (0x6c, 4, 0xffe0_0000),
    (0x70, 8, 0xffff_ffff_ffe0_0000), (0x78, 8, 0xffff_ffff_ffe0_0000),
    (0x90, 8, 0xffff_ffff_ffff_f807), (0xa4, 4, 0xffff), (0xa8, 4, 0xffff_fffc),
    (0xac, 4, 0xffff_ffff), (0xb8, 8, 0xffff_ffff_ffff_f80f), (0xc0, 8, 0x7_ffe0),
    (0xc8, 8, 0x7_ffe0), (0xd0, 8, 0xffff_ffff_ffff_f007), (0xe4, 4, 0xffff),
    (0xe8, 4, 0xffff_fffc), (0xec, 4, 0xffff_ffff), (0x108, 8, 0xcff), (0x120, 8, ~0),
    (0x170, 8, ~0), (0x180, 8, 0xffff_ffff_ffff_f0ff), (0x188, 8, 0xffff_ffff_ffff_f800),
  ]

  @Test(arguments: writable)
  func `a register keeps the bits it has`(register: (offset: UInt64, width: Int, bits: UInt64))
    throws
  {
    let bench = try Bench(.currentServer)
    bench.write(~0, register.offset, register.width)
    #expect(bench.read(register.offset, register.width) == register.bits)
    bench.write(0, register.offset, register.width)
    #expect(bench.read(register.offset, register.width) == 0)
    bench.write(~0, register.offset, 4)
    #expect(bench.read(register.offset, 4) == register.bits & 0xffff_ffff)
  }

  @Test(arguments: [0x00, 0x08, 0x10, 0x1c, 0x80, 0xb0, 0x100])
  func `what hardware says cannot be written`(offset: UInt64) throws {
    let bench = try Bench(.currentServer)
    let before = bench.read(offset)
    bench.write(~before, offset)
    #expect(bench.read(offset) == before)
  }

  @Test func `a unit without a feature has no registers for it`() throws {
    let bench = try Bench(.unit2008)
    for offset in [0x88, 0x90, 0x9c, 0xa0, 0xb8, 0xd0, 0xe0, 0x108] as [UInt64] {
      bench.write(~0, offset)
      #expect(bench.read(offset) == 0, "\(offset)")
    }
    // Protected memory it has.
    bench.write(~0, 0x68)
    #expect(bench.read(0x68) == 0xffe0_0000)
  }

  @Test func `only aligned doublewords and quadwords reach a register`() throws {
    let bench = try Bench(.qemu)
    bench.write(0x1234, 0x3c)
    for width in [1, 2, 3, 5, 16, 0, -1] { #expect(bench.read(0x3c, width) == 0) }
    #expect(bench.read(0x3e, 4) == 0)
    #expect(bench.read(0x3c, 8) == 0)
    bench.write(0x55, 0x3c, 1)
    bench.write(0x5555, 0x3e, 2)
    bench.write(0x5555_5555, 0x3a, 4)
    bench.write(0x5555_5555_5555_5555, 0x3c, 8)
    #expect(bench.read(0x3c) == 0x1234)
    // Two registers of 32 bits side by side take a quadword.
    bench.write(0xaaaa_bbbb_cccc_dddc, 0x40, 8)
    #expect(bench.read(0x40) == 0xcccc_dddc && bench.read(0x44) == 0xaaaa_bbbb)
  }

  @Test func `outside the window there is nothing`() throws {
    let bench = try Bench(.qemu)
    for offset in [4096, 1 << 20, 1 << 63, ~7] as [UInt64] {
      bench.write(~0, offset, 8)
      #expect(bench.read(offset, 8) == 0)
    }
  }

  @Test func `CAP and ECAP place fault records and invalidation registers`() throws {
    let bench = try Bench(.currentServer)
    // FRO 400h: F is there but not set; IRO 500h: IVA cannot be read.
    bench.write(~0, 0x500, 8)
    #expect(bench.read(0x500, 8) == 0)
    bench.write(0x0003_1234_0000_0000, 0x508, 8)
    #expect(bench.read(0x508, 8) == 0x0003_1234_0000_0000)
    bench.write(~0, 0x400, 8)
    bench.write(~0, 0x408, 8)
    #expect(bench.read(0x400, 8) == 0 && bench.read(0x408, 8) == 0)
  }

  @Test func `a warm reset leaves fault state, a cold one nothing`() throws {
    let bench = try Bench.legacy()
    bench.store(0, 0x10_0000)
    #expect(bench.translate().reason == 1)
    let record = bench.record
    #expect(record.1 >> 63 == 1)
    bench.unit.reset(isWarm: true)
    #expect(bench.record == record)
    #expect(bench.read(Offset.fsts) == 2)
    #expect(bench.read(Offset.gsts) == 0)
    #expect(bench.read(Offset.rtaddr, 8) == 0)
    #expect(bench.translate().address == Bench.iova)
    bench.unit.reset()
    #expect(bench.record == (0, 0) && bench.read(Offset.fsts) == 0)
  }
}
