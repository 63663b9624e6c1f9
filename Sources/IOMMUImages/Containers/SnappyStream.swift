import IOMMUFormats
import Synchronization

/// Bytes packed as streams of Snappy frames, read as one row of bytes, at any place.
///
/// A frame has four bytes of header, a kind and a length of 24 bits, and unpacks to at most 64 KiB. A
/// frame with data has the masked CRC-32C of what it unpacks to in front of it, and tells how much that
/// is, so that an index is made without unpacking any.
///
/// Source: google/snappy, "Snappy framing format description" (framing_format.txt).
final class SnappyStream: PieceSource {
  private let file: DumpFile
  private let index: Index
  private let cache = PageCache(pageByteCount: SnappyFrame.byteLimit)
  private let failures = Mutex(Failures())

  /// By the numbers of frames.
  private struct Failures {
    var locked: PlacedError?
    var damage: PlacedError?
  }

  init(file: DumpFile, index: Index) {
    self.file = file
    self.index = index
  }

  /// Where the frames with data are.
  struct Index {
    fileprivate struct Place {
      /// The first byte that the frame unpacks to, in the row of all.
      var start: UInt64
      /// Its header.
      var offset: UInt64
    }

    fileprivate var places: [Place] = []
    /// Bytes that all frames unpack to.
    fileprivate(set) var byteCount: UInt64 = 0
    /// Bytes of packed data.
    fileprivate(set) var packedByteCount: UInt64 = 0

    /// Adds the frames of a stream that unpack to a number of bytes.
    ///
    /// - Returns: Where the bytes begin in the row of all, how many of them the file has, and one past
    ///   the stream's last frame; `nil` where the file ends before.
    /// - Throws: ``ImageError`` for what is no frame.
    mutating func append(
      _ wanted: UInt64, from offset: UInt64, in file: DumpFile
    ) throws(ImageError) -> (start: UInt64, byteCount: UInt64, end: UInt64?) {
      let start = byteCount
      var offset = offset
      while byteCount - start < wanted {
        guard let frame = try SnappyFrame(at: offset, in: file) else {
          return (start, byteCount - start, nil)
        }
        guard UInt64(frame.unpackedByteCount) <= wanted - (byteCount - start) else {
          throw frame.error("unpacks to more than the range has", in: file)
        }
        if frame.unpackedByteCount > 0 {
          places.append(Place(start: byteCount, offset: offset))
          byteCount += UInt64(frame.unpackedByteCount)
          packedByteCount += frame.data.upperBound - frame.data.lowerBound
        }
        offset = frame.data.upperBound
      }
      return (start, wanted, offset)
    }
  }

  /// What the stream comes to.
  var packing: ImageSummary.Packing {
    ImageSummary.Packing(
      name: "\(PageCodec.snappy)", pageCount: index.byteCount / PageCount.pageByteCount,
      byteCount: index.packedByteCount,
      missingPackage: PageCodec.snappy.loaded == nil ? PageCodec.snappy.package : nil)
  }

  // MARK: Bytes

  /// The frame that a byte is in, where the byte is in it, and how many bytes it has.
  private func place(of offset: UInt64) -> (number: Int, offset: Int, byteCount: Int)? {
    guard offset < index.byteCount else { return nil }
    let number = index.places.partitioningIndex { $0.start > offset } - 1
    let start = index.places[number].start
    let end = number + 1 < index.places.count ? index.places[number + 1].start : index.byteCount
    return (number, Int(offset - start), Int(end - start))
  }

  func copy(at offset: UInt64, count: Int, into output: inout OutputSpan<UInt8>) -> Bool {
    var done = 0
    while done < count {
      guard let place = place(of: offset + UInt64(done)) else {
        output.removeLast(done)
        return false
      }
      let length = min(count - done, place.byteCount - place.offset)
      let isThere = cache.copy(
        page: UInt64(place.number), offset: place.offset, count: length, into: &output
      ) { unpack(place.number, place.byteCount, into: &$0) }
      guard isThere else {
        output.removeLast(done)
        return false
      }
      done += length
    }
    return true
  }

