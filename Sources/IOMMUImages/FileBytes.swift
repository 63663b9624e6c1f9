import Glibc
import IOMMUFormats
import Synchronization

/// The bytes of a file: mapped where the system can map it, read piece by piece where it cannot
/// (`/proc/kcore`, `/dev/mem`).
package final class FileBytes: Sendable {
  let path: String
  let byteCount: UInt64
  /// The whole file, in place; `nil` when it cannot be mapped.
  let mapping: FileMapping?

  /// Whether this is `/dev/mem`.
  var isDevice: Bool { input.isDevice }

  private let input: InputFile
  /// Glibc's `SEEK_DATA` and `SEEK_HOLE`, which are not imported. Source: `lseek(2)`.
  private static let seekData: Int32 = 3
  private static let seekHole: Int32 = 4
  /// Parts between holes that are told apart; what lies behind them counts as stored.
  private static let storedRangeLimit = 1 << 20
  private let known = Mutex<[Range<UInt64>]?>(nil)
  private let failure = Mutex<ImageError?>(nil)

  /// - Parameter isMapped: `false` reads a file that could be mapped, as those are read that cannot.
  /// - Throws: ``ImageError`` when the file cannot be opened, is empty, or is no regular file.
  package convenience init(path: String, isMapped: Bool = true) throws(ImageError) {
    let input = try InputFile(path: path)
    // /dev/mem has holes that must not be touched, and no length.
    let isMapped = isMapped && !input.isDevice
    guard input.byteCount > 0 else {
      throw ImageError(
        file: path, found: "is empty", remedy: "the copy failed or the disk was full; copy it again"
      )
    }
    self.init(input, isMapped: isMapped)
  }

  init(_ input: consuming InputFile, isMapped: Bool) {
    path = input.path
    byteCount = UInt64(input.byteCount)
    mapping =
      isMapped ? FileMapping(descriptor: input.descriptor, byteCount: input.byteCount) : nil
    self.input = input
  }

  /// Why bytes that were asked for are wrong: the file has shrunk since it was opened, or the
  /// system could not read it. A file that shrank may have given zeros.
  package var problem: ImageError? {
    if let failure = failure.withLock({ $0 }) { return failure }
    let loss = mapping?.loss
    let size = input.isDevice ? byteCount : input.currentByteCount
    guard loss != nil || size < byteCount else { return nil }
    return ImageError(
      file: path, offset: loss.map { min($0, size) } ?? size,
      found: size < byteCount
        ? "the file shrank while it was read, from \(hexadecimal(byteCount)) to "
          + "\(hexadecimal(size)) bytes"
        : "the system could not read these bytes",
      remedy: "copy it to a place where nothing writes it, and read the copy")
  }

  /// The whole file, in place, for as long as this object lives.
  ///
  /// - Throws: ``ImageError`` when the system cannot map it.
  @unsafe package func bytesInPlace() throws(ImageError) -> UnsafeRawBufferPointer {
    guard let mapping else {
      throw ImageError(
        file: path, found: "cannot be mapped", remedy: "copy its contents to a file and name that")
    }
    return unsafe mapping.bytes
  }

  /// Whether `count` bytes from `offset` lie in the file.
  func holds(_ count: some BinaryInteger, at offset: UInt64) -> Bool {
    offset <= byteCount && count <= byteCount - offset
  }

  /// Appends bytes; whether all of them lie in the file and could be read. None are appended when
  /// not.
  ///
  /// - Precondition: there is room for them.
  func copy(at offset: UInt64, count: Int, into output: inout OutputSpan<UInt8>) -> Bool {
    guard holds(count, at: offset) else { return false }
    guard let mapping else { return read(at: offset, count: count, into: &output) }
    mapping.withBytes(at: Int(offset), count: count) { output.append(copying: $0) }
    return true
  }

  private func read(at offset: UInt64, count: Int, into output: inout OutputSpan<UInt8>) -> Bool {
    var done = 0
    while done < count {
      let place = offset + UInt64(done)
      let got = input.read(at: place, atMost: count - done, into: &output)
      guard got > 0 else {
        note(at: place, code: got < 0 ? Int32(-got) : nil)
        output.removeLast(done)
        return false
      }
      done += got
    }
    return true
  }

  private func note(at offset: UInt64, code: Int32?) {
    let error =
      if let code {
        ImageError(
          file: path, offset: offset, found: "cannot be read: \(systemText(code))",
          remedy: input.isDevice && code == EPERM
            ? "this kernel keeps its memory to itself (CONFIG_STRICT_DEVMEM); read /proc/kcore"
            : nil)
      } else {
        ImageError(
          file: path, offset: offset,
          found: "the file ends here, and was longer when it was opened",
          remedy: "copy it to a place where nothing writes it, and read the copy")
      }
    failure.withLock { $0 = $0 ?? error }
  }

  /// The little-endian integer at a byte offset; `nil` when the file ends before it does.
  func integer<Word: FixedWidthInteger & BitwiseCopyable>(
    _: Word.Type, at offset: UInt64
  ) -> Word? {
    let count = MemoryLayout<Word>.size
    if let mapping {
      guard holds(count, at: offset) else { return nil }
      return mapping.withBytes(at: Int(offset), count: count) { $0.integer(Word.self, at: 0) }
    }
    let (bytes, isThere) = [UInt8].filled(capacity: count) {
      copy(at: offset, count: count, into: &$0)
    }
    return isThere ? bytes.span.integer(Word.self, at: 0) : nil
  }

  /// What the file system stores: half-open, ascending, not touching each other; holes are zero.
  ///
  /// - Complexity: O(*n*) in the number of holes, the first time.
  var storedRanges: [Range<UInt64>] {
    known.withLock { known in
      if let known { return known }
      let ranges = findStoredRanges()
      known = ranges
      return ranges
    }
  }

  private func findStoredRanges() -> [Range<UInt64>] {
    var ranges: [Range<UInt64>] = []
    var offset: UInt64 = 0
    // A device has no holes that the system tells of.
    while !input.isDevice, offset < byteCount, ranges.count < Self.storedRangeLimit {
      let data = lseek(input.descriptor, off_t(offset), Self.seekData)
      // ENXIO: zeros to the end. Anything else: the file system cannot say.
      if data < 0, errno == ENXIO { return ranges }
      guard data >= 0 else { break }
      let start = UInt64(data)
      guard start < byteCount else { return ranges }
      let hole = lseek(input.descriptor, data, Self.seekHole)
      let end = hole > data ? min(UInt64(hole), byteCount) : byteCount
      ranges.append(start..<end)
      offset = end
    }
    if offset < byteCount { ranges.append(offset..<byteCount) }
    return ranges
  }

  /// Tells the system how the bytes are about to be looked at, such as `MADV_RANDOM`.
  func advise(_ advice: Int32) { mapping?.advise(advice) }
}
