import Glibc
import IOMMUFormats

/// A regular file, open for reading; closed when the value goes away.
struct InputFile: ~Copyable {
  let path: String
  let descriptor: Int32
  let byteCount: Int

  /// Opens a file that has a size and can be read at any place.
  ///
  /// - Throws: ``ImageError`` with the system's words, or for directories, pipes and devices.
  init(path: String) throws(ImageError) {
    // Without O_NONBLOCK, opening a pipe would wait for its writer before it could be refused.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw .system(path, "cannot be opened", errno) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let code = errno
      close(descriptor)
      throw .system(path, "cannot be examined", code)
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw ImageError(
        file: path, found: "is a \(Self.kindName(status.st_mode)), not a regular file",
        remedy: "copy its contents to a file and name that")
    }
    self.path = path
    self.descriptor = descriptor
    byteCount = max(0, Int(status.st_size))
  }

  deinit { close(descriptor) }

  static func kindName(_ mode: mode_t) -> String {
    switch mode & S_IFMT {
    case S_IFDIR: "directory"
    case S_IFIFO: "pipe"
    case S_IFSOCK: "socket"
    case S_IFCHR: "character device"
    case S_IFBLK: "block device"
    default: "special file"
    }
  }

  /// The whole file, for small ones.
  ///
  /// - Parameter remedy: What to ask the user about a file that is larger.
  /// - Throws: ``ImageError`` when the file has more than `limit` bytes or a read fails.
  func contents(
    atMost limit: Int, remedy: String = "is it a machine file at all?"
  ) throws(ImageError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    // Read until the end rather than up to the size: files below /proc say that they have none.
    while true {
      let got = Glibc.read(descriptor, &chunk, chunk.count)
      if got < 0 {
        if errno == EINTR { continue }
        throw .system(path, "cannot be read", errno)
      }
      if got == 0 { return bytes }
      bytes += chunk[..<got]
      guard bytes.count <= limit else {
        throw ImageError(
          file: path, found: "has more than \(limit) bytes", remedy: remedy)
      }
    }
  }
}

/// A file mapped into memory, read-only; its pages come in when they are touched.
final class FileMapping: @unchecked Sendable {
  // Sendable: the bytes are never written, by this process or, as MemoryImage demands, by another.
  let path: String
  let bytes: UnsafeRawBufferPointer

  init(path: String) throws(ImageError) {
    let file = try InputFile(path: path)
    guard file.byteCount > 0 else {
      throw ImageError(
        file: path, found: "is empty", remedy: "the copy failed or the disk was full; copy it again"
      )
    }
    let pointer = mmap(nil, file.byteCount, PROT_READ, MAP_PRIVATE, file.descriptor, 0)
    guard let pointer, pointer != MAP_FAILED else { throw .system(path, "cannot be mapped", errno) }
    self.path = path
    bytes = UnsafeRawBufferPointer(start: pointer, count: file.byteCount)
  }

  deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count) }

  /// The little-endian integer at a byte offset; `nil` when the file ends before it does.
  func integer<Word: FixedWidthInteger>(_: Word.Type, at offset: UInt64) -> Word? {
    guard holds(MemoryLayout<Word>.size, at: offset) else { return nil }
    // Safe: the guard has checked that the word lies inside, so offset also fits an Int.
    return Word(littleEndian: bytes.loadUnaligned(fromByteOffset: Int(offset), as: Word.self))
  }

  /// Whether `byteCount` bytes from `offset` lie in the file.
  func holds(_ byteCount: some BinaryInteger, at offset: UInt64) -> Bool {
    let size = UInt64(bytes.count)
    return offset <= size && byteCount <= size - offset
  }
}
