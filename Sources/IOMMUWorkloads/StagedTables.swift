import IOMMUFormats
import IOMMUTranslation

/// First-stage tables, the same in front of a second stage, and that second stage, for one unit in
/// scalable mode: what kernels of today and the hypervisors below them set up.
///
/// All have four levels and pages of 4 KiB; entries are accessed and dirty already. Tables lie in
/// shuffled order, and pages map without a pattern.
public final class StagedTables: Sendable {
  public let memory: FlatMemory
  /// Bytes of IOVA, from 0.
  public let span: UInt64
  /// A root table of scalable mode for ``requester(_:)``.
  public let rootTable: PhysicalAddress
  private let firstStageRoot: PhysicalAddress
  /// A guest address.
  private let nestedRoot: PhysicalAddress
  private let secondStageRoot: PhysicalAddress
  private let unit: VTd.Unit

  /// What stands in a device's way.
  public enum Stages: UInt16, CaseIterable, Sendable {
    case first = 0x18
    case second = 0x20
    case nested = 0x28

    /// In words, for a table's first column.
    public var title: String {
      switch self {
      case .first: "first stage"
      case .second: "second stage"
      case .nested: "first stage over second"
      }
    }

    /// How many of a translation's stages there are.
    public var count: UInt64 { self == .nested ? 2 : 1 }
  }

  /// The device whose requests go through `stages`: 00:03.0, 00:04.0 or 00:05.0.
  public static func requester(_ stages: Stages) -> Requester {
    Requester(rawValue: stages.rawValue)
  }

  /// Where the pages of tables begin: of each of three trees ``span`` / 512 bytes of leaf entries, and more.
  public static let firstTable = PhysicalAddress(1 << 20)

  /// - Parameters:
  ///   - span: Bytes of IOVA, a power of two, 1 GiB to 256 GiB.
  ///   - seed: Decides in which order tables lie in memory.
  ///   - prefersLargePages: Whether the memory is to lie in pages of 2 MiB.
  public init(
    span: UInt64, seed: UInt64 = 1, prefersLargePages: Bool = false
  ) throws(MemoryError) {
    precondition(
      span >= 1 << 30 && span <= 256 << 30 && span & (span - 1) == 0,
      "a power of two, 1 GiB to 256 GiB of IOVA")
    self.span = span
    let base = Self.firstTable.rawValue
    let regions = span >> 21
    // Three trees; the guest's tables take a few more entries in the second stage.
    let guestTableCount = regions + span >> 30 + 2
    let tableCount = 3 * (regions + span >> 30) + guestTableCount >> 9 + 32
    let memory = try FlatMemory(byteCount: base + tableCount << 12)
    self.memory = memory
    if prefersLargePages { memory.preferLargePages() }
    var generator = SeededGenerator(seed: seed)
    var pages = (0..<tableCount).map { PhysicalAddress(base + $0 << 12) }
    pages.shuffle(using: &generator)
    func table() -> PhysicalAddress { pages.removeLast() }

    /// Fills a tree of `count` pages from a root, whose tables are made by `make`, and stored where `host`
    /// says they lie.
    func tree<Entry: WordEntry>(
      _ count: UInt64, root: PhysicalAddress, make: () -> PhysicalAddress,
      host: (PhysicalAddress) -> PhysicalAddress, pointer: (PhysicalAddress) -> Entry,
      page: (UInt64) -> Entry
    ) {
      var tables: [UInt64: PhysicalAddress] = [:]
      func lower(_ parent: PhysicalAddress, _ number: UInt64, level: Int) -> PhysicalAddress {
        let key = number << 3 | UInt64(level)
        if let known = tables[key] { return known }
        let made = make()
        tables[key] = made
        pointer(made).store(
          to: memory, at: PhysicalAddress(host(parent).rawValue + (number & 511) * 8))
        return made
      }
      var leaves = root
      for index in 0..<count {
        if index & 511 == 0 {
          let third = lower(root, index >> 27, level: 3)
          let second = lower(third, index >> 18, level: 2)
          leaves = host(lower(second, index >> 9, level: 1))
        }
        page(index).store(to: memory, at: PhysicalAddress(leaves.rawValue + (index & 511) * 8))
      }
    }
    func firstStagePage(_ page: PhysicalAddress) -> VTd.FirstStageEntry {
      // P, R/W, U/S, A, D.
      VTd.FirstStageEntry(rawValue: page.rawValue | 0x67)
    }
    func firstStageTable(_ table: PhysicalAddress) -> VTd.FirstStageEntry {
      VTd.FirstStageEntry(rawValue: table.rawValue | 0x27)
    }
    firstStageRoot = table()
    tree(
      span >> 12, root: firstStageRoot, make: table, host: { $0 }, pointer: firstStageTable,
      page: { firstStagePage(WorkloadTables.physical($0, sizeLog2: 12)) })
    // The guest's tables lie behind what its devices use, one after the other; in the host they do not.
    var guestTables: [PhysicalAddress] = []
    func guestTable() -> PhysicalAddress {
      guestTables.append(table())
      return PhysicalAddress(span + UInt64(guestTables.count - 1) << 12)
    }
    nestedRoot = guestTable()
    tree(
      span >> 12, root: nestedRoot, make: guestTable,
      host: { guestTables[Int(($0.rawValue - span) >> 12)] }, pointer: firstStageTable,
      page: { firstStagePage(Self.guestPage($0, of: span)) })
    secondStageRoot = table()
    tree(
      span >> 12 + UInt64(guestTables.count), root: secondStageRoot, make: table, host: { $0 },
      pointer: { VTd.SecondStageEntry(table: $0) },
      page: { page in
        let number = page << 12 < span ? nil : Int(page - span >> 12)
        return VTd.SecondStageEntry(
          page: number.map { guestTables[$0] } ?? WorkloadTables.physical(page, sizeLog2: 12),
          level: 1, permissions: .readWrite)
      })

    rootTable = table()
    let contexts = table()
    VTd.ScalableRootEntry(lowerContextTable: contexts, upperContextTable: nil)
      .store(to: memory, at: rootTable)
    for stages in Stages.allCases {
      let (directory, pasids) = (table(), table())
      VTd.ScalableContextEntry(pasidDirectory: directory).store(
        to: memory,
        at: VTd.Unit.scalableContextEntryAddress(
          in: contexts, deviceFunction: Self.requester(stages).deviceFunction))
      VTd.PASIDDirectoryEntry(pasidTable: pasids).store(to: memory, at: directory)
      var entry = VTd.PASIDTableEntry(
        type: stages == .first ? .firstStage : stages == .second ? .secondStage : .nested,
        domainID: stages.rawValue)
      if stages != .second {
        entry.firstStageTable = stages == .first ? firstStageRoot : nestedRoot
      }
      if stages != .first {
        entry.secondStageLevels = 4
        entry.secondStageTable = secondStageRoot
      }
      entry.store(to: memory, at: pasids)
    }
    unit = VTd.Unit(
      base: PhysicalAddress(0),
      rootTableAddress: VTd.RootTableAddress(rootTable: rootTable, mode: .scalable),
      status: VTd.GlobalStatus(translates: true), limits: .permissive)
  }

