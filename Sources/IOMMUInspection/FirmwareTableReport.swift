import IOMMUFormats

/// What every report on a firmware table begins with.
struct FirmwareTableHeading {
  let byteCount: Int
  let revision: Int
  let checksum: String
  let oemID: String
  let oemTableID: String

  init(_ header: ACPI.TableHeader, byteCount: Int, checksum: UInt8) {
    self.byteCount = byteCount
    revision = Int(header.revision)
    self.checksum = "0x" + hexadecimal(checksum, digits: 2)
    oemID = Self.text(header.oemID)
    oemTableID = Self.text(header.oemTableID)
  }

  /// An identifier without the padding at its end.
  private static func text(_ bytes: [UInt8]) -> String {
    let text = bytes.map { 0x20...0x7e ~= $0 ? String(UnicodeScalar($0)) : "." }.joined()
    return text.withoutTrailingSpaces
  }
}

/// An ACPI table of units taken apart: every structure and what it holds with its offset, notes and
/// complaints.
///
/// Encoding it gives the same content as the text.
package struct FirmwareTableReport: Sendable, Encodable {
  /// A structure of the table, or a part of one.
  package struct Item: Sendable, Encodable {
    /// Bytes from the table's start.
    package var offset: Int
    package var byteCount: Int
    package var type: String
    /// What it says, in one line.
    package var meaning: String
    /// Name and value of every field that has a meaning, for programs.
    package var values: [String: String]
    /// Entries, mappings, ranges; none in those themselves.
    package var parts: [Item]?

    enum CodingKeys: String, CodingKey {
      case offset, type, meaning, values, parts
      case byteCount = "bytes"
    }

    init(
      _ structure: some FirmwareStructure, _ type: String, _ meaning: String,
      values: [String: String] = [:], parts: [Item]? = nil
    ) {
      offset = structure.offset
      byteCount = structure.bytes.count
      self.type = type
      self.meaning = meaning
      self.values = structure.namedValues.merging(values) { $1 }
      self.parts = parts
    }
  }

  package var name: String
  package var specification: String
  package var byteCount: Int
  package var revision: Int
  package var checksum: String
  package var oemID: String
  package var oemTableID: String
  /// What the header says beside all that, in one line.
  package var platform: String
  package var values: [String: String]
  package var structures: [Item]
  /// What is worth knowing and no fault of the table.
  package var notes: [String]
  /// What firmware should not have written, and what could not be read; empty for a good table.
  package var violations: [String]

  /// No rule is broken, and all was read.
  package var isWellFormed: Bool { violations.isEmpty }

  enum CodingKeys: String, CodingKey {
    case name, specification, revision, checksum, platform, values, structures, notes, violations
    case byteCount = "bytes"
    case oemID = "oem_id"
    case oemTableID = "oem_table_id"
  }

  init(
    _ name: String, _ specification: String, _ heading: FirmwareTableHeading, platform: String,
    info: some FirmwareStructure, structures: [Item], notes: [ACPI.Finding],
    violations: [ACPI.Finding]
  ) {
    self.name = name
    self.specification = specification
    byteCount = heading.byteCount
    revision = heading.revision
    checksum = heading.checksum
    oemID = heading.oemID
    oemTableID = heading.oemTableID
    self.platform = platform
    values = info.namedValues
    self.structures = structures
    self.notes = notes.map(\.description)
    self.violations = violations.map(\.description)
  }

  /// Writes the whole description: heading, a line per structure and part, notes, complaints.
  package func write(to out: inout some TextOutputStream) {
    out.write("\(name)  (\(specification))\n")
    out.write("bytes     \(byteCount), revision \(revision), checksum \(checksum)\n")
    out.write("made by   \(oemID), \(oemTableID)\n")
    out.write("platform  \(platform)\n\n")
    let width = "\(byteCount)".count
    for structure in structures {
      let place = "\(structure.offset)".paddedLeft(to: width)
      out.write(
        "byte \(place)  \(structure.type)  \(countText(structure.byteCount, "byte")): "
          + "\(structure.meaning)\n")
      for part in structure.parts ?? [] {
        out.write("byte \("\(part.offset)".paddedLeft(to: width))    \(part.meaning)\n")
      }
    }
    writeRemarks(notes: notes, violations: violations, to: &out)
  }
}

/// What is said behind a structure in which the table is cut off.
func cutText(_ available: Int, of stated: Int) -> String {
  ", cut off after \(available) of its \(stated) bytes"
}

