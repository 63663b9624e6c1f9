import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUInspection

@Suite struct PageSieveTests {
  /// A page of little-endian quadwords; all others are zero.
  func page(_ words: [Int: UInt64]) -> [UInt8] {
    (0..<512).flatMap { index in
      (0..<8).map { UInt8(truncatingIfNeeded: (words[index] ?? 0) >> UInt64(8 * $0)) }
    }
  }

  /// The finders that would look at the page.
  func look(_ words: [Int: UInt64]) -> [String] {
    let finders = TableFinders.all.filter { $0.excludedBits != nil }
    let look = PageSieve(finders.compactMap { $0.excludedBits }).look(page(words).span)
    guard !look.isZero else { return ["zero"] }
    return finders.indices.filter(look.passes).map { "\(finders[$0])" }
  }

  @Test func `a page of zeros is nothing else`() {
    #expect(look([:]) == ["zero"])
  }

  @Test func `masks are held against the quadwords at their places`() {
    var masks = SIMD8<UInt64>.zero
    masks[3] = 0xf0
    let sieve = PageSieve([masks])
    for (index, passes) in [(3, false), (11, false), (507, false), (2, true), (508, true)] {
      #expect(sieve.look(page([index: 0x10]).span) == PageLook(passed: passes ? 1 : 0))
    }
  }

  @Test(arguments: [0, 1, 63, 64, 511])
  func `one quadword decides, wherever it lies`(index: Int) {
    // 0x6a04001 is a pointer with a present bit; as a TCE it has bits that drivers leave zero, and so
    // it has in the interrupt half of a device table entry.
    let pointer = ["RootTableFinder", "GATTFinder"] + (index % 4 < 2 ? ["DeviceTableFinder"] : [])
    #expect(look([index: 0x6a0_4001]) == pointer)
    // 0x1c345003 stored big-endian is a TCE; as a pointer and as GATT entries it has reserved bits, and
    // in a device table entry only the first quadword may hold it.
    let tce = ["TCETableFinder"] + (index % 4 == 0 ? ["DeviceTableFinder"] : [])
    #expect(look([index: (0x1c34_5003 as UInt64).byteSwapped]) == tce)
    #expect(look([index: 0xffff_ffff_ffff_ffff]) == [])
  }

  @Test(arguments: [0, 1, 2, 3, 61, 255, 256, 2000, 4091, 4092])
  func `a signature is found at every place`(offset: Int) {
    var bytes = [UInt8](repeating: UInt8(ascii: "D"), count: 4096)
    bytes.replaceSubrange(offset..<offset + 4, with: Array("DMAR".utf8))
    let found = PageSieve.offsets(of: PageSieve.pattern("DMAR"), in: bytes.span)
    #expect(found == [offset])
  }

  @Test func `a signature is found in a buffer of any length, and only when all of it is there`() {
    for count in [0, 3, 4, 5, 258, 259, 260, 515, 516, 517, 599] {
      var bytes = [UInt8](repeating: 0, count: count)
      if count >= 4 { bytes.replaceSubrange((count - 4)..<count, with: Array("DMAR".utf8)) }
      let found = PageSieve.offsets(of: PageSieve.pattern("DMAR"), in: bytes.span)
      #expect(found == (count >= 4 ? [count - 4] : []))
    }
  }
}

@Suite struct TableSearchTests {
  /// A machine of 1 MiB whose only VT-d tables are those of the small machine.
  @Test func `a root table is found, and its context and page tables are not taken for one`() throws
  {
    let small = try SmallMachine()
    let search = TableSearch(in: small.memory)
    let roots = search.candidates.filter { $0.kind == .rootTable }
    #expect(roots.map(\.address) == [PhysicalAddress(0x30000)])
    // One of five context entries is broken on purpose, and one page table entry.
    #expect(roots.first?.reasons.first == "4 of 5 context entries legal, in 2 context tables")
  }

  @Test func `four entries of a TCE table are too few to be certain`() throws {
    let small = try SmallMachine()
    let tables = TableSearch(in: small.memory).candidates.filter { $0.kind == .tceTable }
    #expect(tables.allSatisfy { !$0.isCertain })
  }

