extension ACPI {
  /// The table that tells a kernel on Arm which SMMUs there are, and how the numbers of devices become
  /// those of SMMUs and of interrupt controllers.
  ///
  /// A header of 48 bytes, then nodes of their own lengths, which name each other by their places.
  /// Specification: Arm DEN 0049E.e.
  public struct IORT: Sendable, Hashable {
    /// What every ACPI table has.
    public let header: TableHeader
    /// Bytes that the header states.
    public let byteCount: Int
    /// The header's checksum.
    public let checksum: UInt8
    /// Bytes 36 to 47.
    public let info: Info
    /// In the order of the table, up to where its bytes make no sense.
    public let nodes: [Node]
    /// Why the rest was not read; empty for a table that is whole.
    public let damage: [Finding]

    /// The four characters that the table begins with.
    public static let signature = "IORT"
    /// Bytes before the first node can start.
    public static let headerByteCount = 48
    /// The last revision that is known.
    public static let knownRevision: UInt8 = 6
  }
}

extension ACPI.IORT {
  /// How many nodes there are, and where they start. Specification: Arm DEN 0049 3.
  public struct Info: FirmwareStructure {
    public let bytes: [UInt8]
    public var offset: Int { ACPI.TableHeader.byteCount }

    static let count = BitField(0...31, "Number of IORT Nodes")
    static let start = BitField(32...63, "Offset to Array of IORT Nodes")

    public var fields: [BitField] { [Self.count, Self.start, .reserved(64...95)] }

    /// Nodes that the table states.
    public var nodeCount: Int { Int(self[Self.count]) }
    /// Where the first one starts.
    public var nodeOffset: Int { Int(self[Self.start]) }
  }

  /// What a node is. Open: types of later revisions keep their number.
  @frozen
  public struct NodeType: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// A group of interrupt translation services.
    public static let itsGroup = Self(rawValue: 0)
    /// A device of the ACPI name space.
    public static let namedComponent = Self(rawValue: 1)
    /// A PCI root complex.
    public static let rootComplex = Self(rawValue: 2)
    /// An SMMU of version 1 or 2.
    public static let smmu = Self(rawValue: 3)
    /// An SMMU of version 3.
    public static let smmuV3 = Self(rawValue: 4)
    /// Performance counters of another node.
    public static let counters = Self(rawValue: 5)
    /// Memory that devices use on firmware's behalf.
    public static let reservedMemory = Self(rawValue: 6)

    /// `ITS group`; `type 7` where the manual has none.
    public var mnemonic: String {
      let names = [
        "ITS group", "named component", "root complex", "SMMU", "SMMUv3", "PMCG", "RMR",
      ]
      return names.indices.contains(Int(rawValue)) ? names[Int(rawValue)] : "type \(rawValue)"
    }

