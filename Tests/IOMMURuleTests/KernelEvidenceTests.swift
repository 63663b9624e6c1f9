import IOMMUFormats
import IOMMURule
import IOMMUTranslation
import Testing

/// R3, R9 and R10 where the kernel's own structures are in the dump.
@Suite struct KernelEvidenceTests {
  private typealias Allocator = RuleEvidence.Allocator

  private static let devices = ["00:03.0", "00:04.0"].map { PCI.Function(Requester($0)!) }

  private static func numbers(_ range: Range<UInt64>) -> Range<IOVA> {
    IOVA(range.lowerBound)..<IOVA(range.upperBound)
  }

  private static func allocator(
    _ held: [(Range<UInt64>, Allocator.State)], of device: Int = 0, root: UInt64 = 0x3000,
    isWhole: Bool = true
  ) -> Allocator {
    Allocator(
      devices: [devices[device]], root: PhysicalAddress(root),
      held: held.map { .init(numbers($0), $1) }, isWhole: isWhole)
  }

  private static func reservedFirst(
    _ allocators: [Allocator], needed: [String] = ["00:03.0"], on dump: Dump? = nil
  ) throws -> RuleVerdict {
    try (dump ?? Dump.vtd()).check(devices: needed) { $0.allocators = allocators }.reservedFirst()
  }

  /// The crash kernel is 0x200000..<0x204000.
  @Test func `numbers that are free, or were given back, break R3`() throws {
    let free = try Self.reservedFirst([Self.allocator([(0x10000..<0x11000, .taken)])])
    #expect(free.outcome == .broken)
    #expect(
      free.texts == ["00:03.0: 0x200000..<0x204000 is free in the allocator: never reserved"])
    #expect(free.findings[0].iova == IOVA(0x20_0000))
    #expect(free.grounds == ["looked at: what 1 of the kernel's IOVA allocators hold"])
    let holes = try Self.reservedFirst([
      Self.allocator([(0x20_1000..<0x20_2000, .taken), (0x20_3000..<0x30_0000, .taken)])
    ])
    #expect(
      holes.texts == [
        "00:03.0: 0x200000..<0x201000 and 1 more of its ranges are free in the allocator: never reserved"
      ])
    let back = try Self.reservedFirst([
      Self.allocator([
        (0x1f_f000..<0x20_1000, .cached), (0x20_1000..<0x20_3000, .waiting),
        (0x20_3000..<0x20_4000, .taken),
      ])
    ])
    #expect(
      back.texts == [
        "00:03.0: 0x200000..<0x201000, in the crash kernel's numbers, was handed out, and is kept for use "
          + "again in the allocator",
        "00:03.0: 0x201000..<0x203000, in the crash kernel's numbers, was handed out, and waits for a "
          + "flush in the allocator",
      ])
  }

  @Test func `numbers that lead to other memory were handed out`() throws {
    let dump = try Dump.vtd()
    dump.store(0x80_1003, at: 0x5008)
    let held: [(Range<UInt64>, Allocator.State)] = [(0x20_0000..<0x20_4000, .taken)]
    #expect(
      try Self.reservedFirst([Self.allocator(held)], on: dump).texts == [
        "00:03.0: 0x201000..<0x202000, in the crash kernel's numbers, was handed out, and is mapped to "
          + "other memory"
      ])
    // Another table is in force: what that one maps, this allocator has not handed out.
    #expect(
      try Self.reservedFirst([Self.allocator(held, root: 0xf000)], on: dump).outcome == .unknown)
  }

  @Test func `that they are reserved now says nothing of before`() throws {
    let verdict = try Self.reservedFirst([Self.allocator([(0x1f_0000..<0x21_0000, .taken)])])
    #expect(verdict.outcome == .unknown)
    #expect(
      verdict.texts == [
        "00:03.0: the crash kernel's numbers are reserved now; what was handed out before, no allocator "
          + "remembers"
      ])
  }

  @Test func `what no allocator tells is unknown`() throws {
    let cut = try Self.reservedFirst([Self.allocator([], isWhole: false)])
    #expect(
      cut.texts == [
        "00:03.0: whether 0x200000..<0x204000 is reserved is not known: the allocator cannot be read to its "
          + "end"
      ])
    // 00:04.0 has a table and no allocator: a program hands its numbers out.
    let both = try Self.reservedFirst(
      [Self.allocator([(0x20_0000..<0x20_4000, .taken)])], needed: ["00:03.0", "00:04.0"])
    #expect(
      both.outcome == .unknown
        && both.texts.last
          == "00:04.0: no allocator of the kernel hands out its numbers: who does, and which, is not known"
    )
    #expect(
      try Self.reservedFirst([], needed: ["00:05.0"]).texts
        == ["00:05.0: the kernel has no allocator for it, and no table"])
    // An allocator of a device that is not needed is nobody's concern.
    #expect(
      try Self.reservedFirst([Self.allocator([], of: 1), Self.allocator([(0..<1 << 32, .taken)])])
        .outcome == .unknown)
    #expect(try Self.reservedFirst([Self.allocator([], of: 1)], needed: []).outcome == .broken)
  }

  @Test func `what somebody recorded weighs more than what allocators hold`() throws {
    let verdict = try Dump.vtd().check(devices: ["00:03.0"]) {
      $0.allocators = [Self.allocator([])]
      $0.allocatorEvents = [
        .reserved(
          table: .requester(Self.devices[0]), range: Self.numbers(0x20_0000..<0x20_4000))
      ]
    }.reservedFirst()
    #expect(verdict.outcome == .holds && verdict.grounds.isEmpty)
  }

  // MARK: R9

  /// Root and context table, and the page tables of both devices.
  private static let pages: [UInt64] = [1, 2, 3, 4, 5, 6, 7, 8, 9]

  private static func tablesSound(
    _ change: [UInt64: RuleEvidence.PageUse] = [:], lacking: Set<UInt64> = []
  ) throws -> RuleVerdict {
    var uses: [UInt64: RuleEvidence.PageUse] = [:]
    for page in pages where !lacking.contains(page) { uses[page] = change[page] ?? .allocated }
    return try Dump.vtd().check {
      $0.tablePages = .init(uses: uses, unknown: lacking.isEmpty ? nil : "no struct page")
    }.tablesSound()
  }

  @Test func `tables in pages that are in use`() throws {
    let verdict = try Self.tablesSound()
    #expect(verdict.outcome == .holds)
    #expect(
      verdict.grounds == ["looked at: what the kernel's page allocator says of 9 pages of tables"])
  }

  @Test func `a table in a page that is used otherwise is broken`() throws {
    for (use, text) in [
      (.free, "is free"), (.slab, "is a slab's"), (.user, "is a program's or a file's"),
      (.offline, "has been taken from the kernel"),
    ] as [(RuleEvidence.PageUse, String)] {
      let verdict = try Self.tablesSound([5: use])
      #expect(verdict.outcome == .broken)
      #expect(
        verdict.texts == ["00:03.0: table at 0x5000 is still used, and the page 0x5000 \(text)"])
    }
    #expect(
      try Self.tablesSound([1: .free]).texts
        == ["root table at 0x1000 is still used, and the page 0x1000 is free"])
  }

  @Test func `pages that nothing is known of stay unknown`() throws {
    let verdict = try Self.tablesSound(lacking: [5, 7])
    #expect(verdict.outcome == .unknown)
    #expect(
      verdict.texts == [
        "whether 2 of 9 pages of tables were given back is not known: no struct page"
      ])
    let freed = try Self.tablesSound([5: .free], lacking: [7])
    #expect(freed.outcome == .broken && freed.findings.count == 2)
  }
}
