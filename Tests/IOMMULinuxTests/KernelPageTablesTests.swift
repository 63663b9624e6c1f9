import IOMMUFormats
import IOMMUImages
import Testing

@testable import IOMMULinux

@Suite struct KernelPageTablesTests {
  private static func tables(_ lines: String) throws -> KernelPageTables {
    try KernelPageTables(VMCoreInfo(Array(lines.utf8)))
  }

  private static func memory(_ words: [UInt64: UInt64]) throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 1 << 30)
    for (address, word) in words { memory.store(word, at: PhysicalAddress(address)) }
    return memory
  }

  private static let x86 = """
    SYMBOL(swapper_pg_dir)=ffffffff85a10000
    SYMBOL(init_top_pgt)=ffffffff85a10000
    NUMBER(phys_base)=167772160
    NUMBER(KERNEL_IMAGE_SIZE)=1073741824

    """

  /// `KERNELOFFSET` 0x3000000 and `phys_base` 0xa000000: `_text` at 0xffffffff84000000 is physical
  /// 0xe000000, the top table 0xfa10000.
  @Test func `the image is a fixed distance away`() throws {
    let tables = try Self.tables(Self.x86)
    #expect(tables.architecture == .x86_64 && tables.levels == 4)
    #expect(tables.root == PhysicalAddress(0xfa1_0000))
    #expect(tables.straight(0xffff_ffff_8400_0000) == PhysicalAddress(0xe00_0000))
    #expect(tables.straight(0xffff_ffff_85bb_fde0) == PhysicalAddress(0xfbb_fde0))
    #expect(tables.straight(0xffff_ffff_c000_0000) == nil)
    // No table is there: the distance is all that is known.
    let lacking = LackingMemory(try FlatMemory(byteCount: 1 << 29), without: [0xfa1_0000])
    #expect(
      try tables.physicalAddress(of: 0xffff_ffff_85bb_fde0, in: lacking)
        == PhysicalAddress(0xfbb_fde0))
    #expect(
      readError { () throws(KernelReadError) in
        try tables.physicalAddress(of: 0xffff_8c3d_413c_6200, in: lacking)
      } == .absent(address: 0, physical: PhysicalAddress(0xfa1_08c0), .absent))
  }

  //   level 4 [280] → level 3 [245] → level 2 [9] → level 1 [0x1c6] → page
  @Test func `four levels, with pages of 4 KiB, 2 MiB and 1 GiB`() throws {
    let tables = try Self.tables(Self.x86)
    let memory = try Self.memory([
      0xfa1_0000 + 280 * 8: 0x1000_0063,
      // Execute-disable in bit 63 and bits that software keeps are no address.
      0x1000_0000 + 245 * 8: 0x8000_0000_1100_0063,
      0x1000_0000 + 246 * 8: 0x8000_0000_4000_00e3,
      0x1100_0000 + 9 * 8: 0x0800_0000_1200_0063,
      0x1100_0000 + 10 * 8: 0x8000_0000_2020_11e3,
      0x1200_0000 + 0x1c6 * 8: 0x8000_0000_013c_6163,
    ])
    let cases: [(virtual: UInt64, physical: UInt64)] = [
      (0xffff_8c3d_413c_6218, 0x13c_6218),
      // Bit 12 of a large page's entry is a memory type.
      (0xffff_8c3d_4140_0123, 0x2020_0123), (0xffff_8c3d_415f_ffff, 0x203f_ffff),
      (0xffff_8c3d_8000_0000, 0x4000_0000), (0xffff_8c3d_bfff_fff0, 0x7fff_fff0),
    ]
    for (virtual, physical) in cases {
      #expect(
        try tables.physicalAddress(of: virtual, in: memory) == PhysicalAddress(physical),
        "\(hexadecimal(virtual))")
    }
    for unmapped in [
      0xffff_8c3d_413c_7000, 0xffff_8c3e_0000_0000, 0x0000_8c3d_413c_6218, 0x1000, 0,
    ] as [UInt64] {
      #expect(
        readError { () throws(KernelReadError) in
          try tables.physicalAddress(of: unmapped, in: memory)
        } == .unmapped(unmapped))
    }
  }

  /// Bit 51 marks encrypted pages, as AMD's secure memory encryption has it.
  @Test func `the mask of memory encryption is no address`() throws {
    let tables = try Self.tables(Self.x86 + "NUMBER(sme_mask)=2251799813685248\n")
    let memory = try Self.memory([
      0xfa1_0000 + 280 * 8: 0x0008_0000_1000_0063,
      0x1000_0000 + 245 * 8: 0x0008_0000_1100_0063, 0x1100_0000 + 9 * 8: 0x8008_0000_2020_00e3,
    ])
    #expect(
      try tables.physicalAddress(of: 0xffff_8c3d_413c_6218, in: memory)
        == PhysicalAddress(0x203c_6218))
  }

  //   level 5 [0x111] → level 4 [0x11] → level 3 [0xa2] → level 2 [0xcc] → level 1 [0x1aa]
  @Test func `five levels`() throws {
    let tables = try Self.tables(Self.x86 + "NUMBER(pgtable_l5_enabled)=1\n")
    let address: UInt64 = 0xff11_08a8_999a_a789
    let memory = try Self.memory([
      0xfa1_0000 + 0x111 * 8: 0x1000_0063, 0x1000_0000 + 0x11 * 8: 0x1100_0063,
      0x1100_0000 + 0xa2 * 8: 0x1200_0063, 0x1200_0000 + 0xcc * 8: 0x1300_0063,
      0x1300_0000 + 0x1aa * 8: 0x1400_0063,
    ])
    #expect(tables.levels == 5)
    #expect(try tables.physicalAddress(of: address, in: memory) == PhysicalAddress(0x1400_0789))
  }

  @Test func `a table that leads to itself ends at its level`() throws {
    let tables = try Self.tables(Self.x86)
    var words: [UInt64: UInt64] = [:]
    for index in [280, 245, 9, 0x1c6] as [UInt64] { words[0xfa1_0000 + index * 8] = 0xfa1_0063 }
    // Four entries were read, the last of them as that of a page.
    #expect(
      try tables.physicalAddress(of: 0xffff_8c3d_413c_6218, in: Self.memory(words))
        == PhysicalAddress(0xfa1_0218))
  }

  private static func arm(_ more: String) -> String {
    """
    SYMBOL(swapper_pg_dir)=ffff800081a00000
    NUMBER(kimage_voffset)=0xffff80007fe00000
    NUMBER(PHYS_OFFSET)=0x40000000
    \(more)

    """
  }

  //   4 KiB pages, 48 bits: levels 0 to 3 of the manual, nine bits each from bit 47 down.
  @Test func `arm64 with pages of 4 KiB`() throws {
    let tables = try Self.tables(
      Self.arm("PAGESIZE=4096\nNUMBER(VA_BITS)=48\nNUMBER(TCR_EL1_T1SZ)=0x10"))
    #expect(tables.architecture == .arm64 && tables.levels == 4)
    #expect(tables.root == PhysicalAddress(0x1c0_0000))
    #expect(tables.straight(0xffff_8000_8200_0010) == PhysicalAddress(0x220_0010))
    #expect(tables.straight(0xffff_0000_0123_4567) == PhysicalAddress(0x4123_4567))
    let memory = try Self.memory([
      0x1c0_0000 + 256 * 8: 0x1000_0003,
      // A block of 1 GiB: bit 1 is 0.
      0x1000_0000 + 1 * 8: 0x0060_0000_0000_0701, 0x1000_0000 + 2 * 8: 0x1100_0003,
      // A block of 2 MiB, and a table.
      0x1100_0000 + 3 * 8: 0x0068_0000_0220_0701, 0x1100_0000 + 4 * 8: 0x1200_0003,
      0x1200_0000 + 5 * 8: 0x0068_0000_0234_5703,
      // Neither a page nor a block is defined at the last level without bit 1.
      0x1200_0000 + 6 * 8: 0x0068_0000_0234_5701,
    ])
    let cases: [(virtual: UInt64, physical: UInt64)] = [
      (0xffff_8000_4000_0008, 0x8), (0xffff_8000_8060_1234, 0x220_1234),
      (0xffff_8000_8080_5678, 0x234_5678),
      // The upper byte of a pointer may be software's.
      (0xf4ff_8000_8080_5678, 0x234_5678),
    ]
    for (virtual, physical) in cases {
      #expect(
        try tables.physicalAddress(of: virtual, in: memory) == PhysicalAddress(physical),
        "\(hexadecimal(virtual))")
    }
    #expect(
      readError { () throws(KernelReadError) in
        try tables.physicalAddress(of: 0xffff_8000_8080_6000, in: memory)
      } == .unmapped(0xffff_8000_8080_6000))
  }

  //   16 KiB pages, 48 bits: one bit, then eleven each.
  @Test func `arm64 with pages of 16 KiB`() throws {
    let tables = try Self.tables(
      Self.arm("PAGESIZE=16384\nNUMBER(VA_BITS)=48\nNUMBER(TCR_EL1_T1SZ)=0x10"))
    #expect(tables.levels == 4)
    let memory = try Self.memory([
      0x1c0_0000 + 1 * 8: 0x1000_0003, 0x1000_0000: 0x1100_0003,
      // A block of 32 MiB, and a table.
      0x1100_0000 + 64 * 8: 0x0068_0000_0200_0701, 0x1100_0000 + 65 * 8: 0x1200_0003,
      0x1200_0000 + 7 * 8: 0x0068_0000_0234_4703,
    ])
    #expect(
      try tables.physicalAddress(of: 0xffff_8000_8012_3456, in: memory)
        == PhysicalAddress(0x212_3456))
    #expect(
      try tables.physicalAddress(of: 0xffff_8000_8201_f00f, in: memory)
        == PhysicalAddress(0x234_700f))
  }

  //   64 KiB pages, 52 bits: ten bits from bit 51, then thirteen each; bits 15:12 are the address's 51:48.
  @Test func `arm64 with pages of 64 KiB and 52 bits`() throws {
    let tables = try Self.tables(
      """
      SYMBOL(swapper_pg_dir)=ffff800081a00000
      NUMBER(kimage_voffset)=0xffff80007fe00000
      PAGESIZE=65536
      NUMBER(VA_BITS)=52
      NUMBER(TCR_EL1_T1SZ)=0xc

      """)
    #expect(tables.levels == 3)
    // 0xfff8…: bit 51, that is entry 512 of the top table.
    let memory = try Self.memory([
      0x1c0_0000 + 512 * 8: 0x1000_0003, 0x1000_0000 + 4 * 8: 0x1100_0003,
      // A block of 512 MiB at 0x1_0000_4000_0000_0000 + …: bits 51:48 are 1.
      0x1000_0000 + 5 * 8: 0x0068_0000_6000_1701,
      0x1100_0000 + 0x12 * 8: 0x0068_0000_0234_a703,
    ])
    #expect(
      try tables.physicalAddress(of: 0xfff8_0000_8012_3456, in: memory)
        == PhysicalAddress(0xa_0000_0234_3456))
    #expect(
      try tables.physicalAddress(of: 0xfff8_0000_a012_3456, in: memory)
        == PhysicalAddress(0x1_0000_6012_3456))
  }

  //   4 KiB pages, 52 bits: four bits, then nine each; bits 9:8 are the address's 51:50.
  @Test func `arm64 with pages of 4 KiB and 52 bits, and on a processor that has 48`() throws {
    let lines = "PAGESIZE=4096\nNUMBER(VA_BITS)=52\nNUMBER(TCR_EL1_T1SZ)="
    let wide = try Self.tables(Self.arm(lines + "0xc"))
    #expect(wide.levels == 5)
    let memory = try Self.memory([
      0x1c0_0000 + 8 * 8: 0x1000_0003, 0x1000_0000: 0x1100_0003,
      0x1100_0000 + 2 * 8: 0x1200_0003, 0x1200_0000 + 4 * 8: 0x1300_0003,
      0x1300_0000 + 5 * 8: 0x0069_0000_0234_5603,
    ])
    #expect(
      try wide.physicalAddress(of: 0xfff8_0000_8080_5678, in: memory)
        == PhysicalAddress(0x9_0000_0234_5678))
    let narrow = try Self.tables(Self.arm(lines + "0x10"))
    #expect(narrow.levels == 4 && !narrow.hasWideAddresses)
  }

  @Test func `what VMCOREINFO does not say is an error`() {
    let lacking: [(lines: String, message: String)] = [
      ("", "VMCOREINFO is of neither an x86-64 nor an arm64 kernel"),
      ("NUMBER(phys_base)=0\n", "VMCOREINFO has no SYMBOL(swapper_pg_dir)"),
      (
        "NUMBER(phys_base)=0\nSYMBOL(swapper_pg_dir)=c1000000\n",
        "the top page table at 0xc1000000 is not in the kernel's image"
      ),
      (Self.arm(""), "VMCOREINFO has no NUMBER(VA_BITS)"),
      (
        Self.arm("PAGESIZE=8192\nNUMBER(VA_BITS)=48"),
        "pages of 8192 bytes, which arm64 does not have"
      ),
    ]
    for (lines, message) in lacking {
      let error = readError { () throws(KernelReadError) in
        try KernelPageTables(VMCoreInfo(Array(lines.utf8)))
      }
      #expect(error?.description == message)
    }
  }

  @Test func `a kernel that was not moved does not have to say so`() throws {
    let tables = try Self.tables("SYMBOL(swapper_pg_dir)=ffffffff81001000\n")
    #expect(tables.straight(0xffff_ffff_8100_0000) == PhysicalAddress(0x100_0000))
  }
}
