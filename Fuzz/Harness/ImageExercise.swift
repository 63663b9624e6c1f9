import Glibc
import IOMMUFormats
import IOMMUImages

/// Opens bytes as a dump and looks at all that can be looked at.
enum ImageExercise {
  /// Memory of more bytes than this is looked at in places only.
  private static let wholeByteCount: UInt64 = 256 << 10
  nonisolated(unsafe) private static let input = ScratchFile("input")
  nonisolated(unsafe) private static let output = ScratchFile("output")

  static func run(_ bytes: [UInt8]) {
    input.fill(bytes)
    guard let image = try? MemoryImage(path: input.path) else { return }
    look(at: image, bytes)
  }

  static func look(at image: MemoryImage, _ bytes: [UInt8]) {
    let ranges = image.backedRanges
    for (range, next) in zip(ranges, ranges.dropFirst()) {
      require(range.upperBound < next.lowerBound, "ranges ascend and do not touch")
    }
    require(ranges.allSatisfy { !$0.isEmpty }, "a range holds a byte")
    for range in ranges.prefix(32) + ranges.suffix(32) { look(at: range, of: image) }
    look(atStored: image.storedRanges, of: image)
    _ = image.warnings
    _ = image.vmcoreInfo?["OSRELEASE"]
    _ = image.summary()
    let total = ranges.reduce(UInt64(0)) { $0 + $1.byteCount }
    if total <= wholeByteCount { convert(image, bytes) }
    require(image.problems.allSatisfy { !$0.found.isEmpty }, "a problem says what")
  }

  /// Words, bytes and presence agree at the ends of a range.
  private static func look(at range: Range<PhysicalAddress>, of image: MemoryImage) {
    let last = range.upperBound.rawValue - 1
    for place in [range.lowerBound.rawValue, last &- 3, last &- 7, last, last &+ 1] {
      let address = PhysicalAddress(place)
      let quadword = image.quadword(at: address)
      let bytes = image.bytes(at: address, count: 8)
      // A page that is damaged is not read a second time for less than a page.
      require((quadword == nil) == (bytes == nil), "a quadword is eight bytes")
      if let quadword, let bytes {
        require(
          bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) } == quadword,
          "a quadword has its bytes in order")
      }
      if image.doubleword(at: address) != nil {
        let presence = image.presence(of: address)
        require(presence == .stored || presence == .zeroFill, "what answers is present")
      }
    }
    require(
      !range.contains(PhysicalAddress(last &+ 1)), "the byte after a range is not in it")
  }

  /// What is stored lies in what answers; what lies beside it and answers is zero.
  private static func look(atStored stored: [Range<PhysicalAddress>], of image: MemoryImage) {
    let backed = image.backedRanges
    var next = 0
    for (index, range) in stored.enumerated() {
      require(!range.isEmpty, "a range holds a byte")
      require(index == 0 || stored[index - 1].upperBound < range.lowerBound, "ranges ascend")
      while next < backed.count, backed[next].upperBound <= range.lowerBound { next += 1 }
      require(
        next < backed.count && backed[next].lowerBound <= range.lowerBound
          && range.upperBound <= backed[next].upperBound, "what is stored answers")
      let end = min(
        backed[next].upperBound,
        index + 1 < stored.count ? stored[index + 1].lowerBound : backed[next].upperBound)
      guard index < 32, range.upperBound < end else { continue }
      let zeros = min(range.upperBound.rawValue + 64, end.rawValue) - range.upperBound.rawValue
      require(
        image.bytes(at: range.upperBound, count: Int(zeros))?.allSatisfy { $0 == 0 } != false,
        "what nobody stores is zero")
    }
  }

  /// What is written reads as what was read.
  private static func convert(_ image: MemoryImage, _ bytes: [UInt8]) {
    // Each input goes one way, the same each time.
    let targets: [ImageConverter.Target] = [.elf, .kdump, .flattened]
    let target = targets[Int(bytes.reduce(UInt8(0), &+)) % targets.count]
    guard (try? ImageConverter.write(image, to: output.path, as: target)) != nil else { return }
    guard let other = try? MemoryImage(path: output.path) else {
      fatalError("what was written cannot be read")
    }
    for range in image.backedRanges {
      let count = Int(range.byteCount)
      require(
        other.bytes(at: range.lowerBound, count: count)
          == image.bytes(at: range.lowerBound, count: count),
        "what was written is not what was read")
    }
    require(other.problems.isEmpty, "what was written is whole")
  }
}

/// Opens the files of a split dump: their number, the length of each in two bytes, and each as
/// ``SparseBytes`` with the mark of a kdump-compressed file.
enum SplitExercise {
  nonisolated(unsafe) private static let files = (0..<4).map { ScratchFile("part\($0)") }

  static func run(_ input: UnsafeRawBufferPointer) {
    guard input.count >= 3 else { return }
    var reader = ByteReader(input)
    let count = 1 + reader.below(files.count)
    let lengths = (0..<count).map { _ in Int(reader.number(byteCount: 2)) }
    for (file, length) in zip(files, lengths) {
      file.fill(SparseBytes.expanded(reader.bytes(length), after: KdumpMark.bytes))
    }
    do {
      let image = try MemoryImage(paths: files[..<count].map(\.path))
      ImageExercise.look(at: image, Array(input))
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
    }
  }
}

/// Opens an ELF core without program headers, whose sections say where a Xen guest's pages lie.
enum XenExercise {
  /// The header up to the entry: 64 bits, little-endian, a core of x86-64.
  private static let mark: [UInt8] =
    [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9) + [4, 0, 62, 0, 1, 0, 0, 0]
  private static let programHeaderCount = 56..<58

  static func run(_ input: UnsafeRawBufferPointer) {
    var bytes = SparseBytes.expanded(input, after: mark)
    guard bytes.count >= 64 else { return }
    bytes.replaceSubrange(programHeaderCount, with: [0, 0])
    ImageExercise.run(bytes)
  }
}

/// Opens the state of a VMware guest: the first byte says whether its memory lies beside it, and how many
/// blocks of 256 bytes that has; ``SparseBytes`` are the state.
enum VMwareExercise {
  nonisolated(unsafe) private static let memory = ScratchFile("guest.vmem")
  nonisolated(unsafe) private static let state = ScratchFile("guest.vmss")
  nonisolated(unsafe) private static let alone = ScratchFile("guest.state")
  private static let mark: [UInt8] = [0xd2, 0xbe, 0xd2, 0xbe]

  static func run(_ input: UnsafeRawBufferPointer) {
    guard let first = input.first else { return }
    let bytes = SparseBytes.expanded(input.dropFirst(), after: mark)
    guard first & 1 == 1 else {
      alone.fill(bytes)
      open(alone.path, Array(input))
      return
    }
    state.fill(bytes)
    let count = 256 * (1 + Int(first >> 1))
    memory.fill((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) })
    open(first & 2 == 0 ? memory.path : state.path, Array(input))
  }

  private static func open(_ path: String, _ bytes: [UInt8]) {
    do {
      ImageExercise.look(at: try MemoryImage(path: path), bytes)
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
    }
  }
}

/// Reads bytes as a machine file, and what it writes once more.
enum MachineFileExercise {
  nonisolated(unsafe) private static let input = ScratchFile("machine")

  static func run(_ bytes: [UInt8]) {
    input.fill(bytes)
    guard let file = try? MachineFile(path: input.path) else { return }
    _ = file.warnings
    _ = file.imagePaths
    guard let machine = try? file.machine() else { return }
    _ = MachineFile(machine: machine, images: file.images)
  }
}
