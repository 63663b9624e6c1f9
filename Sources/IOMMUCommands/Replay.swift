import ArgumentParser
import FoundationEssentials
import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUInspection

/// Replays traces of DMA against caches of translations.
package struct Replay: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Replay a DMA trace against an IOTLB and paging-structure caches of any geometry.",
    discussion: """
      A trace is a table 'requester,iova,bytes,r|w|u' (commas or tabs; u for an unmap; a fifth \
      column may say 4k, 2m or 1g), a log of QEMU's vtd_* trace events, or Linux's events iommu:map, \
      iommu:unmap and dma:* as the file trace, trace-cmd report or perf script have them. What is \
      mapped there is taken to be used once, and what is unmapped to be invalidated. Lines that are \
      no such events are passed over and counted. Standard input (-) and pipes are read, and files \
      of gzip, xz, zstd and bzip2 are unpacked.

      A cache is 64 (fully associative) or 64x4 (sets of four). With --sweep every size is \
      replayed in one pass. Shards are pieces of the file; their JSON results are added up by \
      --merge.

      Exits 0; 1 when lines look like events and are not understood, unless --skip-bad says that they \
      may be left out; 2 for a trace that cannot be read.

      Example: iommu replay Examples/dma-trace/qemu.log --iotlb 64x4 --policy plru
      """)

  @Argument(
    help: "The trace, or - for standard input; with --merge, the JSON results of all shards.",
    completion: .file())
  package var files: [String]

  @Option(help: "How the trace is written: auto, table, qemu, or ftrace for all of Linux's.")
  package var traceFormat = TraceFormatArgument.auto

  @Option(
    help: ArgumentHelp("The IOTLB. Default: 64x4.", valueName: "entries[xways]"),
    transform: { try CacheArgument($0) })
  package var iotlb = CacheArgument(entries: 64, ways: 4)

  @Option(help: "Which entry of a full set goes: lru, plru, fifo or random.")
  package var policy = CacheGeometry.Policy.lru

  @Option(
    help: ArgumentHelp(
      "A paging-structure cache for each level; without it every miss walks from the root.",
      valueName: "entries[xways]"),
    transform: { try CacheArgument($0) })
  package var pagingCaches: CacheArgument?

  @Option(
    help: "Levels of the tables, 3 to 5. Default: 4.",
    transform: { try Notation.count($0, in: 3...5) })
  package var levels = 4

  @Option(
    help: ArgumentHelp(
      "IOVAs of more bits are faults; 12 to 57. Default: 48.", valueName: "bits"),
    transform: { try Notation.count($0, in: 12...57) })
  package var addressWidth = 48

  @Option(help: "The pages' size where the trace does not say it: 4k, 2m or 1g.")
  package var pageSize = PageSizeArgument.kib4

  @Flag(help: "A miss takes in the next page's entry too.")
  package var prefetch = false

  @Option(
    help: ArgumentHelp("What a lookup costs. Default: 2.", valueName: "ns"),
    transform: { try nanoseconds($0) })
  package var hitLatency = 2.0

  @Option(
    help: ArgumentHelp("What reading one entry from memory costs. Default: 60.", valueName: "ns"),
    transform: { try nanoseconds($0) })
  package var readLatency = 60.0

  @Option(
    help: ArgumentHelp(
      "Replay IOTLBs of each size, doubling.", valueName: "entries=16:1024"),
    transform: { try SweepArgument($0) })
  package var sweep: SweepArgument?

  @Option(
    help: ArgumentHelp("Draw the sweep's hit rates.", valueName: "file.svg"), completion: .file())
  package var plot: String?

  @Option(
    help: ArgumentHelp("Replay one piece of the trace only.", valueName: "i/n"),
    transform: { try ShardArgument($0) })
  package var shard: ShardArgument?

  @Option(
    help: ArgumentHelp(
      "Fill the caches from so many bytes before the shard. Default: 1M.", valueName: "bytes"),
    transform: { try Notation.size($0) })
  package var warmUp: UInt64 = 1 << 20

  @Flag(help: "Add up the results of all shards.")
  package var merge = false

  @Flag(help: "Leave out lines that are not understood, and count them.")
  package var skipBad = false

  @Option(help: "How to print the result: text, json or csv.")
  package var format = TableFormat.text

  package init() {}

  package mutating func validate() throws {
    guard merge || files.count == 1 else {
      throw ValidationError("one trace at a time; several files are for --merge")
    }
    guard plot == nil || sweep != nil || merge else {
      throw ValidationError("--plot draws a sweep; give --sweep entries=16:1024")
    }
    _ = try options()
    _ = try geometries()
  }

  private func options() throws -> ReplayOptions {
    ReplayOptions(
      iotlb: try iotlb.geometry(policy, option: "--iotlb"),
      pagingCaches: try pagingCaches?.geometry(policy, option: "--paging-caches"),
      levels: levels, addressWidth: addressWidth, pageSizeLog2: pageSize.log2,
      prefetchesNextPage: prefetch)
  }

  /// The sweep's caches: with the IOTLB's ways where those were given, else fully associative.
  private func geometries() throws -> [CacheGeometry] {
    let isDefault = iotlb == CacheArgument(entries: 64, ways: 4)
    return try (sweep?.entries ?? []).map { entries in
      let ways = isDefault ? nil : iotlb.ways.map { min($0, entries) }
      return try CacheArgument(entries: entries, ways: ways).geometry(policy, option: "--sweep")
    }
  }

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen).exit()
  }

  /// - Returns: Whether every line that looks like an event was understood, or may be left out.
  @discardableResult
  package func report(to out: inout some TextOutputStream) throws -> Answer {
    let result = try readingInput {
      if let plot { try OutputFile.refuse([plot], over: files) }
      return try merge ? merged() : replayed()
    }
    try result.write(format, to: &out)
    let answer = Answer(merge || skipBad || result.skippedLines == 0)
    guard let plot else { return answer }
    var svg = ""
    result.plot.write(to: &svg)
    try readingInput {
      let file = try OutputFile(path: plot, from: files)
      try file.write(Array(svg.utf8))
      try file.commit()
    }
    return answer
  }

  private func merged() throws -> ReplayResult {
    try ReplayResult.merge(
      files.map { file in
        do {
          let bytes = try DMATraceFile(path: file).contents()
          return (file, try ReplayResult(json: bytes))
        } catch let error as DecodingError {
          throw InputError("\(file): no result of iommu replay --format json (\(error.brief))")
        }
      })
  }

  private func replayed() throws -> ReplayResult {
    let options = try options()
    let geometries = try geometries()
    var player = TracePlayer(
      options: options, geometries: geometries, dialect: traceFormat.dialect)
    try player.play(
      files[0], shard: shard?.shard, warmUpByteCount: Int(clamping: warmUp),
      skipsBadLines: skipBad)
    let name = ByteStream.name(of: files[0])
    if let bad = player.firstBadLine, !skipBad {
      warn(
        "\(bad.place(in: name)): \(bad.reason)"
          + (player.skippedLines == 1
            ? "; it is left out" : "; it and \(grouped(player.skippedLines - 1)) more are left out")
      )
    }
    // A shard of a short trace may be empty; a whole trace without a request is the wrong file.
    guard shard != nil || player.replay.counts.requests > 0 else {
      throw InputError(
        "\(name): no DMA request in it; see 'iommu replay --help' for the traces that are read")
    }
    return ReplayResult(
      shard: shard?.index, shards: shard?.count,
      configuration: ReplayResult.Configuration(
        iotlb: options.iotlb.text, policy: policy.rawValue,
        pagingCaches: options.pagingCaches?.text, levels: levels, addressWidth: addressWidth,
        pageSize: pageSize.rawValue, prefetch: prefetch, hitLatencyNs: hitLatency,
        readLatencyNs: readLatency),
      counts: player.replay.counts, skippedLines: player.skippedLines,
      firstSkipped: player.firstBadLine.map { .init(line: $0.line, offset: $0.offset) },
      trace: player.tally,
      sweep: player.sweep?.results.map {
        ReplayResult.SweepPoint(
          entries: $0.geometry.entries, ways: $0.geometry.ways,
          policy: $0.geometry.policy.rawValue, lookups: $0.lookups, hits: $0.hits)
      } ?? [])
  }
}

