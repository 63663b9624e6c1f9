import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// How a kernel handles one AMD-Vi unit: by its registers, a command buffer and an event log.
///
/// Each call is done when it returns. The modelled unit does commands within the write of the tail, so
/// that reading memory once takes the place of polling. Source: Linux 6.12 `drivers/iommu/amd/init.c`,
/// `iommu.c`.
final class AMDViUnitDriver {
  /// Where the registers lie.
  let base: PhysicalAddress
  let features: AMDVi.ExtendedFeatures
  /// Entries that are not present are cached: pages that appear have to be told as well.
  let cachesNotPresent: Bool
  private let registers: AMDViUnit
  private let memory: FlatMemory
  private var commands: Ring?
  /// Where the unit stores that it is done, and what it stored last.
  private var completion: (place: PhysicalAddress, sequence: UInt64)?

  private struct Ring {
    var start: PhysicalAddress
    var position: UInt64 = 0

    mutating func advance() { position = (position + 16) % AMDViUnitDriver.ringByteCount }
    var place: PhysicalAddress { PhysicalAddress(start.rawValue + position) }
  }

  /// 512 entries each, as Linux has them.
  static let ringByteCount: UInt64 = 8192
  static let ringEntryCount = 512
  typealias Offset = AMDVi.RegisterOffset

  /// Finds the unit that firmware's table names for a device.
  ///
  /// - Throws: ``SetUpError/ivrsTable(_:)`` for a table that cannot be read or names no unit.
  init(for requester: Requester, on platform: AMDViPlatform, memory: FlatMemory) throws(SetUpError)
  {
    let table = try Self.table(of: platform)
    let unit = table.units.first { block in
      block.spans.contains { $0.devices.contains(requester.rawValue) }
    }
    guard let unit, let registers = platform.registers(at: unit.base) else {
      throw .ivrsTable("no unit is named above \(requester); the table is incomplete")
    }
    base = unit.base
    self.registers = registers
    self.memory = memory
    cachesNotPresent = platform.capability.cachesNotPresent
    features = AMDVi.ExtendedFeatures(
      rawValue: platform.capability.hasExtendedFeatures
        ? registers.read(Offset.extendedFeatures, byteCount: 8) : 0)
  }

  static func table(of platform: AMDViPlatform) throws(SetUpError) -> AMDVi.IVRS {
    do {
      return try AMDVi.IVRS(parsing: platform.ivrsTable)
    } catch {
      throw .ivrsTable("\(error)")
    }
  }

  private func read(_ offset: UInt64) -> UInt64 { registers.read(offset, byteCount: 8) }
  private func write(_ value: UInt64, at offset: UInt64) {
    registers.write(value, at: offset, byteCount: 8)
  }

  // MARK: Registers

  var control: AMDVi.Control {
    get { AMDVi.Control(rawValue: read(Offset.control)) }
    set { write(newValue.rawValue, at: Offset.control) }
  }

  var status: AMDVi.Status { AMDVi.Status(rawValue: read(Offset.status)) }

  var deviceTable: AMDVi.DeviceTableBase {
    get { AMDVi.DeviceTableBase(rawValue: read(Offset.deviceTableBase)) }
    set { write(newValue.rawValue, at: Offset.deviceTableBase) }
  }

  /// The unit as a machine file tells of it.
  var unit: AMDVi.Unit {
    var unit = AMDVi.Unit(
      base: base, deviceTable: deviceTable, control: control, features: features,
      features2: AMDVi.ExtendedFeatures2(rawValue: read(Offset.extendedFeatures2)), segment: 0)
    unit.exclusionBase = AMDVi.ExclusionBase(rawValue: read(Offset.exclusionBase))
    unit.exclusionLimit = AMDVi.ExclusionLimit(rawValue: read(Offset.exclusionLimit))
    return unit
  }

  /// All off, as a kernel leaves a unit that it is going to set up anew.
  func disable() {
    control.fetchesCommands = false
    control.interruptsOnEvents = false
    control.logsEvents = false
    control.isEnabled = false
  }

  func enable() { control.isEnabled = true }

  // MARK: Rings

