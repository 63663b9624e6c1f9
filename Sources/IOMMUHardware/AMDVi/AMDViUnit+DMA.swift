import IOMMUFormats
import IOMMUTranslation

extension AMDViUnit: DMAPort {
  /// Translates an untranslated request up to the end of its page; logs the event when there is one, and
  /// aborts what is stopped.
  ///
  /// - Parameters:
  ///   - request: Who asks, for which address, to do what.
  ///   - byteCount: At least 1.
  /// - Precondition: `request` is no translation request; those have
  ///   ``completeTranslationRequest(_:)``.
  public func translate(_ request: AMDVi.Request, byteCount: UInt64 = 1) -> AMDVi.Answer {
    precondition(byteCount > 0, "a DMA request has at least one byte")
    precondition(!request.isTranslation, "translation requests have a call of their own")
    return locked {
      let answer = answer(request, byteCount: byteCount)
      if case .fault(let fault) = answer { stop(request, fault) }
      return answer
    }
  }

  /// The same for a request of any device; `nil` when the unit does not stand above it.
  ///
  /// - Precondition: `memory` is the unit's.
  public func translate(_ request: DMARequest, in memory: FlatMemory) -> Translation? {
    precondition(memory === self.memory, "a unit and its devices have one memory")
    var device = request.requester
    if let scope = configuration.scope {
      guard scope.answer(for: device) == .inside else { return nil }
      device = scope.source(of: device)
    }
    return translate(
      AMDVi.Request(
        device, request.address, VTd.Request.Operation(request.access), pasid: request.pasid),
      byteCount: request.byteCount
    ).translation
  }

  /// A request is stopped: reads get no data, writes are dropped.
  private func stop(_ request: AMDVi.Request, _ fault: AMDVi.RequestFault) {
    signalTargetAbort()
    log(fault, fault.event(for: request), of: request.requester)
  }

  // MARK: Steps

  /// A device's entry, from the cache or the table. Entries are kept whatever they say.
  func deviceEntry(
    of device: Requester
  ) -> Result<AMDVi.DeviceTableEntry, AMDVi.RequestFault> {
    let tag = AMDViCaches.tag(device)
    if let entry = caches.deviceEntries.find(tag) { return .success(entry) }
    var observer = Unobserved()
    let found = resolver.deviceTableEntry(of: device, in: memory, observer: &observer)
    if case .success(let entry) = found { caches.deviceEntries.insert(entry, under: tag) }
    return found
  }

  /// What the device table, and of guest tables the GCR3 table, makes of requests.
  private func binding(
    of request: AMDVi.Request, entry: AMDVi.DeviceTableEntry
  ) -> AMDVi.Binding {
    let tag = AMDViCaches.tag(request)
    let readsGuestRoot = entry.isValid && entry.usesGuestTables
    if readsGuestRoot, let kept = caches.guestRoots.find(tag) { return kept.binding }
    var observer = Unobserved()
    let binding = resolver.binding(
      of: request.pasid, isSupervisor: request.isSupervisor, entry: entry, in: memory,
      observer: &observer)
    let isNested: Bool
    switch binding {
    case .guest: isNested = false
    case .nested: isNested = true
    case .untranslated, .stopped, .host: return binding
    }
    caches.guestRoots.insert(
      AMDViCaches.GuestRoot(
        binding: binding,
        space: AMDViSpace(domainID: entry.domainID, pasid: request.pasid ?? PASID(0)),
        device: request.requester, isNested: isNested), under: tag)
    return binding
  }

  /// Answers a request; what is learnt on the way goes into the caches. Logs nothing.
  func answer(_ request: AMDVi.Request, byteCount: UInt64) -> AMDVi.Answer {
    guard control.isEnabled else {
      return .mapped(PhysicalAddress(request.address), byteCount: byteCount)
    }
    switch deviceEntry(of: request.requester) {
    case .failure(let fault): return .fault(fault)
    case .success(let entry):
      let binding = binding(of: request, entry: entry)
      guard let tables = CachedTables(binding, request) else {
        var observer = Unobserved()
        return binding.answer(
          to: request.address, byteCount: byteCount, for: request.operation,
          isExecute: request.isExecute, in: memory, marker: AtomicMarks(in: memory),
          observer: &observer)
      }
      if let answer = tables.rules.answer(
        to: request.address, byteCount: byteCount, for: request.operation)
      {
        return answer
      }
      switch outcome(of: request, in: tables) {
      case .fault(let fault): return .fault(fault)
      case .page(let page):
        return page.answer(
          to: request.address, byteCount: byteCount, for: request.operation,
          isExecute: request.isExecute, under: tables.rules)
      }
    }
  }

  /// Page tables that caches know something of.
  private struct CachedTables {
    var tables: AMDVi.Binding
    var rules: AMDVi.Rules
    var space: AMDViSpace
    var isNested = false
    /// The address is one that the tables have; the others are not looked for in caches.
    var reaches: Bool
    /// Bits of an address that the tables look at: for PASID 0 those above the width do not count.
    var comparedBits = ~0 as UInt64
    /// The request's address, of those bits.
    var address: UInt64 { requestAddress & comparedBits }
    private let requestAddress: UInt64

