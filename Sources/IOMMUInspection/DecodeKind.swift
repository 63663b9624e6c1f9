import IOMMUFormats

/// Every entry and register that can be taken apart by name.
public enum DecodeKind: String, CaseIterable, Sendable {
  case tce, tar
  case configRW = "config-rw"
  case stuff, gatt
  case gartControl = "gart-control"
  case gartBase = "gart-base"
  case gartTable = "gart-table"
  case gartCache = "gart-cache"
  case root, context
  case smRoot = "sm-root"
  case smContext = "sm-context"
  case pasidDirectory = "pasid-dir"
  case pasid
  case ssPML5E = "ss-pml5e"
  case ssPML4E = "ss-pml4e"
  case ssPDPE = "ss-pdpe"
  case ssPDE = "ss-pde"
  case ssPTE = "ss-pte"
  case fsPML5E = "fs-pml5e"
  case fsPML4E = "fs-pml4e"
  case fsPDPE = "fs-pdpe"
  case fsPDE = "fs-pde"
  case fsPTE = "fs-pte"
  case cap, ecap, gsts, rtaddr

  /// Finds a kind by its name or an alias; upper and lower case are the same.
  ///
  /// - Throws: ``DecodeError/unknownKind(_:)``, which lists the names there are.
  public init(named text: String) throws(DecodeError) {
    let name = text.lowercased()
    let found = Self.allCases.first { $0.rawValue == name || $0.aliases.contains(name) }
    guard let found else { throw .unknownKind(text) }
    self = found
  }

  /// Other names for the same kind, lower case.
  public var aliases: [String] {
    switch self {
    case .tar: ["table-address"]
    case .configRW: ["config"]
    case .stuff: ["bus-range"]
    case .gatt: ["gart", "gart-entry"]
    case .root: ["re", "root-entry"]
    case .context: ["ce", "ctx", "context-entry"]
    case .smRoot: ["scalable-root"]
    case .smContext: ["sm-ctx", "scalable-context"]
    case .pasidDirectory: ["pasid-directory", "pde"]
    case .pasid: ["pasid-entry", "pe"]
    case .ssPML5E: ["slpml5e"]
    case .ssPML4E: ["slpml4e"]
    case .ssPDPE: ["slpdpe"]
    case .ssPDE: ["slpde"]
    case .ssPTE: ["slpte"]
    case .fsPML5E: ["flpml5e"]
    case .fsPML4E: ["flpml4e"]
    case .fsPDPE: ["flpdpe"]
    case .fsPDE: ["flpde"]
    case .fsPTE: ["flpte"]
    case .cap: ["cap-reg", "capability"]
    case .ecap: ["ecap-reg", "extended-capability"]
    case .gsts: ["gsts-reg", "global-status"]
    case .rtaddr: ["rtaddr-reg", "root-table-address"]
    default: []
    }
  }

  /// What it is, in one line.
  public var summary: String {
    switch self {
    case .tce: "Calgary translation control entry, one 4 KiB page"
    case .tar: "Calgary table address register of a PHB"
    case .configRW: "Calgary CONFIG_RW register of a PHB"
    case .stuff: "Calgary bus range register of a PHB"
    case .gatt: "GART table entry, one 4 KiB page of the aperture"
    case .gartControl: "GART aperture control, function 3 offset 0x90"
    case .gartBase: "GART aperture base, function 3 offset 0x94"
    case .gartTable: "GART table base, function 3 offset 0x98"
    case .gartCache: "GART cache control, function 3 offset 0x9c"
    case .root: "VT-d root entry of a bus"
    case .context: "VT-d context entry of a device"
    case .smRoot: "VT-d scalable-mode root entry of a bus"
    case .smContext: "VT-d scalable-mode context entry of a device"
    case .pasidDirectory: "VT-d PASID directory entry, 64 PASIDs"
    case .pasid: "VT-d PASID table entry"
    case .ssPML5E: "VT-d second-stage entry of level 5"
    case .ssPML4E: "VT-d second-stage entry of level 4"
    case .ssPDPE: "VT-d second-stage entry of level 3: a table or a 1 GiB page"
    case .ssPDE: "VT-d second-stage entry of level 2: a table or a 2 MiB page"
    case .ssPTE: "VT-d second-stage entry of level 1, one 4 KiB page"
    case .fsPML5E: "VT-d first-stage entry of level 5"
    case .fsPML4E: "VT-d first-stage entry of level 4"
    case .fsPDPE: "VT-d first-stage entry of level 3: a table or a 1 GiB page"
    case .fsPDE: "VT-d first-stage entry of level 2: a table or a 2 MiB page"
    case .fsPTE: "VT-d first-stage entry of level 1, one 4 KiB page"
    case .cap: "VT-d capability register"
    case .ecap: "VT-d extended capability register"
    case .gsts: "VT-d global status register"
    case .rtaddr: "VT-d root table address register"
    }
  }

