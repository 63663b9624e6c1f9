import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation

/// Requires that two machines translate alike: the same pages for the same devices, wherever their tables
/// lie.
///
///     try requireSameMappings(MachineInMemory(machine, in: mine), expected)
///
/// - Throws: `TableMismatch` that names the first range that differs, the entry at which the two ways
///   part and its fields, and how many ranges differ besides.
/// - Complexity: O(entries of all tables in force).
public func requireSameMappings(
  _ actual: some TranslatingTables, _ expected: some TranslatingTables
) throws(TableMismatch) {
  let difference = MapsDifference(
    before: expected.machine, in: expected.memory, after: actual.machine, in: actual.memory)
  let rows = difference.rows.filter(\.isDifferent)
  if let row = rows.first {
    let count = rows.reduce(0) { $0 + max(1, $1.differences.count + $1.omittedDifferenceCount) }
    throw mismatch(row, otherCount: count - 1, actual, expected)
  }
  // What nobody can see is not the same.
  let gaps = difference.blindness.gaps
  if let gap = gaps.first {
    throw TableMismatch(
      summary: "a table cannot be compared: \(gap.text)", entry: nil, otherCount: gaps.count - 1)
  }
}

private func mismatch(
  _ row: MapsDifference.Row, otherCount: Int, _ actual: some TranslatingTables,
  _ expected: some TranslatingTables
) -> TableMismatch {
  guard let run = row.differences.first else {
    return TableMismatch(
      summary: "\(row.name): \(row.tableText)", entry: nil, otherCount: otherCount)
  }
  func text(_ target: RunDifference.Target?) -> String {
    target.map { "leads to \($0.physical) \($0.access)" } ?? "is not mapped"
  }
  let iova = run.iova.lowerBound
  return TableMismatch(
    summary: "\(row.name): IOVA \(run.iova.text) \(text(run.after)), expected: \(text(run.before))",
    entry: row.owner.flatMap { parting(of: $0, at: iova, actual, expected) },
    otherCount: otherCount)
}

/// Where two walks part: the lowest entry that differs, and by more than where a table lies.
private func parting(
  of owner: TableOwner, at iova: IOVA, _ actual: some TranslatingTables,
  _ expected: some TranslatingTables
) -> EntryMismatch? {
  guard let device = owner.device else { return nil }
  var pasid: PASID?
  if case .requester(_, let space) = owner { pasid = space }
  func steps(_ tables: some TranslatingTables) -> [WalkStep] {
    // A device of a segment without units has no steps.
    (try? ToldWalk(
      device, pasid: pasid, iova, access: .read, machine: tables.machine, in: tables.memory))?
      .steps ?? []
  }
  let (one, other) = (steps(actual), steps(expected))
  let common = min(one.count, other.count)
  for index in (0..<common).reversed() {
    let (mine, theirs) = (one[index], other[index])
    guard mine.place == theirs.place else { continue }
    // Tables lie elsewhere in another memory; what the last entry of either walk names is compared.
    let isLast = index == common - 1
    let found = EntryMismatch(
      "\(theirs.titleText) of \(owner)", actual: mine.entry, at: mine.address,
      expected: theirs.entry, at: theirs.address, comparesAddresses: isLast)
    if let found { return found }
  }
  return nil
}
