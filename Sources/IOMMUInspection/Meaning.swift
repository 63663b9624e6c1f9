import IOMMUFormats

/// An entry or register that can say in plain words what its bits mean.
///
/// The words come from the entry's own properties; no bit position is known here.
protocol Explained: TableEntry {
  /// One line: what hardware does because of this entry.
  func meaning(_ variant: Variant) -> String

  /// The reserved fields that are set and that hardware looks at in an entry such as this.
  func checkedViolations(_ variant: Variant) -> [BitField]

  /// Values of fields that hardware looks at and does not take, in words.
  func illegalValues(_ variant: Variant) -> [String]

  /// The entry's own name for its place; `nil` where the type's is enough.
  func name(_ variant: Variant) -> String?
}

extension Explained {
  func checkedViolations(_ variant: Variant) -> [BitField] { reservedViolations(variant) }
  func illegalValues(_: Variant) -> [String] { [] }
  func name(_: Variant) -> String? { nil }
}

/// What is said of an entry that leads nowhere.
let notPresent = "not present"

// MARK: Calgary

extension Calgary.TranslationControlEntry: Explained {
  func meaning(_: OnlyVariant) -> String {
    if rawValue == 0 { return "free" }
    return permissions.isEmpty
      ? "free, but names page \(page)" : "page \(page), \(permissions.words)"
  }
}

extension Calgary.TableAddressRegister: Explained {
  func meaning(_: OnlyVariant) -> String {
    "TCE table at \(table), \(byteCountText(tableSize.byteCount)) with \(tableSize.entryCount) "
      + "entries for \(byteCountText(tableSize.coverage)) of I/O space"
  }
}

extension Calgary.ConfigurationRegister: Explained {
  func meaning(_: OnlyVariant) -> String {
    var parts = [translates ? "translates" : "does not translate"]
    if refusesDualAddressCycles { parts.append("refuses addresses of 4 GiB and more") }
    if hasSecondWindow { parts.append("second memory window in force") }
    if areSlotsDisabled { parts.append("slots disabled") }
    return parts.joined(separator: ", ")
  }
}

extension Calgary.BusRangeRegister: Explained {
  func meaning(_: OnlyVariant) -> String {
    guard let buses else { return "no bus: the last one lies before the first" }
    let first = hexadecimal(buses.lowerBound, digits: 2)
    return buses.count == 1
      ? "bus \(first)" : "buses \(first) to \(hexadecimal(buses.upperBound, digits: 2))"
  }
}

// MARK: GART

extension GART.GATTEntry: Explained {
  func meaning(_: OnlyVariant) -> String {
    if rawValue == 0 { return "free" }
    guard isValid else { return "not valid, but names page \(page)" }
    return "page \(page), read and write" + (isCoherent ? ", coherent" : ", not coherent")
  }
}

extension GART.ApertureControl: Explained {
  func meaning(_: OnlyVariant) -> String {
    // Without a size there is no window to translate in, whatever the other bits say.
    guard let byteCount = apertureByteCount else { return "undefined aperture, translates nothing" }
    let size = "aperture of \(byteCountText(byteCount))"
    let users = (translatesCPU ? ["the CPU"] : []) + (translatesIO ? ["devices"] : [])
    return size + (users.isEmpty ? ", translates nothing" : ", translates for \(listText(users))")
  }
}

extension GART.ApertureBase: Explained {
  func meaning(_: OnlyVariant) -> String { "aperture starts at \(hexadecimal(address))" }
}

extension GART.TableBase: Explained {
  func meaning(_: OnlyVariant) -> String { "GATT at \(table)" }
}

extension GART.CacheControl: Explained {
  func meaning(_: OnlyVariant) -> String {
    let parts =
      (invalidates ? ["invalidation under way"] : [])
      + (hasWalkError ? ["a walk has met an invalid entry"] : [])
    return parts.isEmpty ? "nothing pending" : parts.joined(separator: ", ")
  }
}

// MARK: VT-d

extension VTd.RootEntry: Explained {
  func meaning(_: VTd.Limits) -> String {
    isPresent ? "context table \(contextTable)" : notPresent
  }

  /// Hardware looks at nothing but P in an entry that is not present.
  func checkedViolations(_ limits: VTd.Limits) -> [BitField] {
    isPresent ? reservedViolations(limits) : []
  }
}