extension DecodingError {
  /// Which key is wrong, in a few words.
  var brief: String {
    func path(_ context: Context) -> String {
      context.codingPath.map(\.stringValue).joined(separator: ".")
    }
    switch self {
    case .keyNotFound(let key, _): return "no '\(key.stringValue)'"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      return "'\(path(context))' is of another kind"
    case .dataCorrupted(let context) where !context.codingPath.isEmpty:
      return "'\(path(context))' has a value that there is not"
    default: return "no JSON"
    }
  }
}

/// Feeds a trace's events to a replay and, where there is one, to a sweep.
package struct TracePlayer {
  /// A line that looks like an event and is not understood.
  package struct BadLine {
    /// From 1; `nil` in a piece of a trace that does not begin with its first line.
    package var line: Int?
    /// Of its first byte.
    package var offset: Int
    package var reason: String

    package func place(in path: String) -> String {
      "\(path): \(line.map { "line \($0)" } ?? "byte \(offset)")"
    }
  }

  package var replay: TraceReplay
  package var sweep: ReplaySweep?
  /// Lines that look like events and are not understood.
  package var skippedLines = 0
  package var firstBadLine: BadLine?
  private var parser: DMATraceParser
  /// Pages that requests may still touch, each of which is looked up: some for a trace, and more with
  /// every line. A line may ask for 64 GiB, page by page.
  private var pagesLeft = Self.pageAllowance

  private static let pageAllowance: UInt64 = 1 << 22
  private static let linePageAllowance: UInt64 = 1 << 10

  package init(options: ReplayOptions, geometries: [CacheGeometry], dialect: DMATraceDialect?) {
    replay = TraceReplay(options)
    sweep = geometries.isEmpty ? nil : ReplaySweep(geometries, options: options)
    parser = DMATraceParser(dialect: dialect)
  }

  /// What the trace has beside its events.
  package var tally: DMATraceTally { parser.tally }

  /// Plays a trace, or a piece of one.
  ///
  /// - Parameter skipsBadLines: A table's bad lines are passed over as those of a log are, and what asks
  ///   for too much.
  package mutating func play(
    _ path: String, shard: DMATraceFile.Shard?, warmUpByteCount: Int, skipsBadLines: Bool
  ) throws {
    let name = ByteStream.name(of: path)
    var line = 0
    var isWarm = true
    let isWhole = shard == nil || shard?.index == 1
    try DMATraceFile(path: path).forEachLine(
      of: shard ?? DMATraceFile.Shard(index: 1, count: 1),
      warmUpByteCount: shard == nil ? 0 : warmUpByteCount,
      head: { parser.findDialect(in: $0) }
    ) { text in
      line += 1
      if isWarm, !text.isWarmUp {
        isWarm = false
        replay.resetCounts()
        sweep?.resetCounts()
        skippedLines = 0
        firstBadLine = nil
        parser.tally = DMATraceTally()
      }
      pagesLeft += Self.linePageAllowance
      func isBad(_ error: DMATraceError, _ mayBePassedOver: Bool) throws {
        let bad = BadLine(line: isWhole ? line : nil, offset: text.offset, reason: "\(error)")
        guard mayBePassedOver || skipsBadLines else {
          throw InputError("\(bad.place(in: name)): \(error); --skip-bad passes over such lines")
        }
        skippedLines += 1
        firstBadLine = firstBadLine ?? bad
      }
      let events: [DMATraceEvent]
      do throws(DMATraceError) {
        events = try parser.events(in: text.bytes, isUnterminated: text.isUnterminated)
      } catch {
        // A log is of more than its reader knows; a table is written for it.
        return try isBad(error, parser.dialect != .table)
      }
      do throws(DMATraceError) {
        for event in events {
          try spend(on: event)
          take(event)
        }
      } catch {
        try isBad(error, false)
      }
      guard replay.sourceCount < TraceReplay.sourceLimit else {
        throw InputError(
          "\(name): more than \(grouped(TraceReplay.sourceLimit)) devices and domains; is it of one "
            + "machine?")
      }
    }
  }

  /// - Throws: ``DMATraceError`` for a request that touches more pages than are left.
  private mutating func spend(on event: DMATraceEvent) throws(DMATraceError) {
    guard case .request(_, _, let byteCount, _, let sizeLog2) = event else { return }
    let size = UInt64(sizeLog2 ?? replay.options.pageSizeLog2)
    let pages = byteCount >> size + 1
    guard pages <= pagesLeft else {
      throw DMATraceError(
        "a \(parser.dialect == .ftrace ? "mapping" : "request") of \(byteCount) bytes in pages of \(sizeText(1 << size)): with it the trace "
          + "would touch more than \(grouped(Self.pageAllowance)) pages and "
          + "\(Self.linePageAllowance) for each line; are its pages larger (--page-size)?")
    }
    pagesLeft -= pages
  }

  private mutating func take(_ event: DMATraceEvent) {
    switch event {
    case .request(let source, let iova, let byteCount, _, let pageSizeLog2):
      replay.request(
        source: source.number, iova: iova, byteCount: byteCount, pageSizeLog2: pageSizeLog2)
      sweep?.request(
        source: source.number, iova: iova, byteCount: byteCount, pageSizeLog2: pageSizeLog2)
    case .invalidate(let source, let iova, let byteCount):
      replay.invalidate(source: source.number, iova: iova, byteCount: byteCount)
      sweep?.invalidate(source: source.number, iova: iova, byteCount: byteCount)
    // Which numbers it is about is not known; the tally counts them.
    case .invalidateUnknown: break
    case .invalidateSource(let source):
      replay.invalidate(source: source.number)
      sweep?.invalidate(source: source.number)
    case .invalidateAll:
      replay.invalidateAll()
      sweep?.invalidateAll()
    }
  }
}
