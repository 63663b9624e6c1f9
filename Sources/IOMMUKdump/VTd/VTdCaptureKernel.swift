import IOMMUFormats
import IOMMUTranslation

/// A kdump kernel that knows VT-d: it finds a unit that another kernel has left on.
///
/// The Rule wants none of this (``KdumpKernel`` is what it wants); it is what kernels do today. Two
/// steps: ``takeOver(whileOff:)``, when the kernel's IOMMU code runs, and
/// ``map(for:direction:page:)``, when a driver uses its device for the first time.
public final class VTdCaptureKernel: CaptureKernel {
  /// What the kernel does with the unit.
  public enum Strategy: String, Sendable, CaseIterable {
    /// New, empty tables: every device faults until its driver maps. As Linux before 4.2.
    case reinitialise
    /// Copies root and context tables and leaves page tables where they are; a device gets a domain
    /// of its own when its driver first maps. As Linux since 4.2.
    case copy
    /// Switches translation off: devices see physical addresses. As Linux today with
    /// intel_iommu=off.
    case switchOff
  }

  public let strategy: Strategy
  /// Whether the unit is told to forget what it has cached of the old tables. Linux did not when it
  /// replaced copied entries, before 4.10.
  public let flushes: Bool
  private let unit: RemappingUnitDriver
  let pages: PagePool
  private let format: VTd.SecondStageFormat
  private var contexts: ContextTables
  private var domains: [Requester: Domain] = [:]
  /// Devices whose context entries are still the old kernel's.
  private var copied: Set<Requester> = []
  private var usedDomainIDs: Set<UInt16> = []

  private struct Domain {
    var root: PhysicalAddress
    var iovas: TopDownAllocator
  }

  /// Finds the unit through firmware's table. Changes nothing yet.
  ///
  /// - Parameters:
  ///   - strategy: What the kernel does with the unit.
  ///   - device: One that the unit stands above.
  ///   - platform: The I/O side of the machine, as the old kernel left it.
  ///   - memory: The machine's memory, with the old kernel's tables.
  ///   - crashKernel: All the memory that this kernel owns.
  ///   - levels: Levels of its second-stage tables.
  ///   - flushes: Whether the unit is told to forget what it has cached of the old tables.
  /// - Throws: when firmware's table names no unit, or the memory is too small for a root table.
  public init(
    _ strategy: Strategy, of device: Device, on platform: RemappingPlatform, memory: FlatMemory,
    crashKernel: [Range<PhysicalAddress>], levels: Int = 4, flushes: Bool = true
  ) throws(SetUpError) {
    self.strategy = strategy
    self.flushes = flushes
    unit = try RemappingUnitDriver(for: device.requester, on: platform, memory: memory)
    pages = PagePool(memory: memory, map: try MemoryMap(ram: crashKernel, crashKernel: []))
    format = VTd.SecondStageFormat(levels: levels, limits: unit.limits)
    contexts = try ContextTables(pages: pages)
  }

  // MARK: The IOMMU code

  /// Runs the kernel's IOMMU code.
  ///
  /// - Parameter whileOff: Runs while translation is off for a moment: when the old tables are of
  ///   another kind and cannot be copied.
  public func takeOver(whileOff: () -> Void = {}) throws(SetUpError) {
    // Old faults are of no use to this kernel, and hold up new ones.
    _ = unit.takeFaults()
    guard strategy != .switchOff else {
      unit.switchTranslation(on: false)
      return
    }
    if unit.status.has(.queuedInvalidation) {
      unit.enableQueue(
        in: try pages.allocateTable(
          RemappingUnitDriver.queueByteCount, what: "an invalidation queue"))
    }
    guard strategy == .copy else {
      unit.setRootTable(contexts.rootTable, flushes: flushes)
      // The crash path may have switched it off.
      unit.switchTranslation(on: true)
      return
    }
    if try copyContexts() {
      unit.setRootTable(contexts.rootTable)
    } else {
      unit.switchTranslation(on: false)
      whileOff()
      unit.setRootTable(contexts.rootTable)
      unit.switchTranslation(on: true)
    }
  }

