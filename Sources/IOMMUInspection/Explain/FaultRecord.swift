import IOMMUFormats
import IOMMUTranslation

/// A fault as a kernel, a hypervisor or an emulator has logged it.
public struct FaultRecord: Sendable, Hashable {
  /// What kind of hardware told of it, and what it said in its own numbers.
  public enum Source: Sendable, Hashable {
    /// Intel VT-d: DMA remapping, with the manual's reason; `nil` where the log lacks it.
    case vtd(VTd.FaultReason?)
    /// Intel VT-d: interrupt remapping; the number is the index of the interrupt's entry.
    case vtdInterrupt(VTd.FaultReason?)
    /// Intel VT-d: the unit says that faults wait, and the log does not say which.
    case vtdStatus(VTd.FaultStatus)
    /// Intel VT-d: trouble with invalidations.
    case vtdQueue(VTdQueueTrouble)
    /// AMD-Vi: the event; its flags count where the log has them.
    case amdvi(AMDVi.Event, hasFlags: Bool)
    /// AMD-Vi: a device's page request that the kernel did not take.
    case amdviPageRequest(AMDVi.PageRequestEntry)
    /// Arm SMMUv3: the record.
    case smmuv3(SMMUv3.EventRecord)
    /// IBM Calgary or CalIOC2: the two registers that hold an error. No address is kept.
    case calgary(csr: UInt32, plssr: UInt32)
  }

  /// What a VT-d unit has against its invalidation queue.
  public enum VTdQueueTrouble: Sendable, Hashable {
    /// A descriptor that it does not take; the manual's number, where the log has it.
    case error(UInt8?)
    /// A device did not answer.
    case timeout
    /// A device answered something wrong.
    case completion
  }

  /// What the number of a fault is a number of.
  public enum AddressKind: String, Sendable {
    /// What the device put on the bus.
    case iova = "IOVA"
    /// A guest's virtual address.
    case guestVirtual = "guest virtual address"
    /// A guest's physical address.
    case guestPhysical = "guest physical address"
    /// An interrupt's address.
    case interrupt = "interrupt address"
    /// Which entry of the interrupt remapping table.
    case interruptIndex = "interrupt index"
    /// Where the unit looked in memory: no I/O address at all.
    case physical = "physical address"
  }

  public var source: Source
  /// `nil` where the log does not say: a Calgary bridge names a bus only, an SMMU a stream.
  public var device: PCI.Function?
  /// The PHB's bus number, for Calgary.
  public var bus: UInt8?
  public var pasid: UInt32?
  /// `nil` where hardware keeps none, or the log does not say.
  public var address: UInt64?
  public var addressKind: AddressKind
  /// `nil` where the log does not say.
  public var access: Access?

  public init(
    source: Source, device: PCI.Function? = nil, bus: UInt8? = nil, pasid: UInt32? = nil,
    address: UInt64? = nil, _ addressKind: AddressKind = .iova, access: Access? = nil
  ) {
    self.source = source
    self.device = device
    self.bus = bus
    self.pasid = pasid
    self.address = address
    self.addressKind = addressKind
    self.access = access
  }

  /// The number, where it is one that a device puts on the bus to reach memory.
  public var iova: IOVA? { addressKind == .iova ? address.map { IOVA($0) } : nil }
}

/// The same fault, logged once or many times.
public struct LoggedFault: Sendable {
  /// What was logged; within `VTd`, the plain name is that of a register.
  public typealias Record = FaultRecord

  public var record: FaultRecord
  /// The lines of the log in which it stands first, from 1; closed.
  public var lines: ClosedRange<Int>
  /// How often it appears.
  public var count = 1
  /// When the log has it, in the order of its lines; of very many, some that are evenly spread, the first
  /// and the last.
  public private(set) var times: [LogTime] = []
  /// What the kernel printed of the tables behind the fault.
  public var tables = LoggedTables()
  /// Words that the kernel printed behind the fault, each with what they are.
  public var words: [LoggedWords] = []

  /// Times that were noted.
  private var timeCount = 0
  /// Of so many times one is kept, besides the last.
  private var timeStride = 1

  /// The first line.
  public var line: Int { lines.lowerBound }

  /// When the log has it first: microseconds of the log's own clock.
  public var time: LogTime? { times.first }

  public init(_ record: FaultRecord, lines: ClosedRange<Int>, time: LogTime? = nil) {
    self.record = record
    self.lines = lines
    noteTime(time)
  }

  /// Times that are kept.
  static let timeLimit = 1_024

  /// Takes note of when the log has it once more.
  mutating func noteTime(_ time: LogTime?) {
    guard let time else { return }
    // The last one so far may be kept for that only.
    if timeCount > 0, (timeCount - 1) % timeStride != 0 { times.removeLast() }
    if times.count == Self.timeLimit {
      times = stride(from: 0, to: times.count, by: 2).map { times[$0] }
      timeStride *= 2
    }
    times.append(time)
    timeCount += 1
  }

  /// Forgets the time that was noted last.
  mutating func removeLastTime() -> LogTime? {
    guard let time = times.popLast() else { return nil }
    // So that the one before stays, whatever comes.
    timeCount = (times.count - 1) * timeStride + 1
    if times.isEmpty { timeCount = 0 }
    return time
  }
}

/// A time as logs have it.
public struct LogTime: Sendable, Hashable {
  /// Whose clock it is.
  public enum Clock: Sendable, Hashable {
    /// Since the kernel started: `[  301.000002]`, and traces by default.
    case kernel
    /// Since 1970: QEMU's `PID@SECONDS`.
    case epoch
  }

  public var clock: Clock
  public var microseconds: UInt64

  public init(_ clock: Clock, microseconds: UInt64) {
    self.clock = clock
    self.microseconds = microseconds
  }
}

/// Some words of a command or a descriptor that a kernel has printed.
public struct LoggedWords: Sendable, Hashable {
  /// What they are: `CMD`, or an entry of `EntryCatalog`.
  public var name: String
  public var words: [UInt64]
}

/// A line that tells of a fault and was not understood, or of lines that are not in the log.
public struct UnreadLine: Sendable, Hashable, Encodable {
  public var line: Int
  /// Which unit it is of, as far as can be told.
  public var unit: String
  /// Why it is not understood.
  public var reason: String
}

extension UnreadLine {
  enum CodingKeys: String, CodingKey {
    case line, unit
    case reason = "unread"
  }
}
