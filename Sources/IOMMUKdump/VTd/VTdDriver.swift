import IOMMUFormats
import IOMMUTranslation

/// The primary kernel on Intel VT-d in legacy mode: a domain for each device, made when it first
/// maps.
///
/// Behaves as Linux 2.6.27: IOVAs from the top of 4 GiB downwards, aligned to their size, the
/// interrupt range kept out. Source: Linux 2.6.27 `intel-iommu.c`, `iova.c`.
final class VTdDriver: DMADriver {
  /// One device's second-stage tables and IOVAs.
  struct Domain {
    var id: UInt16
    var requester: Requester
    var root: PhysicalAddress
    var iovas: TopDownAllocator
    /// Ranges that the Rule has taken.
    var identity: [Range<UInt64>] = []
  }

  static let base = PhysicalAddress(0xfed9_0000)
  private static let iovaSpace: Range<UInt64> = 0x1000..<0x1_0000_0000

  private let pages: PagePool
  private let format: SecondStageFormat
  private let limits: VTd.Limits
  private let rootTable: PhysicalAddress
  private var contextTables: [UInt8: PhysicalAddress] = [:]
  private var domains: [Requester: Domain] = [:]

  /// - Parameter levels: Levels of the second-stage tables, 3 to 5.
  init(pages: PagePool, levels: Int, hasLargePages: Bool) throws(SetUpError) {
    self.pages = pages
    limits = VTd.Limits(
      capability: VTd.Capability(
        levels: levels...levels, guestAddressWidth: 12 + 9 * levels, has2MiBPages: hasLargePages,
        has1GiBPages: hasLargePages),
      extendedCapability: VTd.ExtendedCapability(rawValue: 0), hostAddressWidth: 52)
    format = SecondStageFormat(levels: levels, limits: limits)
    rootTable = try pages.allocateTable(4096, what: "the VT-d root table")
  }

  var units: [TranslationUnit] {
    [
      .vtd(
        VTdUnit(
          base: Self.base, rootTableAddress: VTd.RootTableAddress(rootTable: rootTable),
          status: VTd.GlobalStatus(translates: true), limits: limits))
    ]
  }

  /// The device's domain; made, with its root and context entry, when there is none yet.
  private func domain(of requester: Requester) throws(SetUpError) -> Domain {
    if let domain = domains[requester] { return domain }
    let contextTable: PhysicalAddress
    if let table = contextTables[requester.bus] {
      contextTable = table
    } else {
      contextTable = try pages.allocateTable(4096, what: "a VT-d context table")
      contextTables[requester.bus] = contextTable
      VTd.RootEntry(contextTable: contextTable)
        .store(
          to: pages.memory, at: PhysicalAddress(rootTable.rawValue + UInt64(requester.bus) * 16))
    }
    let root = try pages.allocateTable(4096, what: "a VT-d domain")
    var iovas = TopDownAllocator(space: [Self.iovaSpace])
    iovas.reserve(0xfee0_0000..<0xfef0_0000)
    let domain = Domain(
      id: UInt16(domains.count + 1), requester: requester, root: root, iovas: iovas)
    VTd.ContextEntry(secondStageTable: root, levels: format.levels, domainID: domain.id)
      .store(
        to: pages.memory,
        at: VTdUnit.contextEntryAddress(
          in: contextTable, deviceFunction: requester.deviceFunction))
    domains[requester] = domain
    return domain
  }

