import IOMMUFormats
import IOMMUImages
import IOMMULinux
import IOMMURule
import IOMMUTranslation

/// What the kernels in a dump say of the machine, for whoever has not been told of it.
package struct KernelKnowledge {
  /// The units whose tables are in force, and the memory of the crash kernel.
  package private(set) var machine: Machine
  /// Devices that do DMA behind a unit, with their drivers and masks; `nil` where they cannot all be read.
  package private(set) var devices: [RuleEvidence.Device]?
  /// Drivers of requesters: those of the kernel that came last, and of devices that it has none for, the
  /// earlier one's, whose tables they may still use.
  package private(set) var names = DeviceNames.none
  /// Whose tables are.
  package let claims: KernelClaims
  /// What the kernel that died knows; `nil` where it cannot be read.
  package let primary: (kernel: LinuxKernel, state: IOMMUState)?
  /// The kernel that was started to dump it.
  package let capture: LinuxKernel?
  /// What is to be said of how that is known.
  package private(set) var notices: [String] = []
  /// How it is known what units do with interrupts; `nil` where no unit is.
  package private(set) var registerSource: String?

  /// - Returns: `nil` for a dump without VMCOREINFO in its notes, and for one whose kernels have no
  ///   structures that can be read. Memory is not looked through for either.
  package init?(of memory: MemoryImage, path: String) {
    guard let known = Self.kernelWithTypes(memory),
      let kernels = try? LinuxKernels(in: memory, known: known)
    else { return nil }
    machine = Machine(name: path, units: [])
    machine.crashKernel = Self.crashKernel(kernels)
    let states = kernels.all.map { try? IOMMUState($0.kernel) }
    names = DeviceNames(states.reversed().compactMap(\.self))
    claims = KernelClaims(zip(kernels.all, states).map { ($0.role, $1) })
    let old = zip(kernels.all, states).first { $0.0.role == .old }
    primary = old.flatMap { old in old.1.map { (old.0.kernel, $0) } }
    capture = kernels[.capture]
    // Units have one set of registers: the kernel that came last has written them.
    guard let (role, _) = kernels.all.last, let state = states.last ?? nil else { return }
    // A list that is not whole says nothing of those that it lacks.
    if state.problems.isEmpty {
      devices = state.devices.filter { $0.group != nil }.compactMap { device in
        device.requester.map { requester in
          RuleEvidence.Device(
            requester,
            name: names.text(requester),
            // A driver may have set one of the two only: what is certain is the smaller.
            dmaMask: device.dmaMask.flatMap { mask in device.coherentDMAMask.map { min(mask, $0) } }
          )
        }
      }
    }
    let made = KernelMachine(state, in: memory)
    // A unit that is left out would pass for one that blocks nothing.
    guard made.unknown.isEmpty else { return }
    machine.units = made.machine.units
    if !machine.units.isEmpty {
      // Of AMD-Vi the entries of devices say it.
      registerSource =
        state.units.contains { $0.kind == .vtd }
        ? "what the kernel's drivers have written to registers last"
        : "the device tables of the kernel's drivers"
    }
    let whose = kernels.all.count > 1 ? "the \(role.rawValue) kernel" : "the kernel"
    notices = state.units.compactMap { unit in
      unit.table.map {
        "no machine file: taking the \(unit.kind.tableName) at \($0), as \(whose) says of \(unit.title)"
      }
    }
  }

  /// The kernel of the notes, if it has types: without them nothing of it can be read, and memory is not
  /// looked through for another.
  private static func kernelWithTypes(_ memory: MemoryImage) -> LinuxKernel? {
    guard let info = memory.vmcoreInfo, let kernel = try? LinuxKernel(info, in: memory),
      (try? kernel.types) != nil
    else { return nil }
    return kernel
  }

  private static func crashKernel(_ kernels: LinuxKernels) -> [Range<PhysicalAddress>] {
    guard let first = kernels[.old] else { return [] }
    return (try? KernelResources(first))?.ranges(named: "Crash kernel").sorted {
      $0.lowerBound < $1.lowerBound
    } ?? []
  }
}

extension RuleEvidence {
  /// What a dump tells, with what its kernel knows.
  ///
  /// - Parameters:
  ///   - machine: Units and memory map.
  ///   - devices: Those that the kdump kernel needs; empty where nobody knows.
  ///   - memory: The dump.
  ///   - kernel: What its kernels say.
  ///   - isUnitsSource: The units are those that the kernel says.
  /// - Returns: `nil` when nobody says where the crash kernel is.
  package init?(
    dump machine: Machine, devices: [PCI.Function], in memory: some PhysicalMemory,
    kernel: KernelKnowledge?, isUnitsSource: Bool
  ) {
    self.init(dump: machine, devices: devices)
    // Nobody has to say which devices are needed where all are known.
    presentDevices = kernel?.devices
    if isUnitsSource { registerSource = kernel?.registerSource }
    guard let (primary, state) = kernel?.primary else { return }
    allocators = state.allocators
    tablePages = TablePages(
      of: machine, in: memory, primary: primary, capture: kernel?.capture)
  }
}

extension KernelKnowledge? {
  /// Drivers of requesters; none where no kernel says any.
  package var names: DeviceNames { self?.names ?? .none }
}
