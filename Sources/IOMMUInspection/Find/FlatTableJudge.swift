import IOMMUFormats
import IOMMUTranslation

/// Judges runs of pages that may be flat tables: TCE tables and GATTs.
///
/// Nothing points at a flat table in memory, so its entries have to speak for it: how many there
/// are, that all are written as drivers write them, and that it lies where drivers put it, at a
/// multiple of its own size.
struct FlatTableJudge<Memory: PhysicalMemory> {
  let memory: Memory
  /// The first byte past all memory.
  let endOfMemory: UInt64

  init(memory: Memory) {
    self.memory = memory
    endOfMemory = memory.backedRanges.last?.upperBound.rawValue ?? 0
  }

  /// Places looked at: each may cost a look at 16 MiB, and machines have a dozen tables.
  private static var startLimit: Int { 1024 }

  // MARK: TCE tables

  /// The TCE tables among pages that look like parts of one.
  ///
  /// - Parameter pages: Ascending page numbers, each with TCEs in it.
  func tceTables(pages: [UInt64]) -> [TableCandidate] {
    let smallest = Calgary.TableSize.kib64.byteCount
    // Tables lie at multiples of 64 KiB: pages of the same 64 KiB are parts of one.
    var starts: [UInt64] = []
    for page in pages {
      let start = page * 4096 & ~(smallest - 1)
      if starts.last != start { starts.append(start) }
    }
    let beginnings = starts.filter(isBeginning)
    var candidates: [TableCandidate] = []
    var covered: UInt64 = 0
    for start in starts.prefix(Self.startLimit) where start >= covered {
      let next = beginnings.partitioningIndex { $0 > start }
      let limit = next < beginnings.count ? beginnings[next] : .max
      // A driver aligns a table to its size, and the next one begins after it.
      let size = Calgary.TableSize.allCases.last {
        start % $0.byteCount == 0 && $0.byteCount <= limit - start && isTCETable(start, $0)
      }
      guard let size, let table = tceTable(PhysicalAddress(start), size) else { continue }
      candidates.append(table)
      covered = start + size.byteCount
    }
    return candidates
  }

  /// Drivers leave the first 32 entries free and take numbers from there on.
  private func isBeginning(_ start: UInt64) -> Bool {
    let words = (0..<32).map { memory.quadword(at: PhysicalAddress(start + 8 * $0)) }
    return words.allSatisfy { $0 == 0 }
  }

  /// All of the table is there, and hardly anything in it is no TCE.
  private func isTCETable(_ start: UInt64, _ size: Calgary.TableSize) -> Bool {
    guard memory.quadword(at: PhysicalAddress(start)) != nil,
      memory.quadword(at: PhysicalAddress(start + size.byteCount - 8)) != nil
    else { return false }
    let count = tceCensus(PhysicalAddress(start), size)
    return count.strange * 8 <= count.used
  }

  private func tceTable(_ start: PhysicalAddress, _ size: Calgary.TableSize) -> TableCandidate? {
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
  }

