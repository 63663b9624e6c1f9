import IOMMUFormats
import IOMMUTranslation

/// Answers requests from a port's caches and, where those do not know, from the tables.
struct PortEngine {
  private var state: PortState
  /// DMA remapping is on.
  private var isTranslating = false
  private let caches: UnsafeMutablePointer<PortCaches>
  /// The address space of the last request, while both caches that it comes from still have it;
  /// its key is 0 when there is none. Rules and IOTLB key are those of `last`, where a hit needs
  /// nothing else.
  private var last: Binding?
  private var lastKey: UInt64 = 0
  private var lastRules = VTd.Rules()
  private var lastNumber: UInt64 = 0
  /// Of the last request's address space, like `lastKey`, where a page's packed word in the IOTLB
  /// answers a plain DMA; else 0.
  private var packedKey: UInt64 = 0
  /// Answers by packed words that are in no counter yet.
  private var packedHits: UInt64 = 0
  /// Pages that went from `pages` into the IOTLB and are in no counter yet.
  private var packedFills: UInt64 = 0
  /// Looks up pages in the last tables that a batch went through.
  private var pages: (table: VTd.SecondStageTable, translator: Translator<FlatMemory>)?

  /// What stands between a requester and memory, found by the steps above the page tables.
  ///
  /// A reference: a route is too large to be handed from step to step.
  final class Binding {
    let route: DeviceHandle.Route
    let rules: VTd.Rules
    let space: AddressSpace
    /// Of the space in the IOTLB.
    let number: UInt64

    init(route: DeviceHandle.Route, space: AddressSpace, number: UInt64) {
      self.route = route
      rules = route.rules ?? VTd.Rules()
      self.space = space
      self.number = number
    }
  }

  init(_ state: PortState, caches: UnsafeMutablePointer<PortCaches>) {
    self.state = state
    self.caches = caches
    isTranslating = state.resolver.unit.translates
  }

  mutating func adopt(_ state: PortState) {
    self.state = state
    isTranslating = state.resolver.unit.translates
    forgetLast()
    pages = nil
  }

  // MARK: Hits

  /// What tells one address space from another in a request, never zero; `nil` when the request is
  /// not a plain one.
  @inline(__always)
  private static func key(_ request: VTd.Request) -> UInt64? {
    guard case .untranslated = request.kind else { return nil }
    var key = UInt64(request.requester.rawValue) | 1 << 63
    if let pasid = request.pasid {
      key |= UInt64(pasid.rawValue) << 16 | 1 << 36
      if request.isPrivileged { key |= 1 << 37 }
      if request.isExecute { key |= 1 << 38 }
    }
    return key
  }

  /// The answer to a request that the caches know, of a device that was the last to ask.
  ///
  /// `nil` for anything else: for misses, large pages and faults, and while memory is protected.
  @inline(__always)
  mutating func cachedAnswer(_ request: VTd.Request, byteCount: UInt64) -> Translation? {
    guard let key = Self.key(request), key == lastKey, state.protectedRegions.isEmpty,
      !VTd.isInterruptAddress(request.address)
    else { return nil }
    let page = caches.pointee.iotlb.packedPage(lastNumber, request.address)
    guard page.allows(request.operation.needs) else { return nil }
    packedHits &+= 1
    return .mapped(
      page.translation(of: IOVA(request.address)).physical!,
      byteCount: min(byteCount, 0x1000 - request.address & 0xfff))
  }

  @inline(__always)
  private func countBindingHits(_ rules: VTd.Rules, _ count: UInt64) {
    caches.pointee.contexts.count(hit: true, times: count)
    if rules.isScalable { caches.pointee.pasids.count(hit: true, times: count) }
  }

  // MARK: Packed answers

  private static func key(of requester: Requester) -> UInt64 {
    UInt64(requester.rawValue) | 1 << 63
  }

