import IOMMUFormats
import IOMMUHardware
import Testing

@Suite struct TopologyRequestersTests {
  @Test func `a segment is made for the numbers that devices have`() throws {
    let requesters = ["00:03.0", "01:01.0", "02:01.0", "02:01.1", "3a:00.0", "ff:1f.7"].map {
      Requester($0)!
    }
    let topology = try PCI.Topology(functionsAt: requesters)
    for requester in requesters {
      let function = try #require(topology.function(at: requester))
      #expect(topology.requester(of: function) == requester)
      #expect(topology.dmaAliases(of: function) == [requester])
    }
    let disk = try #require(topology.function(at: Requester("3a:00.0")!))
    let scope = try #require(topology.scope(.endpoint, of: disk))
    #expect(scope.path.count == 2)
    #expect(try topology.resolve(scope) == Requester("3a:00.0"))
  }

  @Test func `a full bus 0 has no room for a root port`() {
    // A device in each of the 32 slots, and one on bus 4.
    let full = (0..<UInt8(32)).map { Requester(bus: 0, device: $0, function: 0) }
    let error = #expect(throws: PCI.Topology.NoRoomForRootPort.self) {
      try PCI.Topology(functionsAt: full + [Requester("04:00.0")!])
    }
    #expect(error?.bus == 4)
  }
}
