import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// Linux's Calgary driver, as a primary kernel and as a kdump kernel ran it.
///
/// Finds chips through the Rio table, reads from them which buses they have, gives each bus with
/// devices a table, and from then on stores entries and flushes where Linux did. It reaches the
/// machine by configuration space, registers and memory alone.
///
/// Source: Linux `pci-calgary_64.c`, `tce_64.c`.
public final class LinuxCalgaryDriver {
  /// What the kernel was told on its command line, and how much memory it sees.
  public struct Configuration: Sendable {
    public var version: Version
    /// Booted by kexec after a crash.
    public var isKdump: Bool
    /// Bytes: the end of the RAM that this kernel sees.
    public var endOfRAM: UInt64
    /// Bytes: the end of RAM before the command line cut it; 0 when a kdump kernel does not know.
    public var savedEndOfRAM: UInt64
    /// `calgary=64k` to `8M`; `nil` for the version's own rule.
    public var tableSize: Calgary.TableSize?
    /// `calgary=disable=BUS`.
    public var disabledBuses: Set<UInt8>
    /// `calgary=translate_empty_slots`.
    public var translatesEmptySlots: Bool

    public init(
      version: Version = .linux2_6_27, isKdump: Bool = false, endOfRAM: UInt64,
      savedEndOfRAM: UInt64 = 0, tableSize: Calgary.TableSize? = nil,
      disabledBuses: Set<UInt8> = [], translatesEmptySlots: Bool = false
    ) {
      self.version = version
      self.isKdump = isKdump
      self.endOfRAM = endOfRAM
      self.savedEndOfRAM = savedEndOfRAM
      self.tableSize = tableSize
      self.disabledBuses = disabledBuses
      self.translatesEmptySlots = translatesEmptySlots
    }

    /// Takes over the tables that its chips have, rather than making its own.
    package var takesOver: Bool { isKdump && version.takesOverTables }

    /// The size of every table, by the rules of the version.
    package var chosenTableSize: Calgary.TableSize {
      if let tableSize { return tableSize }
      if version.alwaysTakesLargestTable {
        return takesOver && savedEndOfRAM != 0
          ? .chosenByLinux(endOfRAM: savedEndOfRAM) : .mib8
      }
      return .chosenByLinux(endOfRAM: takesOver ? savedEndOfRAM : endOfRAM)
    }
  }

  /// A PHB that this driver has given a table, or has taken one over.
  public struct Bus: Sendable {
    /// The root bus.
    public var number: UInt8
    package var model: Calgary.Chip.Model
    /// The chip's BBAR.
    package var base: PhysicalAddress
    package var phb: Int
    /// Where the driver stores entries; the chip may look elsewhere after a mistake.
    public var table: PhysicalAddress
    public var size: Calgary.TableSize
    package var bitmap: NextFitBitmap
    /// What every flush writes to TAR.
    package var tableAddress = Calgary.TableAddressRegister(rawValue: 0)
    /// The windows that are kept out of use, half-open, in bytes.
    package var windows: [Range<UInt64>] = []
    /// The watchdog looks at it; not any more after it has found an error.
    package var isWatched = true
  }

  /// What the watchdog found on a bus: the registers it dumped, in its order.
  package struct WatchdogFinding: Sendable, Equatable {
    package var bus: UInt8
    package var channelStatus: Calgary.ChannelStatusRegister
    package var dump: [UInt32]
  }

  public let configuration: Configuration
  /// Tables in force, in the order of their buses.
  public internal(set) var buses: [Bus] = []
  let platform: any CalgaryPlatform
  /// Root buses whose tables were allocated before the chips were found; 0 where none was needed.
  private var allocatedTables: [UInt8: PhysicalAddress] = [:]
  private var models: [UInt8: Calgary.Chip.Model] = [:]
  /// Every root bus below a chip, wanted or not, in the order they were found.
  private var rootBuses: [UInt8] = []
  /// Which PHB each bus is below, as the chips say: the last one that claims it.
  private var bridges: [UInt8: (base: PhysicalAddress, phb: Int)] = [:]

  /// IO pages 0 to 31 stand for "mapping failed" and are never given out.
  package static let emergencyPageCount = 32

  package init(_ configuration: Configuration, platform: any CalgaryPlatform) {
    self.configuration = configuration
    self.platform = platform
  }

