extension AMDVi {
  /// When a unit has a register; where it has none the place reads as zero.
  public enum RegisterRequirement: Sendable, Hashable {
    /// Every unit has it.
    case always
    /// The capability header's EFRSup.
    case extendedFeatures
    /// EFR.PPRSup, EFR.DualPprLogSup, EFR.PprAutoRspSup, EFR.PprOvrflwEarlySup.
    case pageRequests, secondPageRequestLog, pageRequestAnswers, earlyPageRequestOverflow
    /// EFR.GAMSup, EFR.DualEventLogSup, EFR.HESup.
    case guestInterrupts, secondEventLog, hardwareErrors
    /// EFR.SmiFSup, EFR.DevTblSegSup, EFR.MsiCapMmioSup, EFR.PerfOptSup.
    case systemManagementFilter, segments, interruptCapabilityCopy, performanceOptimization
    /// EFR.XTSup, EFR.MarcSup, EFR.vIommuSup.
    case extendedDestinations, relocation, virtualUnits
  }

  /// One row of the register map: a register, or an array of registers that are all alike.
  public struct RegisterDescription: Sendable {
    /// The manual's name.
    public let name: String
    /// Bytes from the base of the window to the first register.
    public let offset: UInt64
    /// The register's layout.
    public let format: any HardwareRegister.Type
    /// When a unit has it.
    public let requirement: RegisterRequirement
    /// Registers in the array, 1 for most; the manual's largest number.
    public let count: Int
    /// Bytes from one register of the array to the next.
    public let strideByteCount: UInt64

    init(
      _ name: String, _ offset: UInt64, _ format: any HardwareRegister.Type,
      _ requirement: RegisterRequirement = .always, count: Int = 1, stride: UInt64 = 8
    ) {
      self.name = name
      self.offset = offset
      self.format = format
      self.requirement = requirement
      self.count = count
      strideByteCount = stride
    }
  }

  /// Every register of the manual, ascending but for arrays: what a unit's register page is made of.
  ///
  /// Performance counters, from 0x4000 and 0x40000 on, are not among them.
  public static let registerMap: [RegisterDescription] =
    tableRegisters + extensionRegisters + ringRegisters

  private static let tableRegisters: [RegisterDescription] = [
    .init("DevTabBase", RegisterOffset.deviceTableBase, DeviceTableBase.self),
    .init("CmdBufBase", RegisterOffset.commandBufferBase, CommandBufferBase.self),
    .init("EventLogBase", RegisterOffset.eventLogBase, EventLogBase.self),
    .init("Control", RegisterOffset.control, Control.self),
    .init("ExclBase", RegisterOffset.exclusionBase, ExclusionBase.self),
    .init("ExclLimit", RegisterOffset.exclusionLimit, ExclusionLimit.self),
    .init("EFR", RegisterOffset.extendedFeatures, ExtendedFeatures.self, .extendedFeatures),
    .init("PPRLogBase", RegisterOffset.pageRequestLogBase, PageRequestLogBase.self, .pageRequests),
    .init("HwEventHi", RegisterOffset.hardwareEventHigh, HardwareEventHigh.self, .hardwareErrors),
    .init("HwEventLo", RegisterOffset.hardwareEventLow, HardwareEventLow.self, .hardwareErrors),
    .init(
      "HwEventStatus", RegisterOffset.hardwareEventStatus, HardwareEventStatus.self,
      .hardwareErrors),
    .init(
      "SmiFilter", RegisterOffset.systemManagementFilter, SystemManagementFilter.self,
      .systemManagementFilter, count: 16),
    .init("GALogBase", RegisterOffset.guestLogBase, GuestLogBase.self, .guestInterrupts),
    .init(
      "GALogTailAddr", RegisterOffset.guestLogTailAddress, GuestLogTailAddress.self,
      .guestInterrupts),
    .init(
      "PPRLogBaseB", RegisterOffset.secondPageRequestLogBase, PageRequestLogBase.self,
      .secondPageRequestLog),
    .init("EventLogBaseB", RegisterOffset.secondEventLogBase, EventLogBase.self, .secondEventLog),
    .init(
      "DevTabSegBase", RegisterOffset.deviceTableSegmentBase, DeviceTableSegmentBase.self,
      .segments, count: 7),
  ]

