import FoundationEssentials
import IOMMUCommands
import IOMMUConformance
import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUInspection
import IOMMUTestSupport
import IOMMUTranslation

/// A table with signature and length that make it past the first look; as it is where it has none.
func signed(_ bytes: [UInt8], _ signature: String) -> [UInt8] {
  guard bytes.count >= 8 else { return bytes }
  var bytes = bytes
  bytes.replaceSubrange(0..<4, with: Array(signature.utf8))
  for index in 0..<4 { bytes[4 + index] = UInt8(truncatingIfNeeded: bytes.count >> (8 * index)) }
  return bytes
}

/// Reads bytes as a firmware table, describes it, and asks a DMAR table about devices.
enum DMARExercise {
  static func run(_ bytes: [UInt8]) {
    _ = try? VTd.DMAR(parsing: bytes)
    do {
      let table = try FirmwareTableFile.table(of: "DMAR", in: bytes, name: "fuzz")
      require(
        table == bytes || table.starts(with: "DMAR".utf8), "what a text has is the table asked for")
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
    }
    guard bytes.count >= 8 else { return }
    if let table = try? AMDVi.IVRS(parsing: bytes, ignoringChecksum: true) {
      let again = try? AMDVi.IVRS(parsing: table.bytes)
      require(
        table.unread != nil || again?.blocks == table.blocks && again?.header == table.header,
        "a table that is written has its blocks as they were")
      return check(FirmwareTableReport(table))
    }
    if let report = (try? ACPI.IORT(parsing: bytes, ignoringChecksum: true))
      .map({ FirmwareTableReport($0) })
    {
      return check(report)
    }
    if let reading = try? VTd.DMAR.Reading(bytes, ignoringChecksum: true) {
      let report = DMARReport(reading)
      Output.check(encoded: report)
      require(reading.damage == nil || !report.isWellFormed, "damage is a complaint")
    }
    let table: VTd.DMAR
    do {
      table = try VTd.DMAR(parsing: signed(bytes, "DMAR"), ignoringChecksum: true)
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
      return
    }
    let report = DMARReport(table)
    var text = ""
    report.write(to: &text)
    Output.check(text: text)
    Output.check(encoded: report)
    let again = try? VTd.DMAR(parsing: table.bytes)
    require(
      again?.placedStructures.map(\.offset) == table.placedStructures.map(\.offset),
      "a table that is written has its structures where they were")
    ask(RemappingHardware(table, topologies: [topology]))
  }

  private static func check(_ report: FirmwareTableReport) {
    var text = ""
    report.write(to: &text)
    Output.check(text: text)
    Output.check(encoded: report)
  }

  /// Bus 0 with a root port 1c.0 and an endpoint 2.0; behind the port a bridge to PCI with a card.
  private static let topology: PCI.Topology = {
    var topology = PCI.Topology()
    let root = topology.addRootBus(0)
    topology.addEndpoint(device: 2, on: root, portType: .rootComplexEndpoint)
    let port = topology.addBridge(.rootPort, device: 0x1c, on: root)
    let pci = topology.addBridge(.expressToPCIBridge, device: 0, on: port)
    topology.addEndpoint(device: 3, on: pci, portType: nil)
    guard (try? topology.assignBusNumbers()) != nil else { fatalError("three buses") }
    return topology
  }()

  private static func ask(_ hardware: RemappingHardware) {
    for requester in [0, 0x10, 0xe0, 0x100, 0x200, 0x218, 0xffff] as [UInt16] {
      let requester = Requester(rawValue: requester)
      _ = hardware.unit(of: requester)
      _ = hardware.reservedMemory(of: requester)
      _ = hardware.allowsATS(of: requester)
    }
    for number in [0, 1, 8, 255] as [UInt8] {
      _ = hardware.ioapic(number)
      _ = hardware.hpet(number)
    }
  }
}

/// Reads bytes as a kernel's log, and explains its faults against tables.
enum LogExercise {
  /// Explained for one log; each looks through all tables.
  private static let explainedCount = 8

