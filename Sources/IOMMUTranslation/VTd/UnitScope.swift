import IOMMUFormats

extension VTd {
  /// Which devices are behind a unit, as far as a DMAR table decides it.
  ///
  /// The table names devices by paths. A path of one step is a requester; one of more goes through
  /// bridges, and a bridge stands for all below it: which buses those are is said by the bridges'
  /// registers, and by no table. Specification: Intel VT-d 8.3, 8.3.1.
  public struct UnitScope: Sendable, Hashable {
    /// What firmware says of all units.
    public let table: VTd.DMAR
    /// Where the unit's registers lie; several places where nothing says which of them it is.
    public let bases: [PhysicalAddress]

    /// The scope of the unit at one of these places.
    ///
    /// - Precondition: there is a place.
    public init(_ table: VTd.DMAR, bases: [PhysicalAddress]) {
      precondition(!bases.isEmpty, "a unit is somewhere")
      self.table = table
      self.bases = bases
    }

    /// Whether a device is behind the unit.
    public enum Answer: Hashable, Sendable {
      /// It is.
      case inside
      /// It is not: it is behind another.
      case outside
      /// It may be.
      case undecided
      /// The table names no unit for it. *Assumed*: a unit that has tables for it serves it all the same,
      /// as QEMU's does.
      case unlisted
    }

    /// The PCI segment of the unit's devices; `nil` where its places are of several.
    public var segment: UInt16? {
      let segments = Set(units(at: bases).map(\.segment))
      return segments.count == 1 ? segments.first : nil
    }

    /// Bits of a physical address; `nil` where the table states a width that no host has.
    public var hostAddressWidth: Int? {
      let width = table.platform.hostAddressWidth
      return 32...52 ~= width ? width : nil
    }

    private func units(at bases: [PhysicalAddress]) -> [VTd.DMAR.HardwareUnit] {
      table.hardwareUnits.filter { bases.contains($0.base) }
    }

    /// Whether a device of ``segment`` is behind the unit.
    ///
    /// An exact entry decides. Without one it may be any unit that lists a bridge, or a device which
    /// the requester may be a virtual function of; and the unit of all PCI devices.
    ///
    /// - Complexity: O(scopes).
    public func answer(for requester: Requester) -> Answer {
      guard let segment else { return .undecided }
      let units = table.hardwareUnits.filter { $0.segment == segment }
      if let owner = units.first(where: { $0.names(requester) }) {
        return answer(oneOf: [owner.base], isComplete: true)
      }
      let rest = units.first(where: \.includesAllPCI)?.base
      let possible = units.filter { $0.mayHave(requester) || $0.base == rest }.map(\.base)
      guard !possible.isEmpty else { return .unlisted }
      return answer(oneOf: Set(possible), isComplete: rest != nil)
    }

    /// - Parameter isComplete: The device is behind one of these units and no other.
    private func answer(oneOf owners: Set<PhysicalAddress>, isComplete: Bool) -> Answer {
      guard !owners.isDisjoint(with: bases) else { return .outside }
      return isComplete && owners.count == 1 && bases.count == 1 ? .inside : .undecided
    }

    /// The devices that are behind the unit for certain, where they are all; `nil` where there may be
    /// others.
    var allRequesters: [Requester]? {
      guard bases.count == 1, let unit = units(at: bases).first, !unit.includesAllPCI else {
        return nil
      }
      let scopes = unit.scopes.filter(\.isDMASource)
      let named = scopes.compactMap { $0.type == .subHierarchy ? nil : $0.requester }
      return named.count == scopes.count ? named : nil
    }
  }
}

extension VTd.DMAR.HardwareUnit {
  /// The unit lists this very requester.
  fileprivate func names(_ requester: Requester) -> Bool {
    scopes.contains { $0.isDMASource && $0.requester == requester }
  }

  /// The unit lists something that the requester may be below, or a virtual function of.
  fileprivate func mayHave(_ requester: Requester) -> Bool {
    scopes.contains { scope in
      guard scope.isDMASource, let last = scope.path.last else { return false }
      // Behind a bridge are other buses than the bridge's own.
      let isElsewhere = requester.bus != scope.startBus
      if scope.type == .subHierarchy { return isElsewhere }
      return requester.device == last.device
        && (scope.path.count == 1 ? requester.bus == scope.startBus : isElsewhere)
    }
  }
}

extension VTd.DMAR.DeviceScope {
  /// It names something whose DMA the unit translates, not interrupts.
  fileprivate var isDMASource: Bool {
    type == .endpoint || type == .subHierarchy || type == .namespaceDevice
  }

  /// What the path leads to, where no bridge is on the way.
  fileprivate var requester: Requester? {
    guard path.count == 1, path[0].isValid else { return nil }
    return Requester(bus: startBus, device: path[0].device, function: path[0].function)
  }
}