extension VTd.ContextEntry: Explained {
  func meaning(_ limits: VTd.Limits) -> String {
    let silence = suppressesFaultReports ? ", faults not recorded" : ""
    guard isPresent else { return "not present" + silence }
    let width = limits.supports(levels: levels) ? "" : ", a width that the unit does not support"
    let domain = ", domain \(domainID)" + silence
    switch translationType {
    case .secondStage:
      return "second-stage table \(secondStageTable), \(levels) levels\(width)\(domain)"
    case .secondStageWithDeviceTLB:
      let support = limits.hasDeviceTLBs ? "" : " (which the unit does not support)"
      return "second-stage table \(secondStageTable), \(levels) levels\(width), "
        + "translation requests allowed\(support)\(domain)"
    case .passThrough:
      let support = limits.hasPassThrough ? "" : " (which the unit does not support)"
      return "pass-through\(support)\(width)\(domain)"
    case .reserved:
      return "reserved translation type\(domain)"
    }
  }

  /// Nothing but P and FPD counts without P, and the table pointer does not with pass-through.
  func checkedViolations(_ limits: VTd.Limits) -> [BitField] {
    guard isPresent else { return [] }
    let violations = reservedViolations(limits)
    guard translationType == .passThrough else { return violations }
    return violations.filter {
      $0.bits.lowerBound >= 64 || $0.mask & ~Self.pointerMask != 0
    }
  }
}

extension VTd.SecondStageEntry: Explained {
  func meaning(_ variant: Variant) -> String {
    let permissions = permissions(variant)
    guard !permissions.isEmpty else { return "not present" }
    guard variant.isLeaf else { return "table \(address), \(permissions.words)" }
    let size = variant.level == 1 ? "" : pageSizeText(level: variant.level) + " "
    return "\(size)page \(address), \(permissions.words)"
  }

  /// Hardware looks at nothing but the two bits of access in an entry that has neither.
  func checkedViolations(_ variant: Variant) -> [BitField] {
    permissions(variant).isEmpty ? [] : reservedViolations(variant)
  }

  /// What the entry allows: R and W, or IR and IW where those count.
  private func permissions(_ variant: Variant) -> Permissions {
    variant.usesIOPermissions ? ioPermissions : permissions
  }

  func name(_ variant: Variant) -> String? { variant.name }

  /// `2 MiB` for a leaf of level 2.
  func pageSizeText(level: Int) -> String {
    byteCountText(1 << UInt64(VTd.Paging.sizeLog2(level: level)))
  }
}

extension VTd.ScalableRootEntry: Explained {
  func meaning(_: VTd.Limits) -> String {
    let tables =
      (isLowerPresent ? ["lower context table \(lowerContextTable)"] : [])
      + (isUpperPresent ? ["upper context table \(upperContextTable)"] : [])
    return tables.isEmpty ? notPresent : listText(tables)
  }

  /// Hardware looks at nothing but the present bit in a half that is not present.
  func checkedViolations(_ limits: VTd.Limits) -> [BitField] {
    reservedViolations(limits).filter {
      $0.quadwordIndex == 0 ? isLowerPresent : isUpperPresent
    }
  }
}

extension VTd.ScalableContextEntry: Explained {
  func meaning(_: VTd.Limits) -> String {
    let silence = suppressesFaultReports ? ", faults not recorded" : ""
    guard isPresent else { return "not present" + silence }
    let allowed =
      (allowsPASIDs ? ["PASIDs"] : []) + (allowsDeviceTLB ? ["translation requests"] : [])
      + (allowsPageRequests ? ["page requests"] : [])
    return "PASID directory \(pasidDirectory) for PASIDs below \(pasidLimit)"
      + (allowed.isEmpty ? "" : ", may send \(listText(allowed))")
      + ", requests without PASID count as PASID \(requesterPASID)"
      + (requesterIsSupervisor ? " of supervisor privilege" : "")
      + (isContradictory ? ", in contradiction to itself" : "") + silence
  }

  /// Nothing but P and FPD counts without P.
  func checkedViolations(_ limits: VTd.Limits) -> [BitField] {
    isPresent ? reservedViolations(limits) : []
  }
}

extension VTd.PASIDDirectoryEntry: Explained {
  func meaning(_: VTd.Limits) -> String {
    (isPresent ? "PASID table \(pasidTable)" : "not present")
      + (suppressesFaultReports ? ", faults not recorded" : "")
  }

  /// Nothing but P and FPD counts without P.
  func checkedViolations(_ limits: VTd.Limits) -> [BitField] {
    isPresent ? reservedViolations(limits) : []
  }
}

