import IOMMUFormats
import IOMMUTranslation

extension GART {
  /// Finds GATTs.
  ///
  /// Nothing points at a flat table in memory, so its entries have to speak for it: how many there
  /// are, that none has reserved bits, that many name one scratch page, and that it lies at a multiple
  /// of its own size.
  struct GATTFinder: TableFinder {
    private var pages = KeptPages()

    var isExhausted: Bool { pages.isFull }

    static var hardware: String { "GART" }

    /// Two entries to a quadword.
    static let excludedBits: SIMD8<UInt64>? = {
      let reserved = GART.GATTEntry.reservedMasks(OnlyVariant()).low
      return everyQuadword(reserved | reserved << 32)
    }()

    mutating func see(_ page: Span<UInt8>, at address: PhysicalAddress) {
      if pages.takes(address), hasGATTEntries(page) { pages.add(address) }
    }

    mutating func candidates(
      in memory: some PhysicalMemory, crashKernel _: [Range<PhysicalAddress>]
    ) -> [TableCandidate] {
      pages.numbers.isEmpty ? [] : GATTJudge(memory: memory).gatts(pages: pages.numbers)
    }

    /// Where an aperture lies is said by no GATT: the hints say it, or the machine's nodes do.
    static func unit(of candidate: TableCandidate, _ hints: TableHints) -> FoundUnit {
      let known = hints.units.lazy.compactMap { $0.as(GART.Node.self) }.first
      guard let base = hints.aperture?.base ?? known?.base.address else {
        return .unknown("where its aperture lies is said by no table; give --aperture BASE")
      }
      // Registers have no bits for a table beyond.
      guard candidate.address.rawValue < GART.physicalLimit else {
        return .unknown("no register has bits for a table that lies so high")
      }
      let aperture =
        candidate.byteCount / UInt64(GART.GATTEntry.byteCount) * PageCount.pageByteCount
      guard
        let order = (0..<7).first(where: { order in
          GART.ApertureControl(isEnabled: true, order: order).apertureByteCount == aperture
        })
      else { return .unknown("no aperture has a table of \(byteCountText(candidate.byteCount))") }
      if let stated = hints.aperture?.byteCount, stated != aperture {
        return .unknown(
          "its aperture has \(byteCountText(aperture)), and that of --aperture \(byteCountText(stated))"
        )
      }
      return .unit(
        .gart(
          GART.Node(
            device: known?.device ?? Requester(bus: 0, device: 0x18, function: GART.function),
            control: GART.ApertureControl(isEnabled: true, order: order),
            base: GART.ApertureBase(address: base),
            tableBase: GART.TableBase(table: candidate.address),
            hasErratum156: known?.hasErratum156 ?? false)))
    }

    static var names: [TableName] {
      [
        TableName(
          "gatt", "a GATT, whose aperture --aperture names", takesByteCount: true, of: Self.self)
      ]
    }

    static func candidate(
      named _: TableName, at address: PhysicalAddress, byteCount: UInt64?,
      in memory: some PhysicalMemory
    ) -> TableCandidate? {
      guard let byteCount else {
        return candidate(at: address, within: sizes.last!, in: memory)
      }
      guard sizes.contains(byteCount) else { return nil }
      return TableCandidate(
        kind: .gatt, address: address, byteCount: byteCount, score: 0, reasons: [])
    }

    /// An aperture of 32 MiB has the smallest table, one of 2 GiB the largest.
    fileprivate static var sizes: [UInt64] { (0...6).map { UInt64(32_768) << UInt64($0) } }

    private func hasGATTEntries(_ page: Span<UInt8>) -> Bool {
      var valid = 0
      for offset in stride(from: 0, to: page.count, by: 4) {
        let entry = GART.GATTEntry(
          rawValue: page.integer(UInt32.self, at: offset))
        guard entry.rawValue != 0 else { continue }
        guard entry.page.rawValue != 0 else { return false }
        if entry.isValid { valid += 1 }
      }
      // A page of an aperture that AGP shares may hold invalid entries alone.
      return valid > 0 || page.integer(UInt32.self, at: 0) != 0
    }
  }
}

extension TableCandidate.Kind {
  /// The table of a GART's aperture.
  public static let gatt = Self("GATT", of: GART.GATTFinder.self)
}

/// Judges runs of pages that may be GATTs.
private struct GATTJudge<Memory: PhysicalMemory> {
  let memory: Memory
  let endOfMemory: UInt64
  let stored: [Range<PhysicalAddress>]

  init(memory: Memory) {
    self.memory = memory
    endOfMemory = memory.endOfMemory
    stored = memory.storedPageRanges
  }

  /// The GATTs among pages that look like parts of one.
  ///
  /// - Parameter pages: Ascending page numbers, each with a GATT entry in it.
  func gatts(pages: [UInt64]) -> [TableCandidate] {
    var candidates: [TableCandidate] = []
    var index = 0
    while index < pages.count {
      var end = index + 1
      while end < pages.count, pages[end] == pages[end - 1] + 1 { end += 1 }
      candidates += gatts(in: pages[index]..<pages[end - 1] + 1).map {
        $0.doubted(for: missingPart(of: $0, pages))
      }
      index = end
    }
    return candidates
  }

  /// The page for which a table may be one half of a larger one: the dump lacks it in the other half,
  /// and has others there that look like a GATT's.
  private func missingPart(
    of candidate: TableCandidate, _ pages: [UInt64]
  ) -> PhysicalAddress? {
    guard candidate.byteCount < GART.GATTFinder.sizes.last! else { return nil }
    let half = candidate.address.rawValue ^ candidate.byteCount
    let first = half / 4096
    let end = first + candidate.byteCount / 4096
    let index = pages.partitioningIndex { $0 >= first }
    guard index < pages.count, pages[index] < end,
      let missing = (first..<end).first(where: {
        memory.quadword(at: PhysicalAddress($0 * 4096)) == nil
      })
    else { return nil }
    return PhysicalAddress(missing * 4096)
  }

  private func gatts(in run: Range<UInt64>) -> [TableCandidate] {
    var start = run.lowerBound * 4096
    let end = run.upperBound * 4096
    var candidates: [TableCandidate] = []
    while start < end {
      // The largest block that is aligned to its size and fits: so the page allocator gives them.
      guard
        let size = GART.GATTFinder.sizes.last(where: { start % $0 == 0 && $0 <= end - start })
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
    var last: UInt32 = 0
    var row = 0
    func endRow() {
      if row > 0, uses.count < 65_536 || uses[last] != nil { uses[last, default: 0] += row }
      row = 0
    }
    let reserved = GART.GATTEntry.reservedMasks(OnlyVariant()).low
    memory.forEachPiece(of: start..<PhysicalAddress(start.rawValue + size), in: stored) {
      _, bytes in
      for offset in stride(from: 0, to: bytes.count - 3, by: 4) {
        let word = bytes.integer(UInt32.self, at: offset)
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
        // Scratch pages come in rows.
        if word != last { endRow() }
        last = word
        row += 1
      }
    }
    endRow()
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
}
