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
}
