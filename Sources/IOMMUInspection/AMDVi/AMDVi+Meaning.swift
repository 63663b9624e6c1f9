import IOMMUFormats
import IOMMUTranslation

// What entries of AMD-Vi tables say, in words.

extension AMDVi.DeviceTableEntry: Explained {
  func meaning(_ limits: AMDVi.Limits) -> String {
    let parts = [requestText(limits), interruptText].compactMap { $0 }
    return parts.joined(separator: "; ")
  }

  private func requestText(_ limits: AMDVi.Limits) -> String {
    guard isValid else { return "requests pass untranslated" }
    guard isTranslationValid else { return "requests are stopped (TV clear)" }
    let domain =
      ", domain \(domainID)" + (suppressesFaults ? ", faults not logged" : "")
      + (usesExclusionRange ? ", exclusion range passes" : "")
      + (allowsDeviceTLB ? ", translation requests allowed" : "")
    let access = permissions.isEmpty ? "nothing permitted" : "\(permissions)"
    let host: String
    switch mode {
    case 0: host = permissions.isEmpty ? "all requests are stopped" : "pass-through, \(access)"
    case 7: host = "reserved mode"
    default:
      host =
        "host page table \(root), \(countText(mode, "level")), \(access)"
        + (mode <= limits.hostLevels ? "" : " (more levels than the unit has)")
    }
    guard usesGuestTables else { return host + domain }
    let levels = guestRootLevelCode + 1
    return "GCR3 table \(guestRootTable), \(countText(levels, "level")), guest tables of "
      + "\(guestPagingModeCode + 4) levels"
      + (usesGuestTablesWithoutPASID ? ", requests without PASID count as PASID 0" : "")
      + ", in \(mode == 0 ? "host addresses, \(access)" : host)\(domain)"
  }

  /// What becomes of fixed and arbitrated interrupts.
  var interruptMeaning: String {
    interruptText ?? "interrupts pass as they are (IV clear)"
  }

  /// `nil` where nothing is said of interrupts.
  private var interruptText: String? {
    guard isInterruptValid else { return nil }
    switch interruptControl {
    case .abort: return "interrupts are stopped"
    case .forward: return "interrupts pass as they are"
    case .remap:
      guard interruptTableLengthCode < 12 else { return "interrupt table of an illegal length" }
      return "interrupt table \(interruptTable), \(1 << interruptTableLengthCode) entries"
    default: return "reserved interrupt control"
    }
  }

  func illegalValues(_ limits: AMDVi.Limits) -> [String] {
    var illegal: [String] = []
    if isValid {
      if portControl == 3 { illegal.append("IoCtl is 11b, which is reserved") }
      if isTranslationValid, mode == 7 { illegal.append("Mode is 7, which is reserved") }
      if isTranslationValid, mode < 7, mode > limits.hostLevels {
        illegal.append("Mode is \(mode), and the unit has \(limits.hostLevels)")
      }
      if isTranslationValid, usesGuestTables, guestRootLevelCode >= limits.guestRootLevels {
        illegal.append("GLX is \(guestRootLevelCode), which the unit does not have")
      }
      if isTranslationValid, usesGuestTables, guestPagingModeCode + 4 > limits.guestLevels {
        illegal.append("GuestPagingMode is \(guestPagingModeCode), which the unit does not have")
      }
    }
    if isInterruptValid {
      if interruptControl == .reserved { illegal.append("IntCtl is 11b, which is reserved") }
      if interruptControl == .remap, interruptTableLengthCode > 11 {
        illegal.append("IntTabLen is \(interruptTableLengthCode), and the most is 11")
      }
    }
    return illegal
  }

  /// Hardware looks at bits 127:1 with V, and at bits 255:128 with IV.
  func checkedViolations(_ limits: AMDVi.Limits) -> [BitField] {
    reservedViolations(limits).filter {
      $0.quadwordIndex < 2 ? isValid : isInterruptValid
    }
  }
}

extension AMDVi.PageTableEntry: Explained {
  func meaning(_ variant: Variant) -> String {
    guard isPresent else { return notPresent }
    let rights = permissions.words
    guard isLeaf else {
      let table = "table \(address) of level \(nextLevel)"
      return nextLevel < variant.level
        ? "\(table), \(rights)"
        : "\(table), which cannot follow one of level \(variant.level)"
    }
    guard let size = pageSizeLog2(level: variant.level) else {
      return "a page of a size that entries of level \(variant.level) cannot have"
    }
    let page = PhysicalAddress(address.rawValue & ~(1 << UInt64(size) - 1))
    let sizeText = size == 12 ? "" : byteCountText(1 << UInt64(size)) + " "
    return "\(sizeText)page \(page), \(rights)" + (isAccessed ? ", accessed" : "")
      + (isDirty ? ", dirty" : "")
  }

  func illegalValues(_ variant: Variant) -> [String] {
    guard isPresent else { return [] }
    if isLeaf {
      return pageSizeLog2(level: variant.level) == nil
        ? ["no page of level \(variant.level) has this size"] : []
    }
    return nextLevel < variant.level
      ? [] : ["NextLevel is \(nextLevel), and the entry is of level \(variant.level)"]
  }

  /// Hardware looks at nothing but PR in an entry that is not present, and takes it for what NextLevel
  /// says, also where its level has no such entries (*assumed*).
  func checkedViolations(_ variant: Variant) -> [BitField] {
    isPresent ? reservedViolations(Variant(level: variant.level, isLeaf: isLeaf)) : []
  }

  func name(_ variant: Variant) -> String? { variant.name }
}

extension AMDVi.GuestPageTableEntry: Explained {
  func meaning(_ variant: Variant) -> String {
    guard isPresent else { return notPresent }
    let rights =
      (permissions.contains(.write) ? "read and write" : "read only")
      + (permissions.contains(.user) ? ", user" : ", supervisor only")
      + (permissions.contains(.execute) ? "" : ", no execute")
    guard variant.isLeaf else { return "table \(address), \(rights)" }
    let size =
      variant.level == 1
      ? "" : byteCountText(1 << UInt64(AMDVi.Paging.sizeLog2(level: variant.level))) + " "
    return "\(size)page \(page(level: variant.level)), \(rights)" + (isAccessed ? ", accessed" : "")
      + (isDirty ? ", dirty" : "")
  }

  /// Hardware looks at nothing but P in an entry that is not present.
  func checkedViolations(_ variant: Variant) -> [BitField] {
    isPresent ? reservedViolations(variant) : []
  }

  func name(_ variant: Variant) -> String? { variant.name }
}

extension AMDVi.GuestRootEntry: Explained {
  func meaning(_: OnlyVariant) -> String { isValid ? "table \(table)" : "not valid" }
}
