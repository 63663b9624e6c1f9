import IOMMUFormats

/// Numbers of one piece of a mapping.
struct DMATracePiece: Sendable, Hashable {
  var iova: UInt64
  var byteCount: UInt64
}

/// Which numbers lists of memory were mapped to: an event that unmaps a list names the memory only.
struct MappedLists: Sendable {
  /// Whose list it is, and what memory is in it.
  private struct Key: Hashable {
    var source: DMATraceEvent.Source
    var memory: [UInt64]

    init(_ memory: [UInt64], of source: DMATraceEvent.Source) {
      self.source = source
      self.memory = Array(memory.prefix(MappedLists.listLimit))
    }
  }

  /// Pieces of a list that a kernel prints when it is mapped; all may be printed when it is unmapped.
  private static let listLimit = 128
  /// Numbers that are kept of either half; then the older half is forgotten, as a trace may leave unmaps
  /// out.
  private let limit: Int
  private var recent: [Key: [[DMATracePiece]]] = [:]
  private var older: [Key: [[DMATracePiece]]] = [:]
  /// Numbers in `recent`.
  private var count = 0

  init(limit: Int = 1 << 20) { self.limit = limit }

  mutating func map(
    _ memory: [UInt64], of source: DMATraceEvent.Source, to pieces: [DMATracePiece]
  ) {
    let key = Key(memory, of: source)
    recent[key, default: []].append(pieces)
    count += Self.weight(key, pieces)
    guard count > limit else { return }
    older = recent
    recent = [:]
    count = 0
  }

  /// What a list was mapped to last; forgets it. `nil` where that is not known.
  mutating func unmap(_ memory: [UInt64], of source: DMATraceEvent.Source) -> [DMATracePiece]? {
    let key = Key(memory, of: source)
    if let pieces = Self.takeLast(of: key, from: &recent) {
      count -= Self.weight(key, pieces)
      return pieces
    }
    return Self.takeLast(of: key, from: &older)
  }

  private static func weight(_ key: Key, _ pieces: [DMATracePiece]) -> Int {
    key.memory.count + 2 * pieces.count + 4
  }

  private static func takeLast(
    of key: Key, from lists: inout [Key: [[DMATracePiece]]]
  ) -> [DMATracePiece]? {
    guard let place = lists.index(forKey: key) else { return nil }
    let pieces = lists.values[place].removeLast()
    if lists.values[place].isEmpty { lists.remove(at: place) }
    return pieces
  }
}
