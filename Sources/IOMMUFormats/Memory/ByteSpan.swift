extension Span where Element == UInt8 {
  /// The little-endian integer at an offset, aligned or not.
  ///
  /// - Precondition: the integer lies in the span.
  @inlinable @inline(__always)
  package func integer<Word: FixedWidthInteger & BitwiseCopyable>(
    _: Word.Type, at offset: Int
  ) -> Word {
    // Safe: the load checks that it stays in the span, and any bits are an integer.
    unsafe Word(littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Word.self))
  }
}
