import IOMMUFormats
import IOMMULinux
import IOMMUTranslation

extension AMDVi {
  /// What tables of these units are found as.
  static var hardware: String { "AMD-Vi" }

  /// Finds device tables.
  struct DeviceTableFinder: TableFinder {
    private var pages = KeptPages()
    private(set) var isExhausted = false

    static var hardware: String { AMDVi.hardware }
    static var kernelKind: KernelUnit.Kind? { .amdvi }

    /// Two entries to 64 bytes.
    static let excludedBits: SIMD8<UInt64>? = {
      let masks = AMDVi.DeviceTableEntry.reservedMasks(.permissive)
      let words = (0..<4).map { masks[quadword: $0] }
      return SIMD8(words + words)
    }()

    mutating func see(_ page: Span<UInt8>, at address: PhysicalAddress) {
      if pages.takes(address), DeviceTableJudge<FlatMemory>.hasEntries(page) { pages.add(address) }
    }

    mutating func candidates(
      in memory: some PhysicalMemory, crashKernel: [Range<PhysicalAddress>]
    ) -> [TableCandidate] {
      var judge = DeviceTableJudge(memory: memory)
      let tables = judge.tables(pages: pages.numbers)
      isExhausted = judge.isExhausted || pages.isFull
      return OwnerJudge(crashKernel: crashKernel).judged(
        tables.filter { $0.candidate.score >= TableSearch.lowestScore })
    }

    /// A machine's unit keeps what is known of it besides its device table: the one that the hints name,
    /// or the only one.
    static func unit(of candidate: TableCandidate, _ hints: TableHints) -> FoundUnit {
      let pageCount = candidate.byteCount / PageCount.pageByteCount
      guard candidate.byteCount % PageCount.pageByteCount == 0, 1...512 ~= pageCount else {
        return .unknown("a device table has 4 KiB to 2 MiB, in steps of 4 KiB")
      }
      let table = AMDVi.DeviceTableBase(
        address: candidate.address, byteCount: candidate.byteCount)
      let known = hints.units.compactMap { $0.as(AMDVi.Unit.self) }
      let same =
        hints.unitBase.map { base in known.first { $0.base == base } }
        ?? (known.count == 1 ? known[0] : nil)
      guard var unit = same else {
        return .unit(
          .amdvi(
            AMDVi.Unit(
              base: hints.unitBase ?? PhysicalAddress(0), deviceTable: table, control: nil)))
      }
      unit.deviceTable = table
      unit.furtherSegments = []
      // Whoever names a table wants it in force, all of it.
      if !unit.translates || unit.control?.segmentCode != 0 { unit.control = nil }
      return .unit(.amdvi(unit))
    }

    static func requesters(
      of unit: TranslationUnit, in memory: some PhysicalMemory
    ) -> Set<Requester>? {
      unit.as(AMDVi.Unit.self).map { unit in
        Set(unit.tables(in: memory).tables.compactMap { $0.owner.device?.requester })
      }
    }

    static var names: [TableName] {
      [
        TableName(
          "amdvi", "an AMD-Vi device table", takesByteCount: true, takesUnitBase: true,
          of: Self.self)
      ]
    }

    static func candidate(
      named _: TableName, at address: PhysicalAddress, byteCount: UInt64?,
      in memory: some PhysicalMemory
    ) -> TableCandidate? {
      if let byteCount {
        guard byteCount % PageCount.pageByteCount == 0,
          1...512 ~= byteCount / PageCount.pageByteCount
        else { return nil }
        return TableCandidate(
          kind: .deviceTable, address: address, byteCount: byteCount, score: 0, reasons: [])
      }
      var judge = DeviceTableJudge(memory: memory)
      return judge.table(at: address)?.candidate
    }

    static func doubt(of unit: TranslationUnit, in memory: some PhysicalMemory) -> String? {
      guard let unit = unit.as(AMDVi.Unit.self), unit.translates else { return nil }
      if let doubt = unit.segmentDoubt { return doubt }
      let tables = unit.tables(in: memory)
      let broken = tables.damages.count + tables.omittedDamageCount
      let what: String
      if broken > 0 {
        what = "has \(countText(broken, "entry", plural: "entries")) that no unit takes"
      } else if tables.tables.isEmpty, tables.gaps.isEmpty {
        what = "has a table for no device"
      } else {
        return nil
      }
      return "the device table at \(unit.deviceTable.address) \(what): is it of this dump? "
        + "'iommu find' lists device tables"
    }
  }
}

