import IOMMUFormats

/// Entries next to each other in one table that say the same: nothing, or pages that continue each
/// other with the same permissions. Any other entry is a row of its own.
@frozen
public struct EntryRow: Equatable, Sendable {
  /// What the first entry says.
  public var kind: EntryKind
  /// What each of them allows.
  public var permissions: Permissions
  /// At least 1.
  public var count: Int

  @inlinable
  public init(kind: EntryKind, permissions: Permissions, count: Int) {
    self.kind = kind
    self.permissions = permissions
    self.count = count
  }
}

extension TableFormat {
  /// One entry as a row.
  func row(of entry: Entry, level: Int) -> EntryRow {
    EntryRow(
      kind: kind(of: entry, level: level), permissions: permissions(of: entry, level: level),
      count: 1)
  }

  /// Words that go on by the size of their page are taken for pages that go on when the last of them
  /// is: an address field is one run of bits, and flags do not change below its end.
  @inlinable
  public func row(in bytes: UnsafeRawBufferPointer, level: Int) -> EntryRow {
    // Safe: they are whole entries at multiples of their size, and the words are gone before the bytes.
    let words = unsafe EntryWords(bytes, of: Entry.self)
    let first = words[0]
    let entry = Entry(low: first, high: 0)
    let kind = kind(of: entry, level: level)
    var count = 1
    switch kind {
    case .malformed, .table: break
    case .empty: count = words.runLength(from: first, step: 0)
    case .page(_, let sizeLog2, let spanLog2) where spanLog2 != sizeLog2: break
    case .page(let page, let sizeLog2, _):
      let size = UInt64(1) &<< UInt64(truncatingIfNeeded: sizeLog2)
      count = words.runLength(from: first, step: size)
      // Words may go on beyond the end of their address field, where pages do not.
      if !continues(first, page, sizeLog2, by: count - 1, level: level) {
        count = continuation(first, page, sizeLog2, below: count - 1, level: level)
      }
    }
    return EntryRow(kind: kind, permissions: permissions(of: entry, level: level), count: count)
  }

  /// How many pages continue each other, of which the last is known not to: those before it that
  /// do come first.
  @usableFromInline
  func continuation(
    _ first: UInt64, _ page: PhysicalAddress, _ sizeLog2: Int, below last: Int, level: Int
  ) -> Int {
    var low = 1
    var high = last
    while low < high {
      let middle = (low + high) / 2
      if continues(first, page, sizeLog2, by: middle, level: level) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }

  /// Whether the word that is `count` pages more than `first` names the page that lies so much
  /// further on.
  @usableFromInline
  func continues(
    _ first: UInt64, _ page: PhysicalAddress, _ sizeLog2: Int, by count: Int, level: Int
  ) -> Bool {
    let distance = UInt64(count) << UInt64(sizeLog2)
    return kind(of: Entry(low: first &+ distance, high: 0), level: level)
      == .page(PhysicalAddress(page.rawValue &+ distance), sizeLog2: sizeLog2)
  }
}