    /// `nil` where there is no table to walk.
    init?(_ binding: AMDVi.Binding, _ request: AMDVi.Request) {
      tables = binding
      requestAddress = request.address
      let pasid = request.pasid ?? PASID(0)
      func width(of guest: AMDVi.GuestTable) -> UInt64 {
        guest.checksCanonical ? ~0 : 1 << UInt64(guest.format.addressWidth) - 1
      }
      switch binding {
      case .untranslated, .stopped: return nil
      case .host(let table):
        guard table.stop == nil, !table.isDirect else { return nil }
        rules = table.rules
        space = AMDViSpace(domainID: rules.domainID, pasid: nil)
        reaches = table.reaches(request.address)
      case .guest(let table):
        rules = table.rules
        space = AMDViSpace(domainID: rules.domainID, pasid: pasid)
        reaches = !table.checksCanonical || table.isCanonical(request.address)
        comparedBits = width(of: table)
      case .nested(let nested):
        rules = nested.rules
        space = AMDViSpace(domainID: rules.domainID, pasid: pasid)
        isNested = true
        reaches = !nested.guest.checksCanonical || nested.guest.isCanonical(request.address)
        comparedBits = width(of: nested.guest)
      }
    }
  }

  /// The page of a request, from the cache or from the tables.
  private func outcome(
    of request: AMDVi.Request, in tables: CachedTables
  ) -> AMDVi.PageOutcome {
    let writes = request.operation.needs.contains(.write)
    if tables.reaches, let kept = caches.page(of: tables.address, in: tables.space) {
      guard let page = kept.page else {
        return .fault(absence(of: kept, tables.rules))
      }
      // A cached page never denies: what it does not allow is asked of the tables once more.
      if !writes || page.isDirty,
        page.refusal(of: request.operation, isExecute: request.isExecute, under: tables.rules)
          == nil
      {
        return .page(page)
      }
    }
    let outcome = walk(request, in: tables, needs: request.operation.needs, writes: writes)
    switch outcome {
    case .page(let page):
      keep(page, tables)
    case .fault(let fault)
    where configuration.capability.cachesNotPresent
      && [.entryNotPresent, .guestEntryNotPresent].contains(fault.reason)
      && fault.address == nil:
      keep(nil, tables)
    case .fault: break
    }
    return outcome
  }

  private func keep(_ page: AMDVi.TablePage?, _ tables: CachedTables) {
    caches.keep(
      page, of: tables.address, comparedBits: tables.comparedBits, in: tables.space,
      isNested: tables.isNested)
  }

  /// The fault of a page that is known not to be there: NpCache.
  private func absence(
    of page: AMDViCaches.Page, _ rules: AMDVi.Rules
  ) -> AMDVi.RequestFault {
    AMDVi.RequestFault(
      page.space.pasid == nil ? .entryNotPresent : .guestEntryNotPresent,
      domainID: rules.domainID, isReported: rules.isReported,
      isReportedOnce: rules.isReportedOnce)
  }

  /// Walks from the lowest table that is known, and keeps those on the way.
  ///
  /// - Parameter needs: What is judged on the way; nothing for a look that judges nothing.
  private func walk(
    _ request: AMDVi.Request, in tables: CachedTables, needs: Permissions, writes: Bool
  ) -> AMDVi.PageOutcome {
    let marker = AtomicMarks(in: memory)
    let (address, space) = (request.address, tables.space)
    let key = tables.address
    let outcome: AMDVi.PageOutcome
    var root = PhysicalAddress(0)
    var seen: AMDViWalkObserver
    switch tables.tables {
    case .untranslated, .stopped: preconditionFailure("there is no table to walk")
    case .host(let table):
      root = table.root
      seen = AMDViWalkObserver(keepsGuest: false)
      outcome = table.page(
        of: address, needs: needs, writes: writes, in: memory, marker: marker, observer: &seen
      ) { caches.start(for: key, in: $0, space, needs: needs) }
    case .guest(let table):
      root = table.root
      seen = AMDViWalkObserver(keepsGuest: true)
      outcome = table.page(
        of: address, writes: writes, in: memory, marker: marker, observer: &seen
      ) { caches.start(for: key, in: $0, space, needs: []) }
    case .nested(let nested):
      root = nested.root
      seen = AMDViWalkObserver(keepsGuest: true)
      outcome = nested.page(
        of: address, for: needs.isEmpty ? nil : request.operation, isExecute: request.isExecute,
        in: memory, marker: marker, observer: &seen
      ) { caches.start(for: key, in: $0, space, needs: []) }
    }
    for (start, address) in seen.starts {
      caches.keep(
        start, for: address & tables.comparedBits, comparedBits: tables.comparedBits, in: root,
        space)
    }
    return outcome
  }

  // MARK: Devices with a TLB of their own

