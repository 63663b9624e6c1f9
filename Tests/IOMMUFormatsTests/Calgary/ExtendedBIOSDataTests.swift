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