extension AMDVi.Unit {
  /// What is wrong with the number of segments that control asks for.
  fileprivate var segmentDoubt: String? {
    guard hasImpossibleSegments, let code = control?.segmentCode else { return nil }
    let offered =
      features.map { "EFR offers \($0.maximumSegmentCode) (DevTblSegSup)" } ?? "the most is 3"
    return "DevTblSegEn of \(name) is \(code), and \(offered): no unit takes that; the device "
      + "table at \(deviceTable.address) is taken to be all"
  }
}

extension TableCandidate.Kind {
  /// The device table of AMD-Vi units.
  public static let deviceTable = Self("AMD-Vi device table", of: AMDVi.DeviceTableFinder.self)
}

/// What no unit lets an entry have.
private let alwaysReserved = AMDVi.DeviceTableEntry.reservedMasks(.permissive)

/// Judges runs of pages that may be device tables, by following them as hardware would.
private struct DeviceTableJudge<Memory: PhysicalMemory> {
  let memory: Memory
  private var budget: SearchBudget

  private static var largest: UInt64 { 512 }

  init(memory: Memory) {
    self.memory = memory
    budget = SearchBudget(for: memory)
  }

  var isExhausted: Bool { budget.isCut }

  /// Whether a page may be part of a device table: each entry is zero, or says something legal of
  /// requests or interrupts.
  static func hasEntries(_ page: Span<UInt8>) -> Bool {
    let counts = entryCounts(of: page)
    return counts.plausible > 0 && counts.strange == 0
  }

  /// Whether a page beside such ones belongs to them: a broken or half-written entry is among many that
  /// are not.
  private func mayContinue(_ page: UInt64) -> Bool {
    guard let bytes = memory.bytes(at: PhysicalAddress(page * 4096), count: 4096) else {
      return false
    }
    let counts = Self.entryCounts(of: bytes.span)
    return counts.plausible >= 32 && counts.strange * 16 <= counts.plausible
  }

  private static func entryCounts(of page: Span<UInt8>) -> (plausible: Int, strange: Int) {
    var counts = (plausible: 0, strange: 0)
    for offset in stride(from: 0, to: page.count, by: Int(AMDVi.deviceTableEntryByteCount)) {
      var entry = AMDVi.DeviceTableEntry(
        low: page.integer(UInt64.self, at: offset), high: page.integer(UInt64.self, at: offset + 8))
      entry[quadword: 2] = page.integer(UInt64.self, at: offset + 16)
      entry[quadword: 3] = page.integer(UInt64.self, at: offset + 24)
      guard entry != AMDVi.DeviceTableEntry() else { continue }
      if isPlausible(entry) { counts.plausible += 1 } else { counts.strange += 1 }
    }
    return counts
  }

  private static func isPlausible(_ entry: AMDVi.DeviceTableEntry) -> Bool {
    guard entry.isValid || entry.isInterruptValid, !entry.overlaps(alwaysReserved) else {
      return false
    }
    if !entry.isValid, entry.low != 0 || entry.high != 0 { return false }
    if entry.isValid {
      guard entry.mode != 7, entry.portControl != 3,
        (entry.mode == 0) == (entry.root.rawValue == 0),
        entry.isTranslationValid || entry.mode == 0,
        entry.usesGuestTables || entry.guestRootTable.rawValue == 0
      else { return false }
    }
    if entry.isInterruptValid {
      guard entry.interruptTableLengthCode < 12, entry.interruptControl != .reserved,
        entry.interruptControl != .remap || entry.interruptTable.rawValue != 0
      else { return false }
    } else if entry[quadword: 2] & ~1 != 0 {
      return false
    }
    return true
  }

  /// The device tables among pages that look like parts of one.
  ///
  /// - Parameter pages: Ascending page numbers.
  mutating func tables(pages: [UInt64]) -> [RootCandidate] {
    var found: [RootCandidate] = []
    var index = 0
    var seenEnd: UInt64 = 0
    while index < pages.count {
      guard pages[index] >= seenEnd else {
        index += 1
        continue
      }
      var start = pages[index]
      // A page with a broken entry may come first, and others between sound ones.
      while start > seenEnd, pages[index] - start < Self.largest, mayContinue(start - 1) {
        start -= 1
      }
      var last = pages[index] + 1
      index += 1
      while last - start < Self.largest {
        if index < pages.count, pages[index] <= last {
          last = max(last, pages[index] + 1)
          index += 1
        } else if mayContinue(last) {
          last += 1
        } else {
          break
        }
      }
      seenEnd = last
      while start < last {
        let count = extent(from: start, to: last)
        if let table = judge(start, count) { found.append(table) }
        start += count
      }
    }
    return found
  }

