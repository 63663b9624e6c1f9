import IOMMUFormats
import Testing

@testable import IOMMULinux

/// Pages of a kernel's memory by its `struct page`, which VMCOREINFO describes.
@Suite struct KernelPagesTests {
  private static let start = TinyKernel.text + 0xa0_0000
  /// Offsets as Linux 6.1 has them on x86-64.
  private static let lines = """
    SIZE(page)=64
    OFFSET(page.flags)=0
    OFFSET(page._refcount)=52
    OFFSET(page._mapcount)=48
    OFFSET(page.private)=40
    OFFSET(page.compound_head)=8
    NUMBER(PG_lru)=4

    """
  private static let older = """
    NUMBER(PG_slab)=9
    NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
    NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257

    """
  /// Since 6.11 a type is the upper byte alone.
  private static let newer = """
    NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=4110417920
    NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=4026531840
    NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=4043309056

    """

  private struct Page {
    var flags: UInt64 = 0
    var head: UInt64 = 0
    var order: UInt64 = 0
    var type: UInt32 = .max
    var references: UInt32 = 1
  }

  /// 32 pages that are in use for something, but those that are given.
  private static func system(
    _ pages: [UInt64: Page], _ lines: String = lines + older, says value: Bool = false
  ) -> TinySystem {
    let system = TinySystem()
    system.kernel.lines += lines
    if value {
      system.kernel.lines += "SYMBOL(vmemmap)=\(hexadecimal(start).dropFirst(2))\n"
    } else {
      _ = system.variable("vmemmap_base", [start])
    }
    for number in 0..<32 as Range<UInt64> {
      let page = pages[number] ?? Page()
      let place = start + 64 * number
      system.kernel.put(words: [page.flags, page.head, 0, 0, 0, page.order], at: place)
      system.kernel.put(little(UInt64(page.type), 4), at: place + 48)
      system.kernel.put(little(UInt64(page.references), 4), at: place + 52)
    }
    return system
  }

  private static func use(_ pages: KernelPages, _ number: UInt64) throws -> KernelPages.Use {
    try pages.use(of: PhysicalAddress(number << 12 | 0x123))
  }

  @Test func `what pages are used for`() throws {
    let system = Self.system([
      1: Page(flags: 1 << 9), 2: Page(flags: 1 << 4, references: 2), 3: Page(type: 0),
      // A free block of four pages, of which the first alone says so.
      4: Page(order: 2, type: 0xffff_ff7f, references: 0), 5: Page(references: 0),
      7: Page(references: 0), 8: Page(references: 0), 9: Page(type: 0xffff_feff),
      // The rest of a slab that begins with page 1.
      10: Page(head: Self.start + 64 | 1, references: 0),
    ])
    let pages = try KernelPages(try system.opened())
    for (number, use) in [
      (0, .allocated), (1, .slab), (2, .user), (3, .user), (4, .free), (5, .free), (7, .free),
      (8, .uncounted), (9, .offline), (10, .slab), (11, .allocated),
    ] as [(UInt64, KernelPages.Use)] {
      #expect(try Self.use(pages, number) == use, "page \(number)")
    }
  }

  @Test func `kernels that tell slabs by a type`() throws {
    let system = Self.system(
      [
        1: Page(type: 0xf500_0000, references: 0), 2: Page(type: 0xf500_0003, references: 0),
        16: Page(order: 3, type: 0xf000_0000, references: 0), 20: Page(references: 0),
        24: Page(references: 0), 25: Page(type: 0xf100_0000),
      ], Self.lines + Self.newer, says: true)
    let pages = try KernelPages(try system.opened())
    for (number, use) in [
      (0, .allocated), (1, .slab), (2, .slab), (16, .free), (20, .free), (24, .uncounted),
      (25, .offline),
    ] as [(UInt64, KernelPages.Use)] {
      #expect(try Self.use(pages, number) == use, "page \(number)")
    }
  }

  @Test func `what is not described is not guessed`() throws {
    let whole = Self.lines + Self.older
    for line in [
      "SIZE(page)=64", "OFFSET(page.flags)=0", "OFFSET(page._mapcount)=48",
      "OFFSET(page._refcount)=52", "OFFSET(page.private)=40", "NUMBER(PG_lru)=4",
      "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129",
    ] {
      let kernel = try Self.system([:], whole.replacing(line + "\n", with: "")).opened()
      #expect(
        readError { () throws(KernelReadError) in try KernelPages(kernel) }
          == .noKey(String(line.prefix { $0 != "=" })))
    }
    let bare = TinySystem()
    bare.kernel.lines += whole
    let kernel = try bare.opened()
    #expect(
      readError { () throws(KernelReadError) in try KernelPages(kernel) }
        == .noSymbol("vmemmap_base"))
  }

  @Test func `a struct page that the dump lacks, and one that is nowhere`() throws {
    let lacking = try KernelPages(try Self.system([:]).opened(without: [0xa0_0000]))
    let error = readError { () throws(KernelReadError) in
      try lacking.use(of: PhysicalAddress(0x1000))
    }
    #expect(error?.isAbsence == true)
    let pages = try KernelPages(try Self.system([:]).opened())
    #expect(
      readError { () throws(KernelReadError) in try pages.use(of: PhysicalAddress(.max)) } != nil)
  }
}