  /// Starts the command buffer and the event log in pages of their own.
  ///
  /// - Parameter pages: ``bufferByteCount`` zeroed bytes: the commands, the events, a page that tells of
  ///   what is done.
  func startRings(in pages: PhysicalAddress) {
    let events = PhysicalAddress(pages.rawValue + Self.ringByteCount)
    control.fetchesCommands = false
    write(
      AMDVi.CommandBufferBase(address: pages, entryCount: Self.ringEntryCount).rawValue,
      at: Offset.commandBufferBase)
    control.logsEvents = false
    write(
      AMDVi.EventLogBase(address: events, entryCount: Self.ringEntryCount).rawValue,
      at: Offset.eventLogBase)
    restart(
      commands: pages, completion: PhysicalAddress(events.rawValue + Self.ringByteCount))
  }

  /// Bytes that ``startRings(in:)`` wants, 4 KiB aligned.
  static var bufferByteCount: UInt64 { 2 * ringByteCount + 4096 }

  /// Goes on with the rings that another kernel has left, from their starts.
  ///
  /// - Parameter completion: A page of this kernel's own.
  func reuseRings(completion: PhysicalAddress) {
    control.fetchesCommands = false
    control.logsEvents = false
    let commands = AMDVi.CommandBufferBase(rawValue: read(Offset.commandBufferBase))
    restart(commands: commands.address, completion: completion)
  }

  private func restart(commands: PhysicalAddress, completion: PhysicalAddress) {
    for offset in [
      Offset.commandHead, Offset.commandTail, Offset.eventHead, Offset.eventTail,
    ] {
      write(0, at: offset)
    }
    self.commands = Ring(start: commands)
    self.completion = (completion, 0)
    control.fetchesCommands = true
    control.logsEvents = true
  }

  // MARK: Commands

  /// Queues commands and one to wait for, and waits.
  func submit(_ list: [any AMDViCommand]) {
    guard var ring = commands, var completion else {
      preconditionFailure("a command buffer is started before it is used")
    }
    completion.sequence += 1
    let wait = AMDVi.CompletionWaitCommand(
      store: (completion.place, completion.sequence), interrupts: false)
    for command in list + [wait] {
      command.store(to: memory, at: ring.place)
      ring.advance()
    }
    write(AMDVi.RingPointer(byteOffset: ring.position).rawValue, at: Offset.commandTail)
    precondition(
      memory.quadword(at: completion.place) == completion.sequence,
      "the unit has not come to the end of its commands")
    commands = ring
    self.completion = completion
  }

  /// Drops a device's entry, and all translations of the domains that it had.
  func invalidateEntry(_ device: Requester, domains: [UInt16]) {
    submit(
      [AMDVi.InvalidateDeviceEntryCommand(device)]
        + domains.map { AMDVi.InvalidatePagesCommand(domainID: $0) })
  }

  /// Drops a domain's translations of a range; of all addresses without one.
  ///
  /// The smallest power of two that holds the range, as Linux names it.
  func invalidatePages(_ domainID: UInt16, _ range: Range<UInt64>? = nil) {
    guard let range else { return submit([AMDVi.InvalidatePagesCommand(domainID: domainID)]) }
    let differing = range.lowerBound ^ (range.upperBound - 1)
    let size = max(12, 64 - differing.leadingZeroBitCount)
    submit([
      AMDVi.InvalidatePagesCommand(
        domainID: domainID, address: IOVA(range.lowerBound), sizeLog2: size > 52 ? 64 : size)
    ])
  }

  /// Drops everything that the unit remembers.
  func invalidateAll() {
    if features.hasInvalidateAll { return submit([AMDVi.InvalidateAllCommand()]) }
    // Number by number, in as many commands as the buffer takes at once.
    for start in stride(from: 0, to: 0x10000, by: 256) {
      submit(
        (start..<start + 256).map {
          AMDVi.InvalidateDeviceEntryCommand(Requester(rawValue: UInt16($0)))
        })
      submit((start..<start + 256).map { AMDVi.InvalidatePagesCommand(domainID: UInt16($0)) })
    }
  }
}
