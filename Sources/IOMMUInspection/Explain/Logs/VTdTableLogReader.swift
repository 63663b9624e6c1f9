import IOMMUFormats

/// Reads what Linux and Xen print of the tables behind a VT-d fault, and of the invalidation queue.
///
/// Source: Linux `drivers/iommu/intel/iommu.c`, `dmar_fault_dump_ptes`, and `dmar.c`, `qi_dump_fault`;
/// Xen `drivers/passthrough/vtd/utils.c`, `print_vtd_entries`.
enum VTdTableLogReader: LogReader {
  static var unit: String { "Intel VT-d" }
  static var examples: [LogExample] { [] }

  static var marks: [StaticString] {
    [
      "table entries for IOVA", "scalable mode root entry:", "root entry:", "context entry: hi",
      "pasid dir entry:", "pasid table entry[", "pte level:", "PTE not present at level",
      "page table not present at level", "QI HEAD:", "QI PRIOR:", "print_vtd_entries:",
      "root_entry[", "context[", "l1[", "l2[", "l3[", "l4[", "l5[",
    ]
  }

  static func read(_ message: LogMessage) -> LogReading {
    let text = message.text[...]
    let scanner = LogScanner(text)
    func piece(_ piece: LoggedTables.Piece?) -> LogReading {
      piece.map { .table($0) } ?? .begunTable
    }
    if text.hasPrefix("table entries") {
      return piece(scanner.hexadecimal(after: "IOVA ").map { .heading(iova: $0) })
    }
    if text.hasPrefix("scalable mode root entry:") {
      return piece(words(text).map { .root(low: $0.low, high: $0.high, isScalable: true) })
    }
    if text.hasPrefix("root entry:") {
      return piece(
        scanner.hexadecimal(after: "root entry:").map {
          .root(low: $0, high: 0, isScalable: false)
        })
    }
    if text.hasPrefix("context entry:") {
      return piece(words(text).map { .context(low: $0.low, high: $0.high) })
    }
    if text.hasPrefix("pasid dir entry:") {
      return piece(scanner.hexadecimal(after: "entry:").map { .directory($0) })
    }
    if text.hasPrefix("pasid table entry[") {
      guard let index = scanner.decimal(after: "entry["), index < 8,
        let value = scanner.hexadecimal(after: "]:")
      else { return .begunTable }
      return .table(.pasidEntry(word: Int(index), value))
    }
    if text.hasPrefix("pte level:") {
      guard let level = scanner.decimal(after: "level:"), 1...5 ~= level,
        let value = scanner.hexadecimal(after: "value:")
      else { return .begunTable }
      return .table(.page(level: Int(level), value))
    }
    if text.hasPrefix("PTE not present at level") {
      return piece(scanner.decimal(after: "level").map { .missing(level: Int(clamping: $0)) })
    }
    if text.hasPrefix("QI ") {
      guard let low = scanner.hexadecimal(after: "qw0 ="),
        let high = scanner.hexadecimal(after: "qw1 =")
      else { return .begunTable }
      return .words(
        LoggedWords(name: text.hasPrefix("QI HEAD") ? "QI HEAD" : "QI PRIOR", words: [low, high]))
    }
    return xen(text, scanner)
  }

  private static func words(_ text: Substring) -> (low: UInt64, high: UInt64)? {
    let scanner = LogScanner(text)
    guard let high = scanner.hexadecimal(after: "hi "), let low = scanner.hexadecimal(after: "low ")
    else { return nil }
    return (low, high)
  }

  private static func xen(_ text: Substring, _ scanner: LogScanner) -> LogReading {
    if text.hasPrefix("print_vtd_entries:") {
      guard
        let frame = scanner.hexadecimal(after: "gmfn = ") ?? scanner.hexadecimal(after: "gmfn "),
        frame < 1 << 52
      else { return .begunTable }
      return .table(.heading(iova: frame << 12))
    }
    var value = scanner
    guard value.skip(past: "] = ") else { return .nothing }
    if text.hasPrefix("context[") {
      let halves = value.rest.prefix { $0.isHexDigit || $0 == "_" }.split(separator: "_")
      guard halves.count == 2, let high = Notation.hexadecimal(utf8: halves[0].utf8),
        let low = Notation.hexadecimal(utf8: halves[1].utf8)
      else { return .nothing }
      return .table(.context(low: low, high: high))
    }
    guard let word = value.hexadecimal() else { return .nothing }
    if text.hasPrefix("root_entry[") {
      return .table(.root(low: word, high: 0, isScalable: false))
    }
    guard let level = text.dropFirst().first?.wholeNumberValue else { return .nothing }
    return .table(.page(level: level, word))
  }
}
