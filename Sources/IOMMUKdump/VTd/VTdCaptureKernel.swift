import IOMMUFormats
import IOMMUTranslation

/// A kdump kernel that knows VT-d: it finds a unit that another kernel has left on.
///
/// The Rule wants none of this (``KdumpKernel`` is what it wants); it is what kernels do today. Two
/// steps: ``takeOver(observing:)``, when the kernel's IOMMU code runs, and
/// ``map(for:direction:page:)``, when a driver uses its device for the first time.
public final class VTdCaptureKernel: DomainCaptureKernel {
  /// What the kernel does with the unit.
  public enum Strategy: String, Sendable, CaseIterable {
    /// New, empty tables: every device faults until its driver maps. As Linux before 4.2.
    case reinitialise
    /// Copies root and context tables and leaves page tables where they are; a device gets a domain
    /// of its own when its driver first maps. As Linux since 4.2.
    case copy
    /// Copies page tables too and goes on in the copies, with numbers that are free there. As proposed
    /// for Linux in 2014.
    case copyPageTables
    /// Goes on in the old kernel's own tables, whose owner has said which they are: what a planned
    /// kexec that keeps devices alive wants.
    case goOn
    /// Copies, and lets the requests of a device pass untranslated when its driver first maps. As Linux
    /// with iommu=pt.
    case passThrough
    /// Switches translation off: devices see physical addresses. As Linux today with
    /// intel_iommu=off.
    case switchOff
  }

  /// What kernels have got wrong, or do not do.
  public struct Flaws: OptionSet, Sendable {
    public let rawValue: Int
    public init(rawValue: Int) { self.rawValue = rawValue }

    /// The unit is not told to forget what it has cached of tables that are replaced. Linux did not
    /// when it replaced copied entries, before 4.10.
    public static let omitsFlushes = Flaws(rawValue: 1 << 0)
    /// Scalable mode: domain-ids of copied PASID entries are handed out again. Seen in Linux 7.2.
    public static let reusesDomainIDs = Flaws(rawValue: 1 << 1)
    /// Scalable mode: the copy of a context table for functions from 128 on takes the place of the one
    /// below, where a bus has no such. Found in Linux in June 2026 (D. Nunes on the kernel list).
    public static let misplacesUpperHalves = Flaws(rawValue: 1 << 2)
  }

  public let strategy: Strategy
  public let flaws: Flaws
  private let unit: RemappingUnitDriver
  let pages: PagePool
  private let format: VTd.SecondStageFormat
  private var contexts: ContextTables
  private let deviceTLBs: Set<Requester>
  private let memoryRanges: [(device: Requester, range: Range<PhysicalAddress>)]
  /// By ``Device/domainKey``.
  private var domains: [Requester: Domain] = [:]
  /// Of numbers whose tables were taken over, the key of their domain.
  private var takenKeys: [Requester: Requester] = [:]
  /// Numbers whose context entries lead to a domain of this kernel.
  private var attached: Set<Requester> = []
  /// Devices whose context entries are still the old kernel's.
  private var copied: Set<Requester> = []
  private var usedDomainIDs: Set<UInt16> = []
  /// That of devices whose requests this kernel lets pass.
  private var passingID: UInt16?

  private struct Domain {
    var id: UInt16
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
  ///   - mode: How its own tables are laid out.
  ///   - flaws: What it gets wrong.
  ///   - deviceTLBs: Devices that have a TLB of their own (PCIe ATS).
  ///   - memoryRanges: What firmware wants mapped to itself for a device (RMRR), whole pages; each with
  ///     the device's source-id, or what stands for its group.
  /// - Throws: when firmware's table names no unit, or the memory is too small for a root table.
  public init(
    _ strategy: Strategy, of device: Device, on platform: RemappingPlatform, memory: FlatMemory,
    crashKernel: [Range<PhysicalAddress>], levels: Int = 4,
    mode: VTd.TranslationTableMode = .legacy, flaws: Flaws = [], deviceTLBs: Set<Requester> = [],
    memoryRanges: [(device: Requester, range: Range<PhysicalAddress>)] = []
  ) throws(SetUpError) {
    self.strategy = strategy
    self.flaws = flaws
    self.deviceTLBs = deviceTLBs
    self.memoryRanges = memoryRanges
    unit = try RemappingUnitDriver(for: device.requester, on: platform, memory: memory)
    pages = PagePool(
      memory: memory, map: try MemoryMap(ram: crashKernel, crashKernel: []), tableLimit: .max)
    format = VTd.SecondStageFormat(levels: levels, limits: unit.limits)
    contexts = try ContextTables(pages: pages, mode: mode)
  }

  private var flushes: Bool { !flaws.contains(.omitsFlushes) }

  // MARK: The IOMMU code

