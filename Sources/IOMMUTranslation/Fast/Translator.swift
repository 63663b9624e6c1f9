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
public struct Translator<Memory: PhysicalMemory> {
  @usableFromInline let exact: ExactPath<Memory>

  /// - Complexity: No entry is read.
  public init(_ handle: DeviceHandle, in memory: Memory) {
    exact = ExactPath.make(handle, memory)
  }

  public var handle: DeviceHandle { exact.header.handle }
  public var memory: Memory { exact.header.memory }

  /// The root of the VT-d table that requests are translated through; `nil` without one.
  public var tableRoot: PhysicalAddress? {
    switch handle.route {
    case .table(.secondStage(let table)): table.root
    case .table(.firstStage(let table)): table.root
    default: nil
    }
  }
}

// Sendable: what it refers to never changes, as far as that can be said of the memory.
extension Translator: @unchecked Sendable where Memory: Sendable {}

/// What a translator is made of, behind one reference: a handle and its memory, and behind them, in
/// the same piece of memory, the short way of reads and that of writes.
///
/// A caller holds one word and finds everything from there, without a load.
@usableFromInline
final class ExactPath<Memory: PhysicalMemory>: ManagedBuffer<
  ExactPath.Header, ShortParameters
>
{
  @usableFromInline
  struct Header {
    @usableFromInline let handle: DeviceHandle
    @usableFromInline let memory: Memory
  }

  static func make(_ handle: DeviceHandle, _ memory: Memory) -> ExactPath {
    let made = ExactPath.create(minimumCapacity: 2) { _ in Header(handle: handle, memory: memory) }
    // Safe: `create` makes an object of the class that it is called on, with room for two elements;
    // both are plain words, and need no end.
    let exact = unsafe unsafeDowncast(made, to: ExactPath.self)
    unsafe exact.withUnsafeMutablePointerToElements { paths in
      for (index, access) in [Access.read, .write].enumerated() {
        unsafe (paths + index).initialize(
          to: ShortParameters(handle, access, window: memory.window))
      }
    }
    return exact
  }

  /// The short way of one kind of access; good for as long as the object is held.
  @inlinable @inline(__always)
  func path(for access: Access) -> ShortPath {
    // Safe: both elements are there from the first moment to the last.
    unsafe withUnsafeMutablePointerToElements {
      unsafe ShortPath(access == .read ? $0 : $0 + 1)
    }
  }

  /// The walker's answer. Not inlined, so that the short way stays short; not a method, so that the
  /// caller needs no register for `self`.
  @inlinable @inline(never)
  static func translate(_ exact: ExactPath, _ address: UInt64, _ access: Access) -> UInt64 {
    PackedTranslation(
      exact.header.handle.translate(
        IOVA(address), byteCount: 1, access: access, in: exact.header.memory)
    ).rawValue
  }

  /// What is left when callers have no short way in line.
  ///
  /// Whichever it is, it is the last call of its caller, with the caller's own arguments in the same
  /// order: with it the caller keeps nothing, and needs no frame. With more ways in line LLVM moves some
  /// out by itself, into calls in the middle. Functions that go from one to the other each make a frame
  /// for what they do themselves and take it down again: the ways are told apart here.
  @inlinable @inline(__always)
  static func translateElsewhere(
    _ exact: ExactPath, _ path: ShortPath, _ address: UInt64, _ access: Access
  ) -> UInt64 {
    if path.isOf(.fourNamedLevels) { return translateFourNamed(exact, address, access) }
    if path.isOf(.threeNamedLevels) { return translateThreeNamed(exact, address, access) }
    return translateOutOfLine(exact, address, access)
  }

  /// Tables of three or five levels, or else the walker's answer.
  @inlinable @inline(never)
  static func translateOutOfLine(
    _ exact: ExactPath, _ address: UInt64, _ access: Access
  ) -> UInt64 {
    let answer = exact.path(for: access).translateOutOfLine(address)
    return likely(answer != RadixPath.noAnswer) ? answer : translate(exact, address, access)
  }

  /// The same for tables whose entries name the next level: functions of their own, so that none takes
  /// registers from the others.
  @inlinable @inline(never)
  static func translateFourNamed(
    _ exact: ExactPath, _ address: UInt64, _ access: Access
  ) -> UInt64 {
    let answer = exact.path(for: access).radix.translate(address, levels: 4, .namedLevels)
    return likely(answer != RadixPath.noAnswer) ? answer : translate(exact, address, access)
  }

  @inlinable @inline(never)
  static func translateThreeNamed(
    _ exact: ExactPath, _ address: UInt64, _ access: Access
  ) -> UInt64 {
    let answer = exact.path(for: access).radix.translate(address, levels: 3, .namedLevels)
    return likely(answer != RadixPath.noAnswer) ? answer : translate(exact, address, access)
  }
}

extension Translator {
  /// Translates the first byte of one request.
  @inlinable @inline(__always)
  public func translate(_ iova: IOVA, _ access: Access) -> PackedTranslation {
    withExtendedLifetime(exact) {
      let path = exact.path(for: access)
      let answer = path.translate(iova.rawValue)
      guard likely(answer != RadixPath.noAnswer) else {
        return PackedTranslation(
          rawValue: ExactPath.translateElsewhere(exact, path, iova.rawValue, access))
      }
      return PackedTranslation(rawValue: answer)
    }
  }

  /// Translates a batch of requests of one kind; answers are those of single calls.
  ///
  /// Nothing is kept between calls. During one call the upper levels of a 2 MiB region are read once
  /// for addresses of that region in a row: a table that another thread takes away meanwhile may
  /// still be read until the call returns, as hardware may until it is told to drain requests.
  ///
  /// - Parameters:
  ///   - addresses: The first byte of each request.
  ///   - access: What all of them want.
  ///   - answers: As many as addresses.
  @inlinable
  public func translate(
    _ addresses: Span<IOVA>, _ access: Access, into answers: inout MutableSpan<PackedTranslation>
  ) {
    var regions = NoRegions()
    translate(addresses, access, into: &answers, remembering: &regions)
  }

  /// The same, with what `regions` remembers of the upper levels of VT-d tables.
  @inlinable
  package func translate(
    _ addresses: Span<IOVA>, _ access: Access, into answers: inout MutableSpan<PackedTranslation>,
    remembering regions: inout some RegionStore
  ) {
    precondition(addresses.count == answers.count, "a batch has one answer for each address")
    // Safe: there are as many answers as addresses, and the pointers are used inside the closures
    // only.
    unsafe addresses.withUnsafeBufferPointer { addresses in
      unsafe answers.withUnsafeMutableBufferPointer { answers in
        guard let requests = unsafe Requests(addresses, answers) else { return }
        translate(requests, access, &regions)
      }
    }
  }

  @inlinable @inline(__always)
  func translate(_ requests: Requests, _ access: Access, _ regions: inout some RegionStore) {
    let path = exact.path(for: access)
    withExtendedLifetime(exact) {
      var start = 0
      while start < requests.count {
        let part = path.translate(requests.suffix(from: start), &regions)
        if !part.isComplete {
          for index in start..<(start &+ part.count) where requests[index] == RadixPath.noAnswer {
            requests[index] = ExactPath.translate(exact, requests.address(index), access)
          }
        }
        start &+= part.count
      }
    }
  }
}
