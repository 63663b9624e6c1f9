import IOMMUFormats

/// The RAM of the machine that runs, as `/proc/iomem` lists it: what of `/dev/mem` is memory.
///
/// Source: Linux `Documentation/filesystems/proc.rst`, "iomem".
enum SystemRAM {
  static let path = "/proc/iomem"
  private static let byteCountLimit = 4 << 20

  /// Pieces that lie in `/dev/mem` at their own addresses.
  ///
  /// - Throws: ``ImageError`` when the list cannot be read, or has no addresses for this user.
  static func pieces() throws(ImageError) -> [ImagePiece] {
    let text = String(
      decoding: try InputFile(path: path).contents(atMost: byteCountLimit), as: UTF8.self)
    return try pieces(text, path: path)
  }

  /// The top-level lines `00001000-0009fbff : System RAM`; both ends are included.
  static func pieces(_ text: String, path: String) throws(ImageError) -> [ImagePiece] {
    var pieces = ResourceMap(text).entries.compactMap { entry -> ImagePiece? in
      let (start, end) = (entry.range.lowerBound.rawValue, entry.range.upperBound.rawValue)
      guard entry.depth == 0, entry.name == "System RAM", end <= UInt64(Int64.max) else {
        return nil
      }
      return ImagePiece(start: start, end: end, source: .file(start), priority: 0)
    }
    // Without the right to see addresses, every line shows zeros.
    pieces.removeAll { $0.end <= 1 }
    guard !pieces.isEmpty else {
      throw ImageError(
        file: path, found: "shows no addresses of System RAM", remedy: "read it as root")
    }
    return disjointPieces(pieces)
  }
}