  /// Runs the kernel's IOMMU code.
  ///
  /// - Parameter observe: Told of every state that the hardware is left in for a moment.
  /// - Throws: where the kernel's memory has no room for its tables.
  public func takeOver(observing observe: (CaptureStep) -> Void = { _ in }) throws(SetUpError) {
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
    switch strategy {
    case .goOn:
      contexts = ContextTables(pages: pages, adopting: unit.unit)
      try takeDomains(copying: false)
    case .reinitialise, .switchOff:
      putInForce(observe)
      // The crash path may have switched it off.
      unit.switchTranslation(on: true)
    case .copy, .copyPageTables, .passThrough:
      guard unit.rootTableAddress.mode == contexts.mode else {
        unit.switchTranslation(on: false)
        observe(.translationOff)
        putInForce(observe)
        unit.switchTranslation(on: true)
        return
      }
      try copyContexts()
      if strategy == .copyPageTables { try takeDomains(copying: true) }
      putInForce(observe)
    }
  }

  private func putInForce(_ observe: (CaptureStep) -> Void) {
    unit.setRootTable(contexts.rootTable, mode: contexts.mode, flushes: flushes) {
      observe(.notFlushed)
    }
  }

  /// Copies the context tables, whole.
  ///
  /// Domain-ids stay in use, so that no new domain shares one with a mapping that lives on.
  private func copyContexts() throws(SetUpError) {
    let old = unit.unit
    let requesters = old.requesters(in: pages.memory)
    var previous: PhysicalAddress?
    for requester in requesters {
      guard let table = old.contextTable(of: requester, in: pages.memory) else { continue }
      copied.insert(requester)
      guard table != previous else { continue }
      previous = table
      let copy = try pages.allocateTable(4096, what: "a VT-d context table")
      if let bytes = pages.memory.bytes(at: table, count: 4096) {
        pages.memory.write(bytes, at: copy)
      }
      let isAlone = !requesters.contains {
        $0.bus == requester.bus && $0.deviceFunction < 128
      }
      let isMisplaced =
        flaws.contains(.misplacesUpperHalves) && contexts.mode == .scalable && isAlone
      contexts.install(
        copy,
        for: isMisplaced ? Requester(rawValue: requester.rawValue & 0xff7f) : requester)
    }
    guard contexts.mode == .legacy || !flaws.contains(.reusesDomainIDs) else { return }
    for requester in copied {
      if let id = contexts.attachment(of: requester)?.domainID { usedDomainIDs.insert(id) }
    }
  }

  /// Takes the domains of the old kernel over, with the numbers that are in use there.
  ///
  /// - Parameter copying: Their page tables are copied, and the context entries changed.
  private func takeDomains(copying: Bool) throws(SetUpError) {
    // Tables by those of the old kernel, and whose they were first.
    var roots: [PhysicalAddress: (table: PhysicalAddress, key: Requester)] = [:]
    for requester in unit.unit.requesters(in: pages.memory) {
      guard var attachment = contexts.attachment(of: requester), let root = attachment.root,
        3...5 ~= attachment.levels
      else { continue }
      usedDomainIDs.insert(attachment.domainID)
      let format = VTd.SecondStageFormat(levels: attachment.levels, limits: unit.limits)
      let isNew = roots[root] == nil
      if isNew {
        let table =
          copying ? try SecondStageWriter(pages: pages, format: format).copy(root) : root
        roots[root] = (table, requester)
      }
      let (table, key) = roots[root]!
      if copying {
        attachment.root = table
        try contexts.attach(requester, attachment)
      }
      takenKeys[requester] = key
      attached.insert(requester)
      copied.remove(requester)
      guard isNew else { continue }
      var iovas = TopDownAllocator(space: [VTdDriver.iovaSpace])
      iovas.reserve(VTd.interruptAddresses)
      for range in format.mappedNumbers(from: root, in: pages.memory) {
        iovas.reserve(range.clamped(to: VTdDriver.iovaSpace))
      }
      domains[key] = Domain(id: attachment.domainID, root: table, iovas: iovas)
    }
  }

  // MARK: A driver

  /// Hands a page of this kernel's memory to a device; where contexts were copied, the first one of a
  /// device ends what the old kernel had mapped for it.
  ///
  /// - Parameters:
  ///   - device: Whose driver asks.
  ///   - direction: Which way data moves: decides what the device may do to the page.
  ///   - page: The page, 4 KiB aligned; `nil` for any that is free.
  public func map(
    for device: Device, direction: DMADirection, page: PhysicalAddress? = nil
  ) throws(MappingFailure) -> MappedBuffer {
    try map(for: device, direction: direction, page: page, observing: { _ in })
  }

  var passesThrough: Bool { strategy == .switchOff || strategy == .passThrough }

