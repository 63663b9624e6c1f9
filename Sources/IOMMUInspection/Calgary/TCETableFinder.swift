import IOMMUFormats
import IOMMUTranslation

extension Calgary {
  /// Finds TCE tables.
  ///
  /// Nothing points at a flat table in memory, so its entries have to speak for it: how many there
  /// are, that all are written as drivers write them, and that it lies where drivers put it, at a
  /// multiple of its own size.
  struct TCETableFinder: TableFinder {
    private var pages = KeptPages()
    private var isCut = false

    var isExhausted: Bool { isCut || pages.isFull }

    static var hardware: String { Calgary.hardware }

    /// Drivers write zeros into the bits that the chip ignores. Entries are big-endian.
    static let excludedBits: SIMD8<UInt64>? = everyQuadword(
      Calgary.TranslationControlEntry.fields.filter { $0.use == .ignored }
        .reduce(0) { $0 | $1.mask }.byteSwapped)

    mutating func see(_ page: Span<UInt8>, at address: PhysicalAddress) {
      if pages.takes(address), hasTCEs(page) { pages.add(address) }
    }

    mutating func candidates(
      in memory: some PhysicalMemory, crashKernel _: [Range<PhysicalAddress>]
    ) -> [TableCandidate] {
      guard !pages.numbers.isEmpty else { return [] }
      var judge = TCETableJudge(memory: memory)
      let tables = judge.tceTables(pages: pages.numbers)
      isCut = judge.isCut
      return tables
    }

    static func unit(of candidate: TableCandidate, _: TableHints) -> FoundUnit {
      guard
        let size = Calgary.TableSize.allCases.first(where: {
          $0.byteCount == candidate.byteCount
        })
      else { return .unknown("no TCE table has \(byteCountText(candidate.byteCount))") }
      return .unit(TranslationUnit(Calgary.FoundTable(at: candidate.address, size: size)))
    }

    static var names: [TableName] {
      [TableName("tce", "a TCE table", takesByteCount: true, of: Self.self)]
    }

    static func candidate(
      named _: TableName, at address: PhysicalAddress, byteCount: UInt64?,
      in memory: some PhysicalMemory
    ) -> TableCandidate? {
      guard let byteCount else {
        return candidate(
          at: address, within: Calgary.TableSize.allCases.map(\.byteCount).max()!, in: memory)
      }
      guard Calgary.TableSize.allCases.contains(where: { $0.byteCount == byteCount }) else {
        return nil
      }
      return TableCandidate(
        kind: .tceTable, address: address, byteCount: byteCount, score: 0, reasons: [])
    }

    /// A page of a table that is worth finding has several.
    private func hasTCEs(_ page: Span<UInt8>) -> Bool {
      var count = 0
      for offset in stride(from: 0, to: page.count, by: 8) {
        let word = page.integer(UInt64.self, at: offset)
        guard word != 0 else { continue }
        let entry = Calgary.TranslationControlEntry(rawValue: word.byteSwapped)
        guard !entry.permissions.isEmpty, entry.page.rawValue != 0 else { return false }
        count += 1
      }
      return count >= 4
    }
  }
}

extension TableCandidate.Kind {
  /// A TCE table of a Calgary or CalIOC2 chip.
  public static let tceTable = Self("TCE table", of: Calgary.TCETableFinder.self)
}

/// Judges runs of pages that may be TCE tables.
private struct TCETableJudge<Memory: PhysicalMemory> {
  let memory: Memory
  let endOfMemory: UInt64
  let stored: [Range<PhysicalAddress>]
  /// What is known of 64 KiB, by their first byte: tables of any size are made of such blocks.
  private var blocks: [UInt64: TCECensus] = [:]

  init(memory: Memory) {
    self.memory = memory
    endOfMemory = memory.endOfMemory
    stored = memory.storedPageRanges
  }

  /// Places looked at, of 64 KiB each: machines have a dozen tables.
  private static var startLimit: Int { 1 << 14 }

  /// There were more places than that.
  private(set) var isCut = false

  /// The TCE tables among pages that look like parts of one.
  ///
  /// - Parameter pages: Ascending page numbers, each with TCEs in it.
  mutating func tceTables(pages: [UInt64]) -> [TableCandidate] {
    let smallest = Self.blockByteCount
    // Tables lie at multiples of 64 KiB: pages of the same 64 KiB are parts of one.
    var starts: [UInt64] = []
    for page in pages {
      let start = page * 4096 & ~(smallest - 1)
      if starts.last != start { starts.append(start) }
    }
    isCut = starts.count > Self.startLimit
    let beginnings = memory.forgetting(starts).filter(isBeginning)
    var candidates: [TableCandidate] = []
    var covered: UInt64 = 0
    for start in memory.forgetting(starts.prefix(Self.startLimit)) where start >= covered {
      let next = beginnings.partitioningIndex { $0 > start }
      let limit = next < beginnings.count ? beginnings[next] : .max
      // A driver aligns a table to its size, and the next one begins after it.
      var size: Calgary.TableSize?
      for larger in Calgary.TableSize.allCases
      where start % larger.byteCount == 0 && larger.byteCount <= limit - start {
        if isTCETable(start, larger) { size = larger }
      }
      guard let size, let table = tceTable(PhysicalAddress(start), size) else { continue }
      candidates.append(table.doubted(for: missingPart(start, size)))
      covered = start + size.byteCount
    }
    return candidates
  }

