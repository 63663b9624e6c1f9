import IOMMUFormats
import IOMMUImages
import Testing

@testable import IOMMULinux

/// Tables of symbols. The packed name, the tokens and the two offsets are those of the dump `vtd-full`.
@Suite struct KernelSymbolsTests {
  private static let names = TinyKernel.text + 0x10_0000
  private static let count = TinyKernel.text + 0x10_4000
  private static let tokenTable = TinyKernel.text + 0x10_5000
  private static let tokenIndex = TinyKernel.text + 0x10_6000
  private static let offsets = TinyKernel.text + 0x10_7000
  private static let base = TinyKernel.text + 0x10_8000

  /// Every ASCII letter for itself, and what `0b4464e072dc7268e4e9ee73` needs: D d ma r _d r h d_ un it s.
  private static let tokens: [String] = {
    var tokens = (0..<256).map {
      0x21..<0x7f ~= $0 ? String(Character(Unicode.Scalar(UInt8($0)))) : ""
    }
    tokens[0xe0] = "ma"
    tokens[0xdc] = "_d"
    tokens[0xe4] = "d_"
    tokens[0xe9] = "un"
    tokens[0xee] = "it"
    return tokens
  }()

  private static func name(_ text: String) -> [UInt8] {
    [UInt8(text.utf8.count)] + Array(text.utf8)
  }

  /// A, T, D: three symbols in the order of the table.
  private static let three =
    name("Acpu_number") + name("T_stext") + hexBytes("0b4464e072dc7268e4e9ee73")

  private static func kernel(
    _ packed: [UInt8] = three, count: UInt64 = 3, stext: UInt64 = 0xffff_ffff_8400_0000,
    lines: String = "", offsets: [UInt8] = [], base: UInt64? = nil
  ) -> TinyKernel {
    let kernel = TinyKernel()
    kernel.lines = kernel.lines.replacing(
      "SYMBOL(_stext)=ffffffff81000000", with: "SYMBOL(_stext)=\(hexadecimal(stext, digits: 16))")
    kernel.lines += """
      SYMBOL(kallsyms_names)=ffffffff81100000
      SYMBOL(kallsyms_num_syms)=ffffffff81104000
      SYMBOL(kallsyms_token_table)=ffffffff81105000
      SYMBOL(kallsyms_token_index)=ffffffff81106000

      """
    kernel.lines += lines
    kernel.put(packed, at: names)
    kernel.put(little(count, 4), at: Self.count)
    var table: [UInt8] = []
    var index: [UInt8] = []
    for token in tokens {
      index += little(UInt64(table.count), 2)
      table += Array(token.utf8) + [0]
    }
    kernel.put(table, at: tokenTable)
    kernel.put(index, at: tokenIndex)
    kernel.put(offsets, at: Self.offsets)
    if let base { kernel.put(words: [base], at: Self.base) }
    return kernel
  }

  private static let relativeLines = """
    SYMBOL(kallsyms_offsets)=ffffffff81107000
    SYMBOL(kallsyms_relative_base)=ffffffff81108000

    """

  private static func symbols(
    _ kernel: TinyKernel, without leftOut: Set<UInt64> = []
  ) throws -> KernelSymbols {
    try KernelSymbols(kernel.info, in: kernel.reader(without: leftOut))
  }

  @Test func `offsets from the base, with absolute values of per-cpu variables`() throws {
    let symbols = try Self.symbols(
      Self.kernel(
        lines: Self.relativeLines, offsets: hexBytes("e0990100 ffffffff 1f0244fe"),
        base: 0xffff_ffff_8400_0000))
    #expect(symbols.encoding == .absolutePerCPU)
    #expect(symbols.count == 3 && symbols.problem == nil)
    #expect(symbols.address(of: "cpu_number") == 0x1_99e0)
    #expect(symbols.address(of: "_stext") == 0xffff_ffff_8400_0000)
    #expect(symbols.address(of: "dmar_drhd_units") == 0xffff_ffff_85bb_fde0)
    #expect(symbols.address(of: "dmar_drhd_unit") == nil && symbols.address(of: "") == nil)
    let last = symbols.symbol(2)
    #expect(last?.name == "dmar_drhd_units" && last?.type == "D")
  }

  @Test func `offsets from the base, plain`() throws {
    let symbols = try Self.symbols(
      Self.kernel(
        lines: Self.relativeLines, offsets: hexBytes("e0990100 00000100 00000080"),
        base: 0xffff_ffff_83ff_0000))
    #expect(symbols.encoding == .relative)
    #expect(symbols.address(of: "cpu_number") == 0xffff_ffff_8400_99e0)
    #expect(symbols.address(of: "dmar_drhd_units") == 0x0000_0000_03ff_0000)
  }

