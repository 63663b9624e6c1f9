import IOMMUFormats
import IOMMULinux
import IOMMUTranslation

extension VTd {
  /// Finds root tables, in either mode.
  struct RootTableFinder: TableFinder {
    private var pages = KeptPages()
    private(set) var isExhausted = false

    static var hardware: String { VTd.hardware }
    static var kernelKind: KernelUnit.Kind? { .vtd }

    static let excludedBits: SIMD8<UInt64>? = everyQuadword(
      VTd.RootEntry.reservedMasks(.permissive).low)

    mutating func see(_ page: Span<UInt8>, at address: PhysicalAddress) {
      if pages.takes(address), isRoot(page) { pages.add(address) }
    }

    mutating func candidates(
      in memory: some PhysicalMemory, crashKernel: [Range<PhysicalAddress>]
    ) -> [TableCandidate] {
      var judge = RootJudge(memory: memory)
      var roots: [RootCandidate] = []
      for page in memory.forgetting(pages.numbers) {
        guard let root = judge.candidate(at: PhysicalAddress(page * 4096)),
          root.candidate.score >= TableSearch.lowestScore
        else { continue }
        roots.append(root)
      }
      isExhausted = judge.isExhausted || pages.isFull
      return OwnerJudge(crashKernel: crashKernel).judged(roots)
    }

    /// A machine's unit keeps what is known of it besides its root table: the one that the hints name,
    /// or the only one.
    static func unit(of candidate: TableCandidate, _ hints: TableHints) -> FoundUnit {
      let mode: VTd.TranslationTableMode = candidate.kind == .rootTable ? .legacy : .scalable
      let root = VTd.RootTableAddress(rootTable: candidate.address, mode: mode)
      let known = hints.units.compactMap { $0.as(VTd.Unit.self) }
      let same =
        hints.unitBase.map { base in known.first { $0.base == base } }
        ?? (known.count == 1 ? known[0] : nil)
      guard var unit = same else {
        return .unit(
          .vtd(
            VTd.Unit(
              base: hints.unitBase ?? PhysicalAddress(0), rootTableAddress: root, status: nil,
              limits: .permissive)))
      }
      unit.rootTableAddress = root
      // Whoever names a root wants it in force; what else the status says stays known.
      if !unit.translates { unit.status = nil }
      return .unit(.vtd(unit))
    }

    static func requesters(
      of unit: TranslationUnit, in memory: some PhysicalMemory
    ) -> Set<Requester>? {
      unit.as(VTd.Unit.self).map { Set($0.requesters(in: memory)) }
    }

    private static let anyMode = "vtd"
    private static let legacyMode = "vtd-legacy"
    private static let scalableMode = "vtd-scalable"

    static var names: [TableName] {
      [
        TableName(
          anyMode, "a VT-d root table, in the mode that fits", takesUnitBase: true, of: Self.self),
        TableName(
          legacyMode, "a VT-d root table of legacy mode", takesUnitBase: true, of: Self.self),
        TableName(
          scalableMode, "a VT-d root table of scalable mode", takesUnitBase: true, of: Self.self),
      ]
    }

    /// In the mode that fits better, legacy when none does, or in the mode that the name says.
    static func candidate(
      named name: TableName, at address: PhysicalAddress, byteCount _: UInt64?,
      in memory: some PhysicalMemory
    ) -> TableCandidate? {
      func plain(_ kind: TableCandidate.Kind) -> TableCandidate {
        TableCandidate(
          kind: kind, address: address, byteCount: PageCount.pageByteCount, score: 0,
          reasons: ["leads to no device"])
      }
      switch name.text {
      case legacyMode: return plain(.rootTable)
      case scalableMode: return plain(.scalableRootTable)
      default:
        var judge = RootJudge(memory: memory)
        return judge.candidate(at: address)?.candidate ?? plain(.rootTable)
      }
    }

    static func doubt(of unit: TranslationUnit, in memory: some PhysicalMemory) -> String? {
      guard let unit = unit.as(VTd.Unit.self), unit.translates,
        [.legacy, .scalable].contains(unit.rootTableAddress.mode)
      else { return nil }
      let tables = unit.tables(in: memory)
      let broken = tables.damages.count { $0.kind == VTd.rootTable }
      let what: String
      if broken > 0 {
        what = "has \(countText(broken, "entry", plural: "entries")) with reserved bits set"
      } else if tables.tables.isEmpty, tables.gaps.isEmpty {
        what = "leads to no device, so that the unit blocks all"
      } else {
        return nil
      }
      return "the root table at \(unit.rootTableAddress.rootTable) \(what): is it of this dump? "
        + "'iommu find' lists root tables"
    }

    /// A root table whose entries lead to devices in the other mode alone.
    static func objection(
      to name: TableName, at address: PhysicalAddress, in memory: some PhysicalMemory
    ) -> String? {
      guard name.text != anyMode else { return nil }
      let named: TableCandidate.Kind = name.text == legacyMode ? .rootTable : .scalableRootTable
      var judge = RootJudge(memory: memory)
      guard judge.judge(address, as: named) == nil, let other = judge.candidate(at: address),
        other.candidate.isCertain
      else { return nil }
      let mode = name.text == legacyMode ? scalableMode : legacyMode
      return "its entries lead to no device in this mode, and to devices in the other; write "
        + "\(mode):\(address)"
    }

    /// Whose a root table is, by where its tables lie; `nil` where nothing tells.
    static func owner(
      of address: PhysicalAddress, in memory: some PhysicalMemory
    ) -> TableCandidate.Owner? {
      var judge = RootJudge(memory: memory)
      guard let root = judge.candidate(at: address) else { return nil }
      return root.looksCopied ? .captureKernel : nil
    }

    private func isRoot(_ page: Span<UInt8>) -> Bool {
      var isUsed = false
      for offset in stride(from: 0, to: page.count, by: 8) {
        let entry = VTd.RootEntry(
          low: page.integer(UInt64.self, at: offset))
        guard entry.low != 0 else { continue }
        guard entry.isPresent, entry.contextTable.rawValue != 0 else { return false }
        isUsed = true
      }
      return isUsed
    }
  }

  /// What tables of these units are found as.
  static var hardware: String { "VT-d" }
}

extension TableCandidate.Kind {
  /// The root table of a VT-d unit, in legacy mode.
  public static let rootTable = Self("VT-d root table", of: VTd.RootTableFinder.self)
  /// The root table of a VT-d unit, in scalable mode.
  public static let scalableRootTable = Self(
    "VT-d root table, scalable mode", of: VTd.RootTableFinder.self)
}