  /// The table that begins at an address; `nil` where no page there looks like one.
  mutating func table(at address: PhysicalAddress) -> RootCandidate? {
    let start = address.rawValue / 4096
    var end = start
    while end < start + Self.largest,
      let bytes = memory.bytes(at: PhysicalAddress(end * 4096), count: 4096),
      Self.hasEntries(bytes.span) || mayContinue(end)
    { end += 1 }
    guard end > start else { return nil }
    return judge(start, extent(from: start, to: end))
  }

  /// Pages of the table that begins at `start`, of a run that ends at `end`.
  ///
  /// Kernels allocate a power of two of pages at a multiple of as much; behind the last device the table
  /// is empty.
  private func extent(from start: UInt64, to end: UInt64) -> UInt64 {
    let count = min(end - start, Self.largest)
    let whole = count.nonzeroBitCount == 1 ? count : 1 << UInt64(64 - count.leadingZeroBitCount)
    guard whole > count else {
      // Of a run that is longer, as much as is aligned.
      return count
    }
    let isEmptyBehind = (start + count..<start + whole).allSatisfy { page in
      memory.bytes(at: PhysicalAddress(page * 4096), count: 4096)?.allSatisfy { $0 == 0 } ?? false
    }
    return start % whole == 0 && isEmptyBehind ? whole : count
  }

  private mutating func judge(_ start: UInt64, _ pageCount: UInt64) -> RootCandidate? {
    let address = PhysicalAddress(start * 4096)
    var candidate = TableCandidate(
      kind: .deviceTable, address: address, byteCount: pageCount * 4096, score: 0, reasons: [])
    guard budget.allowsAnother(), let unit = candidate.unit?.as(AMDVi.Unit.self) else { return nil }
    var counts = EntryCounts()
    unit.forEachDevice(in: memory, { counts.add($0.entry) }, missing: { _ in })
    // What lets no device do anything is nobody's.
    guard counts.admitting > 0 else { return nil }
    budget.entries -= Int(pageCount) * 128
    let inForce = Machine(name: "", units: [.amdvi(unit)]).tables(in: memory)
    let tables = inForce.tables
    budget.spend(on: tables)
    guard !tables.isEmpty else { return nil }
    let trees = TreeSurvey(of: tables, in: memory, budget: &budget)
    let damaged = inForce.damages.count + inForce.omittedDamageCount
    let legal = Double(counts.used - damaged) / Double(counts.used)
    let passing = tables.count(where: \.isPassThrough)
    let isTranslating = passing < tables.count
    // Without page tables nothing but the entries' own form speaks for it.
    let tree = isTranslating ? trees.soundShare : (passing > 0 ? 0.5 : 0)
    var score = 15 + 25 * legal * legal * legal + 35 * tree * tree
    if trees.leafCount > 0 { score += 10 }
    if tables.count > 1 { score += 5 }
    // All devices that a kernel knows nothing of have the same entry, and most have.
    if counts.used >= 64, counts.mostAlike * 2 >= counts.used { score += 10 }
    candidate.score = max(0, min(100, Int(score.rounded())))
    candidate.reasons.append(
      "\(counts.used - damaged) of \(countText(counts.used, "entry in use", plural: "entries in use")) "
        + "legal, \(counts.mostAlike) of them alike")
    if pageCount.nonzeroBitCount == 1, start % pageCount == 0 {
      candidate.reasons.append("lies at a multiple of its size")
    }
    if isTranslating { candidate.reasons.append(trees.text) }
    candidate.incomplete = trees.loops.map(\.text)
    candidate.reasons += candidate.incomplete
    if trees.skippedLoopCount > 0 {
      candidate.reasons.append("\(trees.skippedLoopCount) more entries that lead back")
    }
    if let gap = inForce.gaps.first {
      candidate.reasons.append(
        gap.text
          + (inForce.gaps.count > 1 ? ", and \(inForce.gaps.count - 1) more parts of tables" : ""))
    }
    if passing > 0 { candidate.reasons.append("\(passing) in pass-through") }
    // Kernels allocate device tables long before page tables: where those lie tells nothing.
    return RootCandidate(
      candidate: candidate, noun: "device table", ownTables: [address],
      trees: Set(tables.compactMap(\.root)), companions: [], companionText: "page table trees")
  }
}

/// How many entries of a device table say something, and how many say the same.
private struct EntryCounts {
  private(set) var used = 0
  /// Those with a table or without, as long as something is permitted.
  private(set) var admitting = 0
  private var alike: [AMDVi.DeviceTableEntry: Int] = [:]

  var mostAlike: Int { alike.values.max() ?? 0 }

  mutating func add(_ entry: AMDVi.DeviceTableEntry) {
    guard entry != AMDVi.DeviceTableEntry() else { return }
    used += 1
    if entry.isValid, entry.isTranslationValid, !entry.permissions.isEmpty { admitting += 1 }
    alike[entry, default: 0] += 1
  }
}
