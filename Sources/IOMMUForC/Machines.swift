import CIOMMU
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTranslation
import Synchronization

/// A machine that C has a handle of.
final class CMachine: Handled, Sendable {
  static var kind: HandleKind { .machine }

  private let value: Mutex<Machine>
  /// A dump's kernel says which units there are.
  let isFromKernel: Bool

  init(_ machine: Machine, isFromKernel: Bool = false) {
    value = Mutex(machine)
    self.isFromKernel = isFromKernel
  }

  /// The machine as it is now.
  var machine: Machine { value.withLock { $0 } }

  func change(_ body: (inout Machine) -> Void) { value.withLock { body(&$0) } }
}

@_cdecl("iommu_machine_create")
public func createMachine(_ machine: UnsafeMutablePointer<Handle?>?) -> iommu_status {
  create(machine, "machine") { CMachine(Machine(name: "machine", units: [])) }
}

@_cdecl("iommu_machine_open")
public func openMachine(
  _ path: UnsafePointer<CChar>?, _ machine: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  create(machine, "machine") {
    CMachine(try MachineFile(path: try string(path, "path")).machine())
  }
}

@_cdecl("iommu_machine_find")
public func findMachine(
  _ memory: Handle?, _ machine: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  create(machine, "machine") {
    let memory = try object(memory, as: CMemory.self)
    let name = memory.image?.path ?? "memory"
    let kernel = memory.image.flatMap { KernelKnowledge(of: $0, path: name) }
    let found = machineOf(memory.any, name, kernel)
    try memory.check()
    guard !found.machine.units.isEmpty else {
      let way =
        "no table was found for certain: give a machine file, or the registers of the units, with "
        + "iommu_machine_open() or iommu_machine_create()"
      throw CallError.notFound((found.notices + [way]).joined(separator: "\n"))
    }
    return CMachine(found.machine, isFromKernel: found.isFromKernel)
  }
}

private func machineOf(
  _ memory: some PhysicalMemory, _ name: String, _ kernel: KernelKnowledge?
) -> (machine: Machine, notices: [String], isFromKernel: Bool) {
  if let kernel,
    let told = DumpMachine(saidBy: kernel, in: memory, search: { TableSearch(in: memory) })
  {
    return (told.machine, told.notices, true)
  }
  let found = DumpMachine(
    foundBy: TableSearch(in: memory), in: memory, name: name, TableHints(aperture: nil))
  return (found.machine, found.notices, false)
}

@_cdecl("iommu_machine_unit_count")
public func machineUnitCount(_ machine: Handle?, _ count: UnsafeMutablePointer<Int>?)
  -> iommu_status
{
  call {
    let machine = try object(machine, as: CMachine.self)
    try require(count, "count").pointee = machine.machine.units.count
  }
}

@_cdecl("iommu_machine_free")
public func freeMachine(_ machine: Handle?) -> iommu_status { free(machine, .machine) }

// MARK: Registers

private func add(_ machine: Handle?, _ make: () throws -> TranslationUnit) -> iommu_status {
  call {
    let machine = try object(machine, as: CMachine.self)
    let unit = try make()
    machine.change { $0.units.append(unit) }
  }
}

/// A PCI segment, as firmware numbers them.
func segment(_ segment: UInt32) throws -> UInt16 {
  guard let number = UInt16(exactly: segment) else {
    throw CallError.argument("PCI segment \(segment): units serve 0 to 65535")
  }
  return number
}

extension VTd.Limits {
  /// What registers say a unit has; everything legal where both are 0.
  init(
    capability: UInt64, extendedCapability: UInt64, hostAddressWidth: UInt32
  ) throws {
    guard hostAddressWidth == 0 || 32...52 ~= hostAddressWidth else {
      throw CallError.argument(
        "a host address width of \(hostAddressWidth) bits: 32 to 52 are possible")
    }
    let width = hostAddressWidth == 0 ? nil : Int(hostAddressWidth)
    guard capability != 0 || extendedCapability != 0 else {
      self = .permissive
      if let width { self.hostAddressWidth = width }
      return
    }
    self.init(
      capability: VTd.Capability(rawValue: capability),
      extendedCapability: VTd.ExtendedCapability(rawValue: extendedCapability),
      hostAddressWidth: width)
  }
}

