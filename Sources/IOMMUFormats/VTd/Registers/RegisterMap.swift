extension VTd {
  /// Where a register lies in a unit's window. Specification: Intel VT-d 11.4.
  public enum RegisterPlace: Sendable, Hashable {
    /// Bytes from the base of the window.
    case at(UInt64)
    /// Bytes from the invalidation registers, which ECAP.IRO places.
    case invalidation(UInt64)
    /// Bytes from the fault recording registers, which CAP.FRO places.
    case faultRecords(UInt64)
  }

  /// When a unit has a register; where it has none the place reads as zero.
  public enum RegisterRequirement: Sendable, Hashable {
    /// Every unit has it.
    case always
    /// CAP.PLMR, CAP.PHMR, either of them.
    case protectedLowMemory, protectedHighMemory, protectedMemory
    /// ECAP.QI, ECAP.IR, ECAP.PRS, ECAP.MTS.
    case queuedInvalidation, interruptRemapping, pageRequests, memoryTypes
    /// ECAP.PMS, CAP.ECMDS, ECAP.RDTS, ECAP.VCS.
    case performanceMonitoring, enhancedCommands, resourceDirector, virtualCommands
  }

  /// One row of the register map: a register, or an array of registers that are all alike.
  public struct RegisterDescription: Sendable {
    /// The manual's name.
    public let name: String
    /// The first register's place.
    public let place: RegisterPlace
    /// The register's layout.
    public let format: any VTdRegister.Type
    /// When a unit has it.
    public let requirement: RegisterRequirement
    /// Registers in the array, 1 for most; `nil` for as many as the capability registers say.
    public let count: Int?
    /// Bytes from one register of the array to the next.
    public let strideByteCount: Int

    init(
      _ name: String, _ place: RegisterPlace, _ format: any VTdRegister.Type,
      _ requirement: RegisterRequirement = .always, count: Int? = 1, stride: Int = 0
    ) {
      self.name = name
      self.place = place
      self.format = format
      self.requirement = requirement
      self.count = count
      self.strideByteCount = stride
    }
  }

  /// Every register of the manual, ascending: what a unit's register page is made of.
  public static let registerMap: [RegisterDescription] =
    globalRegisters + memoryAndQueueRegisters + pageRequestRegisters + optionalRegisters + [
      RegisterDescription("IVA_REG", .invalidation(0), InvalidateAddress.self),
      RegisterDescription("IOTLB_REG", .invalidation(8), IOTLBInvalidate.self),
      RegisterDescription(
        "FRCD_REG", .faultRecords(0), FaultRecord.self, count: nil, stride: 16),
    ]

  private static let globalRegisters: [RegisterDescription] = [
    RegisterDescription("VER_REG", .at(RegisterOffset.version), Version.self),
    RegisterDescription("CAP_REG", .at(RegisterOffset.capability), Capability.self),
    RegisterDescription(
      "ECAP_REG", .at(RegisterOffset.extendedCapability), ExtendedCapability.self),
    RegisterDescription("GCMD_REG", .at(RegisterOffset.globalCommand), GlobalCommand.self),
    RegisterDescription("GSTS_REG", .at(RegisterOffset.globalStatus), GlobalStatus.self),
    RegisterDescription("RTADDR_REG", .at(RegisterOffset.rootTableAddress), RootTableAddress.self),
    RegisterDescription("CCMD_REG", .at(RegisterOffset.contextCommand), ContextCommand.self),
    RegisterDescription("FSTS_REG", .at(RegisterOffset.faultStatus), FaultStatus.self),
    RegisterDescription("FECTL_REG", .at(RegisterOffset.faultControl), EventControl.self),
    RegisterDescription("FEDATA_REG", .at(RegisterOffset.faultData), EventData.self),
    RegisterDescription("FEADDR_REG", .at(RegisterOffset.faultAddress), EventAddress.self),
    RegisterDescription(
      "FEUADDR_REG", .at(RegisterOffset.faultUpperAddress), EventUpperAddress.self),
  ]

  private static let memoryAndQueueRegisters: [RegisterDescription] = [
    RegisterDescription(
      "PMEN_REG", .at(RegisterOffset.protectedMemoryEnable), ProtectedMemoryEnable.self,
      .protectedMemory),
    RegisterDescription(
      "PLMBASE_REG", .at(RegisterOffset.protectedLowBase), ProtectedLowMemory.self,
      .protectedLowMemory),
    RegisterDescription(
      "PLMLIMIT_REG", .at(RegisterOffset.protectedLowLimit), ProtectedLowMemory.self,
      .protectedLowMemory),
    RegisterDescription(
      "PHMBASE_REG", .at(RegisterOffset.protectedHighBase), ProtectedHighMemory.self,
      .protectedHighMemory),
    RegisterDescription(
      "PHMLIMIT_REG", .at(RegisterOffset.protectedHighLimit), ProtectedHighMemory.self,
      .protectedHighMemory),
    RegisterDescription(
      "IQH_REG", .at(RegisterOffset.queueHead), QueueHead.self, .queuedInvalidation),
    RegisterDescription(
      "IQT_REG", .at(RegisterOffset.queueTail), QueueTail.self, .queuedInvalidation),
    RegisterDescription(
      "IQA_REG", .at(RegisterOffset.queueAddress), QueueAddress.self, .queuedInvalidation),
    RegisterDescription(
      "ICS_REG", .at(RegisterOffset.completionStatus), CompletionStatus.self, .queuedInvalidation),
    RegisterDescription(
      "IECTL_REG", .at(RegisterOffset.completionControl), EventControl.self, .queuedInvalidation),
    RegisterDescription(
      "IEDATA_REG", .at(RegisterOffset.completionData), EventData.self, .queuedInvalidation),
    RegisterDescription(
      "IEADDR_REG", .at(RegisterOffset.completionAddress), EventAddress.self, .queuedInvalidation),
    RegisterDescription(
      "IEUADDR_REG", .at(RegisterOffset.completionUpperAddress), EventUpperAddress.self,
      .queuedInvalidation),
    RegisterDescription(
      "IQERCD_REG", .at(RegisterOffset.queueErrorRecord), QueueErrorRecord.self, .queuedInvalidation
    ),
    RegisterDescription(
      "IRTA_REG", .at(RegisterOffset.interruptTableAddress), InterruptTableAddress.self,
      .interruptRemapping),
  ]

  private static let pageRequestRegisters: [RegisterDescription] = [
    RegisterDescription(
      "PQH_REG", .at(RegisterOffset.pageRequestHead), PageRequestQueueHead.self, .pageRequests),
    RegisterDescription(
      "PQT_REG", .at(RegisterOffset.pageRequestTail), PageRequestQueueTail.self, .pageRequests),
    RegisterDescription(
      "PQA_REG", .at(RegisterOffset.pageRequestQueueAddress), PageRequestQueueAddress.self,
      .pageRequests),
    RegisterDescription(
      "PRS_REG", .at(RegisterOffset.pageRequestStatus), PageRequestStatus.self, .pageRequests),
    RegisterDescription(
      "PECTL_REG", .at(RegisterOffset.pageRequestControl), EventControl.self, .pageRequests),
    RegisterDescription(
      "PEDATA_REG", .at(RegisterOffset.pageRequestData), EventData.self, .pageRequests),
    RegisterDescription(
      "PEADDR_REG", .at(RegisterOffset.pageRequestAddress), EventAddress.self, .pageRequests),
    RegisterDescription(
      "PEUADDR_REG", .at(RegisterOffset.pageRequestUpperAddress), EventUpperAddress.self,
      .pageRequests),
  ]

  private static let optionalRegisters: [RegisterDescription] = [
    RegisterDescription(
      "MTRRCAP_REG", .at(RegisterOffset.memoryTypeCapability), MemoryTypeCapability.self,
      .memoryTypes),
    RegisterDescription("MTRRDEF_REG", .at(0x108), MemoryTypeDefault.self, .memoryTypes),
    RegisterDescription("MTRR_FIX64K_00000_REG", .at(0x120), FixedMemoryTypes.self, .memoryTypes),
    RegisterDescription("MTRR_FIX16K_80000_REG", .at(0x128), FixedMemoryTypes.self, .memoryTypes),
    RegisterDescription("MTRR_FIX16K_A0000_REG", .at(0x130), FixedMemoryTypes.self, .memoryTypes),
    RegisterDescription(
      "MTRR_FIX4K_REG", .at(0x138), FixedMemoryTypes.self, .memoryTypes, count: 8, stride: 8),
    RegisterDescription(
      "MTRR_PHYSBASE_REG", .at(0x180), VariableMemoryTypeBase.self, .memoryTypes, count: 10,
      stride: 16),
    RegisterDescription(
      "MTRR_PHYSMASK_REG", .at(0x188), VariableMemoryTypeMask.self, .memoryTypes, count: 10,
      stride: 16),
    RegisterDescription(
      "PERFCAP_REG", .at(0x300), PerformanceCapability.self, .performanceMonitoring),
    RegisterDescription(
      "PERFCFGOFF_REG", .at(0x310), PerformanceOffset.self, .performanceMonitoring),
    RegisterDescription(
      "PERFFRZOFF_REG", .at(0x314), PerformanceOffset.self, .performanceMonitoring),
    RegisterDescription(
      "PERFOVFOFF_REG", .at(0x318), PerformanceOffset.self, .performanceMonitoring),
    RegisterDescription(
      "PERFCNTROFF_REG", .at(0x31c), PerformanceOffset.self, .performanceMonitoring),
    RegisterDescription(
      "PERFINTRSTS_REG", .at(0x324), PerformanceInterruptStatus.self, .performanceMonitoring),
    RegisterDescription("PERFINTRCTL_REG", .at(0x328), EventControl.self, .performanceMonitoring),
    RegisterDescription("PERFINTRDATA_REG", .at(0x32c), EventData.self, .performanceMonitoring),
    RegisterDescription("PERFINTRADDR_REG", .at(0x330), EventAddress.self, .performanceMonitoring),
    RegisterDescription(
      "PERFINTRUADDR_REG", .at(0x334), EventUpperAddress.self, .performanceMonitoring),
    RegisterDescription(
      "PERFEVNTCAP_REG", .at(0x380), PerformanceEventCapability.self, .performanceMonitoring,
      count: 16, stride: 8),
    RegisterDescription("ECMD_REG", .at(0x400), EnhancedCommand.self, .enhancedCommands),
    RegisterDescription("ECEO_REG", .at(0x408), EnhancedCommandOperand.self, .enhancedCommands),
    RegisterDescription("ECRSP_REG", .at(0x410), EnhancedCommandResponse.self, .enhancedCommands),
    RegisterDescription(
      "ECSTS_REG", .at(0x420), EnhancedCommandStatus.self, .enhancedCommands, count: 2, stride: 8),
    RegisterDescription(
      "ECCAP_REG", .at(0x430), EnhancedCommandCapability.self, .enhancedCommands, count: 4,
      stride: 8),
    RegisterDescription("RDTC_REG", .at(0xdc0), ResourceDirectorTag.self, .resourceDirector),
    RegisterDescription("VCMD_REG", .at(0xe00), VirtualCommand.self, .virtualCommands),
    RegisterDescription("VCMD_EO_REG", .at(0xe08), VirtualCommandOperand.self, .virtualCommands),
    RegisterDescription("VCRSP_REG", .at(0xe10), VirtualCommandResponse.self, .virtualCommands),
    RegisterDescription("VCCAP_REG", .at(0xe30), VirtualCommandCapability.self, .virtualCommands),
  ]
}