  /// Unpacks a frame and checks what came of it; whether it is whole.
  private func unpack(
    _ number: Int, _ byteCount: Int, into output: inout OutputSpan<UInt8>
  ) -> Bool {
    do throws(SnappyFrame.Failure) {
      let frame = try SnappyFrame(again: index.places[number].offset, in: file)
      try frame.unpack(byteCount, of: file, into: &output)
      return true
    } catch {
      // When the file shrank meanwhile, that is the reason, and its own problem.
      guard file.file.problem == nil else { return false }
      failures.withLock {
        switch error {
        case .locked(let error): $0.locked.note(error, at: UInt64(number))
        case .damaged(let error): $0.damage.note(error, at: UInt64(number))
        }
      }
      return false
    }
  }

  var problems: [ImageError] {
    let (locked, damage) = failures.withLock { ($0.locked, $0.damage) }
    return [locked, damage].compactMap(\.self).sorted { $0.place < $1.place }.map(\.error)
  }

  func presence(at offset: UInt64) -> Presence {
    guard let place = place(of: offset) else { return .cutOff }
    guard PageCodec.snappy.loaded != nil else {
      return .locked(package: PageCodec.snappy.package)
    }
    let (_, isThere) = [UInt8].filled(capacity: 1) { copy(at: offset, count: 1, into: &$0) }
    return isThere && place.byteCount > 0 ? .stored : .damaged
  }

  func forEachStoredRange(in range: Range<UInt64>, while body: (Range<UInt64>) -> Bool) {
    _ = body(range)
  }

  func recordedByteCount(in range: Range<UInt64>) -> UInt64 {
    range.upperBound - range.lowerBound
  }
}

/// One frame as it lies in a file.
struct SnappyFrame {
  /// What a frame unpacks to has at most so many bytes.
  static let byteLimit = 1 << 16

  private static let headerByteCount: UInt64 = 4
  private static let checksumByteCount: UInt64 = 4
  private static let packed: UInt8 = 0x00
  private static let plain: UInt8 = 0x01
  /// From this kind on, what is not known may be skipped.
  private static let firstSkippable: UInt8 = 0x80
  private static let streamStart: UInt8 = 0xff
  private static let mark = Array("sNaPpY".utf8)
  /// Three bytes of packed data copy at most 64.
  private static let highestRatio: UInt64 = 22

  private let offset: UInt64
  private let kind: UInt8
  /// Behind the header and the checksum, half-open.
  let data: Range<UInt64>
  /// 0 for a frame without data.
  let unpackedByteCount: UInt32

  /// Why a frame cannot be unpacked.
  enum Failure: Error {
    case locked(ImageError)
    case damaged(ImageError)
  }

  /// Reads a header; `nil` where the file ends before the frame does.
  init?(at offset: UInt64, in file: DumpFile) throws(ImageError) {
    guard let word = file.integer(UInt32.self, at: offset) else { return nil }
    self.offset = offset
    kind = UInt8(truncatingIfNeeded: word)
    let length = UInt64(word >> 8)
    let start = offset + Self.headerByteCount
    guard file.holds(length, at: start) else { return nil }
    let hasData = kind == Self.packed || kind == Self.plain
    guard !hasData || length >= Self.checksumByteCount else {
      throw Self.error(file, offset, "no room for its checksum")
    }
    data = (start + (hasData ? Self.checksumByteCount : 0))..<start + length
    switch kind {
    case Self.packed:
      guard let count = Self.statedByteCount(data, in: file), count <= UInt32(Self.byteLimit),
        UInt64(count) <= Self.highestRatio * (data.upperBound - data.lowerBound)
      else { throw Self.error(file, offset, "more bytes than a frame unpacks to") }
      unpackedByteCount = count
    case Self.plain:
      guard data.upperBound - data.lowerBound <= UInt64(Self.byteLimit) else {
        throw Self.error(file, offset, "more bytes than a frame unpacks to")
      }
      unpackedByteCount = UInt32(data.upperBound - data.lowerBound)
    case Self.streamStart:
      guard file.bytes(at: start, count: Int(length)) == Self.mark else {
        throw Self.error(file, offset, "not the mark of a stream")
      }
      unpackedByteCount = 0
    default:
      guard kind >= Self.firstSkippable else {
        throw Self.error(file, offset, "kind \(hexadecimal(kind)), which is not known")
      }
      unpackedByteCount = 0
    }
  }

