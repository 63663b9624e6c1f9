extension Calgary {
  /// Bytes of registers that one chip has, from its BBAR.
  public static let registerSpaceByteCount: UInt64 = 1 << 20

  /// The registers of a chip that a public source names; most of them exist once for each PHB.
  ///
  /// All are big-endian on the bus: the byte at the lowest address is the most significant.
  /// The register that names BBAR itself, at 0x500, is left out: nobody ever accessed it, and its
  /// layout is not known.
  ///
  /// Source: Linux `pci-calgary_64.c`.
  public enum RegisterKind: CaseIterable, Hashable, Sendable {
    /// Registers outside of the PHBs' own blocks: CCR, TAR, STUFF and SPLIT_QUEUE.
    case chipConfiguration, tableAddress, stuff, splitQueue
    /// What a PHB does and whether something went wrong: CSR, PLSSR, CONFIG_RW.
    case channelStatus, plssr, configuration
    /// Windows of a PHB's bus that are not translated: I/O ports, MEM_1; MEM_ST.
    case ioBaseLow, ioBaseHigh, memory1Low, memory1High, ioAddressSize, memory1Last, memoryState
    /// AER, CONFIG_0 and CSMR, on which no translation depends.
    case arbitration, configuration0High, configuration0Low, configuration0End, csmr
    /// MEM_2, the second window that is not translated.
    case memory2Low, memory2High, memory2LastHigh, memory2LastLow
    /// Error registers; all but DOSHOLE are a CalIOC2's.
    case mck, error0, error1, error2, error3, error4, error5, error6, dosHole, rootComplexStatus
    /// How a PHB of a CalIOC2 is stopped, and SAVIOR_L2.
    case pageMigrationDebug, pageMigrationControl, saviorL2
  }

  /// What a write by software does to a register.
  public enum RegisterAccess: Sendable {
    /// The value is kept; nothing else is known to happen.
    case stored
    /// Set by firmware or by hardware; writes change nothing (*assumed*).
    case readOnly
    /// Bits written as 0 are cleared, the others stay (*assumed*: the driver only ever writes 0).
    case writeZeroClears
    /// Software's bits are replaced, all others stay; every write drops the PHB's TCE cache.
    case tableAddress
    /// Starts and ends the stop of a PHB.
    case pageMigration
  }

  /// Where a kind of register lies, how wide it is, what writes do.
  public struct RegisterDescription: Sendable {
    /// As traces and drivers call it: `CONFIG_RW`.
    public var name: StaticString
    /// Offset of PHB 0's register, or of the only one.
    public var origin: UInt64
    /// Bytes from one PHB's to the next one's; 0 for a register that the chip has once.
    public var stride: UInt64
    /// 4 or 8.
    public var byteCount: Int
    /// What a write by software does.
    public var access: RegisterAccess
    /// Calgary does not have it.
    public var isCalIOC2Only: Bool
  }
}

