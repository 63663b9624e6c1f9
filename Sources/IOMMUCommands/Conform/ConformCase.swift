import FoundationEssentials
import IOMMUFormats

/// One recorded case: a unit, what lies in memory, and what software and devices do then.
///
/// One JSON object per line; quantities of 64 bits are hexadecimal strings.
struct ConformCase: Decodable {
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

/// The answers to one case, one per operation.
struct ConformAnswers: Encodable {
  var id: String
  var answers: [ConformAnswer?]
}

/// What the unit made of one operation. Fields that do not belong to the operation are left out.
struct ConformAnswer: Encodable {
  /// A fault record as software reads it.
  struct Record: Encodable {
    var sid: String
    /// 1 for a read.
    var t: Int
    var fr: Int
    var fi: String
    var pp: Int
    var pv: UInt32
  }

  /// What became of one of the requests that a transfer is split into at 4 KiB boundaries.
  struct Part: Encodable {
    var off: UInt64
    var len: UInt64
    var r: String
    var pa: String?
    var fr: Int?
    var suppressed: String?
  }

  var r: String?
  var pa: String?
  var fr: Int?
  var suppressed: String?
  var parts: [Part]?
  /// The record that this probe wrote; `.some(nil)` when it wrote none.
  var rec: Record??
  var fsts: UInt64?
  var granularity: Int?
  var done: Bool?
  var hex: String?

  enum CodingKeys: String, CodingKey {
    case r, pa, fr, suppressed, parts, rec, fsts, done, hex
    case granularity = "actual_granularity"
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encodeIfPresent(r, forKey: .r)
    try container.encodeIfPresent(pa, forKey: .pa)
    try container.encodeIfPresent(fr, forKey: .fr)
    try container.encodeIfPresent(suppressed, forKey: .suppressed)
    try container.encodeIfPresent(parts, forKey: .parts)
    if let rec { try container.encode(rec, forKey: .rec) }
    try container.encodeIfPresent(fsts, forKey: .fsts)
    try container.encodeIfPresent(granularity, forKey: .granularity)
    try container.encodeIfPresent(done, forKey: .done)
    try container.encodeIfPresent(hex, forKey: .hex)
  }
}
