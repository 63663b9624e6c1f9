extension VTd.DMAR {
  /// Something that the manual does not allow in a table that can be read all the same.
  public typealias Finding = ACPI.Finding

  /// What firmware should not have written, in the order of the table; empty for a good one.
  ///
  /// Specification: Intel VT-d 8.1 to 8.9.
  public var findings: [Finding] { findings(isWhole: true) }

  /// - Parameter isWhole: Nothing of the table is missing; otherwise nothing is said of what it lacks.
  fileprivate func findings(isWhole: Bool) -> [Finding] {
    var findings = headerFindings
    var unitSeen: Set<UInt16> = []
    var allSeen: Set<UInt16> = []
    var last = StructureType(rawValue: 0)
    let bases = Set(hardwareUnits.map(\.base))
    let deviceNumbers = Set(namespaceDevices.map(\.number))
    for (offset, structure) in placedStructures {
      func add(_ text: String) {
        findings.append(Finding(offset: offset, text: "\(structure.type.mnemonic): \(text)"))
      }
      if structure.type.rawValue < last.rawValue {
        add("after \(last.mnemonic); structures ascend by type")
      }
      last = structure.type
      for field in structure.header?.violations ?? [] {
        add("reserved bits \(field.bits.lowerBound) to \(field.bits.upperBound) are not zero")
      }
      switch structure {
      case .hardwareUnit(let unit):
        if allSeen.contains(unit.segment) {
          add("follows the INCLUDE_PCI_ALL unit of segment \(unit.segment), which must be the last")
        }
        unitSeen.insert(unit.segment)
        if unit.includesAllPCI { allSeen.insert(unit.segment) }
        check(unit, add)
      case .reservedMemory(let region):
        if !region.isWellFormed {
          add("memory \(region.base) to \(region.limit) is not one or more whole pages")
        }
      case .rootPortATS(let ports):
        if ports.meansAllPorts, !ports.scopes.isEmpty { add("device scopes beside ALL_PORTS") }
      case .hardwareAffinity(let affinity):
        if isWhole, !bases.contains(affinity.base) {
          add("names a unit at \(affinity.base), and no DRHD does")
        }
      case .namespaceDevice(let device):
        if !device.isTerminated { add("no zero ends the name") }
        if !device.name.hasPrefix("\\") { add("'\(device.name.visible)' is no absolute name") }
      case .integratedATC, .integratedProperties, .unknown: break
      }
      checkScopes(of: structure, at: offset, isWhole ? deviceNumbers : nil, &findings)
    }
    guard isWhole else { return findings }
    for segment in segments.subtracting(unitSeen).sorted() {
      findings.append(Finding(offset: 0, text: "segment \(segment) has no DRHD"))
    }
    return findings
  }

  /// Segments that any structure speaks of.
  private var segments: Set<UInt16> {
    Set(
      structures.compactMap { structure in
        switch structure {
        case .hardwareAffinity, .namespaceDevice, .unknown: nil
        default: structure.header?.segment
        }
      })
  }

  /// The last revision that the manual has.
  public static let knownRevision: UInt8 = 1

  /// What is worth knowing of a table and no fault of it.
  public var notes: [Finding] { header.notes(knownRevision: Self.knownRevision) }

  private var headerFindings: [Finding] {
    var findings: [Finding] = []
    if header.revision == 0 {
      findings.append(Finding(offset: 8, text: "revision 0, and the first is 1"))
    }
    if platform.optsOutOfX2APIC, !platform.remapsInterrupts {
      findings.append(Finding(offset: 37, text: "X2APIC_OPT_OUT without INTR_REMAP"))
    }
    if !platform.reservedViolations.isEmpty || reserved != 0 {
      findings.append(Finding(offset: 37, text: "reserved bits of the header are not zero"))
    }
    return findings
  }

  private func check(_ unit: HardwareUnit, _ add: (String) -> Void) {
    if unit.base.rawValue == 0 { add("registers at address 0") }
    if unit.base.rawValue % unit.registerByteCount != 0 {
      add("registers at \(unit.base), no multiple of their \(unit.registerByteCount) bytes")
    }
  }

  /// What the scopes of a structure may be, and how the manual says so.
  ///
  /// Specification: Intel VT-d 8.3 to 8.9.
  private func scopeRule(of structure: Structure) -> (allowed: Set<ScopeType>, text: String) {
    switch structure {
    case .hardwareUnit(let unit) where unit.includesAllPCI:
      (
        [.ioapic, .hpet, .namespaceDevice],
        "a DRHD with INCLUDE_PCI_ALL, which has every PCI device that no other unit lists, and lists "
          + "none itself"
      )
    case .reservedMemory:
      (
        [.endpoint, .subHierarchy, .namespaceDevice],
        "an RMRR, which lists users of its memory only"
      )
    case .rootPortATS: ([.subHierarchy], "an ATSR, which lists root ports (type 2) only")
    case .integratedATC: ([.endpoint], "a SATC, which lists endpoints (type 1) only")
    case .integratedProperties:
      (
        [.endpoint, .namespaceDevice],
        "a SIDP, which lists endpoints (type 1) and ACPI devices (type 5) only"
      )
    case .hardwareUnit, .hardwareAffinity, .namespaceDevice, .unknown: (ScopeType.known, "")
    }
  }

  /// - Parameter deviceNumbers: Those that ANDDs give; `nil` where some may be missing.
  private func checkScopes(
    of structure: Structure, at start: Int, _ deviceNumbers: Set<UInt8>?,
    _ findings: inout [Finding]
  ) {
    let rule = scopeRule(of: structure)
    let hasOneStep = [.integratedATC, .integratedProperties].contains(structure.type)
    for (offset, scope) in structure.placedScopes {
      func add(_ text: String) {
        findings.append(Finding(offset: start + offset, text: "device scope: \(text)"))
      }
      if !ScopeType.known.contains(scope.type) {
        add("type \(scope.type.rawValue), and the manual has 1 to 5")
      } else if !rule.allowed.contains(scope.type) {
        add("type \(scope.type.rawValue) (\(scope.type.name)) in \(rule.text)")
      }
      if hasOneStep, scope.path.count > 1 {
        add("more than one step to a device of the chip")
      }
      if !scope.violations.isEmpty { add("reserved bits or numbers out of range") }
      if !scope.furtherStepsAreValid { add("a step with a device above 31 or a function above 7") }
      if !scope.flags.isEmpty, structure.type != .integratedProperties {
        add("flags outside SIDP")
      }
      switch scope.type {
      case .endpoint, .subHierarchy:
        if scope.enumerationID != 0 { add("an enumeration id at a PCI device") }
      case .namespaceDevice:
        if let deviceNumbers, !deviceNumbers.contains(scope.enumerationID) {
          add("names ACPI device \(scope.enumerationID), and no ANDD does")
        }
      default: break
      }
    }
  }

  // MARK: One kind of structure

  /// The units, in the order of the table.
  public var hardwareUnits: [HardwareUnit] {
    structures.compactMap { if case .hardwareUnit(let unit) = $0 { unit } else { nil } }
  }

  /// The regions that stay mapped to themselves, in the order of the table.
  public var reservedMemoryRegions: [ReservedMemoryRegion] {
    structures.compactMap { if case .reservedMemory(let region) = $0 { region } else { nil } }
  }

  /// The devices that only the ACPI name space knows, in the order of the table.
  public var namespaceDevices: [NamespaceDevice] {
    structures.compactMap { if case .namespaceDevice(let device) = $0 { device } else { nil } }
  }
}

extension VTd.DMAR.Reading {
  /// What firmware should not have written in the part that was read.
  public var findings: [ACPI.Finding] { table.findings(isWhole: damage == nil) }
}
