import IOMMUFormats

extension PhysicalMemory {
  /// Copies what is there from an address on, in one run, to the bytes of a buffer at `places`.
  ///
  /// - Returns: Bytes copied; 0 when none is there.
  func copyBytes(
    from address: PhysicalAddress, to buffer: inout [UInt8], _ places: Range<Int>
  ) -> Int {
    precondition(
      0 <= places.lowerBound && places.upperBound <= buffer.count, "a copy stays in its buffer")
    // Safe: it was checked, and the buffer is used while it is there.
    return unsafe buffer.withUnsafeMutableBytes {
      unsafe copyBytes(from: address, to: UnsafeMutableRawBufferPointer(rebasing: $0[places]))
    }
  }

  /// Shows what is there from an address on, at most as many bytes as `byteCount` and `buffer` have:
  /// where they lie when that can be, else copied into the buffer. Bytes in place that end inside a
  /// page are shown up to the page before, since it may go on elsewhere.
  func withBytes<Result>(
    from address: PhysicalAddress, upTo byteCount: Int, buffer: inout [UInt8],
    _ body: (Span<UInt8>) -> Result
  ) -> Result {
    // Safe: bytes in place are there as long as the memory, which outlives the call.
    if let bytes = unsafe bytesInPlace(from: address) {
      let toPage = Int(4096 - address.offsetInPage)
      let whole = bytes.count < toPage ? 0 : toPage + (bytes.count - toPage) & ~4095
      let count = bytes.count < byteCount ? whole : byteCount
      if count > 0 {
        return unsafe body(
          Span(_unsafeBytes: UnsafeRawBufferPointer(rebasing: bytes.prefix(count))))
      }
    }
    let count = copyBytes(from: address, to: &buffer, 0..<min(byteCount, buffer.count))
    return body(buffer.span.extracting(..<count))
  }
}
