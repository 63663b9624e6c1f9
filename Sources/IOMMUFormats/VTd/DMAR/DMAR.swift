extension VTd {
  /// The ACPI table that tells a kernel which remapping units there are, and for which devices.
  ///
  /// A header of 48 bytes, then structures of their own lengths, ascending by type. What is read
  /// comes out again byte for byte, unknown structures and reserved fields included. Specification:
  /// Intel VT-d 8.1.
  public struct DMAR: Sendable, Hashable {
    /// What every ACPI table has.
    public var header: ACPI.TableHeader
    /// Bytes 36 to 43.
    public var platform: Platform
    /// Bytes 44 to 47, reserved.
    var reserved: UInt32 = 0
    /// In the order of the table.
    public var structures: [Structure]

    /// The four characters that the table begins with.
    public static let signature = "DMAR"
    /// Bytes before the ``platform``.
    public static let platformOffset = ACPI.TableHeader.byteCount
    /// Bytes before the first structure.
    public static let headerByteCount = 48

    /// - Precondition: every structure is of at most 65,535 bytes.
    public init(header: ACPI.TableHeader, platform: Platform, structures: [Structure]) {
      self.header = header
      self.platform = platform
      self.structures = structures
    }

    /// The table's bytes, with lengths and checksum as they must be.
    ///
    /// - Complexity: O(bytes).
    public var bytes: [UInt8] {
      var body: [UInt8] = []
      body.append(littleEndian: platform.rawValue)
      body.append(littleEndian: reserved)
      for structure in structures { body += structure.bytes }
      return header.table(signature: Self.signature, body: body)
    }

    /// The structures with the byte offsets at which they start.
    public var placedStructures: [(offset: Int, structure: Structure)] {
      var offset = Self.headerByteCount
      return structures.map { structure in
        defer { offset += structure.byteCount }
        return (offset, structure)
      }
    }
  }
}

extension VTd.DMAR {
  /// The quadword at byte 36: the host address width and what the platform wants.
  ///
  /// 64 bits, of which the last are reserved. Specification: Intel VT-d 8.1.
  @frozen
  public struct Platform: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static var name: StaticString { "DMAR platform flags" }
    public static var specification: StaticString { "Intel VT-d 8.1" }

    static var haw: BitField { BitField(0...7, "Host Address Width") }
    static var intrRemap: BitField { BitField(8...8, "INTR_REMAP") }
    static var optOut: BitField { BitField(9...9, "X2APIC_OPT_OUT") }
    static var optIn: BitField { BitField(10...10, "DMA_CTRL_PLATFORM_OPT_IN") }

    public static func fields(_: OnlyVariant) -> [BitField] {
      [haw, intrRemap, optOut, optIn, .reserved(11...15), .reserved(16...63)]
    }

    /// - Precondition: `hostAddressWidth` is 1 to 256.
    public init(
      hostAddressWidth: Int, remapsInterrupts: Bool = false, optsOutOfX2APIC: Bool = false,
      optsIntoDMAProtection: Bool = false
    ) {
      precondition(1...256 ~= hostAddressWidth, "a host address width is 1 to 256 bits")
      self.init(rawValue: 0)
      self[Self.haw] = UInt64(hostAddressWidth - 1)
      self[Self.intrRemap] = remapsInterrupts ? 1 : 0
      self[Self.optOut] = optsOutOfX2APIC ? 1 : 0
      self[Self.optIn] = optsIntoDMAProtection ? 1 : 0
    }

    /// Bits in a physical address for DMA: the byte holds one less.
    public var hostAddressWidth: Int { Int(self[Self.haw]) + 1 }
    /// Units of the platform can remap interrupts.
    public var remapsInterrupts: Bool { self[Self.intrRemap] != 0 }
    /// Firmware asks the kernel not to use extended xAPIC mode.
    public var optsOutOfX2APIC: Bool { self[Self.optOut] != 0 }
    /// Firmware asks the kernel to keep DMA in check from the start.
    public var optsIntoDMAProtection: Bool { self[Self.optIn] != 0 }
  }
}
