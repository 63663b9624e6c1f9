import IOMMUFormats

/// What a live Calgary chip does where nobody has published what it does.
///
/// One option for each open question, U1 to U26; the defaults are what this project assumes. The
/// reasons are in `docs/calgary-options.md`.
public struct CalgaryOptions: Sendable, Hashable {
  /// U1: bits 11:8 and 63:48 of a TCE.
  public var unusedEntryBits = UnusedBits.ignored
  /// U2: a TCE with write and without read permission.
  public var entryPermissions = EntryPermissions.independent
  /// U3: what CSR and PLSSR show after a failed request.
  public var errorRecord = ErrorRecord()
  /// U4: TAR bits 14:4 and 63:48. Bit 3 is stored and has no effect in any case.
  public var tableAddressUnusedBits = TableAddressUnusedBits.readOnly
  /// U5: a table that is not aligned to its size.
  public var misalignedTable = MisalignedTable.added
  /// U6: an IOVA past the table's end, below 4 GiB.
  public var beyondTable = BeyondTable.fault
  /// U7: the TCE cache; `nil` for none.
  public var cache: CacheGeometry?
  /// U8: which TAR writes drop the PHB's cache.
  public var invalidation = Invalidation.everyTableAddressWrite
  /// U9: whether a table walk sees what the processor's caches hold.
  public var tableReads = TableReads.coherent
  /// U10: DMA into 640 KiB to 1 MiB, MEM_1 and MEM_2.
  public var holes = Holes.blocked
  /// U11: DMA while TCE_ENABLE is clear.
  public var translationOff = TranslationOff.identity
  /// U12: an IOVA of 4 GiB or more while DAC_DISABLE is clear.
  public var dualAddressCycles = DualAddressCycles.untranslated
  /// U13: the agent that CSR names.
  public var agent = Agent.deviceNumber
  /// U14: what becomes of a failed request.
  public var failedRequests = FailedRequests.dropped
  /// U15: which error CSR keeps, and whether the bus goes on.
  public var errorLatch = ErrorLatch.first
  /// U16: which of the three slot-disable bits block DMA.
  public var slotDisable = SlotDisable.anyBit
  /// U17: AER and the split queue at power-on.
  public var idleValues = IdleValues()
  /// U18: CCR.
  public var chipConfiguration = ChipConfiguration.stored
  /// U19: how the CalIOC2 stops a PHB.
  public var pageMigration = PageMigration.hardStopOnRead
  /// U20: the register at 0x500, which is named after BBAR.
  public var baseRegister = BaseRegister.unimplemented
  /// U21: STUFF of a PHB without devices.
  public var unusedBuses = UnusedBuses.ownNumber
  /// U22: DMA to 0xFEEx_xxxx.
  public var interruptWrites = InterruptWrites.untranslated
  /// U23: what a kexec does to a chip.
  public var kexec = Kexec.keepsEverything
  /// U24: which accesses to registers do anything.
  public var accessSizes = AccessSizes.alignedWords
  /// U25: bits 7:2 of a TCE, the hub identifier.
  public var hubIdentifier = UnusedBits.ignored
  /// U26: the MEM_1 window that firmware leaves; half-open. Those of real machines are not known.
  public var firmwareWindow = IOVA(0xe800_0000)..<IOVA(0xfec0_0000)

  public init() {}
}

extension CalgaryOptions {
  public enum UnusedBits: Sendable, Hashable { case ignored, fault }

  public enum EntryPermissions: Sendable, Hashable {
    case independent
    /// Write permission includes read permission.
    case writeIncludesRead
    /// Without read permission an entry is empty.
    case writeAloneIsEmpty
  }

  /// The record of the one failure that was ever published: CSR 0x10010000, PLSSR 0x04000000. Which
  /// failure it was is not known; the model shows it for all of them.
  public struct ErrorRecord: Sendable, Hashable {
    /// Without the agent's number.
    public var channelStatus: UInt32 = 0x1000_0000
    public var plssr: UInt32 = 0x0400_0000
    public init() {}
  }

  public enum TableAddressUnusedBits: Sendable, Hashable { case readOnly, stored }

  public enum MisalignedTable: Sendable, Hashable {
    /// The entry's offset is added to the table's address.
    case added
    /// The two are combined with OR.
    case combined
    case fault
  }

  public enum BeyondTable: Sendable, Hashable {
    case fault
    /// The index is taken modulo the table's length.
    case wraps
    case untranslated
  }

