import IOMMUFormats

extension GART {
  /// Why a GART blocks a request.
  public enum FaultReason: UInt8, Sendable, CaseIterable {
    /// Reads return all ones and writes vanish; GartPteErr is set.
    case invalidEntry
    case tableUnreadable
  }

  /// The faults of a GART, which have no numbers.
  public enum Faults: FaultScheme {
    public static func words(for code: UInt8) -> FaultWords {
      switch FaultReason(rawValue: code) {
      case .tableUnreadable: FaultWords("GATT where no memory answers", isUnanswered: true)
      case .invalidEntry, nil: FaultWords("GATT entry without valid bit")
      }
    }
  }
}

extension Fault {
  /// AMD GART. GartPteErr is set by the walk itself.
  public static func gart(_ reason: GART.FaultReason) -> Fault {
    Fault(scheme: FaultSchemes.gart, code: reason.rawValue, isRecorded: true)
  }

  /// Why a GART blocks the request; `nil` for faults of other hardware.
  public var gartReason: GART.FaultReason? {
    scheme == FaultSchemes.gart ? GART.FaultReason(rawValue: code) : nil
  }
}
