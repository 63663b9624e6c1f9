import IOMMUFormats
import Testing

/// The map against the manual's list: offset, width, what is writable, value after a reset.
@Suite struct AMDViRegisterMapTests {
  struct Row: Sendable, CustomTestStringConvertible {
    var name: String
    var offset: UInt64
    var bits = 64
    /// Read and written; set by hardware and cleared by writing 1; after a reset.
    var readWrite: UInt64 = 0
    var clear: UInt64 = 0
    var reset: UInt64 = 0
    var testDescription: String { name }
  }

  static let ring: UInt64 = 0x0f0f_ffff_ffff_f000
  static let pages: UInt64 = 0x000f_ffff_ffff_f000

  static let rows = [
    Row(name: "DevTabBase", offset: 0x0000, readWrite: 0x000f_ffff_ffff_f1ff),
    Row(name: "CmdBufBase", offset: 0x0008, readWrite: ring, reset: 0x0800_0000_0000_0000),
    Row(name: "EventLogBase", offset: 0x0010, readWrite: ring, reset: 0x0800_0000_0000_0000),
    Row(name: "Control", offset: 0x0018, readWrite: 0xfdfd_ffff_ffff_ffff, reset: 0x400),
    Row(name: "ExclBase", offset: 0x0020, readWrite: 0x000f_ffff_ffff_f003),
    Row(name: "ExclLimit", offset: 0x0028, readWrite: pages),
    Row(name: "EFR", offset: 0x0030),
    Row(name: "PPRLogBase", offset: 0x0038, readWrite: ring, reset: 0x0800_0000_0000_0000),
    Row(name: "HwEventHi", offset: 0x0040, readWrite: ~0),
    Row(name: "HwEventLo", offset: 0x0048, readWrite: ~0),
    Row(name: "HwEventStatus", offset: 0x0050, clear: 3),
    Row(name: "SmiFilter", offset: 0x0060, readWrite: 0x3_ffff),
    Row(name: "GALogBase", offset: 0x00e0, readWrite: ring, reset: 0x0800_0000_0000_0000),
    Row(name: "GALogTailAddr", offset: 0x00e8, readWrite: 0x000f_ffff_ffff_fff8),
    Row(name: "PPRLogBaseB", offset: 0x00f0, readWrite: ring, reset: 0x0800_0000_0000_0000),
    Row(name: "EventLogBaseB", offset: 0x00f8, readWrite: ring, reset: 0x0800_0000_0000_0000),
    Row(name: "DevTabSegBase", offset: 0x0100, readWrite: 0x000f_ffff_ffff_f0ff),
    Row(name: "DSFX", offset: 0x0138),
    Row(name: "DSCX", offset: 0x0140, readWrite: 0xffff_ffff),
    Row(name: "DSSX", offset: 0x0148),
    Row(name: "MsiVector0", offset: 0x0150, bits: 32),
    Row(name: "MsiVector1", offset: 0x0154, bits: 32, readWrite: 0x1f),
    Row(name: "MsiCapHeader", offset: 0x0158, bits: 32, readWrite: 0x71_0000, reset: 0x84_0005),
    Row(name: "MsiAddrLo", offset: 0x015c, bits: 32, readWrite: 0xffff_fffc),
    Row(name: "MsiAddrHi", offset: 0x0160, bits: 32, readWrite: 0xffff_ffff),
    Row(name: "MsiData", offset: 0x0164, bits: 32, readWrite: 0xffff),
    Row(name: "MsiMapCapHeader", offset: 0x0168, bits: 32, reset: 0xa803_0008),
    Row(name: "PerfOptControl", offset: 0x016c, bits: 32, readWrite: 0x2000),
    Row(name: "XTIntControl", offset: 0x0170, readWrite: 0xff00_01ff_ffff_ff04),
    Row(name: "XTIntControlPPR", offset: 0x0178, readWrite: 0xff00_01ff_ffff_ff04),
    Row(name: "XTIntControlGA", offset: 0x0180, readWrite: 0xff00_01ff_ffff_ff04),
    Row(name: "vIommuStatus", offset: 0x0190),
    Row(name: "EFR2", offset: 0x01a0),
    Row(name: "MarcBase", offset: 0x0200, readWrite: pages),
    Row(name: "MarcReloc", offset: 0x0208, readWrite: 0x000f_ffff_ffff_f003),
    Row(name: "MarcLength", offset: 0x0210, readWrite: pages),
    Row(name: "Reserved", offset: 0x1ff8),
    Row(name: "CmdBufHead", offset: 0x2000, readWrite: 0x7_fff0),
    Row(name: "CmdBufTail", offset: 0x2008, readWrite: 0x7_fff0),
    Row(name: "EventLogHead", offset: 0x2010, readWrite: 0x7_fff0),
    Row(name: "EventLogTail", offset: 0x2018, readWrite: 0x7_fff0),
    Row(name: "Status", offset: 0x2020, clear: 0x6_8e67),
    Row(name: "PPRLogHead", offset: 0x2030, readWrite: 0x7_fff0),
    Row(name: "PPRLogTail", offset: 0x2038, readWrite: 0x7_fff0),
    Row(name: "GALogHead", offset: 0x2040, readWrite: 0xfff8),
    Row(name: "GALogTail", offset: 0x2048, readWrite: 0xfff8),
    Row(name: "PPRLogHeadB", offset: 0x2050, readWrite: 0x7_fff0),
    Row(name: "PPRLogTailB", offset: 0x2058, readWrite: 0x7_fff0),
    Row(name: "EventLogHeadB", offset: 0x2070, readWrite: 0x7_fff0),
    Row(name: "EventLogTailB", offset: 0x2078, readWrite: 0x7_fff0),
    Row(name: "PPRAutoResponse", offset: 0x2080, readWrite: 0x1f),
    Row(name: "PPROverflowEarly", offset: 0x2088, readWrite: 0xc000_7fff),
    Row(name: "PPROverflowEarlyB", offset: 0x2090, readWrite: 0xc000_7fff),
  ]

