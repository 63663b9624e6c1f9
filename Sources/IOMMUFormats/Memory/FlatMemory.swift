import CIOMMUAtomics
import Glibc

/// The physical memory of one machine: address 0 up to the end of its RAM, flat.
///
/// The address space is reserved at once and pages appear when they are touched, so that a
/// machine of 64 GiB costs what it uses. Untouched memory reads as zero. Addresses outside the
/// RAM ranges (the hole below 4 GiB, everything past the end) do not answer: loads return `nil`.
/// Memory that is somebody's already, such as the RAM of a virtual machine's guest, is looked at and
/// written where it lies: ``init(adopting:owner:)``.
///
/// Aligned words are read and written atomically: neither the modelled hardware nor a concurrent
/// reader ever sees a torn entry. `FlatMemory` itself may be shared between threads for that
/// reason, and because nothing else of it changes.
@safe
public final class FlatMemory: PhysicalMemory, @unchecked Sendable {
  /// Where physical 0 lies in this process, as far as the largest RAM range goes by it: all of RAM where
  /// it was reserved. A number, because of adopted memory nothing may be there.
  @usableFromInline let origin: UInt

  /// Where RAM answers: half-open, ascending, not touching.
  public let ram: [Range<PhysicalAddress>]

  /// The largest RAM range, looked at first.
  @usableFromInline let mainBase: UInt64
  @usableFromInline let mainByteCount: UInt64

  /// What was reserved, physical 0 to the end of RAM; holes are inside it, and their bytes are never
  /// reached by an address. Empty where memory was adopted.
  @usableFromInline let reservation: UnsafeMutableRawBufferPointer
  /// Of adopted memory, where physical 0 would lie by each range of ``ram``.
  @usableFromInline let origins: [UInt]
  /// What adopted memory stays there for.
  private let owner: AnyObject?

  /// Reserves memory with RAM in the given ranges.
  ///
  /// - Parameter ram: Half-open, multiples of 4 KiB, in any order; touching ranges are joined.
  /// - Throws: ``MemoryError`` when a range is empty, unaligned or overlaps another, or when the
  ///   system does not grant the address space.
  public init(ram: [Range<PhysicalAddress>]) throws(MemoryError) {
    let sorted = ram.sorted { $0.lowerBound < $1.lowerBound }
    var joined: [Range<PhysicalAddress>] = []
    for range in sorted {
      guard !range.isEmpty, range.lowerBound.isAligned(to: 4096),
        range.upperBound.isAligned(to: 4096)
      else { throw .badRange(range) }
      if let last = joined.last, range.lowerBound <= last.upperBound {
        guard range.lowerBound == last.upperBound else { throw .overlap(last, range) }
        joined[joined.count - 1] = last.lowerBound..<range.upperBound
      } else {
        joined.append(range)
      }
    }
    guard let end = joined.last?.upperBound.rawValue else { throw .noRAM }
    guard end <= 1 << 47, let byteCount = Int(exactly: end) else { throw .notGranted(end, ENOMEM) }
    // Safe: memory of its own, that nobody else knows of and that is given back in deinit.
    let pointer = unsafe mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let pointer = unsafe pointer, unsafe pointer != MAP_FAILED else {
      throw .notGranted(end, errno)
    }
    unsafe reservation = UnsafeMutableRawBufferPointer(start: pointer, count: byteCount)
    origin = UInt(bitPattern: pointer)
    origins = []
    owner = nil
    self.ram = joined
    let main = joined.max { $0.byteCount < $1.byteCount }!
    mainBase = main.lowerBound.rawValue
    mainByteCount = main.byteCount
  }

  /// Reserves `byteCount` bytes of RAM from physical 0.
  public convenience init(byteCount: UInt64) throws(MemoryError) {
    try self.init(ram: [PhysicalAddress(0)..<PhysicalAddress(byteCount)])
  }

