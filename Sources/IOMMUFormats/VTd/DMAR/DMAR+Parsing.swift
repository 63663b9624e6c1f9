extension VTd.DMAR {
  /// Why bytes are no DMAR table, with the byte offset from the table's start.
  public enum ParsingError: Error, Equatable, CustomStringConvertible {
    /// What is wrong with any table.
    case table(ACPI.TableError)
    /// The table ends before its first structure could start.
    case headerCutOff(byteCount: Int)
    /// Fewer bytes are left than type and length take.
    case structureCutOff(offset: Int, byteCount: Int)
    /// The structure's length is less than its fixed part.
    case structureTooShort(offset: Int, StructureType, stated: Int, least: Int)
    /// The structure's length passes the end of the table.
    case structureTooLong(offset: Int, StructureType, stated: Int, left: Int)
    /// A structure of fixed length has another one.
    case structureLength(offset: Int, StructureType, stated: Int, expected: Int)
    /// Bytes at a structure's end that are less than a device scope.
    case scopeCutOff(offset: Int, byteCount: Int)
    /// The scope's length is not six bytes and two for each step, with at least one step.
    case scopeLength(offset: Int, stated: Int)
    /// The scope's length passes the end of its structure.
    case scopeTooLong(offset: Int, stated: Int, left: Int)

    public var description: String {
      switch self {
      case .table(let error): "\(error)"
      case .headerCutOff(let byteCount):
        "at byte 0x4: a length of \(byteCount) bytes is less than the header's "
          + "\(VTd.DMAR.headerByteCount); the table is damaged, copy it again"
      case .structureCutOff(let offset, let byteCount):
        "at byte \(hexadecimal(offset)): \(byteCount) bytes where a structure should start; "
          + "the table's length or the structure before is wrong"
      case .structureTooShort(let offset, let type, let stated, let least):
        "at byte \(hexadecimal(offset)): \(type.mnemonic) with a length of \(stated) bytes, and "
          + "it has at least \(least); the firmware or the copy is broken"
      case .structureTooLong(let offset, let type, let stated, let left):
        "at byte \(hexadecimal(offset)): \(type.mnemonic) with a length of \(stated) bytes, and "
          + "the table has \(left) left; the firmware or the copy is broken"
      case .structureLength(let offset, let type, let stated, let expected):
        "at byte \(hexadecimal(offset)): \(type.mnemonic) with a length of \(stated) bytes, and "
          + "it has \(expected); the firmware or the copy is broken"
      case .scopeCutOff(let offset, let byteCount):
        "at byte \(hexadecimal(offset)): \(byteCount) bytes where a device scope of at least 8 "
          + "should start; the structure's length is wrong"
      case .scopeLength(let offset, let stated):
        "at byte \(hexadecimal(offset)): device scope with a length of \(stated) bytes, and it has "
          + "6 and 2 for each step of its path; the firmware or the copy is broken"
      case .scopeTooLong(let offset, let stated, let left):
        "at byte \(hexadecimal(offset)): device scope with a length of \(stated) bytes, and its "
          + "structure has \(left) left; the firmware or the copy is broken"
      }
    }
  }

  /// Reads a table.
  ///
  /// Everything whose length makes sense is taken as it stands; ``findings`` tells what firmware
  /// should not have written. Bytes after the table's stated length are not looked at.
  ///
  /// - Parameters:
  ///   - bytes: The table from its signature on; what follows its end is not looked at.
  ///   - ignoringChecksum: Reads a table whose bytes do not add up to zero.
  /// - Throws: ``ParsingError`` with the offset of the first byte that makes no sense.
  /// - Complexity: O(bytes).
  public init(parsing bytes: [UInt8], ignoringChecksum: Bool = false) throws(ParsingError) {
    let reading = try Reading(bytes, ignoringChecksum: ignoringChecksum)
    if let damage = reading.damage { throw damage }
    self = reading.table
  }

  /// A table as far as its bytes make sense, and what ends it.
  public struct Reading: Sendable {
    /// What was read before the ``damage``: the structures, and of one that is damaged, or in which the
    /// table is cut off, the scopes.
    public let table: VTd.DMAR
    /// The first bytes that make no sense; `nil` for a table that is whole.
    public let damage: ParsingError?
    /// Bytes that the header states.
    public let byteCount: Int
    /// The header's checksum.
    public let checksum: UInt8
    /// Bytes from the table's start that were not read, up to its stated end; `nil` for a table that is
    /// whole.
    public let unread: Range<Int>?
    /// Of the last structure, when the table is cut off in it: how many bytes are there, and how many it
    /// states.
    public let cutStructure: (available: Int, stated: Int)?

    /// Reads what can be read.
    ///
    /// - Parameters:
    ///   - bytes: The table from its signature on; what follows its end is not looked at.
    ///   - ignoringChecksum: Reads a table whose bytes do not add up to zero.
    /// - Throws: ``ParsingError`` when not even the header can be read.
    /// - Complexity: O(bytes).
    public init(_ bytes: [UInt8], ignoringChecksum: Bool = false) throws(ParsingError) {
      let extent: ACPI.TableExtent
      do {
        extent = try ACPI.TableExtent(
          bytes, signature: VTd.DMAR.signature, ignoringChecksum: ignoringChecksum)
      } catch {
        throw .table(error)
      }
      guard extent.end >= VTd.DMAR.headerByteCount else {
        throw extent.cut.map { .table($0) } ?? .headerCutOff(byteCount: extent.end)
      }
      byteCount = extent.statedByteCount
      checksum = extent.checksum
      let reader = LittleEndianBytes(bytes)
      var table = VTd.DMAR(
        header: extent.header,
        platform: Platform(
          rawValue: reader.integer(at: VTd.DMAR.platformOffset, as: UInt64.self)),
        structures: [])
      table.reserved = reader.integer(at: 44, as: UInt32.self)
      var damage: ParsingError?
      var cut: (available: Int, stated: Int)?
      var offset = VTd.DMAR.headerByteCount
      do throws(ParsingError) {
        while offset < extent.end, damage == nil {
          var structure = try StructureReader(
            reader, at: offset, end: extent.end, statedEnd: extent.statedByteCount)
          table.structures.append(try structure.structure())
          damage = structure.damage
          if structure.isCut { cut = (structure.available, structure.byteCount) }
          // At least four: so the loop ends.
          offset += structure.byteCount
        }
      } catch {
        damage = error
      }
      self.table = table
      self.damage = damage ?? extent.cut.map { .table($0) }
      cutStructure = cut
      let readEnd = table.structures.reduce(VTd.DMAR.headerByteCount) { $0 + $1.byteCount }
      unread =
        self.damage == nil
        ? nil : min(readEnd, extent.statedByteCount)..<extent.statedByteCount
    }
  }
}

