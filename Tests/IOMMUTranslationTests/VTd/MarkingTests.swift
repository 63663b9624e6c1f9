import Glibc
import IOMMUFormats
import IOMMUTranslation
import Testing

/// Accessed and dirty bits.
@Suite struct MarkingTests {
  /// Second-stage tables at 0x200000, with SSADE and PWSNP.
  struct Setup {
    var tables: ScalableTables
    var builder: TableBuilder

    init(ssade: Bool = true, snoops: Bool = true) throws {
      tables = try ScalableTables()
      tables.set([
        0x20_0000 | 1 | 2 << 2 | 2 << 6 | (ssade ? 1 << 9 : 0), 5 | (snoops ? 1 << 23 : 0),
      ])
      builder = TableBuilder(in: tables.memory, root: 0x20_0000, levels: 4)
    }

    func entry(_ address: UInt64, level: Int) -> UInt64 {
      tables.quadword(at: builder.place(of: address, level: level))
    }
  }

  @Test func `with SSADE a walk sets A in every entry and a write D in the leaf`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0003, for: 0x1234_5000, level: 1)
    setup.builder.set(0x4000_0083, for: 0x4000_0000, level: 2)
    #expect(setup.tables.translate(0x1234_5678) == .to(0x30_0678))
    for level in 1...4 { #expect(setup.entry(0x1234_5000, level: level) & 0xfff == 0x103) }
    #expect(setup.tables.translate(0x1234_5678, .write) == .to(0x30_0678))
    #expect(setup.entry(0x1234_5000, level: 1) == 0x30_0303)
    #expect(setup.entry(0x1234_5000, level: 2) & 0xfff == 0x103)
    #expect(setup.tables.translate(0x4012_3456, .atomic) == .to(0x4012_3456))
    #expect(setup.entry(0x4000_0000, level: 2) == 0x4000_0383)
  }

  @Test func `a write that is denied sets no D`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0001, for: 0x1000, level: 1)
    #expect(setup.tables.translate(0x1000, .write) == .recorded(0x85))
    #expect(setup.entry(0x1000, level: 1) & 0x200 == 0)
    // Nor where a level above denies it.
    setup.builder.set(0x30_0003, for: 0x1000, level: 1)
    let above = setup.builder.place(of: 0x1000, level: 2)
    setup.tables.memory.store(setup.tables.quadword(at: above) & ~2, at: above)
    #expect(setup.tables.translate(0x1000, .write) == .recorded(0x85))
    #expect(setup.entry(0x1000, level: 1) & 0x200 == 0)
  }

  @Test func `without SSADE, and in legacy mode, nothing is written`() throws {
    var setup = try Setup(ssade: false)
    setup.builder.set(0x30_0003, for: 0x1000, level: 1)
    #expect(setup.tables.translate(0x1000, .write) == .to(0x30_0000))
    for level in 1...4 { #expect(setup.entry(0x1000, level: level) & 0xfff == 3) }
    // SSADE where the unit has none is a reserved bit.
    let other = try Setup()
    #expect(
      other.tables.translate(0x1000, on: .modern.without(.secondStageAccessedBits))
        == .recorded(0x5a))
  }

  @Test func `walks that do not snoop set nothing`() throws {
    var setup = try Setup(snoops: false)
    setup.builder.set(0x30_0003, for: 0x1000, level: 1)
    #expect(setup.tables.translate(0x1000) == .recorded(0x7c))
    for level in 1...4 { #expect(setup.entry(0x1000, level: level) & 0xfff == 3) }
  }

  /// RAM of which a part takes no stores.
  struct PartlyReadOnly: WritableMemory {
    let memory: FlatMemory
    let readOnly: Range<PhysicalAddress>

    func quadword(at address: PhysicalAddress) -> UInt64? { memory.quadword(at: address) }
    func doubleword(at address: PhysicalAddress) -> UInt32? { memory.doubleword(at: address) }
    func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
      memory.read(at: address, into: buffer)
    }
    var backedRanges: [Range<PhysicalAddress>] { memory.backedRanges }
    func isWritable(at address: PhysicalAddress) -> Bool { !readOnly.contains(address) }
    func compareExchange(
      at address: PhysicalAddress, expected: UInt64, desired: UInt64
    ) -> UInt64? {
      memory.compareExchange(at: address, expected: expected, desired: desired)
    }
  }

  @Test func `an update that fails is fault 7Dh, or 91h in the first stage`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0003, for: 0x1000, level: 1)
    let memory = PartlyReadOnly(
      memory: setup.tables.memory,
      readOnly: PhysicalAddress(0x20_0000)..<PhysicalAddress(0x40_0000))
    func answer() -> Translation {
      var observer = Unobserved()
      return setup.tables.resolver().translate(
        VTd.Request(device, IOVA(0x1000)), in: memory, marker: AtomicMarks(in: memory),
        observer: &observer)
    }
    #expect(answer() == .recorded(0x7d))
    setup.tables.set([1 | 1 << 6, 5 | 1 << 23, 0x20_0000])
    let root = setup.builder.place(of: 0x1000, level: 4)
    setup.tables.memory.store(setup.tables.quadword(at: root) | 7, at: root)
    #expect(answer() == .recorded(0x91))
  }

  @Test func `a look without marks answers the same and leaves no trace`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0003, for: 0x1000, level: 1)
    var observer = Unobserved()
    let answer = setup.tables.resolver().translate(
      VTd.Request(device, IOVA(0x1000), .write), in: setup.tables.memory, marker: NoMarks(),
      observer: &observer)
    #expect(answer == .to(0x30_0000))
    for level in 1...4 { #expect(setup.entry(0x1000, level: level) & 0xfff == 3) }
  }

  @Test func `a page says whether a write finds nothing to set`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0003, for: 0x1000, level: 1)
    func page(writes: Bool) throws -> MappedPage {
      var observer = Unobserved()
      let route = setup.tables.resolver().route(
        of: VTd.Request(device, IOVA(0x1000)), in: setup.tables.memory, observer: &observer)
      guard case .table(.secondStage(let table)) = route,
        case .page(let page) = table.page(
          of: 0x1000, for: .read, writes: writes, in: setup.tables.memory,
          marker: AtomicMarks(in: setup.tables.memory), observer: &observer)
      else { throw TestFailure() }
      return page
    }
    #expect(try !page(writes: false).isDirty)
    #expect(try page(writes: true).isDirty)
    #expect(try page(writes: false).isDirty)
  }

  struct TestFailure: Error {}

  @Test func `software's stores beside the bits are never lost`() async throws {
    var setup = try Setup()
    setup.builder.set(0x30_0003, for: 0x1000, level: 1)
    let tables = setup.tables
    let place = PhysicalAddress(setup.builder.place(of: 0x1000, level: 1))
    let rounds: UInt64 = 5000
    let software = Task.detached {
      // Counts in bits 60 to 52, which hardware ignores, and takes A and D away each time.
      for round in 0..<rounds {
        // In bursts: without a pause it may come first a thousand times, and the walk gives up.
        if round % 16 == 0 { usleep(1) }
        var old = tables.memory.quadword(at: place)!
        while true {
          let count = (old >> 52 &+ 1) & 0x1ff
          let new = old & 0xf_ffff_ffff_fcff | count << 52
          guard
            let found = tables.memory.compareExchange(at: place, expected: old, desired: new)
          else { break }
          old = found
        }
      }
    }
    var answers: Set<Bool> = []
    for _ in 0..<rounds { answers.insert(tables.translate(0x1000, .write) == .to(0x30_0000)) }
    await software.value
    #expect(answers == [true])
    #expect(tables.memory.quadword(at: place)! >> 52 & 0x1ff == rounds & 0x1ff)
  }
}
