import IOMMUFormats

extension PCI.Topology {
  /// Every number that DMA of a function may carry when it reaches the root complex.
  ///
  /// The function's own comes first. A bridge from PCI Express to PCI takes requests over under the
  /// number of its secondary bus, device 0, function 0, or forwards those of PCI-X devices under
  /// their own; a conventional bridge and one from PCI to PCI Express under its own number. Ports
  /// of PCI Express change nothing. Specification: Intel VT-d 3.4.1; PCI Express to PCI/PCI-X
  /// Bridge 2.3.
  ///
  /// - Returns: The last one is what the outermost bridge uses; empty before the function's bus has
  ///   a number.
  public func dmaAliases(of function: Function) -> [Requester] {
    guard let own = requester(of: function) else { return [] }
    var aliases = [own]
    for bridge in bridges(above: function) {
      let alias: Requester?
      switch self[bridge].portType {
      case .expressToPCIBridge:
        alias = bus(below: bridge).flatMap { number(of: $0) }
          .map { Requester(bus: $0, device: 0, function: 0) }
      case nil, .pciToExpressBridge:
        alias = requester(of: bridge)
      default:
        alias = nil
      }
      if let alias, !aliases.contains(alias) { aliases.append(alias) }
    }
    return aliases
  }

  /// The number that an IOMMU sees on DMA of a function of conventional PCI, and of any other.
  public func dmaRequester(of function: Function) -> Requester? { dmaAliases(of: function).last }

  /// The physical function that has `requester` as one of its virtual functions.
  ///
  /// A virtual function's bus need not exist as a bus of its own: its number is counted on from the
  /// physical function's.
  public func physicalFunction(ofVirtual requester: Requester) -> Function? {
    functions.first { function in
      guard let base = self.requester(of: function) else { return false }
      return self[function].virtualFunctionOffsets.contains {
        Int(base.rawValue) + $0 == Int(requester.rawValue)
      }
    }
  }
}
