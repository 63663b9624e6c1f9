/// A structure of a firmware table as it lies there: its bytes, and one list of what they are.
///
/// The `fields` list names every bit of the structure's fixed part once, counted from its first byte on;
/// accessors, printing, JSON and the reserved-bit check read it.
public protocol FirmwareStructure: Sendable, Hashable {
  /// Bytes from the table's start.
  var offset: Int { get }
  /// All of the structure.
  var bytes: [UInt8] { get }
  /// Every bit of the fixed part, once, ascending.
  var fields: [BitField] { get }
}

extension FirmwareStructure {
  /// The value of one field; bits behind the structure's end are zero.
  public subscript(field: BitField) -> UInt64 {
    let start = field.quadwordIndex * 8
    var word: UInt64 = 0
    for index in 0..<8 where start + index < bytes.count {
      word |= UInt64(bytes[start + index]) << UInt64(8 * index)
    }
    return word >> field.shift & field.valueMask
  }

  /// The reserved fields that are not zero.
  public var reservedViolations: [BitField] {
    fields.filter { $0.use == .reserved && self[$0] != 0 }
  }

  /// What is wrong with the bits that no structure of this kind may set.
  func reservedFindings(_ name: String) -> [ACPI.Finding] {
    reservedViolations.map { field in
      ACPI.Finding(
        offset: offset,
        text:
          "\(name): reserved bits \(field.bits.lowerBound) to \(field.bits.upperBound) are not zero"
      )
    }
  }

  /// ASCII from a byte on, up to a zero or `count` bytes; other bytes as a replacement character.
  func text(at start: Int, count: Int = .max) -> String {
    let bytes = bytes.dropFirst(start).prefix(count).prefix { $0 != 0 }
    return String(decoding: bytes.map { $0 < 0x80 ? $0 : 0xff }, as: UTF8.self)
  }
}

extension ACPI {
  /// Something in a table that its specification does not allow, or that keeps the rest from being read.
  public struct Finding: Sendable, Hashable, CustomStringConvertible {
    /// Bytes from the table's start.
    public var offset: Int
    /// What is wrong, in a sentence.
    public var text: String

    public var description: String { "at byte \(hexadecimal(offset)): \(text)" }
  }

  /// A table as far as it is there: its header, and why its end was not read.
  struct TableExtent {
    let header: TableHeader
    /// What the header states.
    let statedByteCount: Int
    /// The header's checksum.
    let checksum: UInt8
    /// Where the table, or what there is of it, ends.
    let end: Int
    /// The file ends before the table does.
    let cut: TableError?

    /// - Throws: ``TableError`` when there is no table of this kind at all, or one whose bytes do not add
    ///   up to zero. Those of a table that is cut off cannot be added up.
    init(
      _ bytes: [UInt8], signature: String, ignoringChecksum: Bool
    ) throws(TableError) {
      do {
        (header, end) = try TableHeader.parse(
          bytes, signature: signature, ignoringChecksum: ignoringChecksum)
        (statedByteCount, cut) = (end, nil)
      } catch {
        guard case .length(let stated, let available) = error,
          stated > UInt32(available), available >= TableHeader.byteCount
        else { throw error }
        header = TableHeader(fieldsOf: bytes)
        statedByteCount = Int(stated)
        end = available
        cut = error
      }
      checksum = bytes[9]
    }
  }
}

extension ACPI.TableHeader {
  /// A table of a later revision has what is known of the earlier one, and perhaps more.
  func notes(knownRevision: UInt8) -> [ACPI.Finding] {
    guard revision > knownRevision else { return [] }
    return [
      ACPI.Finding(
        offset: 8,
        text:
          "revision \(revision); what revision \(knownRevision) has is read, and what is newer is "
          + "skipped")
    ]
  }
}
