import IOMMUFormats

extension PCI {
  /// One function's configuration space: 256 bytes, or 4 KiB with PCI Express.
  ///
  /// ``store(_:at:)`` is how a model puts a function together; ``write(_:at:)`` is a write that
  /// comes over the bus and reaches the writable bits alone. Bytes past the end read as ones.
  public struct ConfigurationSpace: Sendable, Hashable {
    /// The registers as they read.
    public private(set) var bytes: [UInt8]
    /// The bits that a write over the bus changes.
    private var writable: [UInt8]
    /// Where the next capability of each list goes, and which one is the last so far.
    private var freeCapability = RegisterOffset.firstCapability
    private var lastCapability: Int?
    private var freeExtendedCapability = RegisterOffset.firstExtendedCapability
    private var lastExtendedCapability: Int?

    /// - Parameters:
    ///   - vendorID: The number that the PCI-SIG has given the vendor.
    ///   - deviceID: The vendor's number for the device.
    ///   - classCode: Base class, subclass and interface, 24 bits.
    ///   - revision: The vendor's revision of the device.
    ///   - layout: Whether the header is an endpoint's or a bridge's.
    ///   - isExpress: Whether the space has 4 KiB; ``addExpressCapability(_:)`` says what the
    ///     function is.
    public init(
      vendorID: UInt16, deviceID: UInt16, classCode: UInt32, revision: UInt8 = 0,
      layout: HeaderLayout = .endpoint, isExpress: Bool = false
    ) {
      bytes = [UInt8](repeating: 0, count: isExpress ? 4096 : 256)
      writable = bytes
      store(Identity(vendorID: vendorID, deviceID: deviceID), at: RegisterOffset.identity)
      store(
        ClassRevision(classCode: classCode, revision: revision), at: RegisterOffset.classRevision)
      store(HeaderType(layout: layout), at: RegisterOffset.headerType)
      makeWritable(CommandStatus.writableMask, at: RegisterOffset.commandStatus)
      makeWritable(0x0000_00ff, at: RegisterOffset.headerType)
      makeWritable(0x0000_00ff, at: RegisterOffset.interrupt)
      if layout == .bridge {
        makeWritable(BusNumbers.writableMask, at: RegisterOffset.busNumbers)
      }
    }

    // MARK: Registers

    /// The byte at `offset`; ones past the end.
    public func byte(at offset: Int) -> UInt8 {
      bytes.indices.contains(offset) ? bytes[offset] : .max
    }

    /// The doubleword at `offset`; ones when any of its bytes lies past the end.
    public func doubleword(at offset: Int) -> UInt32 {
      guard offset >= 0, offset <= bytes.count - 4 else { return .max }
      return (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) }
    }

    /// Puts a doubleword in place, writable or not.
    ///
    /// - Precondition: `offset` is a multiple of four inside the space.
    public mutating func store(_ doubleword: UInt32, at offset: Int) {
      checkPlace(offset)
      for index in 0..<4 {
        bytes[offset + index] = UInt8(truncatingIfNeeded: doubleword >> UInt32(8 * index))
      }
    }

    /// Lets writes over the bus change the bits of `mask`.
    ///
    /// - Precondition: `offset` is a multiple of four inside the space.
    public mutating func makeWritable(_ mask: UInt32, at offset: Int) {
      checkPlace(offset)
      for index in 0..<4 {
        writable[offset + index] |= UInt8(truncatingIfNeeded: mask >> UInt32(8 * index))
      }
    }

    /// A write of a doubleword over the bus: writable bits change, a write past the end vanishes.
    public mutating func write(_ doubleword: UInt32, at offset: Int) {
      guard offset >= 0, offset % 4 == 0, offset <= bytes.count - 4 else { return }
      for index in offset..<(offset + 4) {
        let value = UInt8(truncatingIfNeeded: doubleword >> UInt32(8 * (index - offset)))
        bytes[index] = bytes[index] & ~writable[index] | value & writable[index]
      }
    }

    private func checkPlace(_ offset: Int) {
      precondition(
        offset >= 0 && offset % 4 == 0 && offset <= bytes.count - 4,
        "a register lies at a multiple of four inside the configuration space")
    }

    // MARK: The header's registers

    private func register<Register: WordEntry>(_ offset: Int) -> Register
    where Register.RawValue == UInt32 {
      Register(rawValue: doubleword(at: offset))
    }