  /// A set-associative cache; the oldest entry of a set goes first.
  public struct CacheGeometry: Sendable, Hashable {
    public var setCount: Int
    public var wayCount: Int
    /// Whether an empty TCE is remembered too.
    public var keepsEmptyEntries: Bool

    /// - Parameters:
    ///   - setCount: A power of two.
    ///   - wayCount: Entries in a set, at least 1.
    ///   - keepsEmptyEntries: Whether an empty TCE is remembered too.
    public init(setCount: Int, wayCount: Int, keepsEmptyEntries: Bool = false) {
      precondition(setCount > 0 && setCount & (setCount - 1) == 0, "sets come in powers of two")
      precondition(wayCount > 0, "a set has at least one way")
      self.setCount = setCount
      self.wayCount = wayCount
      self.keepsEmptyEntries = keepsEmptyEntries
    }

    /// Every entry of the largest table at once, so that nothing is forgotten but by a flush.
    public static let unlimited = CacheGeometry(setCount: 1 << 20, wayCount: 1)
  }

  public enum Invalidation: Sendable, Hashable {
    case everyTableAddressWrite
    /// Only while the PHB is quiesced: AER is 0, or the CalIOC2's page migration has stopped it.
    case onlyWhileQuiesced
  }

  public enum TableReads: Sendable, Hashable {
    case coherent
    /// A store shows once its cache line is flushed; see `CalgaryUnit.holdLine`.
    case afterLineFlush
  }

  public enum Holes: Sendable, Hashable {
    /// Other PCI devices answer, or none: nothing reaches memory.
    case blocked
    /// The IOVA is the physical address.
    case untranslated
    /// Through the table, as if there were no holes.
    case translated
  }

  public enum TranslationOff: Sendable, Hashable { case identity, blocked }
  public enum DualAddressCycles: Sendable, Hashable { case untranslated, blocked }
  public enum Agent: Sendable, Hashable { case deviceNumber, zero }

  public enum FailedRequests: Sendable, Hashable {
    /// Writes vanish, reads return all ones, and the device is told nothing.
    case dropped
    /// The device sees a target abort.
    case aborted
  }

  public enum ErrorLatch: Sendable, Hashable {
    case first
    case last
    /// The first, and the PHB blocks everything until CSR is cleared.
    case firstAndStop
  }

  public enum SlotDisable: Sendable, Hashable { case anyBit, allBits }

  public struct IdleValues: Sendable, Hashable {
    public var arbitration: UInt32 = 0xffff_ffff
    public var splitQueue: UInt64 = 0xff00_0000_0000_0000
    public init() {}
  }

  public enum ChipConfiguration: Sendable, Hashable { case stored, readOnly }

  public enum PageMigration: Sendable, Hashable {
    /// After SOFTSTOP is written, the next read of the control register stops the PHB; 0 ends it.
    case hardStopOnRead
    /// The control register is storage; reading it does nothing.
    case storage
  }

  public enum BaseRegister: Sendable, Hashable {
    case unimplemented
    /// A read-only quadword with BBAR.
    case readable
  }

  public enum UnusedBuses: Sendable, Hashable {
    /// First and last bus are the PHB's own bus number.
    case ownNumber
    /// All zeros, which claims bus 0.
    case zero
  }

  public enum InterruptWrites: Sendable, Hashable {
    /// A write is a message, a read reaches nothing.
    case untranslated
    case translated
  }

  public enum Kexec: Sendable, Hashable { case keepsEverything, dropsCaches, resets }

  public enum AccessSizes: Sendable, Hashable {
    /// Four or eight bytes at a multiple of their number; the halves of a quadword change in place.
    case alignedWords
    /// One to eight bytes anywhere.
    case anyBytes
  }
}

extension CalgaryOptions {
  /// The open questions in order: number, option and default, as `docs/calgary-options.md` lists
  /// them.
  public var list: [(question: String, name: String, value: String)] {
    Mirror(reflecting: self).children.enumerated().map { index, option in
      ("U\(index + 1)", option.label ?? "", Self.text(option.value))
    }
  }

  /// `ignored`, `none`, or a structure's parts in parentheses.
  private static func text(_ value: Any) -> String {
    if let range = value as? Range<IOVA> { return range.text }
    let mirror = Mirror(reflecting: value)
    switch mirror.displayStyle {
    case .optional: return mirror.children.first.map { text($0.value) } ?? "none"
    case .struct:
      return mirror.children.map { "\($0.label ?? "") \(text($0.value))" }.joined(separator: ", ")
    default:
      if let number = value as? UInt32 { return hexadecimal(number) }
      if let number = value as? UInt64 { return hexadecimal(number) }
      return "\(value)"
    }
  }
}
