import FoundationEssentials
import IOMMUHardware
import IOMMUImages
import IOMMUInspection

/// What a replay found: its file form, and what shards are merged from.
package struct ReplayResult: Codable, Equatable {
  struct Configuration: Codable, Equatable {
    var iotlb: String
    var policy: String
    var pagingCaches: String?
    var levels: Int
    var addressWidth: Int
    var pageSize: String
    var prefetch: Bool
    var hitLatencyNs: Double
    var readLatencyNs: Double
  }

  /// Where the first line is that looks like an event and is not understood.
  struct Place: Codable, Equatable {
    /// From 1; `nil` in a shard that does not begin with the trace's first line.
    var line: Int?
    /// Of its first byte.
    var offset: Int
  }

  struct SweepPoint: Codable, Equatable {
    var entries: Int
    var ways: Int
    var policy: String
    var lookups: Int
    var hits: Int

    var hitRate: Double { lookups == 0 ? 0 : Double(hits) / Double(lookups) }
  }

  /// Both `nil` for a whole trace.
  var shard: Int?
  var shards: Int?
  var configuration: Configuration
  var counts: ReplayCounts
  /// Lines that look like events and are not understood.
  var skippedLines: Int
  var firstSkipped: Place?
  /// What the trace has beside its events.
  var trace: DMATraceTally
  /// Empty without a sweep.
  var sweep: [SweepPoint]

  var hitRate: Double {
    counts.lookups == 0 ? 0 : Double(counts.hits) / Double(counts.lookups)
  }

  /// A lookup costs its latency, and every entry read its own, one after the other.
  var latencyNs: Double {
    Double(counts.lookups) * configuration.hitLatencyNs
      + Double(counts.entriesRead.reduce(0, +) - counts.prefetches) * configuration.readLatencyNs
  }

  /// More of anything is in no trace.
  private static let largestCount = 1 << 53

  /// Looks for numbers that no replay writes; a file may hold any.
  ///
  /// - Throws: ``InputError`` that names the file.
  private func check(_ file: String) throws {
    func isCount(_ count: Int) -> Bool { 0...Self.largestCount ~= count }
    let all =
      [
        counts.requests, counts.lookups, counts.hits, counts.faults, counts.invalidations,
        counts.prefetches, counts.usefulPrefetches, skippedLines, trace.passedOver,
        trace.failedMappings, trace.lossNotices, trace.uncountedLosses, trace.cutLists,
        trace.unmatchedUnmaps, trace.cutLines, trace.holes, trace.otherEvents,
      ] + counts.entriesRead + sweep.flatMap { [$0.lookups, $0.hits] }
    let isSound =
      all.allSatisfy(isCount) && trace.lostEvents >= 0 && counts.hits <= counts.lookups
      && counts.entriesRead.count == 5
      && 3...5 ~= configuration.levels && 12...57 ~= configuration.addressWidth
      && [configuration.hitLatencyNs, configuration.readLatencyNs].allSatisfy {
        $0 >= 0 && $0.isFinite
      }
      && sweep.allSatisfy {
        1...1 << 24 ~= $0.entries && 1...$0.entries ~= $0.ways && $0.hits <= $0.lookups
      }
      && shards.map { shards in shards > 0 && shard.map { 1...shards ~= $0 } == true } != false
    guard isSound else {
      throw InputError(
        "\(file): numbers that no replay writes; replay the shard again")
    }
  }

  /// Adds up shards of one trace.
  ///
  /// - Throws: ``InputError`` when they are not all of one trace, each once.
  package static func merge(_ results: [(file: String, result: ReplayResult)]) throws
    -> ReplayResult
  {
    guard var merged = results.first?.result, let first = results.first else {
      throw InputError("nothing to merge; name the shards' JSON files")
    }
    var seen: Set<Int> = []
    for (file, result) in results {
      try result.check(file)
      guard let shard = result.shard, let shards = result.shards else {
        throw InputError("\(file): result of a whole trace; merge those of --shard I/N")
      }
      guard result.configuration == merged.configuration, shards == merged.shards,
        result.sweep.map(\.entries) == merged.sweep.map(\.entries)
      else {
        throw InputError(
          "\(file): other caches or another number of shards than \(first.file); "
            + "replay all shards alike")
      }
      guard seen.insert(shard).inserted else {
        throw InputError("\(file): shard \(shard)/\(shards) is there already")
      }
    }
    if let shards = merged.shards, seen.count < shards {
      let missing = (1...shards).first { !seen.contains($0) }!
      throw InputError("shard \(missing)/\(shards) is missing; merge all of them")
    }
    for (file, result) in results.dropFirst() {
      merged.counts = merged.counts + result.counts
      merged.skippedLines += result.skippedLines
      merged.trace = merged.trace + result.trace
      if let place = result.firstSkipped, place.offset < merged.firstSkipped?.offset ?? .max {
        merged.firstSkipped = place
      }
      for index in merged.sweep.indices {
        merged.sweep[index].lookups += result.sweep[index].lookups
        merged.sweep[index].hits += result.sweep[index].hits
      }
      // No sum of two that have passed leaves the range of its type.
      try merged.check(file)
    }
    merged.shard = nil
    merged.shards = nil
    return merged
  }

  package func write(_ format: TableFormat, to out: inout some TextOutputStream) throws {
    switch format {
    case .json: try writeJSON(self, keys: .snakeCase, to: &out)
    case .csv: writeCSV(to: &out)
    case .text: writeText(to: &out)
    }
  }

  private func writeCSV(to out: inout some TextOutputStream) {
    guard sweep.isEmpty else {
      out.write("entries,ways,policy,lookups,hits,misses,hit_rate\n")
      for point in sweep {
        out.write(
          "\(point.entries),\(point.ways),\(point.policy),\(point.lookups),\(point.hits),"
            + "\(point.lookups - point.hits),\(fixed(point.hitRate, digits: 6))\n")
      }
      return
    }
    out.write(
      "iotlb,policy,requests,lookups,hits,misses,faults,invalidations,prefetches,"
        + "useful_prefetches,read_l1,read_l2,read_l3,read_l4,read_l5,latency_ns,skipped_lines,"
        + "passed_over_lines,failed_mappings,lost_events\n")
    let numbers =
      [
        counts.requests, counts.lookups, counts.hits, counts.misses, counts.faults,
        counts.invalidations, counts.prefetches, counts.usefulPrefetches,
      ] + counts.entriesRead
    let remarks = [
      skippedLines, trace.passedOver, trace.failedMappings, trace.lostEvents,
    ]
    let columns =
      [configuration.iotlb, configuration.policy] + numbers.map { "\($0)" }
      + [fixed(latencyNs, digits: 0)] + remarks.map { "\($0)" }
    out.write(columns.joined(separator: ",") + "\n")
  }

  /// What the numbers leave out, a sentence each.
  private var remarks: [String] {
    var remarks = trace.gaps
    if trace.cutLists > 0 {
      remarks.append(
        groupedCount(trace.cutLists, "list")
          + " of pages cut short by the kernel: what lies behind is missing")
    }
    if trace.unmatchedUnmaps > 0 {
      remarks.append(
        "\(grouped(trace.unmatchedUnmaps)) dma_unmap_sg without the dma_map_sg before: what was "
          + "unmapped is not known")
    }
    if trace.failedMappings > 0 {
      remarks.append(
        groupedCount(trace.failedMappings, "mapping") + " failed, and nothing was mapped")
    }
    if skippedLines > 0 {
      let place = firstSkipped.map { $0.line.map { "line \($0)" } ?? "byte \($0.offset)" }
      remarks.append(
        groupedCount(skippedLines, "line") + " not understood and left out"
          + (place.map { "; the first is \($0)" } ?? ""))
    }
    if trace.otherEvents > 0 {
      remarks.append(
        groupedCount(trace.otherEvents, "event")
          + " of another kind of trace passed over; --trace-format says which kind is read")
    }
    if trace.passedOver > 0 {
      remarks.append(groupedCount(trace.passedOver, "other line") + " passed over")
    }
    return remarks
  }

  private func writeText(to out: inout some TextOutputStream) {
    out.write(
      "\(grouped(counts.requests)) requests, \(grouped(counts.lookups)) pages looked up, "
        + "\(grouped(counts.invalidations)) invalidations, \(grouped(counts.faults)) beyond "
        + "\(configuration.addressWidth) bits\n")
    for remark in remarks { out.write("\(remark)\n") }
    guard sweep.isEmpty else {
      out.write("\n   entries  ways        hits      misses  hit rate\n")
      for point in sweep {
        out.write(
          right("\(point.entries)", 10) + right("\(point.ways)", 6)
            + right(grouped(point.hits), 12) + right(grouped(point.lookups - point.hits), 12)
            + right(fixed(100 * point.hitRate, digits: 2) + " %", 10) + "\n")
      }
      return
    }
    out.write(
      "IOTLB \(configuration.iotlb) \(configuration.policy): \(grouped(counts.hits)) hits "
        + "(\(fixed(100 * hitRate, digits: 2)) %), \(grouped(counts.misses)) misses\n")
    if configuration.prefetch {
      out.write(
        "prefetched: \(grouped(counts.prefetches)) entries, "
          + "\(grouped(counts.usefulPrefetches)) of them used\n")
    }
    out.write("entries read")
    for level in stride(from: configuration.levels, through: 1, by: -1) {
      out.write("\(level == configuration.levels ? ": " : ", ")level \(level) ")
      out.write(grouped(counts.entriesRead[level - 1]))
    }
    out.write(
      "\npaging-structure caches: \(configuration.pagingCaches ?? "none")\nmodelled latency: "
        + "\(fixed(latencyNs / 1000, digits: 1)) us, "
        + "\(fixed(counts.lookups == 0 ? 0 : latencyNs / Double(counts.lookups), digits: 1)) ns a "
        + "lookup (\(fixed(configuration.hitLatencyNs, digits: 0)) ns each, "
        + "\(fixed(configuration.readLatencyNs, digits: 0)) ns an entry read)\n")
  }

  /// The hit rate over the size of a sweep.
  package var plot: LinePlot {
    LinePlot(
      title: "IOTLB hit rate", xLabel: "entries", yLabel: "hits, percent",
      series: [
        LinePlot.Series(
          sweep.first.map { "\($0.policy)" } ?? "",
          sweep.map { (x: Double($0.entries), y: 100 * $0.hitRate) })
      ])
  }
}