  /// The answer to a plain DMA that the IOTLB knows, of a device that was the last to ask; `nil` for
  /// anything else.
  @inline(__always)
  mutating func packedAnswer(
    _ iova: IOVA, _ access: Access, of requester: Requester
  ) -> PackedTranslation? {
    // Interrupt addresses have no page in the IOTLB without a PASID.
    guard packedKey == Self.key(of: requester) else { return nil }
    let page = caches.pointee.iotlb.packedPage(lastNumber, iova.rawValue)
    guard page.allows(access.permission) else { return nil }
    packedHits &+= 1
    return page.translation(of: iova)
  }

  /// Puts the answers by packed words among the others.
  mutating func settleCounters() {
    countBindingHits(lastRules, packedHits &+ packedFills)
    caches.pointee.iotlb.count(hit: true, times: packedHits)
    caches.pointee.iotlb.count(hit: false, times: packedFills)
    caches.pointee.structures.count(hit: false, times: packedFills)
    if packedFills > 0, let pages {
      for level in 1...pages.table.format.levels {
        caches.pointee.entriesRead.count(
          .level(level), isFirstStage: false, times: packedFills)
      }
    }
    packedHits = 0
    packedFills = 0
  }

  /// Whether packed words answer requests of a device now.
  @inline(__always)
  func hasPackedAnswers(of requester: Requester) -> Bool { packedKey == Self.key(of: requester) }

  /// Looks up where the requests of a block go, all at once, in the IOTLB as it is.
  ///
  /// - Parameters:
  ///   - answers: Those that the IOTLB knows; the others are left without a meaning.
  ///   - misses: The numbers of those others, in order.
  /// - Returns: How many those are.
  /// - Precondition: Packed words answer requests of the device.
  @inline(never)
  mutating func lookUp(
    _ addresses: UnsafePointer<IOVA>, count: Int, _ access: Access,
    into answers: UnsafeMutablePointer<PackedTranslation>, misses: UnsafeMutablePointer<Int>
  ) -> Int {
    let missCount = caches.pointee.iotlb.lookUp(
      addresses, count: count, lastNumber, access.permission, into: answers, misses: misses)
    packedHits &+= UInt64(count &- missCount)
    return missCount
  }

  /// The pages of a block's misses, all read at once; `false` when their tables have no such way, or
  /// a paging-structure cache has to be asked one by one.
  mutating func readPages(
    _ block: BatchBlock, count: Int, _ access: Access, in memory: FlatMemory
  ) -> Bool {
    guard caches.pointee.hasPlainWalks, lastNumber != .max,
      case .table(.secondStage(let table))? = last?.route
    else { return false }
    if pages.map({ $0.table.isSame(as: table) }) != true {
      settleCounters()
      block.forgetRegions()
      let handle = DeviceHandle(
        requester: Requester(rawValue: 0), route: .table(.secondStage(table)))
      pages = (table, Translator(handle, in: memory))
    }
    let addresses = UnsafeBufferPointer(start: block.addresses, count: count)
    let found = UnsafeMutableBufferPointer(start: block.pages, count: count)
    if let regions = block.regions {
      var store = regions.regions(for: access, keepingLowBits: true)
      pages!.translator.pages(of: addresses, for: access, into: found, remembering: &store)
    } else {
      var none = NoRegions()
      pages!.translator.pages(of: addresses, for: access, into: found, remembering: &none)
    }
    return true
  }

  /// Answers misses of a block in their order by pages that were read for them; what it learns goes
  /// into the IOTLB.
  ///
  /// - Parameter next: The number of the first of the misses to answer; afterwards that of one that
  ///   needs all steps, or of one behind the last.
  /// - Precondition: Packed words answer requests of the device.
  @inline(never)
  mutating func fill(
    _ block: BatchBlock, next: inout Int, count: Int, _ access: Access,
    into answers: UnsafeMutablePointer<PackedTranslation>
  ) {
    let done = caches.pointee.iotlb.fill(
      block, next: &next, count: count, lastNumber, access.permission, into: answers)
    packedHits &+= done.hits
    packedFills &+= done.fills
  }

