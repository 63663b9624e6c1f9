import CReference
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

extension Subject {
  /// What single requests cost that miss, through every kind of tables.
  public static let port = Subject(
    "Port",
    "a unit's port with 256 IOTLB entries: single requests that miss, of either stage and of both"
  ) {
    let suite = try Suite.shared()
    let caches = CacheConfiguration.withoutPagingStructures()
    let staged = try StagedTables(span: 1 << 30)
    let random = AddressPattern.random.addresses(count: Suite.count, span: staged.span)
    let (first, second) = (staged.translator(.first), staged.translator(.second))
    let pages = (0..<UInt64(Suite.count)).map { IOVA($0 << 12) }
    return try [
      suite.comparison(
        Workload("requests of 64 KiB, 1 GiB in order", pages, .vtd4Levels),
        [
          Walker("16 calls", try RemappedPort(suite.tables, caches).calls),
          Walker("a request", try RemappedPort(suite.tables, caches).diskRequests),
        ], [Ratio("a request", to: "16 calls", .atMost(0.4))]),
      suite.comparison(
        Workload("the same 64 KiB", pages.map { IOVA($0.rawValue & 0xffff) }, .vtd4Levels),
        [
          Walker("16 calls", try RemappedPort(suite.tables, caches).calls),
          Walker("a request", try RemappedPort(suite.tables, caches).diskRequests),
        ], [Ratio("a request", to: "16 calls", .atMost(0.4))]),
      suite.comparison(
        .zipf4GiB,
        [
          Walker("C IOTLB, call", suite.c(reference_iotlb_call)),
          Walker("port, call", try RemappedPort(suite.tables, caches).calls),
          Walker("all steps", try RemappedPort(suite.tables, caches).allSteps),
        ],
        [
          Ratio("port, call", to: "C IOTLB, call", .atMost(1.5)),
          Ratio("port, call", to: "all steps", .atMost(0.2)),
        ]),
      suite.comparison(
        .random1GiB,
        [
          Walker("bare call", TranslatorRuns(suite.tables.translator(.vtd4Levels)).calls),
          Walker("port, call", try RemappedPort(suite.tables, .hardware).calls),
          Walker("all steps", try RemappedPort(suite.tables, .hardware).allSteps),
        ],
        [
          Ratio("port, call", to: "all steps", .atMost(0.4)),
          Ratio("port, call", to: "bare call"),
        ], notes: ["with a paging-structure cache of 64 tables"]),
      suite.comparison(
        "first stage, random 1 GiB", random,
        [
          Walker("bare call", TranslatorRuns(first).calls),
          Walker("port, call", try RemappedPort(staged, .first, caches).calls),
          Walker("port, batch", try RemappedPort(staged, .first, caches).batch),
          Walker("all steps", try RemappedPort(staged, .first, caches).allSteps),
        ],
        [
          Ratio("port, call", to: "all steps", .atMost(0.4)),
          Ratio("port, batch", to: "all steps", .atMost(0.2)),
          Ratio("port, call", to: "bare call"),
        ], expected: { staged.expected($0, .first) }),
      suite.comparison(
        "nested, random 1 GiB", random,
        [
          Walker("two bare calls") {
            callBare(first, second, staged, readsEntries: false, $0, $1)
          },
          Walker("the six bare calls") {
            callBare(first, second, staged, readsEntries: true, $0, $1)
          },
          Walker("port, call", try RemappedPort(staged, .nested, caches).calls),
          Walker("all steps", try RemappedPort(staged, .nested, caches).allSteps),
        ],
        [
          Ratio("port, call", to: "all steps", .atMost(0.4)),
          Ratio("port, call", to: "the six bare calls", .atMost(1.3)),
          Ratio("port, call", to: "two bare calls"),
        ],
        notes: [
          "a walk of two stages goes through the second for each of four entries, and for the page"
        ], expected: { staged.expected($0, .nested) }),
    ]
  }
}

/// Bare calls of what a walk of both stages does: one of the first and one of the second, of what the first
/// leads to, and if `readsEntries` one of the second for each of the guest's four entries.
@inline(never)
private func callBare(
  _ first: Translator<FlatMemory>, _ second: Translator<FlatMemory>, _ tables: StagedTables,
  readsEntries: Bool, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  for index in addresses.indices {
    let address = addresses[index]
    _ = hotTranslateCall(first, address.rawValue)
    if readsEntries {
      let entries = tables.guestEntryAddresses(address)
      _ = hotTranslateCall(second, entries.0.rawValue)
      _ = hotTranslateCall(second, entries.1.rawValue)
      _ = hotTranslateCall(second, entries.2.rawValue)
      _ = hotTranslateCall(second, entries.3.rawValue)
    }
    answers[index] = PackedTranslation(
      rawValue: hotTranslateCall(second, tables.guestAddress(address).rawValue))
  }
}
