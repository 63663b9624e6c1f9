import IOMMUFormats

/// The sections of an ELF file in which `xl dump-core` writes a guest's pages.
///
/// `.xen_pages` holds the pages one after the other, as large as its entries are; `.xen_pfn` the number of
/// each, of a guest that Xen translates for. A paravirtualised guest's pages are numbered by `.xen_p2m`
/// instead, and its numbers are not those that devices use.
///
/// Source: Xen, docs/misc/dump-core-format.txt.
struct XenCore {
  let file: DumpFile

  private static let pagesName = ".xen_pages"
  private static let numbersName = ".xen_pfn"
  private static let noteName = ".note.Xen"
  /// A page that there is not.
  private static let noPage = UInt64.max
  private static let entryByteCount: UInt64 = 8
  /// Sections of such a file, and bytes of their names, that are looked at.
  private static let sectionLimit: UInt16 = 64
  private static let namesByteCount = 4096

  private enum Section {
    static let byteCount: UInt64 = 64
    static let name: UInt64 = 0
    static let offset: UInt64 = 24
    static let size: UInt64 = 32
    static let entrySize: UInt64 = 56
  }

  private struct Found {
    var offset: UInt64
    var byteCount: UInt64
    var entryByteCount: UInt64
  }

  /// Whether a core without program headers has a Xen guest's sections.
  static func isXen(_ file: DumpFile) -> Bool {
    guard file.integer(UInt16.self, at: ELF64.Header.programHeaderCount) == 0,
      file.integer(UInt16.self, at: ELF64.Header.type) == ELF64.typeCore,
      file.integer(UInt8.self, at: ELF64.Header.fileClass) == ELF64.class64
    else { return false }
    let core = XenCore(file: file)
    if core.section(pagesName) != nil { return true }
    // The names stand somewhere behind the section headers, whether or not those say so.
    let start = core.sectionHeaders
    let count = Int(min(file.knownByteCount(from: start), UInt64(namesByteCount)))
    guard let bytes = file.bytes(at: start, count: count) else { return false }
    return contains(bytes, Array(noteName.utf8))
  }

  private static func contains(_ bytes: [UInt8], _ text: [UInt8]) -> Bool {
    guard bytes.count >= text.count else { return false }
    return (0...bytes.count - text.count).contains {
      bytes[$0..<$0 + text.count].elementsEqual(text)
    }
  }

  private var sectionHeaders: UInt64 {
    file.integer(UInt64.self, at: ELF64.Header.sectionHeaderOffset) ?? 0
  }

  private func section(_ name: String) -> Found? {
    let count = file.integer(UInt16.self, at: ELF64.Header.sectionHeaderCount) ?? 0
    guard let namesIndex = file.integer(UInt16.self, at: ELF64.Header.sectionNames),
      let names = header(namesIndex)
    else { return nil }
    for index in 0..<min(count, Self.sectionLimit) {
      guard let header = header(index) else { return nil }
      let (place, wraps) = names.offset.addingReportingOverflow(UInt64(header.name))
      guard !wraps, let text = file.bytes(at: place, count: name.utf8.count + 1) else { continue }
      if text.elementsEqual(Array(name.utf8) + [0]) {
        return Found(
          offset: header.offset, byteCount: header.size, entryByteCount: header.entrySize)
      }
    }
    return nil
  }

  private func header(
    _ index: UInt16
  ) -> (name: UInt32, offset: UInt64, size: UInt64, entrySize: UInt64)? {
    let (start, wraps) = sectionHeaders.addingReportingOverflow(UInt64(index) * Section.byteCount)
    guard !wraps, file.holds(Section.byteCount, at: start),
      let name = file.integer(UInt32.self, at: start + Section.name),
      let offset = file.integer(UInt64.self, at: start + Section.offset),
      let size = file.integer(UInt64.self, at: start + Section.size),
      let entrySize = file.integer(UInt64.self, at: start + Section.entrySize)
    else { return nil }
    return (name, offset, size, entrySize)
  }

  /// A piece for each run of pages.
  func content() throws(ImageError) -> PieceContent {
    guard let pages = section(Self.pagesName), let numbers = section(Self.numbersName) else {
      throw error(
        "a Xen dump-core of a paravirtualised guest, whose page numbers (.xen_p2m) are not those "
          + "that devices use, and which is not read",
        "crash reads it; of Xen and all guests together kdump writes a dump that is read")
    }
    let size = pages.entryByteCount
    guard 4096...65_536 ~= size, size.nonzeroBitCount == 1 else {
      throw error(
        "pages of \(size) bytes", "the header is damaged, copy the file again")
    }
    var content = PieceContent()
    let count = min(pages.byteCount / size, numbers.byteCount / Self.entryByteCount)
    let known = min(count, file.knownByteCount(from: numbers.offset) / Self.entryByteCount)
    var index: UInt64 = 0
    while index < known {
      guard
        let first = file.integer(UInt64.self, at: numbers.offset + index * Self.entryByteCount)
      else { break }
      var length: UInt64 = 1
      if first == Self.noPage {
        index += 1
        continue
      }
      while index + length < known,
        file.integer(UInt64.self, at: numbers.offset + (index + length) * Self.entryByteCount)
          == first &+ length
      { length += 1 }
      guard first < 1 << 40, content.pieces.count < ELFCoreReader.pieceLimit else {
        throw error(
          "page number \(hexadecimal(first)) is beyond all memory, or there are too many runs",
          "the dump is damaged, copy it again")
      }
      // Offsets that pass 2^64 are no file's.
      let (offset, wraps) = pages.offset.addingReportingOverflow(index * size)
      let stored = wraps ? 0 : min(length * size, file.knownByteCount(from: offset))
      content.append(first * size, stored: stored, of: length * size, from: offset)
      index += length
    }
    if known < count { content.unknownFrom = content.pieces.last?.end ?? 0 }
    guard !content.pieces.isEmpty || known < count else {
      throw error("no page in it", "dump the guest again")
    }
    return content
  }

  private func error(_ found: String, _ remedy: String) -> ImageError {
    ImageError(file: file.path, place: "ELF header", offset: 0, found: found, remedy: remedy)
  }
}
