import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// Why a machine or the Rule on it cannot be set up. Thrown before anything is changed.
public enum SetUpError: Error, Equatable, CustomStringConvertible {
  /// The memory of the machine cannot be had.
  case memory(MemoryError)
  /// RAM sizes that make no machine.
  case badRAM(byteCount: UInt64)
  case unalignedCrashKernel(Range<PhysicalAddress>)
  case emptyCrashKernel
  case overlappingCrashKernels(Range<PhysicalAddress>, Range<PhysicalAddress>)
  case crashKernelOutsideRAM(Range<PhysicalAddress>, ram: [Range<PhysicalAddress>])
  /// No gap in RAM takes a crash kernel of this size.
  case noRoomForCrashKernel(byteCount: UInt64)
  /// No part of `crashkernel=` is for a machine with so much RAM.
  case noCrashKernelForRAM(String, byteCount: UInt64)
  /// Two parameters of the same kind.
  case crashKernelTwice(String)
  case lowCrashKernelAlone
  case highCrashKernelBesideOthers
  /// The table of `name` has no entries for all of the range.
  case beyondTable(name: String, range: Range<PhysicalAddress>, coverage: UInt64, wayOut: String)
  /// The chip does not translate part of the range.
  case inHole(name: String, range: Range<PhysicalAddress>, hole: Range<UInt64>)
  /// An IOVA in the range is in use for something else.
  case conflict(name: String, iova: IOVA, mappedTo: PhysicalAddress?)
  /// A remapping unit that cannot be as its capability registers say.
  case remappingUnit(RemappingUnitConfigurationError)
  /// The DMAR table cannot be read, or names no unit above a device.
  case dmarTable(String)
  /// An AMD-Vi unit that cannot be as its registers say.
  case amdviUnit(AMDViUnitConfigurationError)
  /// The IVRS table cannot be read, or names no unit above a device.
  case ivrsTable(String)
  /// A bus with no free slot for a bridge to another.
  case noRoomForBridge(on: UInt8, to: UInt8)
  /// No RAM is left for tables.
  case outOfMemory(what: String)
  /// A page table does not take a mapping for another reason.
  case tables(TableMappingError)
  /// Firmware's tables do not tell a kernel what it has to know.
  case firmware(Calgary.RioTableError)

  public var description: String {
    switch self {
    case .memory(let error): return "\(error)"
    case .tables(let error): return "\(error)"
    case .badRAM(let byteCount):
      return "\(byteCount) bytes of RAM make no machine: choose 64M to 64T, a multiple of 4K"
    case .unalignedCrashKernel(let range):
      return
        "crash kernel \(range.text) is not a multiple of 4 KiB: align its size and offset to 4K"
    case .emptyCrashKernel:
      return "a crash kernel of no bytes: give it a size, such as 128M@16M"
    case .overlappingCrashKernels(let first, let second):
      return "crash kernels \(first.text) and \(second.text) overlap"
    case .crashKernelOutsideRAM(let range, let ram):
      let text = ram.map(\.text).joined(separator: ", ")
      return "crash kernel \(range.text) is not in RAM (\(text)): choose another size or offset"
    case .noRoomForCrashKernel(let byteCount):
      return
        "no \(byteCount) bytes in one piece of RAM, below 4 GiB unless ,high says otherwise: choose a "
        + "smaller crash kernel"
    case .noCrashKernelForRAM(let text, let byteCount):
      return
        "crashkernel=\(text) sets nothing aside on a machine of \(byteCount >> 20) MiB: give a size for "
        + "that much RAM"
    case .crashKernelTwice(let text):
      return "\(text) is a second size without a place: give one of them, or say where each lies"
    case .lowCrashKernelAlone:
      return "a crash kernel's ,low part counts beside one with ,high only: give SIZE,high too"
    case .highCrashKernelBesideOthers:
      return "the kernel passes over ,high where another crashkernel= is given: give one of them"
    case .beyondTable(let name, let range, let coverage, let wayOut):
      return
        "crash kernel \(range.text) ends beyond the \(hexadecimal(coverage)) bytes of I/O space "
        + "that the table of \(name) covers: \(wayOut)"
    case .inHole(let name, let range, let hole):
      return "crash kernel \(range.text) meets \(hexadecimal(hole.lowerBound))..<"
        + "\(hexadecimal(hole.upperBound)), which \(name) does not translate: move the crash kernel"
    case .conflict(let name, let iova, let target):
      let use = target.map { "is mapped to \($0)" } ?? "is reserved"
      return "IOVA \(iova) of \(name) \(use) already; "
        + "apply the Rule before drivers map, or unmap it first; nothing was changed"
    case .remappingUnit(let error):
      return "remapping unit: \(error)"
    case .dmarTable(let problem):
      return "DMAR table: \(problem)"
    case .amdviUnit(let error):
      return "AMD-Vi unit: \(error)"
    case .ivrsTable(let problem):
      return "IVRS table: \(problem)"
    case .firmware(let error):
      return "\(error); no Calgary chip can be found without it"
    case .noRoomForBridge(let bus, let other):
      return "bus \(hexadecimal(bus, digits: 2)) has no free slot for a bridge to bus "
        + "\(hexadecimal(other, digits: 2)): put fewer devices on it"
    case .outOfMemory(let what):
      return "no RAM below 4 GiB is left for \(what): choose more RAM or a smaller crash kernel"
    }
  }
}

/// Why the DMA API of a modelled kernel refused a mapping. A value of the model, not bad input.
public enum MappingFailure: Error, Equatable, CustomStringConvertible {
  /// The device cannot reach the buffer and nothing here can help.
  case beyondDeviceMask(PhysicalAddress, mask: UInt64)
  /// The number was chosen by the caller, and this kernel's allocator takes no such wishes.
  case noChoice(IOVA)
  /// All bounce slots, or all IOVAs, are in use.
  case full(String)
  /// The kernel stops rather than go on.
  case panic(String)

  /// The failure itself, or one whose reason is that tables could not be made.
  init(_ error: any Error) { self = error as? Self ?? .full("\(error)") }

  public var description: String {
    switch self {
    case .beyondDeviceMask(let address, let mask):
      "buffer at \(address) is beyond the device's mask \(hexadecimal(mask))"
    case .noChoice(let iova):
      "IOVA \(iova) cannot be asked for: numbers can be chosen with VT-d, AMD-Vi and Calgary alone"
    case .full(let what): "\(what) full"
    case .panic(let why): "kernel panic: \(why)"
    }
  }
}