  /// A driver that has not booted yet.
  public convenience init(_ configuration: Configuration, on machine: CalgaryMachine) {
    self.init(configuration, platform: machine)
  }

  /// Boots: finds chips and buses, makes or takes over tables, switches translation on.
  public func start() throws(SetUpError) {
    try detect()
    try initialise()
    reserveBridgeWindows()
  }

  // MARK: Registers

  func read(_ kind: Calgary.RegisterKind, _ base: PhysicalAddress, _ phb: Int) -> UInt64 {
    let register = Calgary.Register(kind, kind.description.stride == 0 ? 0 : phb)
    let value = platform.readRegister(base, register.offset, byteCount: register.byteCount)
    return value.byteSwapped >> UInt64(64 - 8 * register.byteCount)
  }

  func read(_ kind: Calgary.RegisterKind, of bus: Bus) -> UInt64 { read(kind, bus.base, bus.phb) }

  func word(_ kind: Calgary.RegisterKind, of bus: Bus) -> UInt32 {
    UInt32(truncatingIfNeeded: read(kind, of: bus))
  }

  func write(_ value: UInt64, _ kind: Calgary.RegisterKind, of bus: Bus) {
    let register = Calgary.Register(kind, kind.description.stride == 0 ? 0 : bus.phb)
    let swapped = value.byteSwapped >> UInt64(64 - 8 * register.byteCount)
    platform.writeRegister(
      swapped, bus.base, register.offset, byteCount: register.byteCount)
  }

  // MARK: Finding

  /// Looks for host bridges in configuration space and takes memory for their tables, early in boot.
  package func detect() throws(SetUpError) {
    for number in 0..<configuration.version.busLimit {
      let number = UInt8(number)
      guard let model = wantedBus(number) else { continue }
      models[number] = model
      guard !configuration.takesOver else { continue }
      allocatedTables[number] = try platform.allocateTable(
        byteCount: configuration.chosenTableSize.byteCount, phb: allocatedTables.count)
    }
  }

  /// The chip above a bus that is to be translated; `nil` for any other bus.
  private func wantedBus(_ number: UInt8) -> Calgary.Chip.Model? {
    let identity = platform.readIdentity(of: Requester(bus: number, device: 0, function: 0))
    guard let model = Calgary.Chip.Model(deviceID: UInt16(identity >> 16)) else { return nil }
    if !rootBuses.contains(number) { rootBuses.append(number) }
    guard !configuration.disabledBuses.contains(number)
    else { return nil }
    // A CalIOC2 is always taken to have devices.
    let hasDevices =
      model == .calioc2
      || (1...7).contains { (device: UInt8) in
        platform.readIdentity(of: Requester(bus: number, device: device, function: 0)) != .max
      }
    return hasDevices || configuration.translatesEmptySlots ? model : nil
  }

  /// Finds the chips, asks them for their buses, and sets each wanted bus up.
  package func initialise() throws(SetUpError) {
    guard !models.isEmpty else { return }
    try findBridges()
    if configuration.takesOver { takeOverTables() }
    for (number, model) in models.sorted(by: { $0.key < $1.key }) {
      guard let (base, phb) = bridges[number], let table = allocatedTables[number] else { continue }
      setUp(number, model, base: base, phb: phb, table: table)
    }
  }

  /// Which PHB is above which bus: by asking the chips, or by counting before 2.6.20.
  private func findBridges() throws(SetUpError) {
    guard !configuration.version.findsChipsByFormula else {
      for (index, bus) in rootBuses.enumerated() {
        bridges[bus] = (Self.registerBaseByFormula(bus: bus), index % Calgary.hostBridgeCount)
      }
      return
    }
    let bases: [PhysicalAddress]
    do {
      bases = try platform.chipBases()
    } catch {
      throw .firmware(error)
    }
    for base in bases {
      for phb in 0..<Calgary.hostBridgeCount {
        let register = Calgary.BusRangeRegister(rawValue: UInt32(read(.stuff, base, phb)))
        for bus in register.buses ?? 0...0 where register.buses != nil {
          bridges[bus] = (base, phb)
        }
      }
    }
  }