  private static let extensionRegisters: [RegisterDescription] = [
    .init("DSFX", RegisterOffset.deviceSpecificFeatures, DeviceSpecificFeatures.self),
    .init("DSCX", RegisterOffset.deviceSpecificControl, DeviceSpecificControl.self),
    .init("DSSX", RegisterOffset.deviceSpecificStatus, DeviceSpecificStatus.self),
    .init(
      "MsiVector0", RegisterOffset.interruptVectors, InterruptVectors.self,
      .interruptCapabilityCopy),
    .init(
      "MsiVector1", RegisterOffset.guestInterruptVector, GuestInterruptVector.self,
      .interruptCapabilityCopy),
    .init(
      "MsiCapHeader", RegisterOffset.messageCapability, MessageCapability.self,
      .interruptCapabilityCopy),
    .init(
      "MsiAddrLo", RegisterOffset.messageAddress, MessageAddress.self, .interruptCapabilityCopy),
    .init(
      "MsiAddrHi", RegisterOffset.messageUpperAddress, MessageUpperAddress.self,
      .interruptCapabilityCopy),
    .init("MsiData", RegisterOffset.messageData, MessageData.self, .interruptCapabilityCopy),
    .init(
      "MsiMapCapHeader", RegisterOffset.messageMapping, MessageMapping.self,
      .interruptCapabilityCopy),
    .init(
      "PerfOptControl", RegisterOffset.performanceOptimization, PerformanceOptimization.self,
      .performanceOptimization),
    .init(
      "XTIntControl", RegisterOffset.extendedInterruptControl, ExtendedInterruptControl.self,
      .extendedDestinations),
    .init(
      "XTIntControlPPR", RegisterOffset.extendedPageRequestControl, ExtendedInterruptControl.self,
      .extendedDestinations),
    .init(
      "XTIntControlGA", RegisterOffset.extendedGuestControl, ExtendedInterruptControl.self,
      .extendedDestinations),
    .init("vIommuStatus", RegisterOffset.virtualUnitStatus, VirtualUnitStatus.self, .virtualUnits),
    .init("EFR2", RegisterOffset.extendedFeatures2, ExtendedFeatures2.self, .extendedFeatures),
    .init(
      "MarcBase", RegisterOffset.relocationBase, RelocationBase.self, .relocation, count: 4,
      stride: 0x18),
    .init(
      "MarcReloc", RegisterOffset.relocationTarget, RelocationTarget.self, .relocation, count: 4,
      stride: 0x18),
    .init(
      "MarcLength", RegisterOffset.relocationLength, RelocationLength.self, .relocation, count: 4,
      stride: 0x18),
    .init("Reserved", RegisterOffset.reserved, ReservedRegister.self),
  ]

  private static let ringRegisters: [RegisterDescription] = [
    .init("CmdBufHead", RegisterOffset.commandHead, RingPointer.self),
    .init("CmdBufTail", RegisterOffset.commandTail, RingPointer.self),
    .init("EventLogHead", RegisterOffset.eventHead, RingPointer.self),
    .init("EventLogTail", RegisterOffset.eventTail, RingPointer.self),
    .init("Status", RegisterOffset.status, Status.self),
    .init("PPRLogHead", RegisterOffset.pageRequestHead, RingPointer.self, .pageRequests),
    .init("PPRLogTail", RegisterOffset.pageRequestTail, RingPointer.self, .pageRequests),
    .init("GALogHead", RegisterOffset.guestHead, GuestLogPointer.self, .guestInterrupts),
    .init("GALogTail", RegisterOffset.guestTail, GuestLogPointer.self, .guestInterrupts),
    .init(
      "PPRLogHeadB", RegisterOffset.secondPageRequestHead, RingPointer.self, .secondPageRequestLog),
    .init(
      "PPRLogTailB", RegisterOffset.secondPageRequestTail, RingPointer.self, .secondPageRequestLog),
    .init("EventLogHeadB", RegisterOffset.secondEventHead, RingPointer.self, .secondEventLog),
    .init("EventLogTailB", RegisterOffset.secondEventTail, RingPointer.self, .secondEventLog),
    .init(
      "PPRAutoResponse", RegisterOffset.pageRequestAnswer, PageRequestAnswer.self,
      .pageRequestAnswers),
    .init(
      "PPROverflowEarly", RegisterOffset.pageRequestEarlyOverflow, PageRequestEarlyOverflow.self,
      .earlyPageRequestOverflow),
    .init(
      "PPROverflowEarlyB", RegisterOffset.secondPageRequestEarlyOverflow,
      PageRequestEarlyOverflow.self, .earlyPageRequestOverflow),
  ]

