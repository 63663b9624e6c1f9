import IOMMUFormats
import IOMMUTranslation

extension RemappingUnit {
  /// Fetches and executes descriptors up to the tail. Specification: Intel VT-d 6.5.2.
  ///
  /// Stops at a bad descriptor, and after a device that did not answer; goes on when software has
  /// cleared the error. In order, each done before the next: that satisfies every rule about order.
  /// - Complexity: At most the descriptors of one ring.
  func runQueue() {
    guard status.has(.queuedInvalidation) else { return }
    let queue = page[VTd.QueueAddress.self, VTd.RegisterOffset.queueAddress]
    let tail = page[VTd.QueueTail.self, VTd.RegisterOffset.queueTail].byteOffset
    var head = page[VTd.QueueHead.self, VTd.RegisterOffset.queueHead].byteOffset
    while head != tail, !faultStatus.hasQueueError, !faultStatus.hasTimeoutError {
      do throws(VTd.QueueError) {
        try check(queue, tail: tail)
        try executeDescriptor(at: head, of: queue)
      } catch {
        stopQueue(for: error)
        return
      }
      head += queue.descriptorByteCount
      if head >= queue.byteCount { head = 0 }
      page[VTd.QueueHead.self, VTd.RegisterOffset.queueHead] = VTd.QueueHead(byteOffset: head)
    }
    drain()
  }

  private func stopQueue(for error: VTd.QueueError) {
    page[VTd.QueueErrorRecord.self, VTd.RegisterOffset.queueErrorRecord].error = error
    raise(.fault) { faultStatus.hasQueueError = true }
    drain()
  }

  /// What has to hold of the queue as a whole before a descriptor is fetched.
  private func check(_ queue: VTd.QueueAddress, tail: UInt64) throws(VTd.QueueError) {
    let has = configuration.extendedCapability
    switch rootTableAddress.mode {
    case .legacy:
      break
    case .scalable where has.hasScalableMode, .abortDMA where has.hasAbortDMA:
      guard queue.isWide || configuration.acceptsNarrowQueueInScalableMode else {
        throw .wrongWidth
      }
    case .scalable, .abortDMA, .reserved:
      throw .badTableMode
    }
    guard !queue.isWide || has.hasScalableMode || has.hasAbortDMA else { throw .wrongWidth }
    guard !queue.isWide || tail & 16 == 0 else { throw .misalignedTail }
    guard tail < queue.byteCount else { throw .tailBeyondRing }
  }

  private func executeDescriptor(
    at head: UInt64, of queue: VTd.QueueAddress
  ) throws(VTd.QueueError) {
    func quadword(_ index: UInt64) throws(VTd.QueueError) -> UInt64 {
      guard let place = queue.queue.advanced(byBytes: head + 8 * index),
        let word = memory.quadword(at: place)
      else { throw .fetchFailed }
      return word
    }
    let low = try quadword(0)
    let high = try quadword(1)
    let upperHalf = queue.isWide ? try quadword(2) | quadword(3) : 0
    guard let type = VTd.DescriptorType(descriptor: low), allows(type, isWide: queue.isWide)
    else { throw .unknownType }
    guard upperHalf == 0 else { throw .reservedField }
    switch type {
    case .contextCache: try execute(checked(VTd.ContextCacheDescriptor(low: low, high: high)))
    case .iotlb: try execute(checked(VTd.IOTLBDescriptor(low: low, high: high)))
    case .deviceTLB: try execute(checked(VTd.DeviceTLBDescriptor(low: low, high: high)))
    case .interruptEntry:
      try execute(checked(VTd.InterruptEntryDescriptor(low: low, high: high)))
    case .wait: try execute(checked(VTd.WaitDescriptor(low: low, high: high)))
    case .pasidIOTLB: try execute(checked(VTd.PASIDIOTLBDescriptor(low: low, high: high)))
    case .pasidCache: try execute(checked(VTd.PASIDCacheDescriptor(low: low, high: high)))
    case .pasidDeviceTLB:
      try execute(checked(VTd.PASIDDeviceTLBDescriptor(low: low, high: high)))
    case .pageGroupResponse:
      try execute(checked(VTd.PageGroupResponseDescriptor(low: low, high: high)))
    case .hostPermissions: throw .unknownType
    }
  }

  /// Whether the unit takes descriptors of a type under the tables in force.
  private func allows(_ type: VTd.DescriptorType, isWide: Bool) -> Bool {
    let has = configuration.extendedCapability
    if type.isScalableOnly, rootTableAddress.mode == .legacy || !isWide { return false }
    switch type {
    case .deviceTLB, .pasidDeviceTLB: return has.hasDeviceTLBs
    case .pageGroupResponse: return has.hasPageRequests
    case .hostPermissions: return has.hasPermissionTables
    default: return true
    }
  }

