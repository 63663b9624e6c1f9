import IOMMUFormats
import IOMMUTranslation

/// Where devices' requests enter a remapping unit: one of its look-up engines, with caches of its
/// own.
///
/// A port serves any number of devices, and one thread at a time; a unit may have as many ports as
/// there are threads. Registers that software writes and invalidations that it queues reach the
/// port before its next translation.
public final class TranslationPort: DMAPort {
  public let unit: RemappingUnit
  let memory: FlatMemory
  let mailbox: PortMailbox
  private let caches: Pinned<PortCaches>
  let engine: Pinned<PortEngine>
  /// What a block of a batch needs; made when there is one.
  private var block: BatchBlock?

  init(_ unit: RemappingUnit, mailbox: PortMailbox) {
    self.unit = unit
    self.mailbox = mailbox
    memory = unit.memory
    caches = Pinned(PortCaches(unit.configuration.caches))
    engine = Pinned(PortEngine(mailbox.state, caches: caches.reference))
  }

  deinit { unit.remove(mailbox) }

  // MARK: Requests

  /// Translates an untranslated or a translated request up to the end of its page, and records the
  /// fault when there is one to record.
  ///
  /// - Parameters:
  ///   - request: Who asks, for which address, to do what.
  ///   - byteCount: At least 1.
  /// - Precondition: `request` is not a translation or page request; those have
  ///   ``completeTranslationRequest(_:)`` and ``submitPageRequest(_:)``.
  public func translate(_ request: VTd.Request, byteCount: UInt64 = 1) -> Translation {
    precondition(byteCount > 0, "a DMA request has at least one byte")
    synchroniseIfNeeded()
    if let answer = engine.value.pages.answer(request, byteCount: byteCount) { return answer }
    var observer = Unobserved()
    return translate(request, byteCount: byteCount, observer: &observer)
  }

  /// The same, with every entry read shown to `observer`.
  public func translate(
    _ request: VTd.Request, byteCount: UInt64 = 1, observer: inout some WalkObserver
  ) -> Translation {
    precondition(byteCount > 0, "a DMA request has at least one byte")
    precondition(
      request.kind == .untranslated || request.kind == .translated,
      "translation and page requests have calls of their own")
    synchroniseIfNeeded()
    let answer = engine.value.answer(
      request, byteCount: byteCount, in: memory, observer: &observer)
    if case .fault(let fault) = answer { report(fault, of: request) }
    return answer
  }

  /// The same for a request of any device that the unit stands above.
  ///
  /// - Precondition: `memory` is the unit's.
  public func translate(_ request: DMARequest, in memory: FlatMemory) -> Translation? {
    precondition(memory === self.memory, "a unit and its devices have one memory")
    return translate(
      VTd.Request(
        request.requester, request.address, VTd.Request.Operation(request.access),
        pasid: request.pasid),
      byteCount: request.byteCount)
  }

  // MARK: Packed answers

  /// Translates the first byte of a plain DMA, without PASID; in a word what
  /// ``translate(_:byteCount:)`` says of it.
  @inline(__always)
  public func translate(
    _ iova: IOVA, _ access: Access, of requester: Requester
  ) -> PackedTranslation {
    // What is not answered here is left to others by a jump, so that a hit needs no frame.
    guard likely(!mailbox.hasMail), likely(engine.value.pages.isServingByFour(requester)) else {
      return settledAnswer(iova, access, of: requester)
    }
    let place = engine.value.pages.place(of: iova)
    guard let page = engine.value.pages.page(at: place) else {
      return likely(engine.value.pages.walksPlainly)
        ? missedAnswer(iova, access, of: requester, place)
        : otherAnswer(iova, access, of: requester, place)
    }
    guard likely(page.allows(access.permission)), likely(iova.rawValue &>> 57 == 0) else {
      return settledAnswer(iova, access, of: requester)
    }
    engine.value.pages.countHit()
    return page.translation(of: iova)
  }

