import IOMMUFormats
import IOMMUHardware

/// Software that makes a unit forget translations of domain 1, by registers or by a queue, and waits
/// until it is done.
final class InvalidationRequests {
  private let unit: RemappingUnit
  private var tail = 0
  private var sequence: UInt32 = 0

  /// Below 1 MiB, where workloads have no tables.
  private static let queue = PhysicalAddress(0x1000)
  private static let status = PhysicalAddress(0x2000)
  /// Of the page that the queue is.
  private static let descriptorCount = 256
  private static let domainID: UInt16 = 1

  init(_ unit: RemappingUnit) { self.unit = unit }

  /// From now on invalidations are queued.
  func enableQueue() {
    unit.write(
      VTd.QueueAddress(queue: Self.queue).rawValue, at: VTd.RegisterOffset.queueAddress,
      byteCount: 8)
    let status = VTd.GlobalStatus(
      rawValue: UInt32(unit.read(VTd.RegisterOffset.globalStatus, byteCount: 4)))
    var command = VTd.GlobalCommand(keeping: status)
    command.enablesQueuedInvalidation = true
    unit.write(UInt64(command.rawValue), at: VTd.RegisterOffset.globalCommand, byteCount: 4)
  }

  /// Writes IVA_REG where pages are named, and IOTLB_REG, and reads it once.
  func byRegister(_ granularity: VTd.Granularity, page: IOVA = IOVA(0)) {
    let offset = unit.configuration.extendedCapability.invalidationRegisterOffset
    if granularity == .selective {
      unit.write(
        VTd.InvalidateAddress(address: page, addressMask: 0).rawValue, at: offset, byteCount: 8)
    }
    unit.write(
      VTd.IOTLBInvalidate(granularity, domainID: Self.domainID).rawValue, at: offset + 8,
      byteCount: 8)
    let answer = VTd.IOTLBInvalidate(rawValue: unit.read(offset + 8, byteCount: 8))
    precondition(!answer.isPending && answer.actual != .none, "the unit refused IOTLB_REG")
  }

  /// Queues the invalidation and a descriptor that tells when it is done.
  func byQueue(_ granularity: VTd.Granularity, page: IOVA = IOVA(0)) {
    sequence &+= 1
    let place = PhysicalAddress(Self.queue.rawValue + UInt64(tail) * 16)
    VTd.IOTLBDescriptor(granularity, domainID: Self.domainID, address: page)
      .store(to: unit.memory, at: place)
    VTd.WaitDescriptor(status: (Self.status, sequence))
      .store(to: unit.memory, at: PhysicalAddress(place.rawValue + 16))
    tail = (tail + 2) % Self.descriptorCount
    unit.write(
      VTd.QueueTail(index: tail, isWide: false).rawValue, at: VTd.RegisterOffset.queueTail,
      byteCount: 8)
    precondition(
      unit.memory.doubleword(at: Self.status) == sequence, "the unit stopped in its queue")
  }
}
