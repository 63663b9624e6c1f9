import IOMMUFormats

/// A list of what lies where, in a file or on standard input (`-`): `/proc/iomem`, or a copy of it.
package enum ResourceMapFile {
  private static let byteCountLimit = 4 << 20

  /// Reads it whole, unpacked where it is packed.
  ///
  /// - Throws: ``ImageError`` when it cannot be read, is none, or has no addresses for this user.
  package static func read(_ path: String) throws(ImageError) -> ResourceMap {
    var stream = try ByteStream(path: path)
    let bytes = try stream.contents(
      atMost: byteCountLimit, remedy: "is it a copy of /proc/iomem at all?")
    let text = bytes.dropFirst(ByteOrderMark.byteCount(in: bytes[...]))
    let map = ResourceMap(String(decoding: text, as: UTF8.self))
    guard !map.entries.isEmpty else {
      throw ImageError(
        file: stream.name, found: "has no line 'START-LAST : NAME'", remedy: "give it /proc/iomem")
    }
    guard map.hasAddresses else {
      throw ImageError(file: stream.name, found: "shows no addresses", remedy: "read it as root")
    }
    return map
  }
}
