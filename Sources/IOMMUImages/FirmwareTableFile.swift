/// A table of firmware in a file of its own, as `/sys/firmware/acpi/tables` and acpidump have them.
package enum FirmwareTableFile {
  /// The whole file.
  ///
  /// - Throws: ``ImageError`` when the file cannot be read or has more than `limit` bytes.
  package static func read(_ path: String, atMost limit: Int) throws(ImageError) -> [UInt8] {
    try InputFile(path: path).contents(atMost: limit, remedy: "is it a firmware table at all?")
  }

  /// The file, or, of a directory, the one file in it that begins with a signature.
  ///
  /// - Throws: ``ImageError`` also when the directory has none, or several.
  package static func read(
    _ path: String, signature: String, atMost limit: Int
  ) throws(ImageError) -> [UInt8] {
    guard let names = directoryEntries(path) else { return try read(path, atMost: limit) }
    var found: [[UInt8]] = []
    for name in names.sorted() {
      // What cannot be read, or is too large, is another table.
      guard let bytes = try? read("\(path)/\(name)", atMost: limit),
        bytes.starts(with: signature.utf8), !found.contains(bytes)
      else { continue }
      found.append(bytes)
    }
    guard found.count <= 1 else {
      throw ImageError(
        file: path, found: "has \(found.count) different \(signature) tables",
        remedy: "name the file of one")
    }
    guard let bytes = found.first else {
      throw ImageError(
        file: path, found: "has no file that begins with '\(signature)'",
        remedy: "read it as root, or name a file")
    }
    return bytes
  }
}
