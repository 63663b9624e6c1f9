import IOMMUFormats
import IOMMUTranslation

extension AMDViUnit {
  /// A ring that the unit writes and software reads.
  private struct Ring {
    var base: PhysicalAddress
    var byteCount: UInt64
    var entryByteCount: UInt64
    var head: UInt64
    var tail: UInt64

    /// One place stays free: head and tail are equal in an empty ring.
    var isFull: Bool { next == head }
    var next: UInt64 { (tail + entryByteCount) & (byteCount - 1) }
    var place: PhysicalAddress { PhysicalAddress(base.rawValue + tail) }
    /// Entries that software has not read.
    var count: UInt64 { ((tail &- head) & (byteCount - 1)) / entryByteCount }
  }

  /// The ring as its registers stand; of head and tail only the bits inside it count (*assumed*).
  private func ring<Base: AMDViRingBase>(
    _: Base.Type, at base: UInt64, head: UInt64, tail: UInt64
  ) -> Ring? {
    let register = page[Base.self, base]
    guard let byteCount = register.byteCount else { return nil }
    func pointer(_ place: UInt64) -> UInt64 {
      page[AMDVi.RingPointer.self, place].rawValue & (byteCount - 1) & ~(Base.entryByteCount - 1)
    }
    return Ring(
      base: register.address, byteCount: byteCount, entryByteCount: Base.entryByteCount,
      head: pointer(head), tail: pointer(tail))
  }

  /// Stores an entry at the tail; where no memory answers it is lost, and the tail goes on all the same
  /// (*assumed*).
  private func append(_ quadwords: [UInt64], to ring: Ring, tail: UInt64) {
    if memory.isBacked(ring.place, byteCount: ring.entryByteCount) {
      // The code, in the first quadword, last: software waits for it.
      for (index, quadword) in quadwords.enumerated().reversed() {
        memory.store(quadword, at: PhysicalAddress(ring.place.rawValue + UInt64(index) * 8))
      }
    }
    page[AMDVi.RingPointer.self, tail] = AMDVi.RingPointer(rawValue: ring.next)
  }

  // MARK: Events

  /// Writes an event down, as far as there is room. Specification: AMD IOMMU 2.5.
  func log(_ event: AMDVi.Event) {
    typealias Offset = AMDVi.RegisterOffset
    latch(event)
    guard status.logsEvents,
      let ring = ring(
        AMDVi.EventLogBase.self, at: Offset.eventLogBase, head: Offset.eventHead,
        tail: Offset.eventTail)
    else { return }
    if ring.isFull {
      status.hasEventOverflow = true
      status.logsEvents = false
    } else {
      append([event.low, event.high], to: ring, tail: Offset.eventTail)
      status.hasEvent = true
    }
    if control.interruptsOnEvents { raise(.general) }
  }

  /// Hardware errors are in registers as well, the first until software has seen it.
  private func latch(_ event: AMDVi.Event) {
    typealias Offset = AMDVi.RegisterOffset
    let codes: [AMDVi.EventCode] = [
      .deviceTableHardwareError, .pageTableHardwareError, .commandHardwareError,
    ]
    guard configuration.features.hasHardwareErrorRegisters, codes.contains(event.code) else {
      return
    }
    guard !page[AMDVi.HardwareEventStatus.self, Offset.hardwareEventStatus].isValid else {
      page[AMDVi.HardwareEventStatus.self, Offset.hardwareEventStatus].hasOverflow = true
      return
    }
    page[AMDVi.HardwareEventHigh.self, Offset.hardwareEventHigh].rawValue = event.low
    page[AMDVi.HardwareEventLow.self, Offset.hardwareEventLow].rawValue = event.high
    page[AMDVi.HardwareEventStatus.self, Offset.hardwareEventStatus].isValid = true
  }

  /// Writes a fault down unless the device table entry says that it is not wanted.
  func log(_ fault: AMDVi.RequestFault, _ event: AMDVi.Event?, of device: Requester) {
    guard fault.isRecorded, let event else { return }
    if fault.reason.isQualified, fault.isReportedOnce {
      guard reportedDevices.insert(device.rawValue).inserted else { return }
    }
    log(event)
  }

  // MARK: Page requests

