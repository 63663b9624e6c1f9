import IOMMUFormats
import Testing

@Suite struct ApertureControlTests {
  typealias Register = GART.ApertureControl

  @Test func `0x3 is enabled with 64 MiB`() throws {
    let register = try entry(Register.self, from: hexdump("03 00 00 00"))
    #expect(register.isEnabled && register.translatesIO && register.translatesCPU)
    #expect(register.order == 1)
    #expect(register.apertureByteCount == 67_108_864)
    #expect(try stored(Register(isEnabled: true, order: 1)) == hexdump("03 00 00 00"))
  }

  @Test func `0xb is enabled with 1 GiB`() throws {
    let register = try entry(Register.self, from: hexdump("0b 00 00 00"))
    #expect(register.isEnabled)
    #expect(register.order == 5)
    #expect(register.apertureByteCount == 1_073_741_824)
    #expect(try stored(Register(isEnabled: true, order: 5)) == hexdump("0b 00 00 00"))
  }

  @Test func `0xf is order 7, which has no size`() throws {
    let register = try entry(Register.self, from: hexdump("0f 00 00 00"))
    #expect(register.order == 7)
    #expect(register.apertureByteCount == nil)
    #expect(try stored(Register(isEnabled: true, order: 7)) == hexdump("0f 00 00 00"))
  }

  @Test func `0x13 keeps the CPU out`() throws {
    let register = try entry(Register.self, from: hexdump("13 00 00 00"))
    #expect(register.isEnabled && !register.translatesCPU && register.translatesIO)
    #expect(
      try stored(Register(isEnabled: true, order: 1, blocksCPU: true)) == hexdump("13 00 00 00"))
  }

  @Test func `0x23 keeps devices out`() throws {
    let register = try entry(Register.self, from: hexdump("23 00 00 00"))
    #expect(register.isEnabled && register.translatesCPU && !register.translatesIO)
    #expect(
      try stored(Register(isEnabled: true, order: 1, blocksIO: true)) == hexdump("23 00 00 00"))
  }

  @Test func `0x43 walks without probes`() throws {
    let register = try entry(Register.self, from: hexdump("43 00 00 00"))
    #expect(register.isEnabled && register.translatesCPU && register.translatesIO)
    #expect(register.order == 1)
    #expect(
      try stored(Register(isEnabled: true, order: 1, walksWithoutProbes: true))
        == hexdump("43 00 00 00"))
  }

  @Test func `each switch is its own bit`() {
    var register = Register(rawValue: 0x0000_0002)
    register.isEnabled = true
    #expect(register.rawValue == 0x03)
    register.walksWithoutProbes = true
    #expect(register.rawValue == 0x43)
    register.blocksCPU = true
    register.blocksIO = true
    #expect(register.rawValue == 0x73)
    register.isEnabled = false
    register.blocksCPU = false
    #expect(register.rawValue == 0x62)
    #expect(register.blocksIO && !register.blocksCPU && register.walksWithoutProbes)
  }

  @Test func `a register of zeros translates for nobody`() {
    let register = Register(rawValue: 0)
    #expect(!register.isEnabled && !register.translatesCPU && !register.translatesIO)
  }

  static let sizes: [(order: Int, byteCount: UInt64)] = [
    (0, 33_554_432), (1, 67_108_864), (2, 134_217_728), (3, 268_435_456), (4, 536_870_912),
    (5, 1_073_741_824), (6, 2_147_483_648),
  ]

  @Test(arguments: sizes)
  func `an order is a size from 32 MiB to 2 GiB`(order: Int, byteCount: UInt64) {
    #expect(Register(isEnabled: true, order: order).apertureByteCount == byteCount)
    #expect(Register(isEnabled: false, order: order).order == order)
  }
}
