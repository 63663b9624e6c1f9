import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// How a kernel handles one remapping unit: by its registers and, once there is one, by a queue.
///
/// Each call is done when it returns. The modelled unit does a command within the write that asks
/// for it, so that reading the status once takes the place of polling. Specification: Intel VT-d
/// 11.4.4.1, 6.5.
final class RemappingUnitDriver {
  /// Where the registers lie.
  let base: PhysicalAddress
  private let registers: RemappingUnit
  private let memory: FlatMemory
  let capability: VTd.Capability
  let extendedCapability: VTd.ExtendedCapability
  /// HAW, from the DMAR table.
  private let hostAddressWidth: Int
  private var queue: Queue?

  /// The invalidation queue: a page of descriptors, and a page whose first word tells that all before is
  /// done.
  private struct Queue {
    var page: PhysicalAddress
    var status: PhysicalAddress
    /// Descriptors of 32 bytes, as scalable mode wants them.
    var isWide: Bool
    var tail = 0
    var sequence: UInt32 = 0

    var descriptorCount: Int { isWide ? 128 : 256 }
  }

  /// Bytes that ``enableQueue(in:)`` wants, 4 KiB aligned.
  static let queueByteCount: UInt64 = 8192

  /// Finds the unit that firmware's table names for a device.
  ///
  /// - Throws: ``SetUpError/dmarTable(_:)`` for a table that cannot be read or names no unit.
  init(for requester: Requester, on platform: RemappingPlatform, memory: FlatMemory)
    throws(SetUpError)
  {
    let table: VTd.DMAR
    do {
      table = try VTd.DMAR(parsing: platform.dmarTable)
    } catch {
      throw .dmarTable("\(error)")
    }
    let hardware = RemappingHardware(table, topologies: [platform.topology])
    guard let unit = hardware.unit(of: requester),
      let registers = platform.registers(at: unit.base)
    else {
      throw .dmarTable("no unit is named above \(requester); the table is incomplete")
    }
    base = unit.base
    self.registers = registers
    self.memory = memory
    hostAddressWidth = table.platform.hostAddressWidth
    capability = VTd.Capability(
      rawValue: registers.read(VTd.RegisterOffset.capability, byteCount: 8))
    extendedCapability = VTd.ExtendedCapability(
      rawValue: registers.read(VTd.RegisterOffset.extendedCapability, byteCount: 8))
  }

  /// What the unit allows in tables.
  var limits: VTd.Limits {
    VTd.Limits(
      capability: capability, extendedCapability: extendedCapability,
      hostAddressWidth: hostAddressWidth)
  }

  // MARK: Status and commands

  var status: VTd.GlobalStatus {
    VTd.GlobalStatus(
      rawValue: UInt32(registers.read(VTd.RegisterOffset.globalStatus, byteCount: 4)))
  }

  /// RTADDR_REG as software reads it.
  var rootTableAddress: VTd.RootTableAddress {
    VTd.RootTableAddress(
      rawValue: registers.read(VTd.RegisterOffset.rootTableAddress, byteCount: 8))
  }

  /// The unit as a machine file tells of it.
  var unit: VTd.Unit {
    VTd.Unit(
      base: base, rootTableAddress: rootTableAddress, status: status, limits: limits,
      interruptTableAddress: extendedCapability.hasInterruptRemapping
        ? VTd.InterruptTableAddress(
          rawValue: registers.read(VTd.RegisterOffset.interruptTableAddress, byteCount: 8)) : nil)
  }

  /// Changes one thing, and keeps all that is on.
  private func command(_ change: (inout VTd.GlobalCommand) -> Void) {
    var command = VTd.GlobalCommand(keeping: status)
    change(&command)
    registers.write(
      UInt64(command.rawValue), at: VTd.RegisterOffset.globalCommand, byteCount: 4)
  }

