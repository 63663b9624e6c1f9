import IOMMUFormats
import IOMMUTranslation

// What AMD-Vi events say, and what is said of those that kernels have logged.

extension AMDVi.EventCode {
  /// The manual's name.
  var name: String { Self.names[rawValue] ?? "event \(hexadecimal(rawValue))" }

  private static let names: [UInt8: String] = [
    0x1: "ILLEGAL_DEV_TABLE_ENTRY", 0x2: "IO_PAGE_FAULT", 0x3: "DEV_TAB_HARDWARE_ERROR",
    0x4: "PAGE_TAB_HARDWARE_ERROR", 0x5: "ILLEGAL_COMMAND_ERROR", 0x6: "COMMAND_HARDWARE_ERROR",
    0x7: "IOTLB_INV_TIMEOUT", 0x8: "INVALID_DEVICE_REQUEST", 0x9: "INVALID_PPR_REQUEST",
    0xa: "EVENT_COUNTER_ZERO", 0xb: "GUEST_EVENT_FAULT", 0xc: "VIOMMU_HARDWARE_ERROR",
    0xd: "RMP_PAGE_FAULT", 0xe: "RMP_HARDWARE_ERROR",
  ]
}

extension AMDVi.Event {
  /// Why the request was stopped, or what else is wrong, in a few words; without looking at flags where
  /// nobody knows them.
  func reason(hasFlags: Bool) -> String {
    switch code {
    case .pageFault:
      guard hasFlags else { return "page fault; its flags are not in the log" }
      if isInterrupt {
        return isPresent
          ? "interrupt that its remapping entry does not allow" : "interrupt that is not remapped"
      }
      guard isPresent else { return "page not present" }
      if lacksPermission { return "page without this permission" }
      if hasReservedBit { return "reserved bit set in an entry on the way" }
      return "level or page size that no entry may have"
    case .illegalDeviceTableEntry:
      guard hasFlags else { return "device table entry that cannot be used" }
      return hasReservedBit
        ? "device table entry with a reserved bit that is set"
        : "device table entry with a level, a length or a type that the unit does not take"
    case .deviceTableHardwareError: return "device table entry that memory did not give\(bus)"
    case .pageTableHardwareError: return "page table entry that memory did not give\(bus)"
    case .illegalCommand: return "command that the unit does not take; it has stopped its queue"
    case .commandHardwareError:
      return "command that memory did not give, or whose answer it did not take\(bus)"
    case .invalidationTimeout: return "device that does not answer an invalidation of its cache"
    case .invalidDeviceRequest:
      return hasFlags ? requestReason : "request of a kind that the device may not send"
    case .invalidPageRequest: return "page request that the unit does not take"
    case .counterZero: return "performance counter that has come to zero"
    case .guestEventFault: return "trouble with a guest's event log"
    case .guestHardwareError: return "memory of a guest's unit that did not answer"
    case .reverseMapFault: return "page that the reverse map table does not let the device reach"
    case .reverseMapHardwareError: return "reverse map table that memory did not give"
    default: return "event of a code that is not known"
    }
  }

  /// How memory refused.
  private var bus: String {
    switch busError {
    case 1: ": master abort"
    case 2: ": target abort"
    case 3: ": data error"
    default: ""
    }
  }

  /// What a device may not send, by type; the order is that of VirtualBox's list.
  private var requestReason: String {
    if isTranslationRequest {
      switch requestType {
      case 0: return "translation request for a special range"
      case 1: return "translation request of a device whose entry has ATS off"
      case 2: return "translation request of a device beyond the device table"
      default: return "translation request that is not allowed"
      }
    }
    switch requestType {
    case 0: return "read, or a write that wants an answer, in the interrupt range"
    case 1: return "translated request of a device whose entry has ATS off"
    case 2: return "port I/O that the device's entry does not allow"
    case 3: return "system management message that the device's entry does not allow"
    case 4: return "posted write to the interrupt range that the device's entry does not allow"
    case 5: return "posted write to a reserved interrupt address"
    case 6: return "posted write to an address of system management"
    default: return "request of a kind that the device may not send"
    }
  }
}

