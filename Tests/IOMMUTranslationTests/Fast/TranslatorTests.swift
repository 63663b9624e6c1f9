import IOMMUFormats
import IOMMUTranslation
import Testing

/// A translator must never say anything but what its handle says; the handle's walker has its own
/// reference, bit by bit, in `WalkerTests`.
@Suite struct TranslatorTests {
  /// Compares single calls, both kinds of access, and a batch of each with the handle's answers.
  static func check<Memory: PhysicalMemory>(
    _ handle: DeviceHandle, in memory: Memory, _ addresses: [UInt64],
    _ outcomes: inout [PackedTranslation: Int]
  ) {
    let translator = Translator(handle, in: memory)
    let iovas = addresses.map { IOVA($0) }
    for access in Access.allCases {
      let answers = iovas.map {
        handle.translate($0, byteCount: 1, access: access, in: memory)
      }
      let expected = answers.map { PackedTranslation($0) }
      #expect(iovas.map { translator.translate($0, access) } == expected)
      for batch in Self.batches(addresses) {
        var answers = [PackedTranslation](
          repeating: PackedTranslation(rawValue: 0), count: batch.count)
        var span = answers.mutableSpan
        translator.translate(batch.span, access, into: &span)
        let alone = batch.map {
          PackedTranslation(handle.translate($0, byteCount: 1, access: access, in: memory))
        }
        #expect(answers == alone)
      }
      for answer in answers {
        // Addresses differ from run to run; which of them were reached does not matter here.
        if case .mapped = answer {
          outcomes[PackedTranslation(.to(0)), default: 0] += 1
        } else {
          outcomes[PackedTranslation(answer), default: 0] += 1
        }
      }
    }
  }

  /// The same addresses in orders that batches have ways of their own for.
  static func batches(_ addresses: [UInt64]) -> [[IOVA]] {
    // One region, and part of the next, for many of them in turn.
    var runs: [UInt64] = []
    for (index, address) in addresses.enumerated() where index % 16 == 0 {
      runs += (0..<9 + UInt64(index % 40)).map { address ^ ($0 &* 0x3_7123) & 0x1f_ffff }
      runs.append(address ^ 0x20_0000)
    }
    return [addresses, addresses.sorted(), runs].map { $0.map { IOVA($0) } }
  }