  /// The descriptor, when none of its reserved bits is set.
  private func checked<Descriptor: InvalidationDescriptor>(
    _ descriptor: Descriptor
  ) throws(VTd.QueueError) -> Descriptor {
    guard descriptor.reservedViolations(configuration.descriptorRules).isEmpty else {
      throw .reservedField
    }
    return descriptor
  }

  // MARK: Each type

  private func execute(_ descriptor: VTd.ContextCacheDescriptor) throws(VTd.QueueError) {
    guard descriptor.granularity != .none else { throw .reservedField }
    invalidateContext(
      descriptor.granularity, domainID: descriptor.domainID, requester: descriptor.requester,
      functionMask: descriptor.functionMask)
  }

  private func execute(_ descriptor: VTd.IOTLBDescriptor) throws(VTd.QueueError) {
    let isSelective = descriptor.granularity == .selective
    guard descriptor.granularity != .none,
      !isSelective || configuration.capability.hasPageSelectiveInvalidation
    else { throw .reservedField }
    let actual = invalidateIOTLB(
      descriptor.granularity, domainID: descriptor.domainID, address: descriptor.address,
      addressMask: descriptor.addressMask, hint: descriptor.hint)
    guard actual != .none else { throw .reservedField }
  }

  private func execute(_ descriptor: VTd.PASIDIOTLBDescriptor) throws(VTd.QueueError) {
    switch descriptor.granularity {
    case nil:
      throw .reservedField
    case .pasid:
      post(.pasidIOTLB(domainID: descriptor.domainID, pasid: descriptor.pasid))
    case .page:
      guard descriptor.addressMask <= configuration.capability.maximumAddressMask else {
        throw .reservedField
      }
      post(
        .pasidIOTLBPages(
          domainID: descriptor.domainID, pasid: descriptor.pasid,
          PageRange(
            descriptor.address, addressMask: descriptor.addressMask, hint: descriptor.hint)))
    }
  }

  private func execute(_ descriptor: VTd.PASIDCacheDescriptor) throws(VTd.QueueError) {
    switch descriptor.granularity {
    case nil: throw .reservedField
    case .global: post(.pasidGlobal)
    case .domain: post(.pasidDomain(descriptor.domainID))
    case .pasid: post(.pasid(domainID: descriptor.domainID, descriptor.pasid))
    }
  }

  private func execute(_ descriptor: VTd.InterruptEntryDescriptor) throws(VTd.QueueError) {
    // A mask above MHMV is a range like any other here: dropping more is always allowed.
    invalidateInterruptEntries(descriptor.indices)
  }

  private func execute(_ descriptor: VTd.DeviceTLBDescriptor) throws(VTd.QueueError) {
    invalidate(descriptor.range, of: .withoutPASID, in: descriptor.requester)
  }

  private func execute(_ descriptor: VTd.PASIDDeviceTLBDescriptor) throws(VTd.QueueError) {
    invalidate(
      descriptor.range, of: descriptor.pasid.map { .pasid($0) } ?? .allPASIDs,
      in: descriptor.requester)
  }

  /// Asks the device; one that is not there does not answer (*assumed*: the message is lost).
  private func invalidate(
    _ range: VTd.DeviceTLBRange, of target: DeviceTLBTarget, in requester: Requester
  ) {
    // The device must not be told before the unit's own caches have forgotten: 6.5.2.12.
    drain()
    let place = VTd.RegisterOffset.queueErrorRecord
    switch deviceTLBs[requester.rawValue]?.invalidate(range, of: target) ?? .timedOut {
    case .completed:
      break
    case .timedOut:
      page[VTd.QueueErrorRecord.self, place].timedOut = requester
      raise(.fault) { faultStatus.hasTimeoutError = true }
    case .completedWrongly:
      page[VTd.QueueErrorRecord.self, place].completedWrongly = requester
      raise(.fault) { faultStatus.hasCompletionError = true }
    }
  }

  private func execute(_ descriptor: VTd.PageGroupResponseDescriptor) throws(VTd.QueueError) {
    deviceTLBs[descriptor.requester.rawValue]?.receive(
      PageGroupResponse(
        pasid: descriptor.pasid, groupIndex: descriptor.groupIndex, code: descriptor.code))
  }

  private func execute(_ descriptor: VTd.WaitDescriptor) throws(VTd.QueueError) {
    drain()
    if descriptor.storesStatus {
      let width = UInt64(limits.hostAddressWidth)
      let address = PhysicalAddress(descriptor.statusAddress.rawValue & (1 << width - 1))
      // Where no memory answers the store is lost.
      if memory.isBacked(address, byteCount: 4) {
        memory.store(descriptor.statusData, at: address)
      }
    }
    guard descriptor.interrupts else { return }
    raise(.completion) {
      page[VTd.CompletionStatus.self, VTd.RegisterOffset.completionStatus].isComplete = true
    }
  }
}