  /// Takes memory that lies in this process as the RAM of a machine, without copying it: the RAM of a
  /// virtual machine's guest, as its monitor has mapped it.
  ///
  /// Loads and stores go to the pieces themselves. Ranges that touch stay ranges of their own, unless they
  /// touch in this process too. What can be read without asking (``window``) is the first range, and that
  /// where it begins at physical 0; all else is read just as well, and a little slower.
  ///
  /// - Parameters:
  ///   - pieces: The first address of each piece, a multiple of 4 KiB, and its bytes, whole pages of
  ///     4 KiB at a multiple of 4 KiB in this process; in any order.
  ///   - owner: Kept for as long as this memory is; its `deinit` may unmap the pieces.
  /// - Throws: ``MemoryError`` when a piece is empty, unaligned or overlaps another.
  /// - Precondition: The pieces stay mapped, readable and writable, for as long as this memory is used,
  ///   and others who use them at the same time read and write whole aligned words.
  @unsafe
  public init(
    adopting pieces: [(address: PhysicalAddress, bytes: UnsafeMutableRawBufferPointer)],
    owner: AnyObject? = nil
  ) throws(MemoryError) {
    var found: [(range: Range<PhysicalAddress>, origin: UInt)] = []
    for index in unsafe pieces.indices {
      let (start, bytes) = unsafe pieces[index]
      let (place, count) = (UInt(bitPattern: bytes.baseAddress), bytes.count)
      guard let range = Range(start: start, byteCount: UInt64(count)) else {
        throw .badRange(start..<PhysicalAddress(.max))
      }
      guard !range.isEmpty, start.isAligned(to: 4096), range.upperBound.isAligned(to: 4096) else {
        throw .badRange(range)
      }
      guard place % 4096 == 0 else { throw .unalignedPiece(range) }
      found.append((range, place &- UInt(truncatingIfNeeded: start.rawValue)))
    }
    found.sort { $0.range.lowerBound < $1.range.lowerBound }
    var joined: [(range: Range<PhysicalAddress>, origin: UInt)] = []
    for piece in found {
      if let last = joined.last, piece.range.lowerBound <= last.range.upperBound {
        guard piece.range.lowerBound == last.range.upperBound else {
          throw .overlap(last.range, piece.range)
        }
        if piece.origin == last.origin {
          joined[joined.count - 1].range = last.range.lowerBound..<piece.range.upperBound
          continue
        }
      }
      joined.append(piece)
    }
    guard let main = joined.max(by: { $0.range.byteCount < $1.range.byteCount }) else {
      throw .noRAM
    }
    unsafe reservation = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    origin = main.origin
    origins = joined.map(\.origin)
    self.owner = owner
    ram = joined.map(\.range)
    mainBase = main.range.lowerBound.rawValue
    mainByteCount = main.range.byteCount
  }

  /// Memory that holds `bytes` from `address` on, and zeros up to the end of their last page.
  ///
  /// What was memory before, in a file or a test, becomes memory again; ``PhysicalMemory/bytes(at:count:)``
  /// is the way back.
  ///
  /// - Parameters:
  ///   - bytes: At least one.
  ///   - address: A multiple of 4 KiB.
  /// - Throws: ``MemoryError`` when there is no byte, `address` is unaligned, or the system does not grant
  ///   the address space.
  public convenience init(
    _ bytes: [UInt8], at address: PhysicalAddress = PhysicalAddress(0)
  ) throws(MemoryError) {
    guard let pages = PageCount(coveringBytes: UInt64(bytes.count)),
      let byteCount = pages.byteCount, let range = Range(start: address, byteCount: byteCount)
    else { throw .badRange(address..<PhysicalAddress(.max)) }
    try self.init(ram: [range])
    write(bytes, at: address)
  }

  deinit {
    // Safe: nobody holds the memory any more; a window's holder keeps it.
    if let start = unsafe reservation.baseAddress { unsafe munmap(start, reservation.count) }
  }

  /// Whether all `byteCount` bytes from `address` lie in one RAM range.
  @inlinable @inline(__always)
  public func isBacked(_ address: PhysicalAddress, byteCount: UInt64) -> Bool {
    isInMain(address, byteCount: byteCount)
      || isBackedElsewhere(address, byteCount: byteCount)
  }

