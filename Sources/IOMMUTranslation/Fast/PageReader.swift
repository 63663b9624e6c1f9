import IOMMUFormats

/// What second-stage, first-stage and nested tables say of single pages, read on the short way: for a
/// cache in front of them that keeps ``PackedPage`` words.
///
/// Like ``RadixPath`` it knows the common case only, and every word that it finds is what the walker
/// would: entries present, permitted, well formed, marks set that are to be set. It sets none. Of
/// everything else it says ``PackedPage/unknown``.
///
/// Whoever has one holds the memory as well.
@safe
package final class PageReader {
  private let place: UnsafeMutablePointer<PageParameters>

  /// - Parameters:
  ///   - table: Only a remapping unit's tables have such a way.
  ///   - memory: Memory that holds the tables.
  package init?(_ table: Table, in memory: FlatMemory) {
    let window = memory.window
    guard let read = PageParameters(table, .read, window: window),
      let write = PageParameters(table, .write, window: window)
    else { return nil }
    unsafe place = .allocate(capacity: 2)
    unsafe place.initialize(to: read)
    unsafe (place + 1).initialize(to: write)
  }

  deinit { unsafe place.deallocate() }

  /// The way of one kind of access; good for as long as the reader is held.
  @inline(__always)
  package func way(for access: Access) -> PageWay {
    // Safe: both are there from the first moment to the last.
    unsafe PageWay(access == .read ? place : place + 1)
  }
}

/// Whose entries page words are made of.
@frozen
@usableFromInline
enum Stage: UInt8, Sendable {
  case second, first, nested
}

/// Each shape of tables has code of its own.
@frozen
@usableFromInline
enum Shape: UInt8, Sendable {
  case second4, first4, second3, second5, first5, nested

  init(_ stage: Stage, levels: Int) {
    switch (stage, levels) {
    case (.second, 4): self = .second4
    case (.second, 3): self = .second3
    case (.second, _): self = .second5
    case (.first, 4): self = .first4
    case (.first, _): self = .first5
    case (.nested, _): self = .nested
    }
  }
}

/// What ``PageWay`` goes by: plain words.
@usableFromInline
struct PageParameters: Sendable {
  @usableFromInline let stage: Stage
  /// Stage and levels in one.
  @usableFromInline let shape: Shape
  @usableFromInline let levels: Int
  /// Of the tables that requests meet first; of nested ones in a guest's addresses.
  @usableFromInline let radix: RadixParameters
  /// Nested: the second stage, as entries of the first are read through it, and as pages are.
  @usableFromInline let hostTables: RadixParameters
  @usableFromInline let hostPages: RadixParameters
  @usableFromInline let hostLevels: Int
  /// Bits of a page that allows the access.
  @usableFromInline let needed: UInt64

  init?(_ table: Table, _ access: Access, window: MemoryWindow) {
    var host: (tables: RadixParameters, pages: RadixParameters, levels: Int)?
    switch table {
    case .secondStage(let table):
      guard let radix = table.path(access, dmaMask: .max, window: window) else { return nil }
      (stage, levels, self.radix) = (.second, table.format.levels, radix)
    case .firstStage(let table):
      guard let radix = table.path(access, dmaMask: .max, window: window) else { return nil }
      (stage, levels, self.radix) = (.first, table.format.levels, radix)
    case .nested(let nested):
      // A read of an entry is a write to a second stage that keeps marks: the walker's work.
      guard nested.secondStage.marks.isNone, nested.root.isAligned(to: 4096),
        let tables = nested.secondStage.path(.read, dmaMask: .max, window: window),
        let pages = nested.secondStage.path(access, dmaMask: .max, window: window)
      else { return nil }
      (stage, levels) = (.nested, nested.firstStage.format.levels)
      radix = nested.firstStage.guestPath(access, window: window)
      host = (tables, pages, nested.secondStage.format.levels)
    default: return nil
    }
    shape = Shape(stage, levels: levels)
    hostTables = host?.tables ?? RadixParameters()
    hostPages = host?.pages ?? RadixParameters()
    hostLevels = host?.levels ?? 0
    needed = PackedPage.needed(access.permission)
  }
}

