import IOMMUFormats
import IOMMUTranslation

/// A kdump kernel that knows AMD-Vi: it finds a unit that another kernel has left on.
///
/// The Rule wants none of this (``KdumpKernel`` is what it wants); it is what kernels do today. Two
/// steps: ``takeOver(observing:)``, when the kernel's IOMMU code runs, and ``map(for:direction:page:)``,
/// when a driver uses its device for the first time.
public final class AMDViCaptureKernel: DomainCaptureKernel {
  /// What the kernel does with the unit.
  public enum Strategy: String, Sendable, CaseIterable {
    /// A new table in which every device is stopped. As Linux before 4.14.
    case reinitialise
    /// Copies the device table and leaves page tables where they are; a device gets a domain of its own
    /// when its driver first maps. As Linux 4.14 to 6.12.
    case copy
    /// Goes on with the old kernel's device table, commands and events where they lie. As Linux 7.0.
    case reuse
    /// Copies, and lets the requests of a device pass untranslated when its driver first maps. As Linux
    /// with iommu=pt.
    case passThrough
    /// Switches translation off: devices see physical addresses. As Linux with amd_iommu=off.
    case switchOff
  }

  public let strategy: Strategy
  /// Whether the unit is told to forget what it has cached of the old domain when an entry changes.
  /// Linux did not, before 5.4.
  public let flushes: Bool
  /// Why the old table was not copied; `nil` when it was, or nobody wanted it.
  public private(set) var refusal: String?
  private let memoryRanges: [(device: Requester, range: Range<PhysicalAddress>)]
  private let unit: AMDViUnitDriver
  let pages: PagePool
  private let writer: HostTableWriter
  private var table: AMDViDeviceTable?
  /// By ``Device/domainKey``.
  private var domains: [Requester: Domain] = [:]
  /// Numbers whose entries this kernel has written.
  private var attached: Set<Requester> = []
  private var usedDomainIDs: Set<UInt16> = []
  /// That of devices whose requests this kernel lets pass.
  private var passingID: UInt16?

  private struct Domain {
    var id: UInt16
    var tree: HostTableWriter.Tree
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
  ///   - flushes: Whether the unit is told to forget what it has cached of the old domains.
  ///   - memoryRanges: What firmware wants mapped to itself for a device (IVMD), whole pages; each with
  ///     the device's source-id, or what stands for its group.
  /// - Throws: when firmware's table names no unit.
  public init(
    _ strategy: Strategy, of device: Device, on platform: AMDViPlatform, memory: FlatMemory,
    crashKernel: [Range<PhysicalAddress>], flushes: Bool = true,
    memoryRanges: [(device: Requester, range: Range<PhysicalAddress>)] = []
  ) throws(SetUpError) {
    self.strategy = strategy
    self.flushes = flushes
    self.memoryRanges = memoryRanges
    unit = try AMDViUnitDriver(for: device.requester, on: platform, memory: memory)
    pages = PagePool(
      memory: memory, map: try MemoryMap(ram: crashKernel, crashKernel: []), tableLimit: .max)
    writer = HostTableWriter(
      pages: pages, maximumLevels: unit.features.hostLevels ?? 4, forcesCoherence: true)
  }

  // MARK: The IOMMU code

  /// Runs the kernel's IOMMU code.
  ///
  /// - Parameter observe: Told of every state that the hardware is left in for a moment.
  /// - Throws: where the kernel's memory has no room for its tables.
  public func takeOver(observing observe: (CaptureStep) -> Void = { _ in }) throws(SetUpError) {
    guard strategy != .switchOff else {
      unit.disable()
      return
    }
    if strategy == .reuse, unit.control.isEnabled {
      let old = unit.deviceTable
      table = AMDViDeviceTable(
        memory: pages.memory, start: old.address, byteCount: old.byteCount)
      takeDomainIDs()
      unit.reuseRings(completion: try pages.allocateTable(4096, what: "AMD-Vi completions"))
      unit.invalidateAll()
      return
    }
    if strategy == .copy || strategy == .passThrough, unit.control.isEnabled,
      let copy = try copyTable()
    {
      table = copy
      unit.startRings(in: try rings())
      unit.deviceTable = copy.register
      observe(.notFlushed)
      unit.invalidateAll()
      return
    }
    unit.disable()
    observe(.translationOff)
    let new = try AMDViDeviceTable(
      pages: pages, lastDevice: Requester(rawValue: 0xffff), filledWith: .blocked)
    table = new
    unit.deviceTable = new.register
    unit.startRings(in: try rings())
    unit.enable()
    observe(.notFlushed)
    if flushes { unit.invalidateAll() }
  }

  private func rings() throws(SetUpError) -> PhysicalAddress {
    try pages.allocateTable(AMDViUnitDriver.bufferByteCount, what: "AMD-Vi commands and events")
  }

  private func takeDomainIDs() {
    guard let table else { return }
    for number in 0..<table.count {
      let entry = table[Requester(rawValue: UInt16(number))]
      if entry.isValid { usedDomainIDs.insert(entry.domainID) }
    }
  }

