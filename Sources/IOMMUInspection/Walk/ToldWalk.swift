import IOMMUFormats
import IOMMUTranslation

/// One DMA request followed through the tables, with every entry read on the way.
///
/// The walk is the one that ``IOMMUTranslation`` does for every request; here somebody watches.
public struct ToldWalk: Sendable {
  /// Where the request ends.
  public enum End: Sendable, Equatable {
    /// At memory. `byteCount` bytes follow in the same page.
    case memory(PhysicalAddress, byteCount: UInt64)
    /// At the interrupt controller.
    case interruptMessage
    /// At the hardware, which blocks it.
    case fault(Fault)
    /// At a page that the dump does not hold. The fault is what the hardware would report if no
    /// memory answered there either.
    case notInDump(PhysicalAddress, Fault, Presence)
    /// At a unit of whose registers nothing is known.
    case unitUnseen
  }

  public let device: PCI.Function
  /// The device's driver; `nil` where it is not known.
  public let driver: String?
  /// What the request carries; `nil` for one without PASID.
  public let pasid: PASID?
  public let iova: IOVA
  public let access: Access
  /// What stands between the device and memory, in words.
  public let route: String
  /// Why a request that reaches memory goes there without a table, in words; `nil` for one that a table
  /// has translated, or that does not reach memory.
  let bypass: String?
  /// Every entry read, in order.
  public let steps: [WalkStep]
  public let end: End
  /// Other units that know the device, or that firmware says may be above it, where nothing decides: the
  /// walk is through the first that knows it.
  public let otherUnits: [String]

  /// Follows a request for the rest of the page that `iova` lies in.
  ///
  /// - Throws: `UnservedSegment` when no unit is known to serve the device's PCI segment.
  public init(
    _ device: PCI.Function, pasid: PASID? = nil, _ iova: IOVA, access: Access, machine: Machine,
    in memory: some PhysicalMemory, names: DeviceNames = .none
  ) throws(UnservedSegment) {
    self.init(
      device, pasid, iova, access, serving: try machine.serving(device), in: memory, names)
  }

  /// The same for a device in segment 0.
  public init(
    _ requester: Requester, pasid: PASID? = nil, _ iova: IOVA, access: Access, machine: Machine,
    in memory: some PhysicalMemory
  ) {
    self.init(
      PCI.Function(requester), pasid, iova, access, serving: machine, in: memory, .none)
  }

  private init(
    _ device: PCI.Function, _ pasid: PASID?, _ iova: IOVA, _ access: Access,
    serving machine: Machine, in memory: some PhysicalMemory, _ names: DeviceNames
  ) {
    let witness = ReadWitness(memory)
    var collector = StepCollector()
    let handle = machine.resolve(
      device.requester, pasid: pasid, in: witness, observer: &collector)
    let answer = handle.translate(
      iova, byteCount: PageCount.pageByteCount - iova.offsetInPage, access: access, in: witness,
      observer: &collector)
    self.device = device
    driver = names[device]
    self.pasid = pasid
    self.iova = iova
    self.access = access
    let owners = machine.owners(of: device.requester, pasid: pasid, in: memory)
    otherUnits = (owners.others + owners.listed).map { machine.units[$0].words.text }
    steps = collector.steps
    switch answer {
    case .mapped(let address, let byteCount): end = .memory(address, byteCount: byteCount)
    case .interruptMessage: end = .interruptMessage
    case .fault(.unitUnseen): end = .unitUnseen
    case .fault(let fault):
      end =
        witness.absentAddress(behind: fault, on: machine).map {
          .notInDump($0, fault, memory.presence(of: $0))
        }
        ?? .fault(fault)
    }
    if case .notInDump = end, case .blocked = handle.route {
      route = "nobody knows what stands between the device and memory"
    } else {
      route = handle.route.words
    }
    let isTranslated = collector.steps.contains { $0.place.level != nil }
    if case .memory = end, !isTranslated { bypass = handle.route.bypass } else { bypass = nil }
    // Of units that know the device each may count; those that firmware lists, and that do not know
    // it, would block it.
    isAmbiguous = !owners.others.isEmpty
  }

  /// Another unit knows the device too, and would do something else with its requests.
  private let isAmbiguous: Bool

  /// `00:03.0`, or `00:03.0/5` with a PASID.
  public var source: String { "\(device)" + (pasid.map { "/\($0)" } ?? "") }

  /// The same with the device's driver.
  var title: String { DeviceNames.text(source, driver) }

  /// The request reaches memory.
  public var reachesMemory: Bool { if case .memory = end { true } else { false } }

