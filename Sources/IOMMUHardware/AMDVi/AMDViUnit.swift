import IOMMUFormats
import IOMMUTranslation

/// An AMD-Vi unit with its registers, its rings and its memory of what it has read.
///
/// Software reads and writes the registers (``read(_:byteCount:)``, ``write(_:at:byteCount:)``) and the
/// PCI function (``readConfiguration(_:)``, ``writeConfiguration(_:at:)``); devices send requests
/// (``translate(_:byteCount:)``) and interrupts (``remap(_:from:)``). Everything the unit stores itself,
/// from events to the words of completion waits, goes where a real one puts it.
///
/// Any thread may call any method; one call is done after the other. What the manual leaves open is in
/// `docs/amdvi-coverage.md`. Specification: AMD IOMMU 2, 3.
public final class AMDViUnit: @unchecked Sendable {
  // Sendable: everything that changes is guarded by `lock`.
  public let configuration: AMDViUnitConfiguration
  /// The machine's memory: tables, rings, and where completion waits store.
  public let memory: FlatMemory
  private let lock = UnitLock()
  private let deliver: @Sendable (InterruptMessage) -> Void

  // Guarded by the lock.
  var page: RegisterPage
  var function: PCI.ConfigurationSpace
  /// What the registers make of the tables; made anew when one changes.
  var resolver: AMDVi.Resolver
  var interruptRemapping: AMDVi.InterruptRemapping
  var caches: AMDViCaches
  /// Devices with SE whose fault has been logged since their entry was dropped last.
  var reportedDevices: Set<UInt16> = []
  var deviceTLBs: [UInt16: any AMDViDeviceTLB] = [:]
  /// Messages that are sent when the lock is free.
  private var outbox: [InterruptMessage] = []

  /// A unit after a reset.
  ///
  /// - Parameters:
  ///   - configuration: What the unit is: its capability and feature registers, and choices that the
  ///     manual leaves open.
  ///   - memory: The machine's memory, where tables and rings are.
  ///   - deliver: Called with each interrupt that the unit raises itself, on the thread that caused it,
  ///     after the unit's registers show it.
  /// - Throws: When the registers contradict themselves or ask for what is not here.
  public init(
    _ configuration: AMDViUnitConfiguration, memory: FlatMemory,
    deliver: @escaping @Sendable (InterruptMessage) -> Void = { _ in }
  ) throws(AMDViUnitConfigurationError) {
    try configuration.validate()
    self.configuration = configuration
    self.memory = memory
    self.deliver = deliver
    page = RegisterPage(configuration)
    function = PCI.ConfigurationSpace(configuration)
    caches = AMDViCaches(configuration.caches)
    (resolver, interruptRemapping) = Self.meaning(of: page, configuration)
    copyMessageRegisters()
  }

  /// Bytes of the register window.
  public var windowByteCount: UInt64 { page.byteCount }

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

  /// A reset: registers take their values after a reset, caches are empty.
  public func reset() {
    locked {
      page.reset(isWarm: false)
      function = PCI.ConfigurationSpace(configuration)
      caches.invalidateAll()
      reportedDevices = []
      (resolver, interruptRemapping) = Self.meaning(of: page, configuration)
      copyMessageRegisters()
    }
  }

  /// Registers the TLB of a device; `nil` removes it.
  ///
  /// - Parameters:
  ///   - deviceTLB: What invalidations of the device's own TLB go to.
  ///   - device: By the number that the unit sees.
  public func attach(_ deviceTLB: (any AMDViDeviceTLB)?, to device: Requester) {
    locked { deviceTLBs[device.rawValue] = deviceTLB }
  }

  // MARK: Counters

  /// What the caches have done since the unit was made.
  public struct Counters: Hashable, Sendable {
    public var deviceEntries: CacheCounters
    public var guestRoots: CacheCounters
    public var translations: CacheCounters
    public var pageWalks: CacheCounters
    public var interruptEntries: CacheCounters
  }

  /// What the caches have done since the unit was made.
  public var counters: Counters {
    locked {
      Counters(
        deviceEntries: caches.deviceEntries.counters, guestRoots: caches.guestRoots.counters,
        translations: caches.translations.counters, pageWalks: caches.pageWalks.counters,
        interruptEntries: caches.interruptEntries.counters)
    }
  }
}

/// A device with a TLB of its own, as a unit sees it: it is told what to drop, and answers.
///
/// A unit calls with its lock held: an implementation must not call the unit.
public protocol AMDViDeviceTLB: AnyObject, Sendable {
  /// Drops translations.
  ///
  /// - Returns: Whether the device answered; no answer is a time-out.
  func invalidate(_ command: AMDVi.InvalidateDeviceTLBCommand) -> Bool

  /// Software's answer to a group of page requests.
  func receive(_ response: AMDViPageResponse)
}

/// The answer to a group of page requests.
public struct AMDViPageResponse: Hashable, Sendable {
  public var pasid: PASID?
  /// As the requests of the group had it.
  public var tag: UInt16
  /// 0 success, 1 invalid, 15 failure.
  public var code: UInt8

  public init(pasid: PASID?, tag: UInt16, code: UInt8) {
    self.pasid = pasid
    self.tag = tag
    self.code = code
  }
}
