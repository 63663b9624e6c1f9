/// One recorded case: a unit, what lies in memory, and what software and devices do then.
///
/// One JSON object per line; quantities of 64 bits are hexadecimal strings.
struct VTdCase: Decodable {
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
    var rootTableAddress: CaseNumber
    var translates: Int
    var queueAddress: CaseNumber?
    enum CodingKeys: String, CodingKey {
      case rootTableAddress = "RTADDR"
      case translates = "TE"
      case queueAddress = "IQA"
    }
  }

  /// The registers of an invalidation command, as written.
  struct Command: Decodable {
    var context: CaseNumber?
    var address: CaseNumber?
    var iotlb: CaseNumber?
    enum CodingKeys: String, CodingKey {
      case context = "CCMD"
      case address = "IVA"
      case iotlb = "IOTLB"
    }
  }

  struct Operation: Decodable {
    var op: String
    var sid: CaseNumber?
    var iova: CaseNumber?
    var size: UInt64?
    var write: Bool?
    var keep: Bool?
    var pasid: UInt32?
    var pa: CaseNumber?
    var hex: CaseBytes?
    var len: Int?
    var regs: Command?
    var desc: [CaseNumber]?
    var rtaddr: CaseNumber?
    var on: Bool?
  }

  var id: String
  var config: Configuration
  var cap: CaseNumber
  var ecap: CaseNumber
  var memory: [CaseRun]
  var registers: Registers
  var ops: [Operation]
}
