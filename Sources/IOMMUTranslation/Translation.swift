import IOMMUFormats

/// What a device does with memory.
@frozen
public enum Access: Sendable, CaseIterable, CustomStringConvertible {
  /// The device reads memory.
  case read
  /// The device writes memory.
  case write

  @inlinable public var permission: Permissions { self == .read ? .read : .write }
  public var description: String { self == .read ? "read" : "write" }
}

/// What becomes of a DMA request.
@frozen
public enum Translation: Equatable, Sendable {
  /// The request's first `byteCount` bytes go to this address, in one run.
  ///
  /// Less than was asked for when the request leaves its page: the platform splits it, and the rest
  /// is a request of its own.
  case mapped(PhysicalAddress, byteCount: UInt64)
  /// A write to the interrupt address range of a VT-d machine: a message, not memory.
  case interruptMessage
  /// The hardware blocks the request.
  case fault(Fault)
}

/// Why modelled hardware blocks a request. A value, not an error: hardware faults are answers.
@frozen
public enum Fault: Hashable, Sendable {
  /// The device has not enough address lines for this address.
  case beyondDeviceMask
  /// Intel VT-d, with the manual's number. `isRecorded` is false when FPD suppresses the record.
  case vtd(VTd.FaultReason, isRecorded: Bool)
  /// The address lies in a protected memory region of an Intel VT-d unit: dropped without a word.
  case protectedMemory
  /// AMD GART.
  case gart(GART.FaultReason)
  /// IBM Calgary and CalIOC2.
  case calgary(Calgary.FaultReason)

  /// The number the manual gives the fault; `nil` where the hardware has none.
  public var number: UInt8? {
    if case .vtd(let reason, _) = self { reason.rawValue } else { nil }
  }

  /// Whether hardware keeps anything that tells software of the fault.
  public var isRecorded: Bool {
    switch self {
    case .beyondDeviceMask, .protectedMemory: false
    case .vtd(_, let isRecorded): isRecorded
    // GartPteErr is set by the walk itself.
    case .gart: true
    // CSR and PLSSR keep one error (assumed to be the first); nothing keeps the address.
    case .calgary(let fault): fault.isLatched
    }
  }

  /// In a few words, for people.
  public var meaning: String {
    switch self {
    case .beyondDeviceMask: "the device has no address lines for this address"
    case .vtd(let reason, _): reason.meaning
    case .protectedMemory: "the address lies in a protected memory region"
    case .gart(let fault): fault.rawValue
    case .calgary(let fault): fault.rawValue
    }
  }
}

extension GART {
  /// Why a GART blocks a request.
  public enum FaultReason: String, Sendable, CaseIterable {
    /// Reads return all ones and writes vanish; GartPteErr is set.
    case invalidEntry = "GATT entry without valid bit"
    case tableUnreadable = "GATT where no memory answers"
  }
}

extension Calgary {
  /// Why a Calgary chip blocks a request. The chip has no fault numbers.
  public enum FaultReason: String, Sendable, CaseIterable {
    /// *Assumed*: any slot-disable bit blocks all DMA of the PHB.
    case slotsDisabled = "slots of the PHB disabled"
    /// *Assumed*: with DAC_DISABLE set an address of 4 GiB or more faults.
    case dualAddressCycle = "address of 4 GiB or more with DAC_DISABLE set"
    /// *Assumed*: an address in a hole goes to other PCI devices, not to memory.
    case untranslatedHole = "address in a hole that the chip does not translate"
    /// *Assumed*: like an empty TCE.
    case beyondTable = "address beyond the end of the TCE table"
    case tableUnreadable = "TCE table where no memory answers"
    case emptyEntry = "TCE without read and write permission"
    case readNotPermitted = "TCE without read permission"
    case writeNotPermitted = "TCE without write permission"
    // The rest happens only where a live chip's options choose against what is assumed.
    case translationDisabled = "TCE_ENABLE clear"
    case unusedBitsSet = "TCE with a bit set that has no meaning"
    case misalignedTable = "TCE table not aligned to its size"
    case bridgeStopped = "PHB stopped after an error"

    /// Whether CSR latches an error (*assumed* for all but the hole and the disabled slot).
    public var isLatched: Bool {
      switch self {
      case .slotsDisabled, .untranslatedHole, .translationDisabled, .bridgeStopped: false
      default: true
      }
    }
  }
}