    private mutating func store<Register: WordEntry>(_ register: Register, at offset: Int)
    where Register.RawValue == UInt32 {
      store(register.rawValue, at: offset)
    }

    public var identity: Identity { register(RegisterOffset.identity) }
    public var classRevision: ClassRevision { register(RegisterOffset.classRevision) }
    public var commandStatus: CommandStatus {
      get { register(RegisterOffset.commandStatus) }
      set { store(newValue, at: RegisterOffset.commandStatus) }
    }
    public var headerType: HeaderType {
      get { register(RegisterOffset.headerType) }
      set { store(newValue, at: RegisterOffset.headerType) }
    }
    /// The buses of a bridge; `nil` for any other function.
    public var busNumbers: BusNumbers? {
      get { isBridge ? register(RegisterOffset.busNumbers) : nil }
      set {
        precondition(isBridge, "only a bridge has buses on two sides")
        store(newValue ?? BusNumbers(rawValue: 0), at: RegisterOffset.busNumbers)
      }
    }
    public var isBridge: Bool { headerType.layout == .bridge }

    // MARK: Capabilities

    /// Byte offsets of the capabilities from offset 0x34 on, in the order of the list.
    ///
    /// A list that leaves the space or comes back to itself ends there: at most 48 are looked at.
    public var capabilityOffsets: [Int] {
      guard commandStatus.hasCapabilities else { return [] }
      var offsets: [Int] = []
      var offset = Int(byte(at: RegisterOffset.capabilitiesPointer)) & ~3
      while offset >= RegisterOffset.firstCapability, !offsets.contains(offset) {
        offsets.append(offset)
        offset = CapabilityHeader(rawValue: doubleword(at: offset)).next
      }
      return offsets
    }

    /// Byte offsets of the extended capabilities; none without PCI Express. At most 960.
    public var extendedCapabilityOffsets: [Int] {
      var offsets: [Int] = []
      var seen: Set<Int> = []
      var offset = RegisterOffset.firstExtendedCapability
      while offset >= RegisterOffset.firstExtendedCapability, offset < bytes.count,
        seen.insert(offset).inserted
      {
        let word = doubleword(at: offset)
        // An empty list is a header of zeros; ones are a function that does not answer.
        guard word != 0, word != .max else { break }
        offsets.append(offset)
        offset = ExtendedCapabilityHeader(rawValue: word).next
      }
      return offsets
    }

    /// Where the first capability of a kind lies; `nil` when the function has none.
    public func offset(of id: CapabilityID) -> Int? {
      capabilityOffsets.first { CapabilityHeader(rawValue: doubleword(at: $0)).id == id }
    }

    /// Where the first extended capability of a kind lies; `nil` when the function has none.
    public func offset(of id: ExtendedCapabilityID) -> Int? {
      extendedCapabilityOffsets.first {
        ExtendedCapabilityHeader(rawValue: doubleword(at: $0)).id == id
      }
    }

    /// What the function is, by its PCI Express capability; `nil` for conventional PCI.
    public var portType: PortType? {
      offset(of: CapabilityID.express).flatMap {
        ExpressCapability(rawValue: doubleword(at: $0)).portType
      }
    }

    /// Capability and control of address translation services; `nil` without them.
    public var addressTranslationServices: AddressTranslationServices? {
      offset(of: ExtendedCapabilityID.addressTranslationServices).map { register($0 + 4) }
    }

    // MARK: Room for capabilities

    /// Takes room for a capability and links it to the end of the list.
    mutating func placeCapability(doublewordCount: Int) -> Int {
      let offset = freeCapability
      precondition(offset + 4 * doublewordCount <= 256, "no room for another capability")
      freeCapability += 4 * doublewordCount
      if let last = lastCapability {
        bytes[last + 1] = UInt8(offset)
      } else {
        bytes[RegisterOffset.capabilitiesPointer] = UInt8(offset)
        commandStatus.hasCapabilities = true
      }
      lastCapability = offset
      return offset
    }

    /// Takes room for an extended capability and links it to the end of the list.
    mutating func placeExtendedCapability(doublewordCount: Int) -> Int {
      let offset = freeExtendedCapability
      precondition(
        offset + 4 * doublewordCount <= bytes.count, "no room for another extended capability")
      freeExtendedCapability += 4 * doublewordCount
      if let last = lastExtendedCapability {
        var header = ExtendedCapabilityHeader(rawValue: doubleword(at: last))
        header.next = offset
        store(header, at: last)
      }
      lastExtendedCapability = offset
      return offset
    }
  }
}
