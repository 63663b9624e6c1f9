/// Arm's System Memory Management Unit version 3: what its event queue says of transactions.
///
/// Source: Arm IHI 0070.
public enum SMMUv3 {
  /// Entries, for ``EntryCatalog``.
  static let entries = EntryCatalog.Group(
    "Arm SMMUv3",
    [
      .init("smmuv3-event", "SMMUv3 event record", EventRecord.self) { entry, _ in entry.number }
    ])
}