/// The short way of one kind of access to single pages. One pointer, as ``ShortPath`` is; safe while the
/// ``PageReader`` is there that it comes from.
@frozen
@usableFromInline
@safe
package struct PageWay {
  @usableFromInline let place: UnsafePointer<PageParameters>

  @unsafe
  init(_ place: UnsafePointer<PageParameters>) { unsafe self.place = place }

  @usableFromInline
  var parameters: PageParameters {
    @inlinable @inline(__always) unsafeAddress { unsafe place }
  }

  // Safe: a stored property has a place, and is there as long as what it is stored in.

  @usableFromInline
  var radix: RadixPath {
    @inlinable @inline(__always) get {
      unsafe RadixPath(place.pointer(to: \.radix).unsafelyUnwrapped)
    }
  }

  private var hostTables: RadixPath {
    unsafe RadixPath(place.pointer(to: \.hostTables).unsafelyUnwrapped)
  }

  private var hostPages: RadixPath {
    unsafe RadixPath(place.pointer(to: \.hostPages).unsafelyUnwrapped)
  }
}

/// What a look-up of one page has met on its way: what a unit's caches and counters want to know.
package struct PageNotes {
  /// The tables that a walk went down to, with what the entries above them allow in bits 2:0, by their
  /// level; only those from ``lowestTable`` to one below the level that it began at.
  package var tables = Quadwords<8>()
  /// The level of the leaf's table; of nested tables, that of the first stage.
  package var lowestTable = 0
  /// Second-stage leaves that a nested walk has met, by level.
  package var hostLeaves = Quadwords<4>()

  package init() {}
}

/// A table to begin a walk at, in one word: bits 2:0 are what the entries above it allow.
@frozen
@usableFromInline
package struct PackedTable {
  @usableFromInline package var rawValue: UInt64
  @inlinable @inline(__always) package init(rawValue: UInt64) { self.rawValue = rawValue }

  /// The start that it is, of tables of `level`.
  package func start(level: Int) -> WalkStart {
    WalkStart(
      table: PhysicalAddress(rawValue & ~7), level: level,
      permissions: Permissions(rawValue: UInt8(rawValue & 7)))
  }

  package init(_ start: WalkStart) {
    rawValue = start.table.rawValue | UInt64(start.permissions.rawValue)
  }
}

extension PageWay {
  /// Whether both are the same reader's, for the same access.
  package func isSame(as other: PageWay) -> Bool { unsafe place == other.place }

  /// Levels from the root down, of the stage that requests meet first.
  package var levels: Int { parameters.levels }
  /// Levels of the second stage under a first; otherwise 0.
  package var hostLevels: Int { parameters.hostLevels }

  /// The root of the tables, with all permissions.
  @inlinable @inline(__always)
  package var root: PackedTable { PackedTable(rawValue: parameters.radix.root | 7) }

  /// What the tables say of the page of `address`.
  ///
  /// - Parameters:
  ///   - address: Any byte of the page.
  ///   - notes: Of a page of nested tables that is found, what was met on the way; of others nothing.
  /// - Complexity: At most one entry of each level; of nested tables times those of the second stage.
  @inline(never)
  package func page(of address: IOVA, _ notes: inout PageNotes) -> PackedPage {
    parameters.shape == .nested ? nestedPage(of: address.rawValue, &notes) : page(of: address)
  }

  private func page(of address: IOVA) -> PackedPage {
    let address = address.rawValue
    switch parameters.shape {
    case .second4: return radix.page(of: address, levels: 4, .second)
    case .first4: return radix.page(of: address, levels: 4, .first)
    case .second3: return radix.page(of: address, levels: 3, .second)
    case .second5: return radix.page(of: address, levels: 5, .second)
    case .first5: return radix.page(of: address, levels: 5, .first)
    case .nested: return .unknown
    }
  }

  /// What tables of four levels, not nested, say of the page of `address`, where that is one of 4 KiB
  /// and allows the access; otherwise unknown. Walked where it is called: this is what is met most.
  ///
  /// - Complexity: At most one entry of each level.
  @inlinable @inline(__always)
  package func smallPage(of address: IOVA) -> PackedPage {
    switch parameters.shape {
    case .second4:
      // Its entries have been looked at for this access, and nothing else decides.
      return radix.smallPage(of: address.rawValue, levels: 4, .second)
    case .first4:
      let page = radix.smallPage(of: address.rawValue, levels: 4, .first)
      return page.rawValue & parameters.needed == parameters.needed ? page : .unknown
    default: return .unknown
    }
  }

