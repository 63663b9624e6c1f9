import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The primary kernel on AMD-Vi as Linux is today: a domain for each device, made when it first maps.
///
/// Finds its unit through firmware's IVRS table and knows it by its registers alone. Numbers from the top
/// of 4 GiB downwards, aligned to their size; pages of every power of two from 4 KiB to 256 GiB; tables
/// that begin with three levels and grow. Source: Linux 6.12 `drivers/iommu/amd`, `dma-iommu.c`.
final class AMDViDriver: DomainDriver {
  /// Tables and numbers of one device, or of several that share them.
  struct Domain: DeviceDomain {
    var id: UInt16
    var tree: HostTableWriter.Tree
    var devices: [Device] = []
    var iovas: TopDownAllocator
    var identity: [Range<UInt64>] = []
  }

  /// Pages that were taken back and not told of yet.
  private struct Pending {
    /// Its ``Device/domainKey``.
    var domain: Requester
    var numbers: Range<UInt64>
  }

  static let iovaSpace: Range<UInt64> = 0x1000..<0x1_0000_0000
  /// As many as Linux lets a processor gather.
  static let flushQueueLength = 256

  let pages: PagePool
  private let platform: AMDViPlatform
  private let unit: AMDViUnitDriver
  private let flushes: AMDViFlushes
  let passesThrough: Bool
  private let deviceTLBs: Set<Requester>
  private let table: AMDViDeviceTable
  private let firmware: AMDVi.IVRS
  private let writer: HostTableWriter
  var domains: [Requester: Domain] = [:]
  private var pending: [Pending] = []

  /// Finds the unit, gives it a table in which every device is stopped, or passes, and switches it on.
  ///
  /// - Parameters:
  ///   - device: One that the unit stands above.
  ///   - flushes: When pages that were taken back are told of.
  ///   - passesThrough: All devices pass untranslated.
  ///   - deviceTLBs: Devices that have a TLB of their own.
  init(
    pages: PagePool, platform: AMDViPlatform, device: Requester, flushes: AMDViFlushes,
    passesThrough: Bool = false, deviceTLBs: Set<Requester> = []
  ) throws(SetUpError) {
    self.passesThrough = passesThrough
    self.deviceTLBs = deviceTLBs
    self.pages = pages
    self.platform = platform
    self.flushes = flushes
    unit = try AMDViUnitDriver(for: device, on: platform, memory: pages.memory)
    firmware = try AMDViUnitDriver.table(of: platform)
    writer = HostTableWriter(
      pages: pages, maximumLevels: unit.features.hostLevels ?? 4, forcesCoherence: true)
    table = try AMDViDeviceTable(
      pages: pages, lastDevice: Requester(rawValue: 0xffff),
      filledWith: passesThrough ? .passing : .blocked)
    unit.disable()
    unit.deviceTable = table.register
    unit.startRings(
      in: try pages.allocateTable(
        AMDViUnitDriver.bufferByteCount, what: "AMD-Vi commands and events"))
    unit.enable()
    unit.invalidateAll()
  }

  var units: [TranslationUnit] { [.amdvi(unit.unit)] }
  var ports: [any DMAPort] { [platform] }

  /// The domain of devices that pass untranslated.
  static let passingID: UInt16 = 1

  func switchOff() { unit.disable() }

  // MARK: Domains

  func join(_ device: Device, _ domain: inout Domain) throws(SetUpError) {
    for (range, permissions) in directRegions(of: device.requester) {
      domain.iovas.reserve(range.clamped(to: Self.iovaSpace))
      try grow(&domain, toReach: range.upperBound)
      try writer.map(
        PhysicalAddress(range.lowerBound), at: range.lowerBound,
        byteCount: range.upperBound - range.lowerBound, permissions, in: domain.tree, largest: 38)
    }
    for requester in device.entryIDs { attach(requester, domain, old: 0) }
  }

