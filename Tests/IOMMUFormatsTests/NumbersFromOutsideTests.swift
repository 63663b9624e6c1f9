import Foundation
import IOMMUTestSupport
import Testing

/// What the sources do with numbers that come from files, tables and command lines.
///
/// These tests read the sources. Where one fails, the line that it names is to be looked at by somebody
/// who asks what a hostile file could put there.
@Suite struct NumbersFromOutsideTests {
  /// Every line of the library and the tool, without comments, with its file and number.
  private static let lines: [(file: String, number: Int, text: Substring)] = {
    let root = Repository.path + "/Sources"
    let files = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
    return files.filter { $0.hasSuffix(".swift") }.sorted().flatMap { file in
      Repository.text("Sources/\(file)").split(separator: "\n", omittingEmptySubsequences: false)
        .enumerated().map { (file, $0.offset + 1, $0.element) }
        .filter { !$0.2.drop { $0 == " " }.hasPrefix("//") }
    }
  }()

  private func places(_ isFound: (Substring) -> Bool) -> [String] {
    Self.lines.filter { isFound($0.text) }.map { "\($0.file):\($0.number): \($0.text)" }
  }

  @Test func `the sources are found`() {
    #expect(Self.lines.count > 20_000)
  }

  /// `Int("+3", radix: 16)` is 3, and `Int("-3", radix: 16)` traps whoever takes it for an unsigned one:
  /// numbers are read by the one grammar (`Notation`), or by `LineScanner`, which does what it does for
  /// bytes of a trace.
  @Test func `no text is a number but by the one grammar`() {
    #expect(
      places { $0.firstMatch(of: #/U?Int[0-9]*\(.*radix: [0-9]+\)/#) != nil } == [])
  }

  /// Decimal numbers by Swift's own initialisers: each is behind a look at its digits, or takes a sign on
  /// purpose.
  private static let decimals = [
    "IOMMUFormats/Notation.swift": 1,
    "IOMMUImages/KdumpWriter.swift": 1,
    "IOMMUImages/SystemNames.swift": 2,
    "IOMMUInspection/Explain/Logs/FaultLogReader.swift": 2,
    "IOMMUInspection/Explain/Logs/LogLine.swift": 1,
    "IOMMUInspection/Explain/Logs/OtherLogReaders.swift": 1,
    "IOMMUKdump/GART/GARTOptions.swift": 1,
  ]

  @Test func `who reads decimal numbers is known`() {
    let bound = #/let [a-z]\w* = U?Int[0-9]*\((?:String\()?[a-z]\w*\)/#
    let mapped = #/flatMap\((?:\{ )?U?Int[0-9]*(?:\.init|\(\$0\))/#
    let found = Self.lines.filter { line in
      (line.text.contains("guard ") || line.text.contains("if ")) && line.text.contains(bound)
        || line.text.contains(mapped)
    }
    #expect(Dictionary(grouping: found, by: \.file).mapValues(\.count) == Self.decimals)
  }

  /// Lines of what reads containers and firmware's tables that add, multiply or shift places and lengths
  /// with operators that trap. Each was looked at: its numbers have been held against the file's length,
  /// or have too few bits to leave 64.
  private static let plain = [
    "IOMMUFormats/ACPI/FirmwareStructure.swift": 3,
    "IOMMUFormats/ACPI/IORT/IORT+Parsing.swift": 7,
    "IOMMUFormats/ACPI/TableHeader.swift": 3,
    "IOMMUFormats/AMDVi/IVRS/IVRS+Parsing.swift": 13,
    "IOMMUFormats/Calgary/ExtendedBIOSData.swift": 4,
    "IOMMUFormats/Calgary/RioTable.swift": 9,
    "IOMMUFormats/VTd/DMAR/DMAR+Findings.swift": 1,
    "IOMMUFormats/VTd/DMAR/DMAR+Parsing.swift": 13,
    "IOMMUImages/Containers/LiMEReader.swift": 7,
    "IOMMUImages/Containers/SnappyStream.swift": 10,
    "IOMMUImages/Containers/VMwareState.swift": 8,
    "IOMMUImages/Containers/XenCore.swift": 13,
    "IOMMUImages/DumpFile.swift": 9,
    "IOMMUImages/ELFCoreReader.swift": 9,
    "IOMMUImages/ELFNotes.swift": 11,
    "IOMMUImages/FirmwareTableFile.swift": 5,
    "IOMMUImages/FlattenedStream.swift": 5,
    "IOMMUImages/FrameBitmap.swift": 11,
    "IOMMUImages/HexDumpText.swift": 3,
    "IOMMUImages/KdumpFile.swift": 9,
    "IOMMUImages/KdumpHeader.swift": 8,
    "IOMMUImages/KdumpMemory.swift": 7,
    "IOMMUImages/SegmentTable.swift": 10,
    "IOMMUImages/SystemRAM.swift": 0,
  ]

  @Test(arguments: plain.keys.sorted())
  func `a sum of places and lengths is checked, or was looked at`(file: String) {
    let before =
      #/(?:[oO]ffset|[lL]ength|Count|count|[sS]ize|[eE]nd|[sS]tart|[iI]ndex|last)\)? (?:\+|\*|<<|-) /#
    let behind =
      #/ (?:\+|\*|<<|-) (?:U?Int[0-9]*\()?\w*(?:[oO]ffset|[lL]ength|Count|count|[sS]ize)\b/#
    let found = Self.lines.filter {
      $0.file == file && ($0.text.contains(before) || $0.text.contains(behind))
    }
    #expect(
      found.count == Self.plain[file],
      """
      look at what a hostile file makes of these, then change the number:
      \(found.map { "\($0.number): \($0.text)" }.joined(separator: "\n"))
      """)
  }
}
