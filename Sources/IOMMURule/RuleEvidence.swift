import IOMMUFormats
import IOMMUTranslation

/// What is known of a machine at its crash: registers, and as much of the history as somebody kept.
///
/// A dump has registers and memory only; a simulated crash knows all. Optional parts are `nil`
/// where nobody knows, and checks that need them answer *unknown*.
public struct RuleEvidence: Sendable {
  /// A device that does DMA.
  public struct Device: Sendable, Hashable {
    /// What people call it.
    public var name: String
    public var function: PCI.Function
    /// The highest address it can put on the bus: 2^32 − 1 for a 32-bit device; `nil` where nobody
    /// knows.
    public var dmaMask: UInt64?
    public var isNeededByKdump: Bool

    /// - Parameters:
    ///   - function: Segment, bus, device and function.
    ///   - name: What people call it; the function when `nil`.
    ///   - dmaMask: The highest address it can put on the bus; `nil` where nobody knows.
    ///   - isNeededByKdump: Whether the kdump kernel needs the device.
    public init(
      _ function: PCI.Function, name: String? = nil, dmaMask: UInt64? = nil,
      isNeededByKdump: Bool = true
    ) {
      self.name = name ?? "\(function)"
      self.function = function
      self.dmaMask = dmaMask
      self.isNeededByKdump = isNeededByKdump
    }
  }

  /// DMA that a device still does, and where it is meant to end.
  public struct Leftover: Sendable, Equatable {
    public var requester: Requester
    public var iova: Range<IOVA>
    public var target: Range<PhysicalAddress>

    public init(requester: Requester, iova: Range<IOVA>, target: Range<PhysicalAddress>) {
      self.requester = requester
      self.iova = iova
      self.target = target
    }
  }

  /// Which DMA goes on after the crash.
  public enum Leftovers: Sendable, Equatable {
    case known([Leftover])
    /// Nobody kept a list: all that is mapped may be in use, but for the crash kernel's own identity
    /// map.
    case allThatIsMapped

    /// The list; `nil` where nobody kept one.
    var list: [Leftover]? { if case .known(let list) = self { list } else { nil } }
  }

  /// Numbers that the kdump kernel has handed to a device.
  public struct Numbers: Sendable, Equatable {
    public var requester: Requester
    public var iova: Range<IOVA>

    public init(requester: Requester, iova: Range<IOVA>) {
      self.requester = requester
      self.iova = iova
    }
  }

  /// A write to a register of an IOMMU.
  public struct RegisterWrite: Sendable, Equatable {
    public var unit: String
    public var offset: UInt64
    public var value: UInt64

    public init(unit: String, offset: UInt64, value: UInt64) {
      self.unit = unit
      self.offset = offset
      self.value = value
    }
  }

  public var machine: Machine
  /// Devices that somebody named; `nil` where nobody did: checks look at all tables in force instead.
  public var devices: [Device]?
  /// There are no other devices than ``devices``.
  public var listsAllDevices = false
  /// Every device of the machine, as its kernel lists them; `nil` where nobody does. Whichever of them the
  /// kdump kernel needs: what holds of all of them holds.
  public var presentDevices: [Device]?
  public var allocatorEvents: [AllocatorEvent]?
  /// What allocators hold at the crash, where nobody kept ``allocatorEvents``; `nil` where nobody can look.
  public var allocators: [Allocator]?
  /// What units' registers are known from, in words, where that is no dump of them.
  public var registerSource: String?
  /// What is known of pages that tables lie in, where nobody kept ``freedTables``.
  public var tablePages: TablePages?
  public var leftovers: Leftovers
  /// Tables that the primary kernel has given back.
  public var freedTables: [Range<PhysicalAddress>]?
  public var registerWritesByKdump: [RegisterWrite]?
  public var kdumpNumbers: [Numbers]?
  public var devicesResetByKdump: Set<Requester>?

  /// - Precondition: the machine has a crash kernel.
  public init(
    machine: Machine, devices: [Device]?, allocatorEvents: [AllocatorEvent]? = nil,
    leftovers: Leftovers = .allThatIsMapped, freedTables: [Range<PhysicalAddress>]? = nil,
    registerWritesByKdump: [RegisterWrite]? = nil, kdumpNumbers: [Numbers]? = nil,
    devicesResetByKdump: Set<Requester>? = nil
  ) {
    precondition(!machine.crashKernel.isEmpty, "the Rule is about a crash kernel")
    self.machine = machine
    self.devices = devices
    self.allocatorEvents = allocatorEvents
    self.leftovers = leftovers
    self.freedTables = freedTables
    self.registerWritesByKdump = registerWritesByKdump
    self.kdumpNumbers = kdumpNumbers
    self.devicesResetByKdump = devicesResetByKdump
  }

  /// What a dump tells, and whoever looks at it.
  ///
  /// - Parameters:
  ///   - machine: Units, and memory map as far as it is known.
  ///   - crashKernel: Its ranges; the machine's own when empty.
  ///   - devices: Those that the kdump kernel needs; empty where nobody knows.
  /// - Returns: `nil` when nobody says where the crash kernel is.
  public init?(
    dump machine: Machine, crashKernel: [Range<PhysicalAddress>] = [], devices: [PCI.Function] = []
  ) {
    var machine = machine
    if !crashKernel.isEmpty { machine.crashKernel = crashKernel }
    machine.crashKernel.removeAll(where: \.isEmpty)
    guard !machine.crashKernel.isEmpty else { return nil }
    machine.crashKernel.sort { $0.lowerBound < $1.lowerBound }
    self.init(machine: machine, devices: devices.isEmpty ? nil : devices.map { Device($0) })
  }
}

/// What happened to a table's numbers, in order: which came first decides check R3.
public enum AllocatorEvent: Sendable, Equatable {
  /// The crash kernel's numbers were taken out of use in a table.
  case reserved(table: TableOwner, range: Range<IOVA>)
  /// A number was handed to a device.
  case mapped(requester: Requester, range: Range<IOVA>)
  /// It was taken back.
  case unmapped(requester: Requester, range: Range<IOVA>)
}