  // MARK: All steps

  /// Answers a request; what it learns goes into the caches.
  mutating func answer<Observer: WalkObserver>(
    _ request: VTd.Request, byteCount: UInt64, in memory: FlatMemory, observer: inout Observer
  ) -> Translation {
    let answer = remappedAnswer(request, byteCount: byteCount, in: memory, observer: &observer)
    guard !state.protectedRegions.isEmpty, case .mapped(let physical, let length) = answer else {
      return answer
    }
    let reachable = state.protectedRegions.reachableBytes(
      from: physical.rawValue, atMost: length)
    return reachable == 0 ? .fault(.protectedMemory) : .mapped(physical, byteCount: reachable)
  }

  private mutating func remappedAnswer<Observer: WalkObserver>(
    _ request: VTd.Request, byteCount: UInt64, in memory: FlatMemory, observer: inout Observer
  ) -> Translation {
    guard isTranslating else {
      return .mapped(PhysicalAddress(request.address), byteCount: byteCount)
    }
    if case .untranslated = request.kind, request.pasid == nil,
      VTd.isInterruptAddress(request.address)
    {
      return DeviceHandle.interruptAnswer(request.operation, at: request.address)
    }
    var fill = FillObserver(outer: observer, caches: caches)
    defer { observer = fill.outer }
    switch bind(request, in: memory, observer: &fill) {
    case .failure(let fault):
      return .fault(fault.fault)
    case .success(let binding):
      if case .translated = request.kind {
        return binding.route.pass(
          request.address, byteCount: byteCount, hostAddressWidth: limits.hostAddressWidth)
      }
      return translate(
        request, byteCount: byteCount, through: binding, in: memory, observer: &fill)
    }
  }

  private var limits: VTd.Limits { state.resolver.unit.limits }

  /// The steps above the page tables, through the context and the PASID cache.
  private mutating func bind<Outer: WalkObserver>(
    _ request: VTd.Request, in memory: FlatMemory, observer: inout FillObserver<Outer>
  ) -> Result<Binding, VTd.RequestFault> {
    let key = Self.key(request)
    if let key, key == lastKey, let last {
      countBindingHits(last.rules, 1)
      return .success(last)
    }
    if let fault = state.resolver.refusal(of: request) { return .failure(fault) }
    do throws(VTd.RequestFault) {
      let context = try context(of: request.requester, in: memory, observer: &observer)
      let pasid = try state.resolver.addressSpace(of: request, admittedBy: context).get()
      var entry: VTd.PASIDEntry?
      if case .scalable(let scalable) = context {
        entry = try pasidEntry(
          of: request.requester, pasid, in: scalable, memory: memory, observer: &observer)
      }
      let route = try state.resolver.route(of: request, through: context, entry: entry).get()
      let binding = binding(of: request, pasid, route, context, entry)
      if let key, caches.pointee.contexts.keepsEntries,
        entry == nil || caches.pointee.pasids.keepsEntries
      {
        settleCounters()
        last = binding
        lastKey = key
        lastRules = binding.rules
        lastNumber = binding.number
        packedKey =
          request.pasid == nil && state.protectedRegions.isEmpty ? key : 0
      }
      return .success(binding)
    } catch {
      return .failure(error)
    }
  }

  private mutating func binding(
    of request: VTd.Request, _ pasid: PASID, _ route: DeviceHandle.Route, _ context: VTd.Context,
    _ entry: VTd.PASIDEntry?
  ) -> Binding {
    var space = AddressSpace(domainID: 0, pasid: pasid, usesFirstStage: false)
    if case .legacy(let legacy) = context { space.domainID = legacy.domainID }
    if let entry = entry?.entry {
      space.domainID = entry.domainID
      space.usesFirstStage = entry.translationType.hasFirstStage
    }
    return Binding(
      route: route, space: space,
      number: caches.pointee.iotlb.number(
        of: IOTLBSpace(
          requester: request.requester, domainID: space.domainID, pasid: pasid,
          hasPASID: request.pasid != nil, isScalable: entry != nil)))
  }

