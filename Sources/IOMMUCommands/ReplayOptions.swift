import ArgumentParser
import IOMMUFormats
import IOMMUHardware
import IOMMUImages

/// A cache on the command line: `64` (fully associative) or `64x4` (entries, ways).
package struct CacheArgument: Equatable {
  package var entries: Int
  package var ways: Int?

  package init(entries: Int, ways: Int? = nil) {
    self.entries = entries
    self.ways = ways
  }

  package init(_ text: String) throws(NotationError) {
    let parts = text.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count <= 2, let entries = parts[0], let last = parts[parts.count - 1] else {
      throw NotationError("a cache is a number of entries, 64, and perhaps its ways, 64x4")
    }
    self.init(entries: entries, ways: parts.count == 2 ? last : nil)
  }

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
package struct SweepArgument: Equatable {
  package var entries: [Int]

  package init(_ text: String) throws(NotationError) {
    let parts = text.split(separator: "=", omittingEmptySubsequences: false)
    let ends = (parts.last ?? "").split(separator: ":", omittingEmptySubsequences: false)
      .map { Int($0) }
    guard parts.count == 2, parts[0] == "entries", ends.count == 2, let first = ends[0],
      let last = ends[1], first > 0, first <= last, last <= 1 << 24
    else {
      throw NotationError("a sweep is entries=FIRST:LAST, such as entries=16:1024, up to 16777216")
    }
    entries = []
    var size = first
    while size <= last {
      entries.append(size)
      size *= 2
    }
  }
}

/// `2/8`: the second of eight pieces.
package struct ShardArgument: Equatable {
  package var index: Int
  package var count: Int

  /// - Precondition: the index is from 1 to the count.
  package init(index: Int, count: Int) {
    precondition(count > 0 && 1...count ~= index, "a part is one of all")
    self.index = index
    self.count = count
  }

  package init(_ text: String) throws(NotationError) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let index = parts[0], let count = parts[1], count > 0,
      1...count ~= index
    else { throw NotationError("a shard is I/N, such as 2/8 for the second of eight") }
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
