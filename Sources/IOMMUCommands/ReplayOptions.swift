import ArgumentParser
import IOMMUHardware
import IOMMUImages

/// A cache on the command line: `64` (fully associative) or `64x4` (entries, ways).
package struct CacheArgument: ExpressibleByArgument, Equatable {
  package var entries: Int
  package var ways: Int?

  package init(entries: Int, ways: Int? = nil) {
    self.entries = entries
    self.ways = ways
  }

  package init?(argument: String) {
    let parts = argument.split(separator: "x", omittingEmptySubsequences: false)
    guard parts.count <= 2, let entries = Int(parts[0]) else { return nil }
    self.entries = entries
    if parts.count == 2 {
      guard let ways = Int(parts[1]) else { return nil }
      self.ways = ways
    }
  }

  package var defaultValueDescription: String { ways.map { "\(entries)x\($0)" } ?? "\(entries)" }

  /// - Throws: A usage error that says what the geometry lacks.
  func geometry(_ policy: CacheGeometry.Policy, option: String) throws -> CacheGeometry {
    do {
      return try CacheGeometry(entries: entries, ways: ways, policy: policy)
    } catch {
      throw ValidationError("\(option): \(error)")
    }
  }
}

extension CacheGeometry.Policy: ExpressibleByArgument {}

/// A range of sizes: `entries=16:1024`, each twice the one before.
package struct SweepArgument: ExpressibleByArgument, Equatable {
  package var entries: [Int]

  package init?(argument: String) {
    let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0] == "entries" else { return nil }
    let ends = parts[1].split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
    guard ends.count == 2, let first = ends[0], let last = ends[1], first > 0, first <= last,
      last <= 1 << 24
    else { return nil }
    entries = []
    var size = first
    while size <= last {
      entries.append(size)
      size *= 2
    }
  }
}

/// `2/8`: the second of eight pieces.
package struct ShardArgument: ExpressibleByArgument, Equatable {
  package var index: Int
  package var count: Int

  package init?(argument: String) {
    let parts = argument.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let index = parts[0], let count = parts[1], count > 0,
      1...count ~= index
    else { return nil }
    self.index = index
    self.count = count
  }

  var shard: DMATraceFile.Shard { DMATraceFile.Shard(index: index, count: count) }
}

/// `4k`, `2m` or `1g`.
package enum PageSizeArgument: String, ExpressibleByArgument, CaseIterable {
  case kib4 = "4k"
  case mib2 = "2m"
  case gib1 = "1g"

  var log2: Int {
    switch self {
    case .kib4: 12
    case .mib2: 21
    case .gib1: 30
    }
  }
}

package enum TraceFormatArgument: String, ExpressibleByArgument, CaseIterable {
  case auto, table, qemu, ftrace
  var dialect: DMATraceDialect? { DMATraceDialect(rawValue: rawValue) }
}

/// How a table of numbers is printed.
package enum TableFormat: String, ExpressibleByArgument, CaseIterable { case text, json, csv }
