import IOMMUFormats
import IOMMUTranslation

extension RemappingUnit {
  var status: VTd.GlobalStatus {
    get { page[VTd.GlobalStatus.self, VTd.RegisterOffset.globalStatus] }
    set { page[VTd.GlobalStatus.self, VTd.RegisterOffset.globalStatus] = newValue }
  }

  /// GCMD_REG was written. Software changes one field per write; when it changes more, tables are
  /// taken over before what uses them is switched on (*assumed*). Specification: Intel VT-d 11.4.4.
  func execute(_ command: VTd.GlobalCommand) {
    let has = configuration.extendedCapability
    // WBF: nothing is buffered here, so the flush is done before anybody can see WBFS.
    if command.setsInterruptTablePointer, has.hasInterruptRemapping {
      interruptTableAddress =
        page[VTd.InterruptTableAddress.self, VTd.RegisterOffset.interruptTableAddress]
      status.set(.interruptTablePointer, true)
      if configuration.capability.invalidatesOnInterruptTablePointer {
        interruptEntries.invalidateAll()
      }
      publishState()
    }
    if command.setsRootTablePointer { takeOverRootTable() }
    if has.hasQueue { switchQueue(command.enablesQueuedInvalidation) }
    switchTranslation(command.enablesTranslation)
    if has.hasInterruptRemapping {
      switchInterruptRemapping(command.enablesInterruptRemapping)
      status.set(.compatibilityFormatInterrupts, command.passesCompatibilityInterrupts)
    }
    if !status.has(.translation), !status.has(.interruptRemapping) { nextFaultRecord = 0 }
    publishState()
    drain()
    runQueue()
  }

  private func takeOverRootTable() {
    rootTableAddress = page[VTd.RootTableAddress.self, VTd.RegisterOffset.rootTableAddress]
    status.set(.rootTablePointer, true)
    if configuration.capability.invalidatesOnRootTablePointer { post(.everything) }
  }

  private func switchQueue(_ isOn: Bool) {
    guard isOn != status.has(.queuedInvalidation) else { return }
    status.set(.queuedInvalidation, isOn)
    if !isOn {
      page[VTd.QueueHead.self, VTd.RegisterOffset.queueHead] = VTd.QueueHead(byteOffset: 0)
    }
  }

  private func switchTranslation(_ isOn: Bool) {
    guard isOn != status.has(.translation) else { return }
    status.set(.translation, isOn)
    if !isOn, configuration.extendedCapability.hasScalableMode { post(.everything) }
  }

  private func switchInterruptRemapping(_ isOn: Bool) {
    let wasOn = status.has(.interruptRemapping)
    status.set(.interruptRemapping, isOn)
    if wasOn, !isOn, configuration.capability.invalidatesOnInterruptTablePointer {
      interruptEntries.invalidateAll()
    }
  }

  func switchProtectedMemory() {
    guard configuration.has(.protectedMemory) else { return }
    let place = VTd.RegisterOffset.protectedMemoryEnable
    page[VTd.ProtectedMemoryEnable.self, place].isOn =
      page[VTd.ProtectedMemoryEnable.self, place].isRequested
    publishState()
    drain()
  }

  // MARK: Invalidation by register

  /// Whether the register interface works: legacy tables, no queue, a version that has it.
  ///
  /// With the queue on the manual leaves the result open; here nothing is done (*assumed*).
  private var acceptsRegisterInvalidation: Bool {
    rootTableAddress.mode == .legacy && configuration.version.major < 6
      && !status.has(.queuedInvalidation)
  }

  /// CCMD_REG's top byte was written. Specification: Intel VT-d 11.4.6.1.
  func executeContextCommand() {
    var command = page[VTd.ContextCommand.self, VTd.RegisterOffset.contextCommand]
    guard command.isPending else { return }
    command.isPending = false
    command.actual = .none
    if acceptsRegisterInvalidation {
      command.actual = command.requested
      invalidateContext(
        command.requested, domainID: command.domainID, requester: command.requester,
        functionMask: command.functionMask)
    }
    page[VTd.ContextCommand.self, VTd.RegisterOffset.contextCommand] = command
    drain()
  }

  /// IOTLB_REG's top byte was written. Specification: Intel VT-d 11.4.6.3.
  func executeIOTLBCommand() {
    let place = configuration.extendedCapability.invalidationRegisterOffset
    var command = page[VTd.IOTLBInvalidate.self, place + 8]
    guard command.isPending else { return }
    command.isPending = false
    command.actual = .none
    if acceptsRegisterInvalidation {
      let address = page[VTd.InvalidateAddress.self, place]
      command.actual = invalidateIOTLB(
        command.requested, domainID: command.domainID, address: address.address,
        addressMask: address.addressMask, hint: address.hint)
    }
    page[VTd.IOTLBInvalidate.self, place + 8] = command
    drain()
  }

  // MARK: Invalidation, by register or by descriptor

  func invalidateContext(
    _ granularity: VTd.Granularity, domainID: UInt16, requester: Requester,
    functionMask: VTd.FunctionMask
  ) {
    // Scalable-mode context entries have no domain: 6.5.2.1.
    let isScalable = rootTableAddress.mode == .scalable
    switch granularity {
    case .none: break
    case .global: post(.contextGlobal)
    case .domain: post(isScalable ? .contextGlobal : .contextDomain(domainID))
    case .selective:
      post(.contextDevice(requester.rawValue, ignoredBits: functionMask.ignoredBits))
    }
  }

  /// - Returns: What was done; `none` for a range larger than the unit takes.
  func invalidateIOTLB(
    _ granularity: VTd.Granularity, domainID: UInt16, address: IOVA, addressMask: Int, hint: Bool
  ) -> VTd.Granularity {
    switch granularity {
    case .none:
      return .none
    case .global:
      post(.iotlbGlobal)
      return .global
    case .domain:
      post(.iotlbDomain(domainID))
      return .domain
    case .selective:
      guard configuration.capability.hasPageSelectiveInvalidation else {
        post(.iotlbDomain(domainID))
        return .domain
      }
      guard addressMask <= configuration.capability.maximumAddressMask else { return .none }
      post(
        .iotlbPages(
          domainID: domainID,
          PageRange(
            address, addressMask: addressMask, hint: hint,
            addressWidth: limits.maximumGuestAddressWidth)))
      return .selective
    }
  }
}