  /// Reads from each TAR where the crashed kernel's table is, with the mistakes that Linux made.
  private func takeOverTables() {
    for number in 0..<configuration.version.busLimit {
      let number = UInt8(number)
      guard wantedBus(number) != nil, let (base, phb) = bridges[number] else { continue }
      let register = Calgary.TableAddressRegister(rawValue: read(.tableAddress, base, phb))
      allocatedTables[number] = register.tableAsKdumpKernelReadsIt(
        ownSize: configuration.chosenTableSize)
    }
  }

  private func setUp(
    _ number: UInt8, _ model: Calgary.Chip.Model, base: PhysicalAddress, phb: Int,
    table: PhysicalAddress
  ) {
    let size = configuration.chosenTableSize
    var bus = Bus(
      number: number, model: model, base: base, phb: phb, table: table, size: size,
      bitmap: NextFitBitmap(count: Int(size.entryCount)))
    if configuration.takesOver {
      let entries = platform.loadEntries(at: table, count: Int(size.entryCount))
      for (index, entry) in entries.enumerated() where entry != 0 {
        bus.bitmap.reserve(index..<(index + 1))
      }
    } else {
      platform.clearEntries(at: table, count: Int(size.entryCount))
    }
    reserveRegions(&bus)
    let old = Calgary.TableAddressRegister(rawValue: read(.tableAddress, of: bus))
    bus.tableAddress = old.asLinuxSets(table: table, size: size)
    write(bus.tableAddress.rawValue, .tableAddress, of: bus)
    _ = read(.tableAddress, of: bus)
    applyQuirk(bus)
    let configuration = Calgary.ConfigurationRegister(rawValue: word(.configuration, of: bus))
    write(UInt64(configuration.enablingTranslation.rawValue), .configuration, of: bus)
    _ = read(.configuration, of: bus)
    buses.append(bus)
  }

  private func applyQuirk(_ bus: Bus) {
    switch bus.model {
    case .calgary where bus.number == 1:
      let register = Calgary.ChipConfigurationRegister(rawValue: read(.chipConfiguration, of: bus))
      let new = register.settingSplitCompletionTimeout(
        Calgary.ChipConfigurationRegister.twoSeconds, phb: bus.phb)
      write(new.rawValue, .chipConfiguration, of: bus)
      _ = read(.chipConfiguration, of: bus)
    case .calgary: break
    case .calioc2:
      let register = Calgary.SaviorRegister(rawValue: word(.saviorL2, of: bus))
      write(UInt64(register.applyingQuirk.rawValue), .saviorL2, of: bus)
    }
  }

  /// Takes the regions that the chip does not translate, and those that mean "failed", out of use.
  private func reserveRegions(_ bus: inout Bus) {
    func pages(_ range: Range<UInt64>) -> Range<Int> {
      Int(range.lowerBound >> 12)..<Int(range.upperBound >> 12)
    }
    if configuration.version.hasEmergencyPages {
      bus.bitmap.reserve(0..<Self.emergencyPageCount)
    }
    switch bus.model {
    case .calgary: bus.bitmap.reserve(0xa0..<0x100)
    case .calioc2: bus.bitmap.reserve(0..<configuration.version.calIOC2ReservedPageCount)
    }
    let low = word(.memory1Low, of: bus)
    let high = word(.memory1High, of: bus)
    let last = word(.memory1Last, of: bus)
    var windows = [Calgary.HostBridgeWindow.memory1(low: low, high: high, last: last)]
    let configuration = Calgary.ConfigurationRegister(rawValue: word(.configuration, of: bus))
    if configuration.hasSecondWindow {
      let low = word(.memory2Low, of: bus)
      let high = word(.memory2High, of: bus)
      let lastLow = word(.memory2LastLow, of: bus)
      let lastHigh = word(.memory2LastHigh, of: bus)
      windows.append(
        Calgary.HostBridgeWindow.memory2(low: low, high: high, lastLow: lastLow, lastHigh: lastHigh)
      )
    }
    bus.windows = [0xa_0000..<0x10_0000]
    for case .some(let window) in windows {
      let bytes = window.lowerBound.rawValue..<window.upperBound.rawValue
      bus.windows.append(bytes)
      bus.bitmap.reserve(pages(bytes))
    }
  }

