import Glibc

/// A directory that goes away with the test, and the files in it with it.
public final class TemporaryDirectory: Sendable {
  public let path: String

  public init() {
    var template = Array("/tmp/iommu-test-XXXXXX".utf8CString)
    path = String(cString: mkdtemp(&template)!)
  }

  deinit {
    for file in files { unlink("\(path)/\(file)") }
    rmdir(path)
  }

  /// What lies in the directory, sorted.
  public var files: [String] {
    guard let stream = opendir(path) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  public func path(_ name: String) -> String { "\(path)/\(name)" }

  /// Writes a file, not with the code under test.
  public func file(_ name: String, _ bytes: [UInt8]) -> String {
    let path = path(name)
    let stream = fopen(path, "w")!
    fwrite(bytes, 1, bytes.count, stream)
    fclose(stream)
    return path
  }

  public func file(_ name: String, _ text: String) -> String { file(name, Array(text.utf8)) }

  public func contents(_ name: String) -> [UInt8] { Repository.bytes(ofFile: path(name)) ?? [] }
}
