import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@Suite struct ExtendedBIOSDataTests {
  private func error(_ memory: FlatMemory) -> Calgary.RioTableError? {
    do throws(Calgary.RioTableError) {
      _ = try ExtendedBIOSData.rioTable(in: memory)
      return nil
    } catch {
      return error
    }
  }

  private func put(_ bytes: [UInt8], _ address: UInt64, _ memory: FlatMemory) {
    _ = bytes.withUnsafeBytes { memory.write($0, at: PhysicalAddress(address)) }
  }

  /// T34, whole: the segment at 0x40e and the area at 0x9f000.
  private func machine() throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 0xa_0000)
    put(hexdump("90 01 11 11"), 0x9_f000 + 0x180, memory)
    put(hexdump("00 00 52 47"), 0x9_f000 + 0x190, memory)
    put(hexdump("03 01 02"), 0x9_f000 + 0x194, memory)
    put(hexdump("00 00 00 e0 fd ff ff ff ff ff ff 01"), 0x9_f000 + 0x197, memory)
    put(hexdump("02 00 00 a0 fd 04 00 00 00 ff ff 01 01 00 01"), 0x9_f000 + 0x1a3, memory)
    put(hexdump("03 00 00 b0 fd 05 00 00 01 ff ff 03 01 01 01"), 0x9_f000 + 0x1b2, memory)
    put([0x00, 0x9f], 0x40e, memory)
    return memory
  }

  @Test func `T34: the table is found in the second block`() throws {
    let table = try ExtendedBIOSData.rioTable(in: machine())
    #expect(table.calgaryBases == [PhysicalAddress(0xfda0_0000), PhysicalAddress(0xfdb0_0000)])
  }

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
        ExtendedBIOSData.store(firmware.rioTable, to: memory)
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
        let found = try ExtendedBIOSData.rioTable(in: memory)
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

  @Test func `a list that does not ascend ends`() throws {
    let memory = try machine()
    put(hexdump("80 01 11 11"), 0x9_f000 + 0x180, memory)
    #expect(error(memory) == .notFound(lastBlock: 0x180))
    put(hexdump("00 00 11 11"), 0x9_f000 + 0x180, memory)
    #expect(error(memory) == .notFound(lastBlock: 0x180))
  }

  @Test func `a list that leaves memory is an error with the address`() throws {
    let memory = try machine()
    put(hexdump("fe ff 11 11"), 0x9_f000 + 0x180, memory)
    #expect(error(memory) == .unreadable(PhysicalAddress(0xa_f000)))
    #expect(
      error(try FlatMemory(ram: [PhysicalAddress(0x10_0000)..<PhysicalAddress(0x20_0000)]))
        == .unreadable(PhysicalAddress(0x40e)))
  }

  @Test func `a table at memory's end is truncated`() throws {
    let memory = try FlatMemory(byteCount: 0xa_0000)
    put([0x00, 0x9f], 0x40e, memory)
    put(hexdump("f8 0f 11 11"), 0x9_f000 + 0x180, memory)
    put(hexdump("00 00 52 47 03 01 02 00"), 0x9_f000 + 0xff8, memory)
    #expect(error(memory) == .truncated(needed: 45, found: 4))
  }

  @Test(arguments: seeds)
  func `no EBDA whatever stops the program`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 0xa_0000)
    var found = 0
    for round in 0..<90 {
      // Random bytes everywhere but in most of the area's words, which a random list seldom meets.
      for word in stride(from: 0 as UInt64, to: 0x1000, by: 8) where word % 64 == 0 || word < 0x200
      {
        memory.store(generator.next(), at: PhysicalAddress(0x9_f000 + word))
      }
      put([0x00, 0x9f], 0x40e, memory)
      if round % 3 == 0 {
        // A list that holds together up to a table of random bytes.
        let block = UInt16.random(in: 0x184...0xf00, using: &generator)
        put([UInt8(truncatingIfNeeded: block), UInt8(block >> 8), 0, 0], 0x9_f180, memory)
        put([0, 0, 0x52, 0x47, 3], 0x9_f000 + UInt64(block), memory)
      } else if round % 3 == 1 {
        put([UInt8.random(in: 0...255, using: &generator)], 0x40f, memory)
      }
      if error(memory) == nil { found += 1 }
    }
    #expect(found < 90, "seed \(seed)")
  }
}
