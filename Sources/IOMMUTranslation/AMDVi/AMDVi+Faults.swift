import IOMMUFormats

extension AMDVi {
  /// Why a unit stops a request.
  public enum FaultReason: UInt8, Sendable, CaseIterable {
    /// The device's number is beyond the device table.
    case deviceBeyondTable
    /// No memory answers where the device table entry is.
    case deviceTableUnreadable
    /// A reserved bit of the device table entry is set.
    case deviceTableEntryReserved
    /// IoCtl of the device table entry is 11b.
    case portControlReserved
    /// The device table entry has V without TV, and the request needs a table.
    case translationInvalid
    /// IR or IW of the device table entry does not allow the request.
    case deviceNotPermitted
    /// Mode is 7, or names more levels than the unit has.
    case modeIllegal
    /// A bit of the address above the width of the tables is set.
    case addressBeyondWidth
    /// No memory answers where an entry of a host table is, or it takes no marks.
    case tableUnreadable
    /// An entry of a host table has PR clear.
    case entryNotPresent
    /// A reserved bit of an entry of a host table is set.
    case entryReserved
    /// An entry of a host table lacks the permission.
    case notPermitted
    /// An entry of a host table names a level that cannot follow, or codes a size that it cannot have,
    /// or leaves out levels whose bits of the address are not zero.
    case levelIllegal
    /// A read, or another request that is no posted write, in the range of interrupts.
    case interruptRangeNotWritten

    /// GLX, or GuestPagingMode, of the device table entry is reserved or more than the unit has.
    case guestModeIllegal
    /// A request with PASID, of a device without guest tables.
    case pasidNotEnabled
    /// The PASID has more bits than the GCR3 table has levels for.
    case pasidBeyondTable
    /// No memory answers where a GCR3 entry is.
    case guestRootUnreadable
    /// A GCR3 entry has V clear.
    case guestRootNotValid
    /// The bits above the width of a guest table do not repeat its highest one.
    case guestAddressNotCanonical
    /// No memory answers where an entry of a guest table is, or it takes no marks.
    case guestTableUnreadable
    /// An entry of a guest table has P clear.
    case guestEntryNotPresent
    /// A reserved bit of an entry of a guest table is set.
    case guestEntryReserved
    /// The entries of a guest table together lack the permission.
    case guestNotPermitted

    /// A reserved bit of the interrupt half of the device table entry is set.
    case interruptFieldsReserved
    /// IntCtl of the device table entry is 11b.
    case interruptControlReserved
    /// IntTabLen of the device table entry is more than 11.
    case interruptTableLengthIllegal
    /// The interrupt's number is beyond the interrupt table.
    case interruptBeyondTable
    /// No memory answers where an interrupt table entry is.
    case interruptTableUnreadable
    /// An interrupt table entry has RemapEn clear.
    case interruptNotPresent
    /// An interrupt table entry has a type or mode that the unit does not have.
    case interruptEntryReserved
    /// The device table entry lets no such interrupt pass; stopped without an event.
    case interruptNotPassed
  }
}

extension AMDVi.FaultReason {
  /// The event that tells of it; `nil` for what is stopped without a word.
  public var eventCode: AMDVi.EventCode? {
    switch self {
    case .deviceTableUnreadable: .deviceTableHardwareError
    case .deviceTableEntryReserved, .portControlReserved, .modeIllegal, .guestModeIllegal,
      .interruptFieldsReserved, .interruptControlReserved, .interruptTableLengthIllegal:
      .illegalDeviceTableEntry
    case .tableUnreadable, .guestRootUnreadable, .guestTableUnreadable, .interruptTableUnreadable:
      .pageTableHardwareError
    case .interruptRangeNotWritten: .invalidDeviceRequest
    case .interruptNotPassed: nil
    default: .pageFault
    }
  }

  /// The flags of the event that do not depend on the request.
  ///
  /// Of several that apply to one entry, *assumed* is the order that the steps are told in; PR is clear
  /// for an address beyond the tables and for V without TV.
  var flags: AMDVi.Event.Flags {
    switch self {
    case .deviceTableEntryReserved, .portControlReserved: .reservedBit
    case .interruptFieldsReserved: [.interrupt, .reservedBit]
    case .interruptControlReserved, .interruptTableLengthIllegal, .interruptBeyondTable,
      .interruptNotPresent, .interruptNotPassed:
      .interrupt
    case .interruptTableUnreadable: [.interrupt, .targetAbort]
    case .interruptEntryReserved: [.interrupt, .present, .reservedBit]
    case .deviceTableUnreadable, .tableUnreadable: .targetAbort
    case .guestRootUnreadable, .guestTableUnreadable: [.guest, .targetAbort]
    case .deviceNotPermitted, .notPermitted: [.present, .permission]
    case .entryReserved: [.present, .reservedBit]
    case .levelIllegal: .present
    case .guestEntryReserved: [.guest, .present, .reservedBit]
    case .guestNotPermitted: [.guest, .present, .permission]
    case .pasidNotEnabled, .pasidBeyondTable, .guestRootNotValid, .guestAddressNotCanonical,
      .guestEntryNotPresent, .guestModeIllegal:
      .guest
    case .deviceBeyondTable, .translationInvalid, .modeIllegal, .addressBeyondWidth,
      .entryNotPresent, .interruptRangeNotWritten:
      []
    }
  }

