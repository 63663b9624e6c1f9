import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTranslation

/// Asks somebody else's program for the answers of a corpus.
struct CorpusCheck {
  var program: OtherProgram
  /// Kinds that are asked for; empty for all.
  var kinds: Set<String>
  /// Where a fault is expected, one of another number will do.
  var takesAnyFault: Bool
  /// Differences that are kept of each case.
  var differenceLimit: Int

  /// What came of one case.
  struct CaseResult: Encodable {
    var name: String
    var kind: String
    var damage: String?
    var requests: Int
    /// Answers that are wrong in what becomes of the request.
    var wrongOutcomes = 0
    /// Faults of another number than the manual's.
    var wrongNumbers = 0
    /// Answers that say `unknown`.
    var unknown = 0
    /// The first of them.
    var differences: [Difference] = []
    /// Why there are no answers, or no more.
    var error: String?

    var differenceCount: Int { wrongOutcomes + wrongNumbers + unknown }
    var passed: Bool { differenceCount == 0 && error == nil }
  }

  /// A request that was answered otherwise.
  struct Difference: Encodable {
    var requester: String
    var pasid: UInt32?
    var iova: String
    var access: String
    var answer: String
    var expected: String

    fileprivate var text: String {
      let source = requester + (pasid.map { "/\($0)" } ?? "")
      return "\(source) \(iova) \(access.prefix(1)): \(answer), expected \(expected)"
    }
  }

  struct Result: Encodable {
    var passed: Int
    var failed: Int
    var cases: [CaseResult]
  }

  /// Runs the program for every case.
  ///
  /// - Throws: ``ImageError`` and ``InputError`` for a corpus that cannot be read, and a program that
  ///   cannot be run at all. What the program does wrong is in the result.
  func check(_ directory: String) throws -> Result {
    let index = try CorpusIndex(directory: directory)
    let cases = index.cases.filter { kinds.isEmpty || kinds.contains($0.kind) }
    guard !cases.isEmpty else {
      throw InputError("\(directory): no case of these kinds; leave --kind out")
    }
    return try HeldSignals.during { signals in
      let progress = ProgressBar("check")
      defer { progress.finish() }
      var results: [CaseResult] = []
      for one in cases {
        try signals.check()
        progress.update(UInt64(results.count), of: UInt64(cases.count))
        results.append(try check(one, in: directory, signals))
      }
      let passed = results.count(where: \.passed)
      return Result(passed: passed, failed: results.count - passed, cases: results)
    }
  }

  private func check(
    _ one: CorpusIndex.Case, in directory: String, _ signals: HeldSignals
  ) throws -> CaseResult {
    let expected = try Self.expected("\(directory)/\(one.answers)")
    var input: [UInt8] = []
    for request in expected { input += Array("\(request.text)\n".utf8) }
    let run = try program.run(
      ["\(directory)/\(one.image)", "--machine", "\(directory)/\(one.machine)"], input: input,
      // As much again as the longest answer, for whoever writes more than asked for.
      outputLimit: 65_536 + input.count + 64 * expected.count, signals)
    if case .exited(let status) = run.end, status == 126 || status == 127 {
      throw InputError("\(program.command): cannot be run\(Self.told(run.errors))")
    }
    var result = CaseResult(
      name: one.name, kind: one.kind, damage: one.damage, requests: expected.count)
    let answered = compare(run.output, with: expected, in: &result)
    if let end = words(run) {
      result.error = "\(end) after \(answered) of \(groupedCount(expected.count, "answer"))"
    } else if result.error == nil, answered < expected.count {
      result.error = "\(answered) of \(groupedCount(expected.count, "answer"))"
    }
    return result
  }

  /// How the program ended, where that was no end of its own that all is well with.
  private func words(_ run: OtherProgram.Run) -> String? {
    switch run.end {
    // 1 is an answer of some programs: there were faults.
    case .exited(0), .exited(1): nil
    // So a shell tells of a signal.
    case .exited(let status) where 129...192 ~= status:
      "ended by signal \(status - 128)\(Self.told(run.errors))"
    case .exited(let status): "exit status \(status)\(Self.told(run.errors))"
    case .signalled(let number): "ended by signal \(number)\(Self.told(run.errors))"
    case .timedOut: "not done in \(program.timeLimit.components.seconds) s, and ended"
    case .tooMuch: "more output than any answers have, and ended"
    }
  }

  /// The first line of what it complained of.
  private static func told(_ errors: [UInt8]) -> String {
    let line = errors.split(separator: UInt8(ascii: "\n")).first ?? []
    return line.isEmpty ? "" : " (\(String(decoding: line.prefix(200), as: UTF8.self)))"
  }

