import IOMMUFormats

/// A translation unit of a machine, as its registers stand.
public enum TranslationUnit: Sendable, Hashable {
  case calgary(Calgary.Chip)
  case gart(GART.Node)
  case vtd(VTd.Unit)
}

/// What a dump cannot say: which units the machine has, where its RAM is, where the crash kernel
/// lives.
///
/// A machine without units is the nommu and the swiotlb case: devices see physical addresses.
public struct Machine: Sendable {
  public var name: String
  public var units: [TranslationUnit]
  /// Half-open, ascending; empty when not known.
  public var ram: [Range<PhysicalAddress>]
  /// The crash kernel ranges, half-open; empty when there is none.
  public var crashKernel: [Range<PhysicalAddress>]

  public init(
    name: String, units: [TranslationUnit], ram: [Range<PhysicalAddress>] = [],
    crashKernel: [Range<PhysicalAddress>] = []
  ) {
    self.name = name
    self.units = units
    self.ram = ram
    self.crashKernel = crashKernel
  }

  /// Finds out how a requester's DMA is translated. Reads at most four entries of each unit.
  ///
  /// - Parameters:
  ///   - pasid: What its requests carry; `nil` for requests without PASID.
  ///   - dmaMask: The highest address the device can put on the bus.
  public func resolve(
    _ requester: Requester, pasid: PASID? = nil, dmaMask: UInt64 = .max,
    in memory: some PhysicalMemory
  ) -> DeviceHandle {
    var observer = Unobserved()
    return resolve(requester, pasid: pasid, dmaMask: dmaMask, in: memory, observer: &observer)
  }

  /// The same, with every entry read shown to `observer`.
  public func resolve(
    _ requester: Requester, pasid: PASID? = nil, dmaMask: UInt64 = .max,
    in memory: some PhysicalMemory, observer: inout some WalkObserver
  ) -> DeviceHandle {
    DeviceHandle(
      requester: requester, pasid: pasid, dmaMask: dmaMask,
      route: route(of: requester, pasid: pasid, in: memory, observer: &observer))
  }

  /// The one translation call: resolves the requester and translates the first page of the request.
  public func translate(
    _ requester: Requester, _ iova: IOVA, byteCount: UInt64 = 1, access: Access,
    in memory: some PhysicalMemory
  ) -> Translation {
    resolve(requester, in: memory).translate(iova, byteCount: byteCount, access: access, in: memory)
  }

  private func route(
    of requester: Requester, pasid: PASID?, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> DeviceHandle.Route {
    var route = DeviceHandle.Route.untranslated
    for unit in units {
      switch unit {
      case .calgary(let chip):
        // A later chip that claims the bus overrules an earlier one, as in the Linux driver.
        if let bridge = chip.hostBridge(above: requester.bus) { route = bridge.route }
      case .gart(let node):
        // Every node carries the same aperture and table; the first that translates answers.
        if case .untranslated = route, let window = node.window { route = .gart(window) }
      case .vtd(let unit):
        // Without the scopes of a DMAR table: the first unit that knows the device, else the first.
        switch route {
        case .untranslated:
          route = unit.resolve(requester, pasid: pasid, in: memory, observer: &observer)
        case .blocked(.vtd(let reason, _)) where reason.saysUnknownRequester:
          let other = unit.resolve(requester, pasid: pasid, in: memory, observer: &observer)
          if case .blocked = other {} else { route = other }
        default: break
        }
      }
    }
    return route
  }
}

extension VTd.FaultReason {
  /// The unit has no context entry for the requester.
  fileprivate var saysUnknownRequester: Bool {
    switch self {
    case .rootEntryNotPresent, .contextEntryNotPresent, .scalableRootEntryNotPresent,
      .scalableContextEntryNotPresent:
      true
    default: false
    }
  }
}
