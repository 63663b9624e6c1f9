import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The primary kernel on Intel VT-d: a domain for each device, made when it first maps.
///
/// Finds its unit through firmware's DMAR table and knows it by its registers alone. Behaves as
/// Linux 2.6.27: IOVAs from the top of 4 GiB downwards, aligned to their size, the interrupt range
/// kept out. Source: Linux 2.6.27 `intel-iommu.c`, `iova.c`.
final class VTdDriver: DomainDriver {
  /// Second-stage tables and IOVAs of one device, or of several that share them.
  struct Domain: DeviceDomain {
    var id: UInt16
    var root: PhysicalAddress
    var devices: [Device] = []
    var iovas: TopDownAllocator
    var identity: [Range<UInt64>] = []
  }

  static let iovaSpace: Range<UInt64> = 0x1000..<0x1_0000_0000

  let pages: PagePool
  private let platform: RemappingPlatform
  private let unit: RemappingUnitDriver
  private let limits: VTd.Limits
  private let writer: SecondStageWriter
  private var format: VTd.SecondStageFormat { writer.format }
  private var contexts: ContextTables
  /// Devices' requests pass untranslated.
  let passesThrough: Bool
  private let deviceTLBs: Set<Requester>
  var domains: [Requester: Domain] = [:]

  /// Finds the unit, gives it an empty root table, and switches it on.
  ///
  /// - Parameters:
  ///   - devices: All that there are: where they pass untranslated, their entries are made at once.
  ///   - configuration: Its tables and their levels.
  init(
    pages: PagePool, platform: RemappingPlatform, devices: [Device],
    configuration: VTdConfiguration
  ) throws(SetUpError) {
    self.pages = pages
    self.platform = platform
    unit = try RemappingUnitDriver(
      for: devices.first?.requester ?? Requester(rawValue: 0), on: platform, memory: pages.memory)
    limits = unit.limits
    writer = SecondStageWriter(
      pages: pages, format: VTd.SecondStageFormat(levels: configuration.levels, limits: limits))
    passesThrough = configuration.passesThrough
    deviceTLBs = configuration.deviceTLBs
    contexts = try ContextTables(pages: pages, mode: configuration.tableMode)
    if unit.extendedCapability.hasQueue {
      unit.enableQueue(
        in: try pages.allocateTable(
          RemappingUnitDriver.queueByteCount, what: "the VT-d invalidation queue"))
    }
    for requester in passesThrough ? devices.flatMap(\.entryIDs) : [] {
      try contexts.attach(
        requester,
        DeviceAttachment(root: nil, levels: configuration.levels, domainID: Self.passingID))
    }
    unit.setRootTable(contexts.rootTable, mode: contexts.mode)
    unit.switchTranslation(on: true)
  }

  /// The domain of devices that pass untranslated.
  static let passingID: UInt16 = 1

  var units: [TranslationUnit] { [.vtd(unit.unit)] }
  var ports: [any DMAPort] { [platform] }

  func join(_ device: Device, _ domain: inout Domain) throws(SetUpError) {
    for requester in device.entryIDs {
      try contexts.attach(
        requester,
        DeviceAttachment(
          root: domain.root, levels: format.levels, domainID: domain.id,
          allowsDeviceTLB: deviceTLBs.contains(requester)))
    }
    // Entries that were not present are not cached: nothing to invalidate.
    unit.flushWriteBuffer()
  }

