import IOMMUFormats
import IOMMUTranslation

/// Where devices' requests enter a remapping unit: one of its look-up engines, with caches of its
/// own.
///
/// A port serves any number of devices, and one thread at a time; a unit may have as many ports as
/// there are threads. Registers that software writes and invalidations that it queues reach the
/// port before its next translation.
public final class TranslationPort: @unchecked Sendable {
  // Sendable: handing a port to another thread is fine, using it from two at once is not.
  public let unit: RemappingUnit
  let memory: FlatMemory
  let mailbox: PortMailbox
  let caches: UnsafeMutablePointer<PortCaches>
  let engine: UnsafeMutablePointer<PortEngine>

  init(_ unit: RemappingUnit, mailbox: PortMailbox) {
    self.unit = unit
    self.mailbox = mailbox
    memory = unit.memory
    caches = .allocate(capacity: 1)
    caches.initialize(to: PortCaches(unit.configuration.caches))
    engine = .allocate(capacity: 1)
    engine.initialize(to: PortEngine(mailbox.state, caches: caches))
  }

  deinit {
    unit.remove(mailbox)
    engine.deinitialize(count: 1)
    engine.deallocate()
    caches.pointee.deallocate()
    caches.deallocate()
  }

  // MARK: Requests

  /// Translates an untranslated or a translated request up to the end of its page, and records the
  /// fault when there is one to record.
  ///
  /// - Parameter byteCount: At least 1.
  /// - Precondition: `request` is not a translation or page request; those have
  ///   ``completeTranslationRequest(_:)`` and ``submitPageRequest(_:)``.
  public func translate(_ request: VTdRequest, byteCount: UInt64 = 1) -> Translation {
    precondition(byteCount > 0, "a DMA request has at least one byte")
    synchroniseIfNeeded()
    if let answer = engine.pointee.cachedAnswer(request, byteCount: byteCount) { return answer }
    var observer = Unobserved()
    return translate(request, byteCount: byteCount, observer: &observer)
  }

  /// The same, with every entry read shown to `observer`.
  public func translate(
    _ request: VTdRequest, byteCount: UInt64 = 1, observer: inout some WalkObserver
  ) -> Translation {
    precondition(byteCount > 0, "a DMA request has at least one byte")
    precondition(
      request.kind == .untranslated || request.kind == .translated,
      "translation and page requests have calls of their own")
    synchroniseIfNeeded()
    let answer = engine.pointee.answer(
      request, byteCount: byteCount, in: memory, observer: &observer)
    if case .fault(let fault) = answer { report(fault, of: request) }
    return answer
  }

  /// Writes a fault down where software finds it.
  func report(_ fault: Fault, of request: VTdRequest) {
    guard case .vtd(let reason, isRecorded: true) = fault else { return }
    let record = engine.pointee.record(reason, of: request, limits: unit.limits)
    outsideTurn { unit.locked { unit.record(record) } }
  }

  // MARK: Transactions

  /// Runs one DMA transaction: a translation, and the access to memory that it allows.
  ///
  /// An invalidation that software waits for is not complete before the transactions that began
  /// before it are over: what a translation answered may be used until the next translation or the
  /// end of `body`, and memory is not touched through it afterwards.
  ///
  /// `body` must not call the unit's registers: they may wait for its end.
  public func transaction<Result>(_ body: () throws -> Result) rethrows -> Result {
    precondition(!mailbox.isInTurn, "a transaction does not begin inside another")
    mailbox.beginTurn()
    defer { mailbox.endTurn() }
    return try body()
  }

  /// Runs `body`, which takes the unit's lock, as if between two transactions.
  func outsideTurn(_ body: () -> Void) {
    let isInTurn = mailbox.isInTurn
    if isInTurn { mailbox.endTurn() }
    body()
    if isInTurn { mailbox.beginTurn() }
  }

  /// Takes what the unit has left: the registers as they are now, and what to forget.
  @inline(__always)
  func synchroniseIfNeeded() { if mailbox.hasMail { synchronise() } }

  @inline(never)
  private func synchronise() {
    while mailbox.hasMail {
      outsideTurn {
        let mail = unit.locked { mailbox.take() }
        for invalidation in mail.invalidations { caches.pointee.apply(invalidation) }
        engine.pointee.adopt(mail.state)
      }
    }
  }

  // MARK: Counters

  /// What the caches have done; to be read by the thread that uses the port.
  public var counters: PortCounters {
    PortCounters(
      contexts: caches.pointee.contexts.counters, pasids: caches.pointee.pasids.counters,
      iotlb: caches.pointee.iotlb.counters,
      pagingStructures: caches.pointee.structures.counters,
      entriesRead: caches.pointee.entriesRead)
  }
}

/// What the caches of a port have done since it was made.
public struct PortCounters: Hashable, Sendable {
  public var contexts: CacheCounters
  public var pasids: CacheCounters
  public var iotlb: CacheCounters
  public var pagingStructures: CacheCounters
  public var entriesRead: EntryCounters
}

extension RemappingUnit {
  /// A port for devices to send requests through. Any number of them; each has its own caches.
  public func makePort() -> TranslationPort {
    let mailbox = locked {
      let mailbox = PortMailbox(portState)
      mailboxes.append(mailbox)
      return mailbox
    }
    return TranslationPort(self, mailbox: mailbox)
  }

  func remove(_ mailbox: PortMailbox) {
    locked { mailboxes.removeAll { $0 === mailbox } }
  }
}
