extension AMDVi {
  /// Registers of the window and of the capability block, for ``EntryCatalog``.
  static let registerKinds: [EntryCatalog.Kind] = [
    register("device-table-base", "device table base", DeviceTableBase.self),
    register("segment-base", "base of a device table segment", DeviceTableSegmentBase.self),
    register("command-buffer-base", "command buffer base", CommandBufferBase.self),
    register("event-log-base", "event log base", EventLogBase.self),
    register("control", "control register", Control.self),
    register("exclusion-base", "exclusion base", ExclusionBase.self),
    register("exclusion-limit", "exclusion limit", ExclusionLimit.self),
    register("efr", "extended features", ExtendedFeatures.self),
    register("efr2", "extended features 2", ExtendedFeatures2.self),
    register("ppr-log-base", "base of the log of page requests", PageRequestLogBase.self),
    register("hardware-event-high", "hardware error, first quadword", HardwareEventHigh.self),
    register("hardware-event-low", "hardware error, second quadword", HardwareEventLow.self),
    register("hardware-event-status", "hardware error status", HardwareEventStatus.self),
    register("smi-filter", "filter of system management interrupts", SystemManagementFilter.self),
    register("ga-log-base", "base of the log of guests' interrupts", GuestLogBase.self),
    register("ga-log-tail-address", "place of that log's tail", GuestLogTailAddress.self),
    register("dsfx", "device-specific features", DeviceSpecificFeatures.self),
    register("dscx", "device-specific control", DeviceSpecificControl.self),
    register("dssx", "device-specific status", DeviceSpecificStatus.self),
    register("msi-vectors", "numbers of the unit's messages", InterruptVectors.self),
    register("ga-msi-vector", "number of the GA log's message", GuestInterruptVector.self),
    register("msi-capability", "copy of the MSI capability header", MessageCapability.self),
    register("msi-address", "copy of the MSI address", MessageAddress.self),
    register("msi-upper-address", "copy of the upper MSI address", MessageUpperAddress.self),
    register("msi-data", "copy of the MSI data", MessageData.self),
    register("msi-mapping", "copy of the MSI mapping header", MessageMapping.self),
    register("performance-optimization", "performance optimisation", PerformanceOptimization.self),
    register("xt-interrupt-control", "x2APIC interrupt control", ExtendedInterruptControl.self),
    register("viommu-status", "status of guests' units", VirtualUnitStatus.self),
    register("marc-base", "start of a moved aperture", RelocationBase.self),
    register("marc-relocation", "where an aperture is moved to", RelocationTarget.self),
    register("marc-length", "length of a moved aperture", RelocationLength.self),
    register("reserved", "reserved register, 0x1ff8", ReservedRegister.self),
    register("ring-pointer", "head or tail of a ring", RingPointer.self),
    register("ga-log-pointer", "head or tail of the GA log", GuestLogPointer.self),
    register("status", "status register", Status.self),
    register("ppr-auto-response", "answer to page requests without room", PageRequestAnswer.self),
    register("ppr-overflow-early", "early warning of a log", PageRequestEarlyOverflow.self),
    register("capability", "header of the capability block", CapabilityHeader.self),
    register("capability-base-low", "address of the registers, low", CapabilityBaseLow.self),
    register("capability-base-high", "address of the registers, high", CapabilityBaseHigh.self),
    register("capability-range", "devices of the unit", CapabilityRange.self),
    register("capability-misc", "widths and messages", CapabilityMiscellaneous.self),
    register("capability-misc1", "message of the GA log", CapabilityMiscellaneous1.self),
  ]

  /// A register, known also by the map's names for all that have this layout: `amdvi-cmdbufhead`.
  private static func register<Register: HardwareRegister>(
    _ name: String, _ summary: String, _ type: Register.Type
  ) -> EntryCatalog.Kind {
    let names = registerMap.filter { $0.format == type }.map { $0.name.lowercased() }
    return .init(
      "amdvi-\(name)", aliases: names.filter { $0 != name }.map { "amdvi-\($0)" },
      "AMD-Vi \(summary)", type)
  }

  /// Commands, for ``EntryCatalog``.
  static let commandKinds: [EntryCatalog.Kind] = [
    command("completion-wait", ["wait"], "completion wait", CompletionWaitCommand.self),
    command(
      "invalidate-device-entry", ["invalidate-devtab-entry"], "invalidation of a device entry",
      InvalidateDeviceEntryCommand.self),
    command(
      "invalidate-pages", ["invalidate-iommu-pages"], "invalidation of translations",
      InvalidatePagesCommand.self),
    command(
      "invalidate-iotlb", ["invalidate-iotlb-pages"], "invalidation of a device's cache",
      InvalidateDeviceTLBCommand.self),
    command(
      "invalidate-interrupt-table", [], "invalidation of interrupt entries",
      InvalidateInterruptTableCommand.self),
    command(
      "prefetch-pages", ["prefetch-iommu-pages"], "prefetch of translations",
      PrefetchPagesCommand.self),
    command(
      "complete-page-request", ["complete-ppr-request"], "answer to page requests",
      CompletePageRequestCommand.self),
    command(
      "invalidate-all", ["invalidate-iommu-all"], "invalidation of everything",
      InvalidateAllCommand.self),
  ]

  /// Log entries and interrupt table entries, for ``EntryCatalog``.
  static let interruptKinds: [EntryCatalog.Kind] = [
    .init(
      "amdvi-page-request", aliases: ["amdvi-ppr"], "AMD-Vi page request log entry",
      PageRequestEntry.self),
    .init(
      "amdvi-guest-interrupt", aliases: ["amdvi-ga-log"], "AMD-Vi guest interrupt log entry",
      GuestInterruptLogEntry.self),
    .init("amdvi-irte", "AMD-Vi interrupt table entry of 32 bits", InterruptEntry.self),
    .init(
      "amdvi-irte128", aliases: ["amdvi-wide-irte"], "AMD-Vi interrupt table entry of 128 bits",
      WideInterruptEntry.self,
      layouts: { _ in
        [("GuestMode = 0", false), ("GuestMode = 1", true)].map { condition, isGuest in
          (condition, .init(isGuest: isGuest, usesExtendedDestinations: true))
        }
      }
    ) { entry, _ in .init(isGuest: entry.isGuest, usesExtendedDestinations: true) },
  ]

  private static func command<Command: AMDViCommand>(
    _ name: String, _ aliases: [String], _ summary: String, _ type: Command.Type
  ) -> EntryCatalog.Kind {
    .init(
      "amdvi-\(name)", aliases: aliases.map { "amdvi-\($0)" }, "AMD-Vi \(summary)", type
    ) { _, _ in .permissive }
  }
}
