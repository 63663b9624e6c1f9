import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUTranslation

/// Plays what a real Calgary driver did against live chips, and compares what comes of it.
///
/// Stores change memory, register writes go to the chips, register reads must return what the
/// driver saw, and after every call each page in force must translate to its truth and each page
/// taken back must fault.
final class CalgaryReplay {
  var report: ReplayReport
  let memory: FlatMemory
  /// By the trace's chip numbers.
  var units: [CalgaryUnit?] = []
  let model: Calgary.Chip.Model
  let options: CalgaryOptions
  /// Whether every page is looked at after every call, and not only what may have changed.
  let isThorough: Bool

  /// The kernel whose trace is being played.
  var truth: TraceTruth
  var ledger: MappingLedger
  private var traceName = ""
  private var line = 0

  /// Registers that have been read or written, and so have a value that the model must know.
  private var known: Set<KnownRegister> = []
  /// PHBs that an error from outside has struck; their error registers change once more.
  private var struck: Set<TableKey> = []
  private var openCall: TraceCall?
  /// Something in a register may have changed what any page translates to.
  private var registersChanged = false

  var tables: [TableKey: PageTable] = [:]
  /// Mappings of devices that no table translates.
  var untranslated: [UInt64: TraceMapping] = [:]
  /// I/O pages whose entries were stored to since the last call ended.
  var touched: Set<TouchedPage> = []
  /// 4 KiB pages of memory that the driver stored to.
  var storedPages: Set<UInt64> = []
  /// Tables that were filled with zeros at once: what they hold is known from there on.
  var zeroedRanges: [Range<UInt64>] = []

  struct TableKey: Hashable {
    var chip: Int
    var phb: Int
  }

  private struct KnownRegister: Hashable {
    var chip: Int
    var register: Calgary.Register
  }

  struct TouchedPage: Hashable {
    var table: TableKey
    var page: UInt64
  }

  /// - Parameter cache: The chips' TCE cache; `nil` for none.
  /// - Throws: ``ImageError`` for RAM that no machine can have.
  init(
    truth: TraceTruth, cache: CalgaryOptions.CacheGeometry?, differenceLimit: Int,
    isThorough: Bool
  ) throws(ImageError) {
    self.truth = truth
    report = ReplayReport(differenceLimit: differenceLimit)
    self.isThorough = isThorough
    do {
      memory = try FlatMemory(ram: truth.memory)
    } catch {
      throw ImageError(file: truth.path, place: "ram", found: "\(error)")
    }
    ledger = MappingLedger(truth.mappings)
    model =
      truth.functions.contains { $0.vendor == 0x1014 && $0.device == 0x308 }
      ? .calioc2 : .calgary
    var options = CalgaryOptions()
    options.cache = cache
    // The traces' register file is storage where the hardware's own part is not known.
    options.pageMigration = .storage
    self.options = options
  }

  var place: String { "\(traceName):\(line)" }
  func differ(_ text: String) { report.differ(place, text) }

  /// Plays one trace to its end.
  ///
  /// - Returns: The number of the last event.
  func play(
    _ path: String, after sequence: UInt64?, observer: (TraceEvent) -> Void
  ) throws(ImageError) -> UInt64? {
    traceName = path
    var reader = try TraceReader(path: path, after: sequence)
    var last = sequence
    while let event = try reader.next() {
      line = event.line
      report.totals.events += 1
      apply(event)
      observer(event)
      last = event.sequence
    }
    sweep()
    if !ledger.isAtEnd { differ("mappings begin or end after the trace does") }
    return last
  }

  /// The next trace is another kernel's, on the same machine.
  func start(_ truth: TraceTruth) {
    self.truth = truth
    ledger = MappingLedger(truth.mappings)
    for unit in units { unit?.kexec() }
    for key in tables.keys { tables[key]!.driverOffset = 0 }
    for table in truth.tables where table.isTranslated {
      let offset = table.driverTable.rawValue &- table.hardwareTable.rawValue
      tables[TableKey(chip: table.chip, phb: table.phb), default: PageTable()].driverOffset = offset
    }
  }

  private func apply(_ event: TraceEvent) {
    switch event.action {
    case .register(let access): apply(access)
    case .configuration(let access): compare(access)
    case .memory(let store): apply(store)
    case .call(let call): openCall = call
    case .ret(let ret):
      finish(ret, at: event.sequence + 1)
    case .phase: sweep()
    case .tableAllocation, .cacheFlush, .housekeeping: break
    }
  }

  // MARK: Registers

