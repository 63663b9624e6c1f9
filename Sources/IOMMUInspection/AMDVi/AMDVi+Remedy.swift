import IOMMUFormats
import IOMMUTranslation

// What the tables of a dump say to an event, and what should have stood there.

extension AMDVi.FaultReason {
  /// Whether a unit that stops a request for this reason logs this event: its code, and the flags that say
  /// why. `nil` where the log does not have the flags.
  func explains(_ event: AMDVi.Event, hasFlags: Bool) -> Bool? {
    guard eventCode == event.code else { return false }
    guard hasFlags else { return nil }
    let request = AMDVi.Request(event.device, IOVA(event.address))
    guard let own = AMDVi.RequestFault(self).event(for: request) else { return false }
    return own.isPresent == event.isPresent && own.lacksPermission == event.lacksPermission
      && own.hasReservedBit == event.hasReservedBit
  }

  /// What should have stood at the entry that stopped a walk; `nil` where nothing general can be said.
  func remedy(_ walk: ToldWalk) -> String? {
    let letter = walk.access == .read ? "IR" : "IW"
    let place = walk.steps.last.map { " at \($0.address)" } ?? ""
    switch self {
    case .deviceBeyondTable: return "a device table with an entry for this device"
    case .deviceTableEntryReserved, .entryReserved, .guestEntryReserved:
      return Remedy.reserved(walk)
    case .portControlReserved: return "IoCtl 00b, 01b or 10b in the device table entry\(place)"
    case .translationInvalid:
      return
        "TV in the device table entry\(place), with a page table or Mode 0, before the device's "
        + "first DMA"
    case .deviceNotPermitted:
      // With one of both there is a mapping, or Mode 0.
      guard walk.steps.last?.deviceTableEntry?.permissions.isEmpty == false else {
        return
          "\(letter) in the device table entry\(place), and a page table or Mode 0, before the "
          + "device's first DMA"
      }
      return "\(letter) in the device table entry\(place), which no page table can give"
    case .modeIllegal: return "a Mode in the device table entry\(place) that the unit has"
    case .addressBeyondWidth:
      return "a number within the table's width, or a table of more levels (Mode)"
    case .entryNotPresent:
      return walk.steps.last.map { $0.place > .level(1) } == true
        ? "an entry with PR here, tables below it, and a leaf with the buffer's page and \(letter)"
        : "the buffer's page here, with PR and \(letter)"
    case .notPermitted: return Self.permission(walk, letter)
    case .levelIllegal: return "a next level below this one, or a page size that fits this level"
    case .interruptRangeNotWritten: return "a number that is none of interrupts: 0xfeexxxxx is"
    case .guestModeIllegal: return "GLX and GuestPagingMode that the unit has"
    case .pasidNotEnabled: return "GV in the device table entry\(place), and a GCR3 table"
    case .pasidBeyondTable: return "a GCR3 table of more levels (GLX), or a smaller PASID"
    case .guestRootNotValid: return "this entry with V: without it the PASID has no page table"
    case .guestAddressNotCanonical: return "a canonical number"
    case .guestEntryNotPresent:
      return "the buffer's page in a leaf here or below, with P, and R/W for a device that writes"
    case .guestNotPermitted: return "R/W and U/S in every entry on the way"
    default: return nil
    }
  }

  /// The first entry on the way that lacks the permission, with it.
  private static func permission(_ walk: ToldWalk, _ letter: String) -> String? {
    let bit: UInt64 = walk.access == .read ? 1 << 61 : 1 << 62
    let lacking = walk.steps.first {
      $0.place.level != nil && $0.entry.words[0] & bit == 0
    }
    return lacking.map {
      "\($0.titleText) at \($0.address) with \(letter): "
        + "0x\(hexadecimal($0.entry.words[0] | bit, digits: 16)), if the buffer was mapped for this "
        + "direction"
    }
  }
}

extension FaultRecord {
  /// The number that the request names: with a PASID one of the guest's.
  var requestAddress: IOVA? {
    if let iova { return iova }
    guard case .amdvi = source, addressKind == .guestVirtual else { return nil }
    return address.map { IOVA($0) }
  }

  /// The event tells of a DMA request that tables decide about.
  var isAMDViRequest: Bool {
    guard case .amdvi(let event, _) = source else { return false }
    switch event.code {
    case .pageFault, .illegalDeviceTableEntry: return requestAddress != nil && !event.isInterrupt
    default: return false
    }
  }

  /// The event calls the device table entry of a request for memory illegal.
  var isIllegalDeviceEntry: Bool {
    guard case .amdvi(let event, _) = source else { return false }
    return event.code == .illegalDeviceTableEntry
  }
}

extension ToldWalk {
  /// A unit that stops the request here calls the device table entry illegal.
  var endsAtIllegalDeviceEntry: Bool {
    guard case .fault(let fault) = end else { return false }
    return fault.amdviReason?.eventCode == .illegalDeviceTableEntry
  }
}

extension AMDVi.Event {
  /// It tells of an interrupt, which the device table entry and its interrupt table decide about.
  var isInterruptRequest: Bool {
    isInterrupt && (code == .pageFault || code == .illegalDeviceTableEntry)
  }

  /// It tells of a request of a device that uses its own TLB, which I of the device table entry decides
  /// about.
  var isOfDeviceTLB: Bool { code == .invalidDeviceRequest && requestType == 1 }
}
