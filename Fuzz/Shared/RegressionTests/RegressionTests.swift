import Glibc
import Testing

/// Every input that ever ended a fuzz target badly, and the seeds, once more.
@Suite(.serialized) struct RegressionTests {
  private static let directory = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    .dropLast(3).joined(separator: "/")

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

  private static func contents(_ path: String) -> [UInt8] {
    guard let stream = fopen(path, "r") else { return [] }
    defer { fclose(stream) }
    var bytes: [UInt8] = []
    while case let byte = fgetc(stream), byte >= 0 { bytes.append(UInt8(byte)) }
    return bytes
  }

  @Test(arguments: FuzzTarget.allCases)
  func `a fuzz target ends well on every input that is kept`(target: FuzzTarget) {
    var count = 0
    for folder in ["Seeds", "Regressions"] {
      let path = "\(Self.directory)/\(folder)/\(target.rawValue)"
      for name in Self.names(path) {
        Self.contents("\(path)/\(name)").withUnsafeBytes { target.run($0) }
        count += 1
      }
    }
    #expect(count > 0, "there is a seed for \(target)")
  }
}
