extension Calgary {
  /// A table address register (TAR): where one PHB's TCE table lies, and how long it is.
  ///
  /// 64 bits, big-endian on the bus, at BBAR + 0x580 + 8 · PHB; the value here is the one the
  /// bits are numbered in. Writing it also drops the PHB's TCE cache. Bit 3 is called "valid" and
  /// never set by Linux: translation does not need it (*assumed* to have no effect).
  ///
  /// Source: Linux `pci-calgary_64.c`.
  @frozen
  public struct TableAddressRegister: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension Calgary.TableAddressRegister {
  public static var name: StaticString { "TAR" }
  public static var specification: StaticString { "Linux pci-calgary_64.c" }
  @inlinable public static var isBigEndian: Bool { true }

  static var size: BitField { BitField(0...2, "SIZE") }
  static var valid: BitField { BitField(3...3, "VALID") }
  static var tableBits: BitField { BitField(15...47, "TABLE", .address) }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      size, valid, BitField(4...14, "preserved", .ignored), tableBits,
      BitField(48...63, "preserved", .ignored),
    ]
  }

  /// The bits that belong to software; a driver changes no others.
  public static var softwareMask: UInt64 { size.mask | valid.mask | tableBits.mask }

  /// The table's first byte, a multiple of 32 KiB.
  public var table: PhysicalAddress { PhysicalAddress(addressBits(Self.tableBits)) }

  /// How long the table is.
  public var tableSize: Calgary.TableSize { Calgary.TableSize(rawValue: UInt8(self[Self.size]))! }

  /// This register with software's bits replaced, all others kept, as a driver writes it.
  ///
  /// - Precondition: `table` is a multiple of 32 KiB below 2^48.
  public func setting(table: PhysicalAddress, size: Calgary.TableSize) -> Self {
    precondition(
      table.rawValue & ~Self.tableBits.mask == 0,
      "a TCE table lies at a multiple of 32 KiB below 2^48")
    return Self(
      rawValue: rawValue & ~Self.softwareMask | table.rawValue | UInt64(size.rawValue))
  }

  /// This register as Linux writes it, which does not look at the table's alignment: after a kdump
  /// kernel's mistake with the address, bits of it end up in the size.
  package func asLinuxSets(table: PhysicalAddress, size: Calgary.TableSize) -> Self {
    Self(rawValue: rawValue & ~Self.softwareMask | table.rawValue | UInt64(size.rawValue))
  }

  /// This register with software's bits cleared, as a driver leaves it when it frees the bus.
  public var cleared: Self { Self(rawValue: rawValue & ~Self.softwareMask) }

  /// The table address as a Linux kdump kernel of 2.6.27 and later reads it, with its mistakes.
  ///
  /// It clears only the bits of its *own* size code, in 32 bits: another code leaves a stray bit,
  /// and a table above 4 GiB loses its upper bits.
  package func tableAsKdumpKernelReadsIt(ownSize: Calgary.TableSize) -> PhysicalAddress {
    PhysicalAddress(rawValue & Self.softwareMask & UInt64(~UInt32(ownSize.rawValue)))
  }
}

extension Calgary {
  /// How long a TCE table is: the code in bits 2:0 of a TAR, 64 KiB to 8 MiB.
  public enum TableSize: UInt8, CaseIterable, Comparable, Sendable {
    /// Bytes of table, by the register's code.
    case kib64, kib128, kib256, kib512, mib1, mib2, mib4, mib8

    /// Entries in the table: 8,192 to 1,048,576.
    public var entryCount: UInt64 { 8192 << UInt64(rawValue) }

    /// Bytes of table.
    public var byteCount: UInt64 { entryCount * 8 }

    /// Bytes of I/O space that the table covers, 32 MiB to 4 GiB.
    public var coverage: UInt64 { entryCount * PageCount.pageByteCount }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    /// The smallest table that covers all I/O addresses below `limit`; `nil` above 4 GiB.
    public static func smallest(covering limit: UInt64) -> Self? {
      allCases.first { $0.coverage >= limit }
    }

    /// The size that Linux chose until 2014 from the end of RAM, in bytes.
    ///
    /// The order, in pages, of `end >> 13` bytes, at most 7. The shift drops up to 8 KiB − 1, so
    /// that 2 GiB and 4 KiB still take the 4 MiB table.
    package static func chosenByLinux(endOfRAM end: UInt64) -> Self {
      let pages = ((end >> 13) + 4095) >> 12
      guard pages > 0 else { return .mib8 }
      let order = UInt64.bitWidth - (pages - 1).leadingZeroBitCount
      return Self(rawValue: UInt8(min(7, order)))!
    }
  }
}
