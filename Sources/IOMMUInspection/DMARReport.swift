import IOMMUFormats

/// A DMAR table taken apart: every structure and device scope with its offset, and complaints.
///
/// Encoding it gives the same content as the text.
package struct DMARReport: Sendable, Encodable {
  /// A device scope of a structure.
  package struct Scope: Sendable, Encodable {
    /// Bytes from the table's start.
    package var offset: Int
    package var type: String
    /// An I/O APIC's id, an HPET's or an ACPI device's number; `nil` for PCI devices.
    package var number: Int?
    /// `00`, the bus where the path starts, in hexadecimal.
    package var startBus: String
    /// `1c.4`, a step for each bridge and one for the device.
    package var path: [String]
    /// The manual's names.
    package var flags: [String]

    enum CodingKeys: String, CodingKey {
      case offset, type, number, path, flags
      case startBus = "start_bus"
    }
  }

  /// A structure of the table.
  package struct Structure: Sendable, Encodable {
    /// Bytes from the table's start.
    package var offset: Int
    package var byteCount: Int
    /// `DRHD`, or `type 7`.
    package var type: String
    /// What it says, in one line.
    package var meaning: String
    /// Name and value of every number the meaning has, for programs.
    package var values: [String: String]
    package var scopes: [Scope]

    enum CodingKeys: String, CodingKey {
      case offset, type, meaning, values, scopes
      case byteCount = "bytes"
    }
  }

  package var name = "DMAR"
  package var specification = "Intel VT-d 8.1"
  package var byteCount: Int
  package var revision: Int
  package var checksum: String
  package var oemID: String
  package var oemTableID: String
  package var hostAddressWidth: Int
  /// The manual's names of the flags that are set.
  package var flags: [String]
  package var structures: [Structure]
  /// What is worth knowing and no fault of the table.
  package var notes: [String]
  /// What firmware should not have written, and what could not be read; empty for a good table.
  package var violations: [String]

  /// No rule of the manual is broken, and all was read.
  package var isWellFormed: Bool { violations.isEmpty }

  enum CodingKeys: String, CodingKey {
    case name, specification, revision, checksum, flags, structures, notes, violations
    case byteCount = "bytes"
    case oemID = "oem_id"
    case oemTableID = "oem_table_id"
    case hostAddressWidth = "host_address_width"
  }

  /// A table that is whole.
  package init(_ table: VTd.DMAR) {
    let bytes = table.bytes
    self.init(
      table, FirmwareTableHeading(table.header, byteCount: bytes.count, checksum: bytes[9]),
      violations: table.findings.map(\.description))
  }

  /// A table as far as it could be read.
  package init(_ reading: VTd.DMAR.Reading) {
    self.init(
      reading.table,
      FirmwareTableHeading(
        reading.table.header, byteCount: reading.byteCount, checksum: reading.checksum),
      violations: reading.findings.map(\.description) + (reading.damage.map { ["\($0)"] } ?? []))
    if let cut = reading.cutStructure, !structures.isEmpty {
      structures[structures.count - 1].meaning += cutText(cut.available, of: cut.stated)
    }
  }

  private init(_ table: VTd.DMAR, _ heading: FirmwareTableHeading, violations: [String]) {
    byteCount = heading.byteCount
    revision = heading.revision
    checksum = heading.checksum
    oemID = heading.oemID
    oemTableID = heading.oemTableID
    hostAddressWidth = table.platform.hostAddressWidth
    flags = [
      table.platform.remapsInterrupts ? "INTR_REMAP" : nil,
      table.platform.optsOutOfX2APIC ? "X2APIC_OPT_OUT" : nil,
      table.platform.optsIntoDMAProtection ? "DMA_CTRL_PLATFORM_OPT_IN" : nil,
    ].compactMap { $0 }
    structures = table.placedStructures.map { Structure($0.structure, at: $0.offset) }
    notes = table.notes.map(\.description)
    self.violations = violations
  }

  /// Writes the whole description: heading, a line per structure and scope, complaints.
  package func write(to out: inout some TextOutputStream) {
    out.write("\(name)  (\(specification))\n")
    out.write("bytes     \(byteCount), revision \(revision), checksum \(checksum)\n")
    out.write("made by   \(oemID), \(oemTableID)\n")
    out.write("platform  host addresses of \(hostAddressWidth) bits")
    out.write(flags.isEmpty ? "\n\n" : ", \(flags.joined(separator: ", "))\n\n")
    let width = "\(byteCount)".count
    for structure in structures {
      let place = "\(structure.offset)".paddedLeft(to: width)
      out.write(
        "byte \(place)  \(structure.type.padded(to: 4))  "
          + "\(countText(structure.byteCount, "byte")): \(structure.meaning)\n")
      for scope in structure.scopes {
        let place = "\(scope.offset)".paddedLeft(to: width)
        out.write("byte \(place)          \(scope.text)\n")
      }
    }
    writeRemarks(notes: notes, violations: violations, to: &out)
  }
}