  @Test func `a TCE table in use is found with its size`() throws {
    let memory = try FlatMemory(byteCount: 0x20_0000)
    // 64 KiB at 0x20000 and 64 KiB at 0x30000, as a driver fills them from entry 32 on.
    for table in [0x20000, 0x30000 as UInt64] {
      for index in 32..<132 as Range<UInt64> {
        let entry = Calgary.TranslationControlEntry(rawValue: 0x10_0000 + index << 12 | 3)
        entry.store(to: memory, at: PhysicalAddress(table + 8 * index))
      }
    }
    let tables = TableSearch(in: memory).candidates
    #expect(tables.map(\.kind) == [.tceTable, .tceTable])
    #expect(tables.map(\.address.rawValue) == [0x20000, 0x30000])
    #expect(tables[0].byteCount == 0x10000)
    #expect(tables.allSatisfy { $0.isCertain })
  }

  @Test func `a GATT is found by its scratch page, a page table is not taken for one`() throws {
    let memory = try FlatMemory(byteCount: 0x21_0000)
    for index in 0..<8192 as Range<UInt64> {
      // The scratch page at 0x123000; a few pages of devices.
      let entry: UInt32 = index % 100 == 7 ? 0x20_0003 : 0x12_3003
      memory.store(entry, at: PhysicalAddress(0x8000 + 4 * index))
    }
    // 32 KiB of second-stage leaves of memory below 4 GiB: every odd doubleword is zero.
    for index in 0..<4096 as Range<UInt64> {
      memory.store(0x20_0003 + (index % 256) << 12, at: PhysicalAddress(0x10000 + 8 * index))
    }
    let gatts = TableSearch(in: memory).candidates.filter { $0.kind == .gatt && $0.isCertain }
    #expect(gatts.map(\.address.rawValue) == [0x8000])
    #expect(gatts.first?.byteCount == 32_768)
  }

