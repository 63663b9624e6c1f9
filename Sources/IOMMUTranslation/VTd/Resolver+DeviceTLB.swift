import IOMMUFormats

/// The answer to a translation request of a device with a TLB of its own.
@frozen
public enum TranslationCompletion: Equatable, Sendable {
  /// What the device may remember, up to its next invalidation.
  case success(DeviceTranslation)
  /// A fault and what the device is told; nothing to remember.
  case failure(VTd.RequestFault, VTd.FaultReason.TranslationResponse)
}

/// A translation as a device's TLB keeps it.
@frozen
public struct DeviceTranslation: Hashable, Sendable {
  public var page: PhysicalAddress
  /// The page has 2^`sizeLog2` bytes.
  public var sizeLog2: Int
  /// R and W; empty when the device may do nothing there.
  public var permissions: Permissions
  /// U: the device reaches the page by untranslated requests only.
  public var isUntranslatedOnly: Bool

  @inlinable
  public init(
    page: PhysicalAddress, sizeLog2: Int, permissions: Permissions, isUntranslatedOnly: Bool = false
  ) {
    self.page = page
    self.sizeLog2 = sizeLog2
    self.permissions = permissions
    self.isUntranslatedOnly = isUntranslatedOnly
  }
}

extension VTd.Resolver {
  /// Answers a translation request (PCIe ATS).
  ///
  /// *Assumed*: a request without the NW flag marks a page that may be written as dirty, because no
  /// later request tells of the write; a unit that is off answers Unsupported Request; pass-through
  /// answers in pages of 4 KiB.
  ///
  /// - Precondition: `request` is a translation request.
  /// - Returns: The translation, or the fault; a fault is recorded when
  ///   ``VTd/FaultReason/isRecordedForTranslationRequests`` and ``VTd/RequestFault/isRecorded`` say so.
  public func completion(
    of request: VTd.Request, in memory: some PhysicalMemory, marker: some EntryMarker,
    observer: inout some WalkObserver
  ) -> TranslationCompletion {
    guard case .translation(let noWrite) = request.kind else {
      preconditionFailure("only translation requests are completed with a translation")
    }
    let writes = !(noWrite && limits.features.contains(.noWriteFlag))
    let address = request.address
    guard unit.translates else {
      return .failure(
        VTd.RequestFault(.requestKindNotAllowed, isReported: false), .unsupportedRequest)
    }
    if request.pasid == nil, VTd.isInterruptAddress(address) {
      return .success(
        DeviceTranslation(
          page: PhysicalAddress(address & ~0xfff), sizeLog2: 12,
          permissions: writes ? .write : [], isUntranslatedOnly: writes))
    }
    let route: DeviceHandle.Route
    switch resolve(request, in: memory, observer: &observer) {
    case .success(let found): route = found
    case .failure(let fault): return Self.completion(of: fault)
    }
    guard let rules = route.rules else { preconditionFailure("VT-d routes have rules") }
    switch page(
      of: address, on: route, writes: writes, in: memory, marker: marker, observer: &observer)
    {
    case .fault(let reason):
      return Self.completion(of: VTd.RequestFault(reason, isReported: rules.isReported))
    case .page(let page):
      var permissions = page.permissions(under: rules)
      if !writes { permissions.remove(.write) }
      let start = page.page.rawValue
      let end = start &+ 1 &<< UInt64(page.sizeLog2)
      if VTd.interruptAddresses.overlaps(start..<end), !route.isPassThrough {
        return Self.completion(
          of: VTd.RequestFault(
            rules.isScalable ? .scalableInterruptAddressReached : .interruptAddressReached,
            isReported: rules.isReported))
      }
      return .success(
        DeviceTranslation(page: page.page, sizeLog2: page.sizeLog2, permissions: permissions))
    }
  }

  private static func completion(of fault: VTd.RequestFault) -> TranslationCompletion {
    switch fault.reason.translationResponse {
    case .noAccess where fault.reason != .firstStageUpdateFailed, .remainingAccess:
      .success(DeviceTranslation(page: PhysicalAddress(0), sizeLog2: 12, permissions: []))
    case .some(let response): .failure(fault, response)
    case nil: .failure(fault, .unsupportedRequest)
    }
  }

  /// What a route makes of an address, permissions not judged.
  private func page(
    of address: UInt64, on route: DeviceHandle.Route, writes: Bool, in memory: some PhysicalMemory,
    marker: some EntryMarker, observer: inout some WalkObserver
  ) -> PageOutcome {
    switch route {
    case .table(let table):
      return table.page(
        of: address, for: nil, writes: writes, in: memory, marker: marker,
        observer: &observer, from: { $0 })
    default:
      guard address >> UInt64(limits.hostAddressWidth) == 0 else {
        return .fault(.hostAddressBeyondWidth)
      }
      return .page(
        MappedPage(
          page: PhysicalAddress(address & ~0xfff), sizeLog2: 12,
          firstStage: MappedPage.unrestricted, secondStage: .readWrite, isDirty: true))
    }
  }
}

extension DeviceHandle.Route {
  /// Requests reach the address that they name.
  public var isPassThrough: Bool { if case .passThrough = self { true } else { false } }
}
