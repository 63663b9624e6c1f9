/// Arm's System Memory Management Unit version 3: what its event queue says of transactions.
///
/// Source: Arm IHI 0070.
public enum SMMUv3 {
  /// Entries, for ``EntryCatalog``.
  static let entries = EntryCatalog.Group(
    "Arm SMMUv3",
    [
      .init(
        "smmuv3-event", "SMMUv3 event record", EventRecord.self,
        layouts: { _ in
          [
            ("event = 0x03, 0x09, 0x0b or 0x25, a read that failed", .streamTableEntryFetch),
            ("event is another, such as 0x10, F_TRANSLATION", .translation),
          ]
        }
      ) { entry, _ in entry.number }
    ])
}
