/// Physical memory as hardware reads it: whole words at aligned addresses, `nil` where none
/// answers.
///
/// `nil` is the "access error" of the manuals: no RAM is there, or the page is not in this dump;
/// ``isAbsent(at:)`` tells which.
/// Reads are checked; no address, however wild, reads outside the memory. Walkers are generic over
/// this protocol and specialised, so that the same walk runs over a live machine and over a dump.
public protocol PhysicalMemory {
  /// The little-endian quadword at `address`; `nil` when any of its eight bytes is not there.
  func quadword(at address: PhysicalAddress) -> UInt64?

  /// The little-endian doubleword at `address`; `nil` when any of its four bytes is not there.
  func doubleword(at address: PhysicalAddress) -> UInt32?

  /// Copies as many bytes as are there, in one run from `address`, up to the buffer's length.
  ///
  /// - Returns: Bytes copied; 0 when none is there.
  func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int

  /// Whether nobody knows what lies at an address where nothing answers, because the memory is a dump
  /// that may have left it out; `false` where the machine itself has nothing there.
  func isAbsent(at address: PhysicalAddress) -> Bool

  /// The bytes from `address` on where they lie in this process, as far as they lie in one piece;
  /// `nil` where looking at them means copying them. Good for as long as the memory is.
  func bytesInPlace(from address: PhysicalAddress) -> UnsafeRawBufferPointer?

  /// What is at an address, or why nothing answers there.
  func presence(of address: PhysicalAddress) -> Presence

  /// The ranges that answer: half-open, ascending, not touching each other.
  var backedRanges: [Range<PhysicalAddress>] { get }

  /// What of ``backedRanges`` is stored somewhere, byte for byte: half-open, ascending, not touching
  /// each other. All else that answers is zero: what a dump counts as zeros, a gap between the records
  /// of a stream, a hole of a sparse file. A dump may claim to hold more memory than any machine has;
  /// what goes through memory goes through these.
  var storedRanges: [Range<PhysicalAddress>] { get }

  /// Pages that may hold anything but zeros: what bounds the tables there can be.
  var storedPageCount: UInt64 { get }

  /// What of the memory can be read in place; empty where words have to be asked for.
  var window: MemoryWindow { get }

  /// Lets the system take back what looks have brought into this process. Whoever goes through much
  /// memory says it now and then, so that what is resident does not grow to all that was looked at.
  func forgetLooks()
}

/// Memory that any number of threads may read at once, each page of which may cost something: what goes
/// through all of it may use several.
public protocol ConcurrentMemory: PhysicalMemory, Sendable {}

extension PhysicalMemory {
  public func bytesInPlace(from _: PhysicalAddress) -> UnsafeRawBufferPointer? { nil }

  /// Bytes, or no memory: what a machine that runs has.
  public func presence(of address: PhysicalAddress) -> Presence {
    bytes(at: address, count: 1) == nil ? .absent : .stored
  }

  /// `false`: the memory is a machine's own.
  public func isAbsent(at _: PhysicalAddress) -> Bool { false }

  /// All that answers: what knows of no zeros that nobody stores.
  public var storedRanges: [Range<PhysicalAddress>] { backedRanges }

  public var storedPageCount: UInt64 { storedPageRanges.pageCount }
  public var window: MemoryWindow { MemoryWindow() }

  /// Nothing: what a machine that runs has in memory is there anyway.
  public func forgetLooks() {}

  /// The elements, each of which leads to looks at a few pages; forgets those now and then.
  package func forgetting<Elements: Sequence>(
    _ elements: Elements
  ) -> ForgettingSequence<Elements, Self> {
    ForgettingSequence(memory: self, elements: elements.makeIterator())
  }

  /// The big-endian quadword at `address`; `nil` when any of its eight bytes is not there.
  @inlinable @inline(__always)
  public func bigEndianQuadword(at address: PhysicalAddress) -> UInt64? {
    quadword(at: address)?.byteSwapped
  }

  /// The big-endian doubleword at `address`; `nil` when any of its four bytes is not there.
  @inlinable @inline(__always)
  public func bigEndianDoubleword(at address: PhysicalAddress) -> UInt32? {
    doubleword(at: address)?.byteSwapped
  }

