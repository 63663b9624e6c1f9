/// One case: a unit as its registers stand, what lies in memory, and what software and devices do then.
///
/// One JSON object per line; quantities of 64 bits are hexadecimal strings.
struct AMDViCase: Decodable {
  struct Operation: Decodable {
    var op: String
    var device: CaseNumber?
    var iova: CaseNumber?
    var size: UInt64?
    var write: Bool?
    var pasid: UInt32?
    var privileged: Bool?
    var execute: Bool?
    var pa: CaseNumber?
    var hex: CaseBytes?
    var len: Int?
  }

  var id: String
  /// The header of the unit's capability block.
  var capability: CaseNumber
  var memory: [CaseRun]
  /// Offset to value, as in a machine file.
  var registers: [String: CaseNumber]
  var ops: [Operation]
}

/// The answers to one case, one per operation.
package struct AMDViAnswers: Encodable {
  package var id: String
  package var answers: [AMDViAnswer?]
}

/// What became of a transfer, or what memory holds.
package struct AMDViAnswer: Encodable {
  /// What became of one of the requests that a transfer is split into at 4 KiB boundaries.
  package struct Part: Encodable {
    package var off: UInt64
    package var len: UInt64
    /// `ok`, `fault` or `irq`.
    package var r: String
    package var pa: String?
    /// How far the answer holds, at least.
    package var bytes: UInt64?
    /// The 16 bytes that were logged; `.some(nil)` for a fault that was not.
    package var event: String??

    enum CodingKeys: String, CodingKey { case off, len, r, pa, bytes, event }

    package func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(off, forKey: .off)
      try container.encode(len, forKey: .len)
      try container.encode(r, forKey: .r)
      try container.encodeIfPresent(pa, forKey: .pa)
      try container.encodeIfPresent(bytes, forKey: .bytes)
      if let event { try container.encode(event, forKey: .event) }
    }
  }

  package var parts: [Part]?
  /// Bytes of memory, in its order.
  package var hex: String?
}
