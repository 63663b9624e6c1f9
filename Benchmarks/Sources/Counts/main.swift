import BenchmarkSupport
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

// Every hot function, twice over the same 65,536 addresses of 1 GiB, random ones or all the same page:
// once to bring caches and lazy binding to rest, and once to be counted by callgrind (see check.py),
// which tells the passes apart by `passEnded`.

/// Says which pass is over; its name in the machine code is where callgrind writes down its counts.
@inline(never)
func passEnded(_ name: String) {
  print(name)
}

func run() throws {
  let translations = 1 << 16
  let tables = try WorkloadTables(span: 1 << 30)
  let pattern = AddressPattern.random.addresses(count: translations, span: 1 << 30)
  var answers = [PackedTranslation](repeating: .addressTooWide, count: translations)

  func count(_ name: String, _ kind: TableKind, _ way: (TranslatorRuns) -> Run) {
    let first = tables.firstAddress(kind).rawValue
    count(
      name, pattern.map { IOVA($0.rawValue + first) }, kind,
      way(TranslatorRuns(tables.translator(kind))))
  }

  func count(_ name: String, _ addresses: [IOVA], _ kind: TableKind, _ pass: Run) {
    count(name, addresses, pass, expected: { tables.expected($0, kind: kind) })
  }

  func count(
    _ name: String, _ addresses: [IOVA], _ pass: Run, expected: (IOVA) -> PhysicalAddress
  ) {
    for ended in ["first pass", name] {
      addresses.withUnsafeBufferPointer { addresses in
        answers.withUnsafeMutableBufferPointer { pass(addresses, $0) }
      }
      passEnded(ended)
    }
    for (address, answer) in zip(addresses, answers) {
      precondition(answer.physical == expected(address), "\(name): wrong for \(address)")
    }
  }

  count("call", .vtd4Levels, \.calls)
  count("call-3-levels", .vtd3Levels, \.calls)
  count("call-5-levels", .vtd5Levels, \.calls)
  count("call-2m", .vtd2MiB, \.calls)
  count("call-1g", .vtd1GiB, \.calls)
  count("inlined", .vtd4Levels, \.inlined)
  count("batch", .vtd4Levels, \.batch)
  count("batch-3-levels", .vtd3Levels, \.batch)
  count("batch-5-levels", .vtd5Levels, \.batch)
  count("batch-2m", .vtd2MiB, \.batch)
  count("batch-regions", .vtd4Levels, \.batchRegions)
  count("amdvi-call", .amdvi4Levels, \.calls)
  count("amdvi-call-3-levels", .amdvi3Levels, \.calls)
  count("amdvi-inlined", .amdvi4Levels, \.inlined)
  count("amdvi-batch", .amdvi4Levels, \.batch)
  count("amdvi-batch-3-levels", .amdvi3Levels, \.batch)
  count("amdvi-batch-regions", .amdvi4Levels, \.batchRegions)
  count("tce-call", .tce, \.calls)
  count("tce-inlined", .tce, \.inlined)
  count("tce-batch", .tce, \.batch)
  count("gatt-call", .gatt, \.calls)
  count("gatt-inlined", .gatt, \.inlined)
  count("gatt-batch", .gatt, \.batch)

  // A unit's port: hits in the IOTLB, and in batches hits and misses.
  let hot = AddressPattern.hot.addresses(count: translations, span: 1 << 30)
  func port() throws -> RemappedPort {
    try RemappedPort(tables, .withoutPagingStructures())
  }
  count("port-call-hit", hot, .vtd4Levels, try port().calls)
  count("port-batch-hit", hot, .vtd4Levels, try port().batch)
  count("port-batch-miss", pattern, .vtd4Levels, try port().batch)
  count("port-call-miss", pattern, .vtd4Levels, try port().calls)
  // Requests of 64 KiB: pages in a row that are new, and the same ones again and again.
  let inOrder = (0..<UInt64(translations)).map { IOVA($0 << 12) }
  count("port-row-miss", inOrder, .vtd4Levels, try port().diskRequests)
  count(
    "port-row-hit", inOrder.map { IOVA($0.rawValue & 0xffff) }, .vtd4Levels,
    try port().diskRequests)
  let structures = try RemappedPort(tables, .hardware)
  count("port-call-structures", pattern, .vtd4Levels, structures.calls)
  // The same of first-stage tables, and of both.
  let staged = try StagedTables(span: 1 << 30)
  func count(
    _ name: String, _ stages: StagedTables.Stages, _ way: (RemappedPort) -> Run
  ) throws {
    let port = try RemappedPort(staged, stages, .withoutPagingStructures())
    count(name, pattern, way(port), expected: { staged.expected($0, stages) })
  }
  try count("port-first-call", .first, \.calls)
  try count("port-first-batch", .first, \.batch)
  try count("port-nested-call", .nested, \.calls)
}

try run()
