import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct CalgaryChipTests {
  typealias Bridge = Calgary.Chip.HostBridge

  /// A bridge whose 64 KiB table lies at `table`; CONFIG_RW as a driver leaves it.
  static func bridge(
    _ buses: ClosedRange<UInt8> = 0...0, table: UInt64 = 0x10_0000, size: UInt64 = 0,
    configuration: UInt32 = 0x2110_0000, memory1: Range<UInt64>? = nil,
    memory2: Range<UInt64>? = nil
  ) -> Bridge {
    Bridge(
      buses: buses,
      tableAddress: Calgary.TableAddressRegister(rawValue: table | size),
      configuration: Calgary.ConfigurationRegister(rawValue: configuration),
      memory1: memory1.map { IOVA($0.lowerBound)..<IOVA($0.upperBound) },
      memory2: memory2.map { IOVA($0.lowerBound)..<IOVA($0.upperBound) })
  }

  static func machine(_ bridges: [Bridge?]...) -> Machine {
    Machine(
      name: "x366",
      units: bridges.map {
        .calgary(
          Calgary.Chip(model: .calgary, base: PhysicalAddress(0xfda0_0000), hostBridges: $0))
      })
  }

  static func fault(_ fault: Calgary.FaultReason) -> Translation { .fault(.calgary(fault)) }

  /// 2 MiB of RAM; the table at 1 MiB maps index n to 0x180000 + n pages, with permissions n & 3.
  static func memory() throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 2 << 20)
    for index: UInt64 in [0, 1, 2, 3, 0x9f, 0xa3, 0xff, 0x103, 0x1fff] {
      let entry = 0x18_0000 + index << 12 | index & 3
      memory.store(bigEndian: entry, at: PhysicalAddress(0x10_0000 + index * 8))
    }
    return memory
  }

  func translate(
    _ machine: Machine, _ iova: UInt64, _ access: Access, byteCount: UInt64 = 1,
    from requester: UInt16 = 0x0008, in memory: FlatMemory
  ) -> Translation {
    machine.translate(
      Requester(rawValue: requester), IOVA(iova), byteCount: byteCount, access: access, in: memory)
  }

  @Test func `read and write permission are independent`() throws {
    let memory = try Self.memory()
    let machine = Self.machine([Self.bridge()])
    #expect(translate(machine, 0x123, .read, in: memory) == Self.fault(.emptyEntry))
    #expect(translate(machine, 0x123, .write, in: memory) == Self.fault(.emptyEntry))
    #expect(translate(machine, 0x1123, .read, in: memory) == .to(0x18_1123))
    #expect(translate(machine, 0x1123, .write, in: memory) == Self.fault(.writeNotPermitted))
    #expect(translate(machine, 0x2123, .read, in: memory) == Self.fault(.readNotPermitted))
    #expect(translate(machine, 0x2123, .write, in: memory) == .to(0x18_2123))
    #expect(translate(machine, 0x3123, .read, in: memory) == .to(0x18_3123))
    #expect(translate(machine, 0x3123, .write, in: memory) == .to(0x18_3123))
  }

  @Test func `interrupt messages go through no table, whatever it has for them`() throws {
    // A table of 8 MiB, for 4 GiB, with entries for 0xfedff000, 0xfee00000 and 0xfef00000.
    let memory = try FlatMemory(byteCount: 16 << 20)
    for page in [0xf_edff, 0xf_ee00, 0xf_eeff, 0xf_ef00] as [UInt64] {
      memory.store(bigEndian: 0x18_0003 as UInt64, at: PhysicalAddress(0x80_0000 + page * 8))
    }
    let machine = Self.machine([Self.bridge(table: 0x80_0000, size: 7)])
    #expect(translate(machine, 0xfedf_f000, .write, in: memory) == .to(0x18_0000))
    #expect(translate(machine, 0xfee0_0000, .write, in: memory) == .interruptMessage)
    #expect(translate(machine, 0xfeef_f000, .read, in: memory) == Self.fault(.untranslatedHole))
    #expect(translate(machine, 0xfef0_0000, .read, in: memory) == .to(0x18_0000))
    let table = try #require(machine.tables(in: memory).tables.first)
    var budget = EnumerationBudget(for: memory)
    #expect(
      machine.mappings(of: table, in: memory, budget: &budget).runs.map(\.iova) == [
        IOVA(0xfedf_f000)..<IOVA(0xfee0_0000), IOVA(0xfef0_0000)..<IOVA(0xfef0_1000),
      ])
    // A smaller table knows nothing of the range, and answers the same.
    let small = Self.machine([Self.bridge()])
    let other = try Self.memory()
    #expect(translate(small, 0xfee0_0000, .write, in: other) == .interruptMessage)
    #expect(translate(small, 0xfee0_0000, .read, in: other) == Self.fault(.untranslatedHole))
  }

  @Test func `a request is cut at the end of its page`() throws {
    let memory = try Self.memory()
    let machine = Self.machine([Self.bridge()])
    #expect(
      translate(machine, 0x3ff0, .read, byteCount: 0x10, in: memory) == .to(0x18_3ff0, 0x10))
    #expect(
      translate(machine, 0x3ff0, .read, byteCount: 0x11, in: memory) == .to(0x18_3ff0, 0x10))
    #expect(translate(machine, 0x3000, .read, byteCount: .max, in: memory) == .to(0x18_3000, 4096))
  }

  @Test func `the entry past the table's end is never read`() throws {
    let memory = try Self.memory()
    memory.store(bigEndian: 0x18_0003 as UInt64, at: PhysicalAddress(0x11_0000))
    let machine = Self.machine([Self.bridge()])
    #expect(translate(machine, 0x1ff_ffff, .read, in: memory) == .to(0x217_ffff))
    #expect(translate(machine, 0x200_0000, .read, in: memory) == Self.fault(.beyondTable))
    #expect(translate(machine, 0xffff_ffff, .read, in: memory) == Self.fault(.beyondTable))
  }

  @Test func `640 KiB to 1 MiB is a hole`() throws {
    let memory = try Self.memory()
    let machine = Self.machine([Self.bridge()])
    #expect(translate(machine, 0x9_ffff, .read, in: memory) == .to(0x21_ffff))
    #expect(translate(machine, 0xa_0000, .read, in: memory) == Self.fault(.untranslatedHole))
    #expect(translate(machine, 0xa_3000, .write, in: memory) == Self.fault(.untranslatedHole))
    #expect(translate(machine, 0xf_ffff, .write, in: memory) == Self.fault(.untranslatedHole))
    #expect(translate(machine, 0x10_3000, .write, in: memory) == .to(0x28_3000))
  }

  @Test func `memory windows are holes, the second when it is enabled`() throws {
    let memory = try Self.memory()
    let window: Range<UInt64> = 0x10_3000..<0x10_4000
    let first = Self.machine([Self.bridge(memory1: window)])
    #expect(translate(first, 0x10_3000, .read, in: memory) == Self.fault(.untranslatedHole))
    #expect(translate(first, 0x10_3fff, .read, in: memory) == Self.fault(.untranslatedHole))
    #expect(translate(first, 0x10_4000, .read, in: memory) == Self.fault(.emptyEntry))
    let second = Self.machine([Self.bridge(configuration: 0x2150_0000, memory2: window)])
    #expect(translate(second, 0x10_3000, .read, in: memory) == Self.fault(.untranslatedHole))
    let off = Self.machine([Self.bridge(configuration: 0x2110_0000, memory2: window)])
    #expect(translate(off, 0x10_3000, .read, in: memory) == .to(0x28_3000))
  }

  @Test func `an address of 4 GiB and more is refused, or passes when DAC is allowed`() throws {
    let memory = try Self.memory()
    let refusing = Self.machine([Self.bridge()])
    #expect(
      translate(refusing, 0x1_0000_0000, .read, in: memory) == Self.fault(.dualAddressCycle))
    #expect(translate(refusing, .max, .read, in: memory) == Self.fault(.dualAddressCycle))
    let allowing = Self.machine([Self.bridge(configuration: 0x2010_0000)])
    #expect(
      translate(allowing, 0x1_0000_3000, .write, byteCount: 9000, in: memory)
        == .to(0x1_0000_3000, 9000))
    #expect(translate(allowing, 0x3000, .write, in: memory) == .to(0x18_3000))
  }

  @Test func `disabled slots block everything, translated or not`() throws {
    let memory = try Self.memory()
    for configuration: UInt32 in [0x3d50_0000, 0x1c00_0000, 0x0400_0000] {
      let machine = Self.machine([Self.bridge(configuration: configuration)])
      #expect(translate(machine, 0x3000, .read, in: memory) == Self.fault(.slotsDisabled))
    }
  }

  @Test func `a bridge that does not translate passes addresses unchanged`() throws {
    let memory = try Self.memory()
    let machine = Self.machine([Self.bridge(configuration: 0x0040_0000)])
    #expect(
      translate(machine, 0xa_0123, .write, byteCount: 9000, in: memory) == .to(0xa_0123, 9000))
  }

  @Test func `a table where no memory answers stops the request`() throws {
    let memory = try Self.memory()
    let machine = Self.machine([Self.bridge(table: 0x1f_8000)])
    #expect(translate(machine, 0x7f_f000, .read, in: memory) == Self.fault(.emptyEntry))
    let beyond = Self.machine([Self.bridge(table: 0xffff_ffff_8000)])
    #expect(translate(beyond, 0, .read, in: memory) == Self.fault(.tableUnreadable))
  }

  @Test func `a table that runs out of RAM answers up to there`() throws {
    let memory = try Self.memory()
    let machine = Self.machine([Self.bridge(table: 0x1f_8000)])
    #expect(translate(machine, 0xfff_fff, .read, in: memory) == Self.fault(.emptyEntry))
    #expect(translate(machine, 0x100_0000, .read, in: memory) == Self.fault(.tableUnreadable))
  }

  @Test func `each bus has the table of its bridge`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    for (place, page) in [(0x10_0000, 0x20_0003), (0x11_0000, 0x21_0003), (0x12_0000, 0x22_0003)]
      as [(UInt64, UInt64)]
    {
      memory.store(bigEndian: page, at: PhysicalAddress(place))
    }
    let machine = Self.machine(
      [Self.bridge(0...0, table: 0x10_0000), nil, Self.bridge(2...3, table: 0x11_0000)],
      [nil, nil, nil, Self.bridge(4...4, table: 0x12_0000)])
    func translate(_ text: String) -> Translation {
      machine.translate(Requester(text)!, IOVA(0x10), access: .read, in: memory)
    }
    #expect(translate("00:01.0") == .to(0x20_0010))
    #expect(translate("00:1f.7") == .to(0x20_0010))
    #expect(translate("02:01.0") == .to(0x21_0010))
    #expect(translate("03:00.0") == .to(0x21_0010))
    #expect(translate("04:02.0") == .to(0x22_0010))
    // No bridge claims these: nothing translates for them.
    #expect(translate("01:00.0") == .to(0x10))
    #expect(translate("05:00.0") == .to(0x10))
  }

  @Test func `the last bridge and the last chip that claim a bus have it`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    for (place, page) in [(0x10_0000, 0x20_0003), (0x11_0000, 0x21_0003), (0x12_0000, 0x22_0003)]
      as [(UInt64, UInt64)]
    {
      memory.store(bigEndian: page, at: PhysicalAddress(place))
    }
    let first = Self.bridge(table: 0x10_0000)
    let second = Self.bridge(table: 0x11_0000)
    let third = Self.bridge(table: 0x12_0000)
    func page(_ machine: Machine) -> Translation {
      machine.translate(Requester("00:01.0")!, IOVA(0), access: .read, in: memory)
    }
    #expect(page(Self.machine([first, second])) == .to(0x21_0000))
    #expect(page(Self.machine([second, nil, first])) == .to(0x20_0000))
    #expect(page(Self.machine([first, second], [third])) == .to(0x22_0000))
    #expect(page(Self.machine([third], [first, second])) == .to(0x21_0000))
  }

  @Test func `only some faults are latched`() {
    #expect(!Fault.calgary(.slotsDisabled).isRecorded)
    #expect(!Fault.calgary(.untranslatedHole).isRecorded)
    #expect(Fault.calgary(.emptyEntry).isRecorded)
    #expect(Fault.calgary(.emptyEntry).number == nil)
  }

  /// The reference: five lines, from the driver's words.
  static func reference(
    _ iova: UInt64, _ access: Access, table: UInt64, entryCount: UInt64, in memory: FlatMemory
  ) -> UInt64? {
    guard iova >> 12 < entryCount, !(0xa0000..<0x100000).contains(iova) else { return nil }
    guard let bytes = memory.bytes(at: PhysicalAddress(table + (iova >> 12) * 8), count: 8) else {
      return nil
    }
    let entry = bytes.reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    guard entry & (access == .read ? 1 : 2) != 0 else { return nil }
    return entry & 0xffff_ffff_f000 | iova & 0xfff
  }

  @Test(arguments: seeds)
  func `random tables translate as five lines say`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 2 << 20)
    for index: UInt64 in 0..<8192 where !generator.oneIn(4) {
      memory.store(generator.next(), at: 0x10_0000 + index * 8)
    }
    let machine = Self.machine([Self.bridge()])
    for _ in 0..<4000 {
      let iova = generator.next() % (generator.oneIn(10) ? 1 << 32 : 0x210_0000)
      let access = generator.oneIn(2) ? Access.read : .write
      // Interrupt messages are no requests for memory.
      guard !(0xfee0_0000..<0xfef0_0000).contains(iova) else { continue }
      let expected = Self.reference(
        iova, access, table: 0x10_0000, entryCount: 8192, in: memory)
      let answer = translate(machine, iova, access, in: memory)
      if let expected {
        #expect(answer == .to(expected), "\(IOVA(iova))")
      } else {
        guard case .fault(let fault) = answer, fault.calgaryReason != nil else {
          Issue.record("\(IOVA(iova)) is translated: \(answer)")
          continue
        }
      }
    }
  }
}
