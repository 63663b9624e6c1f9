import IOMMUFormats

/// A list of what lies where, in a file: `/proc/iomem`, or a copy of it.
package enum ResourceMapFile {
  private static let byteCountLimit = 4 << 20

  /// Reads it whole.
  ///
  /// - Throws: ``ImageError`` when it cannot be read, is none, or has no addresses for this user.
  package static func read(_ path: String) throws(ImageError) -> ResourceMap {
    let bytes = try InputFile(path: path).contents(
      atMost: byteCountLimit, remedy: "is it a copy of /proc/iomem at all?")
    let map = ResourceMap(String(decoding: bytes, as: UTF8.self))
    guard !map.entries.isEmpty else {
      throw ImageError(
        file: path, found: "has no line 'START-LAST : NAME'", remedy: "give it /proc/iomem")
    }
    guard map.hasAddresses else {
      throw ImageError(file: path, found: "shows no addresses", remedy: "read it as root")
    }
    return map
  }
}