  private mutating func context<Outer: WalkObserver>(
    of requester: Requester, in memory: FlatMemory, observer: inout FillObserver<Outer>
  ) throws(VTd.RequestFault) -> VTd.Context {
    let tag = PortCaches.contextTag(requester, isScalable: state.resolver.isScalable)
    if let known = caches.pointee.contexts.find(tag) { return known }
    let context = try state.resolver.context(of: requester, in: memory, observer: &observer).get()
    forgetLast()
    caches.pointee.contexts.insert(context, under: tag)
    return context
  }

  private mutating func pasidEntry<Outer: WalkObserver>(
    of requester: Requester, _ pasid: PASID, in context: VTd.ScalableContextEntry,
    memory: FlatMemory, observer: inout FillObserver<Outer>
  ) throws(VTd.RequestFault) -> VTd.PASIDEntry {
    let tag = PortCaches.pasidTag(requester, pasid)
    if let known = caches.pointee.pasids.find(tag) { return known.entry }
    let entry = try state.resolver.pasidEntry(
      of: pasid, in: context, memory: memory, observer: &observer
    ).get()
    forgetLast()
    caches.pointee.pasids.insert(PASIDCacheEntry(entry: entry, pasid: pasid), under: tag)
    return entry
  }

  /// Something is about to enter a cache: what it pushes out may be what `last` came from.
  private mutating func forgetLast() {
    settleCounters()
    last = nil
    lastKey = 0
    packedKey = 0
  }

  // MARK: Pages

  private mutating func translate<Outer: WalkObserver>(
    _ request: VTd.Request, byteCount: UInt64, through binding: Binding, in memory: FlatMemory,
    observer: inout FillObserver<Outer>
  ) -> Translation {
    let (address, operation) = (request.address, request.operation)
    if case .passThrough = binding.route {
      return binding.route.translate(
        address, byteCount: byteCount, for: operation, in: memory, marker: NoMarks(),
        observer: &observer)
    }
    let writes = operation.needs.contains(.write)
    if let page = caches.pointee.iotlb.page(binding.number, address), !writes || page.isDirty {
      let answer = page.translation(
        of: address, byteCount: byteCount, for: operation, under: binding.rules)
      // A cached page never denies: what it does not allow is asked of the tables once more.
      if case .mapped = answer { return answer }
    }
    observer.domainID = binding.space.domainID
    observer.pasid = binding.space.pasid
    switch walk(address, for: operation, through: binding, in: memory, observer: &observer) {
    case .fault(let reason):
      return .fault(VTd.RequestFault(reason, isReported: binding.rules.isReported).fault)
    case .page(let page):
      caches.pointee.iotlb.insert(
        page, usesFirstStage: binding.space.usesFirstStage, of: address, binding.number)
      return page.translation(
        of: address, byteCount: byteCount, for: operation, under: binding.rules)
    }
  }

  private mutating func walk<Outer: WalkObserver>(
    _ address: UInt64, for operation: VTd.Request.Operation, through binding: Binding,
    in memory: FlatMemory, observer: inout FillObserver<Outer>
  ) -> PageOutcome {
    let writes = operation.needs.contains(.write)
    let marker = AtomicMarks(in: memory)
    let domainID = binding.space.domainID
    switch binding.route {
    case .table(.secondStage(let table)):
      guard table.reaches(address) else {
        return .fault(
          binding.rules.isScalable ? .scalableAddressBeyondWidth : .addressBeyondWidth)
      }
      observer.secondStageRoot = table.root
      let start = caches.pointee.start(
        for: address, in: table.start, domainID: domainID, pasid: nil)
      return table.page(
        of: address, from: start ?? table.start, for: operation, writes: writes, in: memory,
        marker: marker, observer: &observer)
    case .table(.firstStage(let table)):
      guard table.isCanonical(address) else { return .fault(.addressNotCanonical) }
      observer.firstStageRoot = table.root
      let start = caches.pointee.start(
        for: address, in: table.start, domainID: domainID, pasid: binding.space.pasid)
      return table.page(
        of: address, from: start ?? table.start, writes: writes, in: memory, marker: marker,
        observer: &observer)
    case .table(.nested(let tables)):
      guard tables.firstStage.isCanonical(address) else { return .fault(.addressNotCanonical) }
      observer.firstStageRoot = tables.firstStage.root
      observer.secondStageRoot = tables.secondStage.root
      let start = caches.pointee.start(
        for: address, in: tables.firstStage.start, domainID: domainID, pasid: binding.space.pasid)
      return tables.page(
        of: address, from: start ?? tables.firstStage.start, for: operation, writes: writes,
        in: memory, marker: marker, observer: &observer)
    case .untranslated, .passThrough, .table(.tce), .table(.gatt), .blocked:
      preconditionFailure("a binding is to page tables or passes through")
    }
  }