  @usableFromInline @inline(never)
  func isBackedElsewhere(_ address: PhysicalAddress, byteCount: UInt64) -> Bool {
    ram.contains {
      $0.contains(address) && byteCount <= $0.upperBound.rawValue - address.rawValue
    }
  }

  /// Where a byte of RAM lies in this process.
  @inlinable @inline(__always)
  func pointer(to address: PhysicalAddress) -> UnsafeMutableRawPointer {
    // Safe: every caller has checked isBacked.
    unsafe isInMain(address, byteCount: 1) ? mainPointer(to: address) : pointerElsewhere(address)
  }

  @usableFromInline @inline(never)
  func pointerElsewhere(_ address: PhysicalAddress) -> UnsafeMutableRawPointer {
    guard !origins.isEmpty, let index = ram.firstIndex(where: { $0.contains(address) }) else {
      return unsafe mainPointer(to: address)
    }
    // Safe: the range holds the byte; none lies at 0.
    return unsafe UnsafeMutableRawPointer(
      bitPattern: origins[index] &+ UInt(truncatingIfNeeded: address.rawValue)
    ).unsafelyUnwrapped
  }

  // MARK: Loads

  /// Where a byte of the largest RAM range lies in this process.
  @inlinable @inline(__always)
  func mainPointer(to address: PhysicalAddress) -> UnsafeMutableRawPointer {
    // Safe: every caller has checked that the range holds the byte; none lies at 0.
    unsafe UnsafeMutableRawPointer(
      bitPattern: origin &+ UInt(truncatingIfNeeded: address.rawValue)
    ).unsafelyUnwrapped
  }

  /// Whether all `byteCount` bytes from `address` lie in the largest RAM range.
  @inlinable @inline(__always)
  func isInMain(_ address: PhysicalAddress, byteCount: UInt64) -> Bool {
    let offset = address.rawValue &- mainBase
    // Safe: both sides are unsigned.
    return offset < mainByteCount && byteCount <= mainByteCount &- offset
  }

  @inlinable @inline(__always)
  public func quadword(at address: PhysicalAddress) -> UInt64? {
    guard isInMain(address, byteCount: 8) else { return quadwordElsewhere(at: address) }
    // Safe: RAM is there for all bytes of the word.
    return unsafe Self.quadword(at: mainPointer(to: address))
  }

  @usableFromInline @inline(never)
  func quadwordElsewhere(at address: PhysicalAddress) -> UInt64? {
    guard isBackedElsewhere(address, byteCount: 8) else { return nil }
    // Safe: RAM is there for all bytes of the word.
    return unsafe Self.quadword(at: pointer(to: address))
  }

  @unsafe
  @inlinable @inline(__always)
  static func quadword(at place: UnsafeMutableRawPointer) -> UInt64 {
    guard UInt(bitPattern: place) & 7 == 0 else {
      return unsafe UInt64(littleEndian: place.loadUnaligned(as: UInt64.self))
    }
    return unsafe UInt64(littleEndian: ciommu_load64(place))
  }

  @inlinable @inline(__always)
  public func doubleword(at address: PhysicalAddress) -> UInt32? {
    guard isInMain(address, byteCount: 4) else { return doublewordElsewhere(at: address) }
    // Safe: RAM is there for all bytes of the word.
    return unsafe Self.doubleword(at: mainPointer(to: address))
  }

  @usableFromInline @inline(never)
  func doublewordElsewhere(at address: PhysicalAddress) -> UInt32? {
    guard isBackedElsewhere(address, byteCount: 4) else { return nil }
    // Safe: RAM is there for all bytes of the word.
    return unsafe Self.doubleword(at: pointer(to: address))
  }

  @unsafe
  @inlinable @inline(__always)
  static func doubleword(at place: UnsafeMutableRawPointer) -> UInt32 {
    guard UInt(bitPattern: place) & 3 == 0 else {
      return unsafe UInt32(littleEndian: place.loadUnaligned(as: UInt32.self))
    }
    return unsafe UInt32(littleEndian: ciommu_load32(place))
  }