  /// The same from a table on: the root, or a lower one that a paging-structure cache remembers.
  ///
  /// - Parameters:
  ///   - address: Any byte of the page.
  ///   - start: A multiple of 4 KiB, with permissions in bits 2:0.
  ///   - level: That of the entries in `start`.
  ///   - notes: Of a page that is found, what was met on the way; otherwise without a meaning.
  /// - Precondition: The tables are not nested.
  /// - Complexity: At most one entry of each level.
  @inline(never)
  package func page(
    of address: IOVA, from start: PackedTable, level: Int, _ notes: inout PageNotes
  ) -> PackedPage {
    parameters.stage == .second
      ? radix.page(of: address.rawValue, from: start, level: level, .second, &notes)
      : radix.page(of: address.rawValue, from: start, level: level, .first, &notes)
  }
}

extension RadixPath {
  /// A page, of an entry and what it allows together with those above it.
  @inlinable @inline(__always)
  static func word(
    _ entry: UInt64, common: UInt64, sizeCode: UInt64, _ stage: Stage, dirty: UInt64
  ) -> UInt64 {
    let isDirty = entry & dirty == dirty ? PackedPage.isDirtyBit : 0
    let offset = (1 &<< (12 &+ sizeCode &* 9)) &- 1
    let page = addressBits(entry) & ~offset | isDirty | sizeCode &<< 9
    switch stage {
    case .second:
      return page | (common & 3) &* 0b0100_0001
        | UInt64(MappedPage.unrestricted.rawValue) &<< 3
    case .first, .nested:
      // Plain requests may do what users may.
      let allowed = common & 3 & (0 &- (common &>> 2 & 1))
      return page | allowed | (common & 7) &<< 3 | 3 &<< 6 | PackedPage.usesFirstStageBit
    }
  }

  /// ``PageWay/page(of:_:)`` of tables that lie where their pointers say.
  @inline(__always)
  fileprivate func page(of address: UInt64, levels: Int, _ stage: Stage) -> PackedPage {
    let descent = Descent(self)
    return PackedPage(
      rawValue: locate(
        address, levels: levels, .impliedLevels, descent,
        elsewhere: PackedPage.unknown.rawValue,
        small: { place, common in
          smallPage(descent.entry(at: place), common: common, stage).rawValue
        },
        large: { _, entry, size, common in
          largePage(entry, common: common & entry, size, stage).rawValue
        }))
  }

  /// ``PageWay/smallPage(of:)`` of such tables.
  @inlinable @inline(__always)
  func smallPage(of address: UInt64, levels: Int, _ stage: Stage) -> PackedPage {
    let descent = Descent(self)
    return PackedPage(
      rawValue: locate(
        address, levels: levels, .impliedLevels, descent, elsewhere: PackedPage.unknown.rawValue,
        small: { place, common in
          smallPage(descent.entry(at: place), common: common, stage).rawValue
        },
        large: { _, _, _, _ in PackedPage.unknown.rawValue }))
  }

  /// Where a second stage has `address`, a multiple of eight, with the level of the leaf in bits 2:0;
  /// `noAnswer` where it has no plain answer.
  @inline(__always)
  fileprivate func place(of address: UInt64, levels: Int) -> UInt64 {
    let descent = Descent(self)
    return locate(
      address, levels: levels, .impliedLevels, descent, elsewhere: Self.noAnswer,
      small: { place, _ in
        LeafTest(self).answer(descent.entry(at: place), address, .impliedLevels) | 1
      },
      large: { _, entry, size, _ in answer(entry, size, address) | size.rawValue &+ 1 })
  }

  /// ``PageWay/page(of:from:level:_:)`` of such tables.
  @inline(__always)
  fileprivate func page(
    of address: UInt64, from start: PackedTable, level startLevel: Int, _ stage: Stage,
    _ notes: inout PageNotes
  ) -> PackedPage {
    let descent = Descent(self)
    guard likely(admits(address)),
      // What the tables above allow has to allow the access, as each entry has.
      likely(descent.pointer.value & 7 & ~start.rawValue == 0),
      likely(start.rawValue & ~7 <= descent.lastTable)
    else { return .unknown }
    var common = start.rawValue | ~7
    var table = start.rawValue & ~7
    var level = startLevel
    while level > 1 {
      let entry = descent.entry(at: Self.place(address, in: table, level: level))
      common &= entry
      guard likely(descent.pointer.passes(entry)), descent.reaches(entry) else {
        notes.lowestTable = level
        guard let size = LargePage(level: level) else { return .unknown }
        return largePage(entry, common: common, size, stage)
      }
      table = Self.addressBits(entry)
      level &-= 1
      notes.tables[level] = table | common & 7
    }
    notes.lowestTable = 1
    return smallPage(
      descent.entry(at: Self.place(address, in: table, level: 1)), common: common, stage)
  }

