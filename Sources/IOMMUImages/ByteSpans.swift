import Glibc

// Bytes of files and of memory go from hand to hand as spans: what is read is a `Span<UInt8>`, what
// is filled an `OutputSpan<UInt8>`. Both check every offset, and neither outlives its bytes. The few
// unsafe steps that the standard library leaves to its users stand here.

extension Span where Element == UInt8 {
  /// Where a byte stands first from `start` on.
  ///
  /// - Precondition: `start` is at most the count.
  func firstIndex(of byte: UInt8, from start: Int) -> Int? {
    let rest = extracting(start...)
    // Safe: what is found lies in the span, and only its distance from the start leaves.
    return unsafe rest.withUnsafeBytes { bytes in
      guard let first = bytes.baseAddress,
        let place = unsafe memchr(first, Int32(byte), bytes.count)
      else { return nil }
      return unsafe start + (UnsafeRawPointer(place) - first)
    }
  }

  /// Where a text stands first from `start` on.
  ///
  /// - Precondition: `start` is at most the count.
  func firstIndex(of text: StaticString, from start: Int) -> Int? {
    let length = text.utf8CodeUnitCount
    guard length > 0 else { return start }
    // Safe: a literal has as many bytes as it says, for ever.
    let head = unsafe text.utf8Start[0]
    var place = start
    while let first = firstIndex(of: head, from: place), first + length <= count {
      var matched = 1
      // Safe: as above.
      while matched < length, unsafe self[first + matched] == text.utf8Start[matched] {
        matched += 1
      }
      if matched == length { return first }
      place = first + 1
    }
    return nil
  }

  /// Whether all bytes are zero.
  var isAllZero: Bool {
    var offset = 0
    // Four words at a time: the first word of a page is zero more often than not.
    while count - offset >= 32 {
      let low = integer(UInt64.self, at: offset) | integer(UInt64.self, at: offset + 8)
      let high = integer(UInt64.self, at: offset + 16) | integer(UInt64.self, at: offset + 24)
      if low | high != 0 { return false }
      offset += 32
    }
    while offset < count {
      if self[offset] != 0 { return false }
      offset += 1
    }
    return true
  }
}

extension OutputSpan where Element == UInt8 {
  /// Appends a copy of bytes.
  ///
  /// - Precondition: there is room for them.
  mutating func append(copying source: borrowing Span<UInt8>) {
    precondition(source.count <= freeCapacity, "what is copied has room")
    // Safe: the precondition keeps the copy inside the room, and both pointers are used in here only.
    unsafe source.withUnsafeBytes { from in
      unsafe withUnsafeMutableBufferPointer { room, filledCount in
        let room = UnsafeMutableRawBufferPointer(room)
        unsafe UnsafeMutableRawBufferPointer(rebasing: room[filledCount...]).copyMemory(from: from)
        filledCount += source.count
      }
    }
  }
}

extension Array where Element == UInt8 {
  /// Appends a copy of bytes.
  mutating func append(copying source: Span<UInt8>) {
    // Safe: the pointer is used in here only.
    unsafe source.withUnsafeBytes { unsafe append(contentsOf: $0) }
  }

  /// Bytes that `body` fills in; fewer than `capacity` when it fills fewer.
  ///
  /// - Returns: What `body` returns, with the bytes.
  static func filled<Result>(
    capacity: Int, _ body: (inout OutputSpan<UInt8>) -> Result
  ) -> (bytes: [UInt8], result: Result) {
    var result: Result?
    let bytes = [UInt8](capacity: capacity) { result = body(&$0) }
    return (bytes, result!)
  }
}
