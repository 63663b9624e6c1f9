import IOMMUFormats
import IOMMUImages

/// Which mappings of a truth file begin and end at each place of a trace.
///
/// Walks along with a replay: each step goes to a place in the trace, never back.
struct MappingLedger: Sendable {
  private let mappings: [TraceMapping]
  /// Indices of `mappings` by the place where each ends; those that live on are left out.
  private let byEnd: [Int]
  private var nextToBegin = 0
  private var nextToEnd = 0

  /// - Parameter mappings: In any order.
  init(_ mappings: [TraceMapping]) {
    let sorted = mappings.sorted { $0.firstSequence < $1.firstSequence }
    self.mappings = sorted
    byEnd = sorted.indices.filter { sorted[$0].endSequence != nil }
      .sorted { sorted[$0].endSequence! < sorted[$1].endSequence! }
  }

  /// Whether all mappings have begun, and all that end have ended.
  var isAtEnd: Bool { nextToBegin == mappings.count && nextToEnd == byEnd.count }

  /// Goes on to the place after `eventCount` events.
  ///
  /// - Returns: The mappings whose end lies at or before it, then those that begin at or before it,
  ///   each once. One that begins and ends within one step is in both.
  mutating func advance(
    to eventCount: UInt64
  ) -> (ended: [TraceMapping], begun: ArraySlice<TraceMapping>) {
    let firstToBegin = nextToBegin
    while nextToBegin < mappings.count, mappings[nextToBegin].firstSequence <= eventCount {
      nextToBegin += 1
    }
    var ended: [TraceMapping] = []
    while nextToEnd < byEnd.count, mappings[byEnd[nextToEnd]].endSequence! <= eventCount {
      ended.append(mappings[byEnd[nextToEnd]])
      nextToEnd += 1
    }
    return (ended, mappings[firstToBegin..<nextToBegin])
  }
}
