import IOMMUFormats

/// Why the path of a device scope leads nowhere.
public enum DeviceScopeError: Error, Equatable, CustomStringConvertible {
  /// A step with a device above 31 or a function above 7.
  case badStep(VTd.DMAR.PathStep)
  /// No function answers where a bridge should be.
  case noFunction(Requester)
  /// The function on the way is no bridge.
  case notABridge(Requester)
  /// The bridge on the way has no secondary bus number.
  case notNumbered(Requester)

  public var description: String {
    switch self {
    case .badStep(let step):
      "device \(step.device), function \(step.function) is no place of a PCI function; "
        + "the table is damaged"
    case .noFunction(let requester):
      "no function answers at \(requester), on the way; the bridge is absent or switched off"
    case .notABridge(let requester):
      "\(requester), on the way, is no bridge; the table is of another machine"
    case .notNumbered(let requester):
      "bridge \(requester), on the way, has no secondary bus; number the buses first"
    }
  }
}

extension PCI.Topology {
  /// The device or bridge that a scope of this segment means: its requester, or its source-id.
  ///
  /// Each step but the last goes through a bridge to the bus that its secondary bus register
  /// names. With one step no configuration space is read, so that a path which starts on the
  /// device's own bus is taken although that is no root bus, as some firmware has it.
  ///
  /// Specification: Intel VT-d 8.3.1.
  public func resolve(_ scope: VTd.DMAR.DeviceScope) throws(DeviceScopeError) -> Requester {
    var bus = scope.startBus
    for (index, step) in scope.path.enumerated() {
      guard step.isValid else { throw .badStep(step) }
      let place = Requester(bus: bus, device: step.device, function: step.function)
      guard index < scope.path.count - 1 else { return place }
      guard let function = function(at: place) else { throw .noFunction(place) }
      guard let buses = self[function].busNumbers else { throw .notABridge(place) }
      guard buses.secondary != 0 else { throw .notNumbered(place) }
      bus = buses.secondary
    }
    preconditionFailure("a device scope has at least one step")
  }

  /// The path that names a function in a device scope; `nil` before its buses are numbered.
  public func scope(
    _ type: VTd.DMAR.ScopeType, of function: Function
  ) -> VTd.DMAR.DeviceScope? {
    let way = [function] + bridges(above: function)
    guard let start = number(of: bus(of: way.last!)) else { return nil }
    return VTd.DMAR.DeviceScope(
      type, startBus: start,
      path: way.reversed().map {
        VTd.DMAR.PathStep(device: nodes[$0.index].device, function: nodes[$0.index].function)
      })
  }
}