extension ReplayResult {
  /// Reads what a replay has written.
  package init(json: [UInt8]) throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    self = try decoder.decode(Self.self, from: Data(json))
  }
}

extension DMATraceTally {
  /// Places where events may be missing.
  var gapCount: Int { lossNotices + holes + cutLines }

  /// What is missing of the trace, a sentence each.
  var gaps: [String] {
    var gaps: [String] = []
    if let lossText { gaps.append(lossText) }
    if holes > 0 {
      gaps.append(
        groupedCount(holes, "line") + " with zeros in " + (holes == 1 ? "it" : "them")
          + " passed over: the file has holes")
    }
    if cutLines > 0 { gaps.append("the last line is cut off") }
    return gaps
  }

  private var lossText: String? {
    guard lossNotices > 0 else { return nil }
    guard lostEvents > 0 else { return "events were lost; the trace does not say how many" }
    let counted =
      groupedCount(lostEvents, "event") + (lostEvents == 1 ? " was" : " were") + " lost"
    return switch uncountedLosses {
    case 0: counted
    case 1: counted + ", and a notice does not say how many"
    default: counted + ", and \(grouped(uncountedLosses)) notices do not say how many"
    }
  }
}

/// Fills with blanks on the left.
func right(_ text: String, _ width: Int) -> String {
  String(repeating: " ", count: max(0, width - text.count)) + text
}
