import IOMMUFormats

extension PCI.ConfigurationSpace {
  /// The function of an AMD-Vi unit: the capability block at 0x40, MSI at 0x64, its mapping at 0x74.
  init(_ configuration: AMDViUnitConfiguration) {
    typealias Offset = AMDViUnit.FunctionOffset
    self.init(vendorID: 0x1022, deviceID: configuration.deviceID, classCode: 0x08_0600)
    commandStatus.hasCapabilities = true
    store(UInt32(Offset.capability), at: PCI.RegisterOffset.capabilitiesPointer)
    store(
      configuration.capability.rawValue & ~0xff00 | UInt32(Offset.message) << 8,
      at: Offset.capability)
    let miscellaneous = AMDVi.CapabilityMiscellaneous(
      physicalAddressWidth: configuration.physicalAddressWidth, message: 0, pageRequestMessage: 1)
    store(miscellaneous.rawValue, at: Offset.capability + AMDVi.CapabilityOffset.miscellaneous)
    // The message of guests' interrupts has number 2.
    store(2, at: Offset.capability + AMDVi.CapabilityOffset.miscellaneous1)
    func makeWritable(_ format: any HardwareRegister.Type, at offset: Int) {
      self.makeWritable(
        UInt32(truncatingIfNeeded: format.mask { $0.access == .readWrite }.low), at: offset)
    }
    makeWritable(
      AMDVi.CapabilityBaseLow.self, at: Offset.capability + AMDVi.CapabilityOffset.baseLow)
    makeWritable(
      AMDVi.CapabilityBaseHigh.self, at: Offset.capability + AMDVi.CapabilityOffset.baseHigh)
    makeWritable(AMDVi.CapabilityRange.self, at: Offset.capability + AMDVi.CapabilityOffset.range)
    let header = UInt32(truncatingIfNeeded: AMDVi.MessageCapability.resetValue)
    store(header | UInt32(Offset.mapping) << 8, at: Offset.message)
    makeWritable(AMDVi.MessageCapability.self, at: Offset.message)
    makeWritable(AMDVi.MessageAddress.self, at: Offset.message + 4)
    makeWritable(AMDVi.MessageUpperAddress.self, at: Offset.message + 8)
    makeWritable(AMDVi.MessageData.self, at: Offset.message + 12)
    store(UInt32(truncatingIfNeeded: AMDVi.MessageMapping.resetValue), at: Offset.mapping)
  }
}

extension AMDViUnit {
  /// Where the capabilities of the unit's function are.
  enum FunctionOffset {
    static let capability = 0x40
    static let message = 0x64
    static let mapping = 0x74
  }

  /// Bits of the status register that software clears by writing 1: PCI Express 7.5.1.1.4.
  private static let clearableStatus: UInt32 = 0xf900_0000
  /// Signaled target abort.
  private static let targetAbort: UInt32 = 1 << 27

  /// Reads a doubleword of the function's configuration space; ones past its end.
  public func readConfiguration(_ offset: Int) -> UInt32 {
    locked { function.doubleword(at: offset) }
  }

  /// Writes a doubleword of the function's configuration space.
  ///
  /// The capability block keeps its values from the moment on that Enable is set.
  ///
  /// - Parameters:
  ///   - value: The doubleword.
  ///   - offset: A multiple of four; nothing happens at any other.
  public func writeConfiguration(_ value: UInt32, at offset: Int) {
    locked {
      typealias Offset = FunctionOffset
      switch offset {
      case Offset.capability..<(Offset.capability + AMDVi.CapabilityOffset.byteCount)
      where capabilityBase.isEnabled:
        return
      case PCI.RegisterOffset.commandStatus:
        let status = function.doubleword(at: offset) & ~(value & Self.clearableStatus)
        function.write(value, at: offset)
        function.store(
          function.doubleword(at: offset) & 0xffff | status & 0xffff_0000, at: offset)
      default: function.write(value, at: offset)
      }
      copyMessageRegisters()
    }
  }

  private var capabilityBase: AMDVi.CapabilityBaseLow {
    AMDVi.CapabilityBaseLow(
      rawValue: function.doubleword(
        at: FunctionOffset.capability + AMDVi.CapabilityOffset.baseLow))
  }

  /// Where software has put the register window; `nil` until it has enabled it.
  public var windowBase: PhysicalAddress? {
    locked {
      guard capabilityBase.isEnabled else { return nil }
      let high = function.doubleword(
        at: FunctionOffset.capability + AMDVi.CapabilityOffset.baseHigh)
      return PhysicalAddress(UInt64(high) << 32 | capabilityBase.address)
    }
  }

