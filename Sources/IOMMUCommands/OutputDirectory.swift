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
