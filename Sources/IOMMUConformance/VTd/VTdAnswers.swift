/// The answers to one case, one per operation.
package struct VTdAnswers: Encodable {
  package var id: String
  package var answers: [VTdAnswer?]
}

/// What the unit made of one operation. Fields that do not belong to the operation are left out.
package struct VTdAnswer: Encodable {
  /// A fault record as software reads it.
  package struct Record: Encodable {
    package var sid: String
    /// 1 for a read.
    package var t: Int
    package var fr: Int
    package var fi: String
    package var pp: Int
    package var pv: UInt32
  }

  /// What became of one of the requests that a transfer is split into at 4 KiB boundaries.
  package struct Part: Encodable {
    package var off: UInt64
    package var len: UInt64
    package var r: String
    package var pa: String?
    package var fr: Int?
    package var suppressed: String?
  }

  package var r: String?
  package var pa: String?
  package var fr: Int?
  package var suppressed: String?
  package var parts: [Part]?
  /// The record that this probe wrote; `.some(nil)` when it wrote none.
  package var rec: Record??
  package var fsts: UInt64?
  package var granularity: Int?
  package var done: Bool?
  package var hex: String?

  enum CodingKeys: String, CodingKey {
    case r, pa, fr, suppressed, parts, rec, fsts, done, hex
    case granularity = "actual_granularity"
  }

  package func encode(to encoder: any Encoder) throws {
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
