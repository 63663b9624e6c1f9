import Glibc

/// Takes numbers from arbitrary bytes; zeros when they are used up.
struct ByteReader {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: some Sequence<UInt8>) { rest = Array(bytes)[...] }

  var isAtEnd: Bool { rest.isEmpty }

  mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

  /// A little-endian number of so many bytes.
  mutating func number(byteCount: Int = 8) -> UInt64 {
    (0..<byteCount).reduce(UInt64(0)) { $0 | UInt64(byte()) << UInt64(8 * $1) }
  }

  /// A number of any magnitude, in two to nine bytes: how many bytes follow, how far up they lie, and
  /// whether it is the complement.
  mutating func wide() -> UInt64 {
    let head = byte()
    let value = number(byteCount: 1 + Int(head & 7))
    let shifted = value << UInt64(2 * (head >> 3 & 15))
    return head & 0x80 == 0 ? value : ~shifted
  }

  /// A device's number: where tables may lead, among interrupts, a page of low memory, or anything.
  mutating func iova() -> UInt64 {
    switch byte() & 3 {
    case 0: 0x1234_5000 + number(byteCount: 1)
    case 1: 0xfee0_0000 + number(byteCount: 2)
    case 2: number(byteCount: 2) << 12
    default: wide()
    }
  }

  mutating func below(_ limit: Int) -> Int { Int(byte()) % limit }

  mutating func bytes(_ count: Int) -> [UInt8] {
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  /// All that is left.
  mutating func remainder() -> [UInt8] {
    defer { rest = [] }
    return Array(rest)
  }
}

enum KdumpMark {
  static let bytes = Array("KDUMP   ".utf8)
}

/// Bytes that are mostly zero, written as what is not: a number of quadwords to skip (two bytes), a
/// count (one byte), so many bytes; and again.
public enum SparseBytes {
  /// Longer ones are cut.
  public static let limit = 256 << 10

  public static func expanded(_ input: some Collection<UInt8>) -> [UInt8] {
    let input = Array(input)
    var bytes: [UInt8] = []
    var place = 0
    while input.count - place >= 3 {
      let skip = 8 * (Int(input[place]) | Int(input[place + 1]) << 8)
      let run = input[place + 3..<min(input.count, place + 3 + Int(input[place + 2]))]
      let start = (bytes.count + 7) / 8 * 8 + skip
      guard start + run.count <= limit else { break }
      bytes += [UInt8](repeating: 0, count: start - bytes.count)
      bytes += run
      place += 3 + Int(input[place + 2])
    }
    return bytes
  }

  /// The same with the first bytes given.
  static func expanded(_ input: some Collection<UInt8>, after mark: [UInt8]) -> [UInt8] {
    var bytes = expanded(input)
    bytes.replaceSubrange(0..<min(mark.count, bytes.count), with: mark)
    return bytes
  }
}

/// A file that is written anew for each input; in memory where the system has a place for that.
final class ScratchFile {
  let path: String
  private let descriptor: Int32

  static let directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"

  init(_ name: String) {
    path = "\(Self.directory)/iommu-fuzz-\(getpid())-\(name)"
    descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { fatalError("\(path) cannot be written") }
    ScratchFiles.shared.remember(path)
  }

  deinit {
    close(descriptor)
    unlink(path)
  }

  func fill(_ bytes: [UInt8]) {
    guard ftruncate(descriptor, off_t(bytes.count)) == 0,
      pwrite(descriptor, bytes, bytes.count, 0) == bytes.count
    else { fatalError("\(path) cannot be written") }
  }
}

/// A directory of files that are written anew for each input.
final class ScratchDirectory {
  let path: String
  private var files: Set<String> = []

  init(_ name: String) {
    path = "\(ScratchFile.directory)/iommu-fuzz-\(getpid())-\(name)"
    guard mkdir(path, 0o700) == 0 || errno == EEXIST else { fatalError("\(path) cannot be made") }
    ScratchFiles.shared.remember(path)
  }

  /// Writes these files; no others are there then.
  func fill(_ contents: [(name: String, bytes: [UInt8])]) {
    for file in files { unlink("\(path)/\(file)") }
    files = []
    for (name, bytes) in contents {
      guard let stream = fopen("\(path)/\(name)", "w") else { fatalError("\(name) in \(path)") }
      fwrite(bytes, 1, bytes.count, stream)
      fclose(stream)
      files.insert(name)
      ScratchFiles.shared.remember("\(path)/\(name)")
    }
  }
}

/// What has to go when the process ends: files before the directories that they lie in.
private final class ScratchFiles: @unchecked Sendable {
  static let shared = ScratchFiles()
  private var paths: [String] = []

  private init() {
    atexit {
      for path in ScratchFiles.shared.paths.reversed() where unlink(path) != 0 { rmdir(path) }
    }
  }

  func remember(_ path: String) { if !paths.contains(path) { paths.append(path) } }
}
