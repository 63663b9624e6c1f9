extension AMDVi.IVRS {
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
      throw extent.cut
        ?? .tooShort(signature: Self.signature, byteCount: extent.end)
    }
    header = extent.header
    byteCount = extent.statedByteCount
    checksum = extent.checksum
    info = Info(bytes: Array(bytes[ACPI.TableHeader.byteCount..<Self.headerByteCount]))
    var reader = BlockReader(bytes: bytes, extent: extent)
    reader.read()
    blocks = reader.blocks
    damage = reader.damage + (extent.cut.map { [$0.finding] } ?? [])
  }
}

extension ACPI.TableError {
  /// The complaint about a table that is cut off, for a list of complaints.
  var finding: ACPI.Finding {
    let text = "\(self)"
    // Its sentence begins with the place.
    return ACPI.Finding(offset: 4, text: String(text.trimmingPrefix("at byte 0x4: ")))
  }
}

/// Goes along the blocks of a table, up to the first that makes no sense.
private struct BlockReader {
  typealias IVRS = AMDVi.IVRS

  let bytes: [UInt8]
  let extent: ACPI.TableExtent
  var blocks: [IVRS.Block] = []
  var damage: [ACPI.Finding] = []

  init(bytes: [UInt8], extent: ACPI.TableExtent) {
    self.bytes = bytes
    self.extent = extent
  }

  private mutating func complain(_ offset: Int, _ text: String) {
    damage.append(ACPI.Finding(offset: offset, text: text))
  }

  mutating func read() {
    var offset = IVRS.headerByteCount
    while offset < extent.statedByteCount, damage.isEmpty {
      // What a cut takes away is told once.
      guard extent.end - offset >= 4 else {
        if extent.cut == nil {
          complain(
            offset,
            "\(extent.end - offset) bytes where a block should start; the table's length or the block "
              + "before is wrong")
        }
        return
      }
      let type = IVRS.BlockType(rawValue: bytes[offset])
      let length = Int(LittleEndianBytes(bytes).integer(at: offset + 2, as: UInt16.self))
      guard length >= type.fixedByteCount else {
        complain(
          offset,
          "\(type.mnemonic) with a length of \(length) bytes, and it has at least "
            + "\(type.fixedByteCount); the firmware or the copy is broken")
        return
      }
      guard length <= extent.statedByteCount - offset else {
        complain(
          offset,
          "\(type.mnemonic) with a length of \(length) bytes, and the table has "
            + "\(extent.statedByteCount - offset) left; the firmware or the copy is broken")
        return
      }
      let there = min(length, extent.end - offset)
      guard there >= type.fixedByteCount else { return }
      var block = IVRS.Block(offset: offset, bytes: Array(bytes[offset..<offset + there]))
      if type.isUnit { block.entries = entries(of: block) }
      blocks.append(block)
      // At least four: so the loop ends.
      offset += length
    }
  }

  /// The entries behind a unit's fixed part, up to the first that makes no sense or is not all there.
  private mutating func entries(of block: IVRS.Block) -> [IVRS.DeviceEntry] {
    var entries: [IVRS.DeviceEntry] = []
    var place = block.type.fixedByteCount
    while place < block.bytes.count {
      let left = block.statedByteCount - place
      let there = block.bytes.count - place
      let type = IVRS.EntryType(rawValue: block.bytes[place])
      let name = "device entry of type \(hexadecimal(type.rawValue, digits: 2))h"
      var length = type.byteCount
      if type == .acpiDevice, left >= IVRS.DeviceEntry.acpiByteCount {
        guard there >= IVRS.DeviceEntry.acpiByteCount else { break }
        length = IVRS.DeviceEntry.acpiByteCount + Int(block.bytes[place + 21])
      }
      guard let length else {
        complain(
          block.offset + place,
          type == .acpiDevice
            ? "\(name) in \(left) bytes, and it has at least \(IVRS.DeviceEntry.acpiByteCount); the "
              + "firmware or the copy is broken"
            : "\(name), whose length is not known; entries behind it are not read")
        break
      }
      guard length <= left else {
        complain(
          block.offset + place,
          "\(name) of \(length) bytes, and its block has \(left) left; the firmware or the copy is "
            + "broken")
        break
      }
      guard length <= there else { break }
      entries.append(
        IVRS.DeviceEntry(
          offset: block.offset + place, bytes: Array(block.bytes[place..<place + length])))
      place += length
    }
    return entries
  }
}