  @Test func `a GATT of which any page is missing is not taken for a smaller one`() throws {
    // 64 KiB at 0x10000: an aperture of 64 MiB.
    let memory = try FlatMemory(byteCount: 0x21_0000)
    for index in 0..<16_384 as Range<UInt64> {
      let entry: UInt32 = index % 100 == 7 ? 0x20_0003 : 0x12_3003
      memory.store(entry, at: PhysicalAddress(0x1_0000 + 4 * index))
    }
    #expect(TableSearch(in: memory).candidates.map(\.byteCount) == [0x1_0000])
    for page in stride(from: 0x1_0000 as UInt64, to: 0x2_0000, by: 0x1000) {
      let dump = LackingMemory(memory, without: [page])
      let search = TableSearch(in: dump)
      #expect(search.candidates.count == 1)
      #expect(search.candidates.allSatisfy { !$0.isCertain && $0.score == 59 })
      #expect(search.candidates.map(\.missingPage) == [PhysicalAddress(page)])
      let selection = search.selection(
        in: dump, TableHints(aperture: ApertureHint(base: 0x400_0000)))
      #expect(selection.units.isEmpty)
      #expect(
        selection.passedOver.map(\.reason) == [
          "may be longer, shorter or several: \(PhysicalAddress(page)) is not in this dump"
        ])
    }
  }

  @Test(
    arguments: [
      // The beginning of the first table, its end, the beginning of the second, its end.
      (0x2_0000, 0x2_0000, [0x3_0000]), (0x2_f000, 0x2_0000, [0x3_0000]),
      (0x3_0000, 0x2_0000, []), (0x3_f000, 0x3_0000, [0x2_0000]),
    ] as [(UInt64, UInt64, [UInt64])])
  func `a TCE table whose length rests on a missing page is not taken, and what it maps is unknown`(
    missing: UInt64, start: UInt64, taken: [UInt64]
  ) throws {
    // Two tables of 64 KiB, the second one's entries lead to 2 MiB and on.
    let memory = try FlatMemory(byteCount: 0x80_0000)
    for (table, pages) in [(0x2_0000, 0x10_0000), (0x3_0000, 0x20_0000)] as [(UInt64, UInt64)] {
      for index in 32..<700 as Range<UInt64> {
        Calgary.TranslationControlEntry(rawValue: pages + index << 12 | 3)
          .store(to: memory, at: PhysicalAddress(table + 8 * index))
      }
    }
    let dump = LackingMemory(memory, without: [missing])
    let selection = TableSearch(in: dump).selection(in: dump)
    #expect(selection.taken.map(\.address.rawValue) == taken)
    #expect(selection.passedOver.map(\.candidate.address.rawValue) == [start])
    guard !taken.isEmpty else { return }
    let machine = Machine(name: "", units: selection.units)
    let reach = ReachReport(PhysicalAddress(0x7f_0000), machine: machine, in: dump)
    #expect(reach.ways.isEmpty)
    #expect(
      reach.blindness.gaps.map(\.text) == [
        "all devices: unknown, the table of level 1 at \(PhysicalAddress(missing)) is not in this dump"
      ])
    #expect(reach.blindness.hidesUnit)
    // Nothing of it is unmapped since: nobody knows.
    let whole = TableSearch(in: memory).selection(in: memory)
    let difference = MapsDifference(
      before: Machine(name: "", units: whole.units), in: memory, after: machine, in: dump)
    #expect(difference.rows.allSatisfy { $0.differences.isEmpty })
  }

  /// Intel VT-d 8.1: 48 bytes of header, a DRHD of 16; the checksum makes the sum zero.
  static func dmar() -> [UInt8] {
    var bytes: [UInt8] = Array("DMAR".utf8) + [64, 0, 0, 0, 1, 0] + Array("TESTERtestdmar".utf8)
    bytes += [UInt8](repeating: 0, count: 36 - bytes.count)
    bytes += [38, 1] + [UInt8](repeating: 0, count: 10)
    bytes += [0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0]
    bytes[9] = 0 &- bytes.reduce(0) { $0 &+ $1 }
    return bytes
  }

  @Test(arguments: [0x5003, 0x10000 - 2, 0x10000 - 3, 0x20000 - 1] as [UInt64])
  func `a DMAR table is found wherever it begins`(address: UInt64) throws {
    let memory = try FlatMemory(byteCount: 0x22000)
    Self.dmar().withUnsafeBytes { _ = memory.write($0, at: PhysicalAddress(address)) }
    let found = TableSearch(in: memory).candidates
    #expect(found.map(\.kind) == [.dmar])
    #expect(found.first?.address.rawValue == address)
    #expect(found.first?.score == 100)
    #expect(found.first?.reasons.last == "units at 0xfed90000")
  }

  @Test func `the letters alone are no DMAR table`() throws {
    let memory = try FlatMemory(byteCount: 0x8000)
    Array("DMAR: no such device".utf8).withUnsafeBytes {
      _ = memory.write($0, at: PhysicalAddress(0x5000))
    }
    #expect(TableSearch(in: memory).candidates.isEmpty)
  }

  /// A device scope that ends after its structure: whatever else holds, the units are not believed.
  @Test func `a DMAR table whose structures do not add up says where`() throws {
    let memory = try FlatMemory(byteCount: 0x8000)
    var bytes = Self.dmar() + [1, 10, 0, 0, 0, 0, 2, 0]
    bytes[4] = 72
    bytes[50] = 24
    bytes[9] = 0
    bytes[9] = 0 &- bytes.reduce(0) { $0 &+ $1 }
    bytes.withUnsafeBytes { _ = memory.write($0, at: PhysicalAddress(0x5000)) }
    let found = try #require(TableSearch(in: memory).candidates.first)
    #expect(found.score == 80)
    #expect(
      found.reasons == [
        "signature DMAR, 72 bytes", "its bytes add up to zero", "host addresses of 39 bits",
        "at byte 0x40: device scope with a length of 10 bytes, and its structure has 8 left; the "
          + "firmware or the copy is broken",
      ])
  }

  /// The segment at 0x40e, two blocks, and a table of version 3 with two Calgary chips.
  @Test func `the Rio table of an EBDA is found with its chips`() throws {
    let memory = try FlatMemory(byteCount: 0xa_0000)
    for (address, bytes) in [
      (0x40e, "00 9f"), (0x9_f180, "90 01 11 11"), (0x9_f190, "00 00 52 47"),
      (0x9_f194, "03 01 02"),
      (0x9_f197, "00 00 00 e0 fd ff ff ff ff ff ff 01"),
      (0x9_f1a3, "02 00 00 a0 fd 04 00 00 00 ff ff 01 01 00 01"),
      (0x9_f1b2, "03 00 00 b0 fd 05 00 00 01 ff ff 03 01 01 01"),
    ] as [(UInt64, String)] {
      hexdump(bytes).withUnsafeBytes { _ = memory.write($0, at: PhysicalAddress(address)) }
    }
    func rioTable() -> TableCandidate? {
      TableSearch(in: memory).candidates.first { $0.kind == .rioTable }
    }
    let found = try #require(rioTable())
    #expect(found.address == PhysicalAddress(0x9_f194))
    #expect(found.byteCount == 45)
    #expect(found.score == 90)
    #expect(
      found.reasons == [
        "version 3, in the EBDA at 0x9f000",
        "Calgary chips with registers at 0xfda00000 and 0xfdb00000",
      ])
    // Of other types than a Calgary chip's.
    for place: UInt64 in [0x9_f1a8, 0x9_f1b7] {
      _ = [UInt8(2)].withUnsafeBytes { memory.write($0, at: PhysicalAddress(place)) }
    }
    #expect(rioTable() == nil)
  }

  @Test(arguments: [7, 8] as [UInt64])
  func `random memory holds nothing that is certain`(seed: UInt64) throws {
    let memory = try FlatMemory(byteCount: 1 << 18)
    var generator = SeededGenerator(seed: seed)
    for address in stride(from: 0, to: 1 << 18, by: 8) {
      // Few bits set, and zeros between: nearer to a table than noise is.
      let word = generator.next() & generator.next() & generator.next() & 0xffff_f003
      memory.store(word & 3 == 1 ? word : 0, at: PhysicalAddress(UInt64(address)))
    }
    let certain = TableSearch(in: memory).candidates.filter(\.isCertain)
    #expect(certain.isEmpty, "seed \(seed)")
  }

  @Test func `the capture kernel's copy is told from the dead kernel's table`() throws {
    // Far apart, and no memory between.
    let memory = try FlatMemory(ram: [
      addresses(0x10_0000..<0x10_a000), addresses(0x20_0000..<0x20_1000),
      addresses(0x30_0000..<0x30_2000),
    ])
    func store(_ words: [UInt64], at address: UInt64) {
      for (index, word) in words.enumerated() {
        memory.store(word, at: PhysicalAddress(address + 8 * UInt64(index)))
      }
    }
    // The dead kernel: root 0x100000, contexts 0x101000 and 0x109000, four page tables between.
    // The capture kernel: root 0x300000 and context 0x301000, the same page tables.
    for base in [0x10_0000, 0x30_0000 as UInt64] {
      store([base + 0x1001], at: base)
      for device in 0..<4 as Range<UInt64> {
        store([0x10_2001 + device * 0x1000, 0x102 + device << 8], at: base + 0x1000 + 128 * device)
      }
    }
    store([0x10_9001], at: 0x10_0010)
    store([0x10_2001, 0x102], at: 0x10_9000)
    for table in [0x10_2000, 0x10_3000, 0x10_4000, 0x10_5000 as UInt64] {
      store([0x10_6003], at: table)
    }
    store([0x10_7003], at: 0x10_6000)
    store([0x10_8003], at: 0x10_7000)
    store([0x20_0003], at: 0x10_8000)
    let roots = TableSearch(in: memory).candidates.filter(\.isCertain)
    #expect(roots.count == 2)
    #expect(roots.first { $0.address.rawValue == 0x30_0000 }?.owner == .captureKernel)
    #expect(roots.first { $0.address.rawValue == 0x10_0000 }?.owner == .deadKernel)
    let told = TableSearch(
      in: memory, crashKernel: [PhysicalAddress(0x10_0000)..<PhysicalAddress(0x20_0000)])
    #expect(told.candidates.first { $0.address.rawValue == 0x10_0000 }?.owner == .captureKernel)
  }
}