extension Calgary.RegisterKind {
  /// Everything about the register in one place.
  public var description: Calgary.RegisterDescription {
    switch self {
    case .chipConfiguration: chip("CCR", 0x108, stride: 0, .stored)
    case .tableAddress: chip("TAR", 0x580, stride: 8, .tableAddress)
    case .stuff: debug("STUFF", 0x020, byteCount: 4)
    case .splitQueue: debug("SPLIT_QUEUE", 0x870, byteCount: 8)
    case .channelStatus: bridge("CSR", 0x110, .writeZeroClears)
    case .plssr: bridge("PLSSR", 0x120, .readOnly)
    case .configuration: bridge("CONFIG_RW", 0x160)
    case .ioBaseLow: bridge("IOBASE_BAR_LOW", 0x170)
    case .ioBaseHigh: bridge("IOBASE_BAR_HIGH", 0x180)
    case .memory1Low: bridge("MEM_1_LOW", 0x190)
    case .memory1High: bridge("MEM_1_HIGH", 0x1a0)
    case .ioAddressSize: bridge("IO_ADDR_SIZE", 0x1b0)
    case .memory1Last: bridge("MEM_1_SIZE", 0x1c0)
    case .memoryState: bridge("MEM_ST", 0x1d0)
    case .arbitration: bridge("AER", 0x200)
    case .configuration0High: bridge("CONFIG_0_HIGH", 0x220)
    case .configuration0Low: bridge("CONFIG_0_LOW", 0x230)
    case .configuration0End: bridge("CONFIG_0_END", 0x240)
    case .csmr: bridge("CSMR", 0x290, isCalIOC2Only: true)
    case .memory2Low: bridge("MEM_2_LOW", 0x2b0)
    case .memory2High: bridge("MEM_2_HIGH", 0x2c0)
    case .memory2LastHigh: bridge("MEM_2_SIZE_HIGH", 0x2d0)
    case .memory2LastLow: bridge("MEM_2_SIZE_LOW", 0x2e0)
    case .mck: bridge("MCK", 0x800, isCalIOC2Only: true)
    case .error0: bridge("ERROR_810", 0x810, isCalIOC2Only: true)
    case .error1: bridge("ERROR_820", 0x820, isCalIOC2Only: true)
    case .error2: bridge("ERROR_830", 0x830, isCalIOC2Only: true)
    case .error3: bridge("ERROR_840", 0x840, isCalIOC2Only: true)
    case .error4: bridge("ERROR_850", 0x850, isCalIOC2Only: true)
    case .error5: bridge("ERROR_860", 0x860, isCalIOC2Only: true)
    case .error6: bridge("ERROR_870", 0x870, isCalIOC2Only: true)
    case .dosHole: bridge("DOSHOLE", 0x8e0)
    case .rootComplexStatus: bridge("ROOT_COMPLEX_STATUS", 0xcb0, isCalIOC2Only: true)
    case .pageMigrationDebug: bridge("PAGE_MIG_DEBUG", 0xda0, .readOnly, isCalIOC2Only: true)
    case .pageMigrationControl:
      bridge("PAGE_MIG_CTRL", 0xda8, .pageMigration, isCalIOC2Only: true)
    case .saviorL2: bridge("SAVIOR_L2", 0xdb0, isCalIOC2Only: true)
    }
  }

  private func chip(
    _ name: StaticString, _ origin: UInt64, stride: UInt64, _ access: Calgary.RegisterAccess
  ) -> Calgary.RegisterDescription {
    .init(
      name: name, origin: origin, stride: stride, byteCount: 8, access: access,
      isCalIOC2Only: false)
  }

  /// A register in a PHB's debug block.
  private func debug(
    _ name: StaticString, _ offset: UInt64, byteCount: Int
  ) -> Calgary.RegisterDescription {
    .init(
      name: name, origin: 0x4000 + offset, stride: 0x1000, byteCount: byteCount,
      access: .readOnly, isCalIOC2Only: false)
  }

  /// A register in a PHB's own block.
  private func bridge(
    _ name: StaticString, _ offset: UInt64, _ access: Calgary.RegisterAccess = .stored,
    isCalIOC2Only: Bool = false
  ) -> Calgary.RegisterDescription {
    .init(
      name: name, origin: 0x8000 + offset, stride: 0x1000, byteCount: 4, access: access,
      isCalIOC2Only: isCalIOC2Only)
  }

  /// The register's bits, each once, ascending.
  public var fields: [BitField] {
    switch self {
    case .chipConfiguration: Calgary.ChipConfigurationRegister.fields
    case .tableAddress: Calgary.TableAddressRegister.fields
    case .stuff: Calgary.BusRangeRegister.fields
    case .splitQueue: Calgary.SplitQueueRegister.fields
    case .channelStatus: Calgary.ChannelStatusRegister.fields
    case .configuration: Calgary.ConfigurationRegister.fields
    case .pageMigrationDebug, .pageMigrationControl: Calgary.PageMigrationRegister.fields
    case .saviorL2: Calgary.SaviorRegister.fields
    default: [BitField(0...31, "VALUE")]
    }
  }
}