  private func tceCensus(_ start: PhysicalAddress, _ size: Calgary.TableSize) -> TCECensus {
    var census = TCECensus()
    let ignored = Calgary.TranslationControlEntry.fields.filter { $0.use == .ignored }
    let mask = ignored.reduce(0) { $0 | $1.mask }
    forEachPage(of: start..<PhysicalAddress(start.rawValue + size.byteCount)) { page, bytes in
      for offset in stride(from: 0, to: bytes.count - 7, by: 8) {
        let word = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        guard word != 0 else { continue }
        let entry = Calgary.TranslationControlEntry(rawValue: UInt64(bigEndian: word))
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

  // MARK: GATTs

  /// The GATTs among pages that look like parts of one.
  ///
  /// - Parameter pages: Ascending page numbers, each with a GATT entry in it.
  func gatts(pages: [UInt64]) -> [TableCandidate] {
    var candidates: [TableCandidate] = []
    var index = 0
    while index < pages.count {
      var end = index + 1
      while end < pages.count, pages[end] == pages[end - 1] + 1 { end += 1 }
      candidates += gatts(in: pages[index]..<pages[end - 1] + 1)
      index = end
    }
    return candidates
  }

  /// An aperture of 32 MiB has the smallest table, one of 2 GiB the largest.
  private static var sizes: [UInt64] { (0...6).map { UInt64(32_768) << UInt64($0) } }

  private func gatts(in run: Range<UInt64>) -> [TableCandidate] {
    var start = run.lowerBound * 4096
    let end = run.upperBound * 4096
    var candidates: [TableCandidate] = []
    while start < end {
      // The largest block that is aligned to its size and fits: so the page allocator gives them.
      guard
        let size = Self.sizes.last(where: { start % $0 == 0 && start + $0 <= end })
      else {
        start += 4096
        continue
      }
      if let candidate = gatt(PhysicalAddress(start), size) { candidates.append(candidate) }
      start += size
    }
    return candidates
  }

  private func gatt(_ start: PhysicalAddress, _ size: UInt64) -> TableCandidate? {
    var valid = 0
    var strange = 0
    var belowEnd = 0
    var odd = 0
    var uses: [UInt32: Int] = [:]
    let reserved = GART.GATTEntry.reservedMasks(OnlyVariant()).low
    forEachPage(of: start..<PhysicalAddress(start.rawValue + size)) { _, bytes in
      for offset in stride(from: 0, to: bytes.count - 3, by: 4) {
        let word = UInt32(
          littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        guard word != 0 else { continue }
        let entry = GART.GATTEntry(rawValue: word)
        guard UInt64(word) & reserved == 0, entry.page.rawValue != 0 else {
          strange += 1
          continue
        }
        guard entry.isValid else { continue }
        valid += 1
        if offset % 8 == 4 { odd += 1 }
        if entry.page.rawValue < endOfMemory { belowEnd += 1 }
        if uses.count < 65_536 || uses[word] != nil { uses[word, default: 0] += 1 }
      }
    }
    let entryCount = Int(size / 4)
    guard valid * 4 >= entryCount, strange * 64 <= valid else { return nil }
    var score = 30 + 20 * Double(valid) / Double(entryCount)
    var reasons = [
      "\(valid) of \(entryCount) entries valid, \(strange) with reserved bits",
      "lies at a multiple of its size",
    ]
    if belowEnd == valid {
      score += 20
      reasons.append("all name pages below the end of memory \(hexadecimal(endOfMemory))")
    }
    // A table of 64-bit entries below 4 GiB has nothing in its odd words.
    if odd * 4 < valid { score -= 40 }
    if let scratch = uses.max(by: { ($0.value, $1.key) < ($1.value, $0.key) }), scratch.value > 31 {
      score += 30
      let page = GART.GATTEntry(rawValue: scratch.key).page
      reasons.append("\(scratch.value) entries name the same page \(page), as a scratch page")
    }
    return TableCandidate(
      kind: .gatt, address: start, byteCount: size, score: max(0, min(100, Int(score.rounded()))),
      reasons: reasons)
  }

  // MARK: Pages

  /// Hands out what is there of a range, a piece at a time.
  private func forEachPage(
    of range: Range<PhysicalAddress>,
    _ body: (PhysicalAddress, UnsafeRawBufferPointer) -> Void
  ) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 64)
    defer { buffer.deallocate() }
    var address = range.lowerBound.rawValue
    while address < range.upperBound.rawValue {
      let wanted = Int(min(UInt64(buffer.count), range.upperBound.rawValue - address))
      let count = memory.read(
        at: PhysicalAddress(address),
        into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted]))
      guard count > 0 else {
        address = (address | 4095) + 1
        continue
      }
      body(PhysicalAddress(address), UnsafeRawBufferPointer(rebasing: buffer[..<count]))
      address += UInt64(count)
    }
  }
}
