import IOMMUFormats
import Testing

/// docs/formats has a page for every entry; that its drawings are those of the field tables, the tests of all
/// commands show.
@Suite struct FormatPageTests {
  @Test func `every entry is on a page`() {
    let pages = Document.all.filter { $0.path.hasPrefix("docs/formats/") }
    #expect(pages.count >= 18)
    let text = pages.flatMap(\.lines).joined(separator: "\n")
    for kind in EntryCatalog.all {
      #expect(
        text.contains("iommu decode \(kind.name)\n")
          || text.contains("`iommu decode \(kind.name)`"),
        "\(kind.name)")
    }
  }

  /// Set IOMMU_RECORD=1 to write what commands print into the pages anew, and look at what changed.
  @Test func `pages can be written anew`() throws {
    guard Recorder.isOn else { return }
    for page in Document.all where page.path.hasPrefix("docs/") {
      try Recorder.record(page)
    }
  }

  @Test func `every page is in the index`() {
    let index = Document("docs/formats/README.md").lines.joined(separator: "\n")
    for page in Document.all where page.path.hasPrefix("docs/formats/") {
      let name = page.path.split(separator: "/").last.map(String.init) ?? ""
      #expect(name == "README.md" || index.contains("](\(name))"), "\(name)")
    }
  }
}