  func letPass(
    _ device: Device, observing observe: (CaptureStep) -> Void
  ) throws(SetUpError) {
    guard strategy == .passThrough, !attached.contains(device.sourceID) else { return }
    device.entryIDs.forEach(tearDown)
    observe(.tornDown)
    let id: UInt16
    if let passingID { id = passingID } else { id = try takeDomainID() }
    passingID = id
    try attach(device, DeviceAttachment(root: nil, levels: format.levels, domainID: id))
  }

  func mapThroughDomain(
    _ buffer: Range<PhysicalAddress>, _ device: Device, _ direction: DMADirection,
    observing observe: (CaptureStep) -> Void
  ) throws -> IOVA {
    let key = takenKeys[device.sourceID] ?? device.domainKey
    if !attached.contains(device.requester) || domains[key] == nil {
      try attach(device, key, observing: observe)
    }
    guard
      let iova = domains[key]!.iovas.allocate(
        4096, alignment: 4096, below: min(device.dmaMask, (1 << 32) - 1) + 1)
    else { throw MappingFailure.full("IOVAs of \(device.requester)") }
    let domain = domains[key]!
    let levels = contexts.attachment(of: device.sourceID)?.levels ?? format.levels
    try SecondStageWriter(
      pages: pages, format: VTd.SecondStageFormat(levels: levels, limits: unit.limits)
    ).map(
      buffer, at: iova, direction == .toDevice ? .read : .readWrite, root: domain.root)
    if unit.capability.hasCachingMode {
      unit.invalidateIOTLB(IOVA(iova)..<IOVA(iova + 4096), domainID: domain.id)
    }
    unit.flushWriteBuffer()
    return IOVA(iova)
  }

  /// The lowest domain-id that nothing has.
  private func takeDomainID() throws(SetUpError) -> UInt16 {
    // 0 stays free: a unit in caching mode keeps it for itself.
    let limit = UInt16(truncatingIfNeeded: 1 << unit.limits.domainIDBits - 1)
    guard let id = (1...max(1, limit)).first(where: { !usedDomainIDs.contains($0) }) else {
      throw .outOfMemory(what: "a VT-d domain: the unit has no domain-id left")
    }
    usedDomainIDs.insert(id)
    return id
  }

  /// Takes down what was copied for a device.
  private func tearDown(_ requester: Requester) {
    guard copied.remove(requester) != nil else { return }
    let old = contexts.attachment(of: requester)
    contexts.detach(requester)
    guard flushes, let old else { return }
    unit.invalidateContexts(.selective, domainID: old.domainID, requester: requester)
    if contexts.mode == .scalable { unit.invalidatePASIDEntries(domainID: old.domainID) }
    unit.invalidateIOTLB(.domain, domainID: old.domainID)
  }

  /// Gives a device a domain; what was copied is taken down first, for all who share the entry.
  private func attach(
    _ device: Device, _ key: Requester, observing observe: (CaptureStep) -> Void
  ) throws(SetUpError) {
    device.entryIDs.forEach(tearDown)
    observe(.tornDown)
    if domains[key] == nil { domains[key] = try makeDomain(key) }
    let domain = domains[key]!
    try attach(
      device, DeviceAttachment(root: domain.root, levels: format.levels, domainID: domain.id))
  }

  /// Writes a device's context entries, but for one that is there already for others who share it.
  private func attach(_ device: Device, _ attachment: DeviceAttachment) throws(SetUpError) {
    for requester in device.entryIDs where attached.insert(requester).inserted {
      var attachment = attachment
      attachment.allowsDeviceTLB = attachment.root != nil && deviceTLBs.contains(requester)
      try contexts.attach(requester, attachment)
      appeared(requester, domainID: attachment.domainID)
    }
  }

  private func makeDomain(_ key: Requester) throws(SetUpError) -> Domain {
    let id = try takeDomainID()
    let root = try pages.allocateTable(4096, what: "a VT-d domain")
    var iovas = TopDownAllocator(space: [VTdDriver.iovaSpace])
    iovas.reserve(VTd.interruptAddresses)
    for (device, range) in memoryRanges where device == key {
      let numbers = range.lowerBound.rawValue..<range.upperBound.rawValue
      iovas.reserve(numbers.clamped(to: VTdDriver.iovaSpace))
      try SecondStageWriter(pages: pages, format: format).mapIdentity(range, root: root)
    }
    return Domain(id: id, root: root, iovas: iovas)
  }

  /// Entries that were not present are there now.
  private func appeared(_ requester: Requester, domainID: UInt16) {
    if unit.capability.hasCachingMode {
      unit.invalidateContexts(.selective, domainID: 0, requester: requester)
      unit.invalidateIOTLB(.domain, domainID: domainID)
    }
    unit.flushWriteBuffer()
  }
}