  /// Where the request ends depends on a page that the dump does not hold, on registers that nobody
  /// knows, or on which unit the device is behind.
  public var isUnknown: Bool {
    if isAmbiguous { return true }
    return switch end {
    case .notInDump, .unitUnseen: true
    case .memory, .interruptMessage, .fault: false
    }
  }

  /// Where the request ends, in words.
  public var endText: String {
    isAmbiguous
      ? "ends unknown: by the first of several units that know the device it \(ownEndText)"
      : ownEndText
  }

  private var ownEndText: String {
    switch end {
    case .memory(let address, let byteCount):
      "\(access)s \(address), \(byteCountText(byteCount)) to the end of the page"
    case .interruptMessage:
      "is an interrupt message, not memory"
    case .fault(let fault):
      "faults" + fault.numberText + ": " + fault.meaning
    case .notInDump(let address, let fault, let presence):
      "ends unknown: \(address) is \(presence.whereabouts); where no memory answers there, it faults"
        + fault.numberText + ": " + fault.meaning
    case .unitUnseen: "ends unknown: \(Fault.unitUnseen.meaning)"
    }
  }

  /// Writes the walk: the request, the entries read one by one, and where it ends.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    out.write("\(ink.strong(title)) \(access)s IOVA \(iova): \(route)\n")
    for (number, step) in steps.enumerated() {
      out.write(
        "\n\(number + 1)  \(ink.strong(step.titleText)) at \(ink.address("\(step.address)"))\n")
      out.write("   raw      \(step.entry.rawText)\n")
      out.write("   fields   \(step.fieldsText)\n")
      out.write("   meaning  \(step.entry.meaning)\n")
      for violation in step.entry.violations { out.write("   wrong    \(ink.bad(violation))\n") }
    }
    for unit in otherUnits {
      out.write("\n\(ink.warning("this device may be behind another unit as well: \(unit)"))\n")
    }
    let end =
      isAmbiguous
      ? ink.warning(endText) : reachesMemory ? ink.good(endText) : ink.bad(endText)
    out.write("\n\(ink.strong(title)) \(end)\n")
  }
}

extension ToldWalk: Encodable {
  enum CodingKeys: String, CodingKey {
    case requester, driver, pasid, iova, access, route, steps, physical, bytes, interrupt, fault,
      absent,
      unknown
    case otherUnits = "other_units"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode("\(device)", forKey: .requester)
    try container.encodeIfPresent(driver, forKey: .driver)
    try container.encodeIfPresent(pasid?.rawValue, forKey: .pasid)
    try container.encode("\(iova)", forKey: .iova)
    try container.encode("\(access)", forKey: .access)
    try container.encode(route, forKey: .route)
    try container.encode(steps, forKey: .steps)
    if !otherUnits.isEmpty { try container.encode(otherUnits, forKey: .otherUnits) }
    switch end {
    case .memory(let address, let byteCount):
      try container.encode("\(address)", forKey: .physical)
      try container.encode(hexadecimal(byteCount), forKey: .bytes)
    case .interruptMessage:
      try container.encode(true, forKey: .interrupt)
    case .fault(let fault):
      try container.encode(FaultJSON(fault), forKey: .fault)
    case .notInDump(let address, let fault, _):
      try container.encode("\(address)", forKey: .absent)
      try container.encode(FaultJSON(fault), forKey: .fault)
    case .unitUnseen: try container.encode(Fault.unitUnseen.meaning, forKey: .unknown)
    }
    if isAmbiguous {
      try container.encode("which of several units the device is behind", forKey: .unknown)
    }
  }
}

/// A fault as JSON has it.
struct FaultJSON: Encodable {
  var reason: String?
  var meaning: String

  init(_ fault: Fault) {
    reason = fault.number.map { hexadecimal($0) }
    meaning = fault.meaning
  }
}

extension Fault {
  /// ` 0x5`, or nothing where the hardware has no number.
  var numberText: String { number.map { " " + hexadecimal($0) } ?? "" }
}

extension DeviceHandle.Route {
  /// Why requests go to memory without a table, for those that do.
  fileprivate var bypass: String? {
    switch self {
    case .untranslated: "nothing translates what this device asks for"
    case .passThrough: "pass-through"
    case .table(.amdHost(let table)):
      table.isDirect
        ? "pass-through (Mode 0), \(table.rules.permissions)"
        : "the number is in the unit's exclusion range"
    default: nil
    }
  }

  /// What stands between a device and memory, in words.
  var words: String {
    switch self {
    case .untranslated: "no translation"
    case .passThrough: "pass-through"
    case .table(let table): table.words.route
    case .blocked(.unitUnseen): "a unit of which nobody knows what it does"
    case .blocked: "blocked before any page table"
    }
  }
}
