import IOMMUKdump
import Testing

/// The outcome matrix of the field, executed. Expected words are those that have been worked out by hand
/// for the machine M1, P1/P2/P3; what the lab finds otherwise is marked, with the reason.
@Suite struct DocumentMatrixTests {
  struct Line: Sendable, CustomTestStringConvertible {
    var strategy: CrashStrategy
    var unit: CrashUnit
    var a, b, c, f, d: String

    init(
      _ strategy: CrashStrategy, _ unit: CrashUnit, a: String, b: String, c: String, f: String,
      d: String = "OWN"
    ) {
      self.strategy = strategy
      self.unit = unit
      (self.a, self.b, self.c, self.f, self.d) = (a, b, c, f, d)
    }

    var testDescription: String { "\(strategy.rawValue) on \(unit.rawValue)" }
  }

  /// Strategies that mean the same on every unit with a table for each device.
  static let shared: [(CrashStrategy, a: String, b: String, c: String, f: String, d: String)] = [
    (.blind, "OWN", "BLK-F", "OWN", "OWN", "BLK-F"),
    (.offAndBlind, "MA", "SMEAR", "KILL", "MA", "OWN"),
    (
      .offAndAnew, "MA/BLK-F/BLK-F", "SMEAR/BLK-F/BLK-F", "KILL/BLK-F/BLK-F", "MA/BLK-F/KILL", "OWN"
    ),
    (.anew, "OWN/BLK-F/BLK-F", "BLK-F", "OWN/BLK-F/BLK-F", "OWN/BLK-F/KILL", "OWN"),
    (.offInCapture, "OWN/MA/MA", "BLK-F/SMEAR/SMEAR", "OWN/KILL/KILL", "OWN/MA/MA", "OWN"),
    // c was not handed out: a device that goes there is wild.
    (.rule, "OWN", "BLK-F", "KILL", "OWN", "OWN"),
    (.resetLinks, "OWN/-/-", "BLK-F/-/-", "OWN/-/-", "OWN/-/-", "OWN"),
    (.busMasterOff, "-", "-", "-", "-", "OWN"),
    (.copyContexts, "OWN/OWN/BLK-F", "BLK-F", "OWN/OWN/BLK-F", "OWN/OWN/KILL", "OWN"),
    // P2 begins when the IOMMU code is done; the moment off is looked at by itself.
    (.copyFails, "OWN/BLK-F/BLK-F", "BLK-F", "OWN/BLK-F/BLK-F", "OWN/BLK-F/KILL", "OWN"),
    // Numbers are addresses; c would be the crash kernel's memory, which nobody hands out.
    (.passThrough, "OWN", "SMEAR", "KILL", "OWN", "OWN"),
  ]