extension DMARReport.Structure {
  init(_ structure: VTd.DMAR.Structure, at offset: Int) {
    self.offset = offset
    byteCount = structure.byteCount
    type = structure.type.mnemonic
    scopes = structure.placedScopes.map { DMARReport.Scope($0.scope, at: offset + $0.offset) }
    switch structure {
    case .hardwareUnit(let unit):
      meaning =
        "unit at \(unit.base), \(byteCountText(unit.registerByteCount)) of registers, segment "
        + "\(unit.segment)"
        + (unit.includesAllPCI ? ", all PCI devices that are listed nowhere else" : "")
      values = [
        "base": "\(unit.base)", "register_bytes": "\(unit.registerByteCount)",
        "segment": "\(unit.segment)", "include_pci_all": "\(unit.includesAllPCI)",
      ]
    case .reservedMemory(let region):
      let size = region.memory.map { byteCountText($0.byteCount) } ?? "no region"
      meaning = "memory \(region.base) to \(region.limit), \(size), segment \(region.segment)"
      values = [
        "base": "\(region.base)", "limit": "\(region.limit)", "segment": "\(region.segment)",
      ]
    case .rootPortATS(let ports):
      meaning =
        (ports.meansAllPorts ? "ATS below all root ports" : "ATS below these root ports")
        + " of segment \(ports.segment)"
      values = ["all_ports": "\(ports.meansAllPorts)", "segment": "\(ports.segment)"]
    case .hardwareAffinity(let affinity):
      meaning = "unit at \(affinity.base) is near to memory node \(affinity.proximityDomain)"
      values = [
        "base": "\(affinity.base)", "proximity_domain": "\(affinity.proximityDomain)",
      ]
    case .namespaceDevice(let device):
      meaning = "ACPI device \(device.number) is \(device.name.visible)"
      values = ["number": "\(device.number)", "name": device.name]
    case .integratedATC(let devices):
      meaning =
        "devices of segment \(devices.segment) with a translation cache"
        + (devices.isRequired ? " that they need" : "")
      values = ["atc_required": "\(devices.isRequired)", "segment": "\(devices.segment)"]
    case .integratedProperties(let devices):
      meaning = "properties of devices of segment \(devices.segment)"
      values = ["segment": "\(devices.segment)"]
    case .unknown(let unknown):
      meaning = "a structure of a later revision, skipped"
      values = ["type": "\(unknown.type.rawValue)"]
    }
  }
}

extension DMARReport.Scope {
  init(_ scope: VTd.DMAR.DeviceScope, at offset: Int) {
    self.offset = offset
    type = scope.type.name
    number =
      [.endpoint, .subHierarchy].contains(scope.type) ? nil : Int(scope.enumerationID)
    startBus = hexadecimal(scope.startBus, digits: 2)
    path = scope.path.map {
      "\(hexadecimal($0.device, digits: 2)).\(String($0.function, radix: 16))"
    }
    flags = VTd.DMAR.ScopeFlags.names.filter { scope.flags.contains($0.flag) }.map(\.name)
  }

  /// `endpoint 00:1c.4 -> 00.0 -> 03.1`.
  var text: String {
    let numberText = number.map { " \($0) at" } ?? ""
    return "\(type)\(numberText) \(startBus):\(path.joined(separator: " -> "))"
      + (flags.isEmpty ? "" : ", \(flags.joined(separator: ", "))")
  }
}