  // MARK: Device TLBs

  /// What the tables say of a page request.
  enum PageRequestAdmission {
    case success(CacheInvalidation)
    case failure(VTd.RequestFault?)
  }

  /// The answer to a translation request, all from the tables.
  func completion(of request: VTd.Request, in memory: FlatMemory) -> TranslationCompletion {
    var observer = Unobserved()
    return state.resolver.completion(
      of: request, in: memory, marker: AtomicMarks(in: memory), observer: &observer)
  }

  /// Whether a page request may be queued, and what the unit forgets before it is (6.5.3.1).
  ///
  /// Fails with `nil` where there is no fault to report: remapping is off.
  mutating func admitPageRequest(
    _ request: VTd.Request, in memory: FlatMemory
  ) -> PageRequestAdmission {
    guard isTranslating else { return .failure(nil) }
    var fill = FillObserver(outer: Unobserved(), caches: caches)
    switch bind(request, in: memory, observer: &fill) {
    case .failure(let fault): return .failure(fault)
    case .success(let binding):
      let range = PageRange(IOVA(request.address), addressMask: 0, hint: false)
      switch binding.route {
      case .table(.firstStage):
        return .success(
          .pasidIOTLBPages(
            domainID: binding.space.domainID, pasid: binding.space.pasid.rawValue, range))
      case .table(.nested): return .success(.iotlbDomain(binding.space.domainID))
      default: return .success(.iotlbPages(domainID: binding.space.domainID, range))
      }
    }
  }

  // MARK: Faults

  /// A fault as its record. Specification: Intel VT-d 11.4.7.6.
  func record(
    _ reason: VTd.FaultReason, of request: VTd.Request, limits: VTd.Limits
  ) -> VTd.FaultRecord {
    let kind: VTd.FaultRecord.RequestKind
    switch request.operation {
    case .read, .zeroLengthRead: kind = .read
    case .write: kind = .write
    case .atomic: kind = .atomic
    }
    var addressType = VTd.FaultRecord.AddressType.untranslated
    if limits.hasDeviceTLBs {
      switch request.kind {
      case .untranslated, .page: break
      case .translation: addressType = .translationRequest
      case .translated: addressType = .translated
      }
    }
    var record = VTd.FaultRecord(
      reason: reason, requester: request.requester,
      information: request.address & state.faultAddressMask,
      kind: request.kind == .page ? .pageRequest : kind, addressType: addressType)
    if let pasid = request.pasid, limits.features.contains(.pasids) {
      record.setPASID(
        pasid.rawValue, isPrivileged: request.isPrivileged,
        isExecute: request.isExecute && kind == .read)
    }
    return record
  }
}

extension VTd.SecondStageTable {
  /// Whether walks through both read the same entries alike; both are of one unit, whose registers
  /// have not changed in between.
  fileprivate func isSame(as other: VTd.SecondStageTable) -> Bool {
    root == other.root && format.levels == other.format.levels
      && addressWidth == other.addressWidth && marks == other.marks
  }
}
