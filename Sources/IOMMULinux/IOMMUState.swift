import IOMMUFormats

/// What a kernel says of its IOMMUs: units, devices, groups, domains, and the numbers that its allocator
/// holds.
///
/// Read from the drivers' own structures. What cannot be read is absent, and among ``problems``.
public struct IOMMUState: Sendable {
  public internal(set) var units: [KernelUnit] = []
  /// PCI functions in the order of buses, then other devices in groups.
  public internal(set) var devices: [KernelDevice] = []
  /// Ascending by their numbers.
  public internal(set) var groups: [KernelGroup] = []
  /// Ascending by their addresses.
  public internal(set) var domains: [KernelDomain] = []
  /// Nothing of the lists of ``units`` was in the way of reading them to their ends.
  public internal(set) var listsAllUnits = true
  /// What could not be read, in words.
  public internal(set) var problems: [String] = []

  /// Reads all of it.
  ///
  /// - Throws: ``KernelReadError`` when the kernel's symbols or types cannot be read.
  /// - Complexity: O(*n*) in devices, domains and the numbers that the allocators hold.
  public init(_ kernel: LinuxKernel) throws(KernelReadError) {
    let reader = StateReader(kernel, types: try kernel.types)
    reader.readUnits()
    reader.state.listsAllUnits = reader.state.problems.isEmpty
    reader.readDevices()
    reader.readGroups()
    reader.readDomains()
    self = reader.state
  }

  init() {}

  /// The domain at an address.
  public func domain(at address: UInt64?) -> KernelDomain? {
    guard let address else { return nil }
    let index = domains.partitioningIndex { $0.address >= address }
    return index < domains.count && domains[index].address == address ? domains[index] : nil
  }

  public func group(_ number: Int?) -> KernelGroup? {
    number.flatMap { number in groups.first { $0.number == number } }
  }
}

/// A remapping unit, as its driver knows it.
public struct KernelUnit: Hashable, Sendable {
  public enum Kind: String, Sendable {
    case vtd = "intel-vtd"
    case amdvi = "amd-vi"
    case smmuv3 = "arm-smmuv3"
    /// Some other driver's, of which only the name is known.
    case other
  }

  public var kind: Kind
  /// The driver's structure.
  public var address: UInt64
  public var name: String?
  /// Where its registers are.
  public var registerBase: PhysicalAddress?
  public var segment: UInt32?
  /// The device table, the root table or the stream table.
  public var table: PhysicalAddress?
  public var tableByteCount: UInt64?
  /// VT-d: CAP_REG and ECAP_REG. AMD-Vi: the extended features alone.
  public var capability: UInt64?
  public var extendedCapability: UInt64?
  /// VT-d: what the driver has switched on, as it has written it to GCMD_REG last.
  public var command: UInt32?
  /// The invalidation queue or command buffer.
  public var queue: PhysicalAddress?
  /// VT-d: the interrupt remapping table.
  public var interruptTable: PhysicalAddress?
  /// AMD-Vi: the unit's own function.
  public var requester: Requester?
  /// VT-d: the kernel has taken over tables of an earlier one. AMD-Vi: it has a copy of them.
  public var hasCopiedTables: Bool?
  /// VT-d: domain ids in use, ascending.
  public var domainIDs: [UInt32]?
}

/// A device, as the kernel knows it.
public struct KernelDevice: Hashable, Sendable {
  /// What it is attached to.
  public enum Attachment: Hashable, Sendable {
    /// The address of a domain.
    case domain(UInt64)
    /// The driver has attached nothing: an earlier kernel's table may be in force.
    case none
    case unknown
  }

  /// The kernel's name for it: `0000:00:1f.2`.
  public var name: String
  /// The `struct device`.
  public var address: UInt64
  public var function: PCI.Function?
  public var vendor: UInt16?
  public var device: UInt16?
  /// Base class, subclass, interface.
  public var deviceClass: UInt32?
  /// `nil` where no driver is bound, or its name cannot be read.
  public var driver: String?
  public var dmaMask: UInt64?
  public var coherentDMAMask: UInt64?
  public var group: Int?
  /// What it calls itself in requests; other than its own number behind a bridge.
  public var requester: PCI.Function?
  /// Other numbers that its requests may carry, for which the driver sets up the same, ascending.
  public var aliases: [PCI.Function] = []
  /// SMMU: its stream ids.
  public var streams: [UInt32] = []
  /// The structure of the unit it is behind.
  public var unit: UInt64?
  public var attachment = Attachment.unknown
  /// AMD-Vi: the domain id that it has for itself, in place of its domain's; with tables of version 2 only.
  public var ownDomainID: UInt32?
}

