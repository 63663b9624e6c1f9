import IOMMUFormats
import IOMMUTranslation

/// What stands between a requester and memory, found by the steps above the page tables.
///
/// A reference: a route is too large to be handed from step to step.
final class PortBinding {
  let route: DeviceHandle.Route
  let rules: VTd.Rules
  let space: AddressSpace
  /// Of the space in the IOTLB.
  let number: UInt64
  /// Of its tables in the paging-structure cache.
  let structures: StructureNumbers

  init(
    route: DeviceHandle.Route, space: AddressSpace, number: UInt64, structures: StructureNumbers
  ) {
    self.route = route
    rules = route.rules ?? VTd.Rules()
    self.space = space
    self.number = number
    self.structures = structures
  }
}

/// Finds the binding of a request: the steps above the page tables, through the context and the
/// PASID cache.
struct PortBindings {
  private let caches: Pinned<PortCaches>.Reference
  /// The binding of the last plain request, while both caches that it comes from still have it.
  private(set) var last: PortBinding?
  /// Of that request; `nil` when there is none.
  private(set) var lastKey: UInt64?

  init(_ caches: Pinned<PortCaches>.Reference) { self.caches = caches }

  /// Registers have changed, or something is about to enter a cache: what it pushes out may be what
  /// `last` came from.
  mutating func forgetLast() {
    last = nil
    lastKey = nil
  }

  /// The binding of the last request, when it is that of a request with this key too.
  func last(for key: UInt64?) -> PortBinding? {
    guard key != nil, key == lastKey, let last else { return nil }
    caches.value.countBindings(isScalable: last.rules.isScalable, 1)
    return last
  }

  /// The binding of a request.
  ///
  /// - Parameter key: The request's; `nil` when the next one does not begin with it.
  mutating func find<Outer: WalkObserver>(
    _ request: VTd.Request, key: UInt64?, by resolver: VTd.Resolver, in memory: FlatMemory,
    observer: inout FillObserver<Outer>
  ) throws(VTd.RequestFault) -> PortBinding {
    forgetLast()
    if let fault = resolver.refusal(of: request) { throw fault }
    let context = try context(of: request.requester, by: resolver, in: memory, &observer)
    let pasid = try resolver.addressSpace(of: request, admittedBy: context).get()
    var entry: VTd.PASIDEntry?
    if case .scalable(let scalable) = context {
      entry = try pasidEntry(
        of: request.requester, pasid, in: scalable, by: resolver, memory, &observer)
    }
    let route = try resolver.route(of: request, through: context, entry: entry).get()
    let binding = binding(of: request, pasid, route, context, entry)
    if let key, caches.value.keepBindings(isScalable: entry != nil) {
      last = binding
      lastKey = key
    }
    return binding
  }

  private func binding(
    of request: VTd.Request, _ pasid: PASID, _ route: DeviceHandle.Route, _ context: VTd.Context,
    _ entry: VTd.PASIDEntry?
  ) -> PortBinding {
    var space = AddressSpace(domainID: 0, pasid: pasid, usesFirstStage: false)
    if case .legacy(let legacy) = context { space.domainID = legacy.domainID }
    if let entry = entry?.entry {
      space.domainID = entry.domainID
      space.usesFirstStage = entry.translationType.hasFirstStage
    }
    var structures = StructureNumbers()
    if case .table(let table) = route {
      structures = caches.value.structureNumbers(
        of: table, domainID: space.domainID, pasid: pasid)
    }
    return PortBinding(
      route: route, space: space,
      number: caches.value.iotlb.number(
        of: IOTLBSpace(
          requester: request.requester, domainID: space.domainID, pasid: pasid,
          hasPASID: request.pasid != nil, isScalable: entry != nil)),
      structures: structures)
  }

  private func context<Outer: WalkObserver>(
    of requester: Requester, by resolver: VTd.Resolver, in memory: FlatMemory,
    _ observer: inout FillObserver<Outer>
  ) throws(VTd.RequestFault) -> VTd.Context {
    let tag = PortCaches.contextTag(requester, isScalable: resolver.isScalable)
    if let known = caches.value.contexts.find(tag) { return known }
    let context = try resolver.context(of: requester, in: memory, observer: &observer).get()
    caches.value.contexts.insert(context, under: tag)
    return context
  }

  private func pasidEntry<Outer: WalkObserver>(
    of requester: Requester, _ pasid: PASID, in context: VTd.ScalableContextEntry,
    by resolver: VTd.Resolver, _ memory: FlatMemory, _ observer: inout FillObserver<Outer>
  ) throws(VTd.RequestFault) -> VTd.PASIDEntry {
    let tag = PortCaches.pasidTag(requester, pasid)
    if let known = caches.value.pasids.find(tag) { return known.entry }
    let entry = try resolver.pasidEntry(
      of: pasid, in: context, memory: memory, observer: &observer
    ).get()
    caches.value.pasids.insert(PASIDCacheEntry(entry: entry, pasid: pasid), under: tag)
    return entry
  }
}

extension VTd.Request {
  /// What tells one address space from another in a request, never zero; `nil` when the request is
  /// not a plain one.
  @inline(__always)
  var spaceKey: UInt64? {
    guard case .untranslated = kind else { return nil }
    var key = requester.spaceKey
    if let pasid {
      key |= UInt64(pasid.rawValue) << 16 | 1 << 36
      if isPrivileged { key |= 1 << 37 }
      if isExecute { key |= 1 << 38 }
    }
    return key
  }
}

extension Requester {
  /// The same of its plain requests without PASID.
  @inline(__always) var spaceKey: UInt64 { UInt64(rawValue) | 1 << 63 }
}
