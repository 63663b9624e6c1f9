/// A run of physical memory and where its bytes come from.
struct ImagePiece: Equatable {
  enum Source: Equatable {
    /// Bytes of the file, from this offset on.
    case file(UInt64)
    case zeros
    /// Bytes that the file should have and does not.
    case lost

    /// The same further on.
    func advanced(by byteCount: UInt64) -> Source {
      if case .file(let offset) = self { .file(offset + byteCount) } else { self }
    }
  }

  /// First physical byte.
  var start: UInt64
  /// One past the last; above `start`.
  var end: UInt64
  var source: Source
  /// The piece with the smaller number covers the others.
  var priority: UInt64

  var byteCount: UInt64 { end - start }

  /// Whether `next` goes on where this piece ends, in memory and in the file.
  func continues(into next: ImagePiece) -> Bool {
    end == next.start && source.advanced(by: byteCount) == next.source
  }
}

/// Pieces that may overlap, made into ascending ones that do not: of several, the one of the
/// smallest priority stays.
///
/// The sweep goes up through memory and keeps the pieces that cover the present place in a heap. A
/// step ends where the covering piece ends or the next begins, so that a million headers over the
/// same bytes cost a million steps, not their square.
///
/// - Complexity: O(*n* log *n*).
func disjointPieces(_ pieces: [ImagePiece]) -> [ImagePiece] {
  let sorted = pieces.sorted { $0.start < $1.start }
  var result: [ImagePiece] = []
  var heap = PieceHeap()
  var position: UInt64 = 0
  var next = 0
  while next < sorted.count || heap.top != nil {
    if heap.top == nil { position = max(position, sorted[next].start) }
    while next < sorted.count, sorted[next].start <= position {
      heap.push(sorted[next])
      next += 1
    }
    while let top = heap.top, top.end <= position { heap.pop() }
    guard let top = heap.top else { continue }
    let end = next < sorted.count ? min(top.end, sorted[next].start) : top.end
    let piece = ImagePiece(
      start: position, end: end, source: top.source.advanced(by: position - top.start),
      priority: top.priority)
    if let last = result.last, last.continues(into: piece) {
      result[result.count - 1].end = end
    } else {
      result.append(piece)
    }
    position = end
  }
  return result
}

/// A binary heap, the piece of the smallest priority on top.
private struct PieceHeap {
  private var pieces: [ImagePiece] = []

  var top: ImagePiece? { pieces.first }

  mutating func push(_ piece: ImagePiece) {
    pieces.append(piece)
    var child = pieces.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard pieces[child].priority < pieces[parent].priority else { return }
      pieces.swapAt(child, parent)
      child = parent
    }
  }

  /// - Precondition: the heap is not empty.
  mutating func pop() {
    pieces.swapAt(0, pieces.count - 1)
    pieces.removeLast()
    var parent = 0
    while true {
      var smallest = parent
      for child in (2 * parent + 1)...(2 * parent + 2) where child < pieces.count {
        if pieces[child].priority < pieces[smallest].priority { smallest = child }
      }
      guard smallest != parent else { return }
      pieces.swapAt(parent, smallest)
      parent = smallest
    }
  }
}
