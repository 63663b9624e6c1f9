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
      suite.portComparison(passes: 8),
    ]
  }
}

extension Suite {
  /// Four ports of one unit, each with a quarter of the addresses: what one counts and keeps is in no
  /// cache line of another's.
  fileprivate func portComparison(passes: Int) throws -> Comparison {
    func threads(_ count: Int) throws -> Run {
      // Safe: each port and each quarter of the answers is one thread's.
      nonisolated(unsafe) let ports = try RemappedPort.several(
        4, tables, .withoutPagingStructures())
      return { addresses, answers in
        nonisolated(unsafe) let (addresses, answers) = (addresses, answers)
        _ = runThreads(count) { number in
          for quarter in stride(from: number, to: 4, by: count) {
            let range = quarter * addresses.count / 4..<(quarter + 1) * addresses.count / 4
            let run = ports[quarter].calls
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
    return try threadComparison(
      .zipf4GiB, passes: passes, one: threads(1), two: threads(2), what: "four ports, ")
  }

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
    return try threadComparison(workload, passes: passes, one: threads(1), two: threads(2))
  }

  private func threadComparison(
    _ workload: Workload, passes: Int, one: @escaping Run, two: @escaping Run, what: String = ""
  ) throws -> Comparison {
    let names = (one: what + "one thread", two: what + "two threads")
    var comparison = try comparison(
      workload, [Walker(names.one, one), Walker(names.two, two)],
      [Ratio(names.two, to: names.one, .atLeast(1.9))])
    comparison.units *= passes
    comparison.clock = .wall
    comparison.notes.append("the ratio is of throughputs; it needs two idle processors")
    return comparison
  }
}
