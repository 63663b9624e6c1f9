import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// Hardware of which the lab has the table and its rules, and no registers: enough to ask what becomes of
/// leftover DMA.
///
/// Source: for POWER the driver's text of June 2006, for zx1 that of July 2007, for SMMUv3 the stream
/// table's rules in Arm IHI 0070 and what Linux does with GBPA, CR0 and the stream table in a crash kernel.
final class StreamTableModel: DMAPort {
  /// What a stream's entry says.
  enum Entry {
    /// Stopped; no event is recorded.
    case abort
    /// Addresses pass.
    case bypass
    /// Translated by a table.
    case translate(PageTableModel)
  }

  /// Every request is stopped, whatever the table says (GBPA.ABORT with SMMUEN clear).
  var abortsAll = false
  /// Faults of translation are recorded (the event queue is on).
  var recordsFaults = true
  /// What applies to a stream that has no entry.
  var otherwise = Entry.abort
  var entries: [Requester: Entry] = [:]

  func translate(_ request: DMARequest, in _: FlatMemory) -> Translation? {
    guard !abortsAll else { return .fault(.stopped) }
    switch entries[request.requester] ?? otherwise {
    case .abort: return .fault(.stopped)
    case .bypass:
      return .mapped(PhysicalAddress(request.address.rawValue), byteCount: request.byteCount)
    case .translate(let table):
      return table.translate(request) ?? .fault(.noTableEntry(isRecorded: recordsFaults))
    }
  }
}

extension StreamTableModel {
  /// A stream that is stopped sends nothing, translated or not.
  func refuses(translated request: DMARequest, in _: FlatMemory) -> Fault? {
    guard !abortsAll else { return .stopped }
    if case .abort = entries[request.requester] ?? otherwise { return .stopped }
    return nil
  }
}

/// Pages by number.
final class PageTableModel {
  /// The numbers that the table is for, half-open; others pass untranslated.
  let window: Range<UInt64>
  /// Pages by the number of the I/O page.
  var pages: [UInt64: PhysicalAddress] = [:]
  /// Numbers that mean themselves, half-open; a page of its own comes first.
  private var identity: [Range<UInt64>] = []

  init(window: Range<UInt64>) { self.window = window }

  /// The page of a request's first byte; `nil` where the table has none.
  func translate(_ request: DMARequest) -> Translation? {
    let address = request.address.rawValue
    guard window.contains(address) else {
      return .mapped(PhysicalAddress(address), byteCount: request.byteCount)
    }
    guard let page = page(of: address) else { return nil }
    let offset = address & 0xfff
    return .mapped(
      PhysicalAddress(page.rawValue + offset), byteCount: min(request.byteCount, 4096 - offset))
  }

  private func page(of address: UInt64) -> PhysicalAddress? {
    if let page = pages[address >> 12] { return page }
    return identity.contains { $0.contains(address) } ? PhysicalAddress(address & ~0xfff) : nil
  }

  /// Maps a range of whole pages to itself, however long it is.
  func mapIdentity(_ range: Range<PhysicalAddress>) {
    identity.append(range.lowerBound.rawValue..<range.upperBound.rawValue)
  }

  func map(_ buffer: Range<PhysicalAddress>, at iova: UInt64) {
    for (index, page) in stride(
      from: buffer.lowerBound.rawValue, to: buffer.upperBound.rawValue, by: 4096
    ).enumerated() { pages[iova >> 12 + UInt64(index)] = PhysicalAddress(page) }
  }
}

/// A kernel's numbers on such hardware: next fit in one table for all, or from the top of 4 GiB in one for
/// each device.
final class ModelDriver: DMADriver {
  let unit: StreamTableModel
  let kind: ModelHardware.Kind
  private var bitmap: NextFitBitmap
  /// Where each has its own, by ``Device/domainKey``.
  private var tables: [Requester: PageTableModel] = [:]
  private var allocators: [Requester: TopDownAllocator] = [:]

  init(_ kind: ModelHardware.Kind) {
    self.kind = kind
    unit = StreamTableModel()
    bitmap = NextFitBitmap(count: kind.entryCount)
    if let window = kind.sharedWindow {
      unit.otherwise = .translate(PageTableModel(window: window))
    }
  }

  var units: [TranslationUnit] { [] }
  var ports: [any DMAPort] { [unit] }

  func shareNumbers(_ one: Device, _ other: Device) -> Bool {
    kind.sharedWindow != nil || one.domainKey == other.domainKey
  }

  /// Of shared tables: how many numbers are in use.
  var usedCount: Int { (0..<bitmap.count).count { bitmap.isTaken($0) } }

