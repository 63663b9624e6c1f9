import IOMMUFormats
import Testing

/// The map against the manual's list: offset, width, what is writable, value after a reset.
@Suite struct RegisterMapTests {
  struct Row: Sendable, CustomTestStringConvertible {
    var name: String
    var offset: UInt64
    var bits: Int
    /// Read and written; set by hardware and cleared by writing 1; after a reset.
    var readWrite: UInt64 = 0
    var clear: UInt64 = 0
    var reset: UInt64 = 0
    var testDescription: String { name }
  }

  static let rows = [
    Row(name: "VER_REG", offset: 0x000, bits: 32),
    Row(name: "CAP_REG", offset: 0x008, bits: 64),
    Row(name: "ECAP_REG", offset: 0x010, bits: 64),
    Row(name: "GCMD_REG", offset: 0x018, bits: 32),
    Row(name: "GSTS_REG", offset: 0x01c, bits: 32),
    Row(name: "CCMD_REG", offset: 0x028, bits: 64, readWrite: 0xe000_0000_0000_ffff),
    Row(name: "FSTS_REG", offset: 0x034, bits: 32, clear: 0x71),
    Row(
      name: "FECTL_REG", offset: 0x038, bits: 32, readWrite: 0x8000_0000, reset: 0x8000_0000),
    Row(name: "FEDATA_REG", offset: 0x03c, bits: 32, readWrite: 0xffff),
    Row(name: "FEADDR_REG", offset: 0x040, bits: 32, readWrite: 0xffff_fffc),
    Row(name: "FEUADDR_REG", offset: 0x044, bits: 32, readWrite: 0xffff_ffff),
    Row(name: "PMEN_REG", offset: 0x064, bits: 32, readWrite: 0x8000_0000),
    Row(name: "PLMBASE_REG", offset: 0x068, bits: 32, readWrite: 0xffe0_0000),
    Row(name: "PLMLIMIT_REG", offset: 0x06c, bits: 32, readWrite: 0xffe0_0000),
    Row(name: "PHMBASE_REG", offset: 0x070, bits: 64, readWrite: 0xffff_ffff_ffe0_0000),
    Row(name: "PHMLIMIT_REG", offset: 0x078, bits: 64, readWrite: 0xffff_ffff_ffe0_0000),
    Row(name: "IQH_REG", offset: 0x080, bits: 64),
    Row(name: "IQT_REG", offset: 0x088, bits: 64, readWrite: 0x7_fff0),
    Row(name: "IQA_REG", offset: 0x090, bits: 64, readWrite: 0xffff_ffff_ffff_f807),
    Row(name: "ICS_REG", offset: 0x09c, bits: 32, clear: 1),
    Row(
      name: "IECTL_REG", offset: 0x0a0, bits: 32, readWrite: 0x8000_0000, reset: 0x8000_0000),
    Row(name: "IEDATA_REG", offset: 0x0a4, bits: 32, readWrite: 0xffff),
    Row(name: "IEADDR_REG", offset: 0x0a8, bits: 32, readWrite: 0xffff_fffc),
    Row(name: "IEUADDR_REG", offset: 0x0ac, bits: 32, readWrite: 0xffff_ffff),
    Row(name: "IQERCD_REG", offset: 0x0b0, bits: 64),
    Row(name: "IRTA_REG", offset: 0x0b8, bits: 64, readWrite: 0xffff_ffff_ffff_f80f),
    Row(name: "PQH_REG", offset: 0x0c0, bits: 64, readWrite: 0x7_ffe0),
    Row(name: "PQT_REG", offset: 0x0c8, bits: 64, readWrite: 0x7_ffe0),
    Row(name: "PQA_REG", offset: 0x0d0, bits: 64, readWrite: 0xffff_ffff_ffff_f007),
    Row(name: "PRS_REG", offset: 0x0dc, bits: 32, clear: 3),
    Row(
      name: "PECTL_REG", offset: 0x0e0, bits: 32, readWrite: 0x8000_0000, reset: 0x8000_0000),
    Row(name: "PEDATA_REG", offset: 0x0e4, bits: 32, readWrite: 0xffff),
    Row(name: "PEADDR_REG", offset: 0x0e8, bits: 32, readWrite: 0xffff_fffc),
    Row(name: "PEUADDR_REG", offset: 0x0ec, bits: 32, readWrite: 0xffff_ffff),
    Row(name: "MTRRCAP_REG", offset: 0x100, bits: 64),
    Row(name: "MTRRDEF_REG", offset: 0x108, bits: 64, readWrite: 0xcff),
    Row(name: "MTRR_FIX64K_00000_REG", offset: 0x120, bits: 64, readWrite: ~0),
    Row(name: "MTRR_FIX16K_80000_REG", offset: 0x128, bits: 64, readWrite: ~0),
    Row(name: "MTRR_FIX16K_A0000_REG", offset: 0x130, bits: 64, readWrite: ~0),
    Row(name: "MTRR_FIX4K_REG", offset: 0x138, bits: 64, readWrite: ~0),
    Row(name: "MTRR_PHYSBASE_REG", offset: 0x180, bits: 64, readWrite: 0xffff_ffff_ffff_f0ff),
    Row(name: "MTRR_PHYSMASK_REG", offset: 0x188, bits: 64, readWrite: 0xffff_ffff_ffff_f800),
    Row(name: "PERFCAP_REG", offset: 0x300, bits: 64),
    Row(name: "PERFCFGOFF_REG", offset: 0x310, bits: 32),
    Row(name: "PERFFRZOFF_REG", offset: 0x314, bits: 32),
    Row(name: "PERFOVFOFF_REG", offset: 0x318, bits: 32),
    Row(name: "PERFCNTROFF_REG", offset: 0x31c, bits: 32),
    Row(name: "PERFINTRSTS_REG", offset: 0x324, bits: 32, clear: 1),
    Row(
      name: "PERFINTRCTL_REG", offset: 0x328, bits: 32, readWrite: 0x8000_0000, reset: 0x8000_0000),
    Row(name: "PERFINTRDATA_REG", offset: 0x32c, bits: 32, readWrite: 0xffff),
    Row(name: "PERFINTRADDR_REG", offset: 0x330, bits: 32, readWrite: 0xffff_fffc),
    Row(name: "PERFINTRUADDR_REG", offset: 0x334, bits: 32, readWrite: 0xffff_ffff),
    Row(name: "PERFEVNTCAP_REG", offset: 0x380, bits: 64),
    Row(name: "ECMD_REG", offset: 0x400, bits: 64, readWrite: 0xffff_ffff_ffff_00ff),
    Row(name: "ECEO_REG", offset: 0x408, bits: 64, readWrite: ~0),
    Row(name: "ECRSP_REG", offset: 0x410, bits: 64),
    Row(name: "ECSTS_REG", offset: 0x420, bits: 64),
    Row(name: "ECCAP_REG", offset: 0x430, bits: 64),
    Row(name: "RDTC_REG", offset: 0xdc0, bits: 64, readWrite: 0x1f_0000_0fff),
    Row(name: "VCMD_REG", offset: 0xe00, bits: 64, readWrite: 0xf_ffff_00ff),
    Row(name: "VCMD_EO_REG", offset: 0xe08, bits: 64, readWrite: ~0),
    Row(name: "VCRSP_REG", offset: 0xe10, bits: 64),
    Row(name: "VCCAP_REG", offset: 0xe30, bits: 64),
  ]