  /// Where the guest's page tables send its page `number`: each of its pages is somebody's.
  private static func guestPage(_ number: UInt64, of span: UInt64) -> PhysicalAddress {
    PhysicalAddress((number &* 0x9e37_79b1) & (span >> 12 - 1) << 12)
  }

  /// Where an address below ``span`` goes, without looking at any table.
  public func expected(_ address: IOVA, _ stages: Stages) -> PhysicalAddress {
    let guest = guestAddress(address)
    let page = (stages == .nested ? guest.rawValue : address.rawValue) >> 12
    return PhysicalAddress(
      WorkloadTables.physical(page, sizeLog2: 12).rawValue | address.rawValue & 0xfff)
  }

  /// Where the guest's own tables send an address.
  public func guestAddress(_ address: IOVA) -> IOVA {
    IOVA(Self.guestPage(address.rawValue >> 12, of: span).rawValue | address.rawValue & 0xfff)
  }

  /// Where the four entries for an address lie in the guest's own tables, from the root down; guest
  /// addresses.
  public func guestEntryAddresses(
    _ address: IOVA
  ) -> (PhysicalAddress, PhysicalAddress, PhysicalAddress, PhysicalAddress) {
    let region = address.rawValue >> 21
    let gibibyte = address.rawValue >> 30
    // Tables were made from the root down, those of a region when its first page was.
    func place(_ table: UInt64, level: Int) -> PhysicalAddress {
      PhysicalAddress(
        span + table << 12 + VTd.Paging.index(of: address.rawValue, level: level) * 8)
    }
    return (
      place(0, level: 4), place(1, level: 3), place(gibibyte * 513 + 2, level: 2),
      place(region + gibibyte + 3, level: 1)
    )
  }

  /// The way of a device's requests, without a unit in between.
  public func translator(_ stages: Stages) -> Translator<FlatMemory> {
    let machine = Machine(name: "staged", units: [.vtd(unit)])
    return Translator(machine.resolve(Self.requester(stages), in: memory), in: memory)
  }
}