  /// Bits in the entry: 32, 64, 128, 256 or 512.
  public var bitCount: Int { type.bitCount }

  /// Words that ``describe(_:limits:)`` takes: one for each 64 bits, at least one.
  public var wordCount: Int { type.quadwordCount }

  private var type: any TableEntry.Type {
    switch self {
    case .tce: Calgary.TranslationControlEntry.self
    case .tar: Calgary.TableAddressRegister.self
    case .configRW: Calgary.ConfigurationRegister.self
    case .stuff: Calgary.BusRangeRegister.self
    case .gatt: GART.GATTEntry.self
    case .gartControl: GART.ApertureControl.self
    case .gartBase: GART.ApertureBase.self
    case .gartTable: GART.TableBase.self
    case .gartCache: GART.CacheControl.self
    case .root: VTd.RootEntry.self
    case .context: VTd.ContextEntry.self
    case .smRoot: VTd.ScalableRootEntry.self
    case .smContext: VTd.ScalableContextEntry.self
    case .pasidDirectory: VTd.PASIDDirectoryEntry.self
    case .pasid: VTd.PASIDTableEntry.self
    case .ssPML5E, .ssPML4E, .ssPDPE, .ssPDE, .ssPTE: VTd.SecondStageEntry.self
    case .fsPML5E, .fsPML4E, .fsPDPE, .fsPDE, .fsPTE: VTd.FirstStageEntry.self
    case .cap: VTd.Capability.self
    case .ecap: VTd.ExtendedCapability.self
    case .gsts: VTd.GlobalStatus.self
    case .rtaddr: VTd.RootTableAddress.self
    }
  }

