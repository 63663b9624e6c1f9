import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation

/// Requires that tables lie in two memories byte for byte alike.
///
///     try requireSameBytes(MachineInMemory(machine, in: mine), expected)
///
/// - Parameters:
///   - actual: What a test looks at.
///   - expected: What it should be, at the same addresses.
///   - ranges: What is compared, half-open; `nil` for every table that follows from the registers of
///     one or the other.
/// - Throws: `TableMismatch` that names the first entry that differs, its fields, and how many bytes
///   differ besides.
/// - Complexity: O(bytes compared, and entries of all tables in force).
public func requireSameBytes(
  _ actual: some TranslatingTables, _ expected: some TranslatingTables,
  in ranges: [Range<PhysicalAddress>]? = nil
) throws(TableMismatch) {
  let ranges = joined(ranges ?? actual.tableRanges + expected.tableRanges)
  var first: PhysicalAddress?
  var count = 0
  for range in ranges {
    for page in range.pages {
      let (one, other) = (actual.memory.storedBytes(page), expected.memory.storedBytes(page))
      guard one != other else { continue }
      for index in one.indices where one[index] != other[index] {
        first = first ?? PhysicalAddress(page.lowerBound.rawValue + UInt64(index))
        count += 1
      }
    }
  }
  guard let first else { return }
  throw TableMismatch(
    summary: byteText(first, actual.memory, expected.memory),
    entry: entryMismatch(at: first, actual, expected), otherCount: count - 1)
}

private func byteText(
  _ address: PhysicalAddress, _ actual: some PhysicalMemory, _ expected: some PhysicalMemory
) -> String {
  func text(_ memory: some PhysicalMemory) -> String {
    memory.bytes(at: address, count: 1).map { "0x" + hexadecimal($0[0], digits: 2) } ?? "not there"
  }
  return "the byte at \(address) is \(text(actual)), expected \(text(expected))"
}

/// The entry that an address lies in, as the expected tables have it, or where it is in none of those,
/// the actual ones.
private func entryMismatch(
  at address: PhysicalAddress, _ actual: some TranslatingTables, _ expected: some TranslatingTables
) -> EntryMismatch? {
  for annotator in [expected.annotator, actual.annotator] {
    let expectedEntries = annotator.entries(at: address, in: expected.memory)
    for entry in annotator.entries(at: address, in: actual.memory) {
      guard let other = expectedEntries.first(where: { $0.title == entry.title }) else { continue }
      return EntryMismatch(
        entry.title + (entry.iova.map { " for IOVA \($0)" } ?? ""), actual: entry.entry,
        at: entry.address, expected: other.entry,
        at: other.address)
    }
  }
  return nil
}

extension TranslatingTables {
  var annotator: Annotator { Annotator(machine, in: memory) }
}

/// The same addresses in ranges that are ascending and do not touch.
func joined(_ ranges: [Range<PhysicalAddress>]) -> [Range<PhysicalAddress>] {
  var all: [Range<PhysicalAddress>] = []
  for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) where !range.isEmpty {
    if let last = all.last, range.lowerBound <= last.upperBound {
      all[all.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
    } else {
      all.append(range)
    }
  }
  return all
}

extension Range<PhysicalAddress> {
  /// The range cut at multiples of 4 KiB.
  fileprivate var pages: some Sequence<Range<PhysicalAddress>> {
    sequence(state: lowerBound) { start -> Range<PhysicalAddress>? in
      guard start < upperBound else { return nil }
      let last = start.rawValue | 4095
      let end = last < upperBound.rawValue ? PhysicalAddress(last + 1) : upperBound
      defer { start = end }
      return start..<end
    }
  }
}

extension PhysicalMemory {
  /// Bytes of a range of a page, `nil` for those that are not there.
  fileprivate func storedBytes(_ range: Range<PhysicalAddress>) -> [UInt8?] {
    if let all = bytes(at: range.lowerBound, count: Int(range.byteCount)) { return all }
    return (0..<range.byteCount).map { offset in
      bytes(at: PhysicalAddress(range.lowerBound.rawValue + offset), count: 1)?[0]
    }
  }
}
