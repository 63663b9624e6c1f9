import IOMMUFormats

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
  /// The PCI segment that requesters are looked up in; ``serving(_:)`` chooses it.
  public internal(set) var segment: UInt32 = 0

  public init(
    name: String, units: [TranslationUnit], ram: [Range<PhysicalAddress>] = [],
    crashKernel: [Range<PhysicalAddress>] = []
  ) {
    self.name = name
    self.units = units
    self.ram = ram
    self.crashKernel = crashKernel
  }

  /// The units of one kind, in order.
  package func units<Model: UnitModel>(of kind: Model.Type) -> [Model] {
    units.compactMap { $0.as(kind) }
  }

  /// What reaches the address that it names, past all units or because there is none; each once, however
  /// many nodes of one GART say it.
  package func passages(in memory: some PhysicalMemory) -> [Passage] {
    guard !units.isEmpty else { return [Passage(.all)] }
    var seen: Set<Passage> = []
    return units.flatMap { $0.model.passages(in: memory) }.filter { seen.insert($0).inserted }
  }

  /// Finds out how a requester's DMA is translated. Reads at most four entries of each unit.
  ///
  /// - Parameters:
  ///   - requester: The device; one that no unit stands above passes untranslated.
  ///   - pasid: What its requests carry; `nil` for requests without PASID.
  ///   - dmaMask: The highest address the device can put on the bus.
  ///   - memory: Memory that holds the tables.
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
    let claims = claims(on: requester, pasid: pasid, in: memory)
    guard let index = claims.owner else {
      return DeviceHandle(
        requester: requester, pasid: pasid, dmaMask: dmaMask, route: .untranslated)
    }
    // Once more for whoever watches: of all units only the one that counts is shown.
    let route = units[index].model.claim(
      on: requester, pasid: pasid, in: memory, observer: &observer
    )
    .route
    return DeviceHandle(
      requester: requester, pasid: pasid, dmaMask: dmaMask, route: route ?? .untranslated)
  }

  /// The one translation call: resolves the requester and translates the first page of the request.
  public func translate(
    _ requester: Requester, _ iova: IOVA, byteCount: UInt64 = 1, access: Access,
    in memory: some PhysicalMemory
  ) -> Translation {
    resolve(requester, in: memory).translate(iova, byteCount: byteCount, access: access, in: memory)
  }

  /// The units that may own a requester: the one that counts, and others that know it too and would do
  /// something else, of which nothing says that they do not.
  ///
  /// - Returns: Indices into ``units``; no owner where the requester passes untranslated. `listed` are
  ///   those that do not know the requester, and that firmware's tables leave open all the same.
  public func owners(
    of requester: Requester, pasid: PASID? = nil, in memory: some PhysicalMemory
  ) -> (owner: Int?, others: [Int], listed: [Int]) {
    let claims = claims(on: requester, pasid: pasid, in: memory)
    guard let owner = claims.owner, !claims.isCertain else { return (claims.owner, [], []) }
    func route(_ unit: Int) -> DeviceHandle.Route? {
      var observer = Unobserved()
      return units[unit].model
        .claim(on: requester, pasid: pasid, in: memory, observer: &observer).route
    }
    let counted = route(owner)
    return (
      owner, claims.known.filter { $0 != owner && route($0) != counted },
      claims.listed.filter { $0 != owner }
    )
  }

  /// What the unit that counts would do with a requester's requests, and behind it what the others do
  /// that know the requester too and would do something else.
  public func handles(
    of requester: Requester, pasid: PASID? = nil, in memory: some PhysicalMemory
  ) -> [DeviceHandle] {
    let others = owners(of: requester, pasid: pasid, in: memory).others.map { index in
      var observer = Unobserved()
      let claim = units[index].model.claim(
        on: requester, pasid: pasid, in: memory, observer: &observer)
      return DeviceHandle(
        requester: requester, pasid: pasid, dmaMask: .max, route: claim.route ?? .untranslated)
    }
    return [resolve(requester, pasid: pasid, in: memory)] + others
  }

  private struct Claims {
    var owner: Int?
    var isCertain = false
    /// Units that may own the requester and know it.
    var known: [Int] = []
    /// Units that do not know it, and that firmware names.
    var listed: [Int] = []
  }

  private func claims(
    on requester: Requester, pasid: PASID?, in memory: some PhysicalMemory
  ) -> Claims {
    var claims = Claims()
    var certain: [Int] = []
    var blocking: Int?
    var passing: Int?
    var unseen: Int?
    var sharing: [Int] = []
    for (index, unit) in units.enumerated() where unit.serves(segment) {
      var observer = Unobserved()
      switch unit.model.claim(on: requester, pasid: pasid, in: memory, observer: &observer) {
      case .none: break
      case .certain: certain.append(index)
      case .possible(_, isKnown: true, _): claims.known.append(index)
      case .possible(let route, isKnown: false, let isListed):
        if isListed { claims.listed.append(index) }
        switch route {
        case .blocked(.unitUnseen): unseen = unseen ?? index
        case .untranslated:
          passing = passing ?? index
          if unit.model.mayPassOthersDevices { sharing.append(index) }
        default: blocking = blocking ?? index
        }
      }
    }
    // Firmware or registers may give a device to two units; the later one counts.
    claims.isCertain = certain.count == 1
    if certain.count > 1 { claims.known = certain }
    // That a unit blocks the device means nothing while another may be above it, and lets all pass.
    if certain.isEmpty, claims.known.isEmpty, unseen == nil, let blocking, let passing {
      claims.known = [blocking, passing]
    }
    // A table that is all units' says nothing of whose device it is.
    if certain.isEmpty, !claims.known.isEmpty {
      claims.known += sharing
    }
    claims.owner = certain.last ?? claims.known.first ?? unseen ?? blocking ?? passing
    return claims
  }
}

extension RouteClaim {
  var route: DeviceHandle.Route? {
    switch self {
    case .none: nil
    case .possible(let route, _, _), .certain(let route): route
    }
  }
}
