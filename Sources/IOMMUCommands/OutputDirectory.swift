import FoundationEssentials
import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUKdump

/// A directory for images and their machine files; made when it is not there.
struct OutputDirectory {
  let path: String

  init(_ path: String) throws {
    if mkdir(path, 0o777) != 0 {
      let code = errno
      var status = stat()
      guard code == EEXIST, stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
        let why = code == EEXIST ? "is no directory" : String(cString: strerror(code))
        throw InputError("\(path): \(why); choose another --output")
      }
    }
    self.path = path
  }

  /// Writes the machine's memory and its machine file.
  @discardableResult
  func write(
    _ kernel: PrimaryKernel, name: String, isRaw: Bool = false
  ) throws -> (image: String, machine: String) {
    let image = "\(name).\(isRaw ? "raw" : "elf")"
    if isRaw {
      try ELFCoreWriter.writeRaw(kernel.memory, to: "\(path)/\(image)")
    } else {
      try ELFCoreWriter.write(kernel.memory, to: "\(path)/\(image)")
    }
    let machine = "\(path)/\(name).json"
    try MachineFile(machine: kernel.machine, images: [image]).write(to: machine)
    return ("\(path)/\(image)", machine)
  }
}

/// A directory that appears whole or not at all, where nothing was.
///
/// What is written goes to a directory beside it, which goes away with this object; ``commit()`` gives it its
/// name.
final class NewDirectory {
  /// As it was given.
  let path: String
  /// Where files are written.
  let temporary: String
  private var isDone = false

  /// - Throws: ``InputError`` when something is there already, or nothing can be written there. An empty
  ///   directory is nothing.
  init(_ path: String) throws {
    var name = path
    while name.count > 1, name.hasSuffix("/") { name.removeLast() }
    let parent = name.lastIndex(of: "/").map { String(name[...$0]) } ?? ""
    self.path = name
    temporary = parent + ".iommu-\(hexadecimal(UInt64.random(in: 0 ... .max))).tmp"
    var status = stat()
    if lstat(name, &status) == 0, try !Self.isEmptyDirectory(name) { throw Self.taken(path) }
    guard mkdir(temporary, 0o777) == 0 else { throw Self.failure(path, errno) }
  }

  deinit {
    if !isDone { try? FileManager.default.removeItem(atPath: temporary) }
  }

  /// Gives the directory its name.
  func commit() throws {
    guard rename(temporary, path) == 0 else {
      throw [EEXIST, ENOTEMPTY, ENOTDIR].contains(errno)
        ? Self.taken(path) : Self.failure(path, errno)
    }
    isDone = true
  }

  private static func isEmptyDirectory(_ path: String) throws -> Bool {
    guard let stream = opendir(path) else {
      if errno == ENOTDIR { return false }
      throw failure(path, errno)
    }
    defer { closedir(stream) }
    // Itself and its parent.
    var count = 0
    while count < 3, readdir(stream) != nil { count += 1 }
    return count < 3
  }

  private static func taken(_ path: String) -> InputError {
    InputError("\(path): is there already, and nothing is written over; choose another --output")
  }

  private static func failure(_ path: String, _ code: Int32) -> InputError {
    InputError("\(path): \(String(cString: strerror(code))); choose another --output")
  }
}
