import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUWorkloads

/// Dumps of one memory in every format that can be written.
///
/// The files have no names any more when this is made, only descriptors: they go when the program
/// ends, however it ends.
struct TemporaryImages {
  let memory: FlatMemory
  /// A name for people, and a path that opens the file.
  private(set) var images: [(name: String, path: String)] = []

  /// Bytes of memory: more than readers keep of packed pages.
  static let byteCount: UInt64 = 32 << 20

  init() throws {
    memory = try FlatMemory(byteCount: Self.byteCount)
    Self.fill(memory)
    let raw = try Self.nameless { try ELFCoreWriter.writeRaw(memory, to: $0) }
    images.append(("raw", raw))
    let source = try MemoryImage(path: raw)
    for target in ImageConverter.Target.allCases where target != .raw {
      images.append(
        (
          target.rawValue,
          try Self.nameless { _ = try ImageConverter.write(source, to: $0, as: target) }
        ))
    }
  }

  /// A directory that nobody else has.
  static func makeDirectory() throws -> String {
    var template = Array("/tmp/iommu-benchmark-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw ImageError(file: "/tmp", found: "no directory can be made there")
    }
    return String(decoding: template.dropLast().map { UInt8($0) }, as: UTF8.self)
  }

  /// Writes a file and takes its name away.
  ///
  /// - Returns: A path that opens it.
  static func nameless(_ write: (String) throws -> Void) throws -> String {
    let directory = try makeDirectory()
    defer { rmdir(directory) }
    let path = directory + "/image"
    defer { unlink(path) }
    try write(path)
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw ImageError(file: path, found: "cannot be opened again")
    }
    return "/proc/self/fd/\(descriptor)"
  }

  /// A page of zeros, one of noise and two of page table entries, over and over: what packs well and
  /// what does not.
  private static func fill(_ memory: FlatMemory) {
    var generator = SeededGenerator(seed: 1)
    for word in 0..<byteCount / 8 {
      let value: UInt64
      switch word >> 9 & 3 {
      case 0: continue
      case 1: value = generator.next()
      default: value = word << 12 | 3
      }
      memory.store(value, at: PhysicalAddress(word * 8))
    }
  }
}
