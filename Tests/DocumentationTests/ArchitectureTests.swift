import IOMMUTestSupport
import Testing

/// docs/architecture.md against Package.swift.
@Suite struct ArchitectureTests {
  /// The floor of each module, as the page draws it.
  static func floors() -> [String: Int] {
    var floors: [String: Int] = [:]
    var floor = 0
    for line in Document("docs/architecture.md").blocks.first?.lines ?? [] {
      var words = line.split(separator: " ")
      if words.first == "floor", let digit = words.dropFirst().first?.utf8.first {
        floor = Int(digit) - 48
        words.removeFirst(2)
      }
      if let name = words.first { floors[String(name)] = floor }
    }
    return floors
  }

  /// What each target of the package names that is a module of the page.
  static func arrows(_ floors: [String: Int]) -> [(from: String, to: String)] {
    let targets = Repository.text("Package.swift")
      .matches(of: #/\.(?:executableTarget|target)\(\s*name: "(\w+)"(?s:(.*?))\n?\s*\),?\n/#)
    return targets.flatMap { target -> [(from: String, to: String)] in
      let name = String(target.1)
      guard floors[name] != nil else { return [] }
      return target.2.matches(of: #/"(\w+)"/#).map { String($0.1) }
        .filter { floors[$0] != nil && $0 != name }.map { (name, $0) }
    }
  }

  @Test func `modules import what lies below them, and what the page names beside`() {
    let floors = Self.floors()
    #expect(floors.count == 16 && floors["IOMMUFormats"] == 0 && floors["iommu"] == 4)
    let arrows = Self.arrows(floors)
    #expect(arrows.count >= 30)
    let page = Document("docs/architecture.md").lines.joined(separator: " ")
    var level: [String] = []
    for (from, to) in arrows where floors[from]! <= floors[to]! {
      #expect(floors[from] == floors[to], "\(from) imports \(to) above it")
      level.append("`\(from)` to `\(to)`")
    }
    for arrow in level { #expect(page.contains(arrow), "\(arrow)") }
    #expect(page.matches(of: #/`\w+` to `\w+`/#).count == level.count)
  }

  @Test func `every library is in README's table of modules`() {
    let readme = Repository.text("README.md")
    for match in Repository.text("Package.swift").matches(
      of: #/\.library\(name: "(IOMMU\w+)", targets/#)
    {
      #expect(readme.contains("| `\(match.1)` |"), "\(match.1)")
    }
  }
}