/// One structure's bytes.
private struct StructureReader {
  typealias ParsingError = VTd.DMAR.ParsingError

  let reader: LittleEndianBytes
  let offset: Int
  let type: VTd.DMAR.StructureType
  let byteCount: Int
  /// Bytes of it that are there.
  let available: Int
  /// What is wrong with its scopes.
  private(set) var damage: ParsingError?

  /// - Parameters:
  ///   - end: Where the bytes end.
  ///   - statedEnd: Where the table should end.
  init(
    _ reader: LittleEndianBytes, at offset: Int, end: Int, statedEnd: Int
  ) throws(ParsingError) {
    self.reader = reader
    self.offset = offset
    let cut = ParsingError.table(
      .length(stated: UInt32(statedEnd), available: end))
    let left = statedEnd - offset
    guard end - offset >= 4 else {
      throw end < statedEnd ? cut : .structureCutOff(offset: offset, byteCount: left)
    }
    type = VTd.DMAR.StructureType(rawValue: reader.integer(at: offset, as: UInt16.self))
    byteCount = Int(reader.integer(at: offset + 2, as: UInt16.self))
    let least =
      switch type {
      case .hardwareUnit: 16
      case .reservedMemory: 24
      case .hardwareAffinity: 20
      case .rootPortATS, .namespaceDevice, .integratedATC, .integratedProperties: 8
      default: 4
      }
    guard byteCount >= least else {
      throw .structureTooShort(offset: offset, type, stated: byteCount, least: least)
    }
    guard byteCount <= left else {
      throw .structureTooLong(offset: offset, type, stated: byteCount, left: left)
    }
    available = min(byteCount, end - offset)
    // Half a name is another name.
    guard available >= least, type != .namespaceDevice || available == byteCount else { throw cut }
  }