/// Writes what is worth knowing, and what is wrong, below a table.
func writeRemarks(
  notes: [String], violations: [String], to out: inout some TextOutputStream
) {
  if !notes.isEmpty || !violations.isEmpty { out.write("\n") }
  for note in notes { out.write("note: \(note)\n") }
  for violation in violations { out.write("\(violation)\n") }
}

extension FirmwareStructure {
  /// Name and value of every field that has a meaning; the first of two of one name counts.
  fileprivate var namedValues: [String: String] {
    var values: [String: String] = [:]
    for field in fields where field.use == .value || field.use == .address {
      let name = "\(field.name)".lowercased().split(separator: " ").joined(separator: "_")
      guard values[name] == nil else { continue }
      values[name] =
        field.bits.count == 1 ? (self[field] == 0 ? "false" : "true") : hexadecimal(self[field])
    }
    return values
  }
}

// MARK: AMD-Vi

extension FirmwareTableReport {
  /// The table of AMD-Vi units.
  package init(_ table: AMDVi.IVRS) {
    var platform = [
      "physical addresses of \(table.info.physicalAddressWidth) bits",
      "virtual ones of \(table.info.virtualAddressWidth)",
    ]
    if table.info.hasExtendedFeatures { platform.append("EFRSup") }
    if table.info.remapsDMA { platform.append("DmaRemapSup") }
    self.init(
      "IVRS", "AMD IOMMU 5.2",
      FirmwareTableHeading(table.header, byteCount: table.byteCount, checksum: table.checksum),
      platform: platform.joined(separator: ", "), info: table.info,
      structures: table.blocks.map { Item($0) }, notes: table.notes,
      violations: table.findings + table.damage)
  }
}

extension FirmwareTableReport.Item {
  fileprivate init(_ block: AMDVi.IVRS.Block) {
    var text: String
    let flags = block.flagNames.joined(separator: ", ")
    if block.type.isUnit {
      text =
        "unit \(block.deviceID) at \(block.base), capability at "
        + "\(hexadecimal(block.capabilityOffset)), segment \(block.segment)"
    } else if block.type.isMemory {
      let memory =
        block.memory.map {
          "memory \($0.lowerBound) to \(PhysicalAddress($0.upperBound.rawValue - 1)), "
            + byteCountText($0.byteCount)
        } ?? "no memory"
      let owner =
        switch block.type {
        case .memoryOfOne: "of \(block.deviceID)"
        case .memoryOfRange: "of \(block.deviceID) to \(block.lastDeviceID)"
        default: "of all devices"
        }
      text = "\(memory), \(owner), segment \(block.segment)"
    } else {
      text = "a block of a type that is not known, skipped"
    }
    if !flags.isEmpty { text += ", \(flags)" }
    if block.isCut { text += cutText(block.bytes.count, of: block.statedByteCount) }
    self.init(
      block, block.type.mnemonic, text,
      parts: block.type.isUnit ? block.entries.map { Self(entry: $0) } : nil)
  }

  private init(entry: AMDVi.IVRS.DeviceEntry) {
    var values: [String: String] = [:]
    var text: String
    switch entry.type {
    case .padding, .longPadding: text = "padding"
    case .all: text = "all devices"
    case .select: text = "\(entry.deviceID)"
    case .rangeStart: text = "from \(entry.deviceID)"
    case .rangeEnd: text = "to \(entry.deviceID)"
    case .aliasSelect: text = "\(entry.deviceID), whose requests are of \(entry.sourceID)"
    case .aliasRangeStart:
      text = "from \(entry.deviceID), whose requests are of \(entry.sourceID)"
    case .extendedSelect: text = "\(entry.deviceID)"
    case .extendedRangeStart: text = "from \(entry.deviceID)"
    case .special: text = "\(entry.specialName) is \(entry.deviceID)"
    case .acpiDevice:
      text = "\(entry.acpiName) is \(entry.deviceID)"
      values = ["hid": entry.hardwareID, "cid": entry.compatibleID]
      if let id = entry.uniqueID { values["uid"] = id }
    default:
      text = "entry of type \(hexadecimal(entry.type.rawValue, digits: 2))h, skipped"
    }
    let settings = entry.settingNames
    if !settings.isEmpty { text += ", " + settings.joined(separator: ", ") }
    self.init(
      entry, "\(hexadecimal(entry.type.rawValue, digits: 2))h", text, values: values)
  }
}

