import IOMMUFormats
import IOMMUTranslation

/// What a kernel printed of the tables behind a fault, entry by entry.
///
/// Of VT-d, Linux does so from 6.0 on where it is built for that, Xen with `iommu=verbose`; of AMD-Vi,
/// Linux prints the device table entry behind an event that calls it illegal. The entries are
/// taken as the memory that a walk reads, so that they say in a log what they would say in a dump.
public struct LoggedTables: Sendable, Hashable {
  /// One line of it.
  public enum Piece: Sendable, Hashable {
    /// The tables of a request for this number follow.
    case heading(iova: UInt64)
    case root(low: UInt64, high: UInt64, isScalable: Bool)
    case context(low: UInt64, high: UInt64)
    case directory(UInt64)
    case pasidEntry(word: Int, UInt64)
    case page(level: Int, UInt64)
    /// The kernel says that at this level is none, and does not print it.
    case missing(level: Int)
    /// A word of AMD-Vi's device table entry: a quadword, or a doubleword.
    case deviceEntry(word: Int, UInt64, isDoubleword: Bool)
    /// AMD-Vi's control register.
    case control(UInt64)
  }

  private var root: [UInt64]?
  private var isScalable = false
  private var context: [UInt64]?
  private var directory: UInt64?
  private var pasidEntry: [Int: UInt64] = [:]
  private var pageLevels: [Int] = []
  private var pageWords: [UInt64] = []
  /// The level at which the kernel found none, where it says so in place of an entry.
  public private(set) var missingLevel: Int?

  /// AMD-Vi's device table entry.
  private(set) var deviceEntry = LoggedDeviceEntry()
  /// AMD-Vi's control register.
  private(set) var control: UInt64?

  public init() {}

  /// Nothing was printed that a walk could begin with.
  public var isEmpty: Bool { root == nil && deviceEntry.quadwords == nil }

  mutating func add(_ piece: Piece) {
    switch piece {
    case .heading: self = LoggedTables()
    case .root(let low, let high, let isScalable):
      self = LoggedTables()
      root = [low, high]
      self.isScalable = isScalable
    case .context(let low, let high): if context == nil { context = [low, high] }
    case .directory(let word): if directory == nil { directory = word }
    case .pasidEntry(let index, let word): if pasidEntry[index] == nil { pasidEntry[index] = word }
    case .page(let level, let word):
      if pageLevels.count < 5, pageLevels.last.map({ $0 > level }) ?? true {
        pageLevels.append(level)
        pageWords.append(word)
      }
    case .missing(let level): missingLevel = missingLevel ?? level
    case .deviceEntry(let word, let value, let isDoubleword):
      deviceEntry.add(word: word, value, isDoubleword: isDoubleword)
    case .control(let value): control = control ?? value
    }
  }

  /// Follows a request through the entries; `nil` where there are none.
  ///
  /// - Returns: The walk, as through the tables of a dump that holds nothing else.
  func walk(
    _ device: PCI.Function, pasid: PASID?, _ iova: IOVA, access: Access
  ) -> LoggedWalk? {
    guard let root else { return nil }
    var entries: [PrintedMemory.Entry] = [.init(words: root)]
    if let context {
      // The upper half of a scalable-mode entry is reserved, and not printed.
      entries.append(.init(words: context + (isScalable ? [0, 0] : [])))
      if isScalable {
        if let directory {
          entries.append(.init(words: [directory]))
          // Of the eight words the first three say everything; the others are reserved.
          if (0..<3).allSatisfy({ pasidEntry[$0] != nil }) {
            entries.append(.init(words: (0..<8).map { pasidEntry[$0] ?? 0 }))
            entries += pageEntries
          }
        }
      } else {
        entries += pageEntries
      }
    }
    let memory = PrintedMemory(entries)
    let unit = VTd.Unit(
      base: PhysicalAddress(0),
      rootTableAddress: VTd.RootTableAddress(
        rootTable: Self.rootTable, mode: isScalable ? .scalable : .legacy),
      status: VTd.GlobalStatus(translates: true), limits: .permissive)
    let walk = ToldWalk(
      device.requester, pasid: pasid, iova, access: access,
      machine: Machine(name: "log", units: [.vtd(unit)]), in: memory)
    return LoggedWalk(walk, levels: pageLevels, missingLevel: missingLevel)
  }

