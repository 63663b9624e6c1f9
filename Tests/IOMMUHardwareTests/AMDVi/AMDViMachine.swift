import IOMMUFormats
import IOMMUTranslation
import Synchronization

@testable import IOMMUHardware

/// An AMD-Vi unit in 4 MiB of memory, set up as the manual's vectors have it: device table at
/// 0x10_0000 for 4,096 devices, event log at 0x13_0000, commands at 0x14_0000, each of 256 entries.
final class AMDViMachine {
  typealias Offset = AMDVi.RegisterOffset

  static let deviceTable: UInt64 = 0x10_0000
  static let eventLog: UInt64 = 0x13_0000
  static let commandBuffer: UInt64 = 0x14_0000
  static let pageRequestLog: UInt64 = 0x15_0000
  static let guestLog: UInt64 = 0x15_8000
  static let interruptTable: UInt64 = 0x17_0000
  /// 00:04.0.
  static let device = Requester(rawValue: 0x20)
  static let address: UInt64 = 0x1234_5010

  /// The walk W1: three levels to a page at 0x20_0000.
  static let tables: [UInt64: UInt64] = [
    0x16_3000: 0x6000_0000_0016_2401, 0x16_2488: 0x6000_0000_0016_1201,
    0x16_1a28: 0x6000_0000_0020_0001,
  ]
  /// Mode 3, root 0x16_3000, IR, IW, domain 5.
  static let entry: [UInt64] = [0x6000_0000_0016_3603, 5, 0, 0]

  let memory: FlatMemory
  let unit: AMDViUnit
  private let sent = Messages()

  private final class Messages: Sendable {
    let all = Mutex<[InterruptMessage]>([])
  }

  /// - Parameter isRunning: All is set up and switched on; interrupts are still off.
  init(
    _ configuration: AMDViUnitConfiguration = .current,
    caches: AMDViCacheConfiguration = .everything,
    isRunning: Bool = true
  ) throws {
    memory = try FlatMemory(byteCount: 0x40_0000)
    var configuration = configuration
    configuration.caches = caches
    let sent = sent
    unit = try AMDViUnit(configuration, memory: memory) { message in
      sent.all.withLock { $0.append(message) }
    }
    guard isRunning else { return }
    store(Self.tables)
    setEntry(Self.entry)
    self[Offset.deviceTableBase] = Self.deviceTable | 0x1f
    self[Offset.eventLogBase] = 0x0800_0000_0000_0000 | Self.eventLog
    self[Offset.commandBufferBase] = 0x0800_0000_0000_0000 | Self.commandBuffer
    // IommuEn, EventLogEn, Coherent, CmdBufEn.
    self[Offset.control] = 0x1405
  }

  // MARK: Memory and registers

  subscript(offset: UInt64) -> UInt64 {
    get { unit.read(offset, byteCount: 8) }
    set { unit.write(newValue, at: offset, byteCount: 8) }
  }

  func store(_ words: [UInt64: UInt64]) {
    for (place, word) in words { memory.store(word, at: PhysicalAddress(place)) }
  }

  func word(_ place: UInt64) -> UInt64 { memory.quadword(at: PhysicalAddress(place))! }

  func setEntry(_ quadwords: [UInt64], of device: Requester = device) {
    for (index, quadword) in quadwords.enumerated() {
      let place = Self.deviceTable + UInt64(device.rawValue) * 32 + UInt64(index) * 8
      memory.store(quadword, at: PhysicalAddress(place))
    }
  }

  /// MSI to 0xfee0_1000 with data 0x40, one message for all.
  func enableMessages() {
    unit.writeConfiguration(0xfee0_1000, at: 0x68)
    unit.writeConfiguration(0, at: 0x6c)
    unit.writeConfiguration(0x40, at: 0x70)
    unit.writeConfiguration(0x0001_0000, at: 0x64)
  }

  /// What the unit has sent since the last look.
  var messages: [InterruptMessage] {
    sent.all.withLock { all in
      defer { all = [] }
      return all
    }
  }

  // MARK: Commands and events

  /// Puts commands into the ring and moves the tail.
  func run(_ commands: [(low: UInt64, high: UInt64)]) {
    var tail = self[Offset.commandTail]
    for command in commands {
      memory.store(command.low, at: PhysicalAddress(Self.commandBuffer + tail))
      memory.store(command.high, at: PhysicalAddress(Self.commandBuffer + tail + 8))
      tail = (tail + 16) & 0xfff
    }
    self[Offset.commandTail] = tail
  }

  func run(_ command: some AMDViCommand) { run([(command.low, command.high)]) }

  /// Two quadwords as the manual prints an entry's bytes: `2000000005000020 1050341200000000`.
  func text(at place: UInt64) -> String {
    let bytes = memory.bytes(at: PhysicalAddress(place), count: 16)!
    let digits = bytes.map { hexadecimal($0, digits: 2) }
    return digits.prefix(8).joined() + " " + digits.suffix(8).joined()
  }

  /// The events that software has not read, and reads them.
  func events() -> [String] {
    var head = self[Offset.eventHead]
    var found: [String] = []
    while head != self[Offset.eventTail] {
      found.append(text(at: Self.eventLog + head))
      head = (head + 16) & 0xfff
    }
    self[Offset.eventHead] = head
    return found
  }

  var isCommandBufferRunning: Bool { self[Offset.status] & 0x10 != 0 }

  // MARK: Requests

  /// Where a request goes; `nil` when it is stopped.
  func translate(
    _ address: UInt64 = address, _ operation: VTd.Request.Operation = .read,
    of device: Requester = device, pasid: PASID? = nil
  ) -> UInt64? {
    switch unit.translate(AMDVi.Request(device, IOVA(address), operation, pasid: pasid)) {
    case .mapped(let place, _): place.rawValue
    case .interruptMessage, .fault: nil
    }
  }

  /// Signaled target abort, cleared by the look.
  var wasAborted: Bool {
    let status = unit.readConfiguration(4)
    unit.writeConfiguration(1 << 27 | status & 0xffff, at: 4)
    return status & 1 << 27 != 0
  }
}