extension AMDVi.IVRS.DeviceEntry {
  /// `I/O APIC 33`, `HPET 0`.
  var specialName: String {
    switch variety {
    case 1: "I/O APIC \(handle)"
    case 2: "HPET \(handle)"
    default: "special device \(handle) of variety \(variety)"
    }
  }

  /// `ACPI device AMDI0020 \_SB.FUR0`.
  var acpiName: String {
    let names = [hardwareID, uniqueID ?? ""].filter { !$0.isEmpty }.map(\.visible)
    return (["ACPI device"] + names).joined(separator: " ")
  }
}

// MARK: Arm

extension FirmwareTableReport {
  /// The table of SMMUs.
  package init(_ table: ACPI.IORT) {
    let types = Dictionary(table.nodes.map { ($0.offset, $0.type) }) { first, _ in first }
    self.init(
      "IORT", "Arm DEN 0049",
      FirmwareTableHeading(table.header, byteCount: table.byteCount, checksum: table.checksum),
      platform: countText(table.info.nodeCount, "node"), info: table.info,
      structures: table.nodes.map { Item(node: $0, types: types, isWhole: table.damage.isEmpty) },
      notes: table.notes,
      violations: table.findings + table.damage)
  }
}

extension FirmwareTableReport.Item {
  /// - Parameter isWhole: All nodes of the table are among `types`.
  fileprivate init(node: ACPI.IORT.Node, types: [Int: ACPI.IORT.NodeType], isWhole: Bool) {
    var values: [String: String] = [:]
    var flags = node.flagNames
    var text: String
    switch node.type {
    case .itsGroup:
      let ids = node.serviceIDs
      values["identifiers"] = ids.map { "\($0)" }.joined(separator: " ")
      text =
        ids.isEmpty
        ? node.isCut ? "an ITS group" : "no interrupt translation service"
        : "ITS " + listText(ids.map { "\($0)" })
    case .namedComponent:
      if let name = node.componentName {
        values["device_object_name"] = name
        text = name.isEmpty ? "a device without a name" : name.visible
      } else {
        text = "a device whose name is cut off"
      }
    case .rootComplex: text = "PCI segment \(node.segment)"
    case .smmu, .smmuV3:
      text = "\(node.modelName) at \(node.base)"
      let interrupts = node.interrupts
      for kind in ["NSgIrpt", "NSgCfgIrpt", "context", "PMU"] {
        let numbers = interrupts.filter { $0.kind == kind }
        guard !numbers.isEmpty else { continue }
        values[kind.lowercased() + "_interrupts"] =
          numbers.map { "\($0.number)" + ($0.isEdgeTriggered ? " edge" : "") }
          .joined(separator: ", ")
      }
      let contextCount = node.isCut ? 0 : interrupts.count { $0.kind == "context" }
      if contextCount > 0 { text += ", \(countText(contextCount, "context interrupt"))" }
    case .counters:
      let watched = types[node.watchedOffset].map { " of the \($0.mnemonic)" } ?? ""
      text = "counters at \(node.base)\(watched) at byte \(node.watchedOffset)"
    case .reservedMemory:
      text =
        node.isCut
        ? "ranges of reserved memory"
        : countText(node.regions.count, "range") + " of reserved memory"
    default:
      text = "a node of a type that is not known, skipped"
      flags = []
    }
    if !flags.isEmpty { text += ", " + flags.joined(separator: ", ") }
    if node.isCut { text += cutText(node.bytes.count, of: node.statedByteCount) }
    let regions = node.regions.map { region -> Self in
      let memory = region.memory
      return Self(
        region, "memory range",
        memory.map {
          "memory \($0.lowerBound) to \(PhysicalAddress($0.upperBound.rawValue - 1)), "
            + byteCountText($0.byteCount)
        } ?? "no memory")
    }
    let mappings = node.mappings.map { mapping -> Self in
      let target =
        types[mapping.outputOffset].map { "the \($0.mnemonic)" } ?? (isWhole ? "no node" : "a node")
      let to = "\(target) at byte \(mapping.outputOffset)"
      let last = UInt64(mapping.outputBase) + mapping.inputEnd - UInt64(mapping.inputBase)
      return Self(
        mapping, "ID mapping",
        mapping.isSingle
          ? "its own number is \(hexadecimal(mapping.outputBase)) of \(to)"
          : "\(hexadecimal(mapping.inputBase)) to \(hexadecimal(mapping.inputEnd)) are "
            + "\(hexadecimal(mapping.outputBase)) to \(hexadecimal(last)) of \(to)")
    }
    self.init(
      node, node.type.mnemonic, text, values: values, parts: regions + mappings)
  }
}
