import IOMMUFormats
import IOMMUTranslation
import Testing

/// A unit of which nothing is known is held against no table: what any unit lets pass, it does.
@Suite struct PermissiveLimitsTests {
  /// Both stages with A clear in the leaf and PWSNP clear; D is missing for writes as well.
  @Test(arguments: [1, 2] as [UInt64], [VTd.Request.Operation.read, .write])
  func `walks that do not snoop may set marks`(type: UInt64, operation: VTd.Request.Operation)
    throws
  {
    let tables = try ScalableTables()
    // 4 levels and SSADE for the second stage; both with their table at 0x200000.
    tables.set([1 | 2 << 2 | type << 6 | (type == 2 ? 1 << 9 | 0x20_0000 : 0), 5, 0x20_0000])
    var builder = TableBuilder(in: tables.memory, root: 0x20_0000, levels: 4, pointerFlags: 0x127)
    builder.set(0x30_0007, for: 0x1000, level: 1)
    #expect(tables.translate(0x1000, operation) == .recorded(type == 1 ? 0x90 : 0x7c))
    #expect(tables.translate(0x1000, operation, on: .permissive) == .to(0x30_0000))
  }

  /// Entries of any kind, most of them present; every table can be reached from every other.
  static func randomMemory(using generator: inout SeededGenerator) throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 64 * 4096)
    for place: UInt64 in stride(from: 0, to: 64 * 4096, by: 8) {
      var entry = (generator.next() % 66) << 12
      if generator.oneIn(8) { entry = (generator.next() % 256) << 30 | 0x80 }
      entry |= generator.oneIn(8) ? generator.next() & 7 : 7
      // One bit that may be reserved, or may ask for something.
      if generator.oneIn(10) { entry |= 1 << (generator.next() % 64) }
      memory.store(entry, at: place)
    }
    return memory
  }

  /// A PASID entry of any type, without bits that are reserved in every unit.
  static func randomPASIDEntry(using generator: inout SeededGenerator) -> [UInt64] {
    func field(_ count: UInt64, at bit: UInt64, from first: UInt64 = 0) -> UInt64 {
      (first + generator.next() % count) << bit
    }
    func flag(at bit: UInt64) -> UInt64 { generator.oneIn(4) ? 1 << bit : 0 }
    let table = field(64, at: 12)
    let low = 1 | field(3, at: 2, from: 1) | field(4, at: 6, from: 1) | flag(at: 9) | table
    let domain = field(0x10000, at: 0) | flag(at: 23)
    // SRE, FSPM, WPE and EAFE.
    let flags = flag(at: 0) | field(2, at: 2) | flag(at: 4) | flag(at: 7)
    return [low, domain, flags | field(64, at: 12)]
  }

  @Test(arguments: seeds)
  func `what any unit lets pass passes, to the same place`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var passed = 0
    var marked = 0
    for _ in 0..<100 {
      let memory = try Self.randomMemory(using: &generator)
      // Root and context table in page 1 and 2, PASID directory and table in 3 and 4.
      memory.store(0x2001, at: 0x1000)
      memory.store(0, at: 0x1008)
      memory.store(0x3001 | generator.next() & 8, at: 0x2400)
      memory.store(0, at: 0x2408)
      memory.store(0, at: 0x2410)
      memory.store(0, at: 0x2418)
      memory.store(0x4001, at: 0x3000)
      for pasid: UInt64 in 0..<64 {
        var words = Self.randomPASIDEntry(using: &generator)
        words += Array(repeating: 0, count: 5)
        for (index, word) in words.enumerated() {
          memory.store(word, at: 0x4000 + pasid * 64 + UInt64(index) * 8)
        }
      }
      // 3 to 5 levels and the tables of any stage, with every other bit as it comes.
      let limits = VTd.Limits(
        capability: VTd.Capability(rawValue: generator.next() | 0xe00 | 0x30 << 16),
        extendedCapability: VTd.ExtendedCapability(rawValue: generator.next() | 0xc9 << 40),
        hostAddressWidth: 32 + Int(generator.next() % 21), majorVersion: Int(generator.next() % 10))
      let strict = scalableResolver(limits, rootTableAddress: 0x1400)
      let permissive = scalableResolver(.permissive, rootTableAddress: 0x1400)
      for _ in 0..<200 {
        var address = generator.next() & (generator.oneIn(2) ? 0xff_ffff : 0xffff_ffff_ffff)
        if generator.oneIn(8) { address = ~address }
        let request = VTd.Request(
          device, IOVA(address), VTd.Request.Operation.allCases.randomElement(using: &generator)!,
          pasid: generator.oneIn(4) ? nil : PASID(UInt32(generator.next() % 64)),
          isPrivileged: generator.oneIn(3), isExecute: generator.oneIn(8))
        func answer(_ resolver: VTd.Resolver) -> Translation {
          var observer = Unobserved()
          return resolver.translate(
            request, byteCount: 64, in: memory, marker: NoMarks(), observer: &observer)
        }
        let strictAnswer = answer(strict)
        if case .fault = strictAnswer { continue }
        passed += 1
        if !limits.features.contains(.walkSnoop) { marked += 1 }
        #expect(answer(permissive) == strictAnswer, "\(request) under \(limits)")
      }
    }
    #expect(passed > 100 && marked > 20, "\(passed) and \(marked)")
  }
}
