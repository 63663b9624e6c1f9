import IOMMUFormats

/// A table of firmware in a file of its own, as `/sys/firmware/acpi/tables` and acpidump have them.
package enum FirmwareTableFile {
  private static let remedy = "is it a firmware table at all?"

  /// The bytes of a table with a signature.
  ///
  /// A file may hold the table as it is or as text of a dump, alone or among others; a directory is
  /// looked into; `-` is standard input. A file of something else is given as it is, for its reader to
  /// complain.
  ///
  /// - Throws: ``ImageError`` when nothing can be read, when there are more bytes than `limit`, when a
  ///   text or a directory has no such table, and when it has several.
  package static func read(
    _ path: String, signature: String, atMost limit: Int
  ) throws(ImageError) -> [UInt8] {
    guard let names = directoryEntries(path) else {
      // An acpidump has every table of a machine, as text.
      var stream = try ByteStream(path: path)
      let bytes = try stream.contents(atMost: 64 << 20, remedy: remedy)
      let table = try table(of: signature, in: bytes, name: stream.name)
      guard table.count <= limit else {
        throw ImageError(
          file: stream.name, found: "has more than \(limit) bytes", remedy: remedy)
      }
      return table
    }
    var found: [[UInt8]] = []
    for name in names.sorted() {
      // What cannot be read, or is too large, is another table.
      guard let file = try? InputFile(path: "\(path)/\(name)"),
        let bytes = try? file.contents(atMost: limit, remedy: remedy),
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

  /// The table with a signature among the bytes of a file; bytes that are something else as they are.
  ///
  /// - Throws: ``ImageError`` for a text without the table, with several, or with a part missing.
  package static func table(
    of signature: String, in bytes: [UInt8], name: String
  ) throws(ImageError) -> [UInt8] {
    // Text first: acpidump's begins with the signature as well.
    guard InputKind.isText(Array(bytes.prefix(InputKind.headByteCount))), !bytes.isEmpty else {
      if bytes.starts(with: signature.utf8) { return bytes }
      return tables(behindEachOther: bytes).first { $0.starts(with: signature.utf8) }.map {
        Array($0)
      }
        ?? bytes
    }
    let dump = HexDumpText(Array(bytes.dropFirst(ByteOrderMark.byteCount(in: bytes[...]))))
    if let gap = dump.gap {
      throw ImageError(
        file: name, place: "line \(gap.line)",
        found: "offset \(hexadecimal(gap.offset)) where \(hexadecimal(gap.expected)) should follow",
        remedy: "the text is cut or damaged, copy it again")
    }
    if let line = dump.omission {
      throw ImageError(
        file: name, place: "line \(line)",
        found: "'*' for lines that are left out, and no offsets tell how many",
        remedy: "'hexdump -v' and 'od -v' print every line")
    }
    var found: [[UInt8]] = []
    for piece in dump.pieces {
      let readings = [piece.bytes, piece.swapped]
      guard let table = readings.first(where: { $0.starts(with: signature.utf8) }),
        !found.contains(table)
      else { continue }
      found.append(table)
    }
    guard found.count <= 1 else {
      throw ImageError(
        file: name, found: "has \(found.count) different \(signature) tables",
        remedy: "'acpixtract -s\(signature)' writes each to a file")
    }
    if let table = found.first { return table }
    let others = dump.pieces.compactMap { piece in
      // A table states its length behind its signature: so it tells in which order its bytes are.
      let isSwapped =
        statedByteCount(piece.bytes[...]) != piece.bytes.count
        && statedByteCount(piece.swapped[...]) == piece.bytes.count
      return signatureText(isSwapped ? piece.swapped : piece.bytes)
    }
    guard others.isEmpty else {
      throw ImageError(
        file: name, found: "has no \(signature) table, but \(others.joined(separator: ", "))",
        remedy: "is it of another machine?")
    }
    throw textError(bytes, signature, name, hasDump: !dump.pieces.isEmpty)
  }

  /// Why a text has no table, and what makes one of it.
  private static func textError(
    _ bytes: [UInt8], _ signature: String, _ name: String, hasDump: Bool
  ) -> ImageError {
    if bytes.firstRange(of: Array("Signature : ".utf8)) != nil {
      return ImageError(
        file: name, found: "is a text of iasl without raw data",
        remedy: "'iasl FILE' makes a binary table of it, FILE.aml; or "
          + "'acpixtract -s\(signature)' takes it out of an acpidump")
    }
    return ImageError(
      file: name,
      found: hasDump
        ? "is a text with bytes that are no firmware table"
        : "is a text, and no dump of a firmware table",
      remedy:
        "dumps of xxd, 'hexdump -C' and 'od -t x1' are read, and 'acpixtract -s\(signature)' takes "
        + "a table out of an acpidump; the table itself is /sys/firmware/acpi/tables/\(signature)")
  }

  /// Four capital letters or digits at the start of a table.
  private static func signatureText(_ bytes: [UInt8]) -> String? {
    let start = bytes.prefix(4)
    let isSignature = start.allSatisfy {
      UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0 || UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0
    }
    return start.count == 4 && isSignature ? String(decoding: start, as: UTF8.self) : nil
  }

  /// The length that a table states.
  private static func statedByteCount(_ table: ArraySlice<UInt8>) -> Int? {
    guard table.count >= 8 else { return nil }
    return (0..<4).reduce(0) { $0 | Int(table[table.startIndex + 4 + $1]) << (8 * $1) }
  }

  /// Tables of which each begins where the one before ends, by their lengths.
  private static func tables(behindEachOther bytes: [UInt8]) -> [ArraySlice<UInt8>] {
    var tables: [ArraySlice<UInt8>] = []
    var start = 0
    while bytes.count - start >= ACPI.TableHeader.byteCount,
      signatureText(Array(bytes[start..<start + 4])) != nil
    {
      guard let length = statedByteCount(bytes[start...]), length >= ACPI.TableHeader.byteCount
      else { break }
      tables.append(bytes[start..<min(start + length, bytes.count)])
      start += min(length, bytes.count - start)
    }
    return tables
  }
}
