import CPeers
import Glibc
import IOMMUFormats
import IOMMUWorkloads

extension Subject {
  /// The same translations through the library for C.
  public static let library = Subject(
    "Library", "libiommu's calls and batches, from C, and those of Swift"
  ) {
    let suite = try Suite.shared()
    let runs = TranslatorRuns(suite.tables.translator(.vtd4Levels))
    let path = getenv("IOMMU_LIBRARY").map { String(cString: $0) } ?? ".build/library/libiommu.so.1"
    guard let peer = LibraryPeer(path, suite.tables) else {
      return [
        try suite.comparison(
          .hotPage, [Walker("call", runs.calls)], [],
          notes: ["\(path) is not there and left out; `make library` makes it"])
      ]
    }
    let walkers = [
      Walker("call", runs.calls), Walker("C's call", peer.calls),
      Walker("batch", runs.batch), Walker("C's batch", peer.batch),
    ]
    let ratios = [
      Ratio("C's call", to: "call", .atMost(1.3)), Ratio("C's batch", to: "batch", .atMost(1.02)),
    ]
    return try Workload.vtd.map { try suite.comparison($0, walkers, ratios) }
  }
}

/// libiommu over the tables that Swift translates through, in place.
private final class LibraryPeer {
  private let peer: OpaquePointer
  private let tables: WorkloadTables

  init?(_ path: String, _ tables: WorkloadTables) {
    guard
      let peer = library_peer_make(
        path, tables.memory.start, Int(tables.memory.byteCount), tables.rootTable.rawValue,
        WorkloadTables.requester.rawValue)
    else { return nil }
    self.peer = peer
    self.tables = tables
  }

  var calls: Run {
    { [self] addresses, answers in
      library_peer_calls(peer, addresses.words, answers.words, addresses.count)
    }
  }

  var batch: Run {
    { [self] addresses, answers in
      library_peer_batch(peer, addresses.words, answers.words, addresses.count)
    }
  }
}
