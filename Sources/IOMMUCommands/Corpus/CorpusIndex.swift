import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTesting

/// What a corpus has: the file `index.json` in it.
struct CorpusIndex: Codable {
  /// The only version there is.
  static let version = 1
  static let fileName = "index.json"

  var version = Self.version
  var cases: [Case] = []

  /// One case: a directory of its own.
  struct Case: Codable {
    /// Also the directory's name.
    var name: String
    var kind: String
    var summary: String
    var seed: UInt64
    /// What is wrong with the tables; left out where nothing is.
    var damage: String?
    /// Where the manual describes what is damaged.
    var damageSource: String?
    var requests: Int
    /// Those that must be stopped, by the number of the fault.
    var faults: [Fault]
    /// Where the manual numbers the faults; left out where the hardware does not.
    var faultSource: String?
    var image: String
    var machine: String
    var answers: String

    enum CodingKeys: String, CodingKey {
      case name, kind, summary, seed, damage, requests, faults, image, machine, answers
      case damageSource = "damage_source"
      case faultSource = "fault_source"
    }
  }

  struct Fault: Codable {
    /// Left out where the hardware has none.
    var number: String?
    var requests: Int
  }
}

extension CorpusIndex.Case {
  init(_ tables: TableCase, name: String) {
    var counts: [UInt8?: Int] = [:]
    for probe in tables.probes {
      if case .fault(let number) = probe.expected { counts[number, default: 0] += 1 }
    }
    self.init(
      name: name, kind: tables.kind.rawValue, summary: tables.kind.summary, seed: tables.seed,
      damage: tables.damage, damageSource: tables.damageSource, requests: tables.probes.count,
      faults: counts.sorted { ($0.key ?? 0) < ($1.key ?? 0) }.map { number, count in
        CorpusIndex.Fault(number: number.map { hexadecimal(UInt64($0)) }, requests: count)
      },
      faultSource: tables.kind.faultSource, image: "\(name)/image.elf",
      machine: "\(name)/machine.json", answers: "\(name)/translate.tsv")
  }

  /// For people: a heading, and what the case is.
  func write(to out: inout some TextOutputStream) {
    func line(_ text: String) {
      for part in wrapped("  \(text)", to: 80) { print(part, to: &out) }
    }
    print(name, to: &out)
    line(summary)
    if let damage { line("damaged: \(damage)" + (damageSource.map { " (\($0))" } ?? "")) }
    let stopped = faults.reduce(0) { $0 + $1.requests }
    let numbers = faults.compactMap(\.number)
    line(
      "\(groupedCount(requests, "request")), \(grouped(stopped)) of them stopped"
        + (numbers.isEmpty ? "" : ": " + numbers.joined(separator: ", "))
        + (faultSource.map { " (\($0))" } ?? ""))
  }
}

extension CorpusIndex {
  /// Reads the index of a corpus.
  ///
  /// - Throws: ``ImageError`` that names the file and what is wrong in it; ``InputError``.
  init(directory: String) throws {
    let path = "\(directory)/\(Self.fileName)"
    self = try decodeJSON(Self.self, path: path, atMost: 64 << 20, kind: "the index of a corpus")
    guard version == Self.version else {
      throw InputError(
        "\(path): version \(version) of a corpus is not known; write it again with 'iommu corpus -o'"
      )
    }
  }

  /// What lies beside the index for people: what all of it is, and each case.
  var readme: String {
    var text = """
      Tables of IOMMUs, requests through them, and what must become of each.

      A case is a directory. image.elf is the memory: an ELF core of 16 MiB from 0
      on, and nothing answers elsewhere. machine.json says what the unit's registers
      hold. translate.tsv has a request a line, with tabs between its columns: the
      requester, with a PASID behind a slash where the request carries one; the
      IOVA; r or w; and the answer: a physical address, 'fault:0x5' with the manual's
      number, or 'fault' where the hardware has none. Each is a request for one byte,
      by itself; caches are empty, and accessed and dirty bits are of no account.

      The units have every feature that their manual knows, but for what machine.json
      says. Answers follow from what was mapped and from what was damaged, by the
      manual's tables of faults; no program has walked the tables for them.

      'iommu corpus --check PROGRAM DIRECTORY' asks a program for all answers.


      """
    for one in cases {
      one.write(to: &text)
      text += "\n"
    }
    return text
  }

  /// How many there are of each kind.
  var counts: KindCounts {
    var table = KindCounts(["cases", "damaged", "requests", "stopped"])
    for one in cases {
      table.add(
        [
          1, one.damage == nil ? 0 : 1, one.requests,
          one.faults.reduce(0) { $0 + $1.requests },
        ], to: one.kind)
    }
    return table
  }
}

/// Counts by kinds of tables, and their sums.
struct KindCounts {
  private let titles: [String]
  private var rows: [(kind: String, counts: [Int])] = []

  init(_ titles: [String]) { self.titles = titles }

  mutating func add(_ counts: [Int], to kind: String) {
    if let row = rows.firstIndex(where: { $0.kind == kind }) {
      rows[row].counts = zip(rows[row].counts, counts).map(+)
    } else {
      rows.append((kind, counts))
    }
  }

  /// A line for each kind, and one for all.
  func write(to out: inout some TextOutputStream) {
    let sums = titles.indices.map { column in rows.reduce(0) { $0 + $1.counts[column] } }
    let cells =
      [["kind"] + titles]
      + (rows + [("total", sums)]).map { [$0.kind] + $0.counts.map { grouped($0) } }
    let widths = (0...titles.count).map { column in cells.map { $0[column].count }.max() ?? 0 }
    for line in cells {
      let numbers = zip(line, widths).dropFirst().map { "  " + $0.paddedLeft(to: $1) }
      print(line[0].padded(to: widths[0]) + numbers.joined(), to: &out)
    }
  }
}
