import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct DirectMappingTests {
  struct Reach: Sendable {
    let address: UInt64
    let byteCount: UInt64
    /// In the order of the columns: GART and nommu, swiotlb 2.6.27, 2.6.28, 7.0, coherent.
    let needsHelp: [Bool]
    var buffer: Range<PhysicalAddress> {
      PhysicalAddress(address)..<PhysicalAddress(address + byteCount)
    }
  }

  static let columns: [MappingRule] = [
    .gartAndNommuLinux2_6_27, .swiotlbLinux2_6_27, .swiotlbLinux2_6_28, .linux7_0,
    .coherentLinux2_6_27,
  ]

  /// With a mask of 32 bits.
  static let table: [Reach] = [
    Reach(address: 0xffff_f000, byteCount: 0x1000, needsHelp: [true, false, true, false, true]),
    Reach(address: 0xffff_e000, byteCount: 0x1000, needsHelp: [false, false, false, false, false]),
    Reach(address: 0xffff_f000, byteCount: 0x2000, needsHelp: [true, false, true, true, true]),
    Reach(address: 0x1_0000_0000, byteCount: 0x10, needsHelp: [true, true, true, true, true]),
    Reach(address: 0xffff_fff0, byteCount: 0xf, needsHelp: [false, false, false, false, true]),
    Reach(address: 0xffff_ffff, byteCount: 1, needsHelp: [true, false, true, false, true]),
  ]

  @Test(arguments: table)
  func `each rule says yes and no where the kernel does`(reach: Reach) {
    #expect(Self.columns.map { $0.needsHelp(reach.buffer, mask: 0xffff_ffff) } == reach.needsHelp)
  }

  @Test func `the table above has a column for every rule`() {
    #expect(Set(Self.columns) == Set(MappingRule.allCases))
  }

  @Test(arguments: MappingRule.allCases)
  func `no rule helps a device that reaches everything`(rule: MappingRule) {
    let high = PhysicalAddress(1 << 46)..<PhysicalAddress(1 << 47)
    #expect(!rule.needsHelp(high, mask: .max))
  }

  @Test(arguments: MappingRule.allCases)
  func `every rule helps a 24 bit device at 16 MiB`(rule: MappingRule) {
    let buffer = PhysicalAddress(0x100_0000)..<PhysicalAddress(0x100_0001)
    #expect(rule.needsHelp(buffer, mask: 0xff_ffff))
  }

  @Test func `rules carry the number of their quirk`() {
    #expect(Self.columns.map(\.quirk) == ["Q8", "Q9", "Q8", nil, nil])
  }

  @Test func `a reached buffer is mapped to itself`() {
    let buffer = PhysicalAddress(0x1234)..<PhysicalAddress(0x2345)
    for version in DirectMapping.Version.allCases {
      let nommu = DirectMapping(version: version)
      #expect(nommu.map(buffer, mask: 0xffff_ffff) == .mapped(PhysicalAddress(0x1234)))
    }
  }

  @Test func `the last page below 4 GiB is refused in 2008 and mapped today`() {
    let page = PhysicalAddress(0xffff_f000)..<PhysicalAddress(0x1_0000_0000)
    let old = DirectMapping(version: .linux2_6_27)
    let new = DirectMapping(version: .linux7_0)
    #expect(old.map(page, mask: 0xffff_ffff) == .beyondMask(isLogged: true))
    #expect(new.map(page, mask: 0xffff_ffff) == .mapped(PhysicalAddress(0xffff_f000)))
  }

  @Test func `a refusal is logged for masks of 32 bits and more`() {
    let high = PhysicalAddress(1 << 40)..<PhysicalAddress(1 << 40 + 1)
    let old = DirectMapping(version: .linux2_6_27)
    #expect(old.map(high, mask: 0x7fff_ffff) == .beyondMask(isLogged: false))
    #expect(old.map(high, mask: 0xffff_ffff) == .beyondMask(isLogged: true))
    #expect(old.map(high, mask: 0xf_ffff_ffff) == .beyondMask(isLogged: true))
    let new = DirectMapping(version: .linux7_0)
    #expect(new.map(high, mask: 0x7fff_ffff) == .beyondMask(isLogged: true))
  }

  @Test func `a refused driver gets 0 in 2008 and all ones today`() {
    #expect(DirectMapping(version: .linux2_6_27).errorValue == 0)
    #expect(DirectMapping(version: .linux7_0).errorValue == 0xffff_ffff_ffff_ffff)
  }

  @Test func `one buffer out of reach refuses the whole list`() {
    let low = PhysicalAddress(0x1000)..<PhysicalAddress(0x2000)
    let high = PhysicalAddress(0x1_0000_0000)..<PhysicalAddress(0x1_0000_0010)
    let nommu = DirectMapping(version: .linux2_6_27)
    #expect(
      nommu.map(list: [low, low], mask: 0xffff_ffff)
        == [PhysicalAddress(0x1000), PhysicalAddress(0x1000)])
    #expect(nommu.map(list: [low, high], mask: 0xffff_ffff) == nil)
    #expect(nommu.map(list: [], mask: 0xffff_ffff) == [])
  }

  @Test func `masks below 24 bits are refused`() {
    let nommu = DirectMapping(version: .linux2_6_27)
    #expect(nommu.supports(mask: 0xff_ffff))
    #expect(!nommu.supports(mask: 0x7f_ffff))
    #expect(DirectMapping(version: .linux7_0).supports(mask: 0x7f_ffff))
  }

  @Test func `an empty mapping stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let nothing = PhysicalAddress(0x1000)..<PhysicalAddress(0x1000)
      _ = DirectMapping(version: .linux7_0).map(nothing, mask: .max)
    }
  }
}