  @Test func `offsets from the entry, with no base, or with one that is not its own`() throws {
    // Entries lie at 0xffffffff81107000, …004 and …008; the second is 0x107004 behind _stext.
    let offsets = hexBytes("00100000 fc8feffe 00100000")
    let lines = "SYMBOL(kallsyms_offsets)=ffffffff81107000\n"
    let symbols = try Self.symbols(
      Self.kernel(stext: 0xffff_ffff_8000_0000, lines: lines, offsets: offsets))
    #expect(symbols.encoding == .selfRelative)
    #expect(symbols.address(of: "cpu_number") == 0xffff_ffff_8110_8000)
    #expect(symbols.address(of: "_stext") == 0xffff_ffff_8000_0000)
    #expect(symbols.address(of: "dmar_drhd_units") == 0xffff_ffff_8110_8008)
    let other = try Self.symbols(
      Self.kernel(
        stext: 0xffff_ffff_8000_0000, lines: Self.relativeLines, offsets: offsets,
        base: 0xffff_ffff_8100_0000))
    #expect(other.encoding == .selfRelative)
  }

  @Test func `whole addresses`() throws {
    let symbols = try Self.symbols(
      Self.kernel(
        lines: "SYMBOL(kallsyms_addresses)=ffffffff81107000\n",
        offsets: hexBytes("e099010000000000 00000084ffffffff e0fdbb85ffffffff")))
    #expect(symbols.encoding == .absolute)
    #expect(symbols.address(of: "dmar_drhd_units") == 0xffff_ffff_85bb_fde0)
  }

  @Test func `names that repeat are all found, and long ones have two bytes of length`() throws {
    let long = String(repeating: "x", count: 300)
    let packed =
      Self.name("T_stext") + Self.name("tprobe") + [0xad, 0x02] + Array(("t" + long).utf8)
      + Self.name("tprobe")
    let symbols = try Self.symbols(
      Self.kernel(
        packed, count: 4, lines: Self.relativeLines,
        offsets: hexBytes("ffffffff fdffffff fbffffff f9ffffff"), base: 0xffff_ffff_8400_0000))
    #expect(symbols.count == 4)
    #expect(symbols.addresses(of: "probe") == [0xffff_ffff_8400_0002, 0xffff_ffff_8400_0006])
    #expect(symbols.address(of: long) == 0xffff_ffff_8400_0004)
  }

  @Test func `what is left out ends the table, and what stands before is there`() throws {
    // Eight names of 512 bytes fill the page; the rest of the names is on the next.
    var packed = Self.name("T_stext")
    for number in 0..<40 {
      packed += Self.name("tsome_function_\(10 + number)" + String(repeating: "y", count: 100))
    }
    let offsets = (0..<41).flatMap { little(UInt64(0xffff_ffff - 16 * $0), 4) }
    let kernel = Self.kernel(
      packed, count: 41, lines: Self.relativeLines, offsets: offsets, base: 0xffff_ffff_8400_0000)
    let whole = try Self.symbols(kernel)
    #expect(whole.count == 41 && whole.problem == nil)
    let cut = try Self.symbols(kernel, without: [0x10_1000])
    // 8 bytes of _stext, then 118 each: 34 whole ones in 4,088.
    #expect(cut.count == 35)
    #expect(
      cut.problem
        == .absent(
          address: TinyKernel.text + 0x10_1000, physical: PhysicalAddress(0x10_1000), .absent))
    let name = "some_function_43" + String(repeating: "y", count: 100)
    #expect(cut.address(of: name) == 0xffff_ffff_8400_0220)
    #expect(cut.address(of: name.replacing("43", with: "44")) == nil)
  }

  @Test func `tables that cannot be are errors`() {
    func message(_ kernel: TinyKernel, without leftOut: Set<UInt64> = []) -> String? {
      readError { () throws(KernelReadError) in
        guard let memory = try? kernel.reader(without: leftOut) else { throw .null }
        return try KernelSymbols(kernel.info, in: memory)
      }?.description
    }
    let offsets = hexBytes("e0990100 ffffffff 1f0244fe")
    #expect(
      message(Self.kernel(lines: Self.relativeLines, offsets: offsets, base: 0))
        == "kallsyms gives _stext no address that is 0xffffffff84000000, in any encoding")
    #expect(
      message(Self.kernel(count: 0, lines: Self.relativeLines, base: 0))
        == "kallsyms of 0 symbols, where 1 to 4194304 can be")
    #expect(
      message(Self.kernel(count: 0xffff_ffff, lines: Self.relativeLines, base: 0))
        == "kallsyms of 4294967295 symbols, where 1 to 4194304 can be")
    #expect(
      message(Self.kernel(Self.name("Tother"), count: 1, lines: Self.relativeLines, base: 0))
        == "kallsyms has no _stext")
    #expect(message(Self.kernel()) == "VMCOREINFO has no SYMBOL(kallsyms_offsets)")
    #expect(message(TinyKernel()) == "VMCOREINFO has no SYMBOL(kallsyms_num_syms)")
    #expect(
      message(
        Self.kernel(lines: Self.relativeLines, offsets: offsets, base: 0), without: [0x10_0000])
        == "0xffffffff81100000, physical 0x100000, is not in this dump")
  }
}