  /// What ``read(at:into:)`` says, taken for no more than the buffer has: a memory that fails, or that
  /// has become smaller since it said what it has, holds nothing there.
  ///
  /// - Returns: Bytes copied; 0 when none is there, or when the answer is no number of bytes.
  package func copyBytes(
    from address: PhysicalAddress, to buffer: UnsafeMutableRawBufferPointer
  ) -> Int {
    // Safe: the caller's buffer goes on as it came.
    let count = unsafe read(at: address, into: buffer)
    return 0...buffer.count ~= count ? count : 0
  }

  /// ``storedPageCount``, and no more pages than there are addresses for, whatever a memory says.
  package var storedPageBound: UInt64 { min(storedPageCount, 1 << 52) }

  /// `byteCount` bytes from `address`; `nil` when any of them is not there.
  public func bytes(at address: PhysicalAddress, count byteCount: Int) -> [UInt8]? {
    // Safe: as many bytes count as initialized as were copied.
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
      count = unsafe copyBytes(from: address, to: UnsafeMutableRawBufferPointer(buffer))
    }
    return bytes.count == byteCount ? bytes : nil
  }

  /// The first byte that does not answer of an entry that does not: a dump may end inside of one.
  ///
  /// - Returns: `address` where all bytes of the largest entry answer.
  package func firstSilentByte(from address: PhysicalAddress) -> PhysicalAddress {
    let largestEntry = 64
    // Safe: as many bytes count as initialized as were copied.
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: largestEntry) { buffer, count in
      count = unsafe read(at: address, into: UnsafeMutableRawBufferPointer(buffer))
    }
    guard bytes.count < largestEntry else { return address }
    return address.advanced(byBytes: UInt64(bytes.count)) ?? address
  }

  /// Whole pages with a stored byte, as far as they answer: half-open, ascending, not touching each
  /// other.
  public var storedPageRanges: [Range<PhysicalAddress>] {
    let backed = backedRanges
    var ranges: [Range<PhysicalAddress>] = []
    var next = 0
    for stored in storedRanges where !stored.isEmpty {
      let start = stored.lowerBound.alignedDown(to: PageCount.pageByteCount)
      let last = PhysicalAddress((stored.upperBound.rawValue - 1) | (PageCount.pageByteCount - 1))
      while next < backed.count, backed[next].upperBound <= start { next += 1 }
      var index = next
      while index < backed.count, backed[index].lowerBound <= last {
        // What answers ends at 2^64 − 1 at the latest.
        let end = min(backed[index].upperBound, last.advanced(byBytes: 1) ?? last)
        let first = max(backed[index].lowerBound, start)
        index += 1
        guard first < end else { continue }
        let part = first..<end
        if let previous = ranges.last, part.lowerBound <= previous.upperBound {
          ranges[ranges.count - 1] =
            previous.lowerBound..<max(previous.upperBound, part.upperBound)
        } else {
          ranges.append(part)
        }
      }
    }
    return ranges
  }

  /// Pages that answer, each counted once; the last page of a range counts whole.
  public var backedPageCount: UInt64 { backedRanges.pageCount }
}

/// Elements whose looks at memory are forgotten now and then.
package struct ForgettingSequence<Elements: Sequence, Memory: PhysicalMemory>: Sequence,
  IteratorProtocol
{
  fileprivate let memory: Memory
  fileprivate var elements: Elements.Iterator
  private var count = 0

  fileprivate init(memory: Memory, elements: Elements.Iterator) {
    self.memory = memory
    self.elements = elements
  }

  package mutating func next() -> Elements.Element? {
    count += 1
    // A look brings in 64 KiB.
    if count % 128 == 0 { memory.forgetLooks() }
    return elements.next()
  }
}

extension [Range<PhysicalAddress>] {
  /// Pages of 4 KiB in ascending ranges; the last page of a range counts whole.
  var pageCount: UInt64 {
    // Not (n + 4095) / 4096: a damaged dump may claim to hold every address there is.
    reduce(0) { $0 + $1.byteCount / 4096 + ($1.byteCount % 4096 == 0 ? 0 : 1) }
  }
}
