extension GART {
  /// An entry of the graphics address translation table (GATT): one 4 KiB page of the aperture.
  ///
  /// Four bytes, little-endian, at table + 4 · ((address − aperture base) >> 12). There are no
  /// permissions: a valid entry lets every device read and write.
  ///
  /// Source: Linux `pci-gart_64.c`, `amd64-agp.c`.
  @frozen
  public struct GATTEntry: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension GART.GATTEntry {
  public static var name: StaticString { "GATT entry" }
  public static var specification: StaticString { "Linux pci-gart_64.c, amd64-agp.c" }

  @inlinable static var valid: BitField { BitField(0...0, "V") }
  @inlinable static var coherent: BitField { BitField(1...1, "C") }
  @inlinable static var addressHigh: BitField { BitField(4...11, "ADDR39:32") }
  @inlinable static var addressLow: BitField { BitField(12...31, "ADDR31:12", .address) }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [valid, coherent, .reserved(2...3), addressHigh, addressLow]
  }

  /// A valid, coherent entry for the page that `page` lies in.
  ///
  /// - Precondition: `page` is below 1 TiB. `wrapping(page:)` is the encoding without the check.
  public init(page: PhysicalAddress) {
    precondition(page.rawValue < GART.physicalLimit, "a GATT entry names pages below 1 TiB")
    self = Self.wrapping(page: page)
  }

  /// The entry that Linux 2.6.27 makes for any address: at 1 TiB and above it silently names a
  /// wrong, low page, because bit 40 falls onto bit 12 of the entry.
  package static func wrapping(page: PhysicalAddress) -> Self {
    let high = (page.rawValue >> 32) << addressHigh.shift
    return Self(
      rawValue: UInt32(
        truncatingIfNeeded: page.rawValue & addressLow.mask | high | valid.mask | coherent.mask))
  }

  /// V: the entry maps its page.
  @inlinable public var isValid: Bool { self[Self.valid] != 0 }
  /// C: accesses to the page look into the processors' caches.
  @inlinable public var isCoherent: Bool {
    get { self[Self.coherent] != 0 }
    set { self[Self.coherent] = newValue ? 1 : 0 }
  }

  /// The page's first byte; named even by an invalid entry (which is what erratum 156 reads).
  @inlinable
  public var page: PhysicalAddress {
    PhysicalAddress(addressBits(Self.addressLow) | self[Self.addressHigh] &<< 32)
  }
}