  /// The table is cut off inside of it.
  var isCut: Bool { available < byteCount }

  private func address(at place: Int) -> PhysicalAddress {
    PhysicalAddress(reader.integer(at: offset + place, as: UInt64.self))
  }

  /// The structure, with its scopes up to the first that makes no sense.
  mutating func structure() throws(ParsingError) -> VTd.DMAR.Structure {
    guard type.rawValue <= VTd.DMAR.StructureType.integratedProperties.rawValue else {
      return .unknown(
        .init(type: type, body: Array(reader.bytes[(offset + 4)..<(offset + available)])))
    }
    var header = VTd.DMAR.StructureHeader(
      rawValue: reader.integer(at: offset, as: UInt64.self))
    // The length follows from what the structure holds.
    header[VTd.DMAR.StructureHeader.length] = 0
    switch type {
    case .hardwareUnit:
      return .hardwareUnit(
        .init(header: header, base: address(at: 8), scopes: scopes(from: 16)))
    case .reservedMemory:
      return .reservedMemory(
        .init(
          header: header, base: address(at: 8), limit: address(at: 16), scopes: scopes(from: 24)
        ))
    case .rootPortATS:
      return .rootPortATS(.init(header: header, scopes: scopes(from: 8)))
    case .hardwareAffinity:
      guard byteCount == 20 else {
        throw .structureLength(offset: offset, type, stated: byteCount, expected: 20)
      }
      return .hardwareAffinity(
        .init(
          header: header, base: address(at: 8),
          proximityDomain: reader.integer(at: offset + 16, as: UInt32.self)))
    case .namespaceDevice:
      return .namespaceDevice(
        .init(header: header, nameBytes: Array(reader.bytes[(offset + 8)..<(offset + byteCount)])))
    case .integratedATC:
      return .integratedATC(.init(header: header, scopes: scopes(from: 8)))
    default:
      return .integratedProperties(.init(header: header, scopes: scopes(from: 8)))
    }
  }

  /// The device scopes that fill the structure from byte `start` on, as far as they are there.
  private mutating func scopes(from start: Int) -> [VTd.DMAR.DeviceScope] {
    var scopes: [VTd.DMAR.DeviceScope] = []
    var place = offset + start
    let end = offset + byteCount
    while place < end {
      let left = end - place
      guard left >= 8 else {
        damage = .scopeCutOff(offset: place, byteCount: left)
        break
      }
      let there = offset + available - place
      guard there >= 8 else { break }
      let length = Int(reader.bytes[place + 1])
      guard length >= 8, length % 2 == 0 else {
        damage = .scopeLength(offset: place, stated: length)
        break
      }
      guard length <= left else {
        damage = .scopeTooLong(offset: place, stated: length, left: left)
        break
      }
      guard length <= there else { break }
      scopes.append(
        VTd.DMAR.DeviceScope(
          header: .init(rawValue: reader.integer(at: place, as: UInt64.self)),
          furtherSteps: stride(from: place + 8, to: place + length, by: 2).map {
            VTd.DMAR.PathStep(device: reader.bytes[$0], function: reader.bytes[$0 + 1])
          }))
      place += length
    }
    return scopes
  }
}