    /// Bytes before the first mapping, at least.
    var fixedByteCount: Int {
      switch self {
      case .itsGroup: 20
      case .namedComponent: 30
      case .rootComplex: 33
      case .smmu: 60
      case .smmuV3: 64
      case .counters: 32
      case .reservedMemory: 28
      default: 16
      }
    }
  }

  /// A node: an SMMU, what stands before one, or what stands behind. Specification: Arm DEN 0049 3.1.
  public struct Node: FirmwareStructure {
    public let offset: Int
    /// All of the node, or what is there of one in which the table is cut off.
    public let bytes: [UInt8]

    static let typeField = BitField(0...7, "Type")
    static let length = BitField(8...23, "Length")
    static let revisionField = BitField(24...31, "Revision")
    static let identifier = BitField(32...63, "Identifier")
    static let mappingCount = BitField(64...95, "Number of ID mappings")
    static let mappingOffset = BitField(96...127, "Reference to ID Array")

    // ITS group.
    static let serviceCount = BitField(128...159, "Number of ITSs")
    // SMMU, SMMUv3 and PMCG begin with the address of their registers.
    static let base = BitField(128...191, "Base Address", .address)
    static let span = BitField(192...255, "Span")
    static let smmuModel = BitField(256...287, "Model")
    static let globalInterrupts = BitField(320...351, "Global interrupt array offset")
    static let contextCount = BitField(352...383, "Number of context interrupts")
    static let contextOffset = BitField(384...415, "Context interrupt array offset")
    static let counterCount = BitField(416...447, "Number of PMU Interrupts")
    static let counterOffset = BitField(448...479, "PMU Interrupt array offset")
    static let v3Model = BitField(320...351, "Model")
    static let proximity = BitField(480...511, "Proximity domain")
    static let hasProximity = BitField(195...195, "Proximity Domain Valid")
    // Named component.
    static let componentLimit = BitField(224...231, "Device Memory address size limit")
    static let pasidBits = BitField(129...133, "Substream width")
    // Root complex.
    static let segmentField = BitField(224...255, "PCI Segment number")
    static let rootLimit = BitField(256...263, "Memory address size limit")
    static let ats = BitField(192...192, "ATS supported")
    static let pri = BitField(193...193, "PRI supported")
    static let pasidForward = BitField(194...194, "PASID forward supported")
    // PMCG.
    static let watched = BitField(224...255, "Node Reference")
    // RMR.
    static let regionCount = BitField(160...191, "Number of Memory Range Descriptors")
    static let regionOffset = BitField(192...223, "Reference to Memory Range Descriptors")
    static let attributes = BitField(130...137, "Access Attributes")

    /// CCA, hints and flags of a device's accesses to memory, from a bit on.
    private static func memoryAccess(from bit: Int) -> [BitField] {
      [
        BitField(bit...bit + 31, "Cache Coherent Attribute"),
        BitField(bit + 32...bit + 32, "Transient"), BitField(bit + 33...bit + 33, "Write Allocate"),
        BitField(bit + 34...bit + 34, "Read Allocate"), BitField(bit + 35...bit + 35, "Override"),
        .reserved(bit + 36...bit + 39), .reserved(bit + 40...bit + 55),
        BitField(bit + 56...bit + 56, "CPM"), BitField(bit + 57...bit + 57, "DACS"),
        BitField(bit + 58...bit + 58, "CANWBS"), .reserved(bit + 59...bit + 63),
      ]
    }

    private var head: [BitField] {
      [
        Self.typeField, Self.length, Self.revisionField, Self.identifier, Self.mappingCount,
        Self.mappingOffset,
      ]
    }

    public var fields: [BitField] {
      let fields = head + typeFields
      return isCut ? fields.filter { $0.bits.upperBound < bytes.count * 8 } : fields
    }

    private var typeFields: [BitField] {
      switch type {
      case .itsGroup: return [Self.serviceCount]
      case .namedComponent:
        return [BitField(128...128, "Stall supported"), Self.pasidBits, .reserved(134...159)]
          + Self.memoryAccess(from: 160) + [Self.componentLimit]
      case .rootComplex: return rootComplexFields
      case .smmu:
        return [
          Self.base, Self.span, Self.smmuModel, BitField(288...288, "DVM supported"),
          BitField(289...289, "Coherent page table walk"), .reserved(290...319),
          Self.globalInterrupts, Self.contextCount, Self.contextOffset, Self.counterCount,
          Self.counterOffset,
        ]
      case .smmuV3:
        return [
          Self.base, BitField(192...192, "COHACC Override"), BitField(193...194, "HTTU Override"),
          Self.hasProximity, BitField(196...196, "DeviceID mapping index valid"),
          .reserved(197...223), .reserved(224...255),
          BitField(256...319, "VATOS Address", .address),
          Self.v3Model, BitField(352...383, "Event GSIV"), BitField(384...415, "PRI GSIV"),
          BitField(416...447, "GERR GSIV"), BitField(448...479, "Sync GSIV"), Self.proximity,
        ] + (fixedEnd >= 68 ? [BitField(512...543, "DeviceID mapping index")] : [])
      case .counters:
        return [Self.base, BitField(192...223, "Overflow interrupt GSIV"), Self.watched]
          + (fixedEnd >= 40 ? [BitField(256...319, "Page 1 Base Address", .address)] : [])
      case .reservedMemory:
        return [
          BitField(128...128, "Remapping Permitted"), BitField(129...129, "Access Privileged"),
          Self.attributes, .reserved(138...159), Self.regionCount, Self.regionOffset,
        ]
      default: return []
      }
    }

    private var rootComplexFields: [BitField] {
      var fields =
        Self.memoryAccess(from: 128) + [Self.ats, Self.pri, Self.pasidForward]
        + [.reserved(195...223), Self.segmentField, Self.rootLimit]
      // The third revision has PASIDs where there was nothing; the fourth has flags behind them.
      guard fixedEnd >= 36 else { return fields }
      fields +=
        revision >= 3
        ? [BitField(264...268, "Maximum PASID width"), .reserved(269...279), .reserved(280...287)]
        : [.reserved(264...287)]
      if fixedEnd >= 40 { fields.append(BitField(288...319, "Flags")) }
      return fields
    }

    /// Where the fixed part ends at the latest: at the first mapping, or with the node.
    private var fixedEnd: Int {
      let start = Int(self[Self.mappingOffset])
      return self[Self.mappingCount] > 0 && 16..<bytes.count ~= start ? start : bytes.count
    }

    /// What the node is.
    public var type: NodeType { NodeType(rawValue: bytes[0]) }
    /// Bytes that the node has by its own word.
    public var statedByteCount: Int { Int(self[Self.length]) }
    /// The table is cut off inside of it.
    public var isCut: Bool { bytes.count < statedByteCount }
    /// Of this node's layout.
    public var revision: UInt8 { bytes[3] }
    /// Physical address of the registers of an SMMU or of counters.
    public var base: PhysicalAddress { PhysicalAddress(self[Self.base]) }
    /// The PCI segment of a root complex.
    public var segment: UInt32 { UInt32(self[Self.segmentField]) }
    /// A named component's place in the ACPI name space; `nil` when it is cut off.
    public var componentName: String? {
      let end = fixedEnd
      if isCut, end == bytes.count, !bytes.dropFirst(29).contains(0) { return nil }
      return text(at: 29, count: max(0, end - 29))
    }
    /// The node that counters belong to, by its place.
    public var watchedOffset: Int { Int(self[Self.watched]) }
    /// The names of single bits that are set.
    public var flagNames: [String] {
      fields.filter { $0.use == .value && $0.bits.count == 1 && self[$0] != 0 }
        .map { "\($0.name)" }
    }
    /// Which SMMU it is, by its model.
    public var modelName: String {
      let names =
        type == .smmu
        ? [
          "SMMUv1", "SMMUv2", "Arm MMU-400", "Arm MMU-500", "Arm MMU-401", "Cavium ThunderX SMMUv2",
        ] : ["SMMUv3", "HiSilicon Hi161x SMMUv3", "Cavium CN99xx SMMUv3"]
      let model = self[type == .smmu ? Self.smmuModel : Self.v3Model]
      return model < UInt64(names.count) ? names[Int(model)] : "\(type.mnemonic) of model \(model)"
    }

    /// `count` elements of `size` bytes from byte `start` of the node on, as far as it has them.
    private func places(_ start: Int, _ count: Int, size: Int, within end: Int? = nil) -> [Int] {
      let end = end ?? bytes.count
      guard start >= 16, start <= end else { return [] }
      let there = min(count, (end - start) / size)
      return (0..<there).map { start + $0 * size }
    }

    private func word(at place: Int) -> UInt32 {
      LittleEndianBytes(bytes).integer(at: place, as: UInt32.self)
    }

    /// The numbers of the services of an ITS group.
    public var serviceIDs: [UInt32] {
      guard type == .itsGroup else { return [] }
      return places(20, Int(self[Self.serviceCount]), size: 4).map(word)
    }

    /// Interrupts of an SMMU of version 1 or 2: global ones, those of contexts, those of counters.
    public var interrupts: [(kind: String, number: UInt32, isEdgeTriggered: Bool)] {
      guard type == .smmu else { return [] }
      func list(_ kind: String, _ start: BitField, _ count: Int) -> [(String, UInt32, Bool)] {
        places(Int(self[start]), count, size: 8).map {
          (kind, word(at: $0), word(at: $0 + 4) & 1 != 0)
        }
      }
      let global = zip(["NSgIrpt", "NSgCfgIrpt"], list("", Self.globalInterrupts, 2))
      return global.map { ($0.0, $0.1.1, $0.1.2) }
        + list("context", Self.contextOffset, Int(self[Self.contextCount]))
        + list("PMU", Self.counterOffset, Int(self[Self.counterCount]))
    }

    /// The mappings, as many as the node has room for.
    public var mappings: [Mapping] {
      places(Int(self[Self.mappingOffset]), Int(self[Self.mappingCount]), size: Mapping.byteCount)
        .map { Mapping(offset: offset + $0, bytes: Array(bytes[$0..<$0 + Mapping.byteCount])) }
    }

    /// The ranges of reserved memory, as many as the node has room for.
    public var regions: [Region] {
      guard type == .reservedMemory else { return [] }
      return places(
        Int(self[Self.regionOffset]), Int(self[Self.regionCount]), size: Region.byteCount
      ).map { Region(offset: offset + $0, bytes: Array(bytes[$0..<$0 + Region.byteCount])) }
    }

    /// Arrays that pass the node's end, be it there or not.
    var cutArrays: [String] {
      var cut: [String] = []
      func check(_ name: String, _ start: Int, _ count: UInt64, _ size: Int) {
        let room = places(start, Int(count), size: size, within: statedByteCount)
        if count > 0, UInt64(room.count) < count {
          cut.append(name)
        }
      }
      check(
        "ID mappings", Int(self[Self.mappingOffset]), self[Self.mappingCount], Mapping.byteCount)
      switch type {
      case .itsGroup: check("identifiers", 20, self[Self.serviceCount], 4)
      case .smmu:
        check("context interrupts", Int(self[Self.contextOffset]), self[Self.contextCount], 8)
        check("PMU interrupts", Int(self[Self.counterOffset]), self[Self.counterCount], 8)
      case .reservedMemory:
        check(
          "memory ranges", Int(self[Self.regionOffset]), self[Self.regionCount], Region.byteCount)
      default: break
      }
      return cut
    }
  }

  /// How numbers of a node's devices become those of another node. Specification: Arm DEN 0049 3.2.
  public struct Mapping: FirmwareStructure {
    public let offset: Int
    public let bytes: [UInt8]

    static let byteCount = 20
    static let input = BitField(0...31, "Input base")
    static let count = BitField(32...63, "Number of IDs")
    static let output = BitField(64...95, "Output base")
    static let reference = BitField(96...127, "Output Reference")
    static let single = BitField(128...128, "Single mapping")

    public var fields: [BitField] {
      [
        Self.input, Self.count, Self.output, Self.reference, Self.single, .reserved(129...159),
      ]
    }

    /// The first number; of a single mapping without meaning.
    public var inputBase: UInt32 { UInt32(self[Self.input]) }
    /// The last number: the table holds one less than their count.
    public var inputEnd: UInt64 { self[Self.input] + self[Self.count] }
    /// What the first number becomes.
    public var outputBase: UInt32 { UInt32(self[Self.output]) }
    /// The node whose numbers they become, by its place.
    public var outputOffset: Int { Int(self[Self.reference]) }
    /// Whatever number the node has becomes the one output.
    public var isSingle: Bool { self[Self.single] != 0 }
  }

  /// A range of reserved memory. Specification: Arm DEN 0049 3.1.5.
  public struct Region: FirmwareStructure {
    public let offset: Int
    public let bytes: [UInt8]

    static let byteCount = 20
    static let base = BitField(0...63, "Physical Range offset", .address)
    static let count = BitField(64...127, "Physical Range length")

    public var fields: [BitField] { [Self.base, Self.count, .reserved(128...159)] }

    /// Half-open; `nil` when it has no bytes or runs past the last address.
    public var memory: Range<PhysicalAddress>? {
      let (end, overflow) = self[Self.base].addingReportingOverflow(self[Self.count])
      return overflow || self[Self.count] == 0
        ? nil : PhysicalAddress(self[Self.base])..<PhysicalAddress(end)
    }
  }
}