extension Calgary {
  /// One register of a chip.
  public struct Register: Hashable, Sendable {
    /// What it is; most exist once for each PHB.
    public var kind: RegisterKind
    /// 0 to 3; 0 for a register that the chip has once.
    public var phb: Int

    /// A register of a PHB, or of the chip when there is one for all.
    public init(_ kind: RegisterKind, _ phb: Int = 0) {
      precondition(0..<Calgary.hostBridgeCount ~= phb, "a chip has four PHBs")
      self.kind = kind
      self.phb = phb
    }

    /// Bytes from BBAR.
    public var offset: UInt64 {
      let description = kind.description
      return description.origin + description.stride * UInt64(phb)
    }

    /// 4 or 8.
    public var byteCount: Int { kind.description.byteCount }

    /// As traces and people write it: `TAR2`, `PHB2.CSR`, `CCR`.
    public var name: String {
      let description = kind.description
      return switch description.stride {
      case 0: "\(description.name)"
      case 8: "\(description.name)\(phb)"
      default: "PHB\(phb).\(description.name)"
      }
    }

    /// Every register of a chip, ascending by offset; none overlaps another.
    public static let all: [Register] = RegisterKind.allCases.flatMap { kind in
      (0..<(kind.description.stride == 0 ? 1 : Calgary.hostBridgeCount)).map { Register(kind, $0) }
    }.sorted { $0.offset < $1.offset }

    /// The register that has the byte at `offset`; `nil` where none is known.
    ///
    /// - Complexity: O(log *n*) in the number of registers.
    public init?(containing offset: UInt64) {
      let all = Self.all
      var range = all.startIndex..<all.endIndex
      while !range.isEmpty {
        let middle = range.lowerBound + range.count / 2
        let register = all[middle]
        if offset < register.offset {
          range = range.lowerBound..<middle
        } else if offset - register.offset >= UInt64(register.byteCount) {
          range = (middle + 1)..<range.upperBound
        } else {
          self = register
          return
        }
      }
      return nil
    }
  }

  /// Offsets of the registers that translation depends on, from a chip's BBAR.
  public enum RegisterOffset {
    /// TAR.
    public static func tableAddress(_ phb: Int) -> UInt64 { Register(.tableAddress, phb).offset }
    /// STUFF.
    public static func stuff(_ phb: Int) -> UInt64 { Register(.stuff, phb).offset }
    /// SPLIT_QUEUE.
    public static func splitQueue(_ phb: Int) -> UInt64 { Register(.splitQueue, phb).offset }
    /// CSR.
    public static func channelStatus(_ phb: Int) -> UInt64 { Register(.channelStatus, phb).offset }
    /// PLSSR.
    public static func plssr(_ phb: Int) -> UInt64 { Register(.plssr, phb).offset }
    /// CONFIG_RW.
    public static func configuration(_ phb: Int) -> UInt64 { Register(.configuration, phb).offset }
    /// MEM_1_LOW.
    public static func memory1Low(_ phb: Int) -> UInt64 { Register(.memory1Low, phb).offset }
    /// MEM_1_HIGH.
    public static func memory1High(_ phb: Int) -> UInt64 { Register(.memory1High, phb).offset }
    /// Called a size, used as the window's last address.
    public static func memory1Last(_ phb: Int) -> UInt64 { Register(.memory1Last, phb).offset }
    /// AER.
    public static func arbitration(_ phb: Int) -> UInt64 { Register(.arbitration, phb).offset }
    /// MEM_2_LOW.
    public static func memory2Low(_ phb: Int) -> UInt64 { Register(.memory2Low, phb).offset }
    /// MEM_2_HIGH.
    public static func memory2High(_ phb: Int) -> UInt64 { Register(.memory2High, phb).offset }
    /// MEM_2_SIZE_HIGH.
    public static func memory2LastHigh(_ phb: Int) -> UInt64 {
      Register(.memory2LastHigh, phb).offset
    }
    /// MEM_2_SIZE_LOW.
    public static func memory2LastLow(_ phb: Int) -> UInt64 {
      Register(.memory2LastLow, phb).offset
    }
  }
}
