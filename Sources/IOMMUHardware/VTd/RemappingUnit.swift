import IOMMUFormats
import IOMMUTranslation

/// A VT-d remapping unit with its registers, its queues and its memory of what it has read.
///
/// Software reads and writes the registers (``read(_:byteCount:)``, ``write(_:at:byteCount:)``);
/// devices send requests through ports (``makePort()``). Everything the unit stores itself, from
/// fault records to the status of wait descriptors, goes where a real one puts it.
///
/// Any thread may call any method. What holds between threads is in `docs/vtd-unit.md`.
/// Specification: Intel VT-d 11, 6.5, 7.
public final class RemappingUnit: @unchecked Sendable {
  // Sendable: everything that changes is guarded by `lock`.
  public let configuration: RemappingUnitConfiguration
  /// The machine's memory: tables, queues, and where status words go.
  public let memory: FlatMemory
  let limits: VTd.Limits
  private let lock = UnitLock()
  private let deliver: @Sendable (InterruptMessage) -> Void

  // Guarded by the lock.
  var page: RegisterPage
  /// RTADDR_REG as the last SRTP found it.
  var rootTableAddress = VTd.RootTableAddress(rawValue: 0)
  /// IRTA_REG as the last SIRTP found it.
  var interruptTableAddress = VTd.InterruptTableAddress(rawValue: 0)
  /// What the tables in force mean; see `portState`.
  var resolver: VTd.Resolver?
  /// Interrupt remapping entries that have been read, by index.
  var interruptEntries: TaggedCache<VTd.InterruptRemappingEntry>
  /// The fault record that is written next.
  var nextFaultRecord = 0
  var mailboxes: [PortMailbox] = []
  var deviceTLBs: [UInt16: any DeviceTLB] = [:]
  /// Messages that are sent when the lock is free.
  private var outbox: [InterruptMessage] = []

  /// A unit after a cold reset.
  ///
  /// - Parameters:
  ///   - configuration: What the unit is: its capability registers, and choices that the manual
  ///     leaves open.
  ///   - memory: The machine's memory, where tables and queues are.
  ///   - deliver: Called with each interrupt that the unit raises, on the thread that caused it,
  ///     after the unit's registers show it.
  /// - Throws: When the capability registers contradict themselves or ask for what is not here.
  public init(
    _ configuration: RemappingUnitConfiguration, memory: FlatMemory,
    deliver: @escaping @Sendable (InterruptMessage) -> Void = { _ in }
  ) throws(RemappingUnitConfigurationError) {
    try configuration.validate()
    self.configuration = configuration
    self.memory = memory
    self.deliver = deliver
    limits = configuration.limits
    page = RegisterPage(configuration)
    interruptEntries = TaggedCache(configuration.caches.interruptEntries)
  }

  /// Bytes of the register window: whole pages.
  public var windowByteCount: UInt64 { page.byteCount }

  // MARK: The lock

  /// Runs `body` with the lock held, then sends what it left in the outbox.
  func locked<Result>(_ body: () -> Result) -> Result {
    lock.lock()
    let result = body()
    let messages = outbox
    outbox.removeAll(keepingCapacity: true)
    lock.unlock()
    for message in messages { deliver(message) }
    return result
  }

  /// Sends an interrupt as soon as the lock is free.
  func send(_ message: InterruptMessage) { outbox.append(message) }

  // MARK: Registers

  /// Reads a register.
  ///
  /// - Parameters:
  ///   - offset: Bytes from the base of the window.
  ///   - width: 4 or 8, and `offset` a multiple of it; any other access reads as zero.
  public func read(_ offset: UInt64, byteCount width: Int) -> UInt64 {
    locked {
      guard page.allows(offset, byteCount: width) else { return 0 }
      let low = UInt64(page.softwareRead(offset))
      return width == 4 ? low : low | UInt64(page.softwareRead(offset + 4)) << 32
    }
  }

  /// Writes a register; commands are done when the call returns.
  ///
  /// A quadword takes effect as its low and then its high doubleword. Parameters as in
  /// ``read(_:byteCount:)``; any other access has no effect.
  public func write(_ value: UInt64, at offset: UInt64, byteCount width: Int) {
    locked {
      guard page.allows(offset, byteCount: width) else { return }
      writeWord(UInt32(truncatingIfNeeded: value), at: offset)
      if width == 8 { writeWord(UInt32(value >> 32), at: offset + 4) }
    }
  }

  private func writeWord(_ value: UInt32, at offset: UInt64) {
    let cleared = page.softwareWrite(value, at: offset)
    // What capability registers place comes first: it may lie where another unit has a queue.
    if isFaultRecordTop(offset) {
      if cleared != 0 { faultRecordWasCleared() }
      return
    }
    switch offset {
    case configuration.extendedCapability.invalidationRegisterOffset + 12: executeIOTLBCommand()
    case VTd.RegisterOffset.globalCommand: execute(VTd.GlobalCommand(rawValue: value))
    case VTd.RegisterOffset.contextCommand + 4: executeContextCommand()
    case VTd.RegisterOffset.faultStatus where cleared != 0: faultStatusWasCleared()
    case VTd.RegisterOffset.faultControl: controlWasWritten(of: .fault)
    case VTd.RegisterOffset.completionControl: controlWasWritten(of: .completion)
    case VTd.RegisterOffset.pageRequestControl: controlWasWritten(of: .pageRequest)
    case VTd.RegisterOffset.protectedMemoryEnable: switchProtectedMemory()
    case VTd.RegisterOffset.queueTail: runQueue()
    case VTd.RegisterOffset.completionStatus where cleared != 0: settle(.completion)
    case VTd.RegisterOffset.pageRequestStatus where cleared != 0: settle(.pageRequest)
    default: break
    }
  }

  /// A reset: registers take their values after a reset, caches are empty.
  ///
  /// - Parameter isWarm: Fault state survives (the sticky bits of the manual).
  public func reset(isWarm: Bool = false) {
    locked {
      page.reset(isWarm: isWarm)
      rootTableAddress = VTd.RootTableAddress(rawValue: 0)
      interruptTableAddress = VTd.InterruptTableAddress(rawValue: 0)
      nextFaultRecord = 0
      interruptEntries.invalidateAll()
      publishState()
      post(.everything)
      drain()
    }
  }

  // MARK: Devices

  /// Registers the device TLB of a requester; `nil` removes it.
  public func attach(_ deviceTLB: (any DeviceTLB)?, to requester: Requester) {
    locked { deviceTLBs[requester.rawValue] = deviceTLB }
  }
}