extension AMDVi.Event: Explained {
  func meaning(_: AMDVi.EventCode) -> String {
    if low == 0, high == 0 { return "no event yet" }
    return namesDevice
      ? "\(code.name) of \(device): \(reason(hasFlags: true))"
      : "\(code.name): \(reason(hasFlags: true))"
  }
}

extension AMDVi {
  /// What each flag says, for those that are set.
  private static let flagWords: [String: String] = [
    "GN": "a guest's address, with a PASID", "NX": "the device wanted to execute",
    "US": "of user privilege", "I": "an interrupt", "PR": "what it led to was present",
    "RW": "a write", "PE": "the permission was missing", "RZ": "a reserved bit was set",
    "TR": "the device asked for a translation",
  ]

  static func words(
    for event: Event, hasFlags: Bool, in record: FaultRecord
  ) -> LoggedFaultWords {
    var words = LoggedFaultWords(
      attempt: attempt(event, record),
      meaning: "AMD-Vi \(event.code.name): \(event.reason(hasFlags: hasFlags))")
    if hasFlags, event.flags != 0 {
      let names = event.setFlags.map { flag in
        let words = flag.value.map { "\($0)" } ?? flagWords[flag.name] ?? ""
        return "\(flag.name) (\(words))"
      }
      words.details.append(
        "flags \(hexadecimal(event.flags)): "
          + (names.isEmpty
            ? "what they mean with this event is not known" : names.joined(separator: ", ")))
    }
    switch event.code {
    case .pageFault where hasFlags && !event.isGuest,
      .pageTableHardwareError where hasFlags && !event.isGuest:
      words.details.append("domain \(hexadecimal(event.domainID))")
    case .invalidPageRequest:
      words.details += [
        "PASID \(hexadecimal(event.requestPASID))"
          + (event.isGuest ? "" : ", of no meaning without GN"),
        "tag \(hexadecimal(event.pageRequestTag)), which the answer repeats",
      ]
    case .reverseMapFault, .reverseMapHardwareError:
      words.details.append(
        "VMGTag \(hexadecimal(event.reverseMapGuestTag)), by which the unit knows the guest")
      if event.code == .reverseMapFault {
        words.details.append(
          "RMP flags \(hexadecimal(event.reverseMapFlagBits)), of which no source says more")
      }
    default: break
    }
    (words.causes, words.lookAt) = causes(event, hasFlags: hasFlags)
    return words
  }

  /// What is said of a page request that the kernel refuses. Specification: AMD IOMMU 2.6.
  static func words(for entry: PageRequestEntry, in record: FaultRecord) -> LoggedFaultWords {
    let isWithout = entry.pasid == nil
    var words = LoggedFaultWords(
      attempt: "\(record.sender) asked for the page of \(record.addressKind.rawValue) "
        + hexadecimal(entry.address.rawValue)
        + (entry.pasid.map { " with PASID \(hexadecimal($0.rawValue))" } ?? ""),
      meaning: "AMD-Vi PAGE_SERVICE_REQUEST: "
        + (isWithout
          ? "page request without a PASID, which the kernel refuses"
          : entry.reservedViolations.isEmpty
            ? "page request that the kernel refuses"
            : "page request with a reserved bit that is set, which the kernel refuses"))
    let wants = [("read", entry.reads), ("write", entry.writes), ("execute", entry.executes)]
      .filter(\.1).map(\.0)
    words.details = [
      "flags \(hexadecimal(entry.flags)): wants to "
        + (wants.isEmpty ? "do nothing" : listText(wants))
        + (entry.isUser ? ", of user privilege" : ", of supervisor privilege"),
      "PASID \(hexadecimal(entry.pasidBits))" + (isWithout ? ", of no meaning without GN" : ""),
      "tag \(hexadecimal(entry.tag))" + (entry.isLast ? ", the last request of its group" : ""),
    ]
    words.causes =
      "a device whose page requests (PRI) are on while its driver has no PASID for them"
    words.lookAt = "which driver turned PRI on, and whether the process was gone (SVA)"
    return words
  }

