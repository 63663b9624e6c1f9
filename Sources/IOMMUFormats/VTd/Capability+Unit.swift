// What the capability registers say that no table depends on: for units and their drivers.

extension VTd.Capability {
  /// ND: a domain-id has 4 + 2·ND bits; 7 is reserved.
  public var domainIDCode: Int { Int(self[Self.nd]) }
  /// AFL of revisions before 3.
  public var hasAdvancedFaultLog: Bool { self[Self.afl] != 0 }
  /// RWBF: software flushes the write buffer.
  public var requiresWriteBufferFlush: Bool { self[Self.rwbf] != 0 }
  /// PLMR.
  public var hasProtectedLowMemory: Bool { self[Self.plmr] != 0 }
  /// PHMR.
  public var hasProtectedHighMemory: Bool { self[Self.phmr] != 0 }
  /// CM: software invalidates also what was not present.
  public var hasCachingMode: Bool { self[Self.cm] != 0 }
  /// SAGAW: bit n set means tables of n + 2 levels.
  public var supportedWidths: UInt8 { UInt8(self[Self.sagaw]) }
  /// SSLPS: bit 0 for 2 MiB, bit 1 for 1 GiB.
  public var supportedPageSizes: UInt8 { UInt8(self[Self.sslps]) }
  /// FRO: bytes from the base of the registers to the first fault record.
  public var faultRecordOffset: UInt64 { self[Self.fro] * 16 }
  /// NFR: fault records, 1 to 256.
  public var faultRecordCount: Int { Int(self[Self.nfr]) + 1 }
  /// PSI: IOTLB invalidations can name pages.
  public var hasPageSelectiveInvalidation: Bool { self[Self.psi] != 0 }
  /// MAMV: an invalidation covers at most 2^MAMV pages.
  public var maximumAddressMask: Int { Int(self[Self.mamv]) }
  /// PI.
  public var hasPostedInterrupts: Bool { self[Self.pi] != 0 }
  /// ECMDS.
  public var hasEnhancedCommands: Bool { self[Self.ecmds] != 0 }
  /// ESIRTPS: taking over an interrupt table drops cached entries.
  public var invalidatesOnInterruptTablePointer: Bool { self[Self.esirtps] != 0 }
  /// ESRTPS: taking over a root table drops everything cached.
  public var invalidatesOnRootTablePointer: Bool { self[Self.esrtps] != 0 }
}

extension VTd.ExtendedCapability {
  /// QI: invalidations can be queued.
  public var hasQueue: Bool { self[Self.qi] != 0 }
  /// DT.
  public var hasDeviceTLBs: Bool { self[Self.dt] != 0 }
  /// IR.
  public var hasInterruptRemapping: Bool { self[Self.ir] != 0 }
  /// EIM: destinations of 32 bits.
  public var hasExtendedInterruptMode: Bool { self[Self.eim] != 0 }
  /// IRO: bytes from the base of the registers to IVA_REG.
  public var invalidationRegisterOffset: UInt64 { self[Self.iro] * 16 }
  /// MHMV: the largest mask of an interrupt entry invalidation.
  public var maximumHandleMask: Int { Int(self[Self.mhmv]) }
  /// ECS of revision 2.
  public var hasExtendedContexts: Bool { self[Self.ecs] != 0 }
  /// MTS.
  public var hasMemoryTypes: Bool { self[Self.mts] != 0 }
  /// NEST.
  public var hasNesting: Bool { self[Self.nest] != 0 }
  /// PRS.
  public var hasPageRequests: Bool { self[Self.prs] != 0 }
  /// ERS.
  public var hasExecuteRequests: Bool { self[Self.ers] != 0 }
  /// PASID: requests may carry one.
  public var hasPASIDs: Bool { self[Self.pasid] != 0 }
  /// DIT: device-TLB invalidations name a physical function.
  public var hasInvalidationThrottle: Bool { self[Self.dit] != 0 }
  /// PDS: a wait descriptor can drain page requests.
  public var hasPageRequestDrain: Bool { self[Self.pds] != 0 }
  /// SMTS.
  public var hasScalableMode: Bool { self[Self.smts] != 0 }
  /// VCS.
  public var hasVirtualCommands: Bool { self[Self.vcs] != 0 }
  /// SSTS: in scalable mode.
  public var hasSecondStage: Bool { self[Self.ssts] != 0 }
  /// FSTS.
  public var hasFirstStage: Bool { self[Self.fsts] != 0 }
  /// RPS: RID_PASID may be other than zero.
  public var hasRequesterPASID: Bool {
    get { self[Self.rps] != 0 }
    set { self[Self.rps] = newValue ? 1 : 0 }
  }
  /// PMS.
  public var hasPerformanceMonitoring: Bool { self[Self.pms] != 0 }
  /// ADMS: the root table can be switched to refuse all DMA.
  public var hasAbortDMA: Bool { self[Self.adms] != 0 }
  /// HPTS.
  public var hasPermissionTables: Bool { self[Self.hpts] != 0 }
  /// RDTS.
  public var hasResourceDirector: Bool { self[Self.rdts] != 0 }
  /// EIMER: extended interrupt mode is required.
  public var requiresExtendedInterruptMode: Bool { self[Self.eimer] != 0 }
  /// IRREQ: interrupt remapping is required.
  public var requiresInterruptRemapping: Bool { self[Self.irreq] != 0 }
}
