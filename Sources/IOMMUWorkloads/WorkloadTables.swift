import IOMMUFormats
import IOMMUTranslation

/// Tables of every kind over the same addresses, in one flat memory: what workloads walk.
///
/// Pages map to physical addresses without a pattern. VT-d tables lie in shuffled order, as on a
/// machine that has been up for a while, and so do AMD-Vi's host tables. The tables of three and five
/// levels share all but their roots with those of four.
public final class WorkloadTables: Sendable {
  public let memory: FlatMemory
  /// Bytes of IOVA, from 0, that the VT-d tables map.
  public let span: UInt64
  /// The Calgary tables, 4 GiB of IOVA each, one after the other in memory.
  public let tceTables: [PhysicalAddress]
  public let root: PhysicalAddress
  private let root3: PhysicalAddress
  private let root5: PhysicalAddress
  private let root2MiB: PhysicalAddress
  private let root1GiB: PhysicalAddress
  /// AMD-Vi's host table of four levels; its first entry leads to that of three.
  public let amdviRoot: PhysicalAddress
  private let amdviRoot3: PhysicalAddress
  public let gattTable: PhysicalAddress
  /// A root table in legacy mode by which ``requester`` is translated through the table of four
  /// levels, in domain 1.
  public let rootTable: PhysicalAddress
  /// Where the pages of VT-d tables begin, and how many entries they hold: what a load with a known
  /// place may read.
  public let firstLeaf: PhysicalAddress
  public let leafCount: UInt64

  /// The device that the tables translate for.
  public static let requester = Requester(bus: 0, device: 3, function: 0)
  /// The GART's aperture, 2 GiB.
  public static let aperture = Range(start: IOVA(0x8000_0000), byteCount: 2 << 30)!

  /// - Parameters:
  ///   - span: Bytes of IOVA, a multiple of 1 GiB, at most 256 GiB.
  ///   - tceTableCount: Tables of 8 MiB.
  ///   - seed: Decides in which order tables lie in memory.
  ///   - prefersLargePages: Whether the memory is to lie in pages of 2 MiB.
  public init(
    span: UInt64, tceTableCount: Int = 1, seed: UInt64 = 1, prefersLargePages: Bool = false
  ) throws(MemoryError) {
    precondition(
      span >= 1 << 30 && span % (1 << 30) == 0 && span <= 256 << 30,
      "whole GiB of IOVA, 1 to 256")
    self.span = span
    let gibibytes = span >> 30
    let flatByteCount = UInt64(tceTableCount) << 23 + 2 << 20
    // Leaf tables, page directories for two page sizes, and a few more.
    let tableCount = gibibytes * (513 + 1 + 513) + 16
    let base: UInt64 = 1 << 20
    memory = try FlatMemory(byteCount: base + flatByteCount + tableCount << 12)
    if prefersLargePages { memory.preferLargePages() }
    tceTables = (0..<UInt64(tceTableCount)).map { PhysicalAddress(base + $0 << 23) }
    gattTable = PhysicalAddress(base + UInt64(tceTableCount) << 23)
    firstLeaf = PhysicalAddress(base + flatByteCount)
    leafCount = tableCount << 9

    var generator = SeededGenerator(seed: seed)
    var pages = (0..<tableCount).map { PhysicalAddress(base + flatByteCount + $0 << 12) }
    pages.shuffle(using: &generator)
    func table() -> PhysicalAddress { pages.removeLast() }
    let memory = memory
    func link(_ table: PhysicalAddress, _ index: UInt64, _ entry: VTd.SecondStageEntry) {
      entry.store(to: memory, at: PhysicalAddress(table.rawValue + index * 8))
    }
    let roots = (0..<11).map { _ in table() }
    (root, root5, root2MiB, root1GiB) = (roots[0], roots[1], roots[2], roots[3])
    (root3, rootTable) = (roots[4], roots[7])
    (amdviRoot, amdviRoot3) = (roots[9], roots[10])
    VTd.RootEntry(contextTable: roots[8]).store(to: memory, at: rootTable)
    VTd.ContextEntry(secondStageTable: root, levels: 4, domainID: 1)
      .store(
        to: memory,
        at: VTd.Unit.contextEntryAddress(
          in: roots[8], deviceFunction: Self.requester.deviceFunction))
    let (middle2MiB, middle1GiB) = (roots[5], roots[6])
    link(root, 0, .init(table: root3))
    link(root5, 0, .init(table: root))
    link(root2MiB, 0, .init(table: middle2MiB))
    link(root1GiB, 0, .init(table: middle1GiB))
    for gibibyte in 0..<gibibytes {
      link(
        middle1GiB, gibibyte,
        .init(
          page: Self.physical(gibibyte, sizeLog2: 30), level: 3, permissions: .readWrite))
      let directory = table()
      let directory2MiB = table()
      link(root3, gibibyte, .init(table: directory))
      link(middle2MiB, gibibyte, .init(table: directory2MiB))
      for region in 0..<UInt64(512) {
        let number = gibibyte << 9 | region
        link(
          directory2MiB, region,
          .init(page: Self.physical(number, sizeLog2: 21), level: 2, permissions: .readWrite))
        let leaves = table()
        link(directory, region, .init(table: leaves))
        for index in 0..<UInt64(512) {
          link(
            leaves, index,
            .init(
              page: Self.physical(number << 9 | index, sizeLog2: 12), level: 1,
              permissions: .readWrite))
        }
      }
    }
    func store(
      _ entry: AMDVi.PageTableEntry, in table: PhysicalAddress, _ index: UInt64
    ) {
      entry.store(to: memory, at: PhysicalAddress(table.rawValue + index * 8))
    }
    store(AMDVi.PageTableEntry(table: amdviRoot3, level: 3), in: amdviRoot, 0)
    for gibibyte in 0..<gibibytes {
      let directory = table()
      store(AMDVi.PageTableEntry(table: directory, level: 2), in: amdviRoot3, gibibyte)
      for region in 0..<UInt64(512) {
        let leaves = table()
        store(AMDVi.PageTableEntry(table: leaves, level: 1), in: directory, region)
        let number = gibibyte << 9 | region
        for index in 0..<UInt64(512) {
          store(
            AMDVi.PageTableEntry(
              page: Self.physical(number << 9 | index, sizeLog2: 12), sizeLog2: 12, level: 1,
              permissions: .readWrite), in: leaves, index)
        }
      }
    }
    for (number, table) in tceTables.enumerated() {
      for index in 0..<UInt64(1 << 20) {
        let page = UInt64(number) << 20 | index
        Calgary.TranslationControlEntry(
          page: Self.physical(page, sizeLog2: 12), permissions: .readWrite
        ).store(to: memory, at: PhysicalAddress(table.rawValue + index * 8))
      }
    }
    for index in 0..<UInt64(1 << 19) {
      GART.GATTEntry(page: Self.gattPhysical(index))
        .store(to: memory, at: PhysicalAddress(gattTable.rawValue + index * 4))
    }
  }

