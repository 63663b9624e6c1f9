import IOMMUFormats
import IOMMUTranslation

/// What an AMD-Vi unit makes of an interrupt.
public enum AMDViInterruptOutcome: Hashable, Sendable {
  /// Goes on to the processors as it stands.
  case passed(AMDVi.InterruptRequest)
  case delivered(InterruptDelivery)
  /// To a guest's virtual APIC, by whoever has that.
  case guest(AMDVi.GuestInterrupt)
  case blocked(AMDVi.RequestFault)
}

extension AMDViUnit {
  /// A device's store to the interrupt address range, on its way to the processors.
  ///
  /// A blocked interrupt leaves an event, unless its entry says that none is wanted, and the device sees
  /// a target abort. Specification: AMD IOMMU 2.2.5.
  ///
  /// - Parameters:
  ///   - request: Address and data of the store.
  ///   - device: The device, or the I/O APIC or HPET, by the number that the unit sees.
  public func remap(
    _ request: AMDVi.InterruptRequest, from device: Requester
  ) -> AMDViInterruptOutcome {
    locked {
      guard control.isEnabled else { return .passed(request) }
      switch decide(request, from: device) {
      case .passed: return .passed(request)
      case .delivered(let delivery): return .delivered(delivery)
      case .guest(let interrupt):
        if !interrupt.isRunning, interrupt.isLogged {
          log(AMDVi.GuestInterruptLogEntry(tag: interrupt.tag, device: device))
        }
        return .guest(interrupt)
      case .blocked(let fault):
        signalTargetAbort()
        if fault.isRecorded, let event = fault.event(for: request, from: device) { log(event) }
        return .blocked(fault)
      }
    }
  }

  private func decide(
    _ request: AMDVi.InterruptRequest, from device: Requester
  ) -> AMDVi.InterruptRemapping.Decision {
    switch deviceEntry(of: device) {
    case .failure(let fault): return .blocked(fault)
    case .success(let entry):
      switch interruptRemapping.locate(request, from: device, entry: entry) {
      case .decided(let decision): return decision
      case .entry(let place):
        return interruptRemapping.decide(tableEntry(at: place, of: device), from: place)
      }
    }
  }

  /// An interrupt table entry, from the cache or from memory. Those without RemapEn are not kept.
  private func tableEntry(
    at place: AMDVi.InterruptRemapping.EntryPlace, of device: Requester
  ) -> AMDVi.InterruptRemapping.Entry? {
    guard !control.cachesNoInterruptEntries else {
      return interruptRemapping.entry(at: place, in: memory)
    }
    let tag = AMDViCaches.tag(device, interrupt: place.index)
    if let kept = caches.interruptEntries.find(tag),
      kept.isWide == interruptRemapping.usesWideEntries
    {
      return kept
    }
    let entry = interruptRemapping.entry(at: place, in: memory)
    if let entry, entry.remaps { caches.interruptEntries.insert(entry, under: tag) }
    return entry
  }
}

extension AMDVi.InterruptRemapping.Entry {
  fileprivate var isWide: Bool {
    switch self {
    case .narrow: false
    case .wide: true
    }
  }

  fileprivate var remaps: Bool {
    switch self {
    case .narrow(let entry): entry.remaps
    case .wide(let entry): entry.remaps
    }
  }
}