extension VTd.RegisterOffset {
  /// CCMD_REG.
  public static let contextCommand: UInt64 = 0x028
  /// FSTS_REG.
  public static let faultStatus: UInt64 = 0x034
  /// FECTL_REG.
  public static let faultControl: UInt64 = 0x038
  /// FEDATA_REG.
  public static let faultData: UInt64 = 0x03c
  /// FEADDR_REG.
  public static let faultAddress: UInt64 = 0x040
  /// FEUADDR_REG.
  public static let faultUpperAddress: UInt64 = 0x044
  /// PMEN_REG.
  public static let protectedMemoryEnable: UInt64 = 0x064
  /// PLMBASE_REG.
  public static let protectedLowBase: UInt64 = 0x068
  /// PLMLIMIT_REG.
  public static let protectedLowLimit: UInt64 = 0x06c
  /// PHMBASE_REG.
  public static let protectedHighBase: UInt64 = 0x070
  /// PHMLIMIT_REG.
  public static let protectedHighLimit: UInt64 = 0x078
  /// IQH_REG.
  public static let queueHead: UInt64 = 0x080
  /// IQT_REG.
  public static let queueTail: UInt64 = 0x088
  /// IQA_REG.
  public static let queueAddress: UInt64 = 0x090
  /// ICS_REG.
  public static let completionStatus: UInt64 = 0x09c
  /// IECTL_REG.
  public static let completionControl: UInt64 = 0x0a0
  /// IEDATA_REG.
  public static let completionData: UInt64 = 0x0a4
  /// IEADDR_REG.
  public static let completionAddress: UInt64 = 0x0a8
  /// IEUADDR_REG.
  public static let completionUpperAddress: UInt64 = 0x0ac
  /// IQERCD_REG.
  public static let queueErrorRecord: UInt64 = 0x0b0
  /// IRTA_REG.
  public static let interruptTableAddress: UInt64 = 0x0b8
  /// PQH_REG.
  public static let pageRequestHead: UInt64 = 0x0c0
  /// PQT_REG.
  public static let pageRequestTail: UInt64 = 0x0c8
  /// PQA_REG.
  public static let pageRequestQueueAddress: UInt64 = 0x0d0
  /// PRS_REG.
  public static let pageRequestStatus: UInt64 = 0x0dc
  /// PECTL_REG.
  public static let pageRequestControl: UInt64 = 0x0e0
  /// PEDATA_REG.
  public static let pageRequestData: UInt64 = 0x0e4
  /// PEADDR_REG.
  public static let pageRequestAddress: UInt64 = 0x0e8
  /// PEUADDR_REG.
  public static let pageRequestUpperAddress: UInt64 = 0x0ec
  /// MTRRCAP_REG.
  public static let memoryTypeCapability: UInt64 = 0x100
}
