import Glibc
import IOMMUFormats
import IOMMUImages

/// A reader, or the walk, over arbitrary input. A run that returns found nothing.
public enum FuzzTarget: String, CaseIterable, Sendable {
  /// Bytes of an ELF core after its magic.
  case elf
  /// A kdump-compressed file after its magic, as ``SparseBytes``.
  case kdump
  /// A flattened stream after its header, as ``SparseBytes``.
  case flattened
  /// Any file: the marks are the fuzzer's to find.
  case image
  /// A machine file.
  case machine
  /// Registers and memory, as ``SparseBytes``.
  case walk

  /// - Precondition: only one run at a time in a process.
  public func run(_ input: UnsafeRawBufferPointer) {
    switch self {
    case .elf: ImageExercise.run([0x7f, 0x45, 0x4c, 0x46] + input.dropFirst(4))
    case .kdump:
      var bytes = SparseBytes.expanded(input)
      bytes.replaceSubrange(0..<min(8, bytes.count), with: Array("KDUMP   ".utf8))
      ImageExercise.run(bytes)
    case .flattened:
      var bytes = SparseBytes.expanded(input)
      let header =
        Array("makedumpfile\0\0\0\0".utf8) + [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
      bytes.replaceSubrange(0..<min(header.count, bytes.count), with: header)
      ImageExercise.run(bytes)
    case .image: ImageExercise.run(Array(input))
    case .machine: MachineExercise.run(Array(input))
    case .walk: WalkExercise.run(input)
    }
  }
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
}

/// A file that is written anew for each input; in memory where the system has a place for that.
final class ScratchFile {
  let path: String
  private let descriptor: Int32

  init(_ name: String) {
    let directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
    path = "\(directory)/iommu-fuzz-\(getpid())-\(name)"
    descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { fatalError("\(path) cannot be written") }
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