  static func run(_ bytes: [UInt8]) {
    var reader = FaultLogReader()
    let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for line in lines { reader.read(utf8: line) }
    reader.finish()
    require(reader.lineCount == lines.count, "each line is counted")
    for fault in reader.faults {
      require(
        fault.line >= 1 && fault.lines.upperBound <= lines.count, "a fault has its lines")
      require(fault.count >= 1, "a fault that was read came once")
    }
    for line in reader.unread { require(1...lines.count ~= line.line, "a line is one of the log") }
    for fault in reader.faults.prefix(explainedCount) {
      var text = ""
      let explanation = FaultExplanation(fault)
      explanation.write(to: &text)
      Output.check(text: text)
      Output.check(encoded: explanation)
    }
    for explainer in explainers {
      for fault in reader.faults.prefix(explainedCount) {
        let explanation = explainer.explain(fault)
        var text = ""
        explanation.write(to: &text)
        Output.check(text: text)
        Output.check(encoded: explanation)
      }
    }
  }

  nonisolated(unsafe) private static let explainers: [FaultExplainer<LackingMemory>] =
    ([.legacy, .nested, .calgary] as [RandomMachine.Kind]).map { kind in
      guard let random = try? RandomMachine(kind, seed: 7) else { fatalError("no memory") }
      return FaultExplainer(random.machine, in: random.memory)
    }
}

/// Explains faults with a list of what lies where and a trace of mappings: three documents with 0x1e
/// between them, the first the log.
enum ContextExercise {
  nonisolated(unsafe) private static let resources = ScratchFile("iomem")
  nonisolated(unsafe) private static let trace = ScratchFile("history")

  static func run(_ bytes: [UInt8]) {
    let documents = bytes.split(
      separator: 0x1e, maxSplits: 2, omittingEmptySubsequences: false)
    guard documents.count == 3 else { return }
    var reader = FaultLogReader()
    for line in documents[0].split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    {
      reader.read(utf8: line)
    }
    reader.finish()
    let map = ResourceMap(String(decoding: documents[1], as: UTF8.self))
    checkNames(map)
    resources.fill(Array(documents[1]))
    trace.fill(Array(documents[2]))
    // What cannot be read is told, and the other is read all the same.
    for (iomem, history) in [
      (resources.path, trace.path), (resources.path, nil), (nil, trace.path),
    ] {
      guard let knowledge = try? FaultKnowledge.inFiles(iomem: iomem, trace: history) else {
        fatalError("two files")
      }
      let context: FaultContext
      do {
        context = try knowledge.context(for: reader.faults) {
          Output.check(text: $0.visible { _ in false })
        }
      } catch {
        require(!"\(error)".isEmpty, "an error says what")
        continue
      }
      for fault in reader.faults.prefix(8) {
        var explanation = FaultExplanation(fault)
        context.complete(&explanation)
        var text = ""
        explanation.write(to: &text)
        // Names of a list are written out on their way to people.
        Output.check(text: text.visible { $0 == "\n" })
        Output.check(encoded: explanation)
      }
      return
    }
  }

  /// What lies at a place is what the list says, the widest first.
  private static func checkNames(_ map: ResourceMap) {
    for entry in map.entries.prefix(32) {
      require(!entry.range.isEmpty, "an entry holds a byte")
      let last = PhysicalAddress(entry.range.upperBound.rawValue - 1)
      for address in [entry.range.lowerBound, last] {
        require(map.names(at: address).contains(entry.name), "\(address) lies in \(entry.name)")
      }
    }
  }
}

/// Replays bytes as a trace of DMA: whole, in shards, and against caches of several sizes.
enum TraceExercise {
  nonisolated(unsafe) private static let input = ScratchFile("trace")

  static func run(_ bytes: [UInt8]) {
    guard let first = bytes.first else { return }
    input.fill(Array(bytes.dropFirst()))
    let dialects = DMATraceDialect.allCases
    // Each input goes one way, the same each time.
    let dialect = Int(first & 3) < dialects.count ? dialects[Int(first & 3)] : nil
    guard let whole = played(first, dialect, shard: nil) else { return }
    require(whole.replay.counts.hits <= whole.replay.counts.lookups, "a hit is a lookup")
    for result in whole.sweep?.results ?? [] {
      require(
        result.lookups == whole.replay.counts.lookups, "every cache of a sweep sees every lookup")
    }
    checkStack(whole)
    guard let dialect, whole.skippedLines == 0 else { return }
    checkShards(first, dialect, whole)
  }

