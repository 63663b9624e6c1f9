extension VTd.FaultReason {
  /// What a device is told whose translation request meets a fault.
  public enum TranslationResponse: Sendable {
    /// Completion with Unsupported Request.
    case unsupportedRequest
    /// Completion with Completer Abort.
    case completerAbort
    /// A successful completion that allows nothing.
    case noAccess
    /// A successful completion with the permissions that there are.
    case remainingAccess
  }

  /// The answer to a translation request that meets this fault; `nil` for faults that none meets.
  ///
  /// Specification: Intel VT-d 7.1.3.
  public var translationResponse: TranslationResponse? {
    switch rawValue {
    case 0x01, 0x02, 0x0d, 0x31, 0x33, 0x34, 0x39, 0x41, 0x44, 0x45, 0x46, 0x48, 0x89:
      .unsupportedRequest
    case 0x03, 0x07...0x0c, 0x0e, 0x30, 0x38, 0x3a, 0x40, 0x42, 0x43, 0x50, 0x52, 0x58, 0x5a, 0x5b,
      0x78, 0x7a...0x7d, 0x87:
      .completerAbort
    case 0x04, 0x51, 0x59, 0x5c, 0x5d, 0x70...0x77, 0x79, 0x80, 0x81, 0x83, 0x84, 0x90, 0x91:
      .noAccess
    case 0x05, 0x06, 0x85, 0x86: .remainingAccess
    default: nil
    }
  }

  /// Whether a translation request that meets this fault leaves a record (as far as it is
  /// reported): what the device is told in a successful completion is not recorded.
  public var isRecordedForTranslationRequests: Bool {
    switch translationResponse {
    case .unsupportedRequest, .completerAbort: true
    case .noAccess: self == .firstStageUpdateFailed
    case .remainingAccess, nil: false
    }
  }
}