  private func unit(_ access: RegisterAccess) -> CalgaryUnit {
    while units.count <= access.chip { units.append(nil) }
    if let unit = units[access.chip] {
      if unit.base != access.base {
        differ("chip \(access.chip) at \(access.base) and \(unit.base)")
      }
      return unit
    }
    let unit = CalgaryUnit(model: model, base: access.base, options: options)
    units[access.chip] = unit
    return unit
  }

  private func apply(_ access: RegisterAccess) {
    let unit = unit(access)
    guard access.isConsistent else {
      return differ("\(access.name): three notations of one value that do not agree")
    }
    guard let register = Calgary.Register(containing: access.offset),
      register.offset == access.offset, register.byteCount == access.byteCount
    else {
      return differ("\(access.name) at \(hexadecimal(access.offset)) is no register that is known")
    }
    let known = KnownRegister(chip: access.chip, register: register)
    if access.isWrite {
      report.totals.writes += 1
      unit.write(access.processorValue, at: access.offset, byteCount: access.byteCount)
      self.known.insert(known)
      written(register, chip: access.chip)
      return
    }
    let isFirst = self.known.insert(known).inserted
    if isFirst, !isTransient(access.value, register) {
      report.totals.firmwareReads += 1
      unit.set(register, to: access.value)
    } else if takeFromSurroundings(access, register, unit, isFirst: isFirst) {
      report.totals.environmentReads += 1
    } else {
      report.totals.reads += 1
    }
    let value = unit.read(at: access.offset, byteCount: access.byteCount)
    if value != access.processorValue {
      differ(
        "\(access.name) reads \(hexadecimal(value)), the driver saw "
          + hexadecimal(access.processorValue))
    }
    settle(register, unit)
  }

  /// Whether a value is one that passes: a queue that is busy, a stop that did not work.
  private func isTransient(_ value: UInt64, _ register: Calgary.Register) -> Bool {
    switch register.kind {
    case .splitQueue: !Calgary.SplitQueueRegister(rawValue: value).isIdle
    case .pageMigrationDebug:
      Calgary.PageMigrationRegister(rawValue: UInt32(value)).hasSoftStopFault
    default: false
    }
  }

  /// What passes has passed once it was seen.
  private func settle(_ register: Calgary.Register, _ unit: CalgaryUnit) {
    let value = unit.value(of: register)
    switch register.kind {
    case .splitQueue:
      unit.set(register, to: Calgary.SplitQueueRegister(rawValue: value).becomingIdle.rawValue)
    case .pageMigrationDebug:
      var debug = Calgary.PageMigrationRegister(rawValue: UInt32(value))
      debug.hasSoftStopFault = false
      unit.set(register, to: UInt64(debug.rawValue))
    default: break
    }
  }

  private func written(_ register: Calgary.Register, chip: Int) {
    let key = TableKey(chip: chip, phb: register.phb)
    switch register.kind {
    case .tableAddress:
      tables[key]?.forgetStale()
      registersChanged = true
    case .configuration: registersChanged = true
    case .channelStatus: struck.remove(key)
    default: break
    }
  }

  /// Values that the trace's surroundings decide: how long a queue is busy, whether a stop works,
  /// that a DMA failed, and what the error registers then show.
  private func takeFromSurroundings(
    _ access: RegisterAccess, _ register: Calgary.Register, _ unit: CalgaryUnit, isFirst: Bool
  ) -> Bool {
    let key = TableKey(chip: access.chip, phb: register.phb)
    let old = unit.value(of: register)
    guard old != access.value else { return false }
    switch register.kind {
    case .splitQueue:
      // Only the byte that says "idle" changes.
      guard isFirst || (old ^ access.value) << 8 == 0 else { return false }
    case .pageMigrationDebug:
      var expected = Calgary.PageMigrationRegister(rawValue: UInt32(old))
      expected.hasSoftStopFault = true
      guard isFirst || UInt64(expected.rawValue) == access.value else { return false }
    case .channelStatus:
      let status = Calgary.ChannelStatusRegister(rawValue: UInt32(access.value))
      guard status.hasError, !Calgary.ChannelStatusRegister(rawValue: UInt32(old)).hasError else {
        return false
      }
      struck.insert(key)
    case .plssr, .csmr, .mck, .error0, .error1, .error2, .error3, .error4, .error5, .error6,
      .rootComplexStatus:
      guard struck.contains(key) else { return false }
    default: return false
    }
    unit.set(register, to: access.value)
    return true
  }

