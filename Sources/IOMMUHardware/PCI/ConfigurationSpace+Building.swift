import IOMMUFormats

extension PCI.ConfigurationSpace {
  /// Appends a capability to the list from offset 0x34.
  ///
  /// - Parameters:
  ///   - id: Which capability it is.
  ///   - body: Doublewords after the first two bytes of ID and pointer: the upper half of the first
  ///     one is taken, the others follow whole.
  /// - Returns: Where it lies.
  /// - Precondition: it ends within the first 256 bytes.
  @discardableResult
  public mutating func addCapability(_ id: PCI.CapabilityID, body: [UInt32]) -> Int {
    let offset = placeCapability(doublewordCount: max(1, body.count))
    for (index, word) in body.enumerated() { store(word, at: offset + 4 * index) }
    let upper = doubleword(at: offset) & 0xffff_0000
    store(upper | UInt32(id.rawValue), at: offset)
    return offset
  }

  /// Says that the function is of PCI Express, and which kind.
  public mutating func addExpressCapability(_ portType: PCI.PortType) {
    let count = PCI.ExpressCapability.byteCount / 4
    var body = [UInt32](repeating: 0, count: count)
    body[0] = PCI.ExpressCapability(portType: portType).rawValue
    addCapability(.express, body: body)
  }

  /// Appends an extended capability.
  ///
  /// - Parameters:
  ///   - id: Which capability it is.
  ///   - version: The version in its header, 4 bits.
  ///   - body: Doublewords after the header.
  /// - Returns: Where it lies.
  /// - Precondition: the space has 4 KiB, and room.
  @discardableResult
  public mutating func addExtendedCapability(
    _ id: PCI.ExtendedCapabilityID, version: Int = 1, body: [UInt32]
  ) -> Int {
    let offset = placeExtendedCapability(doublewordCount: 1 + body.count)
    store(PCI.ExtendedCapabilityHeader(id: id, version: version).rawValue, at: offset)
    for (index, word) in body.enumerated() { store(word, at: offset + 4 + 4 * index) }
    return offset
  }

  /// Lets the function ask for translations.
  public mutating func addAddressTranslationServices(
    invalidateQueueDepth: Int = 32, isPageAligned: Bool = true,
    supportsGlobalInvalidate: Bool = false
  ) {
    let register = PCI.AddressTranslationServices(
      invalidateQueueDepth: invalidateQueueDepth, isPageAligned: isPageAligned,
      supportsGlobalInvalidate: supportsGlobalInvalidate)
    let offset = addExtendedCapability(.addressTranslationServices, body: [register.rawValue])
    makeWritable(PCI.AddressTranslationServices.writableMask, at: offset + 4)
  }

  /// Makes the function a physical function with `count` virtual functions.
  ///
  /// - Parameters:
  ///   - count: Initial, total and present virtual functions.
  ///   - firstOffset: What the first virtual function's requester is above this one's.
  ///   - stride: From one virtual function's requester to the next.
  public mutating func addVirtualFunctions(count: UInt16, firstOffset: UInt16, stride: UInt16) {
    // Capability, control, initial and total, number, routing; the rest of the 64 bytes is BARs.
    var body = [UInt32](repeating: 0, count: 15)
    body[2] = UInt32(count) << 16 | UInt32(count)
    body[3] = UInt32(count)
    body[4] =
      PCI.VirtualFunctionRouting(firstOffset: firstOffset, stride: stride).rawValue
    addExtendedCapability(.singleRootVirtualization, body: body)
  }

  /// The virtual functions' requesters above this function's own; empty for any other function.
  public var virtualFunctionOffsets: [Int] {
    guard let offset = offset(of: PCI.ExtendedCapabilityID.singleRootVirtualization) else {
      return []
    }
    let count = Int(doubleword(at: offset + 16) & 0xffff)
    let routing = PCI.VirtualFunctionRouting(rawValue: doubleword(at: offset + 20))
    return (0..<count).map { Int(routing.firstOffset) + $0 * Int(routing.stride) }
  }
}