  /// Takes the memory windows of bridges out of use, late in boot.
  package func reserveBridgeWindows() {
    for index in buses.indices {
      for window in platform.bridgeWindows(below: buses[index].number) where window.lowerBound != 0
      {
        let start = Int(window.lowerBound >> 12)
        buses[index].bitmap.reserve(
          start..<(start + configuration.version.pageCount(ofBridgeWindow: window)))
      }
    }
  }

  // MARK: Mapping

  /// The table that translates for a device: that of the PHB above its bus.
  package func busIndex(of device: Requester) -> Int? {
    guard let bridge = bridges[device.bus] else { return nil }
    return buses.firstIndex { $0.base == bridge.base && $0.phb == bridge.phb }
  }

  /// Gives bytes of memory to a device.
  ///
  /// - Parameters:
  ///   - physical: The first byte.
  ///   - byteCount: May be 0 at a place inside a page, which then takes that page.
  ///   - permissions: What the device may do there.
  ///   - index: Which of the driver's buses, and so which table.
  /// - Returns: The number the device uses; `nil` when no run of entries is free, or none is needed.
  public func map(
    _ physical: PhysicalAddress, byteCount: UInt64, permissions: Permissions, on index: Int
  ) -> IOVA? {
    guard
      let count = PageCount(coveringBytes: byteCount, atOffset: physical.offsetInPage)?.rawValue,
      count > 0, count < buses[index].size.entryCount,
      let first = allocate(Int(count), on: index)
    else { return nil }
    // The driver does not mask the page; above 2^48 there is no memory.
    let page = PhysicalAddress(physical.rawValue & (1 << 48 - 1))
    platform.storeEntries(
      from: Calgary.TranslationControlEntry(page: page, permissions: permissions),
      count: Int(count), at: entryAddress(first, on: index))
    return IOVA(UInt64(first) << 12 | physical.offsetInPage)
  }

  /// Gives a page to a device at a number that somebody else has chosen; false where the number is in
  /// use, or beyond the table.
  func map(
    page: PhysicalAddress, at iova: IOVA, permissions: Permissions, on index: Int
  ) -> Bool {
    let number = iova.pageNumber
    guard number < buses[index].size.entryCount,
      buses[index].bitmap.firstTaken(in: Int(number)..<Int(number + 1)) == nil
    else { return false }
    buses[index].bitmap.reserve(Int(number)..<Int(number + 1))
    platform.storeEntries(
      from: Calgary.TranslationControlEntry(page: page, permissions: permissions), count: 1,
      at: entryAddress(Int(number), on: index))
    return true
  }

  /// Takes bytes back. No flush: the chip may go on using what its cache remembers.
  public func unmap(_ iova: IOVA, byteCount: UInt64, on index: Int) {
    guard let count = PageCount(coveringBytes: byteCount, atOffset: iova.offsetInPage)?.rawValue
    else { return }
    let first = iova.pageNumber
    // "Failed" is no mapping, and Linux only warns of it.
    if configuration.version.hasEmergencyPages, first < Self.emergencyPageCount { return }
    guard first < buses[index].size.entryCount, count <= buses[index].size.entryCount - first else {
      return
    }
    platform.clearEntries(at: entryAddress(Int(first), on: index), count: Int(count))
    buses[index].bitmap.free(Int(first)..<Int(first + count))
  }

  /// Takes pages out of use and maps each to itself, for reading and writing.
  public func installIdentity(_ pages: Range<Int>, on index: Int) {
    buses[index].bitmap.reserve(pages)
    platform.storeEntries(
      from: Calgary.TranslationControlEntry(
        page: PhysicalAddress(UInt64(pages.lowerBound) << 12), permissions: .readWrite),
      count: pages.count, at: entryAddress(pages.lowerBound, on: index))
  }

  /// Where the driver stores an entry.
  package func entryAddress(_ entry: Int, on index: Int) -> PhysicalAddress {
    PhysicalAddress(buses[index].table.rawValue &+ UInt64(entry) * 8)
  }

  /// The next run of free entries; flushes the chip's cache when the search has to start over.
  private func allocate(_ count: Int, on index: Int) -> Int? {
    let wraps = buses[index].bitmap.wrapCount
    let first = buses[index].bitmap.allocate(count)
    // The flush comes between the two searches; neither looks at the other.
    if buses[index].bitmap.wrapCount != wraps { flush(index) }
    return first
  }
}