  func makeDomain() throws(SetUpError) -> Domain {
    var iovas = TopDownAllocator(space: [Self.iovaSpace])
    iovas.reserve(AMDVi.interruptAddresses)
    let used = Set(domains.values.map(\.id))
    guard let id = (1...UInt16.max).first(where: { !used.contains($0) }) else {
      throw .outOfMemory(what: "an AMD-Vi domain: no DomainID is left")
    }
    return Domain(id: id, tree: try writer.makeTree(), iovas: iovas)
  }

  /// What firmware wants mapped to itself for a device, in whole pages. An exclusion range is mapped
  /// as well: the register for it is left alone.
  private func directRegions(of requester: Requester) -> [(Range<UInt64>, Permissions)] {
    firmware.blocks.compactMap { block in
      guard block.type.isMemory, let memory = block.memory, block.covers(requester) else {
        return nil
      }
      let range =
        memory.lowerBound.alignedDown(to: 4096)
        .rawValue..<((memory.upperBound.rawValue - 1) | 0xfff)
        + 1
      return (range, block.isExclusion ? .readWrite : block.permissions)
    }
  }

  /// Writes a device's entry, and has what the unit remembers of the one before dropped.
  private func attach(_ requester: Requester, _ domain: Domain, old: UInt16) {
    var entry = table[requester].translating(
      mode: domain.tree.levels, root: domain.tree.root, domainID: domain.id)
    if deviceTLBs.contains(requester) { entry.allowsDeviceTLB = true }
    table[requester] = entry
    unit.invalidateEntry(requester, domains: old == 0 ? [domain.id] : [old])
  }

  private func grow(_ domain: inout Domain, toReach end: UInt64) throws(SetUpError) {
    let before = domain.tree
    try writer.grow(&domain.tree, toReach: end)
    guard domain.tree != before else { return }
    for requester in Set(domain.devices.flatMap(\.entryIDs)).sorted() {
      attach(requester, domain, old: domain.id)
    }
  }

