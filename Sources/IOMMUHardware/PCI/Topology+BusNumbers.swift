import IOMMUFormats

extension PCI {
  /// Why the buses of a topology cannot be numbered.
  public enum TopologyError: Error, Equatable, CustomStringConvertible {
    /// The numbers from `rootBus` up to the next root bus, or to 255, are used up.
    case busNumbersUsedUp(rootBus: UInt8, last: UInt8)

    public var description: String {
      switch self {
      case .busNumbersUsedUp(let rootBus, let last):
        "more buses below root bus \(hexadecimal(rootBus, digits: 2)) than numbers up to "
          + "\(hexadecimal(last, digits: 2)): move the next root bus up or use fewer bridges"
      }
    }
  }
}

extension PCI.Topology {
  /// Gives every bridge its bus numbers, as firmware does: depth first, ascending.
  ///
  /// - Throws: ``PCI/TopologyError/busNumbersUsedUp(rootBus:last:)``; the numbers are then as far as
  ///   they went.
  /// - Complexity: O(bridges).
  public mutating func assignBusNumbers() throws(PCI.TopologyError) {
    for (index, root) in rootBuses.enumerated() {
      let first = buses[root.index].rootNumber
      let last =
        index + 1 < rootBuses.count ? buses[rootBuses[index + 1].index].rootNumber - 1 : UInt8.max
      _ = try assign(below: root, number: first, last: last, rootBus: first)
    }
  }

  /// Numbers what hangs below `bus`, which has `number`; the answer is the highest number used.
  private mutating func assign(
    below bus: Bus, number: UInt8, last: UInt8, rootBus: UInt8
  ) throws(PCI.TopologyError) -> UInt8 {
    var highest = number
    for function in functions(on: bus) {
      guard let below = self.bus(below: function) else { continue }
      guard highest < last else { throw .busNumbersUsedUp(rootBus: rootBus, last: last) }
      let secondary = highest + 1
      // While the buses below are looked for, all numbers that are left go there.
      self[function].busNumbers = PCI.BusNumbers(
        primary: number, secondary: secondary, subordinate: last)
      highest = try assign(below: below, number: secondary, last: last, rootBus: rootBus)
      self[function].busNumbers = PCI.BusNumbers(
        primary: number, secondary: secondary, subordinate: highest)
    }
    return highest
  }

  /// The bus that configuration accesses to `number` reach, by the bridges' registers.
  ///
  /// - Complexity: O(functions on the buses on the way).
  public func bus(numbered number: UInt8) -> Bus? {
    guard var bus = rootBuses.last(where: { buses[$0.index].rootNumber <= number }) else {
      return nil
    }
    // Each turn goes one bridge down; bridges are wired as a tree, so this ends.
    while self.number(of: bus) != number {
      let bridge = functions(on: bus).first { self[$0].busNumbers?.contains(number) == true }
      guard let bridge, let below = self.bus(below: bridge) else { return nil }
      bus = below
    }
    return bus
  }

  /// The function that answers to a requester's number; `nil` where none does.
  public func function(at requester: Requester) -> Function? {
    bus(numbered: requester.bus).flatMap {
      function(device: requester.device, function: requester.function, on: $0)
    }
  }

  /// Reads a doubleword of configuration space, as a kernel does; ones where no function is.
  public func readConfiguration(_ requester: Requester, at offset: Int) -> UInt32 {
    function(at: requester).map { self[$0].doubleword(at: offset) } ?? .max
  }

  /// Writes a doubleword of configuration space; writable bits change, and nothing without a
  /// function.
  public mutating func writeConfiguration(
    _ value: UInt32, to requester: Requester, at offset: Int
  ) {
    guard let function = function(at: requester) else { return }
    self[function].write(value, at: offset)
  }

  /// The functions that a kernel finds by reading configuration space bus by bus.
  ///
  /// Function 0 of each device is asked for, the others when it says that there are some.
  public func scan(bus number: UInt8) -> [Requester] {
    guard let bus = bus(numbered: number) else { return [] }
    return functions(on: bus).compactMap { function -> Requester? in
      let node = nodes[function.index]
      let first = self.function(device: node.device, function: 0, on: bus)
      guard let first, node.function == 0 || self[first].headerType.isMultiFunction else {
        return nil
      }
      return Requester(bus: number, device: node.device, function: node.function)
    }
  }
}
