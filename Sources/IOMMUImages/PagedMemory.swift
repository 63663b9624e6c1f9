import IOMMUFormats

/// Memory that cannot be looked at in place: packed, rearranged or read piece by piece.
protocol PagedMemory: Sendable {
  /// What answers: half-open, ascending, not touching each other.
  var backedRanges: [Range<PhysicalAddress>] { get }
  /// Pages of 4 KiB that the file may store, whatever its headers claim.
  var storedPageCount: UInt64 { get }
  /// Why pages that are there could not be given, each reason once.
  var problems: [ImageError] { get }

  /// Copies bytes from `address` up to the buffer's length or the first that does not answer.
  ///
  /// - Returns: Bytes copied.
  func read(at address: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int

  /// What the dump has of an address.
  func presence(of address: UInt64) -> Presence
}

/// Pieces of memory whose bytes lie in a file that is read through a ``DumpFile``.
struct PieceMemory: PagedMemory {
  let file: DumpFile
  /// Ascending, not overlapping, none of them lost.
  let pieces: [ImagePiece]
  let backedRanges: [Range<PhysicalAddress>]

  init(file: DumpFile, pieces: [ImagePiece]) {
    self.file = file
    self.pieces = pieces
    backedRanges = joinedRanges(pieces)
  }

  /// A device has no length of its own; what is in its pieces counts.
  var storedPageCount: UInt64 {
    let stored = pieces.reduce(UInt64(0)) {
      // Pieces do not overlap: the sum is at most 2^64 − 1.
      $0 + ($1.source == .zeros ? 0 : $1.byteCount)
    }
    return min(stored, file.file.byteCount) / PageCount.pageByteCount + 1
  }

  /// The file's own problem says what failed.
  var problems: [ImageError] { [] }

  /// The piece that holds an address.
  private func piece(at address: UInt64) -> ImagePiece? {
    let index = pieces.partitioningIndex { $0.end > address }
    guard index < pieces.count, pieces[index].start <= address else { return nil }
    return pieces[index]
  }

  func read(at address: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    var copied = 0
    while copied < buffer.count {
      let (place, wraps) = address.addingReportingOverflow(UInt64(copied))
      guard !wraps, let piece = piece(at: place) else { break }
      let count = Int(min(UInt64(buffer.count - copied), piece.end - place))
      let target = UnsafeMutableRawBufferPointer(rebasing: buffer[copied..<copied + count])
      if case .file(let offset) = piece.source {
        guard file.copy(at: offset + (place - piece.start), into: target) else { break }
      } else {
        target.initializeMemory(as: UInt8.self, repeating: 0)
      }
      copied += count
    }
    return copied
  }

  func presence(of address: UInt64) -> Presence {
    guard let piece = piece(at: address) else { return .absent }
    return piece.source == .zeros ? .zeroFill : .stored
  }
}

/// The ranges that pieces cover, neighbours joined.
func joinedRanges(_ pieces: [ImagePiece]) -> [Range<PhysicalAddress>] {
  var ranges: [Range<PhysicalAddress>] = []
  for piece in pieces {
    let start = PhysicalAddress(piece.start)
    let end = PhysicalAddress(piece.end)
    if let last = ranges.last, last.upperBound == start {
      ranges[ranges.count - 1] = last.lowerBound..<end
    } else {
      ranges.append(start..<end)
    }
  }
  return ranges
}