  private static func geometry(_ first: UInt8) -> CacheGeometry {
    let policies = CacheGeometry.Policy.allCases
    let policy = policies[Int(first >> 2 & 3) % policies.count]
    guard let geometry = try? CacheGeometry(entries: 8, ways: 4, policy: policy) else {
      fatalError("eight entries in two sets")
    }
    return geometry
  }

  private static func played(
    _ first: UInt8, _ dialect: DMATraceDialect?, shard: DMATraceFile.Shard?
  ) -> TracePlayer? {
    let sizes = [1, 4, 16].map { size in
      guard let geometry = try? CacheGeometry(entries: size) else { fatalError("\(size) entries") }
      return geometry
    }
    var player = TracePlayer(
      options: ReplayOptions(
        iotlb: geometry(first), pagingCaches: first & 0x10 == 0 ? nil : geometry(first),
        levels: 3 + Int(first >> 5) % 3, prefetchesNextPage: first & 0x80 != 0),
      geometries: sizes, dialect: dialect)
    do {
      try player.play(input.path, shard: shard, warmUpByteCount: 0, skipsBadLines: true)
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
      return nil
    }
    return player
  }

  /// A cache of one entry remembers the last page only; a larger LRU cache has no fewer hits.
  private static func checkStack(_ player: TracePlayer) {
    guard !player.replay.options.prefetchesNextPage, let results = player.sweep?.results else {
      return
    }
    for (small, large) in zip(results, results.dropFirst()) {
      require(small.hits <= large.hits, "a larger LRU cache has no fewer hits")
    }
  }

  /// Every line belongs to one shard.
  private static func checkShards(
    _ first: UInt8, _ dialect: DMATraceDialect, _ whole: TracePlayer
  ) {
    var counts = ReplayCounts()
    for index in 1...3 {
      guard
        let part = played(first, dialect, shard: DMATraceFile.Shard(index: index, count: 3)),
        part.skippedLines == 0
      else { return }
      counts = counts + part.replay.counts
    }
    require(
      counts.requests == whole.replay.counts.requests
        && counts.lookups == whole.replay.counts.lookups, "shards add up to the whole")
  }
}

/// Adds up results of shards: bytes of JSON, or fields that the bytes fill.
enum MergeExercise {
  static func run(_ bytes: [UInt8]) {
    guard let first = bytes.first else { return }
    let documents =
      first & 1 == 0
      ? bytes.dropFirst().split(separator: 0x1e, omittingEmptySubsequences: false).prefix(4)
        .map(Array.init)
      : filled(ByteReader(bytes.dropFirst()), count: 1 + Int(first >> 1 & 3))
    var results: [(file: String, result: ReplayResult)] = []
    for (index, document) in documents.enumerated() {
      do {
        results.append(
          ("\(index)", try ReplayResult(json: document)))
      } catch {
        require(!"\(error)".isEmpty, "an error says what")
        return
      }
    }
    guard let merged = try? ReplayResult.merge(results) else { return }
    var text = ""
    for format in [TableFormat.text, .csv] {
      try? merged.write(format, to: &text)
      Output.check(text: text.visible { $0 == "\n" })
      text = ""
    }
    try? merged.write(.json, to: &text)
    Output.check(json: text)
    text = ""
    merged.plot.write(to: &text)
    Output.check(markup: text)
  }

