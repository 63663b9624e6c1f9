/// Tables that firmware hands to the kernel.
public enum ACPI {}

extension ACPI {
  /// The 36 bytes that every system description table starts with, but for length and checksum,
  /// which follow from the rest of the table.
  ///
  /// Specification: ACPI 5.2.6.
  public struct TableHeader: Sendable, Hashable {
    /// Bytes of a header.
    public static let byteCount = 36

    /// The revision of the table's layout.
    public var revision: UInt8
    /// Six bytes, padded with spaces or zeros.
    public var oemID: [UInt8]
    /// Eight bytes.
    public var oemTableID: [UInt8]
    /// The vendor's number for the table.
    public var oemRevision: UInt32
    /// Four bytes: who made the tool that made the table.
    public var creatorID: [UInt8]
    /// The revision of the tool that made the table.
    public var creatorRevision: UInt32

    /// - Precondition: the texts are ASCII of at most six, eight and four characters.
    public init(
      revision: UInt8, oemID: String, oemTableID: String, oemRevision: UInt32 = 1,
      creatorID: String, creatorRevision: UInt32 = 1
    ) {
      self.revision = revision
      self.oemID = Self.field(oemID, byteCount: 6)
      self.oemTableID = Self.field(oemTableID, byteCount: 8)
      self.oemRevision = oemRevision
      self.creatorID = Self.field(creatorID, byteCount: 4)
      self.creatorRevision = creatorRevision
    }

    private static func field(_ text: String, byteCount: Int) -> [UInt8] {
      let bytes = Array(text.utf8)
      precondition(
        bytes.count <= byteCount && bytes.allSatisfy { $0 < 0x80 },
        "an identifier of an ACPI table is short and of ASCII")
      return bytes + [UInt8](repeating: 0x20, count: byteCount - bytes.count)
    }

    /// The length that a table's first eight bytes state, in bytes; nothing is checked.
    ///
    /// For whoever has to know how much to read before there is a table to parse.
    ///
    /// - Returns: `nil` when memory does not hold the header.
    public static func statedByteCount(
      at address: PhysicalAddress, in memory: some PhysicalMemory
    ) -> Int? {
      memory.bytes(at: address, count: byteCount).map { Int(length(in: LittleEndianBytes($0))) }
    }

    private static func length(in header: LittleEndianBytes) -> UInt32 {
      header.integer(at: 4, as: UInt32.self)
    }

    /// Reads a table's header and checks what all tables have in common.
    ///
    /// Bytes after the table's stated length do not belong to it and are not looked at.
    ///
    /// - Parameters:
    ///   - bytes: The table from its first byte on.
    ///   - signature: The four characters that the table must start with.
    ///   - ignoringChecksum: Reads a table whose bytes do not add up to zero.
    /// - Returns: The header and the table's length in bytes, at least 36, at most `bytes.count`.
    public static func parse(
      _ bytes: [UInt8], signature: String, ignoringChecksum: Bool
    ) throws(TableError) -> (header: TableHeader, byteCount: Int) {
      guard bytes.count >= byteCount else {
        throw .tooShort(signature: signature, byteCount: bytes.count)
      }
      guard Array(signature.utf8) == Array(bytes[0..<4]) else {
        throw .signature(expected: signature, found: Array(bytes[0..<4]))
      }
      let reader = LittleEndianBytes(bytes)
      let stated = length(in: reader)
      guard let length = Int(exactly: stated), byteCount...bytes.count ~= length else {
        throw .length(stated: stated, available: bytes.count)
      }
      let sum = bytes[..<length].reduce(0, &+)
      guard sum == 0 || ignoringChecksum else {
        throw .checksum(stated: bytes[9], right: bytes[9] &- sum)
      }
      return (TableHeader(fieldsOf: bytes), length)
    }

    /// What 36 bytes say; nothing is checked.
    init(fieldsOf bytes: [UInt8]) {
      let reader = LittleEndianBytes(bytes)
      revision = bytes[8]
      oemID = Array(bytes[10..<16])
      oemTableID = Array(bytes[16..<24])
      oemRevision = reader.integer(at: 24, as: UInt32.self)
      creatorID = Array(bytes[28..<32])
      creatorRevision = reader.integer(at: 32, as: UInt32.self)
    }

    /// The whole table: this header, then `body`, with length and checksum as they must be.
    public func table(signature: String, body: [UInt8]) -> [UInt8] {
      var bytes = Array(signature.utf8)
      bytes.append(littleEndian: UInt32(Self.byteCount + body.count))
      bytes += [revision, 0] + oemID + oemTableID
      bytes.append(littleEndian: oemRevision)
      bytes += creatorID
      bytes.append(littleEndian: creatorRevision)
      bytes += body
      bytes[9] = 0 &- bytes.reduce(0, &+)
      return bytes
    }
  }

  /// Why bytes are no ACPI table of the kind that is wanted.
  public enum TableError: Error, Equatable, CustomStringConvertible {
    /// There are fewer bytes than a header has.
    case tooShort(signature: String, byteCount: Int)
    /// The table is another one.
    case signature(expected: String, found: [UInt8])
    /// The header states a length that cannot be.
    case length(stated: UInt32, available: Int)
    /// The bytes do not add up to zero.
    case checksum(stated: UInt8, right: UInt8)

    public var description: String {
      switch self {
      case .tooShort(let signature, let byteCount):
        return "\(byteCount) bytes are no \(signature) table: its header has "
          + "\(TableHeader.byteCount) bytes; the file is cut off, or of another kind"
      case .signature(let expected, let found):
        let text = found.map { 0x20...0x7e ~= $0 ? String(UnicodeScalar($0)) : "." }.joined()
        return "at byte 0x0: signature '\(text)' instead of '\(expected)'; "
          + "give the binary table, as in /sys/firmware/acpi/tables/\(expected)"
      case .length(let stated, let available):
        return stated < UInt32(TableHeader.byteCount)
          ? "at byte 0x4: a length of \(stated) bytes is less than the header's "
            + "\(TableHeader.byteCount); the table is damaged, copy it again"
          : "at byte 0x4: a length of \(stated) bytes, and only \(available) are there; "
            + "the table is cut off, copy it again"
      case .checksum(let stated, let right):
        return "at byte 0x9: checksum \(hexadecimal(stated)), and \(hexadecimal(right)) would "
          + "make the sum of all bytes zero; copy the table again, or ignore the checksum"
      }
    }
  }
}

/// Bytes read as little-endian integers. Every caller has checked that they are there.
struct LittleEndianBytes {
  let bytes: [UInt8]
  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func integer<Word: FixedWidthInteger & UnsignedInteger>(at offset: Int, as _: Word.Type) -> Word {
    bytes[offset..<(offset + Word.bitWidth / 8)].reversed().reduce(0) { $0 << 8 | Word($1) }
  }
}

extension [UInt8] {
  /// Appends an integer, least significant byte first.
  mutating func append<Word: FixedWidthInteger & UnsignedInteger>(littleEndian word: Word) {
    for shift in stride(from: 0, to: Word.bitWidth, by: 8) {
      append(UInt8(truncatingIfNeeded: word >> Word(shift)))
    }
  }
}
