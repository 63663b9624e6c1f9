import Glibc
import IOMMUFormats
import Testing

/// Keeps `docs/vtd-coverage.md` true.
@Suite struct CoverageTests {
  static let root: String = {
    var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    parts.removeLast(4)
    return parts.joined(separator: "/")
  }()

  static func contents(_ path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 {
      bytes += chunk[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Every Swift file below a directory.
  static func sources(_ directory: String) -> [String] {
    guard let handle = opendir(directory) else { return [] }
    defer { closedir(handle) }
    var files: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard !name.hasPrefix(".") else { continue }
      if name.hasSuffix(".swift") {
        files.append("\(directory)/\(name)")
      } else {
        files += sources("\(directory)/\(name)")
      }
    }
    return files
  }

  /// The rows of the tables under a heading, without the tables' own headings.
  static func rows(
    _ heading: String, of document: String = "docs/vtd-coverage.md"
  ) throws -> [[String]] {
    let text = try #require(contents("\(root)/\(document)"))
    let section = try #require(
      text.split(separator: "\n## ").first { $0.hasPrefix(heading + "\n") })
    return section.split(separator: "\n").filter { $0.hasPrefix("| ") }
      .map { line in
        line.split(separator: "|").map { $0.trimming(" ") }.filter { !$0.isEmpty }
      }
      .filter { $0.last != "test" }
  }

  /// Test files by the names of their tests.
  static let tests: [String: [String]] = {
    var tests: [String: [String]] = [:]
    for path in sources(root + "/Tests") {
      guard let text = contents(path) else { continue }
      for piece in text.split(separator: "func `").dropFirst() {
        tests[String(piece.prefix { $0 != "`" }), default: []].append(text)
      }
    }
    return tests
  }()

  @Test(arguments: ["Registers", "Descriptors", "Queue errors (IQEI)", "Entries", "Faults"])
  func `every test in the tables exists`(heading: String) throws {
    let rows = try Self.rows(heading)
    #expect(rows.count >= 7)
    for row in rows {
      let test = try #require(row.last)
      #expect(Self.tests[test] != nil, "\(row[0]): no test is called '\(test)'")
    }
  }

  @Test func `every register is in the table`() throws {
    #expect(Set(try Self.rows("Registers").map { $0[0] }) == Set(VTd.registerMap.map(\.name)))
  }

  @Test func `every descriptor is in the table`() throws {
    let names = VTd.DescriptorType.allCases.map { $0.format.name.description }
    #expect(
      Set(try Self.rows("Descriptors").map { $0[0] })
        == Set(names + [VTd.PageRequestDescriptor.name.description]))
  }

  @Test func `every queue error is in the table`() throws {
    #expect(
      try Self.rows("Queue errors (IQEI)").map { $0[0] }
        == VTd.QueueError.allCases.map { "\($0.rawValue)" })
  }

  @Test func `every fault is in the table, and its test names the number`() throws {
    let rows = try Self.rows("Faults")
    #expect(
      rows.map { $0[0] }
        == VTd.FaultReason.named.map { hexadecimal($0.rawValue, digits: 2).uppercased() + "h" })
    for row in rows where !["60h", "A0h", "A1h", "A2h", "A3h", "A4h", "A5h"].contains(row[0]) {
      let digits = row[0].dropLast().lowercased()
      let spellings = [
        "0x\(digits)", "\(digits.drop { $0 == "0" })h",
        "\(digits.drop { $0 == "0" }.uppercased())h",
        "reason == \(UInt8(digits, radix: 16)!)",
      ]
      let files = Self.tests[row[1]] ?? []
      #expect(
        files.contains { text in spellings.contains { text.contains($0) } },
        "\(row[0]): the test '\(row[1])' does not name the number")
    }
  }

  @Test func `every field of every entry is in the table`() throws {
    let rows = try Self.rows("Entries")
    let entries: [any TableEntry.Type] = [
      VTd.RootEntry.self, VTd.ContextEntry.self, VTd.ScalableRootEntry.self,
      VTd.ScalableContextEntry.self, VTd.PASIDDirectoryEntry.self, VTd.PASIDTableEntry.self,
      VTd.SecondStageEntry.self, VTd.FirstStageEntry.self, VTd.InterruptRemappingEntry.self,
      VTd.PostedInterruptDescriptor.self,
    ]
    #expect(rows.map { $0[0] } == entries.map { $0.name.description })
    func fields<Entry: TableEntry>(_: Entry.Type) -> Set<String> {
      Set(
        Entry.exampleVariants.flatMap { Entry.fields($0) }
          .filter { $0.use != .reserved && $0.use != .ignored }.map { $0.name.description })
    }
    for (entry, row) in zip(entries, rows) {
      let listed = Set(row[1].split(separator: ",").map { $0.trimming(" ") })
      let missing = fields(entry).subtracting(listed).sorted()
      let unknown = listed.subtracting(fields(entry)).sorted()
      #expect(missing.isEmpty && unknown.isEmpty, "\(row[0]): \(missing), \(unknown)")
    }
  }
}

extension Substring {
  /// Without `character` at both ends.
  fileprivate func trimming(_ character: Character) -> String {
    var text = drop { $0 == character }
    while text.last == character { text.removeLast() }
    return String(text)
  }
}
