import IOMMUFormats

extension Calgary {
  /// Why a Calgary chip blocks a request. The chip has no fault numbers.
  public enum FaultReason: UInt8, Sendable, CaseIterable {
    /// *Assumed*: any slot-disable bit blocks all DMA of the PHB.
    case slotsDisabled
    /// *Assumed*: with DAC_DISABLE set an address of 4 GiB or more faults.
    case dualAddressCycle
    /// *Assumed*: an address in a hole goes to other PCI devices, not to memory.
    case untranslatedHole
    /// *Assumed*: like an empty TCE.
    case beyondTable
    case tableUnreadable
    case emptyEntry
    case readNotPermitted
    case writeNotPermitted
    // The rest happens only where a live chip's options choose against what is assumed.
    case translationDisabled
    case unusedBitsSet
    case misalignedTable
    case bridgeStopped

    var meaning: String {
      switch self {
      case .slotsDisabled: "slots of the PHB disabled"
      case .dualAddressCycle: "address of 4 GiB or more with DAC_DISABLE set"
      case .untranslatedHole: "address in a hole that the chip does not translate"
      case .beyondTable: "address beyond the end of the TCE table"
      case .tableUnreadable: "TCE table where no memory answers"
      case .emptyEntry: "TCE without read and write permission"
      case .readNotPermitted: "TCE without read permission"
      case .writeNotPermitted: "TCE without write permission"
      case .translationDisabled: "TCE_ENABLE clear"
      case .unusedBitsSet: "TCE with a bit set that has no meaning"
      case .misalignedTable: "TCE table not aligned to its size"
      case .bridgeStopped: "PHB stopped after an error"
      }
    }

    /// Whether CSR latches an error (*assumed* for all but the hole and the disabled slot).
    public var isLatched: Bool {
      switch self {
      case .slotsDisabled, .untranslatedHole, .translationDisabled, .bridgeStopped: false
      default: true
      }
    }
  }

  /// The faults of a chip, which have no numbers.
  public enum Faults: FaultScheme {
    public static func words(for code: UInt8) -> FaultWords {
      let reason = FaultReason(rawValue: code) ?? .emptyEntry
      return FaultWords(reason.meaning, isUnanswered: reason == .tableUnreadable)
    }
  }
}

extension Fault {
  /// IBM Calgary and CalIOC2. CSR and PLSSR keep one error (assumed to be the first); nothing keeps
  /// the address.
  public static func calgary(_ reason: Calgary.FaultReason) -> Fault {
    Fault(scheme: FaultSchemes.calgary, code: reason.rawValue, isRecorded: reason.isLatched)
  }

  /// Why a chip blocks the request; `nil` for faults of other hardware.
  public var calgaryReason: Calgary.FaultReason? {
    scheme == FaultSchemes.calgary ? Calgary.FaultReason(rawValue: code) : nil
  }
}
