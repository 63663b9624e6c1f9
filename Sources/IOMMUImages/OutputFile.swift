import Glibc
import IOMMUFormats

/// A file that appears whole or not at all.
///
/// What is written goes to a file in the same directory that has no name, so that nothing of it is left
/// however the program ends; ``commit()`` makes it durable and gives it its name. Until then, and when
/// anything fails, a file of that name stays as it was. Where the file system knows no files without
/// names, the file has one of its own, which goes away with this object, and with the program when
/// one of the signals of ``Leftovers/signals`` ends it.
package final class OutputFile {
  /// The file's path as it was given.
  package let path: String
  /// Bytes written and skipped so far.
  package private(set) var byteCount: UInt64 = 0

  /// The path with symbolic links followed, so that a link stays a link.
  private let target: String
  /// The name in the meantime, with its directory; the file has it from the start or not at all.
  private let temporary: String
  private let isNamed: Bool
  /// −1 after ``commit()`` or an error.
  private var descriptor: Int32
  /// Bytes that belong at the end of the file.
  private var buffer: [UInt8] = []
  private static let bufferLimit = 1 << 16

  /// Starts a file.
  ///
  /// It takes the permissions of the file that it replaces, if there is one, and lets nobody read it
  /// who may not read what it is made of.
  ///
  /// - Parameters:
  ///   - inputs: The files that it is made of.
  ///   - isNamed: Whether to take a file with a name in any case.
  /// - Throws: ``ImageError`` when nothing can be written there, or when `path` is a directory or
  ///   another thing that is no regular file.
  package convenience init(path: String, from inputs: [String] = []) throws(ImageError) {
    try self.init(path: path, from: inputs, isNamed: false)
  }

  init(path: String, from inputs: [String], isNamed: Bool) throws(ImageError) {
    let status = fileStatus(at: path)
    if let status, status.st_mode & S_IFMT != S_IFREG {
      throw ImageError(
        file: path, found: "is a \(InputFile.kindName(status.st_mode)), not a regular file",
        remedy: "choose another name")
    }
    let target = status == nil ? path : resolvedPath(path) ?? path
    let directory = target.utf8.lastIndex(of: UInt8(ascii: "/")).map { target[...$0] } ?? ""
    // A name of its own length: the target's may already be as long as names can be.
    let temporary = "\(directory).iommu-\(hexadecimal(UInt64.random(in: 0 ... .max))).tmp"
    // The system takes the user's mask off; what the inputs forbid is never allowed, not for a moment.
    let allowed = Self.permissions(
      allowedBy: inputs, in: directory.isEmpty ? "." : String(directory))
    var descriptor =
      isNamed || !canNameOpenFiles
      ? -1
      : openFile(
        directory.isEmpty ? "." : String(directory), O_WRONLY | unnamedFile | O_CLOEXEC,
        mode: 0o666 & allowed)
    let hasName = descriptor < 0
    if hasName {
      descriptor = openFile(
        temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode: 0o666 & allowed)
      guard descriptor >= 0 else { throw .system(path, "cannot be written", errno) }
      Leftovers.add(temporary)
    }
    // A failure here leaves fewer permissions, which is no reason to lose the data.
    if let status { _ = fchmod(descriptor, status.st_mode & 0o777 & allowed) }
    self.path = path
    self.target = target
    self.temporary = temporary
    self.isNamed = hasName
    self.descriptor = descriptor
    buffer.reserveCapacity(Self.bufferLimit)
  }

  deinit { abandon() }

  /// What a new file in a directory may allow to whom, so that nobody may read it who may not read all
  /// that it is made of. Its owner may do anything.
  private static func permissions(allowedBy inputs: [String], in directory: String) -> mode_t {
    let place = fileStatus(at: directory)
    let inherits = place.map { $0.st_mode & S_ISGID != 0 } ?? false
    let group = inherits ? place?.st_gid : getegid()
    var permissions: mode_t = 0o777
    for input in inputs {
      guard let status = fileStatus(at: input) else { continue }
      let admitsAll = status.st_mode & 0o004 != 0
      // Another group than the input's is anybody to it.
      let admitsGroup = status.st_gid == group ? status.st_mode & 0o040 != 0 : admitsAll
      if !admitsGroup { permissions &= ~0o070 }
      if !admitsAll { permissions &= ~0o007 }
    }
    return permissions
  }

  /// Refuses to write over what is read: an output that is the same file as an input, by whatever
  /// name, symbolic link or hard link. An output that does not exist is none of them.
  ///
  /// To be asked before the inputs are read: nothing is lost then but the answer.
  ///
  /// - Throws: ``ImageError`` that names both.
  package static func refuse(_ outputs: [String], over inputs: [String]) throws(ImageError) {
    var read: [FileIdentity: String] = [:]
    for input in inputs {
      if let identity = FileIdentity(path: input) { read[identity] = read[identity] ?? input }
    }
    for output in outputs {
      guard let identity = FileIdentity(path: output), let input = read[identity] else { continue }
      throw ImageError(
        file: output,
        found: output == input ? "is the input" : "is the same file as the input \(input)",
        remedy: "choose another name for what is written")
    }
  }

  /// Appends bytes.
  ///
  /// - Throws: ``ImageError`` when the system does not take them; the file is given up then.
  /// - Precondition: neither ``commit()`` nor an error came before.
  package func write(_ bytes: Span<UInt8>) throws(ImageError) {
    precondition(descriptor >= 0, "a file is written before it is committed or given up")
    if bytes.count > Self.bufferLimit - buffer.count { try flush() }
    if bytes.count >= Self.bufferLimit {
      try store(bytes, at: byteCount)
    } else {
      buffer.append(copying: bytes)
    }
    byteCount += UInt64(bytes.count)
  }

  /// Appends bytes.
  ///
  /// - Throws: as ``write(_:)-(Span<UInt8>)``.
  package func write(_ bytes: [UInt8]) throws(ImageError) { try write(bytes.span) }

  /// Writes bytes at a place of the file, which grows when it ends before them; where the next are
  /// appended follows its end.
  ///
  /// - Throws: ``ImageError`` when the system does not take them; the file is given up then.
  /// - Precondition: neither ``commit()`` nor an error came before; the bytes end before 2^64.
  func write(_ bytes: Span<UInt8>, at offset: UInt64) throws(ImageError) {
    precondition(descriptor >= 0, "a file is written before it is committed or given up")
    try flush()
    try store(bytes, at: offset)
    byteCount = max(byteCount, offset + UInt64(bytes.count))
  }

  /// Leaves a run of zeros that takes no room on the disk, where the file system can do that.
  ///
  /// - Throws: ``ImageError`` when the file would be larger than files can be.
  /// - Precondition: neither ``commit()`` nor an error came before.
  package func skip(byteCount skipped: UInt64) throws(ImageError) {
    precondition(descriptor >= 0, "a file is written before it is committed or given up")
    try flush()
    let (end, overflow) = byteCount.addingReportingOverflow(skipped)
    guard !overflow, end <= UInt64(Int64.max) else { throw fail("cannot be written", EFBIG) }
    byteCount = end
  }

  /// Makes the file durable and gives it its name.
  ///
  /// - Throws: ``ImageError`` when the system refuses; an older file of that name stays untouched.
  /// - Precondition: neither `commit()` nor an error came before.
  package func commit() throws(ImageError) {
    precondition(descriptor >= 0, "a file is committed once")
    try flush()
    // A skipped run at the end is part of the file.
    guard ftruncate(descriptor, off_t(byteCount)) == 0 else {
      throw fail("cannot be written", errno)
    }
    guard fsync(descriptor) == 0 else { throw fail("cannot be made durable", errno) }
    // A name that is free is taken at once; one that is not is taken over from a name of its own.
    if isNamed || !nameFile(descriptor, as: target) {
      if !isNamed {
        Leftovers.add(temporary)
        guard nameFile(descriptor, as: temporary) else { throw fail("cannot be named", errno) }
      }
      guard renameFile(temporary, to: target) else { throw fail("cannot be replaced", errno) }
      Leftovers.remove(temporary)
    }
    close(descriptor)
    descriptor = -1
  }

  private func flush() throws(ImageError) {
    var pending: [UInt8] = []
    swap(&pending, &buffer)
    try store(pending.span, at: byteCount - UInt64(pending.count))
    // Its room is used again.
    pending.removeAll(keepingCapacity: true)
    swap(&pending, &buffer)
  }

  private func store(_ bytes: Span<UInt8>, at offset: UInt64) throws(ImageError) {
    var done = 0
    while done < bytes.count {
      let (place, overflow) = offset.addingReportingOverflow(UInt64(done))
      guard !overflow, let place = off_t(exactly: place) else {
        throw fail("cannot be written", EFBIG)
      }
      // Safe: the system reads what the span has behind `done`, while it is borrowed.
      let count = unsafe bytes.withUnsafeBytes {
        unsafe pwrite(descriptor, $0.baseAddress! + done, $0.count - done, place)
      }
      if count > 0 {
        done += count
      } else if count == 0 {
        throw fail("cannot be written", EIO)
      } else if errno != EINTR {
        throw fail("cannot be written", errno)
      }
    }
  }

  private func fail(_ action: String, _ code: Int32) -> ImageError {
    abandon()
    return .system(
      path, action, code, remedy: code == ENOSPC ? "make room or choose another place" : nil)
  }

  private func abandon() {
    guard descriptor >= 0 else { return }
    close(descriptor)
    // Also where a name was on its way.
    if Leftovers.remove(temporary) { removeFile(temporary) }
    descriptor = -1
  }
}

/// Which file a path leads to, whatever its name.
private struct FileIdentity: Hashable {
  let device: dev_t
  let inode: ino_t

  /// `nil` when no file is there.
  init?(path: String) {
    guard let status = fileStatus(at: path) else { return nil }
    device = status.st_dev
    inode = status.st_ino
  }
}
