import IOMMUFormats
import Testing

@Suite struct CacheControlTests {
  @Test func `bit 0 invalidates and bit 1 keeps a walk error`() {
    #expect(GART.CacheControl(rawValue: 1).invalidates)
    #expect(!GART.CacheControl(rawValue: 1).hasWalkError)
    #expect(GART.CacheControl(rawValue: 2).hasWalkError)
    #expect(!GART.CacheControl(rawValue: 2).invalidates)
  }
}