  /// A device asks software to make a page present. Specification: AMD IOMMU 2.6.
  ///
  /// - Returns: `nil` when software will answer, by a command; otherwise the answer that the device gets
  ///   at once, or that it gets none.
  public func submit(_ entry: AMDVi.PageRequestEntry) -> PageRequestOutcome {
    locked {
      func answered(_ code: UInt8) -> PageRequestOutcome {
        guard entry.isLast else { return .dropped(nil) }
        return .dropped(AMDViPageResponse(pasid: entry.pasid, tag: entry.tag, code: code))
      }
      // A unit that takes none answers Invalid Request (*assumed*).
      guard control.isEnabled, control.takesPageRequests else { return answered(1) }
      switch deviceEntry(of: entry.device) {
      case .failure(let fault):
        let request = AMDVi.Request(
          entry.device, entry.address, entry.writes ? .write : .read, pasid: entry.pasid)
        log(fault, fault.event(for: request), of: entry.device)
        return answered(15)
      case .success(let found):
        guard found.isValid, found.allowsPageRequests else {
          // The same but for the code: 9.
          let low = entry.low & ~(0xf << 60) | 9 << 60
          log(AMDVi.Event(low: low, high: entry.address.rawValue))
          return answered(1)
        }
      }
      return enqueue(entry) ? .queued : answeredWithoutRoom(entry)
    }
  }

  /// What became of a page request.
  public enum PageRequestOutcome: Hashable, Sendable {
    /// It is in software's log; an answer comes from ``AMDViDeviceTLB/receive(_:)``.
    case queued
    /// It was dropped; the response goes to the device at once, where there is one.
    case dropped(AMDViPageResponse?)
  }

  /// Writes a page request to the log; `false` when there is no room, or the log does not run.
  private func enqueue(_ entry: AMDVi.PageRequestEntry) -> Bool {
    typealias Offset = AMDVi.RegisterOffset
    guard status.logsPageRequests,
      let ring = ring(
        AMDVi.PageRequestLogBase.self, at: Offset.pageRequestLogBase, head: Offset.pageRequestHead,
        tail: Offset.pageRequestTail)
    else { return false }
    defer { if control.interruptsOnPageRequests { raise(.pageRequest) } }
    guard !ring.isFull else {
      status.hasPageRequestOverflow = true
      status.logsPageRequests = false
      return false
    }
    append([entry.low, entry.high], to: ring, tail: Offset.pageRequestTail)
    status.hasPageRequest = true
    warnOfOverflow(count: ring.count + 1)
    return true
  }

  private func warnOfOverflow(count: UInt64) {
    guard configuration.features.hasEarlyPageRequestOverflow else { return }
    let early =
      page[AMDVi.PageRequestEarlyOverflow.self, AMDVi.RegisterOffset.pageRequestEarlyOverflow]
    guard early.isEnabled, count >= UInt64(early.threshold),
      !status.hasEarlyPageRequestOverflow
    else { return }
    status.hasEarlyPageRequestOverflow = true
    if early.interrupts { raise(.pageRequest) }
  }

  /// The unit's own answer where it gives one; else the device waits in vain.
  private func answeredWithoutRoom(_ entry: AMDVi.PageRequestEntry) -> PageRequestOutcome {
    guard control.answersPageRequests, entry.isLast else { return .dropped(nil) }
    let code = page[AMDVi.PageRequestAnswer.self, AMDVi.RegisterOffset.pageRequestAnswer].code
    return .dropped(AMDViPageResponse(pasid: entry.pasid, tag: entry.tag, code: code))
  }

  // MARK: Guests' interrupts

  /// Writes an interrupt of a guest that does not run to the log. Specification: AMD IOMMU 2.7.
  func log(_ entry: AMDVi.GuestInterruptLogEntry) {
    typealias Offset = AMDVi.RegisterOffset
    guard status.logsGuestInterrupts,
      let ring = ring(
        AMDVi.GuestLogBase.self, at: Offset.guestLogBase, head: Offset.guestHead,
        tail: Offset.guestTail)
    else { return }
    if ring.isFull {
      status.hasGuestOverflow = true
      status.logsGuestInterrupts = false
    } else {
      append([entry.rawValue], to: ring, tail: Offset.guestTail)
      // Software may read the tail in memory; the address 0 is none (*assumed*).
      let place = page[AMDVi.GuestLogTailAddress.self, Offset.guestLogTailAddress].address
      if place.rawValue != 0, memory.isBacked(place, byteCount: 8) {
        memory.store(ring.next, at: place)
      }
      status.hasGuestInterrupt = true
    }
    if control.interruptsOnGuestInterrupts { raise(.guest) }
  }
}
