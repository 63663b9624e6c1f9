import IOMMUFormats
import Testing

@Suite struct ExtendedBIOSDataTests {
  private func error(_ memory: FlatMemory) -> Calgary.RioTableError? {
    do throws(Calgary.RioTableError) {
      _ = try Calgary.ExtendedBIOSData.rioTable(in: memory)
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
    let (table, address) = try Calgary.ExtendedBIOSData.rioTable(in: machine())
    #expect(address == PhysicalAddress(0x9_f194))
    #expect(table.byteCount == 45)
    #expect(table.calgaryBases == [PhysicalAddress(0xfda0_0000), PhysicalAddress(0xfdb0_0000)])
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

  /// Random bytes everywhere but in most of the area's words, which a random list seldom meets.
  private func fill(_ memory: FlatMemory, _ generator: inout SeededGenerator) {
    for word in stride(from: 0 as UInt64, to: 0x1000, by: 8) where word % 64 == 0 || word < 0x200 {
      memory.store(generator.next(), at: PhysicalAddress(0x9_f000 + word))
    }
  }

  @Test(arguments: seeds)
  func `a list of random bytes ends, at a block or where no memory is`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 0xa_0000)
    for _ in 0..<30 {
      fill(memory, &generator)
      put([0x00, 0x9f], 0x40e, memory)
      // A first block that is no table's, and a second that is before it, behind memory, or neither.
      put([0, 0], 0x9_f182, memory)
      let next = UInt64(memory.doubleword(at: PhysicalAddress(0x9_f180))! & 0xffff)
      switch next {
      case ...0x180: #expect(error(memory) == .notFound(lastBlock: 0x180))
      case 0xffd...: #expect(error(memory) == .unreadable(PhysicalAddress(0x9_f002 + next)))
      default: #expect(error(memory) != .notFound(lastBlock: 0x180))
      }
    }
  }

  @Test(arguments: seeds)
  func `an area at a random segment holds no list, or is not there`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 0xa_0000)
    fill(memory, &generator)
    for _ in 0..<30 {
      let segment = UInt8.random(in: 0...0xff, using: &generator)
      guard segment != 0x9f else { continue }
      put([0x00, segment], 0x40e, memory)
      #expect(
        error(memory)
          == (segment < 0xa0
            ? .notFound(lastBlock: 0x180)
            : .unreadable(PhysicalAddress(UInt64(segment) << 12 + 0x182))))
    }
  }

  @Test(arguments: seeds)
  func `a table of random bytes is taken whole, or refused for its size`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 0xa_0000)
    var found = 0
    for round in 0..<60 {
      fill(memory, &generator)
      put([0x00, 0x9f], 0x40e, memory)
      // A list of two blocks; half of the tables have few nodes, so that they fit.
      let block = UInt16.random(in: 0x184...0xf00, using: &generator)
      put([UInt8(truncatingIfNeeded: block), UInt8(block >> 8), 0, 0], 0x9_f180, memory)
      let most: UInt8 = round % 2 == 0 ? 20 : 0xff
      let scalability = UInt8.random(in: 0...most, using: &generator)
      let rio = UInt8.random(in: 0...most, using: &generator)
      put([0, 0, 0x52, 0x47, 3, scalability, rio], 0x9_f000 + UInt64(block), memory)
      // Version 3: three bytes, twelve for each scalability node, fifteen for each Rio node.
      let needed = 3 + 12 * Int(scalability) + 15 * Int(rio)
      let there = min(0x1000 - Int(block) - 4, 3 + 255 * 27)
      if scalability > 64 {
        #expect(error(memory) == .tooManyNodes(Int(scalability), limit: 64))
      } else if needed > there {
        #expect(error(memory) == .truncated(needed: needed, found: there))
      } else {
        let table = try Calgary.ExtendedBIOSData.rioTable(in: memory).table
        #expect(table.scalabilityNodes.count == Int(scalability))
        #expect(table.rioNodes.count == Int(rio))
        found += 1
      }
    }
    #expect(found > 0)
  }
}
