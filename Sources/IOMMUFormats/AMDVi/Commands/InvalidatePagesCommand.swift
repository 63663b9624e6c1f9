extension AMDVi {
  /// INVALIDATE_IOMMU_PAGES: drops translations of a domain.
  ///
  /// Specification: AMD IOMMU 2.4.3.
  @frozen
  public struct InvalidatePagesCommand: AMDViCommand {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension AMDVi.InvalidatePagesCommand {
  public static var name: StaticString { "invalidate pages command" }
  public static var specification: StaticString { "AMD IOMMU 2.4.3" }
  public static var code: AMDVi.CommandCode { .invalidatePages }

  static var pasidField: BitField { BitField(0...19, "PASID") }
  static var domain: BitField { BitField(32...47, "DomainID") }
  static var pde: BitField { BitField(65...65, "PDE") }

  public static func fields(_ rules: AMDVi.CommandRules) -> [BitField] {
    [
      pasidField, .reserved(20...31), domain, .reserved(48...59), opcode, blockField, pde,
      guest(rules), .reserved(67...75), addressField,
    ]
  }

  /// - Parameters:
  ///   - domainID: The domain whose translations go.
  ///   - pasid: GN: guest addresses of this PASID; `nil` for those of the host's tables.
  ///   - address: In the block.
  ///   - sizeLog2: The block has 2 to this power bytes: 12 for a page, 64 for everything.
  ///   - dropsUpperLevels: PDE: entries that are no leaves go as well.
  /// - Precondition: `sizeLog2` is 12 to 64.
  public init(
    domainID: UInt16, pasid: PASID? = nil, address: IOVA = IOVA(0), sizeLog2: Int = 64,
    dropsUpperLevels: Bool = true
  ) {
    self = .empty
    self[Self.domain] = UInt64(domainID)
    self[Self.pasidField] = UInt64(pasid?.rawValue ?? 0)
    self[Self.guestField] = pasid == nil ? 0 : 1
    self[Self.pde] = dropsUpperLevels ? 1 : 0
    setAddresses(address, sizeLog2: sizeLog2)
  }

  /// The domain whose translations go.
  public var domainID: UInt16 { UInt16(self[Self.domain]) }
  /// GN: guest addresses of this PASID; `nil` for those of the host's tables.
  public var pasid: PASID? {
    self[Self.guestField] != 0 ? PASID(UInt32(self[Self.pasidField])) : nil
  }
  /// The addresses whose translations go.
  public var addresses: ClosedRange<IOVA> { addressRange }
  /// PDE: entries that are no leaves go as well.
  public var dropsUpperLevels: Bool { self[Self.pde] != 0 }
}