/// A group of devices that share their domain.
public struct KernelGroup: Hashable, Sendable {
  public var number: Int
  public var address: UInt64
  /// Names of its devices in the order of the kernel's list.
  public var devices: [String]
  /// Addresses of domains; 0 for none.
  public var defaultDomain: UInt64?
  public var domain: UInt64?
}

/// An address space for devices, as the kernel knows it.
public struct KernelDomain: Sendable {
  /// The `struct iommu_domain`.
  public var address: UInt64
  /// The kernel's number: see ``typeName``.
  public var type: UInt32?
  /// Its ids in units: the unit's structure, the id.
  public var ids: [ID] = []
  /// The top page table.
  public var root: PhysicalAddress?
  public var levels: Int?
  /// VT-d: the tables are those of a first stage. AMD-Vi: version 2.
  public var isFirstStage: Bool?
  /// What its allocator holds; `nil` for a domain without one.
  public var iova: IOVAAllocator?

  public struct ID: Hashable, Sendable {
    public var unit: UInt64
    public var id: UInt32
  }

  /// Whether it has page tables of its own.
  public var isPaging: Bool? { type.map { $0 & 1 != 0 } }

  /// What the kernel shows of it in `/sys/kernel/iommu_groups/*/type`.
  ///
  /// Source: Linux `include/linux/iommu.h`, `__IOMMU_DOMAIN_PAGING` and the bits behind it.
  public var typeName: String? {
    switch type {
    case nil: nil
    case 0: "blocked"
    case 1: "unmanaged"
    case 3: "DMA"
    case 4: "identity"
    case 11: "DMA-FQ"
    case 16: "SVA"
    case 32: "platform"
    case 64: "nested"
    case let type?: "type \(type)"
    }
  }
}

/// Reads one kernel's structures into a state.
final class StateReader {
  let kernel: LinuxKernel
  let types: KernelTypes
  var state = IOMMUState()
  /// Groups that were met, by address.
  var groupAddresses: Set<UInt64> = []
  /// For each of the devices in a group its `struct iommu_group`.
  var groupOfDevice: [UInt64: UInt64] = [:]
  /// Domains that were met, with the kind of unit that their devices are behind.
  var domainKinds: [UInt64: KernelUnit.Kind] = [:]

  init(_ kernel: LinuxKernel, types: KernelTypes) {
    self.kernel = kernel
    self.types = types
  }

  var memory: KernelMemory { types.memory }

  /// Problems that are kept.
  private static let problemLimit = 4096

  func note(_ subject: String, _ error: KernelReadError) {
    let text = "\(subject): \(error)"
    guard state.problems.last != text, state.problems.count <= Self.problemLimit else { return }
    state.problems.append(
      state.problems.count < Self.problemLimit
        ? text : "more than \(Self.problemLimit) places cannot be read")
  }

  /// What `body` gives, or `nil` and a problem.
  func attempt<Value>(
    _ subject: @autoclosure () -> String, _ body: () throws(KernelReadError) -> Value
  ) -> Value? {
    do throws(KernelReadError) {
      return try body()
    } catch {
      note(subject(), error)
      return nil
    }
  }

  /// What `body` gives; `nil`, and no problem, where the kernel has no such symbol, type or member: another
  /// version, or built without the driver.
  func ifKnown<Value>(
    _ subject: @autoclosure () -> String, _ body: () throws(KernelReadError) -> Value
  ) -> Value? {
    do throws(KernelReadError) {
      return try body()
    } catch {
      switch error {
      case .noSymbol, .noType, .noMember, .null: break
      default: note(subject(), error)
      }
      return nil
    }
  }

  /// Elements of a list, with a problem for what it lacks.
  func elements(
    _ subject: String, at head: UInt64, of name: String, through path: String, having: [String] = []
  ) -> [KernelObject] {
    let list = attempt(subject) { () throws(KernelReadError) in
      try types.list(at: head, of: name, through: path, having: having)
    }
    list?.problems.forEach { note(subject, $0) }
    return list?.elements ?? []
  }

  /// The head of a list that is a symbol; `nil` where the kernel has none.
  func head(_ symbol: String) -> UInt64? { try? kernel.address(of: symbol) }
}