  func table(of device: Device) -> PageTableModel {
    if case .translate(let table) = unit.entries[device.sourceID] ?? unit.otherwise { return table }
    let key = device.domainKey
    let table = tables[key] ?? PageTableModel(window: 0..<(1 << 48))
    unit.entries[device.sourceID] = .translate(table)
    guard tables.updateValue(table, forKey: key) == nil else { return table }
    var allocator = TopDownAllocator(space: [0x1000..<0x1_0000_0000])
    allocator.reserve(VTd.interruptAddresses)
    allocators[key] = allocator
    return table
  }

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    let table = table(of: device)
    let count = Int((buffer.byteCount + 4095) / 4096)
    let iova: UInt64
    if let window = kind.sharedWindow {
      guard let first = bitmap.allocate(count) else { throw .full("the table") }
      iova = window.lowerBound + UInt64(first) << 12
    } else {
      guard
        let number = allocators[device.domainKey]!.allocate(
          UInt64(count) << 12, alignment: 4096, below: min(device.dmaMask, (1 << 32) - 1) + 1)
      else { throw .full("IOVAs of \(device.requester)") }
      iova = number
    }
    table.map(buffer, at: iova)
    return MappedBuffer(buffer, at: IOVA(iova), device, direction)
  }

  func map(
    page: PhysicalAddress, at iova: IOVA, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    let table = table(of: device)
    let buffer = page..<PhysicalAddress(page.rawValue + 4096)
    let numbers = iova.rawValue..<(iova.rawValue + 4096)
    if let window = kind.sharedWindow {
      guard window.contains(iova.rawValue) else { throw .noChoice(iova) }
      let index = Int((iova.rawValue - window.lowerBound) >> 12)
      guard index < bitmap.count, !bitmap.isTaken(index) else { throw .full("IOVA \(iova)") }
      bitmap.reserve(index..<(index + 1))
    } else {
      guard allocators[device.domainKey]!.firstTaken(in: numbers) == nil else {
        throw .full("IOVA \(iova)")
      }
      allocators[device.domainKey]!.reserve(numbers)
    }
    table.map(buffer, at: iova.rawValue)
    return MappedBuffer(buffer, at: iova, device, direction)
  }

  func unmap(_ mapped: MappedBuffer) {
    let table = table(of: mapped.device)
    for page in stride(
      from: mapped.iovas.lowerBound.rawValue, to: mapped.iovas.upperBound.rawValue, by: 4096)
    {
      table.pages[page >> 12] = nil
      if let window = kind.sharedWindow {
        let index = Int((page - window.lowerBound) >> 12)
        bitmap.free(index..<(index + 1))
      }
    }
  }

  /// The identity map, and its numbers kept out of use.
  func prepare(
    crashKernel: [Range<PhysicalAddress>], for devices: [Device], pageSize _: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] {
    for device in devices {
      let table = table(of: device)
      for range in crashKernel {
        let numbers = range.lowerBound.rawValue..<range.upperBound.rawValue
        guard numbers.upperBound <= table.window.upperBound else {
          throw .beyondTable(
            name: kind.title, range: range, coverage: table.window.upperBound,
            wayOut: "move the crash kernel down")
        }
        bitmap.reserve(Int(numbers.lowerBound >> 12)..<Int(numbers.upperBound >> 12))
        allocators[device.domainKey]?.reserve(numbers)
        table.mapIdentity(range)
      }
    }
    return []
  }
}

/// Hardware in the lab that is a table and its rules alone.
struct ModelHardware: CrashHardware {
  enum Kind {
    /// POWER: one table of 524,288 entries for the bus; an empty entry stops the machine's bus.
    case pseries
    /// The same with 2,048 entries.
    case smallPSeries
    /// zx1: 1 GiB of numbers from 1 GiB on; all others pass; an empty entry stops the machine.
    case zx1
    /// SMMUv3: a table for each stream.
    case smmuv3

    var title: String {
      switch self {
      case .pseries, .smallPSeries: "the TCE table"
      case .zx1: "the I/O TLB"
      case .smmuv3: "the stream's table"
      }
    }

    /// The numbers of the one table that all devices have; `nil` where each has its own.
    var sharedWindow: Range<UInt64>? {
      switch self {
      case .pseries: 0..<0x8000_0000
      case .smallPSeries: 0..<0x80_0000
      case .zx1: 0x4000_0000..<0x8000_0000
      case .smmuv3: nil
      }
    }

    var entryCount: Int { sharedWindow.map { Int(($0.upperBound - $0.lowerBound) >> 12) } ?? 1 }
  }

  var kind: Kind

  func boot(_ setup: CrashSetup) throws(SetUpError) -> PrimaryKernel {
    // No mode of the tool has this hardware, and nothing asks for one.
    try PrimaryKernel(setup.configuration(.nommu)) { _ in ModelDriver(kind) }
  }

  func captureKernel(
    _ setup: CrashSetup, after primary: PrimaryKernel
  ) throws(SetUpError) -> any CaptureKernel {
    guard let old = primary.driver as? ModelDriver,
      setup.strategy != .rule, setup.strategy != .leaveAlone
    else { return try setup.blindKernel(primary.memory) }
    return try ModelCaptureKernel(
      setup.strategy, after: old, memory: primary.memory,
      crashKernel: setup.machine.map.crashKernel, memoryRanges: setup.firmwareMemory)
  }

  func unmappedNumber(_ setup: CrashSetup, _: PrimaryKernel) -> IOVA {
    IOVA(setup.strategy == .reuseWithFloorFreeing ? 0xa00_0000 : 0x7000_0000)
  }
}