  /// Drivers leave the first 32 entries free and take numbers from there on.
  private func isBeginning(_ start: UInt64) -> Bool {
    let words = (0..<32).map { memory.quadword(at: PhysicalAddress(start + 8 * $0)) }
    return words.allSatisfy { $0 == 0 }
  }

  /// Something of the table's first and of its last 64 KiB is there, and hardly anything in it is no
  /// TCE.
  private mutating func isTCETable(_ start: UInt64, _ size: Calgary.TableSize) -> Bool {
    guard hasPage(start), hasPage(start + (size.byteCount - Self.blockByteCount)) else {
      return false
    }
    let count = tceCensus(PhysicalAddress(start), size)
    return count.strange * 8 <= count.used
  }

  private static var blockByteCount: UInt64 { Calgary.TableSize.kib64.byteCount }

  private func isMissing(_ page: UInt64) -> Bool {
    memory.quadword(at: PhysicalAddress(page)) == nil
  }

  private func hasPage(_ block: UInt64) -> Bool {
    stride(from: block, to: block + Self.blockByteCount, by: 4096).contains { !isMissing($0) }
  }

  /// The page for which a table's length is not certain: the dump lacks its end, or a page where it or
  /// another table may begin.
  private func missingPart(_ start: UInt64, _ size: Calgary.TableSize) -> PhysicalAddress? {
    let last = start + (size.byteCount - 4096)
    let beginnings = stride(from: start, to: last, by: Int(Self.blockByteCount))
    return (beginnings.first(where: isMissing) ?? (isMissing(last) ? last : nil))
      .map { PhysicalAddress($0) }
  }

  private mutating func tceTable(_ start: PhysicalAddress, _ size: Calgary.TableSize)
    -> TableCandidate?
  {
    let count = tceCensus(start, size)
    guard count.used > 0, count.strange * 8 <= count.used else { return nil }
    let limit = max(endOfMemory, 1)
    var score = 30.0
    var reasons = [
      "\(countText(count.used, "entry", plural: "entries")) in use, "
        + "\(count.strange) written as no driver writes them"
    ]
    // A few entries may be chance; dozens are not.
    score += 30 * min(1, Double(count.used) / 32)
    let inMemory = Double(count.belowEnd) / Double(count.used)
    score += 20 * inMemory * inMemory
    if count.belowEnd == count.used {
      reasons.append("all name pages below the end of memory \(hexadecimal(limit))")
    }
    if count.firstIndex >= 32 {
      score += 10
      reasons.append("the first 32 entries are free, as drivers leave them")
    }
    if start.isAligned(to: size.byteCount) {
      score += 10
      reasons.append("lies at a multiple of its size")
    }
    if count.used < 16 { score = min(score, 40) }
    if count.strange > 0 { score -= 10 }
    return TableCandidate(
      kind: .tceTable, address: start, byteCount: size.byteCount, score: Int(score.rounded()),
      reasons: reasons)
  }

  private struct TCECensus {
    var used = 0
    var strange = 0
    var belowEnd = 0
    var firstIndex: UInt64 = .max

    /// Joins what is known of a part of the table that begins at an entry.
    mutating func add(_ other: TCECensus, at index: UInt64) {
      used += other.used
      strange += other.strange
      belowEnd += other.belowEnd
      if other.used > 0 { firstIndex = min(firstIndex, index + other.firstIndex) }
    }
  }

  private mutating func tceCensus(
    _ start: PhysicalAddress, _ size: Calgary.TableSize
  ) -> TCECensus {
    var census = TCECensus()
    for offset in stride(from: 0, to: size.byteCount, by: Int(Self.blockByteCount)) {
      let block = start.rawValue + offset
      let known = blocks[block] ?? tceCensus(PhysicalAddress(block), byteCount: Self.blockByteCount)
      blocks[block] = known
      census.add(known, at: offset / 8)
    }
    return census
  }

  private func tceCensus(_ start: PhysicalAddress, byteCount: UInt64) -> TCECensus {
    var census = TCECensus()
    let ignored = Calgary.TranslationControlEntry.fields.filter { $0.use == .ignored }
    let mask = ignored.reduce(0) { $0 | $1.mask }
    memory.forEachPiece(of: start..<PhysicalAddress(start.rawValue + byteCount), in: stored) {
      page, bytes in
      for offset in stride(from: 0, to: bytes.count - 7, by: 8) {
        let word = bytes.integer(UInt64.self, at: offset)
        guard word != 0 else { continue }
        let entry = Calgary.TranslationControlEntry(rawValue: word.byteSwapped)
        guard entry.rawValue & mask == 0, !entry.permissions.isEmpty, entry.page.rawValue != 0
        else {
          census.strange += 1
          continue
        }
        census.used += 1
        if entry.page.rawValue < endOfMemory { census.belowEnd += 1 }
        census.firstIndex = min(
          census.firstIndex, (page.rawValue - start.rawValue + UInt64(offset)) / 8)
      }
    }
    return census
  }
}
