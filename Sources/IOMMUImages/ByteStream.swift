import Glibc
import IOMMUFormats

/// Bytes that are read once, from the start to the end: of a file, a pipe or standard input, unpacked
/// where they are packed.
package struct ByteStream: ~Copyable {
  /// What the bytes are called in messages.
  package let name: String
  /// Bytes of a plain file, in which a reader can begin anywhere; `nil` for what is packed, and for
  /// pipes.
  package private(set) var byteCount: Int?
  /// How they are packed.
  private var codec: StreamCodec?

  private let descriptor: Int32
  private var unpacker: StreamUnpacker?
  /// What was read of the file and is not done with.
  private var pending: [UInt8] = []
  private var pendingStart = 0
  private var isAtEnd = false
  /// The packed file may end here.
  private var isBetweenMembers = true
  private var unpackedCount: UInt64 = 0

  /// The path that stands for standard input.
  package static let standardInputPath = "-"
  /// Bytes of the file that are read at once, and that a mark is looked for in.
  private static let pieceByteCount = 65_536

  /// What the bytes behind a path are called.
  package static func name(of path: String) -> String {
    path == standardInputPath ? "standard input" : path
  }

  /// - Parameter path: Of a file or a pipe; `-` is standard input.
  /// - Throws: ``ImageError`` with the system's words, for a directory, and for what is packed in a way
  ///   that is not read, or whose library is not installed.
  package init(path: String) throws(ImageError) {
    let isStandardInput = path == Self.standardInputPath
    name = Self.name(of: path)
    descriptor = isStandardInput ? STDIN_FILENO : openFile(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system(name, "cannot be opened", errno) }
    let status = fileStatus(of: descriptor) ?? stat()
    let kind = status.st_mode & S_IFMT
    guard kind != S_IFDIR, kind != S_IFBLK else {
      throw ImageError(
        file: name, found: "is a \(InputFile.kindName(kind))", remedy: "name a file in it")
    }
    // A pipe may give its first bytes one by one.
    while pending.count < ForeignFormat.markByteCount, !isAtEnd {
      isAtEnd = try Self.read(descriptor, name, into: &pending) == 0
    }
    codec = StreamCodec(markedBy: pending)
    unpacker = codec.flatMap { StreamUnpacker($0) }
    if let codec, unpacker == nil {
      throw ImageError(
        file: name, found: "is packed with \(codec.name), and \(codec.library) is not installed",
        remedy: "install it: apt-get install \(codec.package), or use '\(codec.command)'")
    }
    if codec == nil { try Self.refuseForeign(pending, name) }
    if kind == S_IFREG, codec == nil, !isStandardInput {
      byteCount = max(0, Int(status.st_size))
    }
  }

  deinit { if descriptor > STDIN_FILENO { close(descriptor) } }

  /// Goes to a byte of a plain file.
  ///
  /// - Precondition: it has a ``byteCount``, and nothing was read yet.
  package mutating func seek(to offset: Int) throws(ImageError) {
    precondition(byteCount != nil, "only plain files can be read from the middle")
    guard lseek(descriptor, offset, SEEK_SET) == offset else {
      throw .system(name, "cannot be read", errno)
    }
    pending = []
    pendingStart = 0
    isAtEnd = false
  }

  /// Appends the next bytes, as many as there are at once, and at most `count`.
  ///
  /// - Returns: How many; 0 at the end.
  /// - Throws: ``ImageError`` when the system refuses, and for a packed file that is damaged or cut off.
  package mutating func append(
    atMost count: Int, to bytes: inout [UInt8]
  ) throws(ImageError) -> Int {
    guard count > 0 else { return 0 }
    guard let unpacker else {
      if pendingStart == pending.count {
        guard !isAtEnd else { return 0 }
        let got = try Self.read(descriptor, name, atMost: count, into: &bytes)
        isAtEnd = got == 0
        return got
      }
      let piece = pending[pendingStart...].prefix(count)
      pendingStart += piece.count
      bytes += piece
      return piece.count
    }
    while true {
      if pendingStart == pending.count, !isAtEnd {
        pending.removeAll(keepingCapacity: true)
        pendingStart = 0
        isAtEnd = try Self.read(descriptor, name, into: &pending) == 0
      }
      if isBetweenMembers { skipPadding() }
      if isBetweenMembers, pendingStart == pending.count {
        if isAtEnd { return 0 }
        continue
      }
      let before = bytes.count
      let (taken, progress) = unpacker.unpack(
        pending[pendingStart...], isLast: isAtEnd, into: &bytes, atMost: count)
      pendingStart += taken
      let given = bytes.count - before
      if unpackedCount == 0, given > 0 { try Self.refuseForeign(Array(bytes[before...]), name) }
      unpackedCount += UInt64(given)
      isBetweenMembers = progress == .memberEnded
      switch progress {
      case .isDamaged: throw damage("is damaged")
      case .goesOn where taken == 0 && given == 0 && isAtEnd: throw damage("is cut off")
      case .goesOn, .memberEnded: break
      }
      if given > 0 { return given }
    }
  }

  /// - Throws: ``ImageError`` for first bytes of a format that is known and not read.
  private static func refuseForeign(_ head: [UInt8], _ name: String) throws(ImageError) {
    guard let foreign = ForeignFormat.marked(head) else { return }
    throw ImageError(file: name, found: "is \(foreign.name)", remedy: foreign.remedy)
  }

  /// Zeros behind a member fill a block of a tape or a disk.
  private mutating func skipPadding() {
    guard unpackedCount > 0 else { return }
    while pendingStart < pending.count, pending[pendingStart] == 0 { pendingStart += 1 }
  }

  private func damage(_ what: String) -> ImageError {
    ImageError(
      file: name,
      found: "the \(codec?.name ?? "packed") file \(what) behind byte \(unpackedCount) of what it "
        + "unpacks to",
      remedy: "copy it again")
  }

  private static func read(
    _ descriptor: Int32, _ name: String, atMost count: Int = pieceByteCount,
    into bytes: inout [UInt8]
  ) throws(ImageError) -> Int {
    var outcome = 0
    bytes.append(addingCapacity: count) { output in
      // Safe: the system writes at most `count` bytes, for which room was added.
      unsafe output.withUnsafeMutableBufferPointer { room, filledCount in
        guard let start = room.baseAddress else { return }
        while true {
          let got = unsafe Glibc.read(descriptor, start + filledCount, count)
          if got < 0, errno == EINTR { continue }
          outcome = got < 0 ? -Int(errno) : got
          filledCount += max(0, got)
          return
        }
      }
    }
    guard outcome >= 0 else { throw .system(name, "cannot be read", Int32(-outcome)) }
    return outcome
  }

  /// All that is left.
  ///
  /// - Parameter remedy: What to ask the user about more than `limit` bytes.
  package mutating func contents(atMost limit: Int, remedy: String) throws(ImageError) -> [UInt8] {
    var bytes: [UInt8] = []
    while try append(atMost: Self.pieceByteCount, to: &bytes) > 0 {
      guard bytes.count <= limit else {
        throw ImageError(file: name, found: "has more than \(limit) bytes", remedy: remedy)
      }
    }
    return bytes
  }
}