  /// Holds answers against what is expected.
  ///
  /// - Returns: How many there are, up to the first line that is none.
  private func compare(
    _ output: [UInt8], with expected: [Expected], in result: inout CaseResult
  ) -> Int {
    var count = 0
    for line in output.split(separator: UInt8(ascii: "\n")) {
      let columns = line.split { $0 == UInt8(ascii: "\t") || $0 == 0x20 || $0 == 0x0d }
      guard let first = columns.first, first.first != UInt8(ascii: "#") else { continue }
      guard count < expected.count else {
        result.error = "more answers than \(groupedCount(expected.count, "request"))"
        return count
      }
      let request = expected[count]
      // The answer alone, or behind the request.
      let isAnswer = columns.count == 1 || columns.count > 3 && request.begins(columns)
      guard isAnswer, let answer = GivenAnswer(columns[columns.count - 1]) else {
        // As a hexdump shows it: a long word would not be broken.
        let shown = line.prefix(40).map { 0x20..<0x7f ~= $0 ? String(UnicodeScalar($0)) : "." }
        result.error =
          "'\(shown.joined())' is no answer to '\(request.text.replacing("\t", with: " "))'"
        return count
      }
      count += 1
      switch (answer, request.answer) {
      case (.unknown, _): result.unknown += 1
      case (.fault(let number), .fault(let wanted)):
        guard let wanted, number != wanted, !takesAnyFault else { continue }
        result.wrongNumbers += 1
      default:
        guard answer != request.answer else { continue }
        result.wrongOutcomes += 1
      }
      guard result.differences.count < differenceLimit else { continue }
      result.differences.append(
        Difference(
          requester: "\(request.device)", pasid: request.pasid?.rawValue,
          iova: hexadecimal(request.iova), access: "\(request.access)", answer: answer.text,
          expected: request.answer.text))
    }
    return count
  }

  // MARK: The files

  /// A request, and what must come of it.
  private struct Expected {
    /// The request as it stands in the file.
    var text: String
    var device: PCI.Function
    var pasid: PASID?
    var iova: UInt64
    var access: Access
    var answer: GivenAnswer

    /// `nil` for a line that is none.
    init?(_ line: ArraySlice<UInt8>) {
      let columns = line.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false)
      guard columns.count == 4, let answer = GivenAnswer(columns[3]), answer != .unknown,
        let request = Self.request(columns)
      else { return nil }
      text = String(decoding: line.dropLast(columns[3].count + 1), as: UTF8.self)
      (device, pasid, iova, access) = request
      self.answer = answer
    }

    /// The first three columns, however they are spelt.
    private static func request(
      _ columns: [ArraySlice<UInt8>]
    ) -> (PCI.Function, PASID?, UInt64, Access)? {
      let source = String(decoding: columns[0], as: UTF8.self)
      guard let (device, pasid) = try? Notation.deviceAndPASID(source),
        let iova = Notation.hexadecimal(utf8: columns[1])
      else { return nil }
      switch String(decoding: columns[2], as: UTF8.self) {
      case "r": return (device, pasid, iova, .read)
      case "w": return (device, pasid, iova, .write)
      default: return nil
      }
    }

    /// Whether a line begins with this request.
    func begins(_ columns: [ArraySlice<UInt8>]) -> Bool {
      guard let request = Self.request(columns) else { return false }
      return request == (device, pasid, iova, access)
    }
  }

  private static func expected(_ path: String) throws -> [Expected] {
    let bytes = try fileContents(path, atMost: 64 << 20, remedy: "is it part of a corpus at all?")
    var requests: [Expected] = []
    var number = 0
    for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      number += 1
      guard !line.isEmpty, line.first != UInt8(ascii: "#") else { continue }
      guard let request = Expected(line) else {
        let shown = String(decoding: line.prefix(60), as: UTF8.self).debugDescription
        throw InputError(
          "\(path), line \(number): \(shown): a line has a requester, an IOVA, r or w and an answer, "
            + "with tabs between them; write the corpus again")
      }
      requests.append(request)
    }
    return requests
  }
}

/// An answer as `iommu translate` prints it.
private enum GivenAnswer: Hashable {
  case memory(UInt64)
  case fault(UInt64?)
  case interrupt
  case unknown

  /// `nil` for what is none.
  init?(_ text: ArraySlice<UInt8>) {
    switch String(decoding: text, as: UTF8.self) {
    case "fault": self = .fault(nil)
    case "interrupt": self = .interrupt
    case "unknown": self = .unknown
    case let word where word.hasPrefix("fault:"):
      guard let number = Notation.hexadecimal(utf8: word.utf8.dropFirst(6)) else { return nil }
      self = .fault(number)
    default:
      guard let address = Notation.hexadecimal(utf8: text) else { return nil }
      self = .memory(address)
    }
  }

  var text: String {
    switch self {
    case .memory(let address): hexadecimal(address)
    case .fault(let number): "fault" + (number.map { ":" + hexadecimal($0) } ?? "")
    case .interrupt: "interrupt"
    case .unknown: "unknown"
    }
  }
}

extension CorpusCheck.Result {
  /// A line for each case, more where it failed, and how many differ of each kind.
  func write(to out: inout some TextOutputStream) {
    var table = KindCounts(["cases", "failed", "requests", "outcome", "number", "unknown"])
    for one in cases {
      one.write(to: &out)
      table.add(
        [
          1, one.passed ? 0 : 1, one.requests, one.wrongOutcomes, one.wrongNumbers, one.unknown,
        ], to: one.kind.visible)
    }
    print("", to: &out)
    table.write(to: &out)
    print("\(grouped(passed)) passed, \(grouped(failed)) failed", to: &out)
  }
}

extension CorpusCheck.CaseResult {
  fileprivate func write(to out: inout some TextOutputStream) {
    func line(_ text: String) {
      for part in wrapped("      \(text.visible)", to: 80) { print(part, to: &out) }
    }
    let count = groupedCount(requests, "request")
    print(
      passed
        ? "ok    \(name.visible): \(count)"
        : "FAIL  \(name.visible): \(count), \(grouped(differenceCount)) answered otherwise",
      to: &out)
    guard !passed else { return }
    if let damage { line("damaged: \(damage)") }
    if let error { line(error) }
    for one in differences { line(one.text) }
    if differences.count < differenceCount, !differences.isEmpty {
      line("and \(grouped(differenceCount - differences.count)) more")
    }
  }
}
