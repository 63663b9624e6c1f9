/// A line of addresses with the empty stretches left out, for drawing.
///
/// I/O addresses cluster at a few places of a space that is otherwise empty: each cluster becomes a
/// window, as wide as the root of its size, so that 64 KiB can be seen beside 4 GiB.
package struct AddressAxis {
  package struct Window {
    package var range: ClosedRange<UInt64>
    /// Where the window begins, and how wide it is.
    package var x: Double
    package var width: Double
  }

  package private(set) var windows: [Window] = []

  /// Windows at most: more cannot be told apart.
  private static let limit = 9
  private static let gap = 14.0
  /// Clusters grow to whole mebibytes.
  private static let granule: UInt64 = 1 << 20

  /// - Parameters:
  ///   - ranges: What has to be on the line, in any order; may overlap.
  ///   - start: Where the line begins in the drawing.
  package init(_ ranges: [ClosedRange<UInt64>], start: Double, width: Double) {
    var clusters: [ClosedRange<UInt64>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      let mask = Self.granule - 1
      let grown = (range.lowerBound & ~mask)...(range.upperBound | mask)
      if let last = clusters.last,
        last.upperBound == .max || grown.lowerBound <= last.upperBound + 1
      {
        clusters[clusters.count - 1] = last.lowerBound...max(last.upperBound, grown.upperBound)
      } else {
        clusters.append(grown)
      }
    }
    while clusters.count > Self.limit {
      // The nearest neighbours become one.
      let index = (1..<clusters.count).min {
        clusters[$0].lowerBound - clusters[$0 - 1].upperBound
          < clusters[$1].lowerBound - clusters[$1 - 1].upperBound
      }!
      clusters[index - 1] = clusters[index - 1].lowerBound...clusters[index].upperBound
      clusters.remove(at: index)
    }
    let weights = clusters.map { Double($0.upperBound - $0.lowerBound).squareRoot() }
    let total = weights.reduce(0, +)
    // Half of the room is shared evenly: every window has a label to carry.
    let room = width - Self.gap * Double(max(0, clusters.count - 1))
    var x = start
    for (cluster, weight) in zip(clusters, weights) {
      let share = 0.5 / Double(clusters.count) + 0.5 * weight / total
      windows.append(Window(range: cluster, x: x, width: room * share))
      x += room * share + Self.gap
    }
  }

  /// The part of the line that a range takes, window by window.
  package func spans(of range: ClosedRange<UInt64>) -> [(x: Double, width: Double)] {
    windows.compactMap { window in
      guard window.range.overlaps(range) else { return nil }
      let part = range.clamped(to: window.range)
      let scale =
        window.width / (Double(window.range.upperBound - window.range.lowerBound) + 1)
      return (
        window.x + Double(part.lowerBound - window.range.lowerBound) * scale,
        (Double(part.upperBound - part.lowerBound) + 1) * scale
      )
    }
  }
}

/// One lane of a drawing: what is where, a unit of width at a time.
///
/// However many ranges there are, a lane has no more rectangles than units.
package struct Lane: Sendable {
  private let start: Double
  private var states: [UInt8]

  package init(start: Double, width: Double) {
    self.start = start
    states = [UInt8](repeating: 0, count: Int(width.rounded(.up)) + 1)
  }

  /// Adds bits to what is at a span; the narrowest span still shows.
  package mutating func mark(_ span: (x: Double, width: Double), _ bits: UInt8) {
    let first = max(0, min(states.count - 1, Int(span.x - start)))
    let last = max(first, min(states.count - 1, Int(span.x + span.width - start - 0.01)))
    for index in first...last { states[index] |= bits }
  }

  /// Runs of the same state, those with nothing left out.
  package var runs: [(x: Double, width: Double, state: UInt8)] {
    var runs: [(x: Double, width: Double, state: UInt8)] = []
    for (index, state) in states.enumerated() where state != 0 {
      let x = start + Double(index)
      if let last = runs.last, last.state == state, last.x + last.width == x {
        runs[runs.count - 1].width += 1
      } else {
        runs.append((x, 1, state))
      }
    }
    return runs
  }
}
