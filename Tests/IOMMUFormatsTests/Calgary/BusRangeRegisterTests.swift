import IOMMUFormats
import Testing

@Suite struct BusRangeRegisterTests {
  typealias Register = Calgary.BusRangeRegister

  @Test func `T19: first and last bus`() throws {
    let register = try entry(Register.self, from: hexdump("00 02 03 00"))
    #expect(register.buses == 2...3)
    #expect(register.firstBus == 2)
    #expect(try stored(Register(firstBus: 2, lastBus: 3)) == hexdump("00 02 03 00"))
  }

  @Test func `T20: a last bus of 0 means the first alone`() throws {
    #expect(try entry(Register.self, from: hexdump("00 0a 00 00")).buses == 10...10)
    #expect(try entry(Register.self, from: hexdump("00 00 00 00")).buses == 0...0)
  }

  @Test func `buses the wrong way round are none`() {
    #expect(Register(firstBus: 3, lastBus: 2).buses == nil)
    #expect(Register(firstBus: 255, lastBus: 255).buses == 255...255)
    #expect(Register(firstBus: 0, lastBus: 255).buses == 0...255)
  }
}
