import IOMMUFormats
import IOMMUTranslation

/// Looks for translation tables in memory, by their structure alone.
///
/// A dump has no registers. One pass over memory keeps the pages whose bits could be a table's;
/// what is left is followed, entry by entry, as hardware would. Each candidate has a score and the
/// reasons for it.
public struct TableSearch: Sendable {
  /// How far a search has come, in bytes of memory.
  public struct Progress: Sendable {
    public var doneByteCount: UInt64
    public var byteCount: UInt64
  }

  /// Everything found: tables that translate before the firmware's, the higher score first, and of
  /// equals the capture kernel's, which is in force later.
  public let candidates: [TableCandidate]
  /// More places look like tables than any machine has, or more memory is made of the same bytes of a
  /// file than any dump has: not all of them were followed.
  public let isExhausted: Bool
  /// Bytes of memory that were searched: all that are stored. Zeros that nobody stores are no table.
  public let byteCount: UInt64

  /// Candidates below this score are not worth a line.
  public static let lowestScore = 25

  /// Searches all of memory.
  ///
  /// - Parameters:
  ///   - memory: A machine's memory, as much as is stored of it.
  ///   - crashKernel: Where the capture kernel lives, if that is known.
  ///   - progress: Called now and then.
  /// - Complexity: O(bytes of memory that are stored), shared out among all processors where the memory
  ///   is `ConcurrentMemory`, and one walk of the tables of each candidate.
  public init(
    in memory: some PhysicalMemory, crashKernel: [Range<PhysicalAddress>] = [],
    progress: (Progress) -> Void = { _ in }
  ) {
    self.init(
      in: memory, threadCount: usableProcessorCount, crashKernel: crashKernel, progress: progress)
  }

  /// The same on so many threads.
  init(
    in memory: some PhysicalMemory, threadCount: Int, crashKernel: [Range<PhysicalAddress>] = [],
    progress: (Progress) -> Void = { _ in }
  ) {
    var sweep = MemorySweep()
    byteCount = sweep.run(over: memory, threadCount, progress: progress)
    var found: [TableCandidate] = []
    var isExhausted = sweep.isCut
    func take(_ finds: Finds) {
      found += finds.candidates
      isExhausted = isExhausted || finds.isExhausted
    }
    if let shared = memory as? any ConcurrentMemory {
      inOrder(threadCount: threadCount, sweep.finders) {
        Finds($0, in: shared, crashKernel)
      } take: {
        take($0)
      }
    } else {
      for finder in sweep.finders { take(Finds(finder, in: memory, crashKernel)) }
    }
    self.isExhausted = isExhausted
    candidates = found.filter { $0.score >= Self.lowestScore }.sorted {
      $0.rank < $1.rank
    }
  }

  /// The tables that are used when nobody says which: all that are certain and may be in force together.
  ///
  /// Of two kernels' tables with the same device one alone is in force. Where nothing says whose they
  /// are, both are used: they may be of two units.
  ///
  /// - Parameters:
  ///   - memory: The memory that was searched.
  ///   - hints: What somebody knows of the units besides.
  public func selection(
    in memory: some PhysicalMemory, _ hints: TableHints = TableHints()
  ) -> TableSelection {
    var selection = TableSelection()
    var collisions: [String] = []
    var known: [(requesters: Set<Requester>, candidate: TableCandidate)] = []
    for candidate in candidates where candidate.kind.translates {
      guard candidate.isCertain else {
        if let missing = candidate.missingPage {
          selection.passedOver.append((candidate, TableCandidate.doubt(missing)))
        }
        continue
      }
      let finder = candidate.kind.finder
      let unit: TranslationUnit
      switch finder.unit(of: candidate, hints) {
      case .unit(let found): unit = found
      case .unknown(let reason):
        selection.passedOver.append((candidate, reason))
        continue
      }
      // Flat tables and trees are never of one machine.
      if let first = selection.taken.first, first.kind.finder.hardware != finder.hardware {
        selection.passedOver.append((candidate, "it is of other hardware than \(first.address)"))
        continue
      }
      if let requesters = finder.requesters(of: unit, in: memory) {
        let rivals = known.filter { !$0.requesters.isDisjoint(with: requesters) }.map(\.candidate)
        if let other = rivals.first(where: { $0.isOfAnotherKernel(than: candidate) }) {
          selection.passedOver.append(
            (candidate, "it has devices of \(other.address) too, as another kernel's has"))
          continue
        }
        if !rivals.isEmpty {
          let places = listText(rivals.map { "\($0.address)" })
          collisions.append(
            "the \(candidate.kind.name) at \(candidate.address) has devices of \(places) too: it may "
              + "be another unit's, or one that is no longer in force")
        }
        known.append((requesters, candidate))
      }
      selection.taken.append(candidate)
      selection.units.append(unit)
    }
    guard let first = selection.taken.first else { return selection }
    // What is not taken for a page that is missing may have any device's mappings.
    for (candidate, _) in selection.passedOver
    where candidate.kind.finder.hardware == first.kind.finder.hardware {
      guard let missing = candidate.missingPage else { continue }
      selection.units.append(
        TranslationUnit(PartialTable(at: candidate.address, missing: missing)))
    }
    if isExhausted { selection.units.append(TranslationUnit(UnsearchedTables())) }
    (selection.units, selection.remarks) = completing(selection.units, in: memory)
    selection.remarks = collisions + selection.remarks
    return selection
  }

