extension AMDVi.IVRS {
  /// What is worth knowing of a table and no fault of it.
  public var notes: [ACPI.Finding] {
    header.notes(knownRevision: Self.knownRevision)
      + blocks.compactMap { block in
        guard block.type.isMemory, let memory = block.memory,
          !memory.lowerBound.isAligned(to: 4096) || !memory.upperBound.isAligned(to: 4096)
        else { return nil }
        return ACPI.Finding(
          offset: block.offset, text: "\(block.type.mnemonic): memory that is not whole pages")
      }
  }

  /// What firmware should not have written, in the order of the table; empty for a good one.
  ///
  /// Specification: AMD IOMMU 5.2.
  public var findings: [ACPI.Finding] {
    var findings = info.reservedFindings("IVinfo")
    if header.revision == 0 {
      findings.append(ACPI.Finding(offset: 8, text: "revision 0, and the first is 1"))
    }
    for block in blocks {
      func add(_ text: String) {
        findings.append(
          ACPI.Finding(offset: block.offset, text: "\(block.type.mnemonic): \(text)"))
      }
      findings += block.reservedFindings(block.type.mnemonic)
      if block.type.isUnit {
        if block.base.rawValue == 0 || !block.base.isAligned(to: 1 << 14) {
          add("registers at \(block.base), no multiple of 16 KiB")
        }
        findings += entryFindings(of: block)
      }
      if block.type.isMemory {
        if block.statedByteCount != block.type.fixedByteCount {
          add("\(block.statedByteCount) bytes, and it has \(block.type.fixedByteCount)")
        }
        if block.memory == nil { add("memory without bytes, or past the last address") }
        if block.type == .memoryOfRange, block.lastDeviceID.rawValue < block.deviceID.rawValue {
          add("a range that ends at \(block.lastDeviceID), before its start")
        }
      }
    }
    return findings
  }

  private func entryFindings(of block: Block) -> [ACPI.Finding] {
    var findings: [ACPI.Finding] = []
    var start: DeviceEntry?
    for entry in block.entries {
      func add(_ text: String) {
        findings.append(ACPI.Finding(offset: entry.offset, text: "device entry: \(text)"))
      }
      findings += entry.reservedFindings("device entry")
      if let first = start, entry.type != .rangeEnd, entry.type != .padding,
        entry.type != .longPadding
      {
        add("inside of the range that begins at byte \(hexadecimal(first.offset))")
        start = nil
      }
      if entry.type.startsRange { start = entry }
      switch entry.type {
      case .rangeEnd:
        if let first = start {
          if entry.deviceID.rawValue < first.deviceID.rawValue {
            add("a range that ends at \(entry.deviceID), before its start")
          }
        } else {
          add("the end of a range that has no start")
        }
        start = nil
      case .special:
        if !(1...2 ~= entry.variety) { add("a special device of variety \(entry.variety)") }
      case .acpiDevice:
        if block.type != .acpiUnit { add("an ACPI device, which belongs in IVHD 40h") }
        if entry[DeviceEntry.uidFormat] > 2 || entry.hardwareID.isEmpty {
          add("an ACPI device without a name that makes sense")
        }
      default: break
      }
    }
    // Where entries are missing, so may be the one that is meant.
    if let start, block.hasAllEntries {
      findings.append(
        ACPI.Finding(
          offset: start.offset, text: "device entry: the start of a range without an end"))
    }
    return findings
  }

  /// The blocks of units that a kernel goes by: of each unit those of the last type that there is.
  ///
  /// Source: Linux `drivers/iommu/amd/init.c`.
  public var units: [Block] {
    var last: [UInt32: BlockType] = [:]
    let all = blocks.filter(\.type.isUnit)
    func key(_ block: Block) -> UInt32 {
      UInt32(block.segment) << 16 | UInt32(block.deviceID.rawValue)
    }
    for block in all {
      let known = last[key(block)]
      if known.map({ $0.rawValue < block.type.rawValue }) ?? true { last[key(block)] = block.type }
    }
    return all.filter { last[key($0)] == $0.type }
  }
}
