import IOMMUFormats

extension VTd {
  /// Which devices are behind a unit, as far as a DMAR table decides it.
  ///
  /// The table names devices by paths. A path of one step is a requester; one of more goes through
  /// bridges, and a bridge stands for all below it: which buses those are is said by the bridges'
  /// registers, and by no table. Specification: Intel VT-d 8.3, 8.3.1.
  public struct UnitScope: Sendable {
    /// One reference: units are copied often.
    private let index: Index
    /// What firmware says of all units.
    public var table: VTd.DMAR { index.table }
    /// Where the registers lie, of the unit or of several.
    public var bases: [PhysicalAddress] { index.bases }
    /// The unit is at one of these places, perhaps, and nothing says at which; else all of them are meant.
    public var isUncertain: Bool { index.isUncertain }
    /// The PCI segment of the devices; `nil` where the places are of several.
    public var segment: UInt16? { index.segment }

    /// The table, made ready for questions.
    private final class Index: Sendable {
      let table: VTd.DMAR
      let bases: [PhysicalAddress]
      let isUncertain: Bool
      let segment: UInt16?
      /// Requesters with an entry of their own, and whether it is one of these units'.
      let exact: [Requester: Bool]
      let own: Reach
      let others: Reach
      /// Whether one of these units has every PCI device that is listed nowhere; `nil` where no unit
      /// does.
      let hasRest: Bool?

      init(_ table: VTd.DMAR, _ bases: [PhysicalAddress], isUncertain: Bool) {
        self.table = table
        self.bases = bases
        self.isUncertain = isUncertain
        let places = Set(bases)
        let units = table.hardwareUnits
        let segments = Set(units.filter { places.contains($0.base) }.map(\.segment))
        segment = segments.count == 1 ? segments.first : nil
        var (exact, own, others) = ([Requester: Bool](), Reach(), Reach())
        var hasRest: Bool?
        for unit in units where unit.segment == segment {
          let isOwn = places.contains(unit.base)
          if unit.includesAllPCI, hasRest == nil { hasRest = isOwn }
          for scope in unit.scopes where scope.isDMASource {
            if let requester = scope.requester, exact[requester] == nil { exact[requester] = isOwn }
            if isOwn { own.add(scope) } else { others.add(scope) }
          }
        }
        (self.exact, self.own, self.others, self.hasRest) = (exact, own, others, hasRest)
      }
    }

    /// What units may have, by scopes that name no requester.
    private struct Reach: Sendable {
      /// Start buses of paths to bridges that are listed with all below them.
      var bridgeBuses: Set<UInt8> = []
      /// Start buses of paths through bridges to a device, by the device's number.
      var pathBuses: [UInt8: Set<UInt8>] = [:]
      /// Devices whose functions one is listed of: the others may be its virtual functions.
      var devices: Set<Device> = []

      struct Device: Hashable, Sendable {
        var bus: UInt8
        var number: UInt8
      }

      mutating func add(_ scope: VTd.DMAR.DeviceScope) {
        if scope.type == .subHierarchy {
          bridgeBuses.insert(scope.startBus)
        } else if let requester = scope.requester {
          devices.insert(Device(bus: requester.bus, number: requester.device))
        } else if let last = scope.path.last {
          pathBuses[last.device, default: []].insert(scope.startBus)
        }
      }

      /// Behind a bridge are other buses than the bridge's own.
      func mayHave(_ requester: Requester) -> Bool {
        func isElsewhere(_ buses: Set<UInt8>) -> Bool {
          buses.count > 1 || buses.first.map { $0 != requester.bus } ?? false
        }
        return isElsewhere(bridgeBuses) || isElsewhere(pathBuses[requester.device] ?? [])
          || devices.contains(Device(bus: requester.bus, number: requester.device))
      }
    }

    /// The scope of the unit at a place, or of units at several; or of one that may be at any of them.
    ///
    /// - Precondition: there is a place.
    /// - Complexity: O(scopes of the table).
    public init(_ table: VTd.DMAR, bases: [PhysicalAddress], isUncertain: Bool = false) {
      precondition(!bases.isEmpty, "a unit is somewhere")
      index = Index(table, bases, isUncertain: isUncertain)
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

    /// Bits of a physical address; `nil` where the table states a width that no host has.
    public var hostAddressWidth: Int? {
      let width = table.platform.hostAddressWidth
      return 32...52 ~= width ? width : nil
    }

    /// Whether a device of ``segment`` is behind the unit, or one of the units.
    ///
    /// An exact entry decides. Without one it may be any unit that lists a bridge, or a device which
    /// the requester may be a virtual function of; and the unit of all PCI devices.
    public func answer(for requester: Requester) -> Answer {
      guard segment != nil else { return .undecided }
      let certain: Answer = isUncertain ? .undecided : .inside
      if let isOwn = index.exact[requester] { return isOwn ? certain : .outside }
      let mayBeOwn = index.hasRest == true || index.own.mayHave(requester)
      let mayBeAnother = index.hasRest == false || index.others.mayHave(requester)
      guard mayBeOwn || mayBeAnother else { return .unlisted }
      guard mayBeOwn else { return .outside }
      // Without a unit of all PCI devices it may be behind none.
      return mayBeAnother || index.hasRest == nil ? .undecided : certain
    }

    /// The devices that are behind the unit for certain, ascending, where they are all; `nil` where
    /// there may be others.
    var allRequesters: [Requester]? {
      guard !isUncertain, index.hasRest != true, index.own.bridgeBuses.isEmpty,
        index.own.pathBuses.isEmpty
      else {
        return nil
      }
      return index.exact.filter(\.value).keys.sorted()
    }
  }
}

extension VTd.UnitScope: Hashable {
  public static func == (left: Self, right: Self) -> Bool {
    left.bases == right.bases && left.isUncertain == right.isUncertain
      && left.table == right.table
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(bases) }
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
