import IOMMUFormats
import IOMMUTranslation
import Testing

/// What caches plug into: the walk from a lower table, what observers see, each step alone.
@Suite struct WalkStepTests {
  /// IOVA and its indices from level 5 down.
  static let indices: [(iova: UInt64, indices: [UInt64])] = [
    (0, [0, 0, 0, 0, 0]), (0xfff, [0, 0, 0, 0, 0]), (0x1000, [0, 0, 0, 0, 1]),
    (0x1234_5678, [0, 0, 0, 145, 325]), (0x1f_ffff, [0, 0, 0, 0, 511]),
    (0x20_0000, [0, 0, 0, 1, 0]), (0x3fff_ffff, [0, 0, 0, 511, 511]),
    (0x4000_0000, [0, 0, 1, 0, 0]), (0x7f_ffff_ffff, [0, 0, 511, 511, 511]),
    (0x80_0000_0000, [0, 1, 0, 0, 0]), (0x7f12_3456_7abc, [0, 254, 72, 418, 359]),
    (0xffff_ffff_ffff, [0, 511, 511, 511, 511]), (0x1_0000_0000_0000, [1, 0, 0, 0, 0]),
    (0x123_4567_89ab_cdef, [291, 138, 414, 77, 188]),
    (0x1ff_ffff_ffff_ffff, [511, 511, 511, 511, 511]),
  ]

  @Test(arguments: indices)
  func `an IOVA is one index a level, the same in both stages`(iova: UInt64, indices: [UInt64]) {
    let first = VTd.FirstStageFormat(levels: 5, limits: .modern)
    let second = VTd.SecondStageFormat(levels: 5, limits: .modern)
    for (offset, expected) in indices.enumerated() {
      #expect(first.index(of: iova, level: 5 - offset) == expected)
      #expect(second.index(of: iova, level: 5 - offset) == expected)
    }
  }

  struct Descents: WalkObserver {
    var starts: [WalkStart] = []
    var readCount = 0

    mutating func read<Entry: TableEntry>(
      _: Entry, at _: PhysicalAddress, in _: TablePlace, index _: UInt64,
      as _: @autoclosure () -> Entry.Variant
    ) { readCount += 1 }
    mutating func descend<Entry: TableEntry>(
      to start: WalkStart, for _: UInt64, through _: Entry.Type
    ) {
      starts.append(start)
    }
  }

  @Test func `a walk from a lower table ends where the whole walk does`() throws {
    let tables = try ScalableTables()
    tables.set([0x20_0000 | 1 | 2 << 2 | 2 << 6, 5])
    var builder = TableBuilder(in: tables.memory, root: 0x20_0000, levels: 4)
    builder.set(0x30_0003, for: 0x1234_5000, level: 1)
    builder.set(0x30_1003, for: 0x1234_6000, level: 1)
    let above = builder.place(of: 0x1234_5000, level: 3)
    tables.memory.store(tables.quadword(at: above) & ~2, at: above)
    var observer = Descents()
    let route = tables.resolver().route(
      of: VTd.Request(device, IOVA(0)), in: tables.memory, observer: &observer)
    #expect(observer.readCount == 4, "root, context, directory and PASID entry")
    guard case .table(.secondStage(let table)) = route else { return #expect(Bool(false)) }
    func page(_ address: UInt64, _ start: WalkStart) -> PageOutcome {
      table.page(
        of: address, for: .read, writes: false, in: tables.memory, marker: NoMarks(),
        observer: &observer, from: { _ in start })
    }
    _ = page(0x1234_5000, table.start)
    #expect(observer.readCount == 8)
    #expect(
      observer.starts == [
        WalkStart(table: PhysicalAddress(0x20_1000), level: 3, permissions: .readWrite),
        WalkStart(table: PhysicalAddress(0x20_2000), level: 2, permissions: .read),
        WalkStart(table: PhysicalAddress(0x20_3000), level: 1, permissions: .read),
      ])
    for start in [table.start] + observer.starts {
      guard case .page(let found) = page(0x1234_6000, start) else { return #expect(Bool(false)) }
      #expect(
        found
          == MappedPage(
            page: PhysicalAddress(0x30_1000), sizeLog2: 12, firstStage: [.read, .write, .user],
            secondStage: .read, isDirty: true))
    }
  }

  @Test func `entries remembered across a change of mode still give a route`() throws {
    let tables = try ScalableTables(context: 0b1001)
    tables.set([1 | 1 << 6, 5 | 1 << 23, 0x20_0000], pasid: 1)
    let request = VTd.Request(device, IOVA(0), pasid: PASID(1))
    var observer = Unobserved()
    let scalable = tables.resolver()
    let context = try scalable.context(of: device, in: tables.memory, observer: &observer).get()
    guard case .scalable(let entry) = context else { return #expect(Bool(false)) }
    let pasid = try scalable.pasidEntry(
      of: PASID(1), in: entry, memory: tables.memory, observer: &observer
    ).get()
    let legacy = scalableResolver(.modern, rootTableAddress: 0x10_0000)
    #expect(!legacy.isScalable)
    let route = try legacy.route(of: request, through: context, entry: pasid).get()
    guard case .table(.firstStage(let table)) = route else { return #expect(Bool(false)) }
    #expect(table.root == PhysicalAddress(0x20_0000))
  }

  @Test func `a page that is remembered answers as the walk does`() {
    let page = MappedPage(
      page: PhysicalAddress(0x4000_0000), sizeLog2: 21, firstStage: [.read, .user],
      secondStage: .readWrite, isDirty: true)
    let user = VTd.Rules(isScalable: true)
    let supervisor = VTd.Rules(isScalable: true, isSupervisor: true)
    let bound = VTd.Rules(isScalable: true, isSupervisor: true, protectsFromSupervisor: true)
    func answer(_ operation: VTd.Request.Operation, _ rules: VTd.Rules) -> Translation {
      page.translation(of: 0x123_4567, byteCount: 16, for: operation, under: rules)
    }
    #expect(answer(.read, user) == .to(0x4003_4567, 16))
    #expect(answer(.write, user) == .recorded(0x85))
    #expect(answer(.write, supervisor) == .to(0x4003_4567, 16))
    #expect(answer(.write, bound) == .recorded(0x85))
    #expect(page.permissions(under: user) == .read)
    #expect(page.permissions(under: supervisor) == .readWrite)
    let silent = VTd.Rules(isScalable: true, isReported: false)
    #expect(answer(.write, silent) == .silent(0x85))
  }
}