  /// Whether a walk of `address` may begin.
  @inline(__always)
  fileprivate func admits(_ address: UInt64) -> Bool {
    address <= parameters.lastAddress && !VTd.isInterruptAddress(address)
  }

  @inlinable @inline(__always)
  func smallPage(_ entry: UInt64, common: UInt64, _ stage: Stage) -> PackedPage {
    guard likely(LeafTest(self).answer(entry, 0, .impliedLevels) != Self.noAnswer) else {
      return .unknown
    }
    return PackedPage(
      rawValue: Self.word(
        entry, common: common & entry, sizeCode: 0, stage, dirty: parameters.dirty))
  }

  /// The page of an entry that leads to no table; unknown unless all is well with it.
  @inline(__always)
  fileprivate func largePage(
    _ entry: UInt64, common: UInt64, _ size: LargePage, _ stage: Stage
  ) -> PackedPage {
    guard likely(test(of: size).passes(entry)) else { return .unknown }
    let word = Self.word(
      entry, common: common, sizeCode: size.rawValue, stage, dirty: parameters.dirty)
    return PackedPage.reachesInterrupts(word, sizeCode: size.rawValue)
      ? .unknown : PackedPage(rawValue: word)
  }
}

// MARK: Rows

/// A table of level 1 and what the entries above it allow: what a row of pages in one region of 2 MiB is
/// read by.
@frozen
@usableFromInline
package struct PageRow {
  /// The table's place, and two bits of what is allowed as ``RadixPath/pages(of:levels:_:_:)`` has them.
  @usableFromInline let place: UInt64

  @inlinable @inline(__always)
  init(place: UInt64) { self.place = place }

  /// Reads nothing.
  @inlinable package static var unknown: Self { Self(place: RadixPath.unresolved) }
  @inlinable package var isKnown: Bool { place != RadixPath.unresolved }
}

extension PageWay {
  /// The row that a page lies in; unknown where the short way does not lead to one, and in nested tables.
  ///
  /// - Complexity: At most one entry of each level but the lowest.
  @inline(never)
  package func row(of address: IOVA) -> PageRow {
    let address = address.rawValue
    guard radix.isUniform(address) else { return .unknown }
    let place =
      switch parameters.shape {
      case .second4: radix.leafPlace(of: address, levels: 4, .second)
      case .first4: radix.leafPlace(of: address, levels: 4, .first)
      case .second3: radix.leafPlace(of: address, levels: 3, .second)
      case .second5: radix.leafPlace(of: address, levels: 5, .second)
      case .first5: radix.leafPlace(of: address, levels: 5, .first)
      case .nested: RadixPath.unresolved
      }
    return place == RadixPath.unresolved ? .unknown : PageRow(place: place & ~0xff8)
  }

  /// The row of a table of level 1 that a paging-structure cache remembers for a page; unknown where
  /// the short way does not lead to one.
  ///
  /// - Precondition: The tables are not nested.
  package func row(of address: IOVA, in table: PackedTable) -> PageRow {
    let descent = RadixPath.Descent(radix)
    guard radix.isUniform(address.rawValue),
      descent.pointer.value & 7 & ~table.rawValue == 0, table.rawValue & ~7 <= descent.lastTable
    else { return .unknown }
    let allowed = table.rawValue &>> RadixPath.keptBits(parameters.stage) & 3
    return PageRow(place: table.rawValue & ~7 | allowed)
  }

  /// What a row says of one of its pages, as ``page(of:_:)`` does.
  ///
  /// - Precondition: The row is known, and `address` is of its region.
  @inlinable @inline(__always)
  package func page(of address: IOVA, in row: PageRow) -> PackedPage {
    let place = row.place | address.rawValue &>> 9 & 0xff8
    return PackedPage(
      rawValue: parameters.stage == .second
        ? radix.leafPage(at: place, .second) : radix.leafPage(at: place, .first))
  }
}