  /// A request was stopped: the device saw a target abort.
  func signalTargetAbort() {
    let offset = PCI.RegisterOffset.commandStatus
    function.store(function.doubleword(at: offset) | Self.targetAbort, at: offset)
  }

  // MARK: The copy of the MSI capability

  private static let copies: [(place: UInt64, offset: Int)] = [
    (AMDVi.RegisterOffset.interruptVectors, FunctionOffset.capability + 0x10),
    (AMDVi.RegisterOffset.messageCapability, FunctionOffset.message),
    (AMDVi.RegisterOffset.messageAddress, FunctionOffset.message + 4),
    (AMDVi.RegisterOffset.messageUpperAddress, FunctionOffset.message + 8),
    (AMDVi.RegisterOffset.messageData, FunctionOffset.message + 12),
    (AMDVi.RegisterOffset.messageMapping, FunctionOffset.mapping),
  ]

  /// The register window shows what the configuration space has.
  func copyMessageRegisters() {
    guard configuration.features.hasInterruptCapabilityCopy else { return }
    for copy in Self.copies {
      page[AMDVi.MessageUpperAddress.self, copy.place].rawValue = function.doubleword(
        at: copy.offset)
    }
  }

  /// The register window was written: so is the configuration space.
  func messageRegistersWereWritten() {
    guard configuration.features.hasInterruptCapabilityCopy else { return }
    for copy in Self.copies.dropFirst() {
      function.write(page[AMDVi.MessageUpperAddress.self, copy.place].rawValue, at: copy.offset)
    }
    copyMessageRegisters()
  }

  // MARK: The unit's own interrupts

  /// What the unit interrupts for, each with a message of its own.
  enum Interrupt {
    /// Events and completion waits.
    case general
    case pageRequest
    case guest

    /// The x2APIC register.
    var control: UInt64 {
      switch self {
      case .general: AMDVi.RegisterOffset.extendedInterruptControl
      case .pageRequest: AMDVi.RegisterOffset.extendedPageRequestControl
      case .guest: AMDVi.RegisterOffset.extendedGuestControl
      }
    }
  }

  /// The unit interrupts: by MSI where that is enabled, or as the x2APIC registers say.
  func raise(_ interrupt: Interrupt) {
    if control.usesExtendedOwnInterrupts {
      let to = page[AMDVi.ExtendedInterruptControl.self, interrupt.control]
      // As a message with an x2APIC id has it: bits 31:8 of the id in the upper half.
      send(
        InterruptMessage(
          address: UInt64(to.destination >> 8) << 40 | 0xfee0_0000
            | UInt64(to.destination & 0xff) << 12 | (to.isLogical ? 4 : 0),
          data: UInt32(to.vector) | (to.isArbitrated ? 0x100 : 0)))
      return
    }
    let header = AMDVi.MessageCapability(rawValue: function.doubleword(at: FunctionOffset.message))
    guard header.isEnabled else { return }
    let number: UInt32
    switch interrupt {
    case .general: number = UInt32(miscellaneous.message)
    case .pageRequest: number = UInt32(miscellaneous.pageRequestMessage)
    case .guest: number = guestMessage
    }
    // With one message for all, all have that.
    let mask = header.messageMask
    let low = function.doubleword(at: FunctionOffset.message + 4)
    let high = function.doubleword(at: FunctionOffset.message + 8)
    let data = function.doubleword(at: FunctionOffset.message + 12)
    send(
      InterruptMessage(
        address: UInt64(high) << 32 | UInt64(low), data: data & ~mask | number & mask))
  }

  private var miscellaneous: AMDVi.CapabilityMiscellaneous {
    AMDVi.CapabilityMiscellaneous(
      rawValue: function.doubleword(
        at: FunctionOffset.capability + AMDVi.CapabilityOffset.miscellaneous))
  }

  /// From the register window where that has it: software may choose.
  private var guestMessage: UInt32 {
    configuration.features.hasInterruptCapabilityCopy
      ? page[AMDVi.GuestInterruptVector.self, AMDVi.RegisterOffset.guestInterruptVector].rawValue
        & 0x1f
      : function.doubleword(
        at: FunctionOffset.capability + AMDVi.CapabilityOffset.miscellaneous1) & 0x1f
  }
}