  func makeDomain() throws(SetUpError) -> Domain {
    let root = try pages.allocateTable(4096, what: "a VT-d domain")
    var iovas = TopDownAllocator(space: [Self.iovaSpace])
    iovas.reserve(VTd.interruptAddresses)
    // The lowest that no other device has: cached translations are told apart by it.
    let used = Set(domains.values.map(\.id))
    guard let id = (1...UInt16.max).first(where: { !used.contains($0) }) else {
      throw .outOfMemory(what: "a VT-d domain: the unit has no domain-id left")
    }
    return Domain(id: id, root: root, iovas: iovas)
  }

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    guard !passesThrough else { return try MappedBuffer(untranslated: buffer, device, direction) }
    do {
      var domain = try domain(of: device)
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
      domains[device.domainKey] = domain
      try writer.map(
        buffer, at: iova, direction == .toDevice ? .read : .readWrite, root: domain.root)
      unit.flushWriteBuffer()
      return MappedBuffer(
        device: device, iova: IOVA(iova + offset), byteCount: buffer.byteCount,
        direction: direction, buffer: buffer, target: buffer)
    } catch {
      throw MappingFailure(error)
    }
  }

  /// Maps a page at a number that somebody else has chosen, as for a guest's device.
  ///
  /// - Parameter iova: 4 KiB aligned.
  /// - Throws: ``MappingFailure/full(_:)`` when the number is in use.
  func map(
    page: PhysicalAddress, at iova: IOVA, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    guard !passesThrough else { throw .noChoice(iova) }
    let numbers = iova.rawValue..<(iova.rawValue + 4096)
    let buffer = page..<PhysicalAddress(page.rawValue + 4096)
    do {
      var domain = try domain(of: device)
      guard domain.iovas.firstTaken(in: numbers) == nil else {
        throw MappingFailure.full("IOVA \(iova) of \(device.requester)")
      }
      domain.iovas.reserve(numbers)
      domains[device.domainKey] = domain
      try writer.map(
        buffer, at: iova.rawValue, direction == .toDevice ? .read : .readWrite, root: domain.root)
      unit.flushWriteBuffer()
    } catch {
      throw MappingFailure(error)
    }
    return MappedBuffer(buffer, at: iova, device, direction)
  }

  func unmap(_ mapped: MappedBuffer) {
    guard var domain = domains[mapped.device.domainKey],
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
    // The number may be given out again only when the unit has forgotten it.
    unit.invalidateIOTLB(IOVA(start)..<IOVA(start + byteCount), domainID: domain.id)
    domain.iovas.free(start..<(start + byteCount))
    domains[mapped.device.domainKey] = domain
  }

  /// Ends the device's domain, unless others have it too: the context entry goes first, then the tables.
  func unbind(_ device: Device) {
    guard let (domain, entries) = leave(device) else { return }
    for requester in entries {
      contexts.detach(requester)
      // The tables go back to the kernel: neither the entry nor a translation may be left cached.
      unit.invalidateContexts(.selective, domainID: domain.id, requester: requester)
    }
    if contexts.mode == .scalable { unit.invalidatePASIDEntries(domainID: domain.id) }
    unit.invalidateIOTLB(.domain, domainID: domain.id)
    guard domain.devices.isEmpty else { return }
    for table in format.tables(from: domain.root, in: pages.memory) {
      pages.freeTable(table..<PhysicalAddress(table.rawValue + 4096))
    }
  }

  // MARK: The crash

  func switchOff() { unit.switchTranslation(on: false) }

  // MARK: The Rule

  static var hardware: String { "VT-d" }
  static var wayToReachFurther: String { "use tables with more levels" }

  var maximumLevels: Int { format.levels }

  var reach: UInt64 {
    let width = min(limits.maximumGuestAddressWidth, VTd.Paging.addressWidth(levels: format.levels))
    return 1 << UInt64(width)
  }

  func page(at iova: UInt64, in domain: Domain) -> PhysicalAddress? {
    var observer = Unobserved()
    let walk = format.walk(iova, from: domain.root, in: pages.memory, observer: &observer)
    return walk.end == .page ? walk.page : nil
  }

  func install(
    _ device: Device, _ crashKernel: [Range<PhysicalAddress>], _ pageSize: PageSizePolicy
  ) throws(SetUpError) -> TableSetUp {
    let before = pages.tablePageCount
    var domain = try domain(of: device)
    var written: UInt64 = 0
    for range in crashKernel {
      let addresses = range.lowerBound.rawValue..<range.upperBound.rawValue
      guard !domain.identity.contains(addresses) else { continue }
      domain.iovas.reserve(addresses.clamped(to: Self.iovaSpace))
      domain.identity.append(addresses)
      domains[device.domainKey] = domain
      var address = addresses.lowerBound
      while address < addresses.upperBound {
        let level = largestLevel(
          at: address, end: addresses.upperBound, root: domain.root, pageSize)
        let page = PhysicalAddress(address)
        guard level > 1 else {
          // A larger page may start at the next 2 MiB at the earliest.
          let end = PhysicalAddress(
            pageSize == .smallest
              ? addresses.upperBound : min(addresses.upperBound, (address | 0x1f_ffff) + 1))
          try writer.mapIdentity(page..<end, root: domain.root)
          written += (end.rawValue - address) / PageCount.pageByteCount
          address = end.rawValue
          continue
        }
        try writer.store(
          VTd.SecondStageEntry(page: page, level: level, permissions: .readWrite), at: address,
          level: level, root: domain.root)
        written += 1
        address += 1 << UInt64(format.sizeLog2(level: level))
      }
    }
    unit.flushWriteBuffer()
    let counts = countLeaves(domain, crashKernel)
    return TableSetUp(
      table: .requester(PCI.Function(device.sourceID)),
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
        names.insert(sizeLog2 == 12 ? "SS-PTE" : sizeLog2 == 21 ? "SS-PDE" : "SS-PDPE")
        // All entries of one last-level table are of one size.
        let end =
          walk.level == 1
          ? min(range.upperBound.rawValue, (address | 0x1f_ffff) + 1)
          : address + 1 << UInt64(sizeLog2)
        leaves += (end - address) >> UInt64(sizeLog2)
        address = end
      }
    }
    return (leaves, names)
  }
}