  private static func filled(_ reader: ByteReader, count: Int) -> [[UInt8]] {
    var reader = reader
    let shards = Int64(bitPattern: reader.wide())
    let isWhole = reader.byte() & 7 == 0
    let levels = Int64(bitPattern: reader.wide())
    let width = Int64(bitPattern: reader.wide())
    let points = Int(reader.byte() & 3)
    return (0..<count).map { index in
      func number() -> String { "\(Int64(bitPattern: reader.wide()))" }
      let shard = isWhole ? index + 1 : Int(truncatingIfNeeded: reader.wide())
      let counts = ["requests", "lookups", "hits", "faults", "invalidations", "prefetches"]
        .map { "\"\($0)\":\(number())" }.joined(separator: ",")
      let levelCounts = (0..<Int(reader.byte() & 7)).map { _ in number() }.joined(separator: ",")
      let sweep = (0..<points).map { point in
        """
        {"entries":\(1 << point),"ways":\(number()),"policy":"lru","lookups":\(number()),\
        "hits":\(number())}
        """
      }
      return Array(
        """
        {"shard":\(shard),"shards":\(isWhole ? Int64(count) : shards),"configuration":{"iotlb":"64",\
        "policy":"lru","levels":\(levels),"addressWidth":\(width),"pageSize":"4k","prefetch":true,\
        "hitLatencyNs":2,"readLatencyNs":60},"counts":{\(counts),"usefulPrefetches":\(number()),\
        "entriesRead":[\(levelCounts)]},"skippedLines":\(number()),"trace":{"passedOver":\(number()),\
        "failedMappings":0,"lostEvents":\(number()),"lossNotices":0,"uncountedLosses":0,\
        "cutLists":0,"unmatchedUnmaps":0,"cutLines":0,"holes":0,"otherEvents":0},\
        "sweep":[\(sweep.joined(separator: ","))]}
        """.utf8)
    }
  }
}

/// Plays recordings: a case for a VT-d or an AMD-Vi unit, or the files of a driver's life.
///
/// The first byte says which; files begin with a line `=== NAME`.
enum ConformExercise {
  nonisolated(unsafe) private static let directory = ScratchDirectory("conform")
  nonisolated(unsafe) private static var vtdCases: VTdConformance?
  nonisolated(unsafe) private static var amdviCases: AMDViConformance?

  static func run(_ bytes: [UInt8]) {
    guard let first = bytes.first else { return }
    let rest = Array(bytes.dropFirst())
    switch first & 3 {
    case 0 where first & 4 == 0:
      if vtdCases == nil { vtdCases = try? VTdConformance(caches: .hardware) }
      runCase(rest, vtdCases)
    case 0:
      if amdviCases == nil { amdviCases = try? AMDViConformance(caches: .hardware) }
      runCase(rest, amdviCases)
    case 1:
      directory.fill(files(rest))
      let conformance = CalgaryConformance(
        directory: directory.path, cache: first & 4 == 0 ? nil : .unlimited, differenceLimit: 5,
        runsDriver: first & 8 != 0, isThorough: first & 16 != 0)
      do { check([try conformance.result()]) } catch { check(error) }
    default:
      directory.fill(files(rest))
      let conformance = GARTConformance(
        directory: directory.path, cache: first & 4 == 0 ? .off : .unlimited, differenceLimit: 5,
        runsDriver: first & 8 != 0, isThorough: first & 16 != 0)
      do { check(try conformance.results()) } catch { check(error) }
    }
  }

  private static func runCase(_ json: [UInt8], _ cases: (some CaseConformance)?) {
    guard let cases else { fatalError("no memory for a case") }
    do {
      Output.check(encoded: try json.withUnsafeBytes { try cases.answers(to: $0) })
    } catch {
      check(error)
    }
  }

  private static func check(_ error: any Error) {
    require(!"\(error)".isEmpty, "an error says what")
  }

  private static func check(_ results: [RecordingResult]) {
    Output.check(encoded: RecordingSummary(results, took: .seconds(1)))
    for result in results {
      require(result.differences.count <= 5, "no more differences are kept than wanted")
      require(
        result.differences.count <= result.differenceCount, "a difference that is kept is counted")
    }
  }

  /// Files of which each begins with a line that names it; at most eight.
  private static func files(_ bytes: [UInt8]) -> [(name: String, bytes: [UInt8])] {
    let names: Set = [
      "trace.jsonl", "truth.json", "regs.json", "trace-kdump.jsonl", "truth-kdump.json",
      "northbridges.json", "northbridges-kdump.json", "regs-kdump.json",
    ]
    var files: [(name: String, bytes: [UInt8])] = []
    for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      let name =
        line.starts(with: "=== ".utf8) ? String(decoding: line.dropFirst(4), as: UTF8.self) : ""
      if names.contains(name), files.count < 8, !files.contains(where: { $0.name == name }) {
        files.append((name, []))
      } else if !files.isEmpty {
        files[files.count - 1].bytes += line + [UInt8(ascii: "\n")]
      }
    }
    return files
  }
}
