import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@Suite struct CalgaryOptionsTests {
  /// The rows of the table in `docs/calgary-options.md`.
  private func documented() throws -> [String] {
    let parts = #filePath.split(separator: "/").dropLast(4)
    let path = "/" + parts.joined(separator: "/") + "/docs/calgary-options.md"
    let stream = try #require(fopen(path, "r"))
    defer { fclose(stream) }
    var bytes: [UInt8] = []
    while case let byte = fgetc(stream), byte >= 0 { bytes.append(UInt8(byte)) }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
      .filter { $0.hasPrefix("| U") }
  }

  @Test func `the document lists every option with its default, in order`() throws {
    let rows = try documented()
    let list = CalgaryOptions().list
    #expect(list.count == 26)
    #expect(rows.count == list.count)
    for (row, option) in zip(rows, list) {
      #expect(row.hasPrefix("| \(option.question) | `\(option.name)` | `\(option.value)` | "))
      #expect(row.count > 60, "\(option.question) has a reason")
    }
  }

  /// A machine with one option turned, and three entries: 0x20 reads and writes, 0x21 writes only,
  /// 0x22 has a bit that means nothing and a hub.
  private func machine(
    table: UInt64 = SmallMachine.table, sizeCode: UInt64 = 0,
    _ turn: (inout CalgaryOptions) -> Void
  ) throws -> SmallMachine {
    var options = CalgaryOptions()
    turn(&options)
    let machine = try SmallMachine(table: table, sizeCode: sizeCode, options: options)
    machine.store(0x4_5003, page: 0x20)
    machine.store(0x4_6002, page: 0x21)
    machine.store(0x8000_0000_0004_7003, page: 0x22)
    machine.store(0x4_8007, page: 0x23)
    return machine
  }

  @Test func `U1 and U25: bits without a meaning`() throws {
    let plain = try machine { _ in }
    #expect(plain.translate(0x2_2000) == plain.mapped(0x4_7000))
    #expect(plain.translate(0x2_3000) == plain.mapped(0x4_8000))
    let strict = try machine { $0.unusedEntryBits = .fault }
    #expect(strict.translate(0x2_2000) == .fault(.calgary(.unusedBitsSet)))
    #expect(strict.translate(0x2_3000) == strict.mapped(0x4_8000))
    let hub = try machine { $0.hubIdentifier = .fault }
    #expect(hub.translate(0x2_2000) == hub.mapped(0x4_7000))
    #expect(hub.translate(0x2_3000) == .fault(.calgary(.unusedBitsSet)))
  }

  @Test func `U2: an entry for writing only`() throws {
    let plain = try machine { _ in }
    #expect(plain.translate(0x2_1000, .read) == .fault(.calgary(.readNotPermitted)))
    #expect(plain.translate(0x2_1000, .write) == plain.mapped(0x4_6000))
    let both = try machine { $0.entryPermissions = .writeIncludesRead }
    #expect(both.translate(0x2_1000, .read) == both.mapped(0x4_6000))
    let none = try machine { $0.entryPermissions = .writeAloneIsEmpty }
    #expect(none.translate(0x2_1000, .write) == .fault(.calgary(.emptyEntry)))
  }

  @Test func `U3, U13 and U15: what an error leaves`() throws {
    let plain = try machine {
      $0.errorRecord.channelStatus = 0x8000_0001
      $0.errorRecord.plssr = 0x1234
      $0.agent = .zero
    }
    _ = plain.translate(0)
    #expect(plain.read(.channelStatus) == 0x8000_0001)
    #expect(plain.read(.plssr) == 0x1234)
    let last = try machine { $0.errorLatch = .last }
    _ = last.translate(0)
    let other = Requester(bus: 2, device: 7, function: 0)
    _ = last.translate(0, by: other)
    #expect(last.read(.channelStatus) == 0x1007_0000)
    let stop = try machine { $0.errorLatch = .firstAndStop }
    _ = stop.translate(0)
    #expect(stop.translate(0x2_0000) == .fault(.calgary(.bridgeStopped)))
    stop.write(.channelStatus, 0)
    #expect(stop.translate(0x2_0000) == stop.mapped(0x4_5000))
  }

  @Test func `U4: bits of TAR that are not software's`() throws {
    let stored = try machine { $0.tableAddressUnusedBits = .stored }
    stored.write(.tableAddress, 0xabcd_0000_0010_7ff0)
    #expect(stored.read(.tableAddress) == 0xabcd_0000_0010_7ff0)
    let plain = try machine { _ in }
    plain.write(.tableAddress, 0xabcd_0000_0010_7ff0)
    #expect(plain.read(.tableAddress) == 0x10_0000)
  }

  @Test func `U5: a table that is not aligned to its size`() throws {
    // 128 KiB at 0x108000: entry 0x1020 is at 0x110100 by adding, at 0x108100 by OR.
    func machine(_ choice: CalgaryOptions.MisalignedTable) throws -> SmallMachine {
      let machine = try self.machine(table: 0x10_8000, sizeCode: 1) { $0.misalignedTable = choice }
      machine.memory.store(bigEndian: 0x4_5003 as UInt64, at: PhysicalAddress(0x11_0100))
      machine.memory.store(bigEndian: 0x4_6003 as UInt64, at: PhysicalAddress(0x10_8100))
      return machine
    }
    #expect(
      try machine(.added).translate(0x102_0000) == .mapped(PhysicalAddress(0x4_5000), byteCount: 1))
    #expect(
      try machine(.combined).translate(0x102_0000)
        == .mapped(PhysicalAddress(0x4_6000), byteCount: 1))
    #expect(try machine(.fault).translate(0x102_0000) == .fault(.calgary(.misalignedTable)))
  }

  @Test func `U6: beyond the table`() throws {
    let plain = try machine { _ in }
    #expect(plain.translate(0x202_0000) == .fault(.calgary(.beyondTable)))
    let wraps = try machine { $0.beyondTable = .wraps }
    #expect(wraps.translate(0x202_0000) == wraps.mapped(0x4_5000))
    let open = try machine { $0.beyondTable = .untranslated }
    #expect(open.translate(0x202_0000) == open.mapped(0x202_0000))
  }

  @Test func `U9: a store that was not flushed`() throws {
    let strict = try machine { $0.tableReads = .afterLineFlush }
    let place = PhysicalAddress(SmallMachine.table + 8 * 0x20)
    strict.unit.holdLine(containing: place, in: strict.memory)
    strict.store(0x7_7003, page: 0x20)
    #expect(strict.translate(0x2_0000) == strict.mapped(0x4_5000))
    strict.unit.flushLine(containing: place)
    #expect(strict.translate(0x2_0000) == strict.mapped(0x7_7000))
    let plain = try machine { _ in }
    plain.unit.holdLine(containing: place, in: plain.memory)
    plain.store(0x7_7003, page: 0x20)
    #expect(plain.translate(0x2_0000) == plain.mapped(0x7_7000))
  }

  @Test func `U10 and U22: holes and interrupts`() throws {
    let open = try machine { $0.holes = .untranslated }
    #expect(open.translate(0xa_0123) == open.mapped(0xa_0123))
    let through = try machine { $0.holes = .translated }
    through.store(0x4_5003, page: 0xa0)
    #expect(through.translate(0xa_0123) == through.mapped(0x4_5123))
    let messages = try machine(sizeCode: 7) { $0.interruptWrites = .translated }
    #expect(messages.translate(0xfee0_0000, .write) == .fault(.calgary(.tableUnreadable)))
  }

  @Test func `U11 and U12: without translation, and above 4 GiB`() throws {
    for choice in [CalgaryOptions.TranslationOff.identity, .blocked] {
      let machine = try machine { $0.translationOff = choice }
      machine.write(.configuration, 0)
      #expect(
        machine.translate(0x1_2345)
          == (choice == .identity
            ? machine.mapped(0x1_2345) : .fault(.calgary(.translationDisabled))))
    }
    for choice in [CalgaryOptions.DualAddressCycles.untranslated, .blocked] {
      let machine = try machine { $0.dualAddressCycles = choice }
      #expect(machine.translate(1 << 32) == .fault(.calgary(.dualAddressCycle)))
      machine.write(.configuration, 0x2010_0000)
      #expect(
        machine.translate(1 << 32)
          == (choice == .untranslated
            ? machine.mapped(1 << 32) : .fault(.calgary(.dualAddressCycle))))
    }
  }

  @Test func `U14: what the device sees of a failure`() throws {
    for choice in [CalgaryOptions.FailedRequests.dropped, .aborted] {
      let machine = try machine { $0.failedRequests = choice }
      machine.memory.store(0x1122_3344_5566_7788 as UInt64, at: PhysicalAddress(0x4_5ff8))
      func request(_ access: Access) -> DMARequest {
        DMARequest(access, by: SmallMachine.device, at: IOVA(0x2_0ff8), byteCount: 16)
      }
      let (bytes, completion) = machine.unit.read(request(.read), from: machine.memory)
      let fault = Fault.calgary(.readNotPermitted)
      #expect(completion == (choice == .dropped ? .dropped(fault) : .aborted(fault)))
      #expect(bytes == hexdump("88 77 66 55 44 33 22 11 ff ff ff ff ff ff ff ff"))
      let written = machine.unit.write(
        [UInt8](repeating: 0xaa, count: 16), request(.write), to: machine.memory)
      #expect(written == .done)
      #expect(machine.memory.quadword(at: PhysicalAddress(0x4_6000)) == 0xaaaa_aaaa_aaaa_aaaa)
    }
  }

  @Test func `U16: one slot bit, and all of them`() throws {
    for bit in [0x0400_0000, 0x0800_0000, 0x1000_0000] as [UInt64] {
      let any = try machine { _ in }
      any.write(.configuration, 0x2110_0000 | bit)
      #expect(any.translate(0x2_0000) == .fault(.calgary(.slotsDisabled)))
      let all = try machine { $0.slotDisable = .allBits }
      all.write(.configuration, 0x2110_0000 | bit)
      #expect(all.translate(0x2_0000) == all.mapped(0x4_5000))
      all.write(.configuration, 0x3d10_0000)
      #expect(all.translate(0x2_0000) == .fault(.calgary(.slotsDisabled)))
    }
  }

  @Test func `U17, U18 and U19: values of registers`() throws {
    let machine = try machine {
      $0.idleValues.arbitration = 0xfc00_0000
      $0.chipConfiguration = .readOnly
    }
    #expect(machine.read(.arbitration) == 0xfc00_0000)
    machine.write(.chipConfiguration, .max)
    #expect(machine.read(.chipConfiguration) == 0)
    var options = CalgaryOptions()
    options.pageMigration = .storage
    let storage = try SmallMachine(.calioc2, options: options)
    storage.write(.pageMigrationControl, 0x8000_0000)
    #expect(storage.read(.pageMigrationControl) == 0x8000_0000)
    #expect(storage.read(.pageMigrationControl) == 0x8000_0000)
  }

  @Test func `U21 and U26: what firmware leaves`() throws {
    var options = CalgaryOptions()
    options.unusedBuses = .zero
    options.firmwareWindow = IOVA(0xc000_0000)..<IOVA(0xd000_0000)
    let machine = try SmallMachine(options: options)
    #expect(machine.unit.bridge(above: 0) == 3)
    #expect(machine.read(.memory1Low) == 0xc000_0000)
    #expect(machine.read(.memory1Last) == 0xcfff_ffff)
  }

  /// The plain path and the one that looks at every option are two implementations of one thing.
  @Test(arguments: seeds)
  func `both ways through a chip give one answer`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let plain = try machine(sizeCode: 1) { _ in }
    // A cache that forgets at once changes nothing but the way.
    let exact = try machine(sizeCode: 1) { $0.tableReads = .afterLineFlush }
    for _ in 0..<200 {
      let entry = generator.next() & 0x8000_0000_003f_ffff
      let page = UInt64.random(in: 0..<0x4000, using: &generator)
      plain.store(entry, page: page)
      exact.store(entry, page: page)
    }
    for _ in 0..<1500 {
      let wide = UInt64.random(in: 0...33, using: &generator)
      let address = generator.next() >> (63 - wide)
      let access: Access = Bool.random(using: &generator) ? .read : .write
      let count = UInt64.random(in: 1...10_000, using: &generator)
      func answer(_ machine: SmallMachine) -> Translation {
        machine.unit.answer(
          below: 2, to: IOVA(address), byteCount: count, access: access, in: machine.memory)
      }
      #expect(answer(plain) == answer(exact), "seed \(seed), \(hexadecimal(address))")
    }
  }
}
