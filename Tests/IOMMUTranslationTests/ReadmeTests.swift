import IOMMUFormats
import IOMMUTestSupport
import Testing

/// The code in README, compiled and run as it stands there.
@Suite struct ReadmeTests {
  @Test func `the code that README shows is the code that runs here`() throws {
    let shown = try #require(
      Repository.text("README.md").split(separator: "```swift\n").dropFirst().first?
        .split(separator: "```").first)
    let code = shown.split(separator: "\n", omittingEmptySubsequences: false).dropFirst(3)
    let source = Repository.text("Tests/IOMMUTranslationTests/ReadmeSnippet.swift")
    for line in code where !line.isEmpty {
      #expect(source.contains("\n    \(line.replacing("print(", with: "tell("))\n"), "\(line)")
    }
    var told: [String] = []
    try readmeSnippet { told.append($0) }
    #expect(told == ["64 bytes at 0x8040"])
  }

  @Test func `the code that the page on builders shows runs, and prints what stands below it`()
    throws
  {
    let shown = Repository.text("docs/builders.md").split(separator: "```swift\n").dropFirst().map {
      $0.split(separator: "```")[0]
    }
    let source = Repository.text("Tests/IOMMUTranslationTests/BuildersSnippet.swift")
    #expect(shown.count == BuildersSnippet.blocks.count)
    for (code, block) in zip(shown, BuildersSnippet.blocks) {
      let lines = code.split(separator: "\n")
      for line in lines {
        #expect(source.contains("\n      \(line.replacing("print(", with: "tell("))\n"), "\(line)")
      }
      let memory = try FlatMemory(byteCount: 16 << 20)
      var told: [String] = []
      try block(memory, physical(0x8000..<0xa000)) { told.append($0) }
      let expected = lines.filter { $0.hasPrefix("// ") }.map { String($0.dropFirst(3)) }
      #expect(!expected.isEmpty)
      #expect(told == expected)
    }
  }
}
