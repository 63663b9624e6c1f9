import IOMMUFormats

/// Memory that cannot be looked at in place: packed, rearranged or read piece by piece.
protocol PagedMemory: AnyObject, Sendable {
  /// What answers: half-open, ascending, not touching each other.
  var backedRanges: [Range<PhysicalAddress>] { get }
  /// Why pages that are there could not be given: each reason once, with the lowest of its pages.
  var problems: [ImageError] { get }
  /// The same of pages that begin below an address.
  func problems(before address: UInt64) -> [ImageError]

  /// Appends bytes from `address` on until `output` is full or one does not answer.
  func read(at address: UInt64, into output: inout OutputSpan<UInt8>)

  /// What the dump has of an address.
  func presence(of address: UInt64) -> Presence
}

/// Pieces of memory whose bytes do not lie in a mapped file as they are.
final class PieceMemory: PagedMemory {
  let source: any PieceSource
  /// Ascending, not overlapping, none of them lost.
  let pieces: [ImagePiece]
  let backedRanges: [Range<PhysicalAddress>]

  init(_ source: any PieceSource, pieces: [ImagePiece]) {
    self.source = source
    self.pieces = pieces
    backedRanges = joinedRanges(pieces)
  }

  var problems: [ImageError] { source.problems }
  /// All of them: a source knows its own places, and not those of memory.
  func problems(before _: UInt64) -> [ImageError] { problems }

  /// The piece that holds an address.
  private func piece(at address: UInt64) -> ImagePiece? {
    let index = pieces.partitioningIndex { $0.end > address }
    guard index < pieces.count, pieces[index].start <= address else { return nil }
    return pieces[index]
  }

  func read(at address: UInt64, into output: inout OutputSpan<UInt8>) {
    var place = address
    while !output.isFull, let piece = piece(at: place) {
      let count = Int(min(UInt64(output.freeCapacity), piece.end - place))
      if case .file(let offset) = piece.source {
        guard source.copy(at: offset + (place - piece.start), count: count, into: &output) else {
          return
        }
      } else {
        output.append(repeating: 0, count: count)
      }
      // At most the piece's end.
      place += UInt64(count)
    }
  }

  func presence(of address: UInt64) -> Presence {
    guard let piece = piece(at: address) else { return .absent }
    guard case .file(let offset) = piece.source else { return .zeroFill }
    return source.presence(at: offset + (address - piece.start))
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
