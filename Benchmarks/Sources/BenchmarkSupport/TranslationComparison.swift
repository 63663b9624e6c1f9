import IOMMUFormats
import IOMMUTranslation
import IOMMUWorkloads

/// A contender that translates addresses.
struct Walker {
  var name: String
  var run: Run
  /// What it writes down is where the pages are; otherwise it only does the same loads.
  var isTranslator = true

  init(_ name: String, _ run: @escaping Run) {
    self.name = name
    self.run = run
  }

  /// What no translation gets below on cold tables.
  static func bareLoad(_ run: @escaping Run) -> Walker {
    var walker = Walker("bare load", run)
    walker.isTranslator = false
    return walker
  }
}

/// A workload: addresses, and the tables that they go through.
struct Workload {
  var title: String
  var addresses: [IOVA]
  var kind: TableKind

  init(_ title: String, _ addresses: [IOVA], _ kind: TableKind) {
    self.title = title
    self.addresses = addresses
    self.kind = kind
  }
}

extension Workload {
  /// The five workloads of VT-d tables with four levels.
  static var vtd: [Workload] {
    [hotPage, sequential1GiB, random1GiB, random16GiB, zipf4GiB]
  }

  static var hotPage: Workload { vtd("hot page", .hot, 1 << 30) }
  static var sequential1GiB: Workload { vtd("sequential 1 GiB", .sequential, 1 << 30) }
  static var random1GiB: Workload { vtd("random 1 GiB", .random, 1 << 30) }
  static var random16GiB: Workload { vtd("random 16 GiB", .random, 16 << 30) }
  static var zipf4GiB: Workload { vtd("Zipf 0.99, 4 GiB", .zipf, 4 << 30) }

  /// - Parameter span: Bytes of IOVA.
  static func vtd(_ title: String, _ pattern: AddressPattern, _ span: UInt64) -> Workload {
    Workload(title, pattern.addresses(count: Suite.count, span: span), .vtd4Levels)
  }
}

extension Suite {
  /// Compares walkers over the same addresses.
  ///
  /// - Throws: ``WrongAnswer`` when a walker says anything but where the page is.
  func comparison(
    _ workload: Workload, _ walkers: [Walker], _ ratios: [Ratio], notes: [String] = []
  ) throws -> Comparison {
    try comparison(
      workload.title, workload.addresses, walkers, ratios, notes: notes,
      expected: { [tables] in tables.expected($0, kind: workload.kind) })
  }

  /// The same through any tables.
  func comparison(
    _ title: String, _ addresses: [IOVA], _ walkers: [Walker], _ ratios: [Ratio],
    notes: [String] = [], expected: (IOVA) -> PhysicalAddress
  ) throws -> Comparison {
    let block = AddressBlock(addresses)
    for walker in walkers where walker.isTranslator {
      block.forgetAnswers()
      walker.run(block.source, block.answers)
      try block.check(walker.name, title, expected)
    }
    return Comparison(
      title, unit: "translation", units: block.source.count,
      contenders: walkers.map { walker in
        Contender(walker.name) { walker.run(block.source, block.answers) }
      },
      ratios: ratios, notes: notes)
  }
}

/// Addresses and room for their answers.
final class AddressBlock {
  let source: UnsafeBufferPointer<IOVA>
  let answers: UnsafeMutableBufferPointer<PackedTranslation>

  init(_ addresses: [IOVA]) {
    let source = UnsafeMutableBufferPointer<IOVA>.allocate(capacity: addresses.count)
    _ = source.initialize(from: addresses)
    self.source = UnsafeBufferPointer(source)
    answers = .allocate(capacity: addresses.count)
    answers.initialize(repeating: .addressTooWide)
  }

  deinit {
    source.deallocate()
    answers.deallocate()
  }

  func forgetAnswers() { answers.update(repeating: .addressTooWide) }

  /// Looks at every 61st answer.
  ///
  /// - Throws: ``WrongAnswer`` of a contender when one is not what is expected.
  func check(
    _ contender: String, _ title: String, _ expected: (IOVA) -> PhysicalAddress
  ) throws {
    for index in stride(from: 0, to: source.count, by: 61) {
      guard answers[index].physical == expected(source[index]) else {
        throw WrongAnswer(contender, "\(title), \(source[index])")
      }
    }
  }
}