  static let lines: [Line] =
    [CrashUnit.vtd, .vtdScalable, .amdvi].flatMap { unit in
      shared.filter { unit.strategies.contains($0.0) }.map {
        Line($0.0, unit, a: $0.a, b: $0.b, c: $0.c, f: $0.f, d: $0.d)
      }
    } + [
      Line(.untranslated, .nommu, a: "OWN", b: "SMEAR", c: "KILL", f: "OWN"),
      Line(.untranslated, .swiotlb, a: "OWN", b: "SMEAR", c: "KILL", f: "OWN"),
      Line(.copyPageTables, .vtd, a: "OWN", b: "BLK-F", c: "OWN", f: "OWN"),
      Line(.liveUpdate, .vtd, a: "OWN", b: "BLK-F", c: "OWN", f: "OWN"),
      Line(
        .reuseInPlace, .amdvi, a: "OWN/OWN/BLK-F", b: "BLK-F", c: "OWN/OWN/BLK-F",
        f: "OWN/OWN/KILL"),
      Line(.reservation, .vtd, a: "OWN", b: "BLK-F", c: "BLK-F", f: "OWN", d: "BLK-F"),
      Line(.reservation, .amdvi, a: "OWN", b: "BLK-F", c: "BLK-F", f: "OWN", d: "BLK-F"),
      // The number lies in the part of the range that is not mapped, and is handed out.
      Line(.ruleForPages, .vtd, a: "OWN", b: "BLK-F", c: "OWN", f: "OWN"),
      Line(.ruleForDevices, .vtd, a: "OWN", b: "BLK-F", c: "KILL", f: "OWN"),
      Line(.blind, .calgary, a: "OWN", b: "BLK-F", c: "OWN", f: "OWN", d: "BLK-F"),
      Line(.reuseTables, .calgary, a: "OWN", b: "BLK-F", c: "OWN", f: "OWN"),
      Line(
        .reuseTablesFreeing, .calgary, a: "OWN", b: "BLK-F/BLK-F/KILL", c: "OWN", f: "OWN"),
      Line(.rule, .calgary, a: "OWN", b: "BLK-F", c: "KILL", f: "OWN"),
      Line(.reservation, .calgary, a: "OWN", b: "BLK-F", c: "BLK-F", f: "OWN", d: "BLK-F"),
      // Numbers outside the aperture are addresses.
      Line(.blind, .gart, a: "OWN", b: "SMEAR", c: "KILL", f: "OWN"),
      Line(.rule, .gart, a: "OWN", b: "SMEAR", c: "KILL", f: "OWN"),
      Line(.offAndBlind, .gart, a: "MA", b: "SMEAR", c: "KILL", f: "MA"),
      Line(.anew, .gart, a: "OWN/MA/MA", b: "SMEAR", c: "KILL", f: "OWN/MA/MA"),
      Line(.reuseWithFloor, .pseries, a: "OWN", b: "BLK-F", c: "OWN", f: "OWN"),
      Line(
        .reuseWithFloorFreeing, .pseries, a: "OWN", b: "BLK-F/BLK-F/KILL", c: "OWN", f: "OWN"),
      // zx1 translates from 1 GiB on: a number in the crash kernel's range passes.
      Line(.leaveAlone, .zx1, a: "OWN", b: "BLK-F", c: "KILL", f: "OWN"),
      // The event queue stays off in a crash kernel: what its own tables stop leaves no record either.
      Line(
        .abort, .smmuv3, a: "OWN/BLK-S/BLK-S", b: "BLK-F/BLK-S/BLK-S", c: "OWN/BLK-S/BLK-S",
        f: "OWN/BLK-S/KILL"),
      Line(
        .bypass, .smmuv3, a: "OWN/MA/BLK-F", b: "BLK-F/SMEAR/BLK-F", c: "OWN/KILL/BLK-F",
        f: "OWN/MA/KILL"),
      Line(
        .adopt, .smmuv3, a: "OWN/OWN/BLK-S", b: "BLK-F/BLK-S/BLK-S", c: "OWN/OWN/BLK-S",
        f: "OWN/OWN/KILL"),
    ]

  @Test(arguments: lines)
  func `an executed line is what the field expects`(line: Line) throws {
    for caches in [CacheLevel.none, .everything] {
      let played = try CrashMatrix.line(line.strategy, on: line.unit, caches: caches)
      let words = LeftoverStream.Row.allCases.map(played.text)
      #expect(words == [line.a, line.b, line.c, line.f], "caches: \(caches)")
      #expect(Set(played.ownIO.map(\.rawValue)) == [line.d], "caches: \(caches)")
    }
  }

  @Test func `every other strategy of every unit can be played`() throws {
    for unit in CrashUnit.allCases {
      for strategy in unit.strategies
      where !Self.lines.contains(where: { $0.unit == unit && $0.strategy == strategy }) {
        let line = try CrashMatrix.line(strategy, on: unit)
        #expect(line.run.failure == nil, "\(strategy.rawValue) on \(unit.rawValue)")
        #expect(line.ownIO.count == 2)
      }
    }
  }
}