  /// The same for a page that the IOTLB does not know.
  @inline(never)
  private func missedAnswer(
    _ iova: IOVA, _ access: Access, of requester: Requester, _ place: WordPlace
  ) -> PackedTranslation {
    let page = engine.value.pages.readPlain(iova, access, at: place)
    guard likely(page != .unknown) else {
      return rareAnswer(iova, access, of: requester, known: .unknown, isInBatch: false)
    }
    return page.translation(of: iova)
  }

  /// The same where the tables are of two stages, or a paging-structure cache is asked.
  @inline(never)
  private func otherAnswer(
    _ iova: IOVA, _ access: Access, of requester: Requester, _ place: WordPlace
  ) -> PackedTranslation {
    let page = engine.value.pages.readOther(iova, access, at: place)
    guard likely(page != .unknown) else {
      return rareAnswer(iova, access, of: requester, known: .unknown, isInBatch: false)
    }
    return page.translation(of: iova)
  }

  /// The same where there may be mail, for any device, and for an IOTLB of any shape.
  @inline(never)
  private func settledAnswer(
    _ iova: IOVA, _ access: Access, of requester: Requester
  ) -> PackedTranslation {
    synchroniseIfNeeded()
    return answerAlone(iova, access, of: requester, isInBatch: false)
  }

  /// The same without a look into the mailbox.
  ///
  /// - Parameter isInBatch: As for ``packedAnswer(_:_:of:isInBatch:)``.
  @inline(__always)
  private func answerAlone(
    _ iova: IOVA, _ access: Access, of requester: Requester, isInBatch: Bool
  ) -> PackedTranslation {
    guard likely(engine.value.pages.isServing(requester)) else {
      return packedAnswer(iova, access, of: requester, isInBatch: isInBatch)
    }
    let page = engine.value.pages.smallPage(iova)
    guard page.allows(access.permission) else {
      return rareAnswer(iova, access, of: requester, known: page, isInBatch: isInBatch)
    }
    engine.value.pages.countHit()
    return page.translation(of: iova)
  }

  /// The same for a page that the IOTLB does not answer by itself, of the device that is served: by its other
  /// pages, by tables, or by all steps.
  ///
  /// - Parameters:
  ///   - known: What the IOTLB has of the 4 KiB page.
  ///   - isInBatch: As for ``packedAnswer(_:_:of:isInBatch:)``.
  @inline(never)
  private func rareAnswer(
    _ iova: IOVA, _ access: Access, of requester: Requester, known: PackedPage, isInBatch: Bool
  ) -> PackedTranslation {
    let page = engine.value.pages.read(iova, access, known: known)
    return page == .unknown
      ? packedAnswer(iova, access, of: requester, isInBatch: isInBatch)
      : page.translation(ofAnySize: iova)
  }

  /// The same by all steps, without a look into the mailbox.
  ///
  /// - Parameter isInBatch: Inside a transaction a fault waits, since recording it would end the time
  ///   that answers of the batch hold for.
  @inline(never)
  private func packedAnswer(
    _ iova: IOVA, _ access: Access, of requester: Requester, isInBatch: Bool
  ) -> PackedTranslation {
    let request = VTd.Request(requester, iova, VTd.Request.Operation(access))
    var observer = Unobserved()
    let answer = engine.value.answer(request, byteCount: 1, in: memory, observer: &observer)
    if case .fault(let fault) = answer {
      if isInBatch, mailbox.isInTurn {
        if let record = record(of: fault, request) { engine.value.pendingFaults.append(record) }
      } else {
        report(fault, of: request)
      }
    }
    return PackedTranslation(answer)
  }

