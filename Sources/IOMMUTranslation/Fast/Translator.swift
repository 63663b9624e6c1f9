import IOMMUFormats

/// A device handle together with the memory that its tables lie in: the fast way to translate.
///
/// Answers exactly what ``DeviceHandle`` answers, in one word for each request. The common case is
/// read in place with bounds and reserved bits checked; anything unusual goes to one exact path, the
/// walker's. Page tables are read anew by every call, entry by entry atomically, so other threads
/// may map and unmap meanwhile; the handle goes stale when software changes root or context entries.
///
/// A value: each thread may have its own copy. Nothing on the way allocates, counts references or
/// takes a lock.
@frozen
public struct Translator<Memory: PhysicalMemory>: @unchecked Sendable {
  // Safe to share: neither the ways nor what they belong to ever change.
  /// The way of reads, and after it that of writes; they live as long as `exact`.
  @usableFromInline let paths: UnsafePointer<ShortParameters>
  @usableFromInline let exact: ExactPath<Memory>

  /// - Complexity: No entry is read.
  public init(_ handle: DeviceHandle, in memory: Memory) {
    exact = ExactPath(handle, memory)
    paths = UnsafePointer(exact.paths)
  }

  public var handle: DeviceHandle { exact.handle }
  public var memory: Memory { exact.memory }

  /// The root of the VT-d table that requests are translated through; `nil` without one.
  public var tableRoot: PhysicalAddress? {
    switch handle.route {
    case .secondStage(let table): table.root
    case .firstStage(let table): table.root
    default: nil
    }
  }
}

/// What a translator is made of, behind one reference: copying a translator copies two words.
@usableFromInline
final class ExactPath<Memory: PhysicalMemory> {
  @usableFromInline let handle: DeviceHandle
  @usableFromInline let memory: Memory
  @usableFromInline let paths: UnsafeMutablePointer<ShortParameters>

  init(_ handle: DeviceHandle, _ memory: Memory) {
    self.handle = handle
    self.memory = memory
    paths = .allocate(capacity: 2)
    paths.initialize(to: ShortParameters(handle, .read, window: memory.window))
    (paths + 1).initialize(to: ShortParameters(handle, .write, window: memory.window))
  }

  deinit { paths.deallocate() }

  /// The walker's answer. Not inlined, so that the short way stays short; not a method, so that the
  /// caller needs no register for `self`.
  @inlinable @inline(never)
  static func translate(_ address: UInt64, _ access: Access, _ exact: ExactPath) -> UInt64 {
    PackedTranslation(
      exact.handle.translate(IOVA(address), byteCount: 1, access: access, in: exact.memory)
    ).rawValue
  }

  /// What is left when callers have no short way in line: that of tables of three or five levels,
  /// or else the walker's answer.
  ///
  /// One call, the last of its caller: with it the caller keeps nothing, and needs no frame. With
  /// more ways in line LLVM moves some out by itself, into calls in the middle.
  @inlinable @inline(never)
  static func translateOutOfLine(
    _ address: UInt64, _ access: Access, _ exact: ExactPath
  ) -> UInt64 {
    let path = ShortPath(UnsafePointer(access == .read ? exact.paths : exact.paths + 1))
    let answer = path.translateOutOfLine(address)
    return likely(answer != RadixPath.noAnswer) ? answer : translate(address, access, exact)
  }
}

extension Translator {
  @inlinable @inline(__always)
  func path(for access: Access) -> ShortPath {
    ShortPath(access == .read ? paths : paths + 1)
  }

  /// Translates the first byte of one request.
  @inlinable @inline(__always)
  public func translate(_ iova: IOVA, _ access: Access) -> PackedTranslation {
    let answer = path(for: access).translate(iova.rawValue)
    guard likely(answer != RadixPath.noAnswer) else {
      return PackedTranslation(
        rawValue: ExactPath.translateOutOfLine(iova.rawValue, access, exact))
    }
    return PackedTranslation(rawValue: answer)
  }

  /// Translates a batch of requests of one kind; answers are those of single calls.
  ///
  /// Nothing is kept between calls. During one call the upper levels of a 2 MiB region are read once
  /// for addresses of that region in a row: a table that another thread takes away meanwhile may
  /// still be read until the call returns, as hardware may until it is told to drain requests.
  ///
  /// - Parameters:
  ///   - answers: As many as addresses.
  @inlinable
  public func translate(
    _ addresses: Span<IOVA>, _ access: Access, into answers: inout MutableSpan<PackedTranslation>
  ) {
    var regions = LastRegion()
    translate(addresses, access, into: &answers, remembering: &regions)
  }

  /// The same, with what `regions` remembers of the upper levels of VT-d tables.
  @inlinable
  public func translate(
    _ addresses: Span<IOVA>, _ access: Access, into answers: inout MutableSpan<PackedTranslation>,
    remembering regions: inout some RegionStore
  ) {
    precondition(addresses.count == answers.count, "a batch has one answer for each address")
    addresses.withUnsafeBufferPointer { addresses in
      answers.withUnsafeMutableBufferPointer { answers in
        translate(addresses, access, into: answers, &regions)
      }
    }
  }

  /// Addresses in a block: enough prefetches to fill the time of one, few enough for the first-level
  /// cache.
  @inlinable static var blockCount: Int { 256 }

  @inlinable @inline(__always)
  func translate(
    _ addresses: UnsafeBufferPointer<IOVA>, _ access: Access,
    into answers: UnsafeMutableBufferPointer<PackedTranslation>, _ regions: inout some RegionStore
  ) {
    guard let input = addresses.baseAddress, let output = answers.baseAddress else { return }
    // An IOVA and a packed answer are each one UInt64.
    let source = UnsafeRawPointer(input).assumingMemoryBound(to: UInt64.self)
    let target = UnsafeMutableRawPointer(output).assumingMemoryBound(to: UInt64.self)
    let path = path(for: access)
    var start = 0
    while start < addresses.count {
      let count = min(Self.blockCount, addresses.count &- start)
      let block = source + start
      let results = target + start
      let all = path.translate(block: block, count: count, into: results, &regions)
      if all &>> 63 != 0 {
        for index in 0..<count where results[index] == RadixPath.noAnswer {
          results[index] = ExactPath.translate(block[index], access, exact)
        }
      }
      start &+= count
    }
  }
}
