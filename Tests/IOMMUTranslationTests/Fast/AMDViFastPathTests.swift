import IOMMUFormats
import Testing

@testable import IOMMUTranslation

/// The short way through AMD-Vi's host tables answers what the walker answers, or nothing.
@Suite struct AMDViFastPathTests {
  /// Tables of random entries, most of them sound: every size of page, skipped levels, and broken ones.
  private struct RandomTables {
    let memory: FlatMemory
    let root: PhysicalAddress
    var generator: SeededGenerator
    private var next: UInt64 = 0x1000

    init(levels: Int, seed: UInt64) throws {
      memory = try FlatMemory(byteCount: 4 << 20)
      root = PhysicalAddress(0x1000)
      generator = SeededGenerator(seed: seed)
      _ = fill(level: levels)
    }

    /// A new table of `level`, of which the first entries are used.
    private mutating func fill(level: Int) -> UInt64 {
      let table = next
      next += 0x1000
      for index in 0..<UInt64(level == 1 ? 24 : 3) where next < 0x3f_0000 {
        memory.store(entry(level: level), at: table + 8 * index)
      }
      return table
    }

    private mutating func entry(level: Int) -> UInt64 {
      var access =
        UInt64.random(in: 0..<16, using: &generator) == 0 ? 0 : 0x6000_0000_0000_0000 as UInt64
      if UInt64.random(in: 0..<8, using: &generator) == 0 {
        access = UInt64.random(in: 0..<4, using: &generator) << 61
      }
      let present: UInt64 = UInt64.random(in: 0..<20, using: &generator) == 0 ? 0 : 1
      let noise: UInt64 =
        UInt64.random(in: 0..<24, using: &generator) == 0
        ? 1 << UInt64.random(in: 1..<64, using: &generator) : 0
      let bits = (access | present) ^ noise
      let choice = UInt64.random(in: 0..<10, using: &generator)
      if level > 1, choice < 6 {
        // Mostly one level down, now and then further.
        let lower = choice == 0 ? max(1, level - 2) : level - 1
        return fill(level: lower) | UInt64(lower) << 9 | bits
      }
      let address = generator.next() & 0xf_ffff_ffff_f000
      guard choice == 9 || level == 1 && choice > 5 else { return address | bits }
      // A coded size: of this level, or of another.
      let sizeLog2 = UInt64.random(in: 13...22, using: &generator) + 9 * UInt64(level - 1)
      let low = (UInt64(1) << (sizeLog2 - 1) - 1) & ~0xfff
      return address & ~(UInt64(1) << sizeLog2 - 1) | low | 0xe00 | bits
    }
  }

  @Test(arguments: [3, 4], [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
  func `the same as the walker, for single requests and batches`(levels: Int, seed: UInt64) throws {
    var tables = try RandomTables(levels: levels, seed: seed)
    var mapped = 0
    for (permissions, marks) in [
      (Permissions.readWrite, StageMarks.none), (.read, .none),
      (.readWrite, StageMarks(accessed: 0x20, dirty: 0x40, isSnooped: true)),
    ] {
      let handle = DeviceHandle(
        requester: device,
        route: .table(
          .amdHost(
            AMDVi.HostTable(
              root: tables.root, levels: levels, rules: AMDVi.Rules(permissions: permissions),
              marks: marks))))
      let translator = Translator(handle, in: tables.memory)
      var addresses: [IOVA] = []
      for _ in 0..<6000 {
        var address: UInt64 = 0
        for level in 1...levels {
          address |=
            UInt64.random(in: 0..<(level == 1 ? 26 : 4), using: &tables.generator)
            << UInt64(12 + 9 * (level - 1))
        }
        // Beyond the width, and in the interrupt range.
        switch UInt64.random(in: 0..<64, using: &tables.generator) {
        case 0: address |= 1 << UInt64(12 + 9 * levels)
        case 1: address = 0xfee0_1000
        default: address |= UInt64.random(in: 0..<4096, using: &tables.generator)
        }
        addresses.append(IOVA(address))
      }
      for access in Access.allCases {
        let expected = addresses.map {
          PackedTranslation(handle.translate($0, byteCount: 1, access: access, in: tables.memory))
        }
        mapped += expected.count { $0.isMapped }
        #expect(addresses.map { translator.translate($0, access) } == expected)
        for order in [addresses, addresses.sorted()] {
          var answers = [PackedTranslation](repeating: expected[0], count: order.count)
          var span = answers.mutableSpan
          translator.translate(order.span, access, into: &span)
          #expect(
            answers
              == order.map {
                PackedTranslation(
                  handle.translate($0, byteCount: 1, access: access, in: tables.memory))
              })
        }
      }
    }
    #expect(mapped > 1000, "\(mapped) of them lead somewhere")
  }

  @Test func `Linux's tables take the short way`() throws {
    // W1 and W4: 4 KiB and 64 KiB, in four levels.
    let fixture = try AMDViFixture(
      entry: [0, 0, 0, 0],
      tables: [
        0x16_4000: 0x6000_0000_0016_3601, 0x16_3000: 0x6000_0000_0016_2401,
        0x16_2488: 0x6000_0000_0016_1201, 0x16_1a28: 0x6000_0000_0020_0001,
        0x16_1a30: 0x6000_0000_0020_7e01,
      ])
    let handle = DeviceHandle(
      requester: device,
      route: .table(.amdHost(AMDVi.HostTable(root: PhysicalAddress(0x16_4000), levels: 4))))
    let path = ShortParameters(handle, .write, window: fixture.memory.window)
    withUnsafePointer(to: path) { place in
      let short = unsafe ShortPath(place)
      #expect(short.radix.translate(0x1234_5678, levels: 4, .namedLevels) == 0x20_0678)
      #expect(short.radix.translate(0x1234_6678, levels: 4, .namedLevels) == 0x20_6678)
      #expect(short.radix.translate(0x1234_7678, levels: 4, .namedLevels) == RadixPath.noAnswer)
    }
  }
}