  @Test(arguments: rows)
  func `a register lies where the manual has it and takes what the manual says`(row: Row) throws {
    let register = try #require(VTd.registerMap.first { $0.name == row.name })
    #expect(register.place == .at(row.offset))
    #expect(register.format.bitCount == row.bits)
    #expect(register.format.mask { $0.access == .readWrite }.low == row.readWrite)
    #expect(register.format.mask { $0.access == .writeOneToClear }.low == row.clear)
    #expect(register.format.resetValue == row.reset)
  }

  @Test func `the map has these registers and those that capability registers place`() {
    let known = Set(Self.rows.map(\.name) + ["RTADDR_REG", "IVA_REG", "IOTLB_REG", "FRCD_REG"])
    #expect(Set(VTd.registerMap.map(\.name)) == known)
    #expect(VTd.registerMap.count == known.count)
  }

  @Test func `a root table address can be written but for its reserved bits`() throws {
    let register = try #require(VTd.registerMap.first { $0.name == "RTADDR_REG" })
    #expect(register.place == .at(0x020))
    #expect(register.format.bitCount == 64)
    // Bit 7, SSIRWE, may be there or not.
    let mask = register.format.mask { $0.access == .readWrite }.low
    #expect(mask | 0x80 == 0xffff_ffff_ffff_fc80)
  }

  @Test func `invalidation and fault registers are placed by capabilities`() throws {
    let address = try #require(VTd.registerMap.first { $0.name == "IVA_REG" })
    #expect(address.place == .invalidation(0))
    #expect(address.format.mask { $0.access == .writeOnly }.low == 0xffff_ffff_ffff_f07f)
    let iotlb = try #require(VTd.registerMap.first { $0.name == "IOTLB_REG" })
    #expect(iotlb.place == .invalidation(8))
    #expect(iotlb.format.mask { $0.access == .readWrite }.low == 0xb003_ffff_0000_0000)
    let record = try #require(VTd.registerMap.first { $0.name == "FRCD_REG" })
    #expect(record.place == .faultRecords(0) && record.strideByteCount == 16)
    #expect(record.format.mask { $0.access == .writeOneToClear }.high == 1 << 63)
    #expect(record.format.mask { $0.access == .readOnly }.high == 0x7fff_ffff_f000_ffff)
  }

  @Test func `fault state outlives a warm reset and nothing else does`() {
    let sticky = VTd.registerMap.filter { row in
      let mask = row.format.mask { $0.isSticky }
      return mask.low | mask.high != 0
    }
    #expect(
      Set(sticky.map(\.name)) == [
        "FSTS_REG", "ICS_REG", "IQERCD_REG", "PRS_REG", "PERFINTRSTS_REG", "FRCD_REG",
      ])
    #expect(VTd.FaultStatus.mask { $0.isSticky }.low == 0xff73)
  }

  @Test func `no two registers share a byte`() {
    var taken: [UInt64: String] = [:]
    for register in VTd.registerMap {
      guard case .at(let offset) = register.place else { continue }
      for index in 0..<(register.count ?? 1) {
        let start = offset + UInt64(index * register.strideByteCount)
        for byte in start..<(start + UInt64(register.format.byteCount)) {
          #expect(taken[byte] == nil, "\(register.name) and \(taken[byte] ?? "")")
          taken[byte] = register.name
        }
      }
    }
    #expect(taken.count > 700)
  }
}
