import IOMMUFormats
import IOMMUTranslation

/// Which way of its set each page of 64 KiB was in last: where to look for it first, and no more than that.
/// Any way that there is will do, since tags are compared whatever is said here.
@safe
struct RowHints: ~Copyable {
  private let ways: UnsafeMutablePointer<UInt8>

  /// Pages that one row has hints for.
  static var pageCount: Int { 16 }
  private static var rowCount: Int { 64 }

  init() {
    unsafe ways = .allocate(capacity: Self.rowCount * Self.pageCount)
    unsafe ways.initialize(repeating: 0, count: Self.rowCount * Self.pageCount)
  }

  deinit { unsafe ways.deallocate() }

  /// Those of the 64 KiB that an address lies in, or of others with the same hash.
  @inline(__always)
  func row(of address: UInt64) -> Row {
    let number = ((address &>> 16) &* 0x9e37_79b9_7f4a_7c15) &>> 58
    return unsafe Row(ways: ways + Int(truncatingIfNeeded: number) &* Self.pageCount)
  }

  /// Ways of sixteen pages; safe as long as the hints are there.
  @safe
  struct Row {
    fileprivate let ways: UnsafeMutablePointer<UInt8>

    /// - Parameter page: Below 16.
    @inline(__always)
    subscript(page: Int) -> Int {
      get { unsafe Int(ways[page]) }
      nonmutating set { unsafe ways[page] = UInt8(truncatingIfNeeded: newValue) }
    }
  }
}

extension IOTLB {
  /// Pages in a row from one on, in one 64 KiB, with an answer for each.
  @safe
  struct Row {
    /// The first byte of the first page; below 2^57.
    let first: UInt64
    let count: Int
    /// Of the space.
    let number: UInt64
    /// Bits of a page that allows the access.
    let needed: UInt64
    /// Where the first byte of each page goes.
    let answers: UnsafeMutablePointer<PackedTranslation>

    /// The number of the first page in its 64 KiB.
    @inline(__always)
    var offset: Int { Int(truncatingIfNeeded: first &>> 12) & (RowHints.pageCount &- 1) }

    @inline(__always)
    func address(_ index: Int) -> UInt64 { first &+ UInt64(truncatingIfNeeded: index) &<< 12 }

    @inline(__always)
    func tag(_ index: Int) -> UInt64 {
      smallPageTag(number, first) &+ UInt64(truncatingIfNeeded: index) &<< 19
    }

    /// Answers a page by its word, if that allows the access.
    ///
    /// - Parameter index: Below `count`.
    @inline(__always)
    func answer(_ index: Int, by page: UInt64) -> Bool {
      guard likely(page & needed == needed) else { return false }
      // Safe: there is an answer for each page.
      unsafe answers[index].rawValue = page & ~0xfff
      return true
    }
  }

  /// Answers pages of a row as long as they are where they were last.
  ///
  /// - Returns: How many; the next one has to be looked for.
  func answerKnown(_ row: Row, from start: Int) -> Int {
    ways == 4 ? answerKnown(row, from: start, ways: 4) : answerKnown(row, from: start, ways: ways)
  }

  @inline(__always)
  private func answerKnown(_ row: Row, from start: Int, ways: Int) -> Int {
    let (sets, hints, offset) = (cache.sets, rowHints.row(of: row.first), row.offset)
    var index = start
    while index < row.count {
      let tag = row.tag(index)
      // A way that a page was in: below the number of ways, which never changes.
      let slot = sets.firstSlot(of: tag, ways: ways) &+ hints[offset &+ index]
      guard sets.hold(tag, in: slot), row.answer(index, by: sets.value(in: slot)) else { break }
      index &+= 1
    }
    return index
  }

  /// Answers a page of a row that is known, wherever it is; `false` when it is not, or needs another way.
  func answerElsewhere(_ row: Row, _ index: Int) -> Bool {
    let tag = row.tag(index)
    guard let slot = cache.sets.slot(of: tag) else { return false }
    rowHints.row(of: row.first)[row.offset &+ index] =
      slot &- cache.sets.firstSlot(of: tag, ways: ways)
    return row.answer(index, by: cache.sets.value(in: slot))
  }

  /// Answers pages of a row by their table and keeps them, as long as none is known.
  ///
  /// - Parameters:
  ///   - start: The number of a page that is not known.
  ///   - way: That to the tables.
  ///   - table: What the pages lie in.
  /// - Returns: The number of the next page, which may be known, or needs another way.
  /// - Precondition: The IOTLB keeps entries, and those of this number.
  mutating func answerNew(_ row: Row, from start: Int, _ way: PageWay, in table: PageRow) -> Int {
    guard likely(cache.isFull) else { return answerFirst(row, start, way, in: table) }
    return ways == 4
      ? answerNew(row, from: start, way, in: table, ways: 4)
      : answerNew(row, from: start, way, in: table, ways: ways)
  }

  @inline(__always)
  private mutating func answerNew(
    _ row: Row, from start: Int, _ way: PageWay, in table: PageRow, ways: Int
  ) -> Int {
    let (sets, hints, offset) = (cache.sets, rowHints.row(of: row.first), row.offset)
    var victim = cache.lastVictim
    var index = start
    while index < row.count {
      let tag = row.tag(index)
      let set = sets.firstSlot(of: tag, ways: ways)
      guard likely(!sets.hold(tag, from: set, ways: ways)) else { break }
      let page = way.page(of: IOVA(row.address(index)), in: table)
      guard likely(row.answer(index, by: page.rawValue)) else { break }
      victim = WordSets.next(after: victim, ways: ways)
      sets.store(page.rawValue, under: tag, in: set &+ victim)
      hints[offset &+ index] = victim
      index &+= 1
    }
    cache.settle(evictions: UInt64(truncatingIfNeeded: index &- start), victim: victim)
    return index
  }

  /// The same of one page where a slot may be free.
  @inline(never)
  private mutating func answerFirst(
    _ row: Row, _ index: Int, _ way: PageWay, in table: PageRow
  ) -> Int {
    let page = way.page(of: IOVA(row.address(index)), in: table)
    guard row.answer(index, by: page.rawValue) else { return index }
    let tag = row.tag(index)
    let slot = cache.insertIntoSpace(page.rawValue, under: tag)
    rowHints.row(of: row.first)[row.offset &+ index] =
      slot &- cache.sets.firstSlot(of: tag, ways: ways)
    return index &+ 1
  }
}
