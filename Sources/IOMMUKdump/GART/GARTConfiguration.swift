import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The northbridges of a modelled machine and how its kernel uses them.
public struct GARTConfiguration: Sendable {
  /// 1 to 8.
  public var nodeCount = 1
  public var model = Northbridge.Model()
  /// Where firmware has put the aperture; 0 for none.
  public var firmwareBase: UInt64 = 0xd000_0000
  /// 0 to 7; the aperture is 32 MiB << order.
  public var firmwareOrder = 1
  public var options: GARTOptions
  /// The machine's other PCI functions, with an AGP bridge if there is one.
  public var topology = PCI.Topology()

  /// One node, 64 MiB in the PCI hole, Linux 2.6.27, and a GART on every machine, however small.
  public init() {
    options = GARTOptions()
    options.startsWithoutNeed = true
  }

  /// The northbridges as firmware hands them to the kernel.
  public func northbridges() -> Northbridges {
    let hardware = Northbridges(nodeCount: nodeCount, model: model, topology: topology)
    hardware.load(
      control: GART.ApertureControl(isEnabled: false, order: firmwareOrder),
      base: GART.ApertureBase(address: firmwareBase))
    return hardware
  }
}