  /// In a few words, for people.
  public var meaning: String {
    switch self {
    case .deviceBeyondTable: "the device's number is beyond the device table"
    case .deviceTableUnreadable: "device table where no memory answers"
    case .deviceTableEntryReserved: "reserved bit set in the device table entry"
    case .portControlReserved: "IoCtl of the device table entry is reserved"
    case .translationInvalid:
      "the device table entry is valid (V), its translation fields are not (TV)"
    case .deviceNotPermitted: "the device table entry does not permit it (IR, IW)"
    case .modeIllegal: "the device table entry names a paging mode that the unit does not have"
    case .addressBeyondWidth: "the address is beyond what the tables translate"
    case .tableUnreadable: "page table where no memory answers"
    case .entryNotPresent: "page table entry not present"
    case .entryReserved: "reserved bit set in a page table entry"
    case .notPermitted: "a page table entry does not permit it (IR, IW)"
    case .levelIllegal: "a page table entry's next level or page size does not fit its place"
    case .interruptRangeNotWritten: "only writes are for the interrupt address range"
    case .guestModeIllegal:
      "the device table entry names guest tables that the unit does not have (GLX, GuestPagingMode)"
    case .pasidNotEnabled: "the device has no guest tables for requests with PASID (GV)"
    case .pasidBeyondTable: "the PASID is beyond the GCR3 table"
    case .guestRootUnreadable: "GCR3 table where no memory answers"
    case .guestRootNotValid: "GCR3 table entry not valid"
    case .guestAddressNotCanonical: "the address is not canonical"
    case .guestTableUnreadable: "guest page table where no memory answers"
    case .guestEntryNotPresent: "guest page table entry not present"
    case .guestEntryReserved: "reserved bit set in a guest page table entry"
    case .guestNotPermitted: "the guest page tables do not permit it"
    case .interruptFieldsReserved:
      "reserved bit set in the interrupt half of the device table entry"
    case .interruptControlReserved: "IntCtl of the device table entry is reserved"
    case .interruptTableLengthIllegal:
      "the device table entry's interrupt table is too long (IntTabLen)"
    case .interruptBeyondTable: "the interrupt's number is beyond the interrupt table"
    case .interruptTableUnreadable: "interrupt table where no memory answers"
    case .interruptNotPresent: "interrupt table entry not present (RemapEn)"
    case .interruptEntryReserved: "interrupt table entry of a type that the unit does not have"
    case .interruptNotPassed: "the device table entry lets no such interrupt pass"
    }
  }

  /// No memory answered where a table should be.
  var isUnanswered: Bool {
    switch self {
    case .deviceTableUnreadable, .tableUnreadable, .guestRootUnreadable, .guestTableUnreadable,
      .interruptTableUnreadable:
      true
    default: false
    }
  }

  /// It lies in the device table entry, and stops all requests, whatever they ask for.
  var isOfDamage: Bool {
    switch self {
    case .deviceTableEntryReserved, .portControlReserved, .modeIllegal, .guestModeIllegal: true
    default: false
    }
  }

  /// Suppressed by SA and SE of the device table entry: page faults are, all else never.
  public var isQualified: Bool { eventCode == .pageFault }

  /// The event's address is the request's; else that of the entry that could not be read.
  var tellsRequestAddress: Bool { !isUnanswered }
}

extension AMDVi.Event {
  /// Bits 59:48 of events, as kernels print them. Specification: AMD IOMMU 2.5.3.
  @frozen
  public struct Flags: OptionSet, Hashable, Sendable {
    public var rawValue: UInt16
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// GN: the address is one of a guest table's, and the PASID is valid.
    public static let guest = Self(rawValue: 0x001)
    /// NX: the request wanted to execute.
    public static let execute = Self(rawValue: 0x002)
    /// US: a request of user privilege.
    public static let user = Self(rawValue: 0x004)
    /// I: an interrupt.
    public static let interrupt = Self(rawValue: 0x008)
    /// PR: what was looked for is present, and the fault has another cause.
    public static let present = Self(rawValue: 0x010)
    /// RW: a write.
    public static let write = Self(rawValue: 0x020)
    /// PE: a permission is missing.
    public static let permission = Self(rawValue: 0x040)
    /// RZ: a reserved bit is set.
    public static let reservedBit = Self(rawValue: 0x080)
    /// TR: a translation request.
    public static let translation = Self(rawValue: 0x100)
    /// Type 2 of hardware errors: nobody answered at the address.
    public static let targetAbort = Self(rawValue: 0x400)
  }
}

