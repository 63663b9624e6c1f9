import IOMMUFormats
import IOMMUTranslation

// What is said of faults that VT-d units have logged.

extension VTd {
  static func words(for reason: FaultReason?, in record: LoggedFault.Record) -> LoggedFaultWords {
    guard let reason else {
      return LoggedFaultWords(
        attempt: record.requestText, meaning: "VT-d fault; its reason is not in the log",
        causes: unmappedCauses, lookAt: unmappedPlaces)
    }
    let common = commonWords(for: reason)
    return LoggedFaultWords(
      attempt: record.requestText,
      meaning: "VT-d fault \(hexadecimal(reason.rawValue)): \(reason.meaning)",
      causes: common?.causes, lookAt: common?.lookAt)
  }

  /// What causes a fault usually, and where to look; `nil` for numbers that are rarely seen.
  private static func commonWords(
    for reason: FaultReason
  ) -> (causes: String, lookAt: String)? {
    switch reason {
    case .writeNotPermitted, .readNotPermitted, .firstStageEntryNotPresent,
      .secondStageEntryNotPresent, .scalableWriteNotPermitted, .scalableReadNotPermitted:
      return (unmappedCauses, unmappedPlaces)
    case .rootEntryNotPresent, .contextEntryNotPresent, .scalableRootEntryNotPresent,
      .scalableContextEntryNotPresent, .pasidDirectoryEntryNotPresent, .pasidEntryNotPresent:
      return (
        "no driver has set the device up: firmware still uses it, it sends with the number of "
          + "another function or of the bridge above it, or its driver was removed",
        "which device has this number (lspci -vt), what firmware says of it (--dmar), and its group "
          + "in /sys/kernel/iommu_groups"
      )
    case .contextEntryInvalid, .rootEntryReserved, .contextEntryReserved,
      .secondStageEntryReserved, .scalableRootEntryReserved, .scalableContextEntryReserved,
      .scalableContextEntryInvalid, .pasidDirectoryEntryReserved, .pasidEntryReserved,
      .pasidEntryInvalid, .firstStageEntryReserved, .scalableSecondStageEntryReserved:
      return (
        "the kernel used something that this unit does not have, or the entry was overwritten",
        "the entry itself (a dump, or the entries that newer kernels print), and what the unit's "
          + "capability registers allow ('iommu decode cap', 'iommu decode ecap')"
      )
    case .addressBeyondWidth, .scalableAddressBeyondWidth, .addressNotCanonical,
      .hostAddressBeyondWidth:
      return (
        "an address that was cut, extended by its sign, or is none: a descriptor that was never "
          + "filled in, or a virtual address",
        "the device's DMA mask, and what the driver wrote into the descriptor"
      )
    case .tableUnreadable, .rootTableUnreadable, .contextTableUnreadable,
      .scalableRootTableUnreadable, .scalableContextTableUnreadable, .pasidDirectoryUnreadable,
      .pasidTableUnreadable, .firstStageTableUnreadable, .firstStageRootUnreadable,
      .secondStageTableUnreadable, .secondStageRootUnreadable:
      return (
        "an entry that leads to where no memory is: overwritten, or the table was freed",
        "the entries above it in a dump ('iommu walk'), and memory errors in the log"
      )
    case .requestKindNotAllowed, .deviceTLBNotEnabled, .pasidNotEnabled, .pageRequestNotEnabled,
      .translatedPASIDNotEnabled:
      return (
        "the device has ATS, PASIDs or page requests on and its context entry does not",
        "what of these is on in the device (lspci -vv), and whether the kernel turned it off again"
      )
    case .interruptAddressReached, .scalableInterruptAddressReached:
      return (
        "0xfeexxxxx is where interrupts go: a buffer was put there, or a page maps to it",
        "whether the driver's number is an interrupt's, and reserved regions of the group"
      )
    default: return nil
    }
  }

  static func interruptWords(for reason: FaultReason?, in record: LoggedFault.Record)
    -> LoggedFaultWords
  {
    let index =
      reason == .compatibilityInterruptBlocked
      ? "" : record.address.map { " with index \(hexadecimal($0))" } ?? ""
    var words = LoggedFaultWords(
      attempt: "\(record.sender) sent an interrupt\(index)",
      meaning: reason.map { "VT-d fault \(hexadecimal($0.rawValue)): \($0.meaning)" }
        ?? "VT-d interrupt fault; its reason is not in the log")
    switch reason {
    case .interruptEntryNotPresent?:
      words.causes =
        "the kernel took the entry back and the device still sends: its driver is gone, or a kernel "
        + "before this one set it up (kexec, kdump)"
      words.lookAt = "which driver the device has, and 'iommu maps --interrupts' on a dump"
    case .compatibilityInterruptBlocked?:
      words.causes =
        "an interrupt that firmware or an earlier kernel set up, before remapping was on; often a "
        + "timer (HPET) or an I/O APIC"
      words.lookAt = "what firmware calls this number (--dmar)"
    case .interruptSourceRefused?:
      words.causes =
        "the entry is for another requester: the device sends with the number of a bridge or of "
        + "another function"
      words.lookAt = "bridges above the device (lspci -vt), and what firmware says (--dmar)"
    case .interruptIndexBeyondTable?:
      words.causes = "an MSI address that the kernel did not write"
      words.lookAt = "MSI address and data in the device (lspci -vv)"
    case .malformedInterruptRequest?:
      words.causes = "DMA to 0xfeexxxxx that is no interrupt: a bad address in a descriptor"
      words.lookAt = "what the driver wrote into the descriptor"
    default: break
    }
    return words
  }

  static func words(for status: FaultStatus) -> LoggedFaultWords {
    LoggedFaultWords(
      attempt: "a unit tells of faults, and no line says which",
      meaning: "fault status \(hexadecimal(status.rawValue)): \(status.meaning(OnlyVariant()))",
      causes:
        "the lines of the faults were left out for their number, or the log is cut; a status "
        + "without a fault that waits tells of invalidations",
      lookAt: "the lines before it in the whole log")
  }

  static func words(
    for trouble: LoggedFault.Record.VTdQueueTrouble, in record: LoggedFault.Record
  ) -> LoggedFaultWords {
    let who = record.device.map { "\($0)" } ?? "a device"
    switch trouble {
    case .timeout:
      return LoggedFaultWords(
        attempt: "\(who) did not answer an invalidation",
        meaning: "invalidation time-out (ITE): the commands behind it wait or are given up",
        causes: "the device was reset, lost power or hangs while its ATS is on",
        lookAt: "resets and link errors before it (AER, vfio), and the descriptor in the log")
    case .completion:
      return LoggedFaultWords(
        attempt: "\(who) answered an invalidation wrongly",
        meaning: "invalidation completion error (ICE)",
        causes: "a fault of the device's ATS, or a device that sends with another's number",
        lookAt: "the device's errata, and whether it works without ATS")
    case .error(let reason):
      return LoggedFaultWords(
        attempt: "the unit stopped at a descriptor of its invalidation queue",
        meaning: "invalidation queue error (IQE)"
          + (reason.flatMap { VTd.QueueError(rawValue: $0) }.map { ": \($0.words)" } ?? ""),
        causes: "a descriptor that this unit does not know, or memory that was overwritten",
        lookAt: "the descriptor in the log, and the unit's extended capabilities")
    }
  }
}
