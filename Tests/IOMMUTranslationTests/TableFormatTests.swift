import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct TableFormatTests {
  struct Row: Sendable {
    var iova: UInt64
    /// Levels 5 to 1.
    var indices: [UInt64]
    var offset: UInt64
  }

  static let rows = [
    Row(iova: 0, indices: [0, 0, 0, 0, 0], offset: 0),
    Row(iova: 0xfff, indices: [0, 0, 0, 0, 0], offset: 0xfff),
    Row(iova: 0x1000, indices: [0, 0, 0, 0, 1], offset: 0),
    Row(iova: 0x1234_5678, indices: [0, 0, 0, 145, 325], offset: 0x678),
    Row(iova: 0x1f_ffff, indices: [0, 0, 0, 0, 511], offset: 0xfff),
    Row(iova: 0x20_0000, indices: [0, 0, 0, 1, 0], offset: 0),
    Row(iova: 0x3fff_ffff, indices: [0, 0, 0, 511, 511], offset: 0xfff),
    Row(iova: 0x4000_0000, indices: [0, 0, 1, 0, 0], offset: 0),
    Row(iova: 0x7f_ffff_ffff, indices: [0, 0, 511, 511, 511], offset: 0xfff),
    Row(iova: 0x80_0000_0000, indices: [0, 1, 0, 0, 0], offset: 0),
    Row(iova: 0x7f12_3456_7abc, indices: [0, 254, 72, 418, 359], offset: 0xabc),
    Row(iova: 0xffff_ffff_ffff, indices: [0, 511, 511, 511, 511], offset: 0xfff),
    Row(iova: 0x1_0000_0000_0000, indices: [1, 0, 0, 0, 0], offset: 0),
    Row(iova: 0x123_4567_89ab_cdef, indices: [291, 138, 414, 77, 188], offset: 0xdef),
    Row(iova: 0x1ff_ffff_ffff_ffff, indices: [511, 511, 511, 511, 511], offset: 0xfff),
  ]

  @Test(arguments: rows)
  func `an IOVA is an index for each level and an offset`(row: Row) {
    let format = VTd.SecondStageFormat(levels: 5, limits: .permissive)
    #expect(
      stride(from: 5, through: 1, by: -1).map { format.index(of: row.iova, level: $0) }
        == row.indices)
    #expect(IOVA(row.iova).offsetInPage == row.offset)
  }

  @Test func `T07: index, byte and offset of an I/O address`() {
    let format = Calgary.TCEFormat(size: .mib8)
    #expect(format.index(of: 0x00ab_c123, level: 1) == 0xabc)
    #expect(
      format.entryAddress(of: 0x00ab_c123, in: PhysicalAddress(0x80_0000), level: 1)
        == PhysicalAddress(0x80_55e0))
    #expect(IOVA(0x00ab_c123).offsetInPage == 0x123)
  }

  @Test func `T08: the last entry of the largest table`() {
    let format = Calgary.TCEFormat(size: .mib8)
    #expect(format.index(of: 0xffff_f000, level: 1) == 0xfffff)
    #expect(
      format.entryAddress(of: 0xffff_f000, in: PhysicalAddress(0), level: 1)
        == PhysicalAddress(0x7f_fff8))
    #expect(format.entryCount(level: 1) == 0x10_0000)
  }

  @Test func `T32: the crash kernel's entries in the table`() {
    let format = Calgary.TCEFormat(size: .mib8)
    let table = PhysicalAddress(0)
    #expect(format.index(of: 0x100_0000, level: 1) == 0x1000)
    #expect(format.entryAddress(of: 0x100_0000, in: table, level: 1) == PhysicalAddress(0x8000))
    #expect(format.index(of: 0x8ff_f000, level: 1) == 0x8fff)
    #expect(format.entryAddress(of: 0x8ff_f000, in: table, level: 1) == PhysicalAddress(0x4_7ff8))
  }

  static let apertures: [(order: Int, entryCount: UInt64, byteCount: UInt64)] = [
    (0, 8_192, 32_768), (1, 16_384, 65_536), (2, 32_768, 131_072), (3, 65_536, 262_144),
    (4, 131_072, 524_288), (5, 262_144, 1_048_576), (6, 524_288, 2_097_152),
  ]

  @Test(arguments: apertures)
  func `an aperture needs four bytes of GATT for a page`(
    order: Int, entryCount: UInt64, byteCount: UInt64
  ) throws {
    let aperture = try #require(
      GART.ApertureControl(isEnabled: true, order: order).apertureByteCount)
    let format = GART.GATTFormat(apertureByteCount: aperture)
    #expect(format.entryCount(level: 1) == entryCount)
    #expect(format.entryCount(level: 1) * UInt64(GART.GATTEntry.byteCount) == byteCount)
  }

  @Test func `a TCE with neither permission is empty, whatever else it holds`() {
    let format = Calgary.TCEFormat(size: .kib64)
    #expect(format.kind(of: .init(rawValue: 0x1234_5000), level: 1) == .empty)
    #expect(
      format.kind(of: .init(rawValue: 2), level: 1) == .page(PhysicalAddress(0), sizeLog2: 12))
  }
}