/// A kernel after a crash on such hardware.
final class ModelCaptureKernel: CaptureKernel {
  /// What Linux on POWER wants free at least: entries.
  static let floor = 2048

  private let strategy: CrashStrategy
  private let old: ModelDriver
  private let pages: PagePool
  private let memoryRanges: [(device: Requester, range: Range<PhysicalAddress>)]
  private var bitmap: NextFitBitmap
  /// By ``Device/domainKey``.
  private var own: [Requester: (table: PageTableModel, iovas: TopDownAllocator)] = [:]
  /// Streams whose entries this kernel has written.
  private var attached: Set<Requester> = []
  /// Entries that were in use and were freed by force.
  private(set) var forcedCount = 0

  init(
    _ strategy: CrashStrategy, after old: ModelDriver, memory: FlatMemory,
    crashKernel: [Range<PhysicalAddress>],
    memoryRanges: [(device: Requester, range: Range<PhysicalAddress>)]
  ) throws(SetUpError) {
    self.strategy = strategy
    self.memoryRanges = memoryRanges
    self.old = old
    pages = PagePool(memory: memory, map: try MemoryMap(ram: crashKernel, crashKernel: []))
    bitmap = NextFitBitmap(count: old.kind.entryCount)
  }

  func takeOver(observing observe: (CaptureStep) -> Void) {
    let unit = old.unit
    switch strategy {
    case .abort:
      // GBPA.ABORT first, then SMMUEN off; on again with a table that stops everything.
      unit.abortsAll = true
      observe(.translationOff)
      unit.entries = [:]
      unit.otherwise = .abort
      // A crash kernel leaves the event queue off.
      unit.recordsFaults = false
      unit.abortsAll = false
    case .bypass:
      unit.entries = [:]
      unit.otherwise = .bypass
    case .adopt: unit.recordsFaults = false
    case .reuseWithFloor, .reuseWithFloorFreeing: takeTable()
    default:
      // A new, empty table.
      if let window = old.kind.sharedWindow {
        unit.otherwise = .translate(PageTableModel(window: window))
      }
    }
  }

  /// Finds the entries in use, and frees the highest by force where too few are free.
  private func takeTable() {
    guard case .translate(let table) = old.unit.otherwise else { return }
    for page in table.pages.keys { bitmap.reserve(Int(page)..<Int(page) + 1) }
    guard bitmap.count - table.pages.count < Self.floor else { return }
    let forced = max(0, bitmap.count - Self.floor)..<bitmap.count
    for index in forced {
      if table.pages.removeValue(forKey: UInt64(index)) != nil { forcedCount += 1 }
    }
    bitmap.free(forced)
  }

  func map(
    for device: Device, direction: DMADirection, page: PhysicalAddress?,
    observing observe: (CaptureStep) -> Void
  ) throws(MappingFailure) -> MappedBuffer {
    let buffer = try pages.bufferPage(page)
    let iova: UInt64
    if let window = old.kind.sharedWindow {
      guard let first = bitmap.allocate(1), case .translate(let table) = old.unit.otherwise else {
        throw .full(old.kind.title)
      }
      iova = window.lowerBound + UInt64(first) << 12
      table.map(buffer, at: iova)
    } else {
      if !attached.contains(device.sourceID) { attach(device, observe) }
      guard
        let number = own[device.domainKey]!.iovas.allocate(
          4096, alignment: 4096, below: min(device.dmaMask, (1 << 32) - 1) + 1)
      else { throw .full("IOVAs of \(device.requester)") }
      iova = number
      own[device.domainKey]!.table.map(buffer, at: iova)
    }
    return MappedBuffer(buffer, at: IOVA(iova), device, direction)
  }

  /// The stream's entry is stopped before it is written anew.
  private func attach(_ device: Device, _ observe: (CaptureStep) -> Void) {
    old.unit.entries[device.sourceID] = .abort
    observe(.tornDown)
    let key = device.domainKey
    if own[key] == nil { own[key] = makeDomain(key) }
    attached.insert(device.sourceID)
    old.unit.entries[device.sourceID] = .translate(own[key]!.table)
  }

  private func makeDomain(
    _ key: Requester
  ) -> (table: PageTableModel, iovas: TopDownAllocator) {
    let table = PageTableModel(window: 0..<(1 << 48))
    var iovas = TopDownAllocator(space: [0x1000..<0x1_0000_0000])
    iovas.reserve(VTd.interruptAddresses)
    for (owner, range) in memoryRanges where owner == key {
      iovas.reserve(range.lowerBound.rawValue..<range.upperBound.rawValue)
      table.map(range, at: range.lowerBound.rawValue)
    }
    return (table, iovas)
  }

  func unmap(_ buffer: MappedBuffer) {
    guard let window = old.kind.sharedWindow, case .translate(let table) = old.unit.otherwise else {
      return
    }
    let index = (buffer.iova.rawValue - window.lowerBound) >> 12
    table.pages[buffer.iova.rawValue >> 12] = nil
    bitmap.free(Int(index)..<Int(index) + 1)
  }
}
