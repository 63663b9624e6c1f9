import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// What the Linux Calgary driver reaches of the machine it runs on, and nothing else.
package protocol CalgaryPlatform: AnyObject {
  /// The register bases of the chips that the Rio table names, in its order.
  func chipBases() throws(Calgary.RioTableError) -> [PhysicalAddress]
  /// The first doubleword of a function's configuration space; all ones where there is none.
  func readIdentity(of function: Requester) -> UInt32
  /// Loads from a chip's registers as an x86 processor does: little-endian.
  func readRegister(_ base: PhysicalAddress, _ offset: UInt64, byteCount: Int) -> UInt64
  /// Stores to a chip's registers as an x86 processor does: little-endian.
  func writeRegister(
    _ value: UInt64, _ base: PhysicalAddress, _ offset: UInt64, byteCount: Int)
  /// Memory for a table, below 4 GiB and aligned to its size.
  func allocateTable(byteCount: UInt64, phb: Int) throws(SetUpError) -> PhysicalAddress
  /// Stores entries for `count` pages in a row, of which `first` is the first's, and flushes their
  /// cache lines; the first lies at `address`.
  func storeEntries(
    from first: Calgary.TranslationControlEntry, count: Int, at address: PhysicalAddress)
  /// Stores `count` empty entries and flushes their cache lines.
  func clearEntries(at address: PhysicalAddress, count: Int)
  /// `count` entries as they lie in memory, 0 where no memory answers.
  func loadEntries(at address: PhysicalAddress, count: Int) -> [UInt64]
  /// Memory windows of the bridges below a bus, half-open.
  func bridgeWindows(below bus: UInt8) -> [Range<UInt64>]
}

/// A machine with live chips, its memory and its configuration space.
public final class CalgaryMachine: CalgaryPlatform {
  public let memory: FlatMemory
  public let units: [CalgaryUnit]
  public var topology: PCI.Topology
  public var windows: [UInt8: [Range<UInt64>]] = [:]
  private let allocate: (UInt64, String) throws(SetUpError) -> PhysicalAddress

  /// - Parameters:
  ///   - firmware: Its Rio table is left in memory, when RAM is there.
  ///   - memory: The machine's memory, which the chips' tables lie in.
  ///   - allocate: Takes bytes and a name, and gives zeroed memory below 4 GiB, aligned to its
  ///     size.
  public init(
    _ firmware: CalgaryFirmware, memory: FlatMemory,
    allocate: @escaping (UInt64, String) throws(SetUpError) -> PhysicalAddress
  ) {
    self.memory = memory
    self.allocate = allocate
    units = firmware.units
    topology = firmware.topology
    Calgary.ExtendedBIOSData.store(firmware.rioTable, to: memory)
  }

  /// The same machine for another kernel, which has other memory.
  init(
    _ machine: CalgaryMachine,
    allocate: @escaping (UInt64, String) throws(SetUpError) -> PhysicalAddress
  ) {
    memory = machine.memory
    units = machine.units
    topology = machine.topology
    windows = machine.windows
    self.allocate = allocate
  }

  private func unit(at base: PhysicalAddress) -> CalgaryUnit? { units.first { $0.base == base } }

  package func chipBases() throws(Calgary.RioTableError) -> [PhysicalAddress] {
    try Calgary.ExtendedBIOSData.rioTable(in: memory).table.calgaryBases
  }

  package func readIdentity(of function: Requester) -> UInt32 {
    topology.readConfiguration(function, at: 0)
  }

  package func readRegister(
    _ base: PhysicalAddress, _ offset: UInt64, byteCount: Int
  ) -> UInt64 {
    unit(at: base)?.read(at: offset, byteCount: byteCount) ?? .max
  }

  package func writeRegister(
    _ value: UInt64, _ base: PhysicalAddress, _ offset: UInt64, byteCount: Int
  ) {
    unit(at: base)?.write(value, at: offset, byteCount: byteCount)
  }

  package func allocateTable(
    byteCount: UInt64, phb: Int
  ) throws(SetUpError) -> PhysicalAddress {
    try allocate(byteCount, "the TCE table of PHB \(phb)")
  }

  package func storeEntries(
    from first: Calgary.TranslationControlEntry, count: Int, at address: PhysicalAddress
  ) {
    if address.isAligned(to: 8) {
      first.storeRun(ofPages: count, to: memory, at: address)
    } else {
      // Where the driver has lost its way the stores are not aligned; x86 makes them all the same.
      memory.write((0..<UInt64(count)).flatMap { first.advanced(byPages: $0).bytes }, at: address)
    }
  }

  package func clearEntries(at address: PhysicalAddress, count: Int) {
    guard memory.isBacked(address, byteCount: 8 * UInt64(count)) else { return }
    memory.zero(at: address, byteCount: 8 * UInt64(count))
  }

  package func loadEntries(at address: PhysicalAddress, count: Int) -> [UInt64] {
    (0..<UInt64(count)).map {
      memory.bigEndianQuadword(at: PhysicalAddress(address.rawValue + 8 * $0)) ?? 0
    }
  }

  package func bridgeWindows(below bus: UInt8) -> [Range<UInt64>] { windows[bus] ?? [] }
}
