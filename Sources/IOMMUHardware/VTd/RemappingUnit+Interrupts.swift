import IOMMUFormats
import IOMMUTranslation

/// What a unit makes of an interrupt request.
public enum InterruptOutcome: Hashable, Sendable {
  /// Goes on to the processors as it stands.
  case passed(VTd.InterruptRequest)
  case delivered(InterruptDelivery)
  /// Set in a posted descriptor; `nil` when the processor need not be told.
  case posted(notification: InterruptDelivery?)
  case blocked(InterruptFault)
}

extension RemappingUnit {
  /// A device's store to the interrupt address range, on its way to the processors.
  ///
  /// A blocked request leaves a fault record, unless its entry says that none is wanted.
  /// Specification: Intel VT-d 5.1.
  ///
  /// - Parameters:
  ///   - request: Address and data of the store.
  ///   - byteCount: Bytes that are stored. With remapping on, anything but four is no interrupt.
  ///   - requester: The device, or the I/O APIC or HPET by its source-id.
  public func remap(
    _ request: VTd.InterruptRequest, byteCount: Int = 4, from requester: Requester
  ) -> InterruptOutcome {
    locked {
      let outcome = outcome(of: request, byteCount: byteCount, from: requester)
      if case .blocked(let fault) = outcome, fault.isRecorded {
        record(
          VTd.FaultRecord(
            reason: fault.reason, requester: requester, information: UInt64(fault.index) << 48,
            kind: .write))
      }
      return outcome
    }
  }

  /// What the registers say about interrupts.
  private var interruptRemapping: VTd.InterruptRemapping {
    VTd.InterruptRemapping(
      isEnabled: status.has(.interruptRemapping),
      passesCompatibilityFormat: status.has(.compatibilityFormatInterrupts),
      table: interruptTableAddress, hostAddressWidth: limits.hostAddressWidth,
      canPost: configuration.capability.hasPostedInterrupts,
      requiresExtendedMode: configuration.extendedCapability.requiresExtendedInterruptMode,
      isRequired: configuration.extendedCapability.requiresInterruptRemapping)
  }

  private func outcome(
    of request: VTd.InterruptRequest, byteCount: Int, from requester: Requester
  ) -> InterruptOutcome {
    let remapping = interruptRemapping
    guard byteCount == 4 || !remapping.isEnabled else {
      return .blocked(InterruptFault(reason: .malformedInterruptRequest))
    }
    switch remapping.locate(request) {
    case .decided(let decision):
      return outcome(of: decision, request, remapping)
    case .entry(let index, let address):
      let tag = CacheTag(0, UInt64(index))
      let cached = interruptEntries.find(tag)
      let entry = cached ?? VTd.InterruptRemappingEntry(from: memory, at: address)
      let decision = remapping.decide(entry, index: index, from: requester)
      if cached == nil, let entry, mayKeep(entryWith: decision) {
        interruptEntries.insert(entry, under: tag)
      }
      return outcome(of: decision, request, remapping)
    }
  }

  /// Entries that fault by themselves are kept in caching mode alone. Specification: 6.1.
  private func mayKeep(entryWith decision: InterruptDecision) -> Bool {
    guard case .blocked(let fault) = decision else { return true }
    return fault.reason == .interruptSourceRefused || configuration.capability.hasCachingMode
  }

  private func outcome(
    of decision: InterruptDecision, _ request: VTd.InterruptRequest,
    _ remapping: VTd.InterruptRemapping
  ) -> InterruptOutcome {
    switch decision {
    case .passed: return .passed(request)
    case .delivered(let delivery): return .delivered(delivery)
    case .blocked(let fault): return .blocked(fault)
    case .posted(let interrupt):
      return post(interrupt, usesExtendedMode: remapping.table.usesExtendedMode)
    }
  }

  /// Sets an interrupt in its descriptor, and finds out whether the processor has to be told.
  ///
  /// Two atomic updates, first the interrupt and then the notification, so that whoever sees the
  /// notification sees the interrupt. Specification: Intel VT-d 5.2.3, 9.11.
  private func post(
    _ interrupt: PostedInterrupt, usesExtendedMode: Bool
  ) -> InterruptOutcome {
    typealias Descriptor = VTd.PostedInterruptDescriptor
    func blocked(_ reason: VTd.FaultReason) -> InterruptOutcome {
      .blocked(
        InterruptFault(
          reason: reason, index: interrupt.index, isRecorded: interrupt.isReported))
    }
    guard let descriptor = Descriptor(from: memory, at: interrupt.descriptor) else {
      return blocked(.postedDescriptorUnreadable)
    }
    guard descriptor.reservedViolations.isEmpty else {
      return blocked(.postedDescriptorReserved)
    }
    func place(_ quadword: Int) -> PhysicalAddress {
      PhysicalAddress(interrupt.descriptor.rawValue + UInt64(quadword) * 8)
    }
    let requests = Int(interrupt.vector) / 64
    update(place(requests)) { $0 | 1 << UInt64(interrupt.vector % 64) }
    let control = update(place(Descriptor.controlQuadword)) {
      Descriptor.notified(control: $0, isUrgent: interrupt.isUrgent)
    }
    guard let control else { return .posted(notification: nil) }
    var told = Descriptor()
    told.quadwords[Descriptor.controlQuadword] = control
    return .posted(
      notification: InterruptDelivery(
        vector: told.notificationVector,
        destination: usesExtendedMode ? told.destination : told.destination >> 8 & 0xff))
  }

  /// Changes a quadword in memory at once; `nil` from `change` leaves it.
  ///
  /// An exchange fails only when somebody else's has succeeded, so this ends.
  ///
  /// - Returns: What was stored.
  @discardableResult
  private func update(_ place: PhysicalAddress, _ change: (UInt64) -> UInt64?) -> UInt64? {
    var found = memory.quadword(at: place)!
    while let wanted = change(found) {
      guard let other = memory.compareExchange(at: place, expected: found, desired: wanted) else {
        return wanted
      }
      found = other
    }
    return nil
  }

  // MARK: The interrupt entry cache

  /// What the cache of interrupt entries has done.
  public var interruptEntryCounters: CacheCounters { locked { interruptEntries.counters } }

  func invalidateInterruptEntries(_ indices: Range<Int>) {
    interruptEntries.invalidate { tag, _ in indices.contains(Int(tag.high)) }
  }
}
