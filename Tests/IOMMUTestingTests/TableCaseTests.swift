import IOMMUFormats
import IOMMUTestSupport
import IOMMUTesting
import IOMMUTranslation
import Testing

@Suite struct TableCaseTests {
  @Test(arguments: TableCase.Kind.allCases, [false, true])
  func `the library answers as cases expect`(kind: TableCase.Kind, isDamaged: Bool) throws {
    for seed in (0..<60 as Range<UInt64>) {
      let tables = TableCase(kind, seed: seed, isDamaged: isDamaged)
      #expect(tables.probes.count > 8)
      try tables.check { probe in
        TableCase.Answer(
          tables.machine.resolve(probe.device.requester, pasid: probe.pasid, in: tables.memory)
            .translate(probe.iova, byteCount: 1, access: probe.access, in: tables.memory))
      }
    }
  }

  @Test(arguments: TableCase.Kind.allCases)
  func `a seed decides everything`(kind: TableCase.Kind) throws {
    let (one, other) = (
      TableCase(kind, seed: 5, isDamaged: true), TableCase(kind, seed: 5, isDamaged: true)
    )
    #expect(one.probes == other.probes)
    #expect(one.damage == other.damage)
    try requireSameBytes(one, other)
    #expect(TableCase(kind, seed: 6, isDamaged: true).probes != one.probes)
  }

  @Test(arguments: TableCase.Kind.allCases)
  func `most cases that are to be damaged have requests that meet it`(kind: TableCase.Kind) {
    let count = (0..<40 as Range<UInt64>).filter { seed in
      let damaged = TableCase(kind, seed: seed, isDamaged: true)
      let valid = TableCase(kind, seed: seed, isDamaged: false)
      return damaged.damage != nil && valid.damage == nil
        && Set(damaged.probes) != Set(valid.probes)
    }.count
    #expect(count > 24)
  }

  @Test func `a wrong answer is told with the request and the damage`() throws {
    let tables = TableCase(.gart, seed: 1, isDamaged: false)
    let first = try #require(tables.probes.first)
    do {
      try tables.check { $0 == first ? .fault(9) : $0.expected }
      Issue.record("the wrong answer is taken")
    } catch let mismatch as TableMismatch {
      #expect(
        mismatch.summary
          == "gart, seed 1: \(first) is answered fault 0x9, expected \(first.expected)")
    }
  }
}
