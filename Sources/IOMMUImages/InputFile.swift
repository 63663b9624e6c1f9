import Glibc
import IOMMUFormats

/// A regular file, open for reading; closed when the value goes away.
struct InputFile: ~Copyable {
  let path: String
  let descriptor: Int32
  let byteCount: Int
  /// Whether this is `/dev/mem`, which has no size of its own.
  let isDevice: Bool

  /// Opens a file that has a size and can be read at any place.
  ///
  /// - Throws: ``ImageError`` with the system's words, or for directories, pipes and devices.
  init(path: String) throws(ImageError) {
    // Without O_NONBLOCK, opening a pipe would wait for its writer before it could be refused.
    let descriptor = openFile(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw .system(path, "cannot be opened", errno) }
    guard let status = fileStatus(of: descriptor) else {
      let code = errno
      close(descriptor)
      throw .system(path, "cannot be examined", code)
    }
    let isDevice = Self.isPhysicalMemory(status)
    guard status.st_mode & S_IFMT == S_IFREG || isDevice else {
      close(descriptor)
      throw ImageError(
        file: path, found: "is a \(Self.kindName(status.st_mode)), not a regular file",
        remedy: "copy its contents to a file and name that")
    }
    self.path = path
    self.descriptor = descriptor
    self.isDevice = isDevice
    byteCount = isDevice ? Int.max : max(0, Int(status.st_size))
  }

  deinit { close(descriptor) }

  /// The file's length now.
  var currentByteCount: UInt64 {
    guard let status = fileStatus(of: descriptor) else { return UInt64(byteCount) }
    return UInt64(max(0, status.st_size))
  }

  /// Whether this is the character device 1:1, memory itself. Source: `mem(4)`.
  private static func isPhysicalMemory(_ status: stat) -> Bool {
    status.st_mode & S_IFMT == S_IFCHR && status.st_rdev == 0x101
  }

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

  /// Appends bytes from an offset on, as many as the system gives at once.
  ///
  /// - Returns: How many these are; 0 at the end of the file.
  /// - Throws: ``ImageError`` when the system refuses.
  func append(
    atMost count: Int, at offset: UInt64, to bytes: inout [UInt8]
  ) throws(ImageError) -> Int {
    var outcome = 0
    bytes.append(addingCapacity: count) { outcome = read(at: offset, atMost: count, into: &$0) }
    guard outcome >= 0 else { throw .system(path, "cannot be read", Int32(-outcome)) }
    return outcome
  }

  /// Appends at most `count` bytes.
  ///
  /// - Returns: How many; when the system refused, its errno less than zero.
  /// - Precondition: there is room for them.
  func read(at offset: UInt64, atMost count: Int, into output: inout OutputSpan<UInt8>) -> Int {
    precondition(count <= output.freeCapacity, "what is read has room")
    guard let offset = off_t(exactly: offset) else { return -Int(EOVERFLOW) }
    // Safe: the system writes at most `count` bytes, for which the precondition has found room.
    return unsafe output.withUnsafeMutableBufferPointer { room, filledCount in
      guard let start = room.baseAddress else { return 0 }
      while true {
        let got = unsafe pread(descriptor, start + filledCount, count, offset)
        if got < 0, errno == EINTR { continue }
        guard got >= 0 else { return -Int(errno) }
        filledCount += got
        return got
      }
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
    // Read until the end rather than up to the size: files below /proc say that they have none.
    while try append(atMost: 65_536, at: UInt64(bytes.count), to: &bytes) > 0 {
      guard bytes.count <= limit else {
        throw ImageError(
          file: path, found: "has more than \(limit) bytes", remedy: remedy)
      }
    }
    return bytes
  }
}

/// The whole of a small file.
///
/// - Parameter remedy: What to ask the user about a file of more bytes than `limit`.
/// - Throws: ``ImageError`` when it is larger, no regular file, or cannot be read.
package func fileContents(
  _ path: String, atMost limit: Int, remedy: String
) throws(ImageError) -> [UInt8] {
  try InputFile(path: path).contents(atMost: limit, remedy: remedy)
}