  /// Units with what tables of firmware in memory say of them, and of further units.
  ///
  /// - Returns: The units, and what is to be said of the tables.
  public func completing(
    _ units: [TranslationUnit], in memory: some PhysicalMemory
  ) -> (units: [TranslationUnit], remarks: [String]) {
    var units = units
    var remarks: [String] = []
    for finder in TableFinders.all {
      let tables = candidates.filter {
        $0.isCertain && !$0.kind.translates && $0.kind.finder == finder
      }
      let completed = finder.complete(units, with: tables, in: memory)
      units = completed.units
      remarks += completed.remarks
    }
    return (units, remarks)
  }
}

/// What a finder makes of the pages that it has seen.
private struct Finds: Sendable {
  let candidates: [TableCandidate]
  let isExhausted: Bool

  init(
    _ finder: any TableFinder, in memory: some PhysicalMemory,
    _ crashKernel: [Range<PhysicalAddress>]
  ) {
    var finder = finder
    candidates = finder.candidates(in: memory, crashKernel: crashKernel)
    isExhausted = finder.isExhausted
  }
}

/// Which of the tables found are used.
public struct TableSelection: Sendable {
  /// In force together, the best first.
  public var taken: [TableCandidate] = []
  /// The units that those make, in the same order, and behind them those of which too little is known:
  /// tables with missing pages, and what firmware lists besides.
  public var units: [TranslationUnit] = []
  /// What is to be said of tables with the same devices, and of those of firmware.
  public var remarks: [String] = []
  /// Tables that are certain, or would be with pages that the dump lacks, and are not used; and why.
  public var passedOver: [(candidate: TableCandidate, reason: String)] = []
}

extension TableCandidate {
  /// Smaller is better.
  fileprivate var rank: (Int, Int, Int, UInt64) {
    (kind.translates ? 0 : 1, -score, owner == .captureKernel ? 0 : 1, address.rawValue)
  }
}

/// One pass over memory: which pages are worth a closer look.
private struct MemorySweep {
  var finders: [any TableFinder]
  /// Memory was left out.
  private(set) var isCut = false
  private let look = PieceLook()
  /// How much is looked at before it is given back.
  private static let forgottenByteCount: UInt64 = 1 << 24

  init() { finders = TableFinders.all.map { $0.init() } }

  /// - Returns: Bytes seen.
  mutating func run(
    over memory: some PhysicalMemory, _ threadCount: Int,
    progress: (TableSearch.Progress) -> Void
  ) -> UInt64 {
    let ranges = searchedRanges(of: memory)
    let total = ranges.reduce(0) { $0 &+ $1.byteCount }
    var done: UInt64 = 0
    let look = look
    func take(_ sights: PieceSights) {
      show(sights)
      done &+= sights.byteCount
      progress(TableSearch.Progress(doneByteCount: done, byteCount: total))
    }
    if let shared = memory as? any ConcurrentMemory {
      var next = Self.forgottenByteCount
      inOrder(threadCount: threadCount, MemoryPieces(ranges)) {
        look.sights(in: $0, of: shared)
      } take: { sights in
        take(sights)
        guard done >= next else { return }
        next = done &+ Self.forgottenByteCount
        memory.forgetLooks()
      }
    } else {
      for piece in MemoryPieces(ranges) { take(look.sights(in: piece, of: memory)) }
    }
    return total
  }

  /// What is stored; of a dump that puts the bytes of its file at many places of memory, the first of
  /// them.
  private mutating func searchedRanges(
    of memory: some PhysicalMemory
  ) -> [Range<PhysicalAddress>] {
    let ranges = memory.storedPageRanges
    // Pages, of which there are at most 2^52.
    var left = 1 << 15 + 4 * memory.storedPageBound
    for (index, range) in ranges.enumerated() {
      let count = range.byteCount / PageCount.pageByteCount + 1
      guard count <= left else {
        isCut = true
        return Array(ranges[..<index])
      }
      left -= count
    }
    return ranges
  }

  private mutating func show(_ sights: PieceSights) {
    let bytes = sights.bytes.span
    for (finder, place) in sights.signatures { finders[finder].seeSignature(at: place) }
    for (number, page) in sights.pages.enumerated() {
      let start = number * PageSieve.pageByteCount
      let content = bytes.extracting(start..<start + PageSieve.pageByteCount)
      for (place, finder) in look.lookers.enumerated() where page.look.passes(place) {
        finders[finder].see(content, at: page.address)
      }
    }
  }
}
