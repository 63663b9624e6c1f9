extension ACPI.IORT {
  /// Reads a table as far as its bytes make sense.
  ///
  /// Everything whose length makes sense is taken as it stands; ``damage`` tells why the rest was not
  /// read, ``findings`` what firmware should not have written.
  ///
  /// - Parameters:
  ///   - bytes: The table from its signature on; what follows its end is not looked at.
  ///   - ignoringChecksum: Reads a table whose bytes do not add up to zero.
  /// - Throws: ``ACPI/TableError`` when not even the header can be read.
  /// - Complexity: O(bytes).
  public init(
    parsing bytes: [UInt8], ignoringChecksum: Bool = false
  ) throws(ACPI.TableError) {
    let extent = try ACPI.TableExtent(
      bytes, signature: Self.signature, ignoringChecksum: ignoringChecksum)
    guard extent.end >= Self.headerByteCount else {
      throw extent.cut ?? .tooShort(signature: Self.signature, byteCount: extent.end)
    }
    header = extent.header
    byteCount = extent.statedByteCount
    checksum = extent.checksum
    info = Info(bytes: Array(bytes[ACPI.TableHeader.byteCount..<Self.headerByteCount]))
    var nodes: [Node] = []
    var damage: [ACPI.Finding] = []
    do throws(Damage) {
      try Self.read(bytes, extent, info, into: &nodes)
    } catch {
      if let finding = error.finding { damage.append(finding) }
    }
    self.nodes = nodes
    self.damage = damage + (extent.cut.map { [$0.finding] } ?? [])
  }

  /// What keeps the rest from being read; without a complaint of its own where the table is cut off.
  private struct Damage: Error {
    var finding: ACPI.Finding?

    init(_ offset: Int, _ text: String) { finding = ACPI.Finding(offset: offset, text: text) }
    init() {}
  }

  private static func read(
    _ bytes: [UInt8], _ extent: ACPI.TableExtent, _ info: Info, into nodes: inout [Node]
  ) throws(Damage) {
    var offset = info.nodeOffset
    guard offset >= headerByteCount || info.nodeCount == 0 else {
      throw Damage(40, "nodes from byte \(hexadecimal(offset)) on, inside of the header")
    }
    for number in 0..<info.nodeCount {
      let place = "node \(number + 1) of \(info.nodeCount)"
      guard offset <= extent.statedByteCount - 16 else {
        throw Damage(
          offset,
          "the table ends where \(place) should start; its length or the count of nodes is wrong")
      }
      guard offset <= extent.end - 16 else { throw Damage() }
      let type = NodeType(rawValue: bytes[offset])
      let length = Int(LittleEndianBytes(bytes).integer(at: offset + 1, as: UInt16.self))
      guard length >= type.fixedByteCount else {
        throw Damage(
          offset,
          "\(type.mnemonic), \(place), with a length of \(length) bytes, and it has at least "
            + "\(type.fixedByteCount); the firmware or the copy is broken")
      }
      guard length <= extent.statedByteCount - offset else {
        throw Damage(
          offset,
          "\(type.mnemonic), \(place), with a length of \(length) bytes, and the table has "
            + "\(extent.statedByteCount - offset) left; the firmware or the copy is broken")
      }
      let there = min(length, extent.end - offset)
      guard there >= type.fixedByteCount else { throw Damage() }
      // At least sixteen bytes: so the loop ends.
      nodes.append(Node(offset: offset, bytes: Array(bytes[offset..<offset + there])))
      offset += length
    }
  }

  /// What is worth knowing of a table and no fault of it.
  public var notes: [ACPI.Finding] { header.notes(knownRevision: Self.knownRevision) }

  /// What firmware should not have written, in the order of the table; empty for a good one.
  ///
  /// Specification: Arm DEN 0049 3.
  public var findings: [ACPI.Finding] {
    var findings = info.reservedFindings("header")
    let places = Dictionary(nodes.map { ($0.offset, $0.type) }) { first, _ in first }
    for node in nodes {
      let name = node.type.mnemonic
      func add(_ text: String, at offset: Int) {
        findings.append(ACPI.Finding(offset: offset, text: "\(name): \(text)"))
      }
      findings += node.reservedFindings(name)
      for array in node.cutArrays { add("\(array) past the node's end", at: node.offset) }
      for mapping in node.mappings {
        findings += mapping.reservedFindings("\(name), ID mapping")
        if mapping.inputEnd >> 32 != 0 { add("numbers of more than 32 bits", at: mapping.offset) }
        guard let target = places[mapping.outputOffset] else {
          // Where nodes are missing, so may be the one that is meant.
          if damage.isEmpty {
            add(
              "leads to byte \(hexadecimal(mapping.outputOffset)), where no node starts",
              at: mapping.offset)
          }
          continue
        }
        if ![.itsGroup, .smmu, .smmuV3].contains(target) {
          add("leads to a \(target.mnemonic), which takes no numbers", at: mapping.offset)
        }
      }
      for region in node.regions {
        findings += region.reservedFindings("\(name), memory range")
        if region.memory == nil {
          add("memory without bytes, or past the last address", at: region.offset)
        }
      }
      if node.type == .counters, places[node.watchedOffset] == nil, damage.isEmpty {
        add(
          "counts for byte \(hexadecimal(node.watchedOffset)), where no node starts",
          at: node.offset)
      }
    }
    return findings
  }
}