  /// Puts a root table in force and drops what the unit remembers of the one before.
  ///
  /// - Parameters:
  ///   - rootTable: The table, 4 KiB aligned.
  ///   - mode: How it and those below are laid out.
  ///   - flushes: Whether to drop it: a kernel that forgets meets what is left.
  ///   - beforeFlush: Runs when the table is in force, and nothing is dropped yet.
  func setRootTable(
    _ rootTable: PhysicalAddress, mode: VTd.TranslationTableMode = .legacy, flushes: Bool = true,
    beforeFlush: () -> Void = {}
  ) {
    flushWriteBuffer()
    registers.write(
      VTd.RootTableAddress(rootTable: rootTable, mode: mode).rawValue,
      at: VTd.RegisterOffset.rootTableAddress, byteCount: 8)
    command { $0.setsRootTablePointer = true }
    precondition(status.has(.rootTablePointer), "the unit has not taken the root table")
    beforeFlush()
    guard flushes, !capability.invalidatesOnRootTablePointer else { return }
    // In this order: a cached context entry may tag what the IOTLB is filled with.
    invalidateContexts(.global)
    if mode == .scalable { submit(VTd.PASIDCacheDescriptor(.global)) }
    invalidateIOTLB(.global)
  }

  /// Switches DMA remapping on or off.
  func switchTranslation(on isOn: Bool) {
    command { $0.enablesTranslation = isOn }
    precondition(status.translates == isOn, "the unit has not followed TE")
  }

  /// A unit that buffers its own view of the tables is told that entries have appeared.
  func flushWriteBuffer() {
    guard capability.requiresWriteBufferFlush else { return }
    command { $0.flushesWriteBuffer = true }
  }

  // MARK: The queue

  /// Invalidates by a queue from now on, in place of the registers; a queue that another kernel
  /// left is given up.
  ///
  /// - Parameter pages: ``queueByteCount`` zeroed bytes.
  func enableQueue(in pages: PhysicalAddress) {
    if status.has(.queuedInvalidation) { disableQueue() }
    let isWide = extendedCapability.hasScalableMode
    queue = Queue(page: pages, status: PhysicalAddress(pages.rawValue + 4096), isWide: isWide)
    registers.write(0, at: VTd.RegisterOffset.queueTail, byteCount: 8)
    registers.write(
      VTd.QueueAddress(queue: pages, isWide: isWide).rawValue, at: VTd.RegisterOffset.queueAddress,
      byteCount: 8)
    command { $0.enablesQueuedInvalidation = true }
    precondition(status.has(.queuedInvalidation), "the unit has not followed QIE")
  }

  /// Back to the registers.
  func disableQueue() {
    command { $0.enablesQueuedInvalidation = false }
    precondition(!status.has(.queuedInvalidation), "the unit has not followed QIE")
    queue = nil
  }

  /// Queues a descriptor and one to wait for, and waits.
  private func submit(_ descriptor: some InvalidationDescriptor) {
    guard var queue else { preconditionFailure("a queue is enabled before it is used") }
    queue.sequence &+= 1
    let wait = VTd.WaitDescriptor(status: (queue.status, queue.sequence))
    store(descriptor, in: &queue)
    store(wait, in: &queue)
    registers.write(
      VTd.QueueTail(index: queue.tail, isWide: queue.isWide).rawValue,
      at: VTd.RegisterOffset.queueTail,
      byteCount: 8)
    precondition(
      memory.doubleword(at: queue.status) == queue.sequence,
      "the unit has not come to the end of its queue")
    self.queue = queue
  }

  private func store(_ descriptor: some InvalidationDescriptor, in queue: inout Queue) {
    descriptor.store(
      to: memory,
      at: PhysicalAddress(queue.page.rawValue + UInt64(queue.tail) * (queue.isWide ? 32 : 16)))
    queue.tail = (queue.tail + 1) % queue.descriptorCount
  }

  // MARK: Invalidation