  /// Takes an entry of this kind apart.
  ///
  /// - Parameters:
  ///   - words: The value as the manual numbers its bits (a TCE's is big-endian in memory, not
  ///     here); as quadwords, low first, for entries of more than 64 bits.
  ///   - limits: What the unit allows; decides which bits of VT-d entries are reserved.
  public func describe(
    _ words: [UInt64], limits: VTd.Limits = .permissive
  ) throws(DecodeError) -> EntryDescription {
    guard words.count == wordCount else { throw .wordCount(self, given: words.count) }
    if bitCount < 64, let word = words.first, word >> UInt64(bitCount) != 0 {
      throw .tooWide(self, word)
    }
    let word = words[0]
    func plain<Entry: Explained>(_: Entry.Type) -> EntryDescription
    where Entry.Variant == OnlyVariant {
      EntryDescription(explaining: Entry(low: word, high: 0), OnlyVariant())
    }
    func secondStage(level: Int) -> EntryDescription {
      let entry = VTd.SecondStageEntry(rawValue: word)
      let variant = VTd.SecondStageEntry.Variant(
        level: level, isLeaf: entry.hasPageSizeBit, limits: limits)
      return EntryDescription(explaining: entry, variant, name: variant.name)
    }
    func firstStage(level: Int) -> EntryDescription {
      let entry = VTd.FirstStageEntry(rawValue: word)
      let variant = VTd.FirstStageEntry.Variant(
        level: level, isLeaf: entry.hasPageSizeBit, limits: limits)
      return EntryDescription(explaining: entry, variant, name: variant.name)
    }
    func limited<Entry: Explained>(_: Entry.Type) -> EntryDescription
    where Entry.Variant == VTd.Limits {
      var entry = Entry(low: 0, high: 0)
      for (index, word) in words.enumerated() { entry[quadword: index] = word }
      return EntryDescription(explaining: entry, limits)
    }
    switch self {
    case .tce: return plain(Calgary.TranslationControlEntry.self)
    case .tar: return plain(Calgary.TableAddressRegister.self)
    case .configRW: return plain(Calgary.ConfigurationRegister.self)
    case .stuff: return plain(Calgary.BusRangeRegister.self)
    case .gatt: return plain(GART.GATTEntry.self)
    case .gartControl: return plain(GART.ApertureControl.self)
    case .gartBase: return plain(GART.ApertureBase.self)
    case .gartTable: return plain(GART.TableBase.self)
    case .gartCache: return plain(GART.CacheControl.self)
    case .root: return limited(VTd.RootEntry.self)
    case .context: return limited(VTd.ContextEntry.self)
    case .smRoot: return limited(VTd.ScalableRootEntry.self)
    case .smContext: return limited(VTd.ScalableContextEntry.self)
    case .pasidDirectory: return limited(VTd.PASIDDirectoryEntry.self)
    case .pasid: return limited(VTd.PASIDTableEntry.self)
    case .ssPML5E: return secondStage(level: 5)
    case .ssPML4E: return secondStage(level: 4)
    case .ssPDPE: return secondStage(level: 3)
    case .ssPDE: return secondStage(level: 2)
    case .ssPTE: return secondStage(level: 1)
    case .fsPML5E: return firstStage(level: 5)
    case .fsPML4E: return firstStage(level: 4)
    case .fsPDPE: return firstStage(level: 3)
    case .fsPDE: return firstStage(level: 2)
    case .fsPTE: return firstStage(level: 1)
    case .cap: return plain(VTd.Capability.self)
    case .ecap: return plain(VTd.ExtendedCapability.self)
    case .gsts: return plain(VTd.GlobalStatus.self)
    case .rtaddr: return plain(VTd.RootTableAddress.self)
    }
  }
}

/// Why a value cannot be taken apart, and what to give instead.
public enum DecodeError: Error, Equatable, CustomStringConvertible {
  case unknownKind(String)
  case wordCount(DecodeKind, given: Int)
  case tooWide(DecodeKind, UInt64)
  case hostAddressWidth(Int)

  public var description: String {
    switch self {
    case .unknownKind(let text):
      return "there is no entry called '\(text)'; choose one of "
        + DecodeKind.allCases.map(\.rawValue).joined(separator: ", ")
    case .wordCount(let kind, let given):
      let want =
        switch kind.wordCount {
        case 1: "takes one value"
        case 2: "takes two quadwords, the low one first"
        default: "takes \(kind.wordCount) quadwords, the lowest first"
        }
      return "'\(kind.rawValue)' \(want), and \(given) were given"
    case .tooWide(let kind, let word):
      return "\(hexadecimal(word)) does not fit: '\(kind.rawValue)' has \(kind.bitCount) bits; "
        + "give one entry at a time"
    case .hostAddressWidth(let width):
      return "a host address width of \(width) bits does not exist; give 32 to 52"
    }
  }
}

extension VTd.Limits {
  /// These limits with another host address width, as a user gives it.
  ///
  /// - Throws: ``DecodeError/hostAddressWidth(_:)`` outside 32 to 52.
  public func withHostAddressWidth(_ width: Int) throws(DecodeError) -> VTd.Limits {
    guard 32...52 ~= width else { throw .hostAddressWidth(width) }
    var limits = self
    limits.hostAddressWidth = width
    return limits
  }
}
