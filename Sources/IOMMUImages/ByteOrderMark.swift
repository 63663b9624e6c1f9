/// The mark that some programs write before a text in UTF-8; it is no part of the text.
enum ByteOrderMark {
  private static let utf8: [UInt8] = [0xef, 0xbb, 0xbf]

  /// Bytes of the mark that a file's bytes begin with: 3, or 0 where there is none.
  ///
  /// - Parameter offset: Where in the file the bytes are.
  static func byteCount(in bytes: ArraySlice<UInt8>, at offset: Int = 0) -> Int {
    offset == 0 && bytes.starts(with: utf8) ? utf8.count : 0
  }
}
