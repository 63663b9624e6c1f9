extension VTd {
  /// What decides the meaning of an entry's bits beside the bits themselves.
  public struct EntryCircumstances: Sendable {
    /// What the unit allows.
    public var limits = Limits.permissive
    /// EIME of IRTA_REG: destinations of interrupts have 32 bits. `nil` where nobody knows.
    public var usesExtendedMode: Bool?
    /// SSIRWE of RTADDR_REG: IR and IW take the place of R and W in second-stage entries.
    public var usesIOPermissions = false
    /// First-stage tables lie in guest addresses.
    public var isNested = false

    /// Nothing is known: whatever some unit allows is legal.
    public init() {}
  }

  /// Table entries, descriptors and registers, for ``EntryCatalog``.
  static let entries = EntryCatalog.Group(
    "Intel VT-d",
    upperEntries + secondStageEntries + firstStageEntries + interruptEntries + queueEntries
      + registerEntries + firmwareEntries)

  private static let upperEntries: [EntryCatalog.Kind] = [
    limited("root", aliases: ["re", "root-entry"], "VT-d root entry of a bus", RootEntry.self),
    limited(
      "context", aliases: ["ce", "ctx", "context-entry"], "VT-d context entry of a device",
      ContextEntry.self),
    limited(
      "sm-root", aliases: ["scalable-root"], "VT-d scalable-mode root entry of a bus",
      ScalableRootEntry.self),
    limited(
      "sm-context", aliases: ["sm-ctx", "scalable-context"],
      "VT-d scalable-mode context entry of a device", ScalableContextEntry.self),
    limited(
      "pasid-dir", aliases: ["pasid-directory", "pde"], "VT-d PASID directory entry, 64 PASIDs",
      PASIDDirectoryEntry.self),
    limited(
      "pasid", aliases: ["pasid-entry", "pe"], "VT-d PASID table entry", PASIDTableEntry.self),
  ]

  private static func limited<Entry: TableEntry>(
    _ name: String, aliases: [String], _ summary: String, _ type: Entry.Type
  ) -> EntryCatalog.Kind where Entry.Variant == Limits {
    .init(name, aliases: aliases, summary, type) { $1.vtd.limits }
  }

  /// What an entry of each level of page tables is called and can map.
  private static let levels: [(level: Int, name: String, maps: String)] = [
    (5, "pml5e", ""), (4, "pml4e", ""), (3, "pdpe", ": a table or a 1 GiB page"),
    (2, "pde", ": a table or a 2 MiB page"), (1, "pte", ", one 4 KiB page"),
  ]

  /// What PS makes of an entry of a level.
  private static func leaves(_ level: Int) -> [(condition: String, isLeaf: Bool)] {
    Paging.leafLevels ~= level && level > 1
      ? [("PS = 0, leads to a table", false), ("PS = 1, maps a page", true)]
      : [("", level == 1)]
  }

  private static let secondStageEntries = levels.map { level, name, maps in
    EntryCatalog.Kind(
      "ss-\(name)", aliases: ["sl\(name)"], "VT-d second-stage entry of level \(level)\(maps)",
      SecondStageEntry.self,
      layouts: { circumstances in
        leaves(level).map { condition, isLeaf in
          (
            condition,
            SecondStageEntry.Variant(
              level: level, isLeaf: isLeaf,
              usesIOPermissions: circumstances.vtd.usesIOPermissions,
              limits: circumstances.vtd.limits)
          )
        }
      }
    ) { entry, circumstances in
      SecondStageEntry.Variant(
        level: level, isLeaf: entry.hasPageSizeBit,
        usesIOPermissions: circumstances.vtd.usesIOPermissions, limits: circumstances.vtd.limits)
    }
  }

  private static let firstStageEntries = levels.map { level, name, maps in
    EntryCatalog.Kind(
      "fs-\(name)", aliases: ["fl\(name)"], "VT-d first-stage entry of level \(level)\(maps)",
      FirstStageEntry.self,
      layouts: { circumstances in
        leaves(level).map { condition, isLeaf in
          (
            condition,
            FirstStageEntry.Variant(
              level: level, isLeaf: isLeaf, isNested: circumstances.vtd.isNested,
              limits: circumstances.vtd.limits)
          )
        }
      }
    ) { entry, circumstances in
      FirstStageEntry.Variant(
        level: level, isLeaf: entry.hasPageSizeBit, isNested: circumstances.vtd.isNested,
        limits: circumstances.vtd.limits)
    }
  }

  private static let interruptEntries: [EntryCatalog.Kind] = [
    .init(
      "irte", aliases: ["interrupt-entry"], "VT-d interrupt remapping entry",
      InterruptRemappingEntry.self,
      layouts: { circumstances in
        [("IM = 0, remaps", false), ("IM = 1, posts", true)].map { condition, isPosted in
          (
            condition,
            InterruptRemappingEntry.Variant(
              isPosted: isPosted, usesExtendedMode: circumstances.vtd.usesExtendedMode,
              canPost: true)
          )
        }
      }
    ) {
      InterruptRemappingEntry.Variant(
        isPosted: $0.isPosted, usesExtendedMode: $1.vtd.usesExtendedMode, canPost: true)
    },
    .init(
      "posted-descriptor", aliases: ["pid", "posted-interrupt"], "VT-d posted-interrupt descriptor",
      PostedInterruptDescriptor.self),
    .init(
      "interrupt-address", aliases: ["msi-address"], "address of an interrupt request",
      InterruptAddress.self, layouts: { _ in interruptFormats }
    ) { entry, _ in entry.format },
    // The data does not say which format its address has: where both are possible, the one that
    // remapping is for.
    .init(
      "interrupt-data", aliases: ["msi-data"], "data of a remappable interrupt request",
      InterruptData.self,
      layouts: { _ in
        [
          ("with an address in remappable format", .remappable),
          ("with an address in compatibility format", .compatibility),
        ]
      }
    ) { _, _ in .remappable },
    .init(
      "ioapic-rte", aliases: ["rte", "redirection"], "I/O APIC redirection entry",
      RedirectionEntry.self, layouts: { _ in interruptFormats }
    ) { entry, _ in entry.format },
  ]

  private static let interruptFormats: [(condition: String, variant: InterruptFormat)] = [
    ("Interrupt Format = 1, remappable", .remappable),
    ("Interrupt Format = 0, compatibility", .compatibility),
  ]

  private static let queueEntries: [EntryCatalog.Kind] = [
    descriptor("qi-context", "drop context entries", ContextCacheDescriptor.self),
    descriptor("qi-iotlb", "drop translations", IOTLBDescriptor.self),
    descriptor(
      "qi-device-tlb", "ask a device to drop translations", DeviceTLBDescriptor.self),
    descriptor("qi-interrupt", "drop interrupt entries", InterruptEntryDescriptor.self),
    descriptor("qi-wait", "tell when all is done", WaitDescriptor.self),
    descriptor("qi-pasid-iotlb", "drop translations of a PASID", PASIDIOTLBDescriptor.self),
    descriptor("qi-pasid", "drop PASID entries", PASIDCacheDescriptor.self),
    descriptor(
      "qi-pasid-device-tlb", "ask a device to drop translations of a PASID",
      PASIDDeviceTLBDescriptor.self),
    descriptor("qi-page-response", "answer page requests", PageGroupResponseDescriptor.self),
    descriptor("qi-permissions", "drop host permissions", HostPermissionsDescriptor.self),
    .init(
      "page-request", aliases: ["prq"], "VT-d page request, in the page request queue",
      PageRequestDescriptor.self),
  ]

  private static func descriptor<Entry: InvalidationDescriptor>(
    _ name: String, _ task: String, _ type: Entry.Type
  ) -> EntryCatalog.Kind {
    .init(name, "VT-d invalidation queue: \(task)", type) { _, _ in .permissive }
  }

  private static let firmwareEntries: [EntryCatalog.Kind] = [
    .init("dmar-platform", "DMAR table: the quadword at byte 36", DMAR.Platform.self),
    .init(
      "dmar-structure", "DMAR table: the quadword that a structure starts with",
      DMAR.StructureHeader.self,
      layouts: { _ in
        [
          ("Type = 0, DRHD", .hardwareUnit),
          ("Type = 1 or 6, RMRR or SIDP", .reservedMemory),
          ("Type = 2, ATSR", .rootPortATS),
          ("Type = 3, RHSA", .hardwareAffinity),
          ("Type = 4, ANDD", .namespaceDevice),
          ("Type = 5, SATC", .integratedATC),
          ("Type is another", DMAR.StructureType(rawValue: 7)),
        ]
      }
    ) { entry, _ in entry.structureType },
    .init(
      "dmar-scope", "DMAR table: the quadword that a device scope starts with",
      DMAR.ScopeHeader.self),
  ]

  private static let registerEntries: [EntryCatalog.Kind] = [
    register("ver", ["version"], "version of the architecture", Version.self),
    register("cap", ["capability"], "capability register", Capability.self),
    register(
      "ecap", ["extended-capability"], "extended capability register", ExtendedCapability.self),
    register("gcmd", ["global-command"], "global command register", GlobalCommand.self),
    register("gsts", ["global-status"], "global status register", GlobalStatus.self),
    register(
      "rtaddr", ["root-table-address"], "root table address register", RootTableAddress.self),
    register("ccmd", ["context-command"], "context command register", ContextCommand.self),
    register("fsts", ["fault-status"], "fault status register", FaultStatus.self),
    register("frcd", ["fault-record"], "fault recording register", FaultRecord.self),
    register("event-control", [], "control of an event's interrupt", EventControl.self),
    register("event-data", [], "data of an event's interrupt", EventData.self),
    register("event-address", [], "address of an event's interrupt", EventAddress.self),
    register(
      "event-upper-address", [], "upper address of an event's interrupt", EventUpperAddress.self),
    register(
      "pmen", ["protected-memory"], "protected memory enable register", ProtectedMemoryEnable.self),
    register("plm", [], "base or limit of protected low memory", ProtectedLowMemory.self),
    register("phm", [], "base or limit of protected high memory", ProtectedHighMemory.self),
    register("iqh", ["queue-head"], "invalidation queue head", QueueHead.self),
    register("iqt", ["queue-tail"], "invalidation queue tail", QueueTail.self),
    register("iqa", ["queue-address"], "invalidation queue address", QueueAddress.self),
    register("ics", ["completion-status"], "invalidation completion status", CompletionStatus.self),
    register("iqercd", ["queue-error"], "invalidation queue error record", QueueErrorRecord.self),
    register(
      "irta", ["interrupt-table-address"], "interrupt remapping table address",
      InterruptTableAddress.self),
    register("pqh", [], "page request queue head", PageRequestQueueHead.self),
    register("pqt", [], "page request queue tail", PageRequestQueueTail.self),
    register("pqa", [], "page request queue address", PageRequestQueueAddress.self),
    register("prs", [], "page request status register", PageRequestStatus.self),
    register("iva", [], "invalidate address register", InvalidateAddress.self),
    register("iotlb", [], "IOTLB invalidate register", IOTLBInvalidate.self),
    register("mtrrcap", [], "memory type range capability", MemoryTypeCapability.self),
    register("mtrrdef", [], "memory type outside all ranges", MemoryTypeDefault.self),
    register("mtrr-fixed", [], "memory types of a fixed range", FixedMemoryTypes.self),
    register("mtrr-base", [], "base of a variable memory type range", VariableMemoryTypeBase.self),
    register("mtrr-mask", [], "mask of a variable memory type range", VariableMemoryTypeMask.self),
    register("perfcap", [], "performance monitoring capability", PerformanceCapability.self),
    register("perf-offset", [], "where performance registers lie", PerformanceOffset.self),
    register("perfintrsts", [], "performance interrupt status", PerformanceInterruptStatus.self),
    register("perfevntcap", [], "performance event capability", PerformanceEventCapability.self),
    register("ecmd", [], "enhanced command register", EnhancedCommand.self),
    register("eceo", [], "enhanced command operand", EnhancedCommandOperand.self),
    register("ecrsp", [], "enhanced command response", EnhancedCommandResponse.self),
    register("ecsts", [], "enhanced command status", EnhancedCommandStatus.self),
    register("eccap", [], "enhanced command capability", EnhancedCommandCapability.self),
    register("rdtc", [], "resource director tag register", ResourceDirectorTag.self),
    register("vcmd", [], "virtual command register", VirtualCommand.self),
    register("vcmd-eo", [], "virtual command operand", VirtualCommandOperand.self),
    register("vcrsp", [], "virtual command response", VirtualCommandResponse.self),
    register("vccap", [], "virtual command capability", VirtualCommandCapability.self),
  ]

  /// A register, known also by the manual's names for all that have this layout: `fectl` and
  /// `fectl-reg` for FECTL_REG.
  private static func register<Register: VTdRegister>(
    _ name: String, _ aliases: [String], _ summary: String, _ type: Register.Type
  ) -> EntryCatalog.Kind {
    let manual = registerMap.filter { $0.format == type }.flatMap { description -> [String] in
      let long = String(description.name.lowercased().map { $0 == "_" ? "-" : $0 })
      return [String(long.dropLast("-reg".count)), long]
    }
    return .init(
      name, aliases: manual.filter { $0 != name } + aliases, "VT-d \(summary)", type)
  }
}