  /// Drops context entries: all, those of a domain, or that of a device in a domain.
  func invalidateContexts(
    _ granularity: VTd.Granularity, domainID: UInt16 = 0,
    requester: Requester = Requester(rawValue: 0)
  ) {
    guard queue == nil else {
      submit(
        VTd.ContextCacheDescriptor(granularity, domainID: domainID, requester: requester))
      return
    }
    let offset = VTd.RegisterOffset.contextCommand
    registers.write(
      VTd.ContextCommand(granularity, domainID: domainID, requester: requester).rawValue,
      at: offset, byteCount: 8)
    let answer = VTd.ContextCommand(rawValue: registers.read(offset, byteCount: 8))
    precondition(!answer.isPending && answer.actual != .none, "the unit refused CCMD_REG")
  }

  /// Drops the PASID entries of a domain.
  ///
  /// - Precondition: the tables are of scalable mode, which takes a queue.
  func invalidatePASIDEntries(domainID: UInt16) {
    submit(VTd.PASIDCacheDescriptor(.domain, domainID: domainID))
  }

  /// Drops translations: all, or those of a domain.
  func invalidateIOTLB(_ granularity: VTd.Granularity, domainID: UInt16 = 0) {
    precondition(granularity != .selective, "pages are named by a range")
    guard queue == nil else {
      submit(VTd.IOTLBDescriptor(granularity, domainID: domainID))
      return
    }
    command(
      VTd.IOTLBInvalidate(
        granularity, domainID: domainID, drainsReads: true, drainsWrites: true))
  }

  /// Drops translations of a range of pages in a domain; all of the domain's where the unit cannot
  /// name the range.
  ///
  /// - Parameter range: Multiples of 4 KiB, not empty.
  func invalidateIOTLB(_ range: Range<IOVA>, domainID: UInt16) {
    // The smallest power of two of pages, aligned to itself, that holds the range.
    let first = range.lowerBound.pageNumber
    let last = range.upperBound.rawValue / 4096 - 1
    let mask = UInt64.bitWidth - (first ^ last).leadingZeroBitCount
    guard capability.hasPageSelectiveInvalidation, mask <= capability.maximumAddressMask else {
      invalidateIOTLB(.domain, domainID: domainID)
      return
    }
    let address = IOVA((first >> UInt64(mask)) << UInt64(mask + 12))
    guard queue == nil else {
      submit(
        VTd.IOTLBDescriptor(
          .selective, domainID: domainID, address: address, addressMask: mask))
      return
    }
    registers.write(
      VTd.InvalidateAddress(address: address, addressMask: mask).rawValue,
      at: extendedCapability.invalidationRegisterOffset, byteCount: 8)
    command(
      VTd.IOTLBInvalidate(
        .selective, domainID: domainID, drainsReads: true, drainsWrites: true))
  }

  private func command(_ request: VTd.IOTLBInvalidate) {
    let offset = extendedCapability.invalidationRegisterOffset + 8
    registers.write(request.rawValue, at: offset, byteCount: 8)
    let answer = VTd.IOTLBInvalidate(rawValue: registers.read(offset, byteCount: 8))
    precondition(!answer.isPending && answer.actual != .none, "the unit refused IOTLB_REG")
  }

  // MARK: Faults

  /// Takes the recorded faults out of the unit, in the order of its records.
  func takeFaults() -> [VTd.FaultRecord] {
    var faults: [VTd.FaultRecord] = []
    for index in 0..<capability.faultRecordCount {
      let offset = capability.faultRecordOffset + UInt64(index) * 16
      let record = VTd.FaultRecord(
        low: registers.read(offset, byteCount: 8), high: registers.read(offset + 8, byteCount: 8))
      guard record.isValid else { continue }
      faults.append(record)
      // Writing 1 to F gives the record back.
      registers.write(record.high >> 32, at: offset + 12, byteCount: 4)
    }
    let offset = VTd.RegisterOffset.faultStatus
    registers.write(registers.read(offset, byteCount: 4), at: offset, byteCount: 4)
    return faults
  }
}
