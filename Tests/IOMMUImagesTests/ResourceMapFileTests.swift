import IOMMUFormats
import IOMMUImages
import Testing

@Suite struct ResourceMapFileTests {
  @Test func `a mark of UTF-8 does not cost the first line`() throws {
    let directory = TemporaryDirectory()
    let path = directory.file(
      "iomem", "\u{feff}00001000-00001fff : Reserved\n00002000-00002fff : System RAM\n")
    let map = try ResourceMapFile.read(path)
    #expect(map.names(at: PhysicalAddress(0x1000)) == ["Reserved"])
    #expect(map.names(at: PhysicalAddress(0x2000)) == ["System RAM"])
  }
}
