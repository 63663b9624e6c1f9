import IOMMUKdump
import Testing

@Suite struct RandomCrashTests {
  static let strategies: [(strategy: CrashStrategy, unit: CrashUnit)] = [
    (.rule, .vtd), (.copyContexts, .vtd), (.anew, .vtd), (.offInCapture, .vtd),
  ]

  @Test func `parts of a series add up to the whole`() throws {
    let series = RandomCrashes(seed: 7, strategies: Self.strategies)
    var whole = CrashTally(seed: 7)
    try series.play(0..<9, into: &whole)
    var sum = CrashTally(seed: 7)
    for part in [5..<9, 0..<1, 1..<5] as [Range<UInt64>] {
      var tally = CrashTally(seed: 7)
      try series.play(part, into: &tally)
      sum.merge(tally)
    }
    #expect(sum == whole)
    #expect(whole.entries.count == 4)
  }

  @Test func `under the Rule no leftover access goes astray, whatever the machine`() throws {
    var tally = CrashTally(seed: 1)
    try RandomCrashes(seed: 1, strategies: Self.strategies).play(0..<30, into: &tally)
    let rule = tally[.rule, .vtd]
    #expect(rule.crashCount == 30)
    #expect(Set(rule.crashes.keys) == ["OWN"])
    #expect(rule.strayByteSum == 0 && rule.luckCount == 0 && rule.failureCount == 0)
    // Without tables of its own the capture kernel hands out addresses of its own memory.
    #expect(rule.collisionCount == 0)
    // Devices that get no driver are blocked by new tables, and reach anything when all is off.
    #expect(tally[.anew, .vtd].crashes["BLK-F", default: 0] > 15)
    #expect(tally[.offInCapture, .vtd].crashes["OWN", default: 0] > 0)
  }

  @Test func `some machines have devices that share an entry or a domain`() throws {
    let series = RandomCrashes(seed: 1)
    let machines = try (0..<400).map { try series.setup($0, .rule, on: .vtd).machine }
    // Three of four machines have more than one device, and one in four of these shares: 75 of 400.
    let aliased = machines.count { $0.devices.contains { $0.device.alias != nil } }
    let grouped = machines.count { $0.devices.contains { $0.device.group != nil } }
    #expect(20...60 ~= aliased && 20...60 ~= grouped)
    #expect(
      machines.allSatisfy { Set($0.devices.map(\.device.requester)).count == $0.devices.count })
  }

  @Test func `all devices may be reset in one way`() throws {
    var tally = CrashTally(seed: 1)
    try RandomCrashes(seed: 1, strategies: [(.copyContexts, .vtd)], reset: .byDriver)
      .play(0..<40, into: &tally)
    let either = tally[.copyContexts, .vtd]
    tally = CrashTally(seed: 1)
    try RandomCrashes(seed: 1, strategies: [(.copyContexts, .vtd)], reset: .afterMapping)
      .play(0..<40, into: &tally)
    // What is at rest before its driver maps cannot hit what the driver maps.
    #expect(tally[.copyContexts, .vtd].collisionCount > either.collisionCount + 10)
  }

  @Test func `shares have Wilson's intervals`() {
    // 10 of 100: 0.0552 to 0.1744 (Wilson 1927, z = 1.96).
    let share = Proportion(10, of: 100)
    #expect(share.value == 0.1)
    #expect(abs(share.interval.lowerBound - 0.0552) < 0.0001)
    #expect(abs(share.interval.upperBound - 0.1744) < 0.0001)
    #expect(Proportion(0, of: 50).interval.lowerBound == 0)
  }
}
