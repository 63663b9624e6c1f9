import IOMMUFormats

extension VTd {
  /// The faults of a unit: the manual's numbers, and 0 for what happens without a word.
  public enum Faults: FaultScheme {
    public static func words(for code: UInt8) -> FaultWords {
      guard code != protectedMemory else {
        return FaultWords("the address lies in a protected memory region")
      }
      let reason = VTd.FaultReason(rawValue: code)
      return FaultWords(number: code, reason.meaning, isUnanswered: reason.isUnanswered)
    }

    public static func interruptAnswer(
      _ operation: VTd.Request.Operation, at address: UInt64, insteadOf code: UInt8
    ) -> Translation? {
      code == protectedMemory ? nil : DeviceHandle.interruptAnswer(operation, at: address)
    }

    @usableFromInline static var protectedMemory: UInt8 { 0 }
  }
}

extension Fault {
  /// Intel VT-d, with the manual's number. `isRecorded` is false when FPD suppresses the record.
  @inlinable
  public static func vtd(_ reason: VTd.FaultReason, isRecorded: Bool) -> Fault {
    Fault(scheme: FaultSchemes.vtd, code: reason.rawValue, isRecorded: isRecorded)
  }

  /// The address lies in a protected memory region of an Intel VT-d unit: dropped without a word.
  @inlinable public static var protectedMemory: Fault {
    Fault(scheme: FaultSchemes.vtd, code: 0, isRecorded: false)
  }

  /// The manual's number of a VT-d fault; `nil` for faults of other hardware.
  @inlinable public var vtdReason: VTd.FaultReason? {
    scheme == FaultSchemes.vtd && code != 0 ? VTd.FaultReason(rawValue: code) : nil
  }
}

extension VTd.FaultReason {
  /// Reasons that lie in an entry above the page tables that is present.
  var isOfDamage: Bool {
    switch self {
    case .contextEntryInvalid, .rootEntryReserved, .contextEntryReserved,
      .scalableRootEntryReserved, .scalableContextEntryReserved, .scalableContextEntryInvalid,
      .pasidDirectoryEntryReserved, .pasidEntryReserved, .pasidEntryInvalid:
      true
    default: false
    }
  }

  /// The reasons for a table where no memory answers, and 3h, which is one of its causes.
  fileprivate var isUnanswered: Bool {
    switch self {
    case .contextEntryInvalid, .tableUnreadable, .rootTableUnreadable, .contextTableUnreadable,
      .scalableRootTableUnreadable, .scalableContextTableUnreadable, .pasidDirectoryUnreadable,
      .pasidTableUnreadable, .firstStageTableUnreadable, .firstStageRootUnreadable,
      .secondStageTableUnreadable, .secondStageRootUnreadable:
      true
    default: false
    }
  }
}