  /// A frame that was there when the index was made.
  init(again offset: UInt64, in file: DumpFile) throws(Failure) {
    do throws(ImageError) {
      guard let frame = try SnappyFrame(at: offset, in: file) else {
        throw Self.error(file, offset, "cannot be read")
      }
      self = frame
    } catch {
      throw .damaged(error)
    }
  }

  /// The number of bytes that packed data begins with: seven bits in a byte, the lowest first, and the
  /// highest bit set where more follow.
  private static func statedByteCount(_ data: Range<UInt64>, in file: DumpFile) -> UInt32? {
    var count: UInt64 = 0
    for index in 0..<min(5, data.upperBound - data.lowerBound) {
      guard let byte = file.integer(UInt8.self, at: data.lowerBound + index) else { return nil }
      count |= UInt64(byte & 0x7f) << (7 * index)
      if byte & 0x80 == 0 { return UInt32(exactly: count) }
    }
    return nil
  }

  /// Appends what the frame unpacks to; nothing when it fails.
  ///
  /// - Precondition: there is room for it.
  func unpack(
    _ byteCount: Int, of file: DumpFile, into output: inout OutputSpan<UInt8>
  ) throws(Failure) {
    guard byteCount == Int(unpackedByteCount) else {
      throw .damaged(error("has changed since the file was opened", in: file))
    }
    var codec: LoadedCodec?
    if kind == Self.packed {
      guard let loaded = PageCodec.snappy.loaded else {
        throw .locked(KdumpMemory.missing([.snappy], at: error("", in: file)))
      }
      codec = loaded
    }
    let isWhole = file.withBytes(
      at: data.lowerBound, count: Int(data.upperBound - data.lowerBound)
    ) {
      if let codec { return codec.unpack($0, byteCount, into: &output) }
      output.append(copying: $0)
      return true
    }
    guard isWhole == true else { throw .damaged(error("data that does not unpack", in: file)) }
    let checksum = file.integer(UInt32.self, at: data.lowerBound - Self.checksumByteCount)
    let sum = CRC32C.of(output.span.extracting((output.count - byteCount)...))
    guard checksum == (sum >> 15 | sum << 17) &+ 0xa282_ead8 else {
      output.removeLast(byteCount)
      throw .damaged(error("a checksum that does not fit what it unpacks to", in: file))
    }
  }

  func error(_ found: String, in file: DumpFile) -> ImageError { Self.error(file, offset, found) }

  private static func error(_ file: DumpFile, _ offset: UInt64, _ found: String) -> ImageError {
    ImageError(
      file: file.path, place: "AVML dump, Snappy frame", offset: offset, found: found,
      remedy: "the dump is damaged, copy it again, or try 'avml-convert'")
  }
}

/// The Castagnoli checksum.
///
/// Source: RFC 3720, 12.1 and B.4.
enum CRC32C {
  /// Eight tables of 256: what a byte does to the sum from zero to seven bytes before the last.
  private static let tables: [UInt32] = {
    var tables = [UInt32](repeating: 0, count: 8 * 256)
    for byte in 0..<256 {
      var sum = UInt32(byte)
      for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1 == 0 ? 0 : 0x82f6_3b78) }
      tables[byte] = sum
    }
    for place in 256..<tables.count {
      let before = tables[place - 256]
      tables[place] = before >> 8 ^ tables[Int(before & 0xff)]
    }
    return tables
  }()

  /// - Complexity: O(*n*), eight bytes at a time.
  static func of(_ bytes: Span<UInt8>) -> UInt32 {
    let tables = tables.span
    var sum = UInt32.max
    var offset = 0
    while bytes.count - offset >= 8 {
      let word = bytes.integer(UInt64.self, at: offset) ^ UInt64(sum)
      sum = 0
      for byte in 0..<8 {
        sum ^= tables[(7 - byte) * 256 + Int(word >> UInt64(8 * byte) & 0xff)]
      }
      offset += 8
    }
    while offset < bytes.count {
      sum = sum >> 8 ^ tables[Int((sum ^ UInt32(bytes[offset])) & 0xff)]
      offset += 1
    }
    return ~sum
  }
}