extension AMDVi {
  /// A fault with what its event says of it.
  @frozen
  public struct RequestFault: Error, Hashable, Sendable {
    public var reason: AMDVi.FaultReason
    /// DomainID of the device table entry, as far as it was read and is told.
    public var domainID: UInt16
    /// The entry that could not be read, or the guest's address that the host does not translate; `nil`
    /// where the event tells the request's own address.
    public var address: UInt64?
    /// SA of the device table entry does not suppress the event.
    public var isReported: Bool
    /// SE of the device table entry suppresses all but the first of them.
    public var isReportedOnce: Bool

    @inlinable
    public init(
      _ reason: AMDVi.FaultReason, domainID: UInt16 = 0, address: UInt64? = nil,
      isReported: Bool = true, isReportedOnce: Bool = false
    ) {
      self.reason = reason
      self.domainID = domainID
      self.address = address
      self.isReported = isReported
      self.isReportedOnce = isReportedOnce
    }

    /// Whether an event is made of it at all; SE aside, which depends on what was before.
    public var isRecorded: Bool {
      reason.eventCode != nil && (isReported || !reason.isQualified)
    }

    public var fault: Fault { .amdvi(reason, isRecorded: isRecorded) }

    /// The event, as the log has it; `nil` for what is stopped without a word.
    ///
    /// - Parameter request: What was stopped.
    public func event(for request: AMDVi.Request) -> AMDVi.Event? {
      guard let code = reason.eventCode else { return nil }
      var flags = reason.flags
      if request.operation.needs.contains(.write) { flags.insert(.write) }
      if request.isTranslation { flags.insert(.translation) }
      let isGuest = flags.contains(.guest)
      if isGuest {
        if request.isExecute { flags.insert(.execute) }
        if !request.isSupervisor { flags.insert(.user) }
      }
      switch code {
      // The user flag has another place there, and only these are told; the type of a read is 0.
      case .invalidDeviceRequest: flags.formIntersection([.guest, .translation])
      case .illegalDeviceTableEntry:
        flags.formIntersection([.guest, .interrupt, .write, .reservedBit, .translation])
      case .pageTableHardwareError:
        flags.formIntersection([.guest, .interrupt, .write, .translation, .targetAbort])
      case .deviceTableHardwareError:
        flags.formIntersection([.interrupt, .write, .translation, .targetAbort])
      default: break
      }
      var domain = isGuest ? UInt64(request.pasid?.rawValue ?? 0) : 0
      if !isGuest, code == .pageFault || code == .pageTableHardwareError {
        domain = UInt64(domainID)
      }
      var told = address ?? request.address
      // These have no room for the lowest bits.
      if code == .illegalDeviceTableEntry { told &= ~3 }
      return AMDVi.Event(
        code, device: request.requester, domain: domain, flags: UInt64(flags.rawValue),
        address: told)
    }
  }

  /// The faults of a unit, numbered by their reasons; the manual numbers events.
  public enum Faults: FaultScheme {
    public static func words(for code: UInt8) -> FaultWords {
      guard let reason = AMDVi.FaultReason(rawValue: code) else { return FaultWords("unknown") }
      return FaultWords(
        number: reason.eventCode?.rawValue, reason.meaning, isUnanswered: reason.isUnanswered)
    }

    /// Interrupts are no matter of the fields that stop all else.
    public static func interruptAnswer(
      _ operation: VTd.Request.Operation, at _: UInt64, insteadOf _: UInt8
    ) -> Translation? { operation == .write ? .interruptMessage : nil }
  }
}

extension Fault {
  /// AMD-Vi. `isRecorded` is false when the device table entry suppresses the event.
  public static func amdvi(_ reason: AMDVi.FaultReason, isRecorded: Bool) -> Fault {
    Fault(scheme: FaultSchemes.amdvi, code: reason.rawValue, isRecorded: isRecorded)
  }

  /// Why an AMD-Vi unit stops the request; `nil` for faults of other hardware.
  public var amdviReason: AMDVi.FaultReason? {
    scheme == FaultSchemes.amdvi ? AMDVi.FaultReason(rawValue: code) : nil
  }
}