  // MARK: The DMA API

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
      let alignment: UInt64 = 1 << UInt64(64 - (byteCount - 1).leadingZeroBitCount)
      guard let iova = allocate(byteCount, alignment, device, &domain) else {
        throw MappingFailure.full("IOVAs of \(device.requester)")
      }
      domains[device.domainKey] = domain
      try writer.map(
        buffer.lowerBound.alignedDown(to: 4096), at: iova, byteCount: byteCount,
        Self.permissions(direction), in: domain.tree, largest: 38)
      appeared(iova..<(iova + byteCount), in: domain)
      return MappedBuffer(
        device: device, iova: IOVA(iova + offset), byteCount: buffer.byteCount,
        direction: direction, buffer: buffer, target: buffer)
    } catch {
      throw MappingFailure(error)
    }
  }

  private func allocate(
    _ byteCount: UInt64, _ alignment: UInt64, _ device: Device, _ domain: inout Domain
  ) -> UInt64? {
    let limit = min(device.dmaMask, Self.iovaSpace.upperBound - 1) + 1
    if let iova = domain.iovas.allocate(byteCount, alignment: alignment, below: limit) {
      return iova
    }
    // What waits to be flushed is free afterwards.
    guard !pending.isEmpty else { return nil }
    domains[device.domainKey] = domain
    flushPending()
    domain = domains[device.domainKey] ?? domain
    return domain.iovas.allocate(byteCount, alignment: alignment, below: limit)
  }

  /// A device reads, writes, or does both: the driver keeps write-only pages apart.
  static func permissions(_ direction: DMADirection) -> Permissions {
    switch direction {
    case .toDevice: .read
    case .fromDevice: .write
    default: .readWrite
    }
  }

  private func appeared(_ range: Range<UInt64>, in domain: Domain) {
    if unit.cachesNotPresent { unit.invalidatePages(domain.id, range) }
  }

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
      try grow(&domain, toReach: numbers.upperBound)
      domain.iovas.reserve(numbers)
      domains[device.domainKey] = domain
      try writer.store(
        page, sizeLog2: 12, at: iova.rawValue, Self.permissions(direction), in: domain.tree)
      appeared(numbers, in: domain)
    } catch {
      throw MappingFailure(error)
    }
    return MappedBuffer(buffer, at: iova, device, direction)
  }

  func unmap(_ mapped: MappedBuffer) {
    let key = mapped.device.domainKey
    guard let domain = domains[key],
      let byteCount = PageCount(
        coveringBytes: mapped.byteCount, atOffset: mapped.iova.offsetInPage)?.byteCount
    else { return }
    let start = mapped.iova.alignedDown(to: 4096).rawValue
    let numbers = start..<(start + byteCount)
    writer.clear(numbers, in: domain.tree)
    switch flushes {
    case .strict:
      // The number may be given out again only when the unit has forgotten it.
      unit.invalidatePages(domain.id, numbers)
      domains[key]?.iovas.free(numbers)
    case .lazy:
      pending.append(Pending(domain: key, numbers: numbers))
      if pending.count >= Self.flushQueueLength { flushPending() }
    }
  }

  /// Tells the unit of all that was taken back, domain by domain, and frees the numbers. Linux does it
  /// every ten milliseconds, and when its queue is full.
  func flushPending() {
    for key in Set(pending.map(\.domain)).sorted() {
      if let domain = domains[key] { unit.invalidatePages(domain.id) }
    }
    for one in pending { domains[one.domain]?.iovas.free(one.numbers) }
    pending.removeAll()
  }

  /// Ends the device's domain, unless others have it too: the entry goes first, then the tables.
  func unbind(_ device: Device) {
    flushPending()
    guard let (domain, entries) = leave(device) else { return }
    for requester in entries {
      table[requester] = .blocked
      unit.invalidateEntry(requester, domains: [domain.id])
    }
    if domain.devices.isEmpty { writer.free(domain.tree) }
  }

  // MARK: The Rule

  static var hardware: String { "AMD-Vi" }
  static var wayToReachFurther: String { "use a unit with deeper tables" }

  var maximumLevels: Int { writer.maximumLevels }

  var reach: UInt64 {
    HostTableWriter.Tree(root: PhysicalAddress(0), levels: writer.maximumLevels).reach
  }

  func page(at iova: UInt64, in domain: Domain) -> PhysicalAddress? {
    var observer = Unobserved()
    let walk = domain.tree.format.walk(
      iova, from: domain.tree.root, in: pages.memory, observer: &observer)
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
      try grow(&domain, toReach: addresses.upperBound)
      domain.iovas.reserve(addresses.clamped(to: Self.iovaSpace))
      domain.identity.append(addresses)
      domains[device.domainKey] = domain
      written += try writer.map(
        range.lowerBound, at: addresses.lowerBound, byteCount: range.byteCount, .readWrite,
        in: domain.tree, largest: pageSize == .largest ? 38 : 12)
      appeared(addresses, in: domain)
    }
    let count = writer.entryCount(of: crashKernel, in: domain.tree)
    return TableSetUp(
      table: .requester(PCI.Function(device.sourceID)), entryName: "PTE", identityEntryCount: count,
      writtenEntryCount: written, identityEntryByteCount: count * 8,
      newTablePageCount: pages.tablePageCount - before,
      reservedPageCount: crashKernel.reduce(0) { $0 + $1.byteCount / 4096 },
      spaceByteCount: Self.iovaSpace.upperBound)
  }
}

extension AMDVi.IVRS.Block {
  /// IVMD: whether the memory is one of a device's.
  func covers(_ requester: Requester) -> Bool {
    switch type {
    case .memoryOfOne: requester == deviceID
    case .memoryOfRange:
      deviceID.rawValue...max(deviceID.rawValue, lastDeviceID.rawValue) ~= requester.rawValue
    default: true
    }
  }
}
