import IOMMUFormats
import Testing

@Suite struct FirstStageEntryTests {
  typealias Entry = VTd.FirstStageEntry

  @Test func `V22: a page that was written`() throws {
    let read = try entry(Entry.self, from: hexdump("67b0adde00000000"))
    #expect(read.isPresent && read.isAccessed && read.isDirty)
    #expect(read.permissions == [.read, .write, .user])
    #expect(read.page(level: 1) == PhysicalAddress(0xdead_b000))
    let made = Entry(
      page: PhysicalAddress(0xdead_b000), level: 1, isWritable: true, isUser: true)
    #expect(try stored(made) == hexdump("07b0adde00000000"))
  }

  @Test func `V23: in a 2 MiB page bit 12 is PAT and no address`() throws {
    let read = try entry(Entry.self, from: hexdump("8710004000000000"))
    #expect(read.hasPageSizeBit)
    #expect(read.page(level: 2) == PhysicalAddress(0x4000_0000))
    let variant = Entry.Variant(level: 2, isLeaf: true, limits: .permissive)
    #expect(read.reservedViolations(variant).isEmpty)
    #expect(read[Entry.fields(variant).first { $0.bits == 12...12 }!] == 1)
  }

  @Test func `V24: an entry that points to a table, with EA`() throws {
    let read = try entry(Entry.self, from: hexdump("2784000000000000"))
    #expect(read.address == PhysicalAddress(0x8000))
    #expect(read.isAccessed)
    #expect(Entry.accessedBits(extended: false) == 0x20)
    #expect(Entry.accessedBits(extended: true) == 0x420)
    #expect(Entry.dirtyBit == 0x40)
    #expect(read[Entry.field("EA", .init(level: 4, isLeaf: false, limits: .permissive))] == 1)
    #expect(try stored(Entry(table: PhysicalAddress(0x8000))) == hexdump("0780000000000000"))
  }

  /// What is reserved in an entry of each place, for a host of 46 bits: 51:46 everywhere.
  static let reserved: [(level: Int, isLeaf: Bool, bits: [ClosedRange<Int>])] = [
    (1, true, [46...51]), (2, false, [46...51]), (2, true, [13...20, 46...51]),
    (3, false, [46...51]), (3, true, [13...29, 46...51]), (4, false, [7...7, 46...51]),
    (5, false, [7...7, 46...51]),
  ]

  @Test(arguments: reserved)
  func `reserved bits by place`(level: Int, isLeaf: Bool, bits: [ClosedRange<Int>]) {
    var limits = limits(hostAddressWidth: 46)
    limits.features.insert(.firstStage1GiBPages)
    let variant = Entry.Variant(level: level, isLeaf: isLeaf, limits: limits)
    #expect(Entry(rawValue: ~0).reservedViolations(variant).map(\.bits) == bits)
    let nested = Entry.Variant(level: level, isLeaf: isLeaf, isNested: true, limits: limits)
    #expect(Entry(rawValue: ~0).reservedViolations(nested).map(\.bits) == bits.dropLast())
  }

  @Test func `a 1 GiB page is a reserved bit where the unit has none`() {
    let variant = Entry.Variant(level: 3, isLeaf: true, limits: limits(hostAddressWidth: 52))
    #expect(Entry(rawValue: 0x81).reservedViolations(variant).map(\.bits) == [7...7])
  }

  @Test func `an entry that is not present allows nothing`() {
    #expect(Entry(rawValue: ~1).permissions == [])
    #expect(Entry(rawValue: 1).permissions == .read)
    #expect(Entry(rawValue: 3).permissions == .readWrite)
    #expect(Entry(rawValue: 5).permissions == [.read, .user])
  }

  @Test func `each place has its name`() {
    let names = (1...5).map { Entry.Variant(level: $0, isLeaf: false, limits: .permissive).name }
    #expect(names == ["FS-PTE", "FS-PDE", "FS-PDPE", "FS-PML4E", "FS-PML5E"])
    #expect(
      Entry.Variant(level: 2, isLeaf: true, limits: .permissive).name == "FS-PDE (2 MiB page)")
    #expect(
      Entry.Variant(level: 3, isLeaf: true, limits: .permissive).name == "FS-PDPE (1 GiB page)")
  }
}