  public func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard let range = ram.first(where: { $0.contains(address) }) else { return 0 }
    let count = Int(min(UInt64(buffer.count), range.upperBound.rawValue - address.rawValue))
    // Safe: no more than the buffer holds and the RAM range has.
    unsafe buffer.copyMemory(
      from: UnsafeRawBufferPointer(start: pointer(to: address), count: count))
    return count
  }

  /// The bytes from `address` to the end of its RAM range.
  public func bytesInPlace(from address: PhysicalAddress) -> UnsafeRawBufferPointer? {
    guard let range = ram.first(where: { $0.contains(address) }) else { return nil }
    // Safe to make: it ends with the RAM range.
    return unsafe UnsafeRawBufferPointer(
      start: pointer(to: address), count: Int(range.upperBound.rawValue - address.rawValue))
  }

  public var backedRanges: [Range<PhysicalAddress>] { ram }

  /// All of the reservation: holes in it read as zeros, which is an empty entry in every format. Of
  /// adopted memory the first range, and nothing unless that begins at physical 0.
  public var window: MemoryWindow {
    // Safe to make: the reservation is aligned to pages, and can be read as long as it stands; so can an
    // adopted range.
    guard !origins.isEmpty else {
      return unsafe MemoryWindow(
        base: UnsafeRawPointer(reservation.baseAddress), byteCount: UInt64(reservation.count))
    }
    guard ram[0].lowerBound.rawValue == 0 else { return MemoryWindow() }
    return unsafe MemoryWindow(
      base: UnsafeRawPointer(pointer(to: PhysicalAddress(0))), byteCount: ram[0].byteCount)
  }

  // MARK: Stores

  /// Stores a little-endian quadword; atomic, so no reader sees half of it.
  ///
  /// - Precondition: `address` is 8-byte aligned and in RAM.
  @inlinable
  public func store(_ quadword: UInt64, at address: PhysicalAddress) {
    precondition(address.rawValue & 7 == 0, "a quadword is stored at a multiple of eight")
    precondition(isBacked(address, byteCount: 8), "no RAM where the quadword is to be stored")
    // Safe: aligned and in RAM.
    unsafe ciommu_store64(pointer(to: address), quadword.littleEndian)
  }

  /// Stores quadwords in a row, each `step` more than the one before; each by itself atomic.
  ///
  /// - Parameters:
  ///   - first: The quadword at `address`.
  ///   - step: What each adds to the one before, modulo 2^64.
  ///   - count: Quadwords; 0 stores nothing.
  ///   - isBigEndian: The byte order of all of them.
  ///   - address: Where the first one lies.
  /// - Precondition: `address` is 8-byte aligned, and all of them lie in one RAM range.
  @inlinable
  public func storeSeries(
    from first: UInt64, step: UInt64, count: Int, isBigEndian: Bool, at address: PhysicalAddress
  ) {
    precondition(count >= 0 && count < 1 << 44, "a series has at most as many words as memory")
    precondition(address.rawValue & 7 == 0, "a quadword is stored at a multiple of eight")
    precondition(
      count == 0 || isBacked(address, byteCount: UInt64(count) * 8),
      "no RAM where the quadwords are to be stored")
    // Safe: all of them are aligned and in RAM. The order of bytes is asked once, not for each word.
    var place = unsafe pointer(to: address)
    var word = first
    if isBigEndian {
      for _ in 0..<count {
        unsafe ciommu_store64(place, word.bigEndian)
        unsafe place += 8
        word &+= step
      }
    } else {
      for _ in 0..<count {
        unsafe ciommu_store64(place, word.littleEndian)
        unsafe place += 8
        word &+= step
      }
    }
  }

  /// Stores a little-endian doubleword; atomic.
  ///
  /// - Precondition: `address` is 4-byte aligned and in RAM.
  @inlinable
  public func store(_ doubleword: UInt32, at address: PhysicalAddress) {
    precondition(address.rawValue & 3 == 0, "a doubleword is stored at a multiple of four")
    precondition(isBacked(address, byteCount: 4), "no RAM where the doubleword is to be stored")
    // Safe: aligned and in RAM.
    unsafe ciommu_store32(pointer(to: address), doubleword.littleEndian)
  }

  /// Replaces the little-endian quadword at `address` when it still holds `expected`.
  ///
  /// What hardware does to set an accessed or dirty bit without losing a store of software's.
  ///
  /// - Returns: `nil` when the exchange was made, otherwise what the quadword holds.
  /// - Precondition: `address` is 8-byte aligned and in RAM.
  @inlinable
  public func compareExchange(
    at address: PhysicalAddress, expected: UInt64, desired: UInt64
  ) -> UInt64? {
    precondition(address.rawValue & 7 == 0, "a quadword is exchanged at a multiple of eight")
    precondition(isBacked(address, byteCount: 8), "no RAM where the quadword is to be exchanged")
    var found = expected.littleEndian
    // Safe: aligned and in RAM.
    let isDone = unsafe ciommu_compare_exchange64(
      pointer(to: address), &found, desired.littleEndian)
    return isDone ? nil : UInt64(littleEndian: found)
  }

  /// Copies as many of `bytes` as RAM takes in one run from `address`.
  ///
  /// - Returns: Bytes stored; 0 where there is no RAM.
  @discardableResult
  public func write(_ source: UnsafeRawBufferPointer, at address: PhysicalAddress) -> Int {
    guard let range = ram.first(where: { $0.contains(address) }) else { return 0 }
    let count = Int(min(UInt64(source.count), range.upperBound.rawValue - address.rawValue))
    guard let start = source.baseAddress else { return 0 }
    // Safe: no more than the source holds and the RAM range has.
    unsafe pointer(to: address).copyMemory(from: start, byteCount: count)
    return count
  }

  /// Copies as many of `bytes` as RAM takes in one run from `address`.
  ///
  /// - Returns: Bytes stored; 0 where there is no RAM.
  @discardableResult
  public func write(_ bytes: [UInt8], at address: PhysicalAddress) -> Int {
    // Safe: the buffer is used while it is there.
    unsafe bytes.withUnsafeBytes { unsafe write($0, at: address) }
  }

  /// Runs of whole pages from here on are given back rather than written.
  private static let giveBackByteCount = 256 << 10

  /// Sets `byteCount` bytes from `address` to zero; a long run takes no memory for it where it was
  /// reserved.
  ///
  /// - Precondition: they all lie in one RAM range.
  public func zero(at address: PhysicalAddress, byteCount: UInt64) {
    precondition(isBacked(address, byteCount: byteCount), "no RAM where zeros are to be stored")
    let count = Int(byteCount)
    let start = unsafe pointer(to: address)
    // Safe: the memory is private and anonymous, so that pages that are given back read as zeros.
    if count >= Self.giveBackByteCount, origins.isEmpty, address.isAligned(to: 4096),
      count % 4096 == 0,
      unsafe madvise(start, count, MADV_DONTNEED) == 0
    {
      return
    }
    // Safe: all of them are in RAM.
    unsafe memset(start, 0, count)
  }

  /// Page-aligned runs that may hold anything but zeros: what was touched since the reservation.
  ///
  /// Asks the kernel which pages exist, so that writing out 64 TiB costs what the machine used.
  /// Where the kernel does not tell, and of adopted memory, all of RAM. Ascending; O(*n*) in the runs, but `O(RAM / 4 KiB)`
  /// words looked at where the kernel is older than Linux 6.7.
  public func touchedRanges() -> [Range<PhysicalAddress>] {
    // Pages of adopted memory may hold something long before anybody here touches them.
    guard origins.isEmpty else { return ram }
    // Safe: a path that ends with a zero.
    let file = unsafe open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return ram }
    defer { close(file) }
    if let touched = scannedRanges(file) { return touched }
    var touched: [Range<PhysicalAddress>] = []
    let chunkPages = 65_536
    var entries = [UInt64](repeating: 0, count: chunkPages)
    for range in ram {
      var page = range.lowerBound.pageNumber
      let end = range.upperBound.pageNumber
      while page < end {
        let count = Int(min(UInt64(chunkPages), end - page))
        let virtualPage = UInt64(origin) / 4096 + page
        let want = count * 8
        // Safe: `want` is at most what the array holds.
        let got = unsafe entries.withUnsafeMutableBytes {
          unsafe pread(file, $0.baseAddress, want, off_t(virtualPage * 8))
        }
        guard got == want else { return ram }
        // Bits 63 and 62 of a pagemap entry: the page is in memory, or in swap.
        for index in 0..<count where entries[index] >> 62 != 0 {
          let start = PhysicalAddress((page + UInt64(index)) * 4096)
          let next = PhysicalAddress(start.rawValue + 4096)
          if let last = touched.last, last.upperBound == start {
            touched[touched.count - 1] = last.lowerBound..<next
          } else {
            touched.append(start..<next)
          }
        }
        page += UInt64(count)
      }
    }
    return touched
  }

  /// The same in one call for many runs; `nil` where the kernel has no such call.
  ///
  /// Source: Linux `Documentation/admin-guide/mm/pagemap.rst`, `PAGEMAP_SCAN`.
  private func scannedRanges(_ file: Int32) -> [Range<PhysicalAddress>]? {
    let scan: UInt = 0xc060_6610
    // Present, or in swap.
    let categories: UInt64 = 1 << 3 | 1 << 4
    // Three words for each run: start, end, categories.
    var regions = [UInt64](repeating: 0, count: 3 * 1024)
    let base = UInt64(origin)
    var touched: [Range<PhysicalAddress>] = []
    for range in ram {
      var start = base + range.lowerBound.rawValue
      let end = base + range.upperBound.rawValue
      while start < end {
        // Safe: the kernel fills as many regions as the array holds, and this call waits for it.
        let (found, walked) = unsafe regions.withUnsafeMutableBytes { buffer in
          // size, flags, start, end, walk_end, vec, vec_len, max_pages; then categories: inverted,
          // all of, any of, returned.
          var argument: [UInt64] = [
            96, 0, start, end, 0, UInt64(UInt(bitPattern: buffer.baseAddress)), 1024, 0,
            0, 0, categories, categories,
          ]
          let found = unsafe argument.withUnsafeMutableBytes {
            unsafe ioctl(file, scan, $0.baseAddress!)
          }
          return (found, argument[4])
        }
        guard found >= 0, walked > start else { return nil }
        // What the kernel tells of a large page may begin before the scan, or go on behind its end.
        var known = start
        for index in 0..<Int(found) {
          let lower = max(regions[3 * index], known)
          let upper = min(regions[3 * index + 1], end)
          guard lower < upper else { continue }
          known = upper
          let first = PhysicalAddress(lower - base)
          let next = PhysicalAddress(upper - base)
          if let last = touched.last, last.upperBound == first {
            touched[touched.count - 1] = last.lowerBound..<next
          } else {
            touched.append(first..<next)
          }
        }
        start = max(walked, known)
      }
    }
    return touched
  }
}