  /// Registers of a unit, as offsets from the base of its window. Specification: AMD IOMMU 3.4.
  public enum RegisterOffset {
    /// ``DeviceTableBase``.
    public static let deviceTableBase: UInt64 = 0x0000
    /// ``CommandBufferBase``.
    public static let commandBufferBase: UInt64 = 0x0008
    /// ``EventLogBase``.
    public static let eventLogBase: UInt64 = 0x0010
    /// ``Control``.
    public static let control: UInt64 = 0x0018
    /// ``ExclusionBase``.
    public static let exclusionBase: UInt64 = 0x0020
    /// ``ExclusionLimit``.
    public static let exclusionLimit: UInt64 = 0x0028
    /// ``ExtendedFeatures``.
    public static let extendedFeatures: UInt64 = 0x0030
    /// ``PageRequestLogBase``.
    public static let pageRequestLogBase: UInt64 = 0x0038
    /// ``HardwareEventHigh``.
    public static let hardwareEventHigh: UInt64 = 0x0040
    /// ``HardwareEventLow``.
    public static let hardwareEventLow: UInt64 = 0x0048
    /// ``HardwareEventStatus``.
    public static let hardwareEventStatus: UInt64 = 0x0050
    /// ``SystemManagementFilter``, the first of 16.
    public static let systemManagementFilter: UInt64 = 0x0060
    /// ``GuestLogBase``.
    public static let guestLogBase: UInt64 = 0x00e0
    /// ``GuestLogTailAddress``.
    public static let guestLogTailAddress: UInt64 = 0x00e8
    /// ``PageRequestLogBase`` of the second log.
    public static let secondPageRequestLogBase: UInt64 = 0x00f0
    /// ``EventLogBase`` of the second log.
    public static let secondEventLogBase: UInt64 = 0x00f8
    /// ``DeviceTableSegmentBase``, that of segment 1.
    public static let deviceTableSegmentBase: UInt64 = 0x0100
    /// ``DeviceSpecificFeatures``.
    public static let deviceSpecificFeatures: UInt64 = 0x0138
    /// ``DeviceSpecificControl``.
    public static let deviceSpecificControl: UInt64 = 0x0140
    /// ``DeviceSpecificStatus``.
    public static let deviceSpecificStatus: UInt64 = 0x0148
    /// ``InterruptVectors``.
    public static let interruptVectors: UInt64 = 0x0150
    /// ``GuestInterruptVector``.
    public static let guestInterruptVector: UInt64 = 0x0154
    /// ``MessageCapability``.
    public static let messageCapability: UInt64 = 0x0158
    /// ``MessageAddress``.
    public static let messageAddress: UInt64 = 0x015c
    /// ``MessageUpperAddress``.
    public static let messageUpperAddress: UInt64 = 0x0160
    /// ``MessageData``.
    public static let messageData: UInt64 = 0x0164
    /// ``MessageMapping``.
    public static let messageMapping: UInt64 = 0x0168
    /// ``PerformanceOptimization``.
    public static let performanceOptimization: UInt64 = 0x016c
    /// ``ExtendedInterruptControl`` of events and completions.
    public static let extendedInterruptControl: UInt64 = 0x0170
    /// ``ExtendedInterruptControl`` of page requests.
    public static let extendedPageRequestControl: UInt64 = 0x0178
    /// ``ExtendedInterruptControl`` of guests' interrupts.
    public static let extendedGuestControl: UInt64 = 0x0180
    /// ``VirtualUnitStatus``.
    public static let virtualUnitStatus: UInt64 = 0x0190
    /// ``ExtendedFeatures2``.
    public static let extendedFeatures2: UInt64 = 0x01a0
    /// ``RelocationBase``, the first of 4.
    public static let relocationBase: UInt64 = 0x0200
    /// ``RelocationTarget``, the first of 4.
    public static let relocationTarget: UInt64 = 0x0208
    /// ``RelocationLength``, the first of 4.
    public static let relocationLength: UInt64 = 0x0210
    /// ``ReservedRegister``.
    public static let reserved: UInt64 = 0x1ff8
    /// ``RingPointer``: the command that is fetched next.
    public static let commandHead: UInt64 = 0x2000
    /// ``RingPointer``: where software's next command goes.
    public static let commandTail: UInt64 = 0x2008
    /// ``RingPointer``: the event that software reads next.
    public static let eventHead: UInt64 = 0x2010
    /// ``RingPointer``: where the next event goes.
    public static let eventTail: UInt64 = 0x2018
    /// ``Status``.
    public static let status: UInt64 = 0x2020
    /// ``RingPointer``: the page request that software reads next.
    public static let pageRequestHead: UInt64 = 0x2030
    /// ``RingPointer``: where the next page request goes.
    public static let pageRequestTail: UInt64 = 0x2038
    /// ``GuestLogPointer``: the entry that software reads next.
    public static let guestHead: UInt64 = 0x2040
    /// ``GuestLogPointer``: where the next entry goes.
    public static let guestTail: UInt64 = 0x2048
    /// ``RingPointer`` of the second log of page requests.
    public static let secondPageRequestHead: UInt64 = 0x2050
    /// ``RingPointer`` of the second log of page requests.
    public static let secondPageRequestTail: UInt64 = 0x2058
    /// ``RingPointer`` of the second event log.
    public static let secondEventHead: UInt64 = 0x2070
    /// ``RingPointer`` of the second event log.
    public static let secondEventTail: UInt64 = 0x2078
    /// ``PageRequestAnswer``.
    public static let pageRequestAnswer: UInt64 = 0x2080
    /// ``PageRequestEarlyOverflow``.
    public static let pageRequestEarlyOverflow: UInt64 = 0x2088
    /// ``PageRequestEarlyOverflow`` of the second log.
    public static let secondPageRequestEarlyOverflow: UInt64 = 0x2090
  }
}
