import FoundationEssentials
import IOMMUFormats

/// One recorded case: a unit, what lies in memory, and what software and devices do then.
///
/// One JSON object per line; quantities of 64 bits are hexadecimal strings.
struct VTdCase: Decodable {
  /// A number written as `"0x1f"`.
  struct Hexadecimal: Decodable {
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
  struct Bytes: Decodable {
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
  struct Run: Decodable {
    var address: Hexadecimal
    var bytes: Bytes

    init(from decoder: any Decoder) throws {
      var container = try decoder.unkeyedContainer()
      address = try container.decode(Hexadecimal.self)
      bytes = try container.decode(Bytes.self)
    }
  }

  struct Configuration: Decodable {
    var addressWidth: Int
    /// Whether the unit has first-stage tables; the older of the case formats does not say.
    var hasFirstStage: Bool?
    enum CodingKeys: String, CodingKey {
      case addressWidth = "aw_bits"
      case hasFirstStage = "flts"
    }
  }

  struct Registers: Decodable {
    var rootTableAddress: Hexadecimal
    var translates: Int
    var queueAddress: Hexadecimal?
    enum CodingKeys: String, CodingKey {
      case rootTableAddress = "RTADDR"
      case translates = "TE"
      case queueAddress = "IQA"
    }
  }

  /// The registers of an invalidation command, as written.
  struct Command: Decodable {
    var context: Hexadecimal?
    var address: Hexadecimal?
    var iotlb: Hexadecimal?
    enum CodingKeys: String, CodingKey {
      case context = "CCMD"
      case address = "IVA"
      case iotlb = "IOTLB"
    }
  }

  struct Operation: Decodable {
    var op: String
    var sid: Hexadecimal?
    var iova: Hexadecimal?
    var size: UInt64?
    var write: Bool?
    var keep: Bool?
    var pasid: UInt32?
    var pa: Hexadecimal?
    var hex: Bytes?
    var len: Int?
    var regs: Command?
    var desc: [Hexadecimal]?
    var rtaddr: Hexadecimal?
    var on: Bool?
  }

  var id: String
  var config: Configuration
  var cap: Hexadecimal
  var ecap: Hexadecimal
  var memory: [Run]
  var registers: Registers
  var ops: [Operation]
}
