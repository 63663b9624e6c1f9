/// AMD I/O virtualization (AMD-Vi), to the bit.
///
/// Source: AMD document 48882, "AMD I/O Virtualization Technology (IOMMU) Specification", by its
/// readers VirtualBox `iommu-amd.h` and Linux `drivers/iommu/amd`.
public enum AMDVi {
  /// Entries, for ``EntryCatalog``.
  static let entries = EntryCatalog.Group(
    "AMD-Vi",
    tableKinds + [
      .init(
        "amdvi-event", "AMD-Vi event log entry", Event.self,
        layouts: { _ in
          [
            ("EventCode = 1, ILLEGAL_DEV_TABLE_ENTRY", .illegalDeviceTableEntry),
            ("EventCode = 2, IO_PAGE_FAULT", .pageFault),
            ("EventCode = 3, DEV_TAB_HARDWARE_ERROR", .deviceTableHardwareError),
            ("EventCode = 4, PAGE_TAB_HARDWARE_ERROR", .pageTableHardwareError),
            ("EventCode = 5, ILLEGAL_COMMAND_ERROR", .illegalCommand),
            ("EventCode = 6, COMMAND_HARDWARE_ERROR", .commandHardwareError),
            ("EventCode = 7, IOTLB_INV_TIMEOUT", .invalidationTimeout),
            ("EventCode = 8, INVALID_DEVICE_REQUEST", .invalidDeviceRequest),
            ("EventCode = 9, INVALID_PPR_REQUEST", .invalidPageRequest),
            ("EventCode = 10, EVENT_COUNTER_ZERO", .counterZero),
            ("EventCode = 13, RMP_PAGE_FAULT", .reverseMapFault),
            ("EventCode = 14, RMP_HARDWARE_ERROR", .reverseMapHardwareError),
            ("EventCode is another, such as 11, GUEST_EVENT_FAULT", .guestEventFault),
          ]
        }
      ) { entry, _ in entry.code }
    ] + commandKinds + interruptKinds + registerKinds)
}
