import Testing

@testable import IOMMUCommands

@Suite struct BenchTests {
  @Test(arguments: [
    (["--span", "1M"], "whole GiB"), (["--span", "128G"], "whole GiB"),
    (["--threads", "0"], "from 1 to 64"), (["--rounds", "0"], "from 1 to 99"),
    (["--table", "x"], "vtd4"),
  ])
  func `what cannot be measured is a usage error`(arguments: [String], text: String) {
    do {
      _ = try Bench.parse(arguments)
      Issue.record("\(arguments) is taken")
    } catch {
      #expect(Bench.message(for: error).contains(text))
    }
  }

  @Test func `every method is measured for every pattern`() throws {
    let run = try BenchRun(kinds: [.gatt], span: 1 << 30, rounds: 1, count: 1 << 10)
    let rows = run.rows(patterns: [.hot, .random], threads: [1, 2])
    #expect(rows.map(\.method) == ["single calls", "batch", "single calls", "batch", "batch"])
    #expect(rows.map(\.threads) == [1, 1, 1, 1, 2])
    // 262,144 pages of four bytes an entry.
    #expect(rows.map(\.footprintBytes) == [8, 8, 1 << 20, 1 << 20, 1 << 20])
    #expect(rows.allSatisfy { $0.nanoseconds > 0 && $0.translationsPerSecond > 0 })
  }

  @Test func `a drawing that cannot be written is told of before anything is measured`() throws {
    let bench = try Bench.parse(["--plot", "/nonexistent/cost.svg"])
    var text = ""
    #expect(throws: (any Error).self) { try bench.report(to: &text) }
    #expect(text.isEmpty)
  }
}