  /// The answer to a translation request (PCIe ATS).
  public enum TranslationCompletion: Hashable, Sendable {
    /// What the device may remember, up to its next invalidation; with no permission, that it may do
    /// nothing there.
    case success(DeviceTranslation)
    /// The request is aborted.
    case aborted(AMDVi.RequestFault?)
  }

  /// Answers a translation request of a device with a TLB of its own.
  ///
  /// The page is asked of the tables, not of the cache of translations. What stops an
  /// untranslated request with a page fault is here an answer without permission, and no event.
  /// A request to write is one without the NW flag. *Assumed*: a device whose entry has V clear gets
  /// every address as its own.
  public func completeTranslationRequest(_ request: AMDVi.Request) -> TranslationCompletion {
    var request = request
    request.isTranslation = true
    return locked {
      guard control.isEnabled else { return .aborted(nil) }
      func aborted(_ fault: AMDVi.RequestFault) -> TranslationCompletion {
        signalTargetAbort()
        log(fault, fault.event(for: request), of: request.requester)
        return .aborted(fault)
      }
      func refused(_ type: UInt64) -> TranslationCompletion {
        refuse(request, type: type)
        return .aborted(nil)
      }
      let entry: AMDVi.DeviceTableEntry
      switch deviceEntry(of: request.requester) {
      case .success(let found): entry = found
      case .failure(let fault):
        return fault.reason == .deviceBeyondTable ? refused(2) : aborted(fault)
      }
      let page = request.address & ~0xfff
      guard entry.isValid else {
        return .success(
          DeviceTranslation(
            page: PhysicalAddress(page), sizeLog2: 12, permissions: .readWrite))
      }
      let binding = binding(of: request, entry: entry)
      if case .stopped(let fault) = binding, !fault.reason.isQualified { return aborted(fault) }
      guard configuration.capability.hasIOTLB, entry.allowsDeviceTLB else { return refused(1) }
      guard request.pasid != nil || !AMDVi.isInterruptAddress(request.address) else {
        return refused(0)
      }
      let nothing = TranslationCompletion.success(
        DeviceTranslation(page: PhysicalAddress(page), sizeLog2: 12, permissions: []))
      switch binding {
      case .untranslated, .stopped: return nothing
      case .host(let table) where table.rules.exclusion.contains(request.address):
        return .success(
          DeviceTranslation(page: PhysicalAddress(page), sizeLog2: 12, permissions: .readWrite))
      case .host(let table):
        if let fault = table.stop {
          return fault.reason.isQualified || fault.reason.eventCode == nil
            ? nothing : aborted(fault)
        }
        guard !table.isDirect else {
          return .success(
            DeviceTranslation(
              page: PhysicalAddress(page), sizeLog2: 12, permissions: table.rules.permissions))
        }
      case .guest, .nested: break
      }
      guard let tables = CachedTables(binding, request) else { return nothing }
      let writes = request.operation.needs.contains(.write)
      switch walk(request, in: tables, needs: [], writes: writes) {
      case .fault(let fault): return fault.reason.isQualified ? nothing : aborted(fault)
      case .page(let found):
        return .success(translation(of: request, found, tables.rules, writes: writes))
      }
    }
  }

  private func translation(
    of request: AMDVi.Request, _ found: AMDVi.TablePage, _ rules: AMDVi.Rules, writes: Bool
  ) -> DeviceTranslation {
    var permissions = rules.permissions.intersection(found.host).intersection(found.guest)
    if !found.guest.contains(.user), !rules.isSupervisor { permissions = [] }
    // Without a mark for the write that no later request tells of, there is none.
    if !writes, !found.isDirty { permissions.remove(.write) }
    return DeviceTranslation(
      page: found.page, sizeLog2: found.sizeLog2,
      permissions: permissions.intersection(.readWrite),
      isUntranslatedOnly: found.isUntranslatedOnly)
  }

  /// A request to an address that the device has had translated.
  ///
  /// - Returns: Whether it passes; a device that may not send it sees a target abort.
  public func passTranslated(_ request: AMDVi.Request) -> Bool {
    locked {
      guard control.isEnabled else { return true }
      switch deviceEntry(of: request.requester) {
      case .failure(let fault):
        stop(request, fault)
        return false
      case .success(let entry):
        guard entry.isValid else { return true }
        if case .stopped(let fault) = binding(of: request, entry: entry),
          !fault.reason.isQualified
        {
          stop(request, fault)
          return false
        }
        guard configuration.capability.hasIOTLB, entry.allowsDeviceTLB else {
          refuse(request, type: 1)
          return false
        }
        return true
      }
    }
  }

  /// INVALID_DEVICE_REQUEST: a request of a kind that the device may not send.
  private func refuse(_ request: AMDVi.Request, type: UInt64) {
    signalTargetAbort()
    let flags = type << 9 | (request.isTranslation ? 0x100 : 0) | (request.pasid == nil ? 0 : 1)
    log(
      AMDVi.Event(
        .invalidDeviceRequest, device: request.requester,
        domain: UInt64(request.pasid?.rawValue ?? 0), flags: flags, address: request.address))
  }
}
