import FuzzHarness
import Glibc
import IOMMUTestSupport
import Testing

/// Every input that ever ended a fuzz target badly, and the seeds, once more.
@Suite(.serialized) struct RegressionTests {
  private static func names(_ path: String) -> [String] {
    guard let stream = opendir(path) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
  }

  @Test func `every test that a promise names is there`() {
    let promises = Repository.text("docs/reliability.md").split(separator: "\n")
      .filter { $0.hasPrefix("|") }
    let suites = Set(
      promises.flatMap { $0.matches(of: /`(\w+Tests)`/).map { String($0.output.1) } })
    #expect(suites.count > 8)
    for suite in suites {
      #expect(
        Self.holdsSuite(suite, below: Repository.path + "/Tests") || suite == "RegressionTests",
        "\(suite)")
    }
  }

  private static func holdsSuite(_ suite: String, below path: String) -> Bool {
    names(path).contains { name in
      name == suite + ".swift" || !name.contains(".") && holdsSuite(suite, below: "\(path)/\(name)")
    }
  }

  @Test(arguments: FuzzTarget.allCases)
  func `a fuzz target ends well on every input that is kept`(target: FuzzTarget) {
    var count = 0
    for folder in ["Seeds", "Regressions"] {
      let path = "Fuzz/\(folder)/\(target.rawValue)"
      for name in Self.names("\(Repository.path)/\(path)") {
        Repository.bytes("\(path)/\(name)").withUnsafeBytes { target.run($0) }
        count += 1
      }
    }
    #expect(count > 0, "there is a seed for \(target)")
  }
}