extension RadixPath {
  /// R and W of a second stage are what its leaves' places have in their low bits, R/W and U/S of a first,
  /// whose entries are all present: two bits, so that none looks like `unresolved`.
  @inlinable @inline(__always)
  static func keptBits(_ stage: Stage) -> UInt64 { stage == .second ? 0 : 1 }

  /// Where the leaf of `address` lies, with what the entries above it allow; or `unresolved`.
  @inlinable @inline(__always)
  func leafPlace(of address: UInt64, levels: Int, _ stage: Stage) -> UInt64 {
    var none = NoRegions()
    return leafPlace(of: address, levels: levels, stage, Descent(self), &none)
  }

  @inlinable @inline(__always)
  func leafPlace(
    of address: UInt64, levels: Int, _ stage: Stage, _ descent: Descent,
    _ regions: inout some RegionStore
  ) -> UInt64 {
    resolve(
      address, levels: levels, .impliedLevels, descent, &regions,
      small: { $0 | $1 &>> Self.keptBits(stage) & 3 },
      large: { _, _, _, _ in Self.unresolved })
  }

  /// The word of the page whose leaf lies at such a place; 0 unless all is well with it.
  @inlinable @inline(__always)
  func leafPage(at place: UInt64, _ stage: Stage) -> UInt64 {
    Self.leafPage(
      at: place, stage, Descent(self), LeafTest(self), dirty: parameters.dirty)
  }

  @inlinable @inline(__always)
  static func leafPage(
    at place: UInt64, _ stage: Stage, _ descent: Descent, _ leaf: LeafTest, dirty: UInt64
  ) -> UInt64 {
    let shift = keptBits(stage)
    let entry = descent.entry(at: place & ~7)
    let common = entry & (place &<< shift | (1 &<< shift &- 1)) & 7
    return likely(leaf.answer(entry, 0, .impliedLevels) != noAnswer)
      ? word(entry, common: common, sizeCode: 0, stage, dirty: dirty)
      : PackedPage.unknown.rawValue
  }
}

// MARK: Blocks

extension PageWay {
  /// Looks up the pages that addresses lie in, up to 256 at a time on their way together; sets no mark.
  ///
  /// - Parameters:
  ///   - addresses: Any byte of each page.
  ///   - pages: As many as addresses. ``PackedPage/unknown`` for an address that has no plain answer, for
  ///     large pages, and for all of nested tables.
  ///   - regions: Remembers places of leaves with what the entries above them allow in their low bits.
  /// - Complexity: O(addresses).
  @inlinable
  package func pages(
    of addresses: UnsafeBufferPointer<IOVA>,
    into pages: UnsafeMutableBufferPointer<PackedPage>, remembering regions: inout some RegionStore
  ) {
    precondition(addresses.count == pages.count, "there is one page for each address")
    // Safe: as many pages as addresses, and both are there until this returns.
    guard let requests = unsafe Requests(addresses, pages) else { return }
    var start = 0
    while start < requests.count {
      let count = min(BatchPart.blockCount, requests.count &- start)
      readPages(of: requests.suffix(from: start).prefix(count), &regions)
      start &+= count
    }
  }

  @inlinable @inline(__always)
  func readPages(of block: Requests, _ regions: inout some RegionStore) {
    switch (parameters.stage, parameters.levels) {
    case (.second, 4): radix.pages(of: block, levels: 4, .second, &regions)
    case (.second, 3): radix.pages(of: block, levels: 3, .second, &regions)
    case (.second, 5): radix.pages(of: block, levels: 5, .second, &regions)
    case (.first, 4): radix.pages(of: block, levels: 4, .first, &regions)
    case (.first, 5): radix.pages(of: block, levels: 5, .first, &regions)
    default: for index in 0..<block.count { block[index] = PackedPage.unknown.rawValue }
    }
  }
}

extension RadixPath {
  /// The pages of a block: first the upper levels of all, with a prefetch of each leaf, then the
  /// leaves. Unknown for everything that the short way does not know, large pages among it.
  @inlinable @inline(__always)
  func pages(of block: Requests, levels: Int, _ stage: Stage, _ regions: inout some RegionStore) {
    let descent = Descent(self)
    for index in 0..<block.count {
      let place = leafPlace(of: block.address(index), levels: levels, stage, descent, &regions)
      block[index] = place
      descent.window.prefetch(place & ~7)
    }
    // Read once: what is stored might be these, as far as the compiler can tell.
    let (leaf, dirty) = (LeafTest(self), parameters.dirty)
    for index in 0..<block.count {
      let place = block[index]
      block[index] =
        likely(place != Self.unresolved)
        ? Self.leafPage(at: place, stage, descent, leaf, dirty: dirty)
        : PackedPage.unknown.rawValue
    }
  }
}

