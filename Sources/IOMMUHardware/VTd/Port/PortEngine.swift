import IOMMUFormats
import IOMMUTranslation

/// Answers requests from a port's caches and, where those do not know, from the tables.
struct PortEngine {
  private(set) var state: PortState
  /// DMA remapping is on.
  private var isTranslating: Bool
  private let caches: Pinned<PortCaches>.Reference
  private var bindings: PortBindings
  /// Answers what needs no other step.
  var pages: PortPages
  /// Faults of batches in the transaction that is on its way.
  var pendingFaults: [VTd.FaultRecord] = []

  init(_ state: PortState, caches: Pinned<PortCaches>.Reference) {
    self.state = state
    self.caches = caches
    bindings = PortBindings(caches)
    pages = PortPages(caches)
    isTranslating = state.resolver.unit.translates
  }

  /// Registers have changed, or caches have forgotten something.
  mutating func adopt(_ state: PortState) {
    self.state = state
    isTranslating = state.resolver.unit.translates
    pages.forget()
    bindings.forgetLast()
  }

  private var limits: VTd.Limits { state.resolver.unit.limits }

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
    do throws(VTd.RequestFault) {
      let binding = try bind(request, in: memory, observer: &fill)
      if case .translated = request.kind {
        return binding.route.pass(
          request.address, byteCount: byteCount, hostAddressWidth: limits.hostAddressWidth)
      }
      return translate(
        request, byteCount: byteCount, through: binding, in: memory, observer: &fill)
    } catch {
      return .fault(error.fault)
    }
  }

  /// What stands between the requester and memory.
  private mutating func bind<Outer: WalkObserver>(
    _ request: VTd.Request, in memory: FlatMemory, observer: inout FillObserver<Outer>
  ) throws(VTd.RequestFault) -> PortBinding {
    let key = request.spaceKey
    if let last = bindings.last(for: key) { return last }
    pages.forget()
    let binding = try bindings.find(
      request, key: key, by: state.resolver, in: memory, observer: &observer)
    // Protected memory is looked at by each request.
    if let lastKey = bindings.lastKey, state.protectedRegions.isEmpty {
      pages.serve(binding, key: lastKey, in: memory)
    }
    return binding
  }

  private func translate<Outer: WalkObserver>(
    _ request: VTd.Request, byteCount: UInt64, through binding: PortBinding, in memory: FlatMemory,
    observer: inout FillObserver<Outer>
  ) -> Translation {
    let (address, operation) = (request.address, request.operation)
    guard case .table(let table) = binding.route else {
      return binding.route.translate(
        address, byteCount: byteCount, for: operation, in: memory, marker: NoMarks(),
        observer: &observer)
    }
    let writes = operation.needs.contains(.write)
    if let page = caches.value.iotlb.page(binding.number, address), !writes || page.isDirty {
      let answer = page.translation(
        of: address, byteCount: byteCount, for: operation, under: binding.rules)
      // A cached page never denies: what it does not allow is asked of the tables once more.
      if case .mapped = answer { return answer }
    }
    observer.enter(binding)
    let outcome = table.page(
      of: address, for: operation, writes: writes, in: memory, marker: AtomicMarks(in: memory),
      observer: &observer
    ) { [caches] root in caches.value.start(for: address, in: root, binding.structures) }
    switch outcome {
    case .fault(let reason):
      return .fault(VTd.RequestFault(reason, isReported: binding.rules.isReported).fault)
    case .page(let page):
      caches.value.iotlb.insert(
        PackedPage(page, usesFirstStage: binding.space.usesFirstStage), of: address, binding.number)
      return page.translation(
        of: address, byteCount: byteCount, for: operation, under: binding.rules)
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
    do throws(VTd.RequestFault) {
      let binding = try bind(request, in: memory, observer: &fill)
      let (space, range) = (
        binding.space, PageRange(IOVA(request.address), addressMask: 0, hint: false)
      )
      switch binding.route {
      case .table(.firstStage):
        return .success(
          .pasidIOTLBPages(domainID: space.domainID, pasid: space.pasid.rawValue, range))
      case .table(.nested): return .success(.iotlbDomain(space.domainID))
      default: return .success(.iotlbPages(domainID: space.domainID, range))
      }
    } catch {
      return .failure(error)
    }
  }
}

extension PortState {
  /// A fault as its record. Specification: Intel VT-d 11.4.7.6.
  func record(_ reason: VTd.FaultReason, of request: VTd.Request) -> VTd.FaultRecord {
    let limits = resolver.unit.limits
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
      information: request.address & faultAddressMask,
      kind: request.kind == .page ? .pageRequest : kind, addressType: addressType)
    if let pasid = request.pasid, limits.features.contains(.pasids) {
      record.setPASID(
        pasid.rawValue, isPrivileged: request.isPrivileged,
        isExecute: request.isExecute && kind == .read)
    }
    return record
  }
}