  /// Translates the first bytes of plain DMAs of one device, without PASID.
  ///
  /// At most 256 requests at a time are on their way together, as in a unit that goes on while
  /// misses wait for memory: all of them look into the IOTLB; then those that found nothing are
  /// answered in their order, by entries that have all been asked for at once. A page that comes in
  /// for one of them is a hit for the next that asked for it.
  ///
  /// Answers are those of single calls, faults are recorded in the same order, and each request
  /// counts as one hit or one miss. Which pages stay in a full IOTLB depends on the order, and may be
  /// others. Registers and invalidations reach the port before the first request, and not again until
  /// the call returns; in a transaction all answers hold until its end or the next translation. As
  /// with `Translator`, the upper levels of a 2 MiB region may be read once for all that
  /// a call asks of it.
  ///
  /// - Parameters:
  ///   - addresses: The first byte of each request.
  ///   - access: What all of them want.
  ///   - requester: The device that sends them.
  ///   - answers: As many as addresses.
  public func translate(
    _ addresses: Span<IOVA>, _ access: Access, of requester: Requester,
    into answers: inout MutableSpan<PackedTranslation>
  ) {
    precondition(addresses.count == answers.count, "a batch has one answer for each address")
    let block = self.block ?? BatchBlock()
    self.block = block
    block.begin(count: addresses.count)
    recordPendingFaults()
    synchroniseIfNeeded()
    // Safe: pointers into both spans are used inside the closures only, and each block is a part of
    // both, as many addresses as answers.
    unsafe addresses.withUnsafeBufferPointer { source in
      unsafe answers.withUnsafeMutableBufferPointer { target in
        var start = 0
        while start < source.count {
          let count = min(BatchBlock.capacity, source.count - start)
          unsafe translate(
            block, source.baseAddress.unsafelyUnwrapped + start, count: count, access,
            of: requester, into: target.baseAddress.unsafelyUnwrapped + start)
          start += count
        }
      }
    }
  }

  /// Translates a plain DMA of one device that goes over any number of pages, without PASID: as a disk
  /// controller sends them.
  ///
  /// Each page is a request of its own, as platforms split them, and answers are those of single calls.
  /// Registers and invalidations reach the port before the first page, as in a batch; the upper levels of
  /// a region of 2 MiB are read once for pages in a row that the IOTLB does not know.
  ///
  /// - Parameters:
  ///   - iova: The first byte.
  ///   - byteCount: At least 1; the last byte lies below 2^64.
  ///   - access: Whether the device reads or writes.
  ///   - requester: The device.
  ///   - answers: One for each page of 4 KiB that the bytes lie in: where the first byte goes, and the first
  ///     one of each further page.
  /// - Complexity: O(pages).
  public func translate(
    _ iova: IOVA, byteCount: UInt64, _ access: Access, of requester: Requester,
    into answers: inout MutableSpan<PackedTranslation>
  ) {
    precondition(
      byteCount > 0 && byteCount - 1 <= .max - iova.rawValue,
      "a DMA request has at least one byte, and ends below 2^64")
    let pageCount = Int((iova.rawValue + (byteCount - 1)) >> 12 - iova.rawValue >> 12) + 1
    precondition(answers.count == pageCount, "there is one answer for each page")
    recordPendingFaults()
    synchroniseIfNeeded()
    // Safe: pages have numbers below their count.
    unsafe answers.withUnsafeMutableBufferPointer { buffer in
      let target = unsafe buffer.baseAddress.unsafelyUnwrapped
      var done = 0
      if likely(engine.value.pages.isServing(requester)) {
        done = unsafe engine.value.pages.answerRow(
          iova.rawValue & ~0xfff, count: pageCount, access, into: target)
      }
      if !likely(done == pageCount) {
        unsafe answerRest(iova, from: done, count: pageCount, access, of: requester, into: target)
      }
      // A row answers for whole pages.
      if unsafe target[0].isMapped { unsafe target[0].rawValue |= iova.rawValue & 0xfff }
    }
  }

  /// Answers the pages of a request from one on that is none of a row.
  @inline(never)
  private func answerRest(
    _ iova: IOVA, from start: Int, count: Int, _ access: Access, of requester: Requester,
    into target: UnsafeMutablePointer<PackedTranslation>
  ) {
    var page = start
    // Safe: pages have numbers below their count.
    while page < count {
      let address = iova.rawValue & ~0xfff &+ UInt64(page) &<< 12
      unsafe target[page] = answerInBatch(
        page == 0 ? iova : IOVA(address), access, of: requester)
      page += 1
      guard page < count, engine.value.pages.isServing(requester) else { continue }
      page += unsafe engine.value.pages.answerRow(
        address &+ 0x1000, count: count - page, access, into: target + page)
    }
  }

  /// A request of a batch by itself.
  @inline(never)
  private func answerInBatch(
    _ iova: IOVA, _ access: Access, of requester: Requester
  ) -> PackedTranslation {
    answerAlone(iova, access, of: requester, isInBatch: true)
  }

