import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation
import Testing

/// Dumps that end anywhere, inside of an entry too.
@Suite struct CutDumpTests {
  /// Every place in an entry of the small machine's VT-d tables, where each lies as a whole in the tables
  /// that come before it.
  private static let cuts: [UInt64] = {
    var cuts: [UInt64] = []
    for entry in [
      0x30000, 0x30008, 0x30030, 0x31180, 0x31188, 0x31190, 0x31200, 0x31208, 0x32000, 0x33000,
      0x34000,
      0x34008, 0x35080, 0x35088, 0x35090, 0x36008,
    ] as [UInt64] {
      cuts += [entry, entry + 1, entry + 4, entry + 7, entry + 8]
    }
    return cuts
  }()

  @Test(arguments: cuts)
  func `what a dump ends before is unknown to every command, and nothing is denied`(
    cut: UInt64
  ) throws {
    let small = try SmallMachine()
    let dump = CutMemory(small.memory, at: cut)
    let devices = ["00:03.0", "00:03.1", "00:04.0", "03:00.0"].map { PCI.Function(Requester($0)!) }
    var known: [String: [MappingRun]] = [:]
    var gaps: [TableGap] = []
    let report = MapsReport(all: small.machine, in: dump)
    report.forEachTable(in: dump) { maps in
      known[maps.table.name] = maps.runs
      gaps += maps.gaps
    }
    gaps += report.gaps
    var whole: [(device: PCI.Function, run: MappingRun)] = []
    MapsReport(all: small.machine, in: small.memory).forEachTable(in: small.memory) { maps in
      guard let device = maps.table.owner.device, devices.contains(device) else { return }
      whole += maps.runs.map { (device, $0) }
    }
    #expect(whole.count == 6)
    for (device, run) in whole {
      let isListed = known["\(device)"]?.contains { $0.iova.contains(run.iova.lowerBound) } ?? false
      let isUnknown = gaps.contains { gap in
        guard gap.concerns(device) else { return false }
        if case .addresses(_, let range) = gap.scope { return range.contains(run.iova.lowerBound) }
        return true
      }
      #expect(isListed != isUnknown, "\(device) \(run.iova.text)")
      // A walk of the same address agrees.
      let walk = try ToldWalk(
        device, run.iova.lowerBound, access: .write, machine: small.machine, in: dump)
      #expect(walk.isUnknown == isUnknown, "\(device) \(run.iova.text)")
      // So does the search for whoever reaches the page.
      let reach = ReachReport(run.physical, machine: small.machine, in: dump)
      #expect(
        reach.ways.contains { $0.table == "\(device)" && $0.run != nil } == isListed)
      #expect(isListed || !reach.blindness.isEmpty)
    }
    // Nothing is unmapped since: nobody knows.
    let difference = MapsDifference(
      before: small.machine, in: small.memory, after: small.machine, in: dump)
    #expect(difference.isEmpty)
  }
}
