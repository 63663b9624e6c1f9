import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUInspection

// How arguments are read: each function gives the value or the reason why there is none, which the
// parser prints. The grammar itself is ``Notation``.

/// A physical address.
@Sendable func physicalAddress(_ text: String) throws -> PhysicalAddress {
  PhysicalAddress(try reading(text) { try Notation.address($0) })
}

/// A table by its kind and place.
@Sendable func namedTable(_ text: String) throws -> NamedTable {
  try reading(text) { try NamedTable($0) }
}

/// What kinds of tables are called.
var tableNames: String {
  let names = TableName.all.map(\.text)
  return names.dropLast().joined(separator: ", ") + (names.count > 1 ? " or " : "") + names.last!
}

/// A range of physical addresses.
@Sendable func physicalRange(_ text: String) throws -> Range<PhysicalAddress> {
  try reading(text) { try Notation.range($0) }
}

/// A physical address, which is a range of one byte, or a range of them.
@Sendable func physicalPlace(_ text: String) throws -> Range<PhysicalAddress> {
  try reading(text) { text in
    if ["-", "+", "@", "..<"].contains(where: { Notation.halves(text, $0) != nil }) {
      return try Notation.range(text)
    }
    let address = PhysicalAddress(try Notation.address(text))
    guard let range = Range(start: address, byteCount: 1) else {
      throw NotationError("there is no memory at the end of 64 bits")
    }
    return range
  }
}

/// An address that a device puts on the bus.
@Sendable func ioAddress(_ text: String) throws -> IOVA {
  IOVA(try reading(text) { try Notation.address($0) })
}

/// A device.
@Sendable func device(_ text: String) throws -> PCI.Function {
  try reading(text) { text in
    do {
      return try Notation.device(text)
    } catch {
      // No requester's number is as large.
      guard let number = Notation.hexadecimal(utf8: text.utf8), number > 0xffff else { throw error }
      throw NotationError("this is an address; a device, such as 00:1f.2, comes before it")
    }
  }
}

/// A time.
@Sendable func nanoseconds(_ text: String) throws -> Double {
  guard let value = Double(text), value >= 0, value.isFinite else {
    throw NotationError("a latency is a number of nanoseconds, such as 2.5")
  }
  return value
}

/// Reads an argument; where a file of that name is what was given, says what comes first.
private func reading<Value>(
  _ text: String, _ body: (String) throws -> Value
) throws -> Value {
  do {
    return try body(text)
  } catch {
    guard access(text, F_OK) == 0 else { throw error }
    throw NotationError("this is a file; the image comes first, and numbers and devices after it")
  }
}

extension Tool {
  /// Refuses an argument that starts with a sign, which the parser takes for an option.
  ///
  /// - Throws: `ValidationError`; nothing after `--` is looked at.
  static func refuseSigns(in arguments: [String]) throws {
    for argument in arguments.prefix(while: { $0 != "--" }) {
      guard argument.utf8.first == UInt8(ascii: "-"),
        let second = argument.utf8.dropFirst().first,
        UInt8(ascii: "0")...UInt8(ascii: "9") ~= second
      else { continue }
      throw ValidationError(
        "'\(argument)' has a sign: numbers here have none; an address before 0 is written with all "
          + "its bits, such as ffffffffffffffff")
    }
  }
}
