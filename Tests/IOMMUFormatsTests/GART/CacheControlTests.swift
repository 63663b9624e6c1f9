import IOMMUFormats
import Testing

@Suite struct CacheControlTests {
  @Test func `bit 0 invalidates and bit 1 keeps a walk error`() {
    #expect(GART.CacheControl(rawValue: 1).invalidates)
    #expect(!GART.CacheControl(rawValue: 1).hasWalkError)
    #expect(GART.CacheControl(rawValue: 2).hasWalkError)
    #expect(!GART.CacheControl(rawValue: 2).invalidates)
  }

  @Test func `the two bits are set and cleared one by one`() {
    var register = GART.CacheControl(rawValue: 0)
    register.invalidates = true
    #expect(register.rawValue == 1)
    register.hasWalkError = true
    register.invalidates = false
    #expect(register.rawValue == 2)
  }
}