  @Test(arguments: rows)
  func `a register lies where the manual has it and takes what the manual says`(row: Row) throws {
    let register = try #require(AMDVi.registerMap.first { $0.name == row.name })
    #expect(register.offset == row.offset)
    #expect(register.format.bitCount == row.bits)
    #expect(register.format.mask { $0.access == .readWrite }.low == row.readWrite)
    #expect(register.format.mask { $0.access == .writeOneToClear }.low == row.clear)
    #expect(register.format.resetValue == row.reset)
  }

  @Test func `the map has these registers and no others`() {
    #expect(Set(AMDVi.registerMap.map(\.name)) == Set(Self.rows.map(\.name)))
    #expect(AMDVi.registerMap.count == Self.rows.count)
    #expect(AMDVi.Status.mask { $0.access != .reserved }.low == 0x7_9fff)
  }

  @Test func `arrays go as far as the manual says and no two registers share a byte`() {
    var taken: [UInt64: String] = [:]
    var last: [String: UInt64] = [:]
    for register in AMDVi.registerMap {
      for index in 0..<UInt64(register.count) {
        let start = register.offset + index * register.strideByteCount
        last[register.name] = start
        for byte in start..<(start + UInt64(register.format.byteCount)) {
          #expect(taken[byte] == nil, "\(register.name) and \(taken[byte] ?? "")")
          taken[byte] = register.name
        }
      }
    }
    #expect(last["SmiFilter"] == 0xd8)
    #expect(last["DevTabSegBase"] == 0x130)
    #expect(last["MarcBase"] == 0x248 && last["MarcReloc"] == 0x250 && last["MarcLength"] == 0x258)
    #expect(taken.count == 632)
  }

  @Test(arguments: AMDVi.registerMap.map(\.name))
  func `a register is found by the manual's name`(name: String) throws {
    let format = AMDVi.registerMap.first { $0.name == name }?.format
    #expect(try #require(EntryCatalog.kind(named: "amdvi-\(name)")).type == format)
  }
}
