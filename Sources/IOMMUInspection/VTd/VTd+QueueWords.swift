import IOMMUFormats

// What the invalidation queue, the page request queue and the registers that do without say.

extension InvalidationDescriptor {
  /// `words`, unless the descriptor is of another type than it is taken for.
  fileprivate func ofType(_ words: @autoclosure () -> String) -> String {
    let found = VTd.DescriptorType(descriptor: low)
    guard found != Self.type else { return words() }
    guard let found else { return "not this descriptor: a type that does not exist" }
    let kind = EntryCatalog.all.first { $0.type == found.format }
    return "not this descriptor: its type is that of the \(found.format.name)"
      + (kind.map { ", '\($0.name)'" } ?? "")
  }
}

/// 2^`countLog2` pages around `address`; nothing is sure to be less than everything.
private func pagesText(_ address: UInt64, countLog2: Int) -> String {
  let bits = 12 + countLog2
  guard bits < 64 else { return "all pages" }
  let start = address & ~(1 << UInt64(bits) - 1)
  let (end, isBeyond) = start.addingReportingOverflow(1 << UInt64(bits))
  return isBeyond
    ? "\(hexadecimal(start)) and above" : "\(hexadecimal(start))..<\(hexadecimal(end))"
}

extension VTd.Granularity {
  /// Whose entries an invalidation drops.
  fileprivate func words(domainID: UInt16, selected: String) -> String {
    switch self {
    case .none: "nothing: reserved granularity"
    case .global: "all"
    case .domain: "those of domain \(domainID)"
    case .selective: "those of domain \(domainID) for \(selected)"
    }
  }
}

extension VTd.FunctionMask {
  fileprivate func words(_ requester: Requester) -> String {
    switch self {
    case .none: "\(requester)"
    case .bit2: "\(requester), whatever bit 2 of the function"
    case .bits2To1: "\(requester), whatever bits 2:1 of the function"
    case .all: "\(requester), whatever the function"
    }
  }
}

extension VTd.ContextCacheDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    ofType(
      "drops context entries: "
        + granularity.words(domainID: domainID, selected: functionMask.words(requester)))
  }
}

extension VTd.IOTLBDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    let pages = pagesText(address.rawValue, countLog2: addressMask)
    return ofType(
      "drops translations: " + granularity.words(domainID: domainID, selected: pages)
        + (granularity == .selective && hint ? ", leaf entries alone have changed" : ""))
  }
}

extension VTd.DeviceTLBRange {
  fileprivate var words: String { pagesText(address.rawValue, countLog2: sizeLog2 - 12) }
}

extension VTd.DeviceTLBDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    ofType("asks \(requester) to drop translations of \(range.words)")
  }
}

extension VTd.PASIDDeviceTLBDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    ofType(
      "asks \(requester) to drop translations of \(range.words) for "
        + (pasid.map { "PASID \($0)" } ?? "all PASIDs"))
  }
}

extension VTd.InterruptEntryDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    ofType(
      "drops interrupt entries: "
        + (isGlobal
          ? "all"
          : "\(hexadecimal(indices.lowerBound))..<\(hexadecimal(indices.upperBound))"))
  }
}

extension VTd.WaitDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    let parts =
      (storesStatus ? ["stores \(hexadecimal(statusData)) at \(statusAddress)"] : [])
      + (interrupts ? ["raises an interrupt"] : [])
      + (isFence ? ["holds back what comes after it"] : [])
      + (drainsPageRequests ? ["drains page requests"] : [])
    return ofType(
      "when all before it is done: " + (parts.isEmpty ? "nothing" : parts.joined(separator: ", ")))
  }
}

extension VTd.PASIDIOTLBDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    let whose = "PASID \(pasid) in domain \(domainID)"
    let what =
      switch granularity {
      case .pasid: "all of \(whose)"
      case .page:
        "those of \(whose) for \(pagesText(address.rawValue, countLog2: addressMask))"
          + (hint ? ", leaf entries alone have changed" : "")
      case nil: "nothing: reserved granularity"
      }
    return ofType("drops translations: " + what)
  }
}

extension VTd.PASIDCacheDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    let what =
      switch granularity {
      case .global: "all"
      case .domain: "those of domain \(domainID)"
      case .pasid: "that of PASID \(pasid) in domain \(domainID)"
      case nil: "nothing: reserved granularity"
      }
    return ofType("drops PASID entries: " + what)
  }
}

extension VTd.PageGroupResponseDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    let who = pasid.map { "\(requester)/\($0)" } ?? "\(requester)"
    let answer =
      switch code {
      case .success: "success"
      case .invalidRequest: "invalid request"
      case .failure: "failure"
      default: "code \(hexadecimal(code.rawValue))"
      }
    return ofType("answers page requests of \(who), group \(groupIndex): \(answer)")
  }
}

