import IOMMUFormats
import Testing

@Suite struct ConfigurationRegisterTests {
  typealias Register = Calgary.ConfigurationRegister

  @Test func `T15: enabling sets three bits and disabling clears the same`() throws {
    let register = Register(rawValue: 0x0040_0000)
    #expect(!register.translates)
    #expect(register.enablingTranslation.rawValue == 0x2150_0000)
    #expect(try stored(register.enablingTranslation) == hexdump("21 50 00 00"))
    #expect(register.enablingTranslation.disablingTranslation.rawValue == 0x0040_0000)
  }

  @Test func `T15: the bytes say what is on`() throws {
    let register = try entry(Register.self, from: hexdump("21 50 00 00"))
    #expect(register.translates)
    #expect(register.refusesDualAddressCycles)
    #expect(register.hasSecondWindow)
    #expect(!register.areSlotsDisabled)
  }

  @Test func `T16: the watchdog shuts all slots`() throws {
    let register = Register(rawValue: 0x2150_0000).disablingSlots
    #expect(register.rawValue == 0x3d50_0000)
    #expect(try stored(register) == hexdump("3d 50 00 00"))
    #expect(register.areSlotsDisabled)
    #expect(register.translates)
  }

  @Test(arguments: [0x0400_0000, 0x0800_0000, 0x1000_0000] as [UInt32])
  func `one slot bit is enough`(bit: UInt32) {
    #expect(Register(rawValue: bit).areSlotsDisabled)
  }
}