  /// Translates a block.
  ///
  /// - Parameter answers: As many as addresses.
  private func translate(
    _ block: BatchBlock, _ addresses: UnsafePointer<IOVA>, count: Int, _ access: Access,
    of requester: Requester, into answers: UnsafeMutablePointer<PackedTranslation>
  ) {
    // Safe: every index is below `count`, and misses have numbers below it.
    func alone(_ index: Int) {
      unsafe answers[index] = answerInBatch(addresses[index], access, of: requester)
    }
    // The first request of a device finds its tables, too.
    let first = engine.value.pages.isServing(requester) ? 0 : 1
    if first == 1 { alone(0) }
    // Addresses that no table of any kind translates are not looked up together.
    var all: UInt64 = 0
    for index in 0..<count { all |= unsafe addresses[index].rawValue }
    guard engine.value.pages.isServing(requester), all >> 57 == 0 else {
      for index in first..<count { alone(index) }
      return
    }
    let missCount = unsafe engine.value.pages.lookUp(
      addresses + first, count: count - first, access, into: answers + first,
      misses: block.misses)
    guard missCount > 0 else { return }
    let (misses, missed) = unsafe (block.misses, block.addresses)
    for number in 0..<missCount {
      let index = unsafe misses[number] &+ first
      unsafe misses[number] = index
      unsafe missed[number] = addresses[index]
    }
    let areRead = engine.value.pages.read(block, count: missCount, access)
    var next = 0
    while next < missCount {
      if areRead, engine.value.pages.isServing(requester) {
        unsafe engine.value.pages.fill(block, next: &next, count: missCount, access, into: answers)
        if next == missCount { return }
      }
      unsafe alone(misses[next])
      next += 1
    }
  }

  // MARK: Faults

  /// Writes a fault down where software finds it.
  func report(_ fault: Fault, of request: VTd.Request) {
    guard let record = record(of: fault, request) else { return }
    recordPendingFaults()
    outsideTurn { unit.locked { unit.record(record) } }
  }

  private func record(of fault: Fault, _ request: VTd.Request) -> VTd.FaultRecord? {
    guard let reason = fault.vtdReason, fault.isRecorded else { return nil }
    return engine.value.state.record(reason, of: request)
  }

  /// Writes down what batches in a transaction have left.
  @inline(__always)
  private func recordPendingFaults() {
    if !likely(engine.value.pendingFaults.isEmpty) { recordAllFaults() }
  }

  @inline(never)
  private func recordAllFaults() {
    let records = engine.value.pendingFaults
    engine.value.pendingFaults = []
    outsideTurn { unit.locked { for record in records { unit.record(record) } } }
  }

  // MARK: Transactions

  /// Runs one DMA transaction: a translation, and the access to memory that it allows.
  ///
  /// An invalidation that software waits for is not complete before the transactions that began
  /// before it are over: what a translation answered may be used until the next translation or the
  /// end of `body`, and memory is not touched through it afterwards.
  ///
  /// `body` must not call the unit's registers: they may wait for its end. Faults of batches are
  /// recorded when `body` is over, or sooner.
  public func transaction<Result>(_ body: () throws -> Result) rethrows -> Result {
    precondition(!mailbox.isInTurn, "a transaction does not begin inside another")
    mailbox.beginTurn()
    defer {
      mailbox.endTurn()
      recordPendingFaults()
    }
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
        for invalidation in mail.invalidations { caches.value.apply(invalidation) }
        engine.value.adopt(mail.state)
      }
    }
  }

  // MARK: Counters

  /// What the caches have done; to be read by the thread that uses the port.
  public var counters: PortCounters {
    engine.value.pages.settleCounters()
    return PortCounters(
      contexts: caches.value.contexts.counters, pasids: caches.value.pasids.counters,
      iotlb: caches.value.iotlb.counters,
      pagingStructures: caches.value.structures.counters,
      entriesRead: caches.value.entriesRead)
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
  ///
  /// Whoever gets it may hand it to another thread, and has it no longer then.
  public func makePort() -> sending TranslationPort {
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
