import IOMMUFormats

// What entries of interrupt remapping say.

extension VTd.InterruptRemappingEntry: Explained {
  func meaning(_ variant: Variant) -> String {
    let silence = suppressesFaultReports ? ", faults not recorded" : ""
    guard isPresent else { return notPresent + silence }
    let source = ", " + sourceText + silence
    guard !variant.isPosted else {
      return "posts vector \(hexadecimal(vector)) in the descriptor at \(postedDescriptor)"
        + (isUrgent ? ", urgent" : "") + source
    }
    let how = [
      deliveryMode?.words ?? "undefined delivery mode", isLevelTriggered ? "level" : "edge",
      isLogical ? "logical" : "physical",
    ]
    return "vector \(hexadecimal(vector)) to \(destinationText(variant)), "
      + how.joined(separator: ", ") + (hasRedirectionHint ? ", redirection hint" : "") + source
  }

  /// Hardware looks at nothing but P and FPD in an entry that is not present.
  func checkedViolations(_ variant: Variant) -> [BitField] {
    isPresent ? reservedViolations(variant) : []
  }

  private func destinationText(_ variant: Variant) -> String {
    let wide = destination(usesExtendedMode: true)
    let narrow = destination(usesExtendedMode: false)
    switch variant.usesExtendedMode {
    case true?: return "destination \(hexadecimal(wide))"
    case false?: return "APIC id \(hexadecimal(narrow))"
    case nil:
      // An entry does not say which of the two its number is, but only one of them may fit.
      let isEither = wide != 0 && wide == narrow << 8
      return "destination \(hexadecimal(wide))"
        + (isEither ? " (without EIME: APIC id \(hexadecimal(narrow)))" : "")
    }
  }

  private var sourceText: String {
    switch sourceValidation {
    case .none: return "from anybody"
    case .requester:
      let ignored =
        switch ignoredFunctionBits {
        case .none: ""
        case .bit2: ", whatever bit 2 of the function"
        case .bits2To1: ", whatever bits 2:1 of the function"
        case .all: ", whatever the function"
        }
      return "from \(requester)\(ignored)"
    case .busRange:
      let (first, last) = (busRange.first, busRange.last)
      return "from buses \(hexadecimal(first, digits: 2)) to \(hexadecimal(last, digits: 2))"
    case .reserved: return "from nobody: reserved validation type"
    }
  }
}

extension VTd.DeliveryMode {
  /// As the manual writes it.
  var words: String {
    switch self {
    case .fixed: "fixed"
    case .lowestPriority: "lowest priority"
    case .systemManagement: "SMI"
    case .nonMaskable: "NMI"
    case .initialize: "INIT"
    case .external: "ExtINT"
    }
  }
}

extension VTd.PostedInterruptDescriptor: Explained {
  func meaning(_: OnlyVariant) -> String {
    let waiting = (0...255).filter { isWaiting($0) }.map { hexadecimal($0) }
    let vectors =
      waiting.isEmpty
      ? "no interrupt waits"
      : (waiting.count == 1 ? "vector " : "vectors ") + listText(waiting)
        + (waiting.count == 1 ? " waits" : " wait")
    let notice =
      ", tells destination \(hexadecimal(destination)) by vector \(hexadecimal(notificationVector))"
    return vectors + notice + (isOutstanding ? ", has told" : "")
      + (isSuppressed ? ", of urgent ones only" : "")
  }
}

extension VTd.InterruptAddress: Explained {
  func meaning(_ format: VTd.InterruptFormat) -> String {
    switch format {
    case .remappable:
      "entry \(hexadecimal(handle)) of the remapping table"
        + (addsSubhandle ? ", and the subhandle in the data further" : "")
    case .compatibility:
      "APIC id \(hexadecimal(destination)), \(isLogical ? "logical" : "physical"), not remapped"
        + (hasRedirectionHint ? ", redirection hint" : "")
    }
  }
}

extension VTd.InterruptData: Explained {
  func meaning(_ format: VTd.InterruptFormat) -> String {
    switch format {
    case .remappable: "subhandle \(hexadecimal(subhandle)), where the address asks for one"
    case .compatibility:
      "vector \(hexadecimal(vector)), \(deliveryMode?.words ?? "undefined delivery mode"), "
        + (isLevelTriggered ? "level" : "edge")
    }
  }
}

extension VTd.RedirectionEntry: Explained {
  func meaning(_ format: VTd.InterruptFormat) -> String {
    let mask = isMasked ? "masked, " : ""
    let trigger = isLevelTriggered ? "level" : "edge"
    switch format {
    case .remappable:
      return "\(mask)entry \(hexadecimal(index)) of the remapping table, \(trigger)"
    case .compatibility:
      return "\(mask)vector \(hexadecimal(vector)), \(trigger), not remapped"
    }
  }
}

extension VTd.InterruptTableAddress: Explained {
  func meaning(_: OnlyVariant) -> String {
    "interrupt remapping table \(table), \(entryCount) entries, destinations of "
      + (usesExtendedMode ? "32 bits" : "8 bits")
  }
}
