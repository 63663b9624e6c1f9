import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// One number for all that is released.
@Suite struct VersionTests {
  @Test func `the tool's version is a semantic one`() {
    let version = Tool.configuration.version
    #expect(version.wholeMatch(of: /[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?/) != nil)
  }

  @Test func `the change log begins with the tool's version`() throws {
    let text = Repository.text("CHANGELOG.md")
    let heading = try #require(text.split(separator: "\n").first { $0.hasPrefix("## ") })
    #expect(heading == "## \(Tool.configuration.version)")
  }
}
