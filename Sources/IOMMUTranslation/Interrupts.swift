import IOMMUFormats

/// An interrupt as a processor gets it.
public struct InterruptDelivery: Hashable, Sendable {
  public var vector: UInt8
  /// An APIC id, or a set of them when `isLogical`.
  public var destination: UInt32
  public var deliveryMode: VTd.DeliveryMode
  public var isLogical: Bool
  public var isLevelTriggered: Bool
  public var hasRedirectionHint: Bool

  public init(
    vector: UInt8, destination: UInt32, deliveryMode: VTd.DeliveryMode = .fixed,
    isLogical: Bool = false, isLevelTriggered: Bool = false, hasRedirectionHint: Bool = false
  ) {
    self.vector = vector
    self.destination = destination
    self.deliveryMode = deliveryMode
    self.isLogical = isLogical
    self.isLevelTriggered = isLevelTriggered
    self.hasRedirectionHint = hasRedirectionHint
  }
}

/// Why an interrupt request is blocked.
public struct InterruptFault: Hashable, Sendable {
  public var reason: VTd.FaultReason
  /// The entry that the request names, for the fault record; 0 where the manual leaves it open.
  public var index: UInt16
  /// False when FPD of the entry suppresses the record.
  public var isRecorded: Bool

  public init(reason: VTd.FaultReason, index: UInt16 = 0, isRecorded: Bool = true) {
    self.reason = reason
    self.index = index
    self.isRecorded = isRecorded
  }
}

/// An interrupt for a posted descriptor.
public struct PostedInterrupt: Hashable, Sendable {
  /// Where the descriptor lies; 64-byte aligned.
  public var descriptor: PhysicalAddress
  public var vector: UInt8
  /// The processor is told even while it asks not to be.
  public var isUrgent: Bool
  /// The entry that posts it, for a fault record.
  public var index: UInt16
  /// False when FPD of the entry suppresses records.
  public var isReported: Bool

  public init(
    descriptor: PhysicalAddress, vector: UInt8, isUrgent: Bool, index: UInt16, isReported: Bool
  ) {
    self.descriptor = descriptor
    self.vector = vector
    self.isUrgent = isUrgent
    self.index = index
    self.isReported = isReported
  }
}

/// What interrupt remapping makes of a request.
public enum InterruptDecision: Hashable, Sendable {
  /// Passes as it stands, in compatibility format.
  case passed
  case delivered(InterruptDelivery)
  case posted(PostedInterrupt)
  case blocked(InterruptFault)
}

/// Who may send an interrupt.
public enum InterruptSource: Hashable, Sendable {
  case anyone
  /// A requester, and those that differ from it in these bits of its number only.
  case requester(Requester, ignoring: UInt16)
  case buses(ClosedRange<UInt8>)
  /// Those of these numbers, ascending, in a PCI segment.
  case requesters([ClosedRange<UInt16>], segment: UInt32)
  case nobody

  /// One of them; `nil` where there is none.
  var example: Requester? {
    switch self {
    case .anyone: Requester(rawValue: 0)
    case .requester(let requester, _): requester
    case .buses(let buses): Requester(bus: buses.lowerBound, device: 0, function: 0)
    case .requesters(let ranges, _): ranges.first.map { Requester(rawValue: $0.lowerBound) }
    case .nobody: nil
    }
  }
}

/// An entry of an interrupt remapping table that is present: what becomes of one interrupt.
public struct InterruptMapping: Hashable, Sendable {
  /// What an entry makes of an interrupt.
  public enum Outcome: Hashable, Sendable {
    /// Passes as it stands.
    case passed
    case delivered(InterruptDelivery)
    /// VT-d.
    case posted(PostedInterrupt)
    /// AMD-Vi: for a guest's virtual APIC.
    case guest(AMDVi.GuestInterrupt)
    /// VT-d.
    case blocked(InterruptFault)
    /// AMD-Vi.
    case stopped(AMDVi.RequestFault)

    /// What VT-d has decided.
    init(_ decision: InterruptDecision) {
      self =
        switch decision {
        case .passed: .passed
        case .delivered(let delivery): .delivered(delivery)
        case .posted(let interrupt): .posted(interrupt)
        case .blocked(let fault): .blocked(fault)
        }
    }

    /// Memory that the interrupt is written into, half-open; `nil` for one that goes to a processor.
    package var memory: Range<PhysicalAddress>? {
      switch self {
      case .posted(let interrupt):
        Range(
          start: interrupt.descriptor, byteCount: UInt64(VTd.PostedInterruptDescriptor.byteCount))
      case .guest(let interrupt): Range(start: interrupt.page, byteCount: 4096)
      case .passed, .delivered, .blocked, .stopped: nil
      }
    }
  }

  /// Its number in the table.
  public var index: UInt32
  public var entryAddress: PhysicalAddress
  public var source: InterruptSource
  /// What becomes of the interrupt when ``source`` sends it.
  public var decision: Outcome
}

/// What an interrupt remapping table says, as far as it is known.
public struct InterruptMappings: Hashable, Sendable {
  /// The table's first byte.
  public var table: PhysicalAddress
  /// Entries in the table, present or not.
  public var entryCount: Int
  /// The entries that are present, ascending.
  public var mappings: [InterruptMapping] = []
  /// Entries that are not known.
  public var gaps: [TableGap] = []
  /// The devices that the table is for, ascending; `nil` for a table of all that are behind a unit.
  public var devices: [ClosedRange<UInt16>]?

  /// Nothing of the table is known.
  public var isUnknown: Bool {
    guard case .interrupts(let range)? = gaps.first?.scope else { return false }
    return range.count == entryCount
  }
}

/// The interrupt remapping tables of a unit.
public struct InterruptTables: Hashable, Sendable {
  /// Those in force, each once however many devices share it. None where the unit remaps nothing, or
  /// nobody knows.
  public var tables: [InterruptMappings] = []
  /// What is not known of which tables are in force.
  public var gaps: [TableGap] = []

  /// A unit with so many tables.
  public init(_ tables: [InterruptMappings] = []) { self.tables = tables }

  /// Nothing of which tables there are is known, or of one of them.
  public var isUnknown: Bool {
    tables.isEmpty ? !gaps.isEmpty : tables.contains(where: \.isUnknown)
  }
}

extension Machine {
  /// What a unit's interrupt remapping tables say.
  public func interruptTables(
    of unit: TranslationUnit, in memory: some PhysicalMemory
  ) -> InterruptTables {
    var all = unit.model.interruptMappings(in: memory)
    all.gaps = all.gaps.compactMap { judged($0, in: memory) }
    for index in all.tables.indices {
      all.tables[index].gaps = all.tables[index].gaps.compactMap { judged($0, in: memory) }
    }
    return all
  }
}