  /// Makes the tables down to `level` on the way to `address` and stores `leaf` there.
  private func store(
    _ leaf: VTd.SecondStageEntry, at address: UInt64, level: Int, root: PhysicalAddress
  ) throws(SetUpError) {
    var table = root
    for above in stride(from: format.levels, to: level, by: -1) {
      let place = format.entryAddress(of: address, in: table, level: above)
      let entry = VTd.SecondStageEntry(from: pages.memory, at: place)!
      if case .table(let next) = format.kind(of: entry, level: above) {
        table = next
      } else {
        table = try pages.allocateTable(4096, what: "a VT-d page table")
        VTd.SecondStageEntry(table: table).store(to: pages.memory, at: place)
      }
    }
    leaf.store(to: pages.memory, at: format.entryAddress(of: address, in: table, level: level))
  }

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    do {
      var domain = try domain(of: device.requester)
      let offset = buffer.lowerBound.offsetInPage
      guard let count = PageCount(coveringBytes: buffer.byteCount, atOffset: offset),
        let byteCount = count.byteCount, byteCount > 0
      else { throw MappingFailure.full("IOVAs of \(device.requester)") }
      // A request is aligned to its size, rounded up to a power of two.
      let alignment: UInt64 = 1 << UInt64(64 - (byteCount - 1).leadingZeroBitCount)
      guard
        let iova = domain.iovas.allocate(
          byteCount, alignment: alignment, below: min(device.dmaMask, (1 << 32) - 1) + 1)
      else { throw MappingFailure.full("IOVAs of \(device.requester)") }
      domains[device.requester] = domain
      let permissions: Permissions = direction == .toDevice ? .read : .readWrite
      for page in 0..<count.rawValue {
        let target = PhysicalAddress(
          buffer.lowerBound.alignedDown(to: 4096).rawValue + page * 4096)
        try store(
          VTd.SecondStageEntry(page: target, level: 1, permissions: permissions),
          at: iova + page * 4096, level: 1, root: domain.root)
      }
      return MappedBuffer(
        device: device, iova: IOVA(iova + offset), byteCount: buffer.byteCount,
        direction: direction, buffer: buffer, target: buffer)
    } catch let failure as MappingFailure {
      throw failure
    } catch {
      throw .full("\(error)")
    }
  }

  func unmap(_ mapped: MappedBuffer) {
    guard var domain = domains[mapped.device.requester],
      let byteCount = PageCount(
        coveringBytes: mapped.byteCount, atOffset: mapped.iova.offsetInPage)?.byteCount
    else { return }
    let start = mapped.iova.alignedDown(to: 4096).rawValue
    for address in stride(from: start, to: start + byteCount, by: 4096) {
      var observer = Unobserved()
      let walk = format.walk(address, from: domain.root, in: pages.memory, observer: &observer)
      if walk.end == .page, walk.level == 1 {
        VTd.SecondStageEntry(rawValue: 0).store(to: pages.memory, at: walk.entryAddress)
      }
    }
    domain.iovas.free(start..<(start + byteCount))
    domains[mapped.device.requester] = domain
  }

  /// Ends the device's domain: the context entry goes first, then the tables.
  func unbind(_ device: Device) {
    guard let domain = domains.removeValue(forKey: device.requester),
      let contextTable = contextTables[device.requester.bus]
    else { return }
    VTd.ContextEntry()
      .store(
        to: pages.memory,
        at: VTdUnit.contextEntryAddress(
          in: contextTable, deviceFunction: device.requester.deviceFunction))
    var tables = TableCollector()
    var budget = EnumerationBudget(for: pages.memory)
    do {
      try format.forEachEntry(
        from: domain.root, in: pages.memory, budget: &budget, visitor: &tables)
    } catch {
      preconditionFailure("the kernel's own tables point at each other: \(error)")
    }
    for table in tables.pages { pages.freeTable(table..<PhysicalAddress(table.rawValue + 4096)) }
  }

  /// Collects the pages of a tree.
  private struct TableCollector: TableVisitor {
    var pages: [PhysicalAddress] = []
    mutating func enter(
      table: PhysicalAddress, byteCount _: UInt64, level _: Int, address _: UInt64
    ) {
      pages.append(table)
    }
    mutating func leaf(_: Leaf) {}
  }

  // MARK: The Rule

  func prepare(
    crashKernel: [Range<PhysicalAddress>], for devices: [Device], pageSize: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] {
    for device in devices { try check(device.requester, crashKernel) }
    try reservePages(for: devices, crashKernel, pageSize)
    var reports: [TableSetUp] = []
    for device in devices { reports.append(try install(device.requester, crashKernel, pageSize)) }
    return reports
  }

  /// Finds what stands against the identity map of one device.
  private func check(
    _ requester: Requester, _ crashKernel: [Range<PhysicalAddress>]
  ) throws(SetUpError) {
    let width = min(limits.maximumGuestAddressWidth, 12 + 9 * format.levels)
    for range in crashKernel {
      let addresses = range.lowerBound.rawValue..<range.upperBound.rawValue
      guard range.upperBound.rawValue <= 1 << UInt64(width) else {
        throw .beyondTable(
          name: "\(requester)", range: range, coverage: 1 << UInt64(width),
          wayOut: "use tables with more levels or move the crash kernel down")
      }
      guard let domain = domains[requester] else { continue }
      guard !domain.identity.contains(addresses) else { continue }
      guard let taken = domain.iovas.firstTaken(in: addresses) else { continue }
      var observer = Unobserved()
      let walk = format.walk(
        taken.lowerBound, from: domain.root, in: pages.memory, observer: &observer)
      throw .conflict(
        name: "\(requester)", iova: IOVA(taken.lowerBound),
        mappedTo: walk.end == .page ? walk.page : nil)
    }
  }

  /// Takes and gives back as many pages as the set-up can need at most, so that running out of
  /// memory shows before anything is changed.
  private func reservePages(
    for devices: [Device], _ crashKernel: [Range<PhysicalAddress>], _ pageSize: PageSizePolicy
  ) throws(SetUpError) {
    let perDevice = crashKernel.reduce(UInt64(2 + format.levels)) { count, range in
      let regions = (range.upperBound.rawValue - 1) >> 21 - range.lowerBound.rawValue >> 21 + 1
      let ends: UInt64 = pageSize == .largest ? 2 : regions
      return count + ends + range.byteCount >> 30 + UInt64(2 * format.levels)
    }
    let byteCount = perDevice * UInt64(devices.count) * 4096
    guard let probe = pages.allocate(byteCount, below: 1 << 32) else {
      throw .outOfMemory(what: "\(byteCount >> 10) KiB of VT-d page tables")
    }
    pages.free(probe..<PhysicalAddress(probe.rawValue + byteCount))
  }

  private func install(
    _ requester: Requester, _ crashKernel: [Range<PhysicalAddress>], _ pageSize: PageSizePolicy
  ) throws(SetUpError) -> TableSetUp {
    let before = pages.tablePageCount
    var domain = try domain(of: requester)
    var written: UInt64 = 0
    for range in crashKernel {
      let addresses = range.lowerBound.rawValue..<range.upperBound.rawValue
      guard !domain.identity.contains(addresses) else { continue }
      domain.iovas.reserve(addresses.clamped(to: Self.iovaSpace))
      domain.identity.append(addresses)
      domains[requester] = domain
      var address = addresses.lowerBound
      while address < addresses.upperBound {
        let level = largestLevel(
          at: address, end: addresses.upperBound, root: domain.root, pageSize)
        let page = PhysicalAddress(address)
        try store(
          VTd.SecondStageEntry(page: page, level: level, permissions: .readWrite), at: address,
          level: level, root: domain.root)
        written += 1
        address += 1 << UInt64(format.sizeLog2(level: level))
      }
    }
    let counts = countLeaves(domain, crashKernel)
    return TableSetUp(
      table: "\(requester)",
      entryName: counts.names.sorted().joined(separator: "+"),
      identityEntryCount: counts.leaves, writtenEntryCount: written,
      identityEntryByteCount: counts.leaves * 8,
      newTablePageCount: pages.tablePageCount - before,
      reservedPageCount: crashKernel.reduce(0) { $0 + $1.byteCount / 4096 },
      spaceByteCount: Self.iovaSpace.upperBound)
  }

  /// The largest page that starts at `address`, ends by `end`, and displaces no table.
  private func largestLevel(
    at address: UInt64, end: UInt64, root: PhysicalAddress, _ policy: PageSizePolicy
  ) -> Int {
    guard policy == .largest else { return 1 }
    for level in [3, 2] where level == 3 ? limits.has1GiBPages : limits.has2MiBPages {
      let size = UInt64(1) << UInt64(format.sizeLog2(level: level))
      guard address % size == 0, end - address >= size else { continue }
      var observer = Unobserved()
      let walk = format.walk(address, from: root, in: pages.memory, observer: &observer)
      // The walk ends at or above this level when no table hangs below it yet.
      if walk.end == .empty, walk.level >= level { return level }
    }
    return 1
  }

  private func countLeaves(
    _ domain: Domain, _ crashKernel: [Range<PhysicalAddress>]
  ) -> (leaves: UInt64, names: Set<String>) {
    var leaves: UInt64 = 0
    var names: Set<String> = []
    for range in crashKernel {
      var address = range.lowerBound.rawValue
      while address < range.upperBound.rawValue {
        var observer = Unobserved()
        let walk = format.walk(address, from: domain.root, in: pages.memory, observer: &observer)
        let sizeLog2 = walk.end == .page ? walk.sizeLog2 : 12
        leaves += 1
        names.insert(sizeLog2 == 12 ? "SS-PTE" : sizeLog2 == 21 ? "SS-PDE" : "SS-PDPE")
        address += 1 << UInt64(sizeLog2)
      }
    }
    return (leaves, names)
  }
}
