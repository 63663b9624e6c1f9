import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@Suite struct CalgaryFirmwareTests {
  @Test func `what firmware leaves is found again`() throws {
    for version in Calgary.RioTable.Version.allCases {
      for chassis in 1...2 {
        let chips = (0..<chassis).map { number in
          [0, 1].map { place in
            CalgaryFirmware.Chip(
              base: PhysicalAddress(0xfda0_0000 - UInt64(number) << 23 + UInt64(place) << 20),
              buses: (0..<4).map { phb in
                let bus = UInt8(16 * number + 8 * place + 2 * phb)
                return bus...bus
              })
          }
        }
        let firmware = CalgaryFirmware(model: .calgary, chassis: chips, version: version)
        let memory = try FlatMemory(byteCount: 0xa_0000)
        Calgary.ExtendedBIOSData.store(firmware.rioTable, to: memory)
        #expect(memory.bytes(at: PhysicalAddress(0x40e), count: 2) == [0x00, 0x9f])
        var expected = firmware.rioTable
        if version == .two {
          // Version 2 has no room for these.
          for index in expected.rioNodes.indices {
            expected.rioNodes[index].wpIndex = 0
            expected.rioNodes[index].chassis = 0
          }
          for index in expected.scalabilityNodes.indices {
            expected.scalabilityNodes[index].chassis = 0
          }
        }
        let found = try Calgary.ExtendedBIOSData.rioTable(in: memory).table
        #expect(found == expected)
        #expect(found.calgaryBases == firmware.units.map(\.base))
        #expect(found.scalabilityNodes.count == chassis)
        #expect(firmware.topology.rootBuses.count == 8 * chassis)
      }
    }
  }

  @Test func `host bridges are in configuration space and chips know their buses`() {
    let firmware = CalgaryFirmware(
      model: .calioc2,
      chassis: [[.init(base: PhysicalAddress(0xfe00_0000), buses: [2...5, 6...9, nil, nil])]])
    let bridge = Requester(bus: 6, device: 0, function: 0)
    #expect(firmware.topology.readConfiguration(bridge, at: 0) == 0x0308_1014)
    #expect(
      firmware.topology.readConfiguration(Requester(bus: 7, device: 0, function: 0), at: 0) == .max)
    #expect(firmware.units[0].bridge(above: 9) == 1)
    #expect(firmware.units[0].bridge(above: 10) == 2)
  }
}
