import IOMMUFormats
import Testing

/// What of memory is something else than before.
@Suite struct FlatMemoryComparingTests {
  static func memory() throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 4096)
    memory.write([UInt8](0..<32), at: PhysicalAddress(4064))
    return memory
  }

  @Test func `bytes are compared, and those beyond RAM are not there`() throws {
    let memory = try Self.memory()
    #expect(memory.holds([UInt8](0..<32), at: PhysicalAddress(4064)))
    #expect(memory.holds([3, 4, 5], at: PhysicalAddress(4067)))
    #expect(!memory.holds([3, 4, 6], at: PhysicalAddress(4067)))
    #expect(!memory.holds([31, 32], at: PhysicalAddress(4095)))
    #expect(!memory.holds([31], at: PhysicalAddress(4096)))
    #expect(memory.holds([], at: PhysicalAddress(0)))
  }

  @Test(arguments: [
    ([UInt8](0..<32), 0), ([UInt8](0..<31) + [0], 1), ([UInt8](repeating: 0x80, count: 32), 32),
    ([0, 0x81, 2], 1), ([UInt8](repeating: 1, count: 9), 8), ([UInt8](0..<40), 8), ([], 0),
  ])
  func `bytes that differ are counted`(bytes: [UInt8], count: Int) throws {
    #expect(try Self.memory().differenceCount(bytes, at: PhysicalAddress(4064)) == count)
  }

  @Test func `a store says what it has changed`() throws {
    let memory = try Self.memory()
    let bytes = [UInt8](0..<30) + [0, 0, 0, 0]
    let changed = bytes.withUnsafeBytes { memory.exchange($0, at: PhysicalAddress(4064)) }
    // Two in RAM, and two beyond it that nobody stores.
    #expect(changed == 2)
    #expect(memory.bytes(at: PhysicalAddress(4064), count: 32) == [UInt8](0..<30) + [0, 0])
    #expect([9].withUnsafeBytes { memory.exchange($0, at: PhysicalAddress(4096)) } == 0)
  }
}