  private static func attempt(_ event: Event, _ record: FaultRecord) -> String {
    let place = hexadecimal(event.address)
    switch event.code {
    case .pageFault where record.addressKind == .interrupt,
      .illegalDeviceTableEntry where record.addressKind == .interrupt:
      return "\(record.sender) sent an interrupt to \(place)"
    case .pageFault where record.address == nil: return "\(record.sender) reached for memory"
    case .pageFault where event.isTranslationRequest,
      .illegalDeviceTableEntry where event.isTranslationRequest:
      return "\(record.sender) asked for the translation of \(record.addressKind.rawValue) \(place)"
    case .deviceTableHardwareError:
      return "the unit could not read the device table entry of \(record.sender), at physical "
        + "address \(place)"
    case .pageTableHardwareError:
      return "the unit could not read an entry for \(record.sender), at physical address \(place)"
    case .illegalCommand:
      return "the unit stopped at a command, at physical address \(place)"
    case .commandHardwareError:
      return "the unit could not reach physical address \(place) for a command"
    case .invalidationTimeout:
      return "\(record.sender) did not answer an invalidation, the command at physical address "
        + place
    case .invalidDeviceRequest:
      return "\(record.sender) sent a request of a kind that it may not send, to \(place)"
    case .invalidPageRequest:
      return "\(record.sender) asked for the page of \(record.addressKind.rawValue) \(place)"
        + (record.pasid.map { " with PASID \(hexadecimal($0))" } ?? "")
    case .reverseMapHardwareError:
      return "the unit could not read the reverse map table for \(record.sender), physical address "
        + place
    case _ where !event.namesDevice: return "the unit tells of an event"
    default: return record.requestText
    }
  }

  private static func causes(_ event: Event, hasFlags: Bool) -> (String?, String?) {
    switch event.code {
    case .pageFault where hasFlags && event.isInterrupt:
      (
        "an interrupt that firmware or an earlier kernel set up, or a driver that is gone; often the "
          + "I/O APIC or the HPET, whose numbers firmware's IVRS table has",
        "which device has this number (lspci -vt, --ivrs), and /proc/interrupts"
      )
    case .pageFault where hasFlags && event.isPresent && !event.lacksPermission:
      (
        "an entry of a form that the unit does not know, or that was overwritten",
        "the tables in a dump, and memory errors in the log"
      )
    case .pageFault where hasFlags && event.lacksPermission:
      (
        "the driver mapped the buffer for the other direction; or the device has no domain, for which "
          + "Linux leaves IR and IW of its device table entry clear",
        "the direction that the driver gave (DMA_TO_DEVICE, DMA_FROM_DEVICE), the driver of the device "
          + "(lspci -k), and its IOMMU group"
      )
    case .pageFault where hasFlags: (absentCauses, unmappedPlaces)
    case .pageFault: (unmappedCauses, unmappedPlaces)
    case .illegalDeviceTableEntry:
      (
        "the kernel used something that this unit does not have, or the entry was overwritten",
        "the entry, which kernels print behind the event (DTE), and what the unit supports"
      )
    case .deviceTableHardwareError, .pageTableHardwareError, .commandHardwareError,
      .reverseMapHardwareError:
      (
        "memory that does not answer: a bad address in a table, or a memory error",
        "machine checks in the log, and whether the physical address is RAM (--iomem)"
      )
    case .illegalCommand:
      (
        "a command that this unit does not know, or memory that was overwritten",
        "the command, which kernels print behind the event (CMD)"
      )
    case .invalidationTimeout:
      (
        "the device was reset, lost power or hangs while its ATS is on",
        "resets and link errors before it (AER, vfio)"
      )
    case .invalidDeviceRequest:
      (
        "a device that sends to a range of interrupts or of system management, or that has ATS on "
          + "and its entry has not; nothing to map",
        "what the driver wrote into the descriptor, and ATS in the device (lspci -vv)"
      )
    case .invalidPageRequest:
      (
        "a device whose page requests (PRI) are on while PPR of its device table entry is clear, or a "
          + "request of a form that the unit does not know",
        "the device table entry in a dump, and PRI in the device (lspci -vv)"
      )
    case .reverseMapFault:
      (
        "a device of the host that reaches for a page of an encrypted guest, or the other way round",
        "which guest has the page, and who set the device up"
      )
    default: (nil, nil)
    }
  }
}
