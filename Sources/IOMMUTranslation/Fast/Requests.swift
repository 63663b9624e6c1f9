import IOMMUFormats

/// Addresses that are translated together, and a word for each: where its entry lies first, what
/// becomes of it in the end.
///
/// Two pointers and a number: a part is made without a copy, and a loop keeps them in registers. Safe
/// until the call returns that made the first of them from its caller's buffers. That an index is one
/// of a request is checked in debug builds alone; all of them come from loops over `count`.
@frozen
@usableFromInline
@safe
struct Requests {
  @usableFromInline let addresses: UnsafePointer<UInt64>
  @usableFromInline let words: UnsafeMutablePointer<UInt64>
  /// At least 1.
  @usableFromInline let count: Int

  /// - Precondition: `count` addresses and as many words lie there.
  @unsafe
  @inlinable @inline(__always)
  init(
    _ addresses: UnsafePointer<UInt64>, _ words: UnsafeMutablePointer<UInt64>, count: Int
  ) {
    unsafe self.addresses = addresses
    unsafe self.words = words
    self.count = count
  }

  /// `nil` when there is no request.
  ///
  /// - Parameter answers: As many as addresses, each of them one word.
  @unsafe
  @inlinable @inline(__always)
  init?<Answer: RawRepresentable<UInt64> & BitwiseCopyable>(
    _ addresses: UnsafeBufferPointer<IOVA>, _ answers: UnsafeMutableBufferPointer<Answer>
  ) {
    guard let input = addresses.baseAddress, let output = answers.baseAddress,
      addresses.count > 0
    else { return nil }
    // Safe: an IOVA and an answer are each one UInt64.
    unsafe self.init(
      UnsafeRawPointer(input).assumingMemoryBound(to: UInt64.self),
      UnsafeMutableRawPointer(output).assumingMemoryBound(to: UInt64.self),
      count: addresses.count)
  }

  @inlinable @inline(__always)
  func address(_ index: Int) -> UInt64 {
    assert(index >= 0 && index < count, "there is such a request")
    return unsafe addresses[index]
  }

  /// The word of a request.
  @inlinable @inline(__always)
  subscript(index: Int) -> UInt64 {
    get {
      assert(index >= 0 && index < count, "there is such a request")
      return unsafe words[index]
    }
    nonmutating set {
      assert(index >= 0 && index < count, "there is such a request")
      unsafe words[index] = newValue
    }
  }

  /// The first `count`, 1 to all of them.
  @inlinable @inline(__always)
  func prefix(_ count: Int) -> Requests {
    assert(count > 0 && count <= self.count, "a part has some requests")
    return unsafe Requests(addresses, words, count: count)
  }

  /// Those from `start` on, at least one.
  @inlinable @inline(__always)
  func suffix(from start: Int) -> Requests {
    assert(start >= 0 && start < count, "a part has some requests")
    return unsafe Requests(addresses + start, words + start, count: count &- start)
  }
}
