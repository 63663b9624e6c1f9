import IOMMUFormats

/// Ranges of memory cut at multiples of 256 KiB: what one thread looks at in one go.
struct MemoryPieces: Sequence, IteratorProtocol {
  private static let byteCount: UInt64 = 1 << 18
  private let ranges: [Range<PhysicalAddress>]
  private var index = 0
  /// Of the range at hand, the first byte that was not handed out; `nil` at its start.
  private var rest: PhysicalAddress?

  init(_ ranges: [Range<PhysicalAddress>]) { self.ranges = ranges }

  mutating func next() -> Range<PhysicalAddress>? {
    guard index < ranges.count else { return nil }
    let range = ranges[index]
    let start = rest ?? range.lowerBound
    let last = start.rawValue | (Self.byteCount - 1)
    guard last < range.upperBound.rawValue - 1 else {
      index += 1
      rest = nil
      return start..<range.upperBound
    }
    let end = PhysicalAddress(last + 1)
    rest = end
    return start..<end
  }
}

/// What a look at a piece of memory saw that finders want to see.
struct PieceSights: Sendable {
  /// Bytes that were there.
  fileprivate(set) var byteCount: UInt64 = 0
  /// Where a signature stands, ascending for each finder.
  fileprivate(set) var signatures: [(finder: Int, place: PhysicalAddress)] = []
  /// Pages that may be a table's, ascending.
  fileprivate(set) var pages: [(address: PhysicalAddress, look: PageLook)] = []
  /// Their contents, one after the other.
  fileprivate(set) var bytes: [UInt8] = []
}

/// Looks at memory piece by piece, on any thread.
struct PieceLook: Sendable {
  /// The finders that look at pages, in the order of the bits of a ``PageLook``.
  let lookers: [Int]
  private let sieve: PageSieve
  /// The finders that look for signatures.
  private let readers: [(finder: Int, pattern: UInt32)]

  init() {
    lookers = TableFinders.all.indices.filter { TableFinders.all[$0].excludedBits != nil }
    sieve = PageSieve(TableFinders.all.compactMap { $0.excludedBits })
    readers = TableFinders.all.indices.compactMap { index in
      TableFinders.all[index].signature.map { (index, PageSieve.pattern($0)) }
    }
  }

  /// What there is to see in a piece.
  func sights(
    in piece: Range<PhysicalAddress>, of memory: some PhysicalMemory
  ) -> PieceSights {
    var sights = PieceSights()
    memory.forEachPiece(of: piece, in: [piece]) { address, bytes in
      sights.byteCount &+= UInt64(bytes.count)
      var offset = 0
      while offset < bytes.count {
        let place = address.rawValue + UInt64(offset)
        let room = Int(4096 - place % 4096)
        let part = bytes.extracting(offset..<min(bytes.count, offset + room))
        look(at: part, PhysicalAddress(place), memory, &sights)
        offset += part.count
      }
    }
    return sights
  }

  /// Looks at a page, or at what is there of one.
  private func look(
    at bytes: Span<UInt8>, _ address: PhysicalAddress, _ memory: some PhysicalMemory,
    _ sights: inout PieceSights
  ) {
    guard bytes.count == PageSieve.pageByteCount else {
      return addSignatures(in: bytes, at: address.rawValue, memory, &sights)
    }
    let look = sieve.look(bytes)
    guard !look.isZero else { return }
    addSignatures(in: bytes, at: address.rawValue, memory, &sights)
    guard !look.isIdle else { return }
    sights.pages.append((address, look))
    // Safe: the pointer is used in here only.
    unsafe bytes.withUnsafeBytes { unsafe sights.bytes.append(contentsOf: $0) }
  }

  /// A signature may begin on one page and end on the next.
  private func addSignatures(
    in piece: Span<UInt8>, at address: UInt64, _ memory: some PhysicalMemory,
    _ sights: inout PieceSights
  ) {
    for (finder, pattern) in readers {
      for offset in PageSieve.offsets(of: pattern, in: piece) {
        sights.signatures.append((finder, PhysicalAddress(address + UInt64(offset))))
      }
      for tail in 1...3 where address >= UInt64(tail) {
        let place = PhysicalAddress(address - UInt64(tail))
        // Most pages do not begin with the signature's end, and need no look at the page before.
        guard piece.count >= 4, PageSieve.endsSignature(piece, pattern: pattern, tail: tail),
          memory.doubleword(at: place) == pattern
        else { continue }
        sights.signatures.append((finder, place))
      }
    }
  }
}
