/// A table of firmware in a file of its own, as `/sys/firmware/acpi/tables` and acpidump have them.
package enum FirmwareTableFile {
  /// The whole file.
  ///
  /// - Throws: ``ImageError`` when the file cannot be read or has more than `limit` bytes.
  package static func read(_ path: String, atMost limit: Int) throws(ImageError) -> [UInt8] {
    try InputFile(path: path).contents(atMost: limit, remedy: "is it a firmware table at all?")
  }
}
