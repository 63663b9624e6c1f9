import ArgumentParser
import IOMMUFormats
import IOMMUInspection

/// Takes one entry apart.
package struct Decode: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "decode",
    abstract: "Take one table entry or register apart, or draw its layout.",
    discussion: """
      \(EntryCatalog.groups.map(list).joined(separator: "\n\n"))

      Firmware:
        \(FirmwareTableKind.allCases.map(\.summary).joined(separator: "\n  "))

      A table's file is binary, or text of acpidump, iasl, xxd, hexdump or od; one file may hold several \
      tables, and a directory is looked into. - is standard input.

      Without a value the layout is drawn: every bit, what it is for, and of registers where they lie.

      Example: iommu decode context 0x123456001 0x10202
      Example: iommu decode ss-pde
      Example: iommu decode dmar /sys/firmware/acpi/tables/DMAR

      Exits 0 when the entry is well formed, 1 when a reserved bit is set, or when a table breaks a rule \
      or can be read in part only.
      """)

  private static func list(_ group: EntryCatalog.Group) -> String {
    "\(group.name):\n"
      + group.kinds.map { "  \($0.name): \($0.summary)" }.joined(separator: "\n")
  }

  @Argument(
    help: "What it is, such as tce, gatt, context, ss-pte or irte.",
    completion: .list(EntryCatalog.all.map(\.name) + FirmwareTableKind.allCases.map(\.rawValue)))
  package var kind: String?

  @Argument(
    help: """
      The value as the manual numbers its bits; for 128-bit entries two quadwords, low first. \
      Without one the layout is drawn. For dmar, ivrs and iort, the table's file.
      """, completion: .file())
  package var words: [String] = []

  @Flag(help: "List all kinds of entries and registers with their sizes.")
  package var list = false

  @Option(
    help: ArgumentHelp(
      "VT-d: bits in a physical address, 32 to 52; those above are reserved in entries. Default: 52.",
      valueName: "bits"),
    transform: { try Notation.count($0, in: 32...52) })
  package var hostAddressWidth = 52

  @Flag(
    inversion: .prefixedNo,
    help: "VT-d: destinations of interrupts have 32 bits, by EIME of IRTA_REG, or 8.")
  package var eime: Bool?

  @Flag(help: "Tables: read one although the sum of its bytes is not zero.")
  package var ignoreChecksum = false

  @Option(help: "How to print it: text or json.")
  package var format = ReportFormat.text

  package init() {}

  package func validate() throws {
    if list {
      guard kind == nil else {
        throw ValidationError("--list prints all kinds: leave '\(kind?.visible ?? "")' out")
      }
      return
    }
    if ignoreChecksum, let kind, FirmwareTableKind(named: kind) == nil {
      throw ValidationError(
        "--ignore-checksum is about tables of firmware, and '\(kind.visible)' is an entry: leave it out"
      )
    }
    _ = try subject()
  }

  /// What is to be taken apart.
  private enum Subject {
    case table(FirmwareTableKind, path: String)
    case entry(EntryDescription)
    case layout(EntryLayout)
    case list
  }

  /// - Throws: `ValidationError` when kind and words do not go together.
  private func subject() throws -> Subject {
    if list { return .list }
    guard let kind else {
      throw ValidationError(
        "what kind of entry it is comes first; 'iommu decode --list' prints all kinds")
    }
    if let table = FirmwareTableKind(named: kind) {
      guard words.count == 1 else {
        throw ValidationError(
          "'\(kind)' takes the table's file, and \(words.count) words were given")
      }
      return .table(table, path: words[0])
    }
    guard let entry = try? EntryCatalog.Kind(named: kind) else {
      throw ValidationError(unknownKind(kind))
    }
    let words = try words.map { text -> UInt64 in
      guard let word = Notation.hexadecimal(utf8: text.utf8) else {
        throw ValidationError("'\(text.visible)' is not a 64-bit hexadecimal number")
      }
      return word
    }
    var circumstances = EntryCatalog.Circumstances()
    circumstances.vtd.limits.hostAddressWidth = hostAddressWidth
    circumstances.vtd.usesExtendedMode = eime
    guard !words.isEmpty else { return .layout(EntryLayout(entry, under: circumstances)) }
    do {
      return .entry(try entry.describe(words, under: circumstances))
    } catch {
      throw ValidationError("\(error)")
    }
  }

  private static func isKind(_ text: String) -> Bool {
    FirmwareTableKind(named: text) != nil || EntryCatalog.kind(named: text) != nil
  }

  /// Why the first word is no kind, and what was meant.
  private func unknownKind(_ kind: String) -> String {
    if let place = words.firstIndex(where: Self.isKind) {
      var rest = [kind] + words
      rest.insert(rest.remove(at: place + 1), at: 0)
      return "the kind comes first: 'iommu decode \(rest.joined(separator: " ").visible)'"
    }
    let tables = FirmwareTableKind.allCases.map(\.rawValue)
    if let table = likelyName(for: kind, among: tables) {
      return
        "there is no kind '\(kind.visible)'; nearest is '\(table)', a table of firmware in a file"
    }
    return "\(DecodeError.unknownKind(kind.visible))"
  }

  package func run() throws {
    var screen = StandardOutput()
    guard try report(to: &screen) else { throw ExitCode(1) }
  }

  package func report(to out: inout some TextOutputStream) throws -> Bool {
    try readingInput {
      switch try subject() {
      case .table(let table, let path):
        return try table.report(path: path, ignoringChecksum: ignoreChecksum, format, to: &out)
      case .entry(let description):
        switch format {
        case .text: description.write(to: &out)
        case .json: try writeJSON(description, to: &out)
        }
        return description.isWellFormed
      case .layout(let layout):
        switch format {
        case .text: layout.write(to: &out)
        case .json: try writeJSON(layout, to: &out)
        }
        return true
      case .list:
        switch format {
        case .text: CatalogLine.write(to: &out)
        case .json: try writeJSON(CatalogLine.all, to: &out)
        }
        return true
      }
    }
  }
}