// MARK: Nested tables

extension PageWay {
  /// Where the second stage has a guest's address, a multiple of eight, with the level of the leaf in bits
  /// 2:0; `RadixPath.noAnswer` where it has no plain answer.
  ///
  /// - Parameter levels: 3 to 5. Four are walked where this is called.
  @inline(__always)
  private func hostPlace(of guest: UInt64, levels: Int) -> UInt64 {
    levels == 4 ? hostTables.place(of: guest, levels: 4) : rareHostPlace(of: guest)
  }

  @inline(never)
  private func rareHostPlace(of guest: UInt64) -> UInt64 {
    parameters.hostLevels == 3
      ? hostTables.place(of: guest, levels: 3) : hostTables.place(of: guest, levels: 5)
  }

  /// What the second stage says of the page that a guest's address lies in.
  @inline(never)
  private func hostPage(of guest: UInt64) -> PackedPage {
    let path = hostPages
    return switch parameters.hostLevels {
    case 4: path.page(of: guest, levels: 4, .second)
    case 3: path.page(of: guest, levels: 3, .second)
    default: path.page(of: guest, levels: 5, .second)
    }
  }

  /// ``page(of:_:)`` of tables of two stages.
  @inline(never)
  package func nestedPage(of address: UInt64, _ notes: inout PageNotes) -> PackedPage {
    parameters.hostLevels == 4
      ? nestedPage(of: address, hostLevels: 4, &notes)
      : nestedPage(of: address, hostLevels: parameters.hostLevels, &notes)
  }

  @inline(__always)
  private func nestedPage(
    of address: UInt64, hostLevels: Int, _ notes: inout PageNotes
  ) -> PackedPage {
    guard likely(radix.admits(address)) else { return .unknown }
    notes.hostLeaves = Quadwords()
    let window = parameters.radix.window
    var common = UInt64.max
    var table = parameters.radix.root
    var level = parameters.levels
    var entry: UInt64
    while true {
      let place = RadixPath.place(address, in: table, level: level)
      let host = hostPlace(of: place, levels: hostLevels)
      guard likely(host <= window.byteCount &- 8) else { return .unknown }
      notes.hostLeaves[Int(truncatingIfNeeded: host & 7)] &+= 1
      // Safe: a multiple of eight without its low bits, as its place in the guest's page is, and inside
      // the window, as no answer is not.
      entry = unsafe window.quadword(unchecked: host & ~7)
      common &= entry
      guard level > 1, likely(parameters.radix.pointer.passes(entry)) else { break }
      table = RadixPath.addressBits(entry)
      level &-= 1
    }
    notes.lowestTable = level
    let outer: PackedPage
    if level == 1 {
      outer = radix.smallPage(entry, common: common, .nested)
    } else {
      guard let size = RadixPath.LargePage(level: level) else { return .unknown }
      outer = radix.largePage(entry, common: common, size, .nested)
    }
    guard likely(outer != .unknown) else { return .unknown }
    let guest = outer.translation(ofAnySize: IOVA(address)).rawValue
    let inner = hostPage(of: guest)
    guard likely(inner != .unknown) else { return .unknown }
    notes.hostLeaves[inner.leafLevel] &+= 1
    return PackedPage(outer, in: inner, at: IOVA(guest))
  }
}

extension PackedPage {
  /// The page of both stages: of a first-stage page and of the second-stage page that `guest`, an address
  /// in it, lies in.
  @inline(__always)
  fileprivate init(_ outer: PackedPage, in inner: PackedPage, at guest: IOVA) {
    let size = min(outer.rawValue & Self.sizeMask, inner.rawValue & Self.sizeMask)
    let offset = (1 &<< (12 &+ (size &>> 9) &* 9)) &- 1
    let page = inner.translation(ofAnySize: guest).rawValue & ~offset
    // Bits 2:0, what plain requests may do and whether a write leaves a mark, hold where they hold of both.
    rawValue =
      page | outer.rawValue & inner.rawValue & 7 | outer.rawValue & (7 &<< 3)
      | inner.rawValue & (3 &<< 6) | Self.usesFirstStageBit | size
  }
}
