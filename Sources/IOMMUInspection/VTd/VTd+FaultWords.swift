import IOMMUFormats

// What registers say of faults and events.

extension VTd.FaultRecord: Explained {
  func meaning(_: OnlyVariant) -> String {
    let fault = "fault \(hexadecimal(reason.rawValue)), \(reason.meaning)"
    let cleared = isValid ? "" : "no fault waits; the last one: "
    guard !reason.concernsInterrupts else {
      return "\(cleared)interrupt of \(requester), entry \(hexadecimal(interruptIndex)): \(fault)"
    }
    guard isValid || low != 0 || high != 0 else { return "no fault" }
    let who = pasid.map { "\(requester)/\($0)" } ?? "\(requester)"
    let page = hexadecimal(information)
    let attempt =
      switch addressType {
      case .translationRequest: "asked for a translation of \(page), to \(kind.words)"
      case .translated: "\(kind.past) \(page), as translated"
      case .untranslated, .reserved: "\(kind.past) \(page)"
      }
    return "\(cleared)\(who) \(attempt)\(isPrivileged ? ", privileged" : ""): \(fault)"
  }
}

extension VTd.FaultRecord.RequestKind {
  fileprivate var words: String {
    switch self {
    case .read: "read"
    case .write: "write"
    case .atomic: "read and write"
    case .pageRequest: "have the page"
    }
  }

  fileprivate var past: String {
    switch self {
    case .read: "read"
    case .write: "wrote"
    case .atomic: "read and wrote"
    case .pageRequest: "requested the page"
    }
  }
}

extension VTd.FaultStatus: Explained {
  func meaning(_: OnlyVariant) -> String {
    let parts =
      (hasPendingFault ? ["a fault waits in record \(firstRecord)"] : [])
      + (hasOverflow ? ["a fault found no free record"] : [])
      + (hasQueueError ? ["the invalidation queue has stopped at an error"] : [])
      + (hasCompletionError ? ["a device has answered an invalidation wrongly"] : [])
      + (hasTimeoutError ? ["a device has not answered an invalidation"] : [])
    return parts.isEmpty ? "nothing waits" : parts.joined(separator: ", ")
  }
}

extension VTd.EventControl: Explained {
  func meaning(_: OnlyVariant) -> String {
    (isMasked ? "messages are held back" : "messages are sent")
      + (isPending ? ", one waits" : "")
  }
}

extension VTd.ProtectedMemoryEnable: Explained {
  func meaning(_: OnlyVariant) -> String {
    "protected memory is \(isOn ? "on" : "off")"
      + (isRequested == isOn ? "" : ", and is to be \(isRequested ? "on" : "off")")
  }
}

extension VTd.Version: Explained {
  func meaning(_: OnlyVariant) -> String { "version \(major).\(minor) of the architecture" }
}
