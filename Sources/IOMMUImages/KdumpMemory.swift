import IOMMUFormats
import Synchronization

/// A kdump-compressed dump as memory: one file, or the files that `makedumpfile --split` made of it.
final class KdumpMemory: PagedMemory {
  /// Ascending by their frames, which do not overlap.
  let files: [KdumpFile]
  let pageByteCount: UInt64
  private let pageShift: UInt64
  private let cache: PageCache
  private let firstProblem = Mutex<ImageError?>(nil)
  private let knownRanges = Mutex<[Range<PhysicalAddress>]?>(nil)

  /// - Throws: ``ImageError`` when one of the files is damaged, or when they are not parts of one
  ///   dump.
  init(_ dumps: [DumpFile]) throws(ImageError) {
    var files: [KdumpFile] = []
    for dump in dumps { files.append(try KdumpFile(dump)) }
    files.sort { $0.header.frames.lowerBound < $1.header.frames.lowerBound }
    for (file, next) in zip(files, files.dropFirst()) {
      guard next.header.pageByteCount == file.header.pageByteCount,
        next.header.frameCount == file.header.frameCount, file.header.isSplit, next.header.isSplit
      else {
        throw ImageError(
          file: next.file.path, found: "is not of the same split dump as \(file.file.path)",
          remedy: "name the files of one dump only")
      }
      guard file.header.frames.upperBound <= next.header.frames.lowerBound else {
        throw ImageError(
          file: next.file.path,
          found: "holds page frames that \(file.file.path) holds too",
          remedy: "name each file of the dump once")
      }
    }
    self.files = files
    pageByteCount = files[0].header.pageByteCount
    pageShift = UInt64(pageByteCount.trailingZeroBitCount)
    cache = PageCache(pageByteCount: Int(pageByteCount))
  }

  /// One past the machine's last page frame.
  var frameCount: UInt64 { files[0].header.frameCount }

  /// What is strange about the files and no error.
  var warnings: [String] {
    var warnings = files.flatMap(\.warnings)
    var expected: UInt64 = 0
    for range in files.map(\.header.frames) + [frameCount..<frameCount] {
      if range.lowerBound > expected {
        let start = hexadecimal(expected << pageShift)
        let end = hexadecimal(range.lowerBound << pageShift)
        warnings.append(
          "\(files[0].file.path): the dump was split, and no file named here holds \(start)..<\(end)"
        )
      }
      expected = max(expected, range.upperBound)
    }
    return warnings
  }

  /// The notes; where VMCOREINFO lies apart from them, as in files of version 3, a note of it.
  var notes: [UInt8] {
    func bytes(_ range: Range<UInt64>) -> [UInt8] {
      files[0].file.bytes(at: range.lowerBound, count: range.count) ?? []
    }
    let notes = bytes(files[0].header.notes)
    guard ELFNotes(bytes: notes).content(named: VMCoreInfo.noteName) == nil else { return notes }
    let information = bytes(files[0].header.vmcoreInfo)
    return information.isEmpty
      ? notes : notes + ELFNotes.note(name: VMCoreInfo.noteName, content: information)
  }

  /// The bitmap of the machine's memory.
  ///
  /// - Complexity: O(*n*) in its bytes.
  var memoryBitmap: FrameBitmap {
    let header = files[0].header
    return FrameBitmap(
      file: files[0].file, offset: header.memoryBitmap, frameCount: header.frameCount)
  }

  /// Built when it is first asked for: a dump may hold a million runs of pages.
  var backedRanges: [Range<PhysicalAddress>] {
    knownRanges.withLock { known in
      if let known { return known }
      var ranges: [Range<PhysicalAddress>] = []
      for file in files {
        file.forEachRun { run in
          let start = PhysicalAddress(run.lowerBound << pageShift)
          let end = PhysicalAddress(run.upperBound << pageShift)
          if let last = ranges.last, last.upperBound == start {
            ranges[ranges.count - 1] = last.lowerBound..<end
          } else {
            ranges.append(start..<end)
          }
        }
      }
      known = ranges
      return ranges
    }
  }

  var storedPageCount: UInt64 {
    files.reduce(0) { $0 + $1.descriptorCount } << pageShift / PageCount.pageByteCount
  }

  var problem: ImageError? { firstProblem.withLock { $0 } }

  /// The file that may hold a frame.
  private func file(of frame: UInt64) -> KdumpFile? {
    let index = files.partitioningIndex { $0.header.frames.upperBound > frame }
    guard index < files.count, files[index].header.frames.contains(frame) else { return nil }
    return files[index]
  }

  /// Unpacks a page; whether it is there and whole.
  func unpack(_ frame: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
    guard let file = file(of: frame), file.dumped.contains(frame) else { return false }
    do throws(ImageError) {
      return try file.unpack(frame: frame, into: buffer)
    } catch {
      var error = error
      error.place = "page \(hexadecimal(frame << pageShift)), descriptor"
      // When the file shrank meanwhile, that is the reason.
      firstProblem.withLock { $0 = $0 ?? file.file.file.problem ?? error }
      return false
    }
  }

  func read(at address: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    var copied = 0
    while copied < buffer.count {
      let (place, wraps) = address.addingReportingOverflow(UInt64(copied))
      let frame = place >> pageShift
      guard !wraps, frame < frameCount else { break }
      let offset = Int(place & (pageByteCount - 1))
      let count = min(buffer.count - copied, Int(pageByteCount) - offset)
      let isThere = cache.copy(
        page: frame, offset: offset,
        into: UnsafeMutableRawBufferPointer(rebasing: buffer[copied..<copied + count])
      ) { unpack(frame, into: $0) }
      guard isThere else { break }
      copied += count
    }
    return copied
  }

  func presence(of address: UInt64) -> Presence {
    let frame = address >> pageShift
    guard let file = file(of: frame), file.dumped.contains(frame) else {
      return memoryBit(of: frame) ? .excluded : .absent
    }
    if file.header.isIncomplete, file.descriptor(of: frame).isLost { return .excluded }
    return .stored
  }

  private func memoryBit(of frame: UInt64) -> Bool {
    guard frame < frameCount else { return false }
    let header = files[0].header
    let byte = files[0].file.integer(UInt8.self, at: header.memoryBitmap + frame / 8) ?? 0
    return byte >> (frame % 8) & 1 != 0
  }
}
