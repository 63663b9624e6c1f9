/// What a kernel says of itself for those who read its dump: lines of `KEY=VALUE`.
///
/// Source: Linux `Documentation/admin-guide/kdump/vmcoreinfo.rst`.
public struct VMCoreInfo: Sendable, Equatable {
  /// The name of its note.
  static let noteName = "VMCOREINFO"

  /// The keys and values in the order of the note.
  public let entries: [(key: String, value: String)]

  package init(_ content: some Collection<UInt8>) {
    let text = String(decoding: content.prefix { $0 != 0 }, as: UTF8.self)
    entries = text.split(separator: "\n").compactMap { line in
      guard let equals = line.firstIndex(of: "=") else { return nil }
      return (String(line[..<equals]), String(line[line.index(after: equals)...]))
    }
  }

  /// The value of a key such as `OSRELEASE` or `SYMBOL(init_uts_ns)`; the first one counts.
  public subscript(key: String) -> String? { entries.first { $0.key == key }?.value }

  public static func == (left: Self, right: Self) -> Bool {
    left.entries.elementsEqual(right.entries) { $0 == $1 }
  }
}
