import IOMMUFormats
import Testing

@Suite struct ResemblanceTests {
  @Test(arguments: [
    ("find", "find", 0), ("fnd", "find", 1), ("wlak", "walk", 1), ("", "who", 3),
    ("diff", "find", 3),
    ("kitten", "sitting", 3), ("crashkernel", "crash_kernel", 1),
  ])
  func `a slip of the finger is one step`(first: String, second: String, distance: Int) {
    #expect(editDistance(first, second) == distance)
    #expect(editDistance(second, first) == distance)
  }

  @Test func `texts without end are as quick as others`() {
    #expect(editDistance(String(repeating: "a", count: 1 << 20), "") == 64)
  }

  @Test(
    arguments: [
      ("RAM", "ram"), ("crashkernel", "crash_kernel"), ("rm", "ram"), ("memory", nil),
      ("note", nil), ("", nil),
      ("x", nil),
    ] as [(String, String?)])
  func `a name is meant when it is near`(text: String, name: String?) {
    #expect(likelyName(for: text, among: ["name", "ram", "crash_kernel"]) == name)
    #expect(likelyName(for: text, among: []) == nil)
  }
}
