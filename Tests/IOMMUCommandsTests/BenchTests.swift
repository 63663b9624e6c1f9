import Testing

@testable import IOMMUCommands

@Suite struct BenchTests {
  @Test(arguments: [
    (["--span", "1M"], "whole GiB"), (["--span", "128G"], "whole GiB"),
    (["--threads", "0"], "from 1 to 64"), (["--rounds", "0"], "from 1 to 99"),
    (["--table", "x"], "vtd4"), (["--unit", "--span", "512G"], "1G to 256G"),
    (["--unit", "--table", "tce"], "leave out --table"),
    (["--unit", "--threads", "1"], "leave out --threads"),
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

  @Test func `a unit is measured by stages and by bytes of leaf tables`() throws {
    let rows = try UnitBenchRun(span: 5 << 30, rounds: 1, count: 1 << 10).rows()
    let titles = ["first stage", "second stage", "first stage over second"]
    let rowTitles: [String] = titles.flatMap { Array(repeating: $0, count: 4) }
    #expect(rows.map(\.table) == rowTitles)
    #expect(rows.prefix(4).map(\.method) == ["single calls", "batch", "single calls", "batch"])
    // 1 and 4 GiB of pages of 4 KiB, eight bytes an entry, of one stage and of two.
    let oneStage: [UInt64] = [0x20_0000, 0x20_0000, 0x80_0000, 0x80_0000]
    let twoStages: [UInt64] = [0x40_0000, 0x40_0000, 0x100_0000, 0x100_0000]
    #expect(rows.prefix(4).map(\.footprintBytes) == oneStage)
    #expect(rows.suffix(4).map(\.footprintBytes) == twoStages)
    #expect(rows.allSatisfy { $0.nanoseconds > 0 && $0.translationsPerSecond > 0 })
    let plot = UnitBenchRun.plot(rows)
    #expect(plot.series.map(\.name).first == "first stage, single calls")
    let mebibytes: [Double] = plot.series.last?.points.map(\.x) ?? []
    #expect(mebibytes == [4, 16])
  }

  @Test func `a drawing that cannot be written is told of before anything is measured`() throws {
    let bench = try Bench.parse(["--plot", "/nonexistent/cost.svg"])
    var text = ""
    #expect(throws: (any Error).self) { try bench.report(to: &text) }
    #expect(text.isEmpty)
  }
}