  private func compare(_ access: ConfigurationAccess) {
    guard !access.isWrite else {
      return differ("a write to configuration space, which no Calgary driver makes")
    }
    guard access.offset == 0, access.byteCount == 4 else {
      // The truth lists identities and nothing else.
      report.totals.firmwareReads += 1
      return
    }
    report.totals.reads += 1
    guard let function = truth.functions.first(where: { $0.requester == access.function }) else {
      return differ("\(access.function) answers and is not in the list of devices")
    }
    let identity = UInt64(function.device) << 16 | UInt64(function.vendor)
    if identity != access.value {
      differ("\(access.function) is \(hexadecimal(identity)), not \(hexadecimal(access.value))")
    }
  }

  // MARK: Memory

  private func apply(_ store: MemoryStore) {
    report.totals.stores += store.wordCount
    let count = UInt64(store.byteCount)
    guard memory.isBacked(store.address, byteCount: count) else {
      return differ("a store to \(store.address), where no memory is")
    }
    if store.content == .zeros {
      memory.zero(at: store.address, byteCount: count)
    } else {
      memory.write(store.bytes, at: store.address)
    }
    let range = store.address.rawValue..<(store.address.rawValue + count)
    if store.content == .zeros, store.wordCount >= 8192 { zeroedRanges.append(range) }
    for page in (range.lowerBound >> 12)...((range.upperBound - 1) >> 12) {
      storedPages.insert(page)
    }
    touch(range, isZero: store.content == .zeros)
  }

  /// Remembers which I/O pages the stored bytes belong to, by the tables the chips have now.
  private func touch(_ range: Range<UInt64>, isZero: Bool) {
    for (chip, unit) in units.enumerated() {
      guard let unit else { continue }
      for phb in 0..<Calgary.hostBridgeCount {
        let address = Calgary.TableAddressRegister(rawValue: unit.value(of: .tableAddress, phb))
        let start = address.table.rawValue
        let overlap = range.clamped(to: start..<(start + address.tableSize.byteCount))
        guard !overlap.isEmpty else { continue }
        let key = TableKey(chip: chip, phb: phb)
        let pages = ((overlap.lowerBound - start) / 8)...((overlap.upperBound - 1 - start) / 8)
        if isZero, pages.count > 4096 {
          for page in (tables[key]?.pages ?? [:]).keys where pages.contains(page) {
            touched.insert(TouchedPage(table: key, page: page))
          }
        } else {
          for page in pages { touched.insert(TouchedPage(table: key, page: page)) }
        }
      }
    }
  }

  // MARK: Calls

  private func finish(_ ret: TraceReturn, at boundary: UInt64) {
    report.totals.calls += 1
    let (ended, begun) = ledger.advance(to: boundary)
    if let openCall {
      compare(openCall, ret, ended: ended, begun: Array(begun), boundary)
    }
    openCall = nil
    for mapping in ended { end(mapping) }
    for mapping in begun { begin(mapping) }
    if isThorough || registersChanged { sweep() } else { checkTouched() }
    registersChanged = false
  }

  private func compare(
    _ call: TraceCall, _ ret: TraceReturn, ended: [TraceMapping], begun: [TraceMapping],
    _ boundary: UInt64
  ) {
    for mapping in begun where mapping.firstSequence != boundary {
      differ("mapping \(mapping.identifier) begins at no call")
    }
    for mapping in ended where mapping.endSequence != boundary {
      differ("mapping \(mapping.identifier) ends at no call")
    }
    let name = call.function.rawValue
    for mapping in begun + ended where mapping.device != call.device {
      differ("\(name) for \(call.device!), mapping \(mapping.identifier) is of \(mapping.device)")
    }
    var isSame: Bool
    switch call.function {
    case .mapPage, .allocateCoherent:
      let physical = call.physical ?? ret.physical
      let direction = call.direction ?? .bidirectional
      // Drivers of the time say 0 or all ones when there was no room.
      let failed = begun.isEmpty && (ret.iova?.rawValue == 0 || ret.iova?.rawValue == .max)
      isSame =
        failed
        || begun.count == 1 && begun[0].iova == ret.iova && begun[0].physical == physical
          && begun[0].byteCount == call.count && begun[0].direction == direction
      isSame = isSame && ended.isEmpty
    case .mapSegments:
      isSame =
        ended.isEmpty && Int64(begun.count) == ret.result
        && (begun.isEmpty || UInt64(begun.count) == call.number)
        && begun.allSatisfy { $0.direction == call.direction }
    case .unmapPage, .freeCoherent, .unmapSegments:
      isSame =
        begun.isEmpty && !ended.isEmpty && (call.function == .unmapSegments || ended.count == 1)
        && ended.contains { $0.iova == call.iova && $0.byteCount == call.count }
        && ended.allSatisfy { call.direction == nil || $0.direction == call.direction }
    case .bindAGP, .unbindAGP:
      isSame = false
    }
    if !isSame { differ("\(name): trace and truth do not say the same") }
  }
}
