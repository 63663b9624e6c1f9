/// AMD I/O virtualization (AMD-Vi), to the bit.
///
/// Source: AMD document 48882, "AMD I/O Virtualization Technology (IOMMU) Specification", by its
/// readers VirtualBox `iommu-amd.h` and Linux `drivers/iommu/amd`.
public enum AMDVi {
  /// Entries, for ``EntryCatalog``.
  static let entries = EntryCatalog.Group(
    "AMD-Vi",
    tableKinds + [
      .init("amdvi-event", "AMD-Vi event log entry", Event.self) { entry, _ in entry.code }
    ] + commandKinds + interruptKinds + registerKinds)
}