  /// Where the root table is taken to lie: where no entry leads.
  private static var rootTable: PhysicalAddress { PhysicalAddress(0xf_ffff_ffff_f000) }

  private var pageEntries: [PrintedMemory.Entry] {
    pageWords.map { PrintedMemory.Entry(words: [$0]) }
  }
}

/// A walk through the entries that a kernel has printed.
public struct LoggedWalk: Sendable, Encodable {
  /// The entries, from the root down.
  public let steps: [WalkStep]
  /// Where the request ends by them, in words.
  public let end: String
  /// The fault that it ends with.
  let fault: Fault?
  /// It reaches memory.
  let reachesMemory: Bool

  /// - Parameter levels: Which levels the entries of page tables are of, by the log.
  init(_ walk: ToldWalk, levels: [Int], missingLevel: Int?) {
    // The kernel names the level of each; where they are not those of the walk, lines are missing.
    var expected = levels[...]
    var whole: [WalkStep] = []
    var isTorn = false
    for step in walk.steps {
      if let level = step.place.level, expected.popFirst() != level {
        isTorn = true
        break
      }
      whole.append(step)
    }
    steps = whole
    switch walk.end {
    case _ where isTorn:
      (end, fault, reachesMemory) = (
        "unknown: entries between these are not in the log", nil, false
      )
    case .notInDump where missingLevel != nil:
      (end, fault, reachesMemory) = (
        "stopped at level \(missingLevel ?? 0), where the kernel found nothing", nil, false
      )
    case .notInDump:
      (end, fault, reachesMemory) = ("unknown: the next entry is not in the log", nil, false)
    case .fault(let found): (end, fault, reachesMemory) = (walk.endText, found, false)
    case .memory: (end, fault, reachesMemory) = (walk.endText, nil, true)
    case .interruptMessage, .unitUnseen: (end, fault, reachesMemory) = (walk.endText, nil, false)
    }
  }

  /// Entries that say where a request ends without more of a walk.
  init(_ steps: [WalkStep], end: String) {
    self.steps = steps
    self.end = end
    fault = nil
    reachesMemory = false
  }

  enum CodingKeys: String, CodingKey { case entries, end }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(steps.map(\.entry), forKey: .entries)
    try container.encode(end, forKey: .end)
  }
}

/// Memory that holds the entries of one walk, in the order in which a walk reads them.
///
/// A log says what the entries are, not where they lie. That, the walker knows: the first address that
/// it asks for and that is not known yet is where the next entry lies.
struct PrintedMemory: PhysicalMemory {
  struct Entry {
    var words: [UInt64]
  }

  private final class Places {
    var entries: [Entry]
    var next = 0
    var words: [UInt64: UInt64] = [:]
    init(_ entries: [Entry]) { self.entries = entries }
  }

  private let places: Places

  init(_ entries: [Entry]) { places = Places(entries) }

  func quadword(at address: PhysicalAddress) -> UInt64? {
    if let word = places.words[address.rawValue] { return word }
    guard address.rawValue % 8 == 0, places.next < places.entries.count else { return nil }
    let entry = places.entries[places.next]
    places.next += 1
    for (index, word) in entry.words.enumerated() {
      places.words[address.rawValue &+ UInt64(index) &* 8] = word
    }
    return entry.words.first
  }

  func doubleword(at address: PhysicalAddress) -> UInt32? {
    quadword(at: PhysicalAddress(address.rawValue & ~7)).map {
      UInt32(truncatingIfNeeded: $0 >> (address.rawValue % 8 * 8))
    }
  }

  func read(at _: PhysicalAddress, into _: UnsafeMutableRawBufferPointer) -> Int { 0 }
  func isAbsent(at address: PhysicalAddress) -> Bool { places.words[address.rawValue] == nil }
  var backedRanges: [Range<PhysicalAddress>] { [] }
}