extension VTd.HostPermissionsDescriptor: Explained {
  func meaning(_: VTd.DescriptorRules) -> String {
    let pages = pagesText(address.rawValue, countLog2: addressMask)
    return ofType(
      "drops host permissions: " + granularity.words(domainID: domainID, selected: pages))
  }
}

extension VTd.PageRequestDescriptor: Explained {
  func meaning(_: OnlyVariant) -> String {
    let who = pasid.map { "\(requester)/\($0)" } ?? "\(requester)"
    let wishes =
      (reads ? ["read"] : []) + (writes ? ["write"] : []) + (isExecute ? ["execute"] : [])
    return "\(who) wants to \(wishes.isEmpty ? "do nothing with" : listText(wishes)) "
      + "\(address)\(isPrivileged ? ", privileged" : ""), group \(groupIndex)"
      + (isLastInGroup ? ", its last" : "")
  }
}

// MARK: Registers

extension VTd.QueueHead: Explained {
  func meaning(_: OnlyVariant) -> String {
    "hardware fetches next at byte \(hexadecimal(byteOffset)) of the queue"
  }
}

extension VTd.QueueTail: Explained {
  func meaning(_: OnlyVariant) -> String {
    "software writes next at byte \(hexadecimal(byteOffset)) of the queue"
  }
}

extension VTd.QueueAddress: Explained {
  func meaning(_: OnlyVariant) -> String {
    "invalidation queue \(queue), \(byteCountText(byteCount)), "
      + "\(byteCount / descriptorByteCount) descriptors of \(descriptorByteCount) bytes"
  }
}

extension VTd.CompletionStatus: Explained {
  func meaning(_: OnlyVariant) -> String {
    isComplete ? "a wait descriptor has asked for an interrupt" : "nothing waits"
  }
}

extension VTd.QueueErrorRecord: Explained {
  func meaning(_: OnlyVariant) -> String {
    let devices =
      (timedOut.rawValue == 0 ? [] : ["no answer from \(timedOut)"])
      + (completedWrongly.rawValue == 0 ? [] : ["a wrong answer from \(completedWrongly)"])
    return ([error?.words ?? (rawValue == 0 ? "no error" : "an error without a number")] + devices)
      .joined(separator: ", ")
  }
}

extension VTd.QueueError {
  /// What is wrong with the queue, as a sentence goes on after its number.
  var words: String {
    let text =
      switch self {
      case .tailBeyondRing: "the tail lies beyond the queue"
      case .fetchFailed: "a descriptor could not be fetched"
      case .unknownType: "a descriptor of a type that does not exist"
      case .reservedField: "a reserved field of a descriptor is set"
      case .wrongWidth: "descriptors are of the wrong width"
      case .misalignedTail: "the tail is not aligned to a descriptor"
      case .badTableMode: "a descriptor that the table mode does not allow"
      }
    return "error \(rawValue): \(text)"
  }
}

extension VTd.PageRequestQueueHead: Explained {
  func meaning(_: OnlyVariant) -> String {
    "software reads next at byte \(hexadecimal(byteOffset)) of the queue"
  }
}

extension VTd.PageRequestQueueTail: Explained {
  func meaning(_: OnlyVariant) -> String {
    "hardware writes next at byte \(hexadecimal(byteOffset)) of the queue"
  }
}

extension VTd.PageRequestQueueAddress: Explained {
  func meaning(_: OnlyVariant) -> String {
    "page request queue \(queue), \(byteCountText(byteCount))"
  }
}

extension VTd.PageRequestStatus: Explained {
  func meaning(_: OnlyVariant) -> String {
    let parts =
      (hasPendingRequest ? ["page requests wait"] : [])
      + (hasOverflow ? ["one found the queue full"] : [])
    return parts.isEmpty ? "nothing waits" : parts.joined(separator: ", ")
  }
}

extension VTd.ContextCommand: Explained {
  func meaning(_: OnlyVariant) -> String {
    guard isPending else {
      return "done: " + actual.words(domainID: domainID, selected: functionMask.words(requester))
    }
    return "drops context entries: "
      + requested.words(domainID: domainID, selected: functionMask.words(requester))
  }
}

extension VTd.IOTLBInvalidate: Explained {
  func meaning(_: OnlyVariant) -> String {
    let pages = "the pages of IVA_REG"
    return isPending
      ? "drops translations: " + requested.words(domainID: domainID, selected: pages)
      : "done: " + actual.words(domainID: domainID, selected: pages)
  }
}

extension VTd.InvalidateAddress: Explained {
  func meaning(_: OnlyVariant) -> String {
    pagesText(address.rawValue, countLog2: addressMask)
      + (hint ? ", leaf entries alone have changed" : "")
  }
}