  /// Where page `number` of the tables with pages of 2^`sizeLog2` bytes lies; never in the interrupt
  /// range.
  public static func physical(_ number: UInt64, sizeLog2: Int) -> PhysicalAddress {
    let page = scramble(number) & (1 << 45 - 1) >> UInt64(sizeLog2)
    // Above 4 GiB there is no interrupt range.
    return PhysicalAddress((page << UInt64(sizeLog2)) | 1 << 45)
  }

  static func gattPhysical(_ number: UInt64) -> PhysicalAddress {
    PhysicalAddress(scramble(number) & (1 << 39 - 1) & ~0xfff)
  }

  /// Where `address` goes, without looking at any table.
  public func expected(_ address: IOVA, kind: TableKind) -> PhysicalAddress {
    let size = UInt64(kind.pageSizeLog2)
    let offset = address.rawValue & (1 << size - 1)
    let number = address.rawValue >> size
    guard kind == .gatt else {
      return PhysicalAddress(Self.physical(number, sizeLog2: kind.pageSizeLog2).rawValue | offset)
    }
    let page = (address.rawValue - Self.aperture.lowerBound.rawValue) >> 12
    return PhysicalAddress(Self.gattPhysical(page).rawValue | offset)
  }

  /// The handle of a device that the tables of this kind translate for.
  ///
  /// - Parameters:
  ///   - kind: Which hardware, with how many levels and which pages.
  ///   - tceTable: Which of the Calgary tables, from 0; of other kinds it does not count.
  public func handle(_ kind: TableKind, tceTable: Int = 0) -> DeviceHandle {
    DeviceHandle(
      requester: Self.requester, route: route(kind, tceTable: tceTable))
  }

  public func translator(_ kind: TableKind, tceTable: Int = 0) -> Translator<FlatMemory> {
    Translator(handle(kind, tceTable: tceTable), in: memory)
  }

  private func route(_ kind: TableKind, tceTable: Int) -> DeviceHandle.Route {
    func secondStage(_ root: PhysicalAddress, levels: Int) -> DeviceHandle.Route {
      .table(
        .secondStage(
          VTd.SecondStageTable(
            root: root, format: VTd.SecondStageFormat(levels: levels, limits: .permissive),
            addressWidth: VTd.Paging.addressWidth(levels: levels), isReported: true)))
    }
    switch kind {
    case .vtd3Levels: return secondStage(root3, levels: 3)
    case .vtd4Levels: return secondStage(root, levels: 4)
    case .vtd5Levels: return secondStage(root5, levels: 5)
    case .vtd2MiB: return secondStage(root2MiB, levels: 4)
    case .vtd1GiB: return secondStage(root1GiB, levels: 4)
    case .amdvi3Levels: return .table(.amdHost(AMDVi.HostTable(root: amdviRoot3, levels: 3)))
    case .amdvi4Levels: return .table(.amdHost(AMDVi.HostTable(root: amdviRoot, levels: 4)))
    case .tce:
      return .table(
        .tce(
          Calgary.TCETable(
            table: tceTables[tceTable], size: .mib8, refusesDualAddressCycles: true,
            holes: Calgary.TCETable.Holes(legacy: 0..<0, memory1: 0..<0, memory2: 0..<0))))
    case .gatt:
      return .table(
        .gatt(
          GART.Window(
            base: Self.aperture.lowerBound.rawValue, byteCount: Self.aperture.byteCount,
            table: gattTable)))
    }
  }

  /// The first address that a kind's tables translate: 0, or the aperture's.
  public func firstAddress(_ kind: TableKind) -> IOVA {
    kind == .gatt ? Self.aperture.lowerBound : IOVA(0)
  }
}
