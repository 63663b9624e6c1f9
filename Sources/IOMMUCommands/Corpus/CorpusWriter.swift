import IOMMUFormats
import IOMMUImages
import IOMMUTesting

/// Writes cases into a directory that appears whole or not at all.
struct CorpusWriter {
  var kinds: [TableCase.Kind]
  var seeds: Range<UInt64>
  /// Whether to write whole tables, damaged ones or both.
  var damage: [Bool]

  /// The name of a case, and of its directory.
  static func name(_ kind: TableCase.Kind, _ seed: UInt64, isDamaged: Bool) -> String {
    "\(kind.rawValue)-\(seed)" + (isDamaged ? "-damaged" : "")
  }

  /// - Throws: ``InputError`` when something is there already or cannot be written, ``ImageError``
  ///   likewise. Nothing is left then.
  func write(to path: String) throws -> CorpusIndex {
    try HeldSignals.during { signals in
      let directory = try NewDirectory(path)
      let progress = ProgressBar("corpus")
      defer { progress.finish() }
      let total = UInt64(kinds.count * damage.count) * UInt64(seeds.count)
      var index = CorpusIndex()
      for kind in kinds {
        for seed in seeds {
          for isDamaged in damage {
            try signals.check()
            progress.update(UInt64(index.cases.count), of: total)
            let tables = TableCase(kind, seed: seed, isDamaged: isDamaged)
            let entry = CorpusIndex.Case(
              tables, name: Self.name(kind, seed, isDamaged: isDamaged))
            try write(tables, entry, in: directory)
            index.cases.append(entry)
          }
        }
      }
      var text = ""
      try writeJSON(index, to: &text)
      try write(text, to: "\(directory.temporary)/\(CorpusIndex.fileName)")
      try write(index.readme, to: "\(directory.temporary)/README")
      try signals.check()
      try directory.commit()
      return index
    }
  }

  private func write(
    _ tables: TableCase, _ entry: CorpusIndex.Case, in directory: NewDirectory
  ) throws {
    _ = try OutputDirectory("\(directory.temporary)/\(entry.name)")
    try ELFCoreWriter.write(tables.memory, to: "\(directory.temporary)/\(entry.image)")
    var file = MachineFile(machine: tables.machine, images: ["image.elf"])
    file.name = entry.name
    try file.write(to: "\(directory.temporary)/\(entry.machine)")
    var text = "#requester\tiova\taccess\tanswer\n"
    for probe in tables.probes { text += "\(probe.requestLine)\t\(probe.expected.line)\n" }
    try write(text, to: "\(directory.temporary)/\(entry.answers)")
  }

  private func write(_ text: String, to path: String) throws {
    let file = try OutputFile(path: path)
    try file.write(Array(text.utf8))
    try file.commit()
  }
}

extension TableCase.Probe {
  /// As `iommu translate` reads it.
  fileprivate var requestLine: String {
    "\(device)\(pasid.map { "/\($0)" } ?? "")\t\(iova)\t\(access == .read ? "r" : "w")"
  }
}

extension TableCase.Answer {
  /// As `iommu translate` prints it.
  fileprivate var line: String {
    switch self {
    case .memory(let address): "\(address)"
    case .fault(let number): number.map { "fault:\(hexadecimal(UInt64($0)))" } ?? "fault"
    }
  }
}
