import FoundationEssentials
import IOMMUFormats

/// What is wrong with a case: `ops[3].pa: is missing`.
package struct CaseError: Error, CustomStringConvertible {
  package var description: String
  init(_ text: String) { description = text }

  /// What a decoder says, with the place first.
  init(_ error: DecodingError) {
    switch error {
    case .keyNotFound(let key, let context):
      self.init("\(Self.path(context.codingPath + [key])): is missing")
    case .typeMismatch(_, let context), .valueNotFound(_, let context),
      .dataCorrupted(let context):
      self.init("\(Self.path(context.codingPath)): \(context.debugDescription)")
    @unknown default: self.init("is no case: \(error)")
    }
  }

  /// `ops[3].pa`, or the whole line.
  private static func path(_ keys: [any CodingKey]) -> String {
    keys.isEmpty
      ? "the line"
      : keys.reduce(into: "") { text, key in
        if let index = key.intValue {
          text += "[\(index)]"
        } else {
          text += (text.isEmpty ? "" : ".") + key.stringValue
        }
      }
  }
}

/// Answers recorded cases of one kind of unit, each on a unit and a memory of its own.
package protocol CaseConformance {
  associatedtype Answers: Encodable

  /// The answers to a case, one for each of its operations.
  ///
  /// - Parameter json: One JSON object.
  func answers(to json: UnsafeRawBufferPointer) throws(CaseError) -> Answers
}

extension CaseConformance {
  /// Reads a case and has it answered.
  func answers<Case: Decodable>(
    to json: UnsafeRawBufferPointer, with decoder: JSONDecoder, _ answer: (Case) throws -> Answers
  ) throws(CaseError) -> Answers {
    do {
      // Safe: the bytes are copied.
      let json = unsafe Data(json)
      return try answer(try decoder.decode(Case.self, from: json))
    } catch let error as CaseError {
      throw error
    } catch let error as DecodingError {
      throw CaseError(error)
    } catch {
      throw CaseError("\(error)")
    }
  }
}

/// A number written as `"0x1f"`.
struct CaseNumber: Decodable {
  var value: UInt64

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard text.hasPrefix("0x"), let value = Notation.printed(text) else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "is no hexadecimal number of 64 bits with 0x")
    }
    self.value = value
  }
}

/// Bytes written as `"0bad"`, in memory order.
struct CaseBytes: Decodable {
  var bytes: [UInt8]

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let bytes = Self.parse(try container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "is no run of bytes in hexadecimal")
    }
    self.bytes = bytes
  }

  private static func parse(_ text: String) -> [UInt8]? {
    var bytes: [UInt8] = []
    var high: Int?
    for character in text.utf8 {
      guard let digit = hexadecimalDigit(character) else { return nil }
      if let first = high {
        bytes.append(UInt8(first << 4 | digit))
        high = nil
      } else {
        high = digit
      }
    }
    return high == nil ? bytes : nil
  }
}

/// A run of memory, written as a pair of address and bytes.
struct CaseRun: Decodable {
  var address: CaseNumber
  var bytes: CaseBytes

  init(from decoder: any Decoder) throws {
    var container = try decoder.unkeyedContainer()
    address = try container.decode(CaseNumber.self)
    bytes = try container.decode(CaseBytes.self)
  }
}

extension Optional {
  /// The value; an error naming the field when there is none.
  func required(_ field: String) throws(CaseError) -> Wrapped {
    guard let self else { throw CaseError("\(field): is missing") }
    return self
  }
}

/// The RAM that cases run on: 0 to 2 GiB and 4 to 8 GiB, zero where a case says nothing.
final class CaseMemory {
  let memory: FlatMemory
  /// Pages that a case has stored to: zero again before the next one.
  private var storedPages: Set<UInt64> = []
  /// Pages that the process has for the memory, roughly.
  private var residentPageCount = 0

  init() throws(MemoryError) {
    memory = try FlatMemory(ram: [
      PhysicalAddress(0)..<PhysicalAddress(2 << 30),
      PhysicalAddress(4 << 30)..<PhysicalAddress(8 << 30),
    ])
  }

  /// All zero, as before the first case.
  func clear() {
    residentPageCount += storedPages.count
    if residentPageCount > 1 << 16 {
      // Long runs are given back to the system.
      for range in memory.ram { memory.zero(at: range.lowerBound, byteCount: range.byteCount) }
      residentPageCount = 0
    } else {
      for page in storedPages {
        let start = PhysicalAddress(page << 12)
        if memory.isBacked(start, byteCount: 4096) { memory.zero(at: start, byteCount: 4096) }
      }
    }
    storedPages.removeAll(keepingCapacity: true)
  }

  /// What memory holds, in hexadecimal and its own order.
  func text(at place: UInt64, byteCount: Int) throws(CaseError) -> String {
    guard 1...4096 ~= byteCount else { throw CaseError("len: \(byteCount) is not 1 to 4096") }
    let address = PhysicalAddress(place)
    guard let bytes = memory.bytes(at: address, count: byteCount) else {
      throw CaseError("pa: no memory answers at \(address)")
    }
    return bytes.map { hexadecimal($0, digits: 2) }.joined()
  }

  /// Bytes past the end of RAM go nowhere.
  func store(_ bytes: [UInt8], at address: UInt64) {
    var done = 0
    while done < bytes.count {
      let (place, overflow) = address.addingReportingOverflow(UInt64(done))
      guard !overflow else { return }
      storedPages.insert(place >> 12)
      let length = min(bytes.count - done, Int(4096 - place % 4096))
      memory.write(Array(bytes[done..<(done + length)]), at: PhysicalAddress(place))
      done += length
    }
  }
}
