import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// One number for all that is released, and one name for the command wherever it is said.
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

  @Test(arguments: [
    ("Example: iommu walk x", "Example: iommu-tables walk x"),
    ("'iommu find' lists", "'iommu-tables find' lists"),
    ("x | iommu\n  explain y", "x | iommu-tables\n  explain y"),
    ("iommu --mode vtd", "iommu-tables --mode vtd"),
    ("iommu walk; iommu find", "iommu-tables walk; iommu-tables find"),
    ("trace events iommu and dma", "trace events iommu and dma"),
    ("iommu walker", "iommu walker"), ("swift-iommu walk", "swift-iommu walk"),
    ("/usr/bin/iommu walk", "/usr/bin/iommu walk"), ("iommu", "iommu"), ("iommu ", "iommu "),
  ])
  func `another name stands where a command line begins`(text: String, renamed: String) {
    let commands = ["walk", "find", "explain"]
    #expect(
      ProgramName.replacing("iommu", by: "iommu-tables", in: text, commands: commands) == renamed)
  }

  @Test(arguments: [
    ("iommu", "iommu"), ("/usr/bin/iommu", "iommu"), ("./iommu-tables", "iommu-tables"),
    ("iommu.old", "iommu.old"),
  ])
  func `the name is the last part of the path`(path: String, name: String) {
    #expect(ProgramName.name(in: path) == name)
  }

  @Test(arguments: [
    "", "/", "-iommu", ".hidden", "two words", "a'b", "$(x)", "\u{1b}[1m", "ü",
    String(repeating: "x", count: 65),
  ])
  func `what cannot be typed as it stands is no name`(path: String) {
    #expect(ProgramName.name(in: path) == nil)
  }
}