extension VTd.PASIDTableEntry: Explained {
  func meaning(_ limits: VTd.Limits) -> String {
    let silence = suppressesFaultReports ? ", faults not recorded" : ""
    guard isPresent else { return "not present" + silence }
    let support = limits.supports(self) ? "" : " (which the unit does not support)"
    let second = "second-stage table \(secondStageTable), \(secondStageLevels) levels"
    let first = "first-stage table \(firstStageTable), \(firstStageLevels) levels"
    let tables =
      switch translationType {
      case .firstStage: first
      case .secondStage: second
      case .nested: "\(first), of a guest in \(second)"
      case .passThrough: "pass-through"
      default: "reserved translation type"
      }
    return "\(tables)\(support), domain \(domainID)\(silence)"
  }

  /// Nothing but P and FPD counts without P, and no pointer that the type does not use.
  func checkedViolations(_ limits: VTd.Limits) -> [BitField] {
    isPresent ? withoutUnusedPointers.reservedViolations(limits) : []
  }
}

extension VTd.FirstStageEntry: Explained {
  func meaning(_ variant: Variant) -> String {
    guard isPresent else { return "not present" }
    let rights =
      (permissions.contains(.write) ? "read and write" : "read only")
      + (permissions.contains(.user) ? ", user" : ", supervisor only")
    let space = variant.isNested ? "guest " : ""
    guard variant.isLeaf else { return "\(space)table \(address), \(rights)" }
    let size =
      variant.level == 1
      ? "" : byteCountText(1 << UInt64(VTd.Paging.sizeLog2(level: variant.level))) + " "
    let marks = (isAccessed ? ", accessed" : "") + (isDirty ? ", dirty" : "")
    return "\(size)\(space)page \(page(level: variant.level)), \(rights)\(marks)"
  }

  /// Hardware looks at nothing but P in an entry that is not present.
  func checkedViolations(_ variant: Variant) -> [BitField] {
    isPresent ? reservedViolations(variant) : []
  }

  func name(_ variant: Variant) -> String? { variant.name }
}

extension VTd.Capability: Explained {
  func meaning(_: OnlyVariant) -> String {
    let limits = VTd.Limits(
      capability: self, extendedCapability: VTd.ExtendedCapability(rawValue: 0))
    let levels = (3...5).filter { limits.supports(levels: $0) }.map { "\($0)" }
    let pages =
      ["4 KiB"] + (limits.has2MiBPages ? ["2 MiB"] : []) + (limits.has1GiBPages ? ["1 GiB"] : [])
    return "IOVAs of \(maximumGuestAddressWidth) bits, "
      + (levels.isEmpty ? "no second-stage tables" : "tables of \(listText(levels)) levels")
      + ", pages of \(listText(pages)), domain-ids of \(limits.domainIDBits) bits"
  }
}

extension VTd.ExtendedCapability: Explained {
  func meaning(_: OnlyVariant) -> String {
    let limits = VTd.Limits(
      capability: VTd.Capability(rawValue: 0), extendedCapability: self)
    let parts =
      (limits.hasPassThrough ? ["pass-through"] : [])
      + (limits.hasSnoopControl ? ["snoop control"] : [])
      + (limits.hasDeviceTLBs ? ["device TLBs"] : []) + scalableParts(limits.features)
    return parts.isEmpty
      ? "context and second-stage entries without options" : "supports " + listText(parts)
  }
}

private func scalableParts(_ features: VTd.Features) -> [String] {
  guard features.contains(.scalableMode) else { return [] }
  let names: [(VTd.Features, String)] = [
    (.firstStage, "first stage"), (.secondStage, "second stage"), (.nesting, "nesting"),
    (.pasids, "PASIDs"), (.pageRequests, "page requests"),
  ]
  let parts = names.filter { features.contains($0.0) }.map(\.1)
  return ["scalable mode" + (parts.isEmpty ? "" : " (\(parts.joined(separator: ", ")))")]
}

extension VTd.GlobalStatus: Explained {
  func meaning(_: OnlyVariant) -> String {
    "DMA remapping \(translates ? "on" : "off"), "
      + "interrupt remapping \(remapsInterrupts ? "on" : "off")"
      + (passesCompatibilityInterrupts ? ", compatibility-format interrupts pass" : "")
  }
}

extension VTd.RootTableAddress: Explained {
  func meaning(_: OnlyVariant) -> String {
    switch mode {
    case .legacy: "root table \(rootTable), legacy mode"
    case .scalable: "root table \(rootTable), scalable mode"
    case .abortDMA: "all DMA is aborted"
    case .reserved: "reserved mode: all DMA faults"
    }
  }
}