  /// Copies what is present of the old context tables; false when they are of another kind.
  ///
  /// Domain-ids stay in use, so that no new domain shares one with a mapping that lives on.
  private func copyContexts() throws(SetUpError) -> Bool {
    let old = unit.unit
    guard old.rootTableAddress.mode == .legacy else { return false }
    for requester in old.requesters(in: pages.memory) {
      guard
        let table = old.contextTable(of: requester, in: pages.memory),
        let entry = VTd.ContextEntry(
          from: pages.memory,
          at: VTd.Unit.contextEntryAddress(in: table, deviceFunction: requester.deviceFunction))
      else { continue }
      try contexts.store(entry, for: requester)
      copied.insert(requester)
      usedDomainIDs.insert(entry.domainID)
    }
    return true
  }

  // MARK: A driver

  /// Hands a page of this kernel's memory to a device.
  ///
  /// The first one of a device ends what the old kernel had mapped for it.
  ///
  /// - Parameters:
  ///   - device: Whose driver asks.
  ///   - direction: Which way data moves: decides what the device may do to the page.
  ///   - page: The page, 4 KiB aligned; `nil` for any that is free.
  public func map(
    for device: Device, direction: DMADirection, page: PhysicalAddress? = nil
  ) throws(MappingFailure) -> MappedBuffer {
    try hand(page, to: device, direction)
  }

  var isSwitchedOff: Bool { strategy == .switchOff }

  func mapThroughDomain(
    _ buffer: Range<PhysicalAddress>, _ device: Device, _ direction: DMADirection
  ) throws -> IOVA {
    if domains[device.requester] == nil { try attach(device.requester) }
    guard
      let iova = domains[device.requester]!.iovas.allocate(
        4096, alignment: 4096, below: min(device.dmaMask, (1 << 32) - 1) + 1)
    else { throw MappingFailure.full("IOVAs of \(device.requester)") }
    try SecondStageWriter(pages: pages, format: format).map(
      buffer, at: iova, direction == .toDevice ? .read : .readWrite,
      root: domains[device.requester]!.root)
    if unit.capability.hasCachingMode {
      unit.invalidateIOTLB(
        IOVA(iova)..<IOVA(iova + 4096), domainID: contexts.entry(of: device.requester).domainID)
    }
    unit.flushWriteBuffer()
    return IOVA(iova)
  }

  /// Gives a device a domain of its own; a copied entry is taken down first.
  private func attach(_ requester: Requester) throws(SetUpError) {
    if copied.remove(requester) != nil {
      let old = contexts.entry(of: requester)
      try contexts.store(VTd.ContextEntry(), for: requester)
      if flushes {
        unit.invalidateContexts(.selective, domainID: old.domainID, requester: requester)
        unit.invalidateIOTLB(.domain, domainID: old.domainID)
      }
    }
    // 0 stays free: a unit in caching mode keeps it for itself.
    let limit = UInt16(truncatingIfNeeded: 1 << unit.limits.domainIDBits - 1)
    guard let id = (1...max(1, limit)).first(where: { !usedDomainIDs.contains($0) }) else {
      throw .outOfMemory(what: "a VT-d domain: the unit has no domain-id left")
    }
    usedDomainIDs.insert(id)
    let root = try pages.allocateTable(4096, what: "a VT-d domain")
    var iovas = TopDownAllocator(space: [VTdDriver.iovaSpace])
    iovas.reserve(VTd.interruptAddresses)
    domains[requester] = Domain(root: root, iovas: iovas)
    try contexts.store(
      VTd.ContextEntry(secondStageTable: root, levels: format.levels, domainID: id),
      for: requester)
    if unit.capability.hasCachingMode {
      unit.invalidateContexts(.selective, domainID: 0, requester: requester)
      unit.invalidateIOTLB(.domain, domainID: id)
    }
    unit.flushWriteBuffer()
  }
}