  /// A copy of the old table; `nil` where that is not to be trusted.
  private func copyTable() throws(SetUpError) -> AMDViDeviceTable? {
    let register = unit.deviceTable
    let wanted = AMDViDeviceTable.byteCount(lastDevice: Requester(rawValue: 0xffff))
    guard register.byteCount == wanted else {
      refusal = "the old device table has \(register.byteCount) bytes, and \(wanted) are expected"
      return nil
    }
    guard register.address.rawValue + register.byteCount <= 1 << 32 else {
      refusal = "the old device table at \(register.address) is above 4 GiB"
      return nil
    }
    let old = AMDViDeviceTable(
      memory: pages.memory, start: register.address, byteCount: register.byteCount)
    let copy = try AMDViDeviceTable(
      pages: pages, lastDevice: Requester(rawValue: 0xffff), filledWith: .blocked)
    // Most of the table is as nobody has touched it, and so is the copy.
    let untouched = AMDViDeviceTable.page(filledWith: .blocked)
    var skippedPage = -1
    for number in 0..<old.count {
      let page = number / untouched.entryCount
      guard page != skippedPage else { continue }
      let device = Requester(rawValue: UInt16(number))
      if number % untouched.entryCount == 0,
        pages.memory.bytes(at: old.place(of: device), count: 4096) == untouched.bytes
      {
        skippedPage = page
        continue
      }
      guard var entry = AMDVi.DeviceTableEntry(from: pages.memory, at: old.place(of: device)) else {
        refusal = "no memory answers where the old device table is"
        return nil
      }
      if entry.isInterruptValid,
        entry.interruptControl != .abort || entry.interruptTableLengthCode != 0,
        entry.interruptControl != .remap || entry.interruptTableLengthCode != 9
      {
        refusal = "\(device) has an interrupt table of another kind"
        return nil
      }
      if entry.isValid, entry.domainID != 0 {
        usedDomainIDs.insert(entry.domainID)
        // A guest's tables are let go: what is left is mode 0, and numbers become addresses.
        if entry.usesGuestTables {
          entry.usesGuestTables = false
          entry.guestRootTable = PhysicalAddress(0)
        }
      }
      copy[device] = entry
    }
    return copy
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
    try map(for: device, direction: direction, page: page, observing: { _ in })
  }

  var passesThrough: Bool { strategy == .switchOff || strategy == .passThrough }

  /// The entry changes with one store: there is no moment in between.
  func letPass(_ device: Device, observing _: (CaptureStep) -> Void) throws(SetUpError) {
    guard strategy == .passThrough, !attached.contains(device.requester) else { return }
    let id: UInt16
    if let passingID { id = passingID } else { id = try takeDomainID() }
    passingID = id
    store(mode: 0, root: PhysicalAddress(0), domainID: id, for: device)
  }

  func mapThroughDomain(
    _ buffer: Range<PhysicalAddress>, _ device: Device, _ direction: DMADirection,
    observing _: (CaptureStep) -> Void
  ) throws -> IOVA {
    if !attached.contains(device.requester) { try attach(device) }
    guard
      let iova = domains[device.domainKey]!.iovas.allocate(
        4096, alignment: 4096, below: min(device.dmaMask, (1 << 32) - 1) + 1)
    else { throw MappingFailure.full("IOVAs of \(device.requester)") }
    let domain = domains[device.domainKey]!
    try writer.store(
      buffer.lowerBound, sizeLog2: 12, at: iova, AMDViDriver.permissions(direction),
      in: domain.tree)
    if unit.cachesNotPresent { unit.invalidatePages(domain.id, iova..<(iova + 4096)) }
    return IOVA(iova)
  }

  /// The lowest DomainID that nothing has.
  private func takeDomainID() throws(SetUpError) -> UInt16 {
    guard let id = (1...UInt16.max).first(where: { !usedDomainIDs.contains($0) }) else {
      throw .outOfMemory(what: "an AMD-Vi domain: no DomainID is left")
    }
    usedDomainIDs.insert(id)
    return id
  }

  /// Gives a device a domain in place of the one that it still has.
  private func attach(_ device: Device) throws(SetUpError) {
    if domains[device.domainKey] == nil {
      domains[device.domainKey] = try makeDomain(device.domainKey)
    }
    let domain = domains[device.domainKey]!
    store(mode: domain.tree.levels, root: domain.tree.root, domainID: domain.id, for: device)
  }

  /// Changes a device's entries: that of its alias is for all who share it.
  private func store(mode: Int, root: PhysicalAddress, domainID: UInt16, for device: Device) {
    guard let table else { preconditionFailure("the unit is taken over before it is used") }
    for requester in device.entryIDs where attached.insert(requester).inserted {
      let old = table[requester]
      table[requester] = old.translating(mode: mode, root: root, domainID: domainID)
      unit.invalidateEntry(
        requester, domains: flushes ? [old.domainID, domainID] : [domainID])
    }
  }

  private func makeDomain(_ key: Requester) throws(SetUpError) -> Domain {
    let id = try takeDomainID()
    var iovas = TopDownAllocator(space: [AMDViDriver.iovaSpace])
    iovas.reserve(AMDVi.interruptAddresses)
    var tree = try writer.makeTree()
    for (device, range) in memoryRanges where device == key {
      let numbers = range.lowerBound.rawValue..<range.upperBound.rawValue
      iovas.reserve(numbers.clamped(to: AMDViDriver.iovaSpace))
      try writer.grow(&tree, toReach: numbers.upperBound)
      _ = try writer.map(
        range.lowerBound, at: numbers.lowerBound, byteCount: range.byteCount, .readWrite, in: tree,
        largest: 38)
    }
    return Domain(id: id, tree: tree, iovas: iovas)
  }
}