@_cdecl("iommu_machine_add_vtd")
public func addVTd(_ machine: Handle?, _ registers: UnsafePointer<iommu_vtd_registers>?)
  -> iommu_status
{
  add(machine) {
    let registers = try structure(registers, "iommu_vtd_registers")
    try requireZero(registers.reserved)
    return .vtd(
      VTd.Unit(
        base: PhysicalAddress(registers.base),
        rootTableAddress: VTd.RootTableAddress(rawValue: registers.root_table_address),
        status: registers.global_status == 0
          ? VTd.GlobalStatus(translates: true)
          : VTd.GlobalStatus(rawValue: registers.global_status),
        limits: try VTd.Limits(
          capability: registers.capability, extendedCapability: registers.extended_capability,
          hostAddressWidth: registers.host_address_width),
        interruptTableAddress: VTd.InterruptTableAddress(
          rawValue: registers.interrupt_table_address),
        segment: try segment(registers.segment)))
  }
}

@_cdecl("iommu_machine_add_amdvi")
public func addAMDVi(
  _ machine: Handle?, _ registers: UnsafePointer<iommu_amdvi_registers>?
) -> iommu_status {
  add(machine) {
    let registers = try structure(registers, "iommu_amdvi_registers")
    try requireZero(registers.reserved)
    var control = AMDVi.Control(rawValue: registers.control)
    if registers.control == 0 {
      control = AMDVi.Control(rawValue: AMDVi.Control.resetValue)
      control.isEnabled = true
      control.translatesGuests = true
    }
    return .amdvi(
      AMDVi.Unit(
        base: PhysicalAddress(registers.base),
        deviceTable: AMDVi.DeviceTableBase(rawValue: registers.device_table_base),
        control: control,
        features: registers.extended_features == 0
          ? nil : AMDVi.ExtendedFeatures(rawValue: registers.extended_features),
        segment: try segment(registers.segment)))
  }
}

/// The buses of bridges.
func buses(_ bridge: iommu_calgary_bridge) throws -> ClosedRange<UInt8> {
  guard bridge.first_bus <= bridge.last_bus else {
    throw CallError.argument(
      "a bridge has buses \(bridge.first_bus) to \(bridge.last_bus): the last is not below the first"
    )
  }
  return bridge.first_bus...bridge.last_bus
}

/// One to four bridges.
func bridges(
  _ bridges: UnsafePointer<iommu_calgary_bridge>?, _ count: Int
) throws -> [iommu_calgary_bridge] {
  let bridges = try elements(bridges, count, "bridges")
  guard 1...4 ~= bridges.count else {
    throw CallError.argument("\(bridges.count) bridges: a chip has one to four")
  }
  return Array(bridges)
}

@_cdecl("iommu_machine_add_calgary")
public func addCalgary(
  _ machine: Handle?, _ registers: UnsafePointer<iommu_calgary_registers>?
) -> iommu_status {
  add(machine) {
    let registers = try structure(registers, "iommu_calgary_registers")
    try requireZero(registers.reserved)
    let all = try bridges(registers.bridges, registers.bridge_count)
    return .calgary(
      Calgary.Chip(
        model: registers.is_calioc2 == 0 ? .calgary : .calioc2,
        base: PhysicalAddress(registers.base),
        hostBridges: try all.map { bridge in
          let given = Calgary.ConfigurationRegister(rawValue: bridge.configuration)
          return Calgary.Chip.HostBridge(
            buses: try buses(bridge),
            tableAddress: Calgary.TableAddressRegister(rawValue: bridge.table_address),
            configuration: bridge.configuration == 0 ? given.enablingTranslation : given)
        }))
  }
}

@_cdecl("iommu_machine_add_gart")
public func addGART(
  _ machine: Handle?, _ registers: UnsafePointer<iommu_gart_registers>?
) -> iommu_status {
  add(machine) {
    let registers = try structure(registers, "iommu_gart_registers")
    try requireZero(registers.reserved)
    return .gart(
      GART.Node(
        device: registers.requester == 0
          ? Requester(bus: 0, device: 24, function: 3)
          : Requester(rawValue: registers.requester),
        control: GART.ApertureControl(rawValue: registers.aperture_control),
        base: GART.ApertureBase(rawValue: registers.aperture_base),
        tableBase: GART.TableBase(rawValue: registers.table_base)))
  }
}

@_cdecl("iommu_machine_set_crash_kernel")
public func setCrashKernel(
  _ machine: Handle?, _ ranges: UnsafePointer<iommu_range>?, _ count: Int
) -> iommu_status {
  call {
    let machine = try object(machine, as: CMachine.self)
    let ranges = try elements(ranges, count, "ranges").map { try Range<PhysicalAddress>($0) }
    machine.change { $0.crashKernel = ranges.filter { !$0.isEmpty } }
  }
}