/// Why a ``FlatMemory`` could not be had.
public enum MemoryError: Error, Equatable, CustomStringConvertible {
  /// No range was given.
  case noRAM
  /// Empty, or not made of whole pages.
  case badRange(Range<PhysicalAddress>)
  /// Two ranges have bytes in common.
  case overlap(Range<PhysicalAddress>, Range<PhysicalAddress>)
  /// A piece to be adopted does not begin at a multiple of 4 KiB in this process.
  case unalignedPiece(Range<PhysicalAddress>)
  /// The system does not reserve so many bytes; its error number.
  case notGranted(UInt64, Int32)

  public var description: String {
    switch self {
    case .noRAM: "a machine needs at least one RAM range"
    case .badRange(let range): "RAM range \(range.text) is empty or not a multiple of 4 KiB"
    case .overlap(let first, let second): "RAM ranges \(first.text) and \(second.text) overlap"
    case .unalignedPiece(let range):
      "the bytes to adopt as RAM \(range.text) do not begin at a multiple of 4 KiB in this process"
    case .notGranted(let byteCount, let code):
      "the system does not reserve \(byteCount) bytes of address space "
        + "(\(Self.systemText(code))); "
        + "choose less RAM"
    }
  }

  private static func systemText(_ code: Int32) -> String {
    // Safe: strerror never returns null, and its text is copied at once.
    unsafe String(cString: strerror(code))
  }
}