  @Test(arguments: seeds, 3...5)
  func `damaged tables translate as the walker says`(seed: UInt64, levels: Int) throws {
    var generator = SeededGenerator(seed: seed)
    var outcomes: [PackedTranslation: Int] = [:]
    for limits in WalkerTests.limits {
      let memory = try WalkerTests.randomTables(using: &generator)
      for round in 0..<12 {
        // Once a root where no memory answers.
        let root = round == 0 ? 65 << 12 : (generator.next() % 64) << 12
        let width = min(limits.maximumGuestAddressWidth, 12 + 9 * levels)
        var addresses = (0..<300).map { _ in
          generator.oneIn(20) ? generator.next() : generator.next() & (1 << UInt64(width) - 1)
        }
        // Neighbours share a region, and the interrupt range has neighbours too.
        for index in stride(from: 1, to: 300, by: 3) {
          addresses[index] = addresses[index - 1] ^ (generator.next() & 0x3f_ffff)
        }
        for index in 0..<8 { addresses[index] = 0xfede_0000 + UInt64(index) << 18 }
        let dmaMask = generator.oneIn(3) ? 1 << (20 + generator.next() % 30) - 1 : UInt64.max
        Self.check(
          DeviceHandle(
            requester: device, dmaMask: dmaMask,
            route: .table(
              .secondStage(
                VTd.SecondStageTable(
                  root: PhysicalAddress(root),
                  format: VTd.SecondStageFormat(levels: levels, limits: limits),
                  addressWidth: width,
                  isReported: true)))),
          in: memory, addresses, &outcomes)
      }
    }
    // The tables are worth their randomness when all outcomes occur.
    #expect(outcomes[PackedTranslation(.to(0)), default: 0] > 500)
    for number: UInt8 in [0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x29] {
      let fault = Fault.vtd(VTd.FaultReason(rawValue: number), isRecorded: true)
      #expect(
        outcomes[PackedTranslation(.fault(fault)), default: 0] > 0, "fault \(number) did not occur")
    }
    #expect(outcomes[PackedTranslation(.interruptMessage), default: 0] > 0)
    #expect(outcomes[PackedTranslation(.fault(.beyondDeviceMask)), default: 0] > 0)
  }

  /// First-stage tables, and scalable second-stage tables that keep accessed and dirty bits: random
  /// entries with the bits that matter set and clear.
  @Test(arguments: seeds)
  func `damaged tables of scalable mode translate as the walker says`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var outcomes: [PackedTranslation: Int] = [:]
    for _ in 0..<12 {
      let memory = try FlatMemory(byteCount: 64 * 4096)
      for place: UInt64 in stride(from: 0, to: 64 * 4096, by: 8) {
        // R, W or P, R/W, U/S; A and D of both stages; EA.
        var entry = (generator.next() % 64) << 12 | 0x727
        if generator.oneIn(8) { entry = generator.oneIn(3) ? 0xfee0_07a7 : entry ^ 0x4000_0080 }
        if generator.oneIn(6) { entry ^= 1 << (generator.next() % 12) }
        if generator.oneIn(40) { entry = generator.next() }
        if generator.oneIn(40) { entry ^= 1 << (generator.next() % 64) }
        memory.store(entry, at: place)
      }
      let rules = VTd.Rules(
        isScalable: true, hasPASID: generator.oneIn(2), isSupervisor: generator.oneIn(3),
        protectsFromSupervisor: generator.oneIn(2))
      let root = PhysicalAddress((generator.next() % 64) << 12)
      let limits = WalkerTests.limits[Int(generator.next() % 3)]
      let marks = StageMarks(
        accessed: generator.oneIn(2) ? 0x20 : 0x420, dirty: 0x40, isSnooped: generator.oneIn(2))
      let levels = 4 + Int(generator.next() % 2)
      let tables: [Table] = [
        .firstStage(
          VTd.FirstStageTable(
            root: root, format: VTd.FirstStageFormat(levels: levels, limits: limits), rules: rules,
            marks: marks)),
        .secondStage(
          VTd.SecondStageTable(
            root: root, format: VTd.SecondStageFormat(levels: levels, limits: limits),
            addressWidth: 12 + 9 * levels, rules: rules,
            marks: generator.oneIn(2)
              ? .none : StageMarks(accessed: 0x100, dirty: 0x200, isSnooped: false))),
        .secondStage(
          VTd.SecondStageTable(
            root: root,
            format: VTd.SecondStageFormat(levels: levels, limits: limits, usesIOPermissions: true),
            addressWidth: 12 + 9 * levels, rules: rules)),
      ]
      for route in tables.map(DeviceHandle.Route.table) {
        let addresses = (0..<300).map { _ in
          let address = generator.next() & (1 << UInt64(12 + 9 * levels) - 1)
          return generator.oneIn(10) ? generator.next() : address >> 1
        }
        Self.check(
          DeviceHandle(requester: device, route: route), in: memory, addresses, &outcomes)
      }
    }
    #expect(outcomes[PackedTranslation(.to(0)), default: 0] > 1000)
    #expect(outcomes.keys.count > 8)
  }

  /// Each way an entry on the road to a page can be wrong, one at a time, on an otherwise good road.
  @Test(arguments: 3...5)
  func `one wrong bit on a good road is found at each level`(levels: Int) throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let iova: UInt64 = 0x12_3456_7000
    let limits = VTd.Limits.unit(hostAddressWidth: 46, guestAddressWidth: 57, widths: 0b01110)
    let handle = DeviceHandle(
      requester: device,
      route: .table(
        .secondStage(
          VTd.SecondStageTable(
            root: PhysicalAddress(0x1_0000),
            format: VTd.SecondStageFormat(levels: levels, limits: limits),
            addressWidth: 12 + 9 * levels, isReported: true))))
    var outcomes: [PackedTranslation: Int] = [:]
    for leaf in 1...3 {
      for level in leaf...levels {
        for bit in 0..<64 {
          memory.zero(at: PhysicalAddress(0x1_0000), byteCount: 0x1_0000)
          var builder = TableBuilder(in: memory, root: 0x1_0000, levels: levels)
          builder.set(0x2a_4000_0003 | (leaf > 1 ? 0x80 : 0), for: iova, level: leaf)
          var table: UInt64 = 0x1_0000
          for above in stride(from: levels, to: level, by: -1) {
            let place = table + (iova >> UInt64(12 + 9 * (above - 1)) & 511) * 8
            table = memory.quadword(at: PhysicalAddress(place))! & ~0xfff
          }
          let place = table + (iova >> UInt64(12 + 9 * (level - 1)) & 511) * 8
          let entry = memory.quadword(at: PhysicalAddress(place))!
          memory.store(entry ^ 1 << UInt64(bit), at: place)
          Self.check(handle, in: memory, [iova, iova + 0x10_0000], &outcomes)
        }
      }
    }
    #expect(outcomes[PackedTranslation(.to(0)), default: 0] > 100)
    #expect(
      outcomes[
        PackedTranslation(.fault(.vtd(.secondStageEntryReserved, isRecorded: true))), default: 0]
        > 100)
    #expect(
      outcomes[PackedTranslation(.fault(.vtd(.tableUnreadable, isRecorded: true))), default: 0] > 20
    )
  }

  @Test func `a page in the interrupt range is refused, its neighbours are not`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    var builder = TableBuilder(in: memory, root: 0x1000, levels: 3)
    builder.set(0xfedf_f003, for: 0, level: 1)
    builder.set(0xfee0_0003, for: 0x1000, level: 1)
    builder.set(0xfeef_f003, for: 0x2000, level: 1)
    builder.set(0xfef0_0003, for: 0x3000, level: 1)
    builder.set(0xfee0_0083, for: 0x20_0000, level: 2)
    builder.set(0xc000_0083, for: 0x4000_0000, level: 3)
    let translator = Translator(Self.threeLevels(), in: memory)
    let answers = [0, 0x1000, 0x2fff, 0x3000, 0x2f_ffff, 0x30_0000, 0x7ede_ffff, 0x7ee0_0000]
      .map { translator.translate(IOVA($0), .read).translation }
    let refused = Translation.fault(.vtd(.interruptAddressReached, isRecorded: true))
    #expect(
      answers == [
        .to(0xfedf_f000), refused, refused, .to(0xfef0_0000), refused, .to(0xfef0_0000),
        .to(0xfede_ffff), refused,
      ])
  }

  static func threeLevels(root: UInt64 = 0x1000) -> DeviceHandle {
    DeviceHandle(
      requester: device,
      route: .table(
        .secondStage(
          VTd.SecondStageTable(
            root: PhysicalAddress(root),
            format: VTd.SecondStageFormat(levels: 3, limits: .permissive), addressWidth: 39,
            isReported: true))))
  }

  @Test func `tables in a hole of memory are not there`() throws {
    let memory = try FlatMemory(ram: [
      PhysicalAddress(0)..<PhysicalAddress(0x4000),
      PhysicalAddress(0x8000)..<PhysicalAddress(0xa000),
    ])
    memory.store(0x2003, at: 0x1000)
    memory.store(0x3003, at: 0x2000)
    memory.store(0x6003, at: 0x2008)
    memory.store(0x8003, at: 0x2010)
    memory.store(0x7000_0003, at: 0x8000)
    var outcomes: [PackedTranslation: Int] = [:]
    Self.check(
      Self.threeLevels(), in: memory, [0, 0x20_0000, 0x40_0000, 0x60_0000], &outcomes)
    #expect(outcomes[PackedTranslation(.fault(.vtd(.tableUnreadable, isRecorded: true)))] == 2)
    #expect(outcomes[PackedTranslation(.to(0))] == 2)
  }

  @Test(arguments: [0, 0x1001, 0x1_0000, 0xffff_ffff_f000] as [UInt64])
  func `a root outside memory, or crooked, is the walker's affair`(root: UInt64) throws {
    let memory = try FlatMemory(byteCount: 0x8000)
    for place: UInt64 in stride(from: 0, to: 0x8000, by: 8) { memory.store(3, at: place) }
    var outcomes: [PackedTranslation: Int] = [:]
    Self.check(Self.threeLevels(root: root), in: memory, [0, 0x1234_5678], &outcomes)
    #expect(outcomes.values.reduce(0, +) == 4)
  }

  @Test(arguments: seeds)
  func `TCE tables translate as the walker says, around every hole`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 0x4_0000)
    for place: UInt64 in stride(from: 0, to: 0x4_0000, by: 8) {
      memory.store(
        generator.oneIn(4) ? generator.next() : generator.next() | 3 << 56, at: place)
    }
    var outcomes: [PackedTranslation: Int] = [:]
    for round in 0..<30 {
      func window() -> Range<UInt64> {
        let start = generator.next() % 0x400_0000
        return start..<start + (generator.oneIn(3) ? 0 : generator.next() % 0x40_0000)
      }
      // Of every five tables one ends behind memory.
      let table = round % 5 == 0 ? 0x3_8000 : (generator.next() % 4) << 14
      let handle = DeviceHandle(
        requester: device,
        dmaMask: generator.oneIn(3) ? 1 << (20 + generator.next() % 8) - 1 : UInt64.max,
        route: .table(
          .tce(
            Calgary.TCETable(
              table: PhysicalAddress(table), size: .kib64,
              refusesDualAddressCycles: generator.oneIn(2),
              holes: Calgary.TCETable.Holes(
                legacy: 0xa_0000..<0x10_0000, memory1: window(), memory2: window())))))
      let addresses = (0..<300).map { _ in
        generator.oneIn(30) ? generator.next() : generator.next() % 0x280_0000
      }
      Self.check(handle, in: memory, addresses, &outcomes)
    }
    for fault: Calgary.FaultReason in [
      .dualAddressCycle, .untranslatedHole, .beyondTable, .tableUnreadable, .emptyEntry,
      .readNotPermitted, .writeNotPermitted,
    ] {
      #expect(
        outcomes[PackedTranslation(.fault(.calgary(fault))), default: 0] > 0,
        "\(fault) did not occur")
    }
    #expect(outcomes[PackedTranslation(.to(0)), default: 0] > 1000)
  }

  @Test(arguments: seeds)
  func `GATTs translate as the walker says, inside and outside the aperture`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 0x1_0000)
    for place: UInt64 in stride(from: 0, to: 0x1_0000, by: 8) {
      memory.store(generator.next(), at: place)
    }
    var outcomes: [PackedTranslation: Int] = [:]
    for _ in 0..<20 {
      let handle = DeviceHandle(
        requester: device, dmaMask: generator.oneIn(3) ? 0x4100_0fff : UInt64.max,
        route: .table(
          .gatt(
            GART.Window(
              base: 0x4000_0000, byteCount: 32 << 20,
              table: PhysicalAddress((generator.next() % 15) << 12),
              hasErratum156: generator.oneIn(2)))))
      let addresses = (0..<300).map { _ in
        generator.oneIn(30) ? generator.next() : 0x3ff0_0000 + generator.next() % 0x300_0000
      }
      Self.check(handle, in: memory, addresses, &outcomes)
    }
    #expect(outcomes[PackedTranslation(.fault(.gart(.invalidEntry))), default: 0] > 100)
    #expect(outcomes[PackedTranslation(.fault(.gart(.tableUnreadable))), default: 0] > 0)
    #expect(outcomes[PackedTranslation(.to(0)), default: 0] > 1000)
  }

  /// A batch goes through a region of 2 MiB by its first address; here others of the region are
  /// translated differently.
  @Test func `a run ends where its region is not all alike`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    var builder = TableBuilder(in: memory, root: 0x1000, levels: 3)
    for page: UInt64 in 0..<512 {
      builder.set(page << 12 | 0x7000_0003, for: page << 12, level: 1)
      // Pages for addresses in the interrupt range, where none are asked for; one goes there.
      builder.set(page << 12 | 0xfed8_0003, for: 0xfee0_0000 + page << 12, level: 1)
    }
    builder.set(0xfee0_0083, for: 0x20_0000, level: 2)
    var outcomes: [PackedTranslation: Int] = [:]
    for start: UInt64 in [0xfef0_0000, 0x20_0000, 0] {
      let pages = (0..<600).map { start ^ ($0 % 512 * 4096) }
      // The second mask cuts the first region in two.
      for dmaMask: UInt64 in [.max, 0xf_ffff] {
        let handle = DeviceHandle(
          requester: device, dmaMask: dmaMask, route: Self.threeLevels().route)
        Self.check(handle, in: memory, pages, &outcomes)
      }
    }
    #expect(outcomes[PackedTranslation(.interruptMessage), default: 0] > 100)
    #expect(outcomes[PackedTranslation(.fault(.beyondDeviceMask)), default: 0] > 100)
    #expect(outcomes[PackedTranslation(.to(0)), default: 0] > 1000)
    let reached = Fault.vtd(.interruptAddressReached, isRecorded: true)
    #expect(outcomes[PackedTranslation(.fault(reached)), default: 0] > 100)
  }

  /// A batch judges a block of flat tables as a whole first.
  @Test(arguments: [0, 100, 255] as [Int])
  func `one bad entry or address in a block of good ones is found`(position: Int) throws {
    let memory = try FlatMemory(byteCount: 0x4_0000)
    // 32 MiB of TCEs for both kinds of access, and behind them of GATT entries.
    for index: UInt64 in 0..<8192 {
      memory.store((0x1234_5003 + index << 12).byteSwapped, at: index * 8)
    }
    for index: UInt64 in 0..<4096 {
      memory.store(0x2345_6001_1234_5001 as UInt64, at: 0x1_0000 + index * 8)
    }
    memory.store(0x2345_6000_1234_5001 as UInt64, at: 0x1_1000)
    memory.store(UInt64(0x1234_5000).byteSwapped, at: 0x1000)
    memory.store(UInt64(0x1234_5001).byteSwapped, at: 0x1008)
    let noHoles = Calgary.TCETable.Holes(legacy: 0..<0, memory1: 0..<0x10_0000, memory2: 0..<0)
    let tables: [(Table, first: UInt64, bad: [UInt64])] = [
      (
        .tce(
          Calgary.TCETable(
            table: PhysicalAddress(0), size: .kib64, refusesDualAddressCycles: true,
            holes: noHoles)), 0x10_0000, [0xf_f000, 0x200_0000, 0x20_0000, 0x20_1000]
      ),
      (
        .gatt(
          GART.Window(base: 0x4000_0000, byteCount: 32 << 20, table: PhysicalAddress(0x1_0000))),
        0x4000_0000, [0x3fff_f000, 0x4200_0000, 0x4040_1000]
      ),
    ]
    for (table, first, bad) in tables {
      let handle = DeviceHandle(requester: device, route: .table(table))
      for wrong in bad {
        var outcomes: [PackedTranslation: Int] = [:]
        var addresses = (0..<256).map { first + $0 << 12 }
        addresses[position] = wrong
        Self.check(handle, in: memory, addresses, &outcomes)
        #expect(outcomes[PackedTranslation(.to(0)), default: 0] >= 255 * 2)
      }
    }
  }

  @Test func `routes without a table answer as their handles do`() throws {
    let memory = try FlatMemory(byteCount: 0x1000)
    var outcomes: [PackedTranslation: Int] = [:]
    for route: DeviceHandle.Route in [
      .untranslated, .passThrough(hostAddressWidth: 39, rules: VTd.Rules()),
      .blocked(.vtd(.contextEntryNotPresent, isRecorded: false)),
      .blocked(.calgary(.slotsDisabled)),
    ] {
      Self.check(
        DeviceHandle(requester: device, dmaMask: .max, route: route), in: memory,
        [0, 0x1234, 0xfee0_0000, 1 << 39, 1 << 51, .max], &outcomes)
    }
    #expect(
      outcomes[PackedTranslation(.fault(.vtd(.contextEntryNotPresent, isRecorded: false)))] == 10)
    #expect(outcomes[PackedTranslation(.fault(.calgary(.slotsDisabled)))] == 12)
  }

  @Test(arguments: [0, 1, 255, 256, 257, 1000])
  func `a batch of any length is translated whole`(count: Int) throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    var builder = TableBuilder(in: memory, root: 0x1000, levels: 3)
    for page in UInt64(0)..<1024 {
      builder.set(page << 12 | 0x7000_0003, for: page << 12, level: 1)
    }
    let translator = Translator(Self.threeLevels(), in: memory)
    let addresses = (0..<count).map { IOVA(UInt64($0) << 12 | 0x123) }
    var answers = [PackedTranslation](repeating: PackedTranslation(rawValue: 9), count: count)
    var span = answers.mutableSpan
    translator.translate(addresses.span, .write, into: &span)
    #expect(answers.map(\.rawValue) == addresses.map { $0.rawValue | 0x7000_0000 })
  }
}
