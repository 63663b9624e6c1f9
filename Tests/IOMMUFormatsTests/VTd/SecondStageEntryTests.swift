import IOMMUFormats
import Testing

@Suite struct SecondStageEntryTests {
  typealias Entry = VTd.SecondStageEntry

  struct Vector: Sendable, CustomTestStringConvertible {
    var id: String
    var level: Int
    var isLeaf: Bool
    var address: UInt64
    var permissions: Permissions
    var flags: Set<String> = []
    var bytes: String
    var testDescription: String { id }
    var variant: Entry.Variant {
      Entry.Variant(level: level, isLeaf: isLeaf, limits: .permissive)
    }
  }

  static let vectors = [
    Vector(
      id: "V16", level: 1, isLeaf: true, address: 0x20_0000, permissions: .readWrite,
      bytes: "0300200000000000"),
    Vector(
      id: "V17", level: 1, isLeaf: true, address: 0x1234_5678_9000, permissions: .readWrite,
      flags: ["SNP"], bytes: "0398785634120000"),
    Vector(
      id: "V18", level: 1, isLeaf: true, address: 0x7f_ffff_f000, permissions: .read, flags: ["A"],
      bytes: "01f1ffff7f000000"),
    Vector(
      id: "V19", level: 2, isLeaf: true, address: 0x1_2340_0000, permissions: .readWrite,
      flags: ["PS"], bytes: "8300402301000000"),
    Vector(
      id: "V20", level: 3, isLeaf: true, address: 0x12_4000_0000, permissions: .readWrite,
      flags: ["PS", "A", "D"], bytes: "8303004012000000"),
    Vector(
      id: "V21", level: 3, isLeaf: false, address: 0x11_3000, permissions: .readWrite,
      bytes: "0330110000000000"),
  ]

  @Test(arguments: vectors)
  func `a made entry is these eight bytes`(vector: Vector) throws {
    var entry =
      vector.isLeaf
      ? Entry(
        page: PhysicalAddress(vector.address), level: vector.level, permissions: vector.permissions)
      : Entry(table: PhysicalAddress(vector.address))
    for name in vector.flags { entry[Entry.field(name, vector.variant)] = 1 }
    #expect(try stored(entry) == hexdump(vector.bytes))
  }

  @Test(arguments: vectors)
  func `eight bytes come apart into fields`(vector: Vector) throws {
    let entry = try entry(Entry.self, from: hexdump(vector.bytes))
    #expect(entry.isPresent)
    #expect(entry.permissions == vector.permissions)
    #expect(entry.address == PhysicalAddress(vector.address))
    #expect(entry.hasPageSizeBit == vector.flags.contains("PS"))
    #expect(entry.reservedViolations(vector.variant).isEmpty)
    for name in ["A", "D", "SNP", "EMT", "IPAT", "TM"] {
      guard let field = Entry.fields(vector.variant).first(where: { $0.name.description == name })
      else { continue }
      #expect(entry[field] == (vector.flags.contains(name) ? 1 : 0), "\(name)")
    }
  }

  @Test func `only levels 1 to 3 can be leaves and level 1 always is`() {
    func name(_ level: Int, _ isLeaf: Bool) -> String {
      Entry.Variant(level: level, isLeaf: isLeaf, limits: .permissive).name
    }
    #expect(
      (1...5).map { name($0, false) } == ["SS-PTE", "SS-PDE", "SS-PDPE", "SS-PML4E", "SS-PML5E"])
    #expect(
      (1...5).map { name($0, true) } == [
        "SS-PTE", "SS-PDE (2 MiB page)", "SS-PDPE (1 GiB page)", "SS-PML4E", "SS-PML5E",
      ])
  }

  struct Mask: Sendable, CustomTestStringConvertible {
    var what: String
    var level: Int
    var isLeaf: Bool
    var limits: VTd.Limits
    var mask: UInt64
    var testDescription: String { what }
  }

  static let plain = limits(hostAddressWidth: 39)
  static let masks = [
    Mask(what: "SS-PTE", level: 1, isLeaf: true, limits: plain, mask: 0x400f_ff80_0000_0800),
    Mask(what: "2 MiB page", level: 2, isLeaf: true, limits: plain, mask: 0x400f_ff80_001f_f800),
    Mask(what: "1 GiB page", level: 3, isLeaf: true, limits: plain, mask: 0x400f_ff80_3fff_f800),
    Mask(what: "SS-PDE", level: 2, isLeaf: false, limits: plain, mask: 0x400f_ff80_0000_0800),
    Mask(what: "SS-PDPE", level: 3, isLeaf: false, limits: plain, mask: 0x400f_ff80_0000_0800),
    Mask(what: "SS-PML4E", level: 4, isLeaf: false, limits: plain, mask: 0x400f_ff80_0000_0880),
    Mask(what: "SS-PML5E", level: 5, isLeaf: false, limits: plain, mask: 0x400f_ff80_0000_0880),
    Mask(
      what: "SS-PTE, all allowed", level: 1, isLeaf: true, limits: .permissive, mask: 0),
    Mask(
      what: "SS-PML4E, all allowed", level: 4, isLeaf: false, limits: .permissive,
      mask: 0x4000_0000_0000_0880),
    Mask(
      what: "2 MiB page on a unit without", level: 2, isLeaf: true,
      limits: limits(hostAddressWidth: 39, has2MiBPages: false), mask: 0x400f_ff80_001f_f880),
    Mask(
      what: "1 GiB page on a unit without", level: 3, isLeaf: true,
      limits: limits(hostAddressWidth: 39, has1GiBPages: false), mask: 0x400f_ff80_3fff_f880),
    Mask(
      what: "SS-PTE with snoop control", level: 1, isLeaf: true,
      limits: limits(hostAddressWidth: 52, hasSnoopControl: true), mask: 0x4000_0000_0000_0000),
  ]

  @Test(arguments: masks)
  func `these bits are reserved`(row: Mask) {
    let masks = Entry.reservedMasks(
      .init(level: row.level, isLeaf: row.isLeaf, limits: row.limits))
    #expect(masks.low == row.mask)
    #expect(masks.high == 0)
  }

  @Test func `an unaligned 2 MiB page stops the program`() async {
    await #expect(processExitsWith: .failure) {
      _ = VTd.SecondStageEntry(
        page: PhysicalAddress(0x10_0000), level: 2, permissions: .readWrite)
    }
  }
}
