import IOMMUFormats
import IOMMUTranslation
import IOMMUWorkloads

extension Subject {
  /// The same work by one thread and by two.
  public static let threads = Subject(
    "Threads", "single calls by two threads that share the work of one"
  ) {
    let suite = try Suite.shared()
    return try [
      suite.threadComparison(.random1GiB, passes: 16),
      suite.threadComparison(.random16GiB, passes: 4),
    ]
  }
}

extension Suite {
  /// The addresses are two halves, whoever works on them: no thread has more of the tables to keep
  /// in its caches than another.
  ///
  /// - Parameter passes: How often a thread goes through a half: enough that starting threads does
  ///   not count.
  fileprivate func threadComparison(_ workload: Workload, passes: Int) throws -> Comparison {
    let translator = tables.translator(workload.kind)
    func threads(_ count: Int) -> Run {
      { addresses, answers in
        // Safe: each half of the answers is written by one thread.
        nonisolated(unsafe) let (addresses, answers) = (addresses, answers)
        _ = runThreads(count) { number in
          let run = TranslatorRuns(translator).calls
          for half in stride(from: number, to: 2, by: count) {
            let range = half * addresses.count / 2..<(half + 1) * addresses.count / 2
            for _ in 0..<passes {
              run(
                UnsafeBufferPointer(rebasing: addresses[range]),
                UnsafeMutableBufferPointer(rebasing: answers[range]))
            }
          }
          return 0
        }
      }
    }
    var comparison = try comparison(
      workload, [Walker("one thread", threads(1)), Walker("two threads", threads(2))],
      [Ratio("two threads", to: "one thread", .atLeast(1.9))])
    comparison.units *= passes
    comparison.clock = .wall
    comparison.notes.append("the ratio is of throughputs; it needs two idle processors")
    return comparison
  }
}
