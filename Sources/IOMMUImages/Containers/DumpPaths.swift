import Glibc
import IOMMUFormats

/// Which files are read when somebody names one.
package enum DumpPaths {
  /// The marks of formats that are read, at the beginning of a file.
  static let marks = [
    ELF64.magic, KdumpLayout.kdumpMagic, KdumpLayout.diskdumpMagic, LiMEReader.limeMark,
    LiMEReader.avmlMark,
  ]

  /// The format that a file's mark tells; `nil` where it has none of those that are read.
  static func markedFormat(of file: DumpFile) -> ImageFormat? {
    if file.starts(with: ELF64.magic) { return XenCore.isXen(file) ? .xenCore : .elfCore }
    if file.starts(with: KdumpLayout.kdumpMagic) || file.starts(with: KdumpLayout.diskdumpMagic) {
      return .kdumpCompressed
    }
    if file.starts(with: LiMEReader.limeMark) { return .lime }
    if file.starts(with: LiMEReader.avmlMark) { return .avml }
    return VMwareState.isState(file) ? .vmware : nil
  }

  /// The files of a dump, the one with the memory first.
  ///
  /// - Throws: ``ImageError`` for a directory without a dump, and for one with several.
  package static func files(of paths: [String]) throws(ImageError) -> [String] {
    guard paths.count == 1 else { return paths }
    guard let names = entries(of: paths[0]) else { return companions(of: paths[0]) }
    return try companions(of: dump(in: paths[0], names))
  }

  // MARK: VMware

  /// Whether a path is that of a VMware guest's memory.
  static func isVMwareMemory(_ path: String) -> Bool { path.lowercased().hasSuffix(".vmem") }

  /// Memory and state of a VMware guest, when one of them is named and both are there.
  private static func companions(of path: String) -> [String] {
    let suffix = path.suffix(5).lowercased()
    let stem = path.dropLast(5)
    func isThere(_ path: String) -> Bool { fileStatus(at: path) != nil }
    if suffix == ".vmem" {
      let states = [".vmss", ".vmsn"].map { stem + $0 }.filter(isThere)
      return [path] + states.prefix(1)
    }
    guard suffix == ".vmss" || suffix == ".vmsn", isThere(stem + ".vmem") else { return [path] }
    return [stem + ".vmem", path]
  }

  // MARK: Directories

  /// The names in a directory, ascending; `nil` for what is none.
  private static func entries(of path: String) -> [String]? {
    guard let directory = unsafe opendir(path) else { return nil }
    // Safe: the stream is open until here, and an entry is read before the next is asked for.
    defer { unsafe closedir(directory) }
    var names: [String] = []
    while let entry = unsafe readdir(directory) {
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
      guard names.count < entryLimit else { break }
    }
    return names.sorted()
  }

  /// Entries of a directory that are looked at.
  private static let entryLimit = 1 << 12

  private static func dump(in directory: String, _ names: [String]) throws(ImageError) -> String {
    let prefix = directory.hasSuffix("/") ? directory : directory + "/"
    let dumps = names.filter { isDump(prefix + $0) }
    if dumps.count == 1 { return prefix + dumps[0] }
    let inside = names.filter { entries(of: prefix + $0)?.isEmpty == false }
    let (found, choices) =
      dumps.isEmpty ? ("a directory without a dump", inside) : ("a directory with dumps", dumps)
    let shown = choices.prefix(8).joined(separator: ", ") + (choices.count > 8 ? ", ..." : "")
    throw ImageError(
      file: directory, found: found,
      remedy: choices.isEmpty ? "name the file with the dump" : "name one of \(shown)")
  }

  /// Whether a file has the mark of a dump that is read. A core may be a program's, a `.vmem` has none.
  private static func isDump(_ path: String) -> Bool {
    if isVMwareMemory(path) { return true }
    guard let bytes = try? FileBytes(path: path) else { return false }
    let isStream = (0..<FlattenedStream.magic.count).allSatisfy {
      bytes.integer(UInt8.self, at: UInt64($0)) == FlattenedStream.magic[$0]
    }
    if isStream { return true }
    guard let file = try? DumpFile(bytes), let format = markedFormat(of: file) else { return false }
    switch format {
    // The state belongs to the memory beside it.
    case .vmware: return companions(of: path).count == 1
    case .elfCore:
      return file.integer(UInt16.self, at: ELF64.Header.type) == ELF64.typeCore
    default: return true
    }
  }
}
