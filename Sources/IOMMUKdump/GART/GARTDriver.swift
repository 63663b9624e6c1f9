import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// A kernel on an AMD GART: devices that cannot reach a buffer get it through the aperture.
///
/// The northbridges are reached by configuration accesses, the table by stores to memory. Entries
/// of the window that are free point to a scratch page, next-fit allocation finds them, and a flush
/// comes with a mapping, never with an unmapping. What versions of Linux do differently is in
/// ``GARTDriverVersion``. A kernel that boots after a crash is the same driver on other memory.
///
/// Source: Linux `pci-gart_64.c`, later `amd_gart_64.c`.
final class GARTDriver: DMADriver {
  static let emergencyPageCount = 32
  /// The window ends at a multiple of this.
  static let windowAlignment: UInt64 = 2 << 20

  /// Why a kernel leaves the GART alone.
  enum Idleness: Equatable {
    case noNorthbridge
    /// `iommu=off`, or all memory lies below 4 GiB.
    case notNeeded
    /// The nodes have no aperture, or not the same one.
    case noAperture
  }

  /// The GART in use.
  struct Active {
    var aperture: ApertureSearch.Aperture
    /// The whole GATT.
    var table: PhysicalAddress
    /// What an unmapped entry holds.
    var scratch: GART.GATTEntry
    /// The IOMMU's part of the aperture: its last pages.
    var window: Range<UInt64>
    var bitmap: NextFitBitmap
    /// AGP has the lower part of the aperture.
    var sharesWithAGP: Bool
    /// What an entry that AGP does not use holds: its scratch page, without the valid bit.
    var agpScratch: GART.GATTEntry

    /// The GATT index of the window's first page.
    var firstIndex: Int { Int((window.lowerBound - aperture.base) / 4096) }
  }

  let options: GARTOptions
  let hardware: Northbridges
  /// Function 3 of every northbridge.
  let functions: [Requester]
  private(set) var idleness: Idleness?
  private(set) var active: Active?
  private let pages: PagePool
  /// 0x9c as it was at boot: every flush writes it back with InvGart set, a walk error included.
  private let savedCacheControl: [GART.CacheControl]
  private var needsFlush = false

  /// Boots: looks for what is there, lays an aperture over RAM if there is none, and starts the
  /// GART if memory needs it.
  ///
  /// - Parameters:
  ///   - pages: The memory of this kernel.
  ///   - map: What this kernel takes for RAM.
  init(
    pages: PagePool, map: MemoryMap, hardware: Northbridges, options: GARTOptions = GARTOptions()
  ) throws(SetUpError) {
    self.pages = pages
    self.hardware = hardware
    self.options = options
    let search = ApertureSearch(hardware: hardware, map: map, options: options, pages: pages)
    search.clearInheritedGART()
    let outcome = search.findAperture()
    let functions = search.northbridges()
    self.functions = functions
    savedCacheControl = functions.map {
      GART.CacheControl(
        rawValue: UInt32(
          truncatingIfNeeded: hardware.readConfiguration(
            $0, at: Int(GART.RegisterOffset.cacheControl))))
    }
    let isNeeded =
      map.endOfRAM.rawValue > 1 << 32 || options.isForced || options.startsWithoutNeed
    switch outcome {
    case .none:
      idleness = functions.isEmpty ? .noNorthbridge : .noAperture
    case .panic:
      throw .outOfMemory(what: "an aperture; the kernel stops")
    case .aperture where options.isOff || !isNeeded:
      idleness = .notNeeded
    case .aperture(let aperture):
      let sharesWithAGP = search.agpBridge(trusting: aperture.order) != nil
      try start(aperture, sharesWithAGP: sharesWithAGP)
    }
  }

  private func start(
    _ aperture: ApertureSearch.Aperture, sharesWithAGP: Bool
  ) throws(SetUpError) {
    let count = Int(aperture.byteCount / 4096)
    let table = try pages.allocateTable(UInt64(count) * 4, what: "the GATT")
    let scratch = try pages.allocateTable(4096, what: "the GART's scratch page")
    let window = window(in: aperture, sharesWithAGP: sharesWithAGP)
    var bitmap = NextFitBitmap(count: Int(window.upperBound - window.lowerBound) / 4096)
    if options.version.hasEmergencyPages { bitmap.reserve(0..<Self.emergencyPageCount) }
    var agpScratch = GART.GATTEntry(rawValue: 0)
    if sharesWithAGP {
      let page = try pages.allocateTable(4096, what: "AGP's scratch page")
      agpScratch = GART.GATTEntry(rawValue: GART.GATTEntry(page: page).rawValue & ~3)
      for index in 0..<count { agpScratch.store(to: pages.memory, at: entryAddress(table, index)) }
    }
    let active = Active(
      aperture: aperture, table: table, scratch: GART.GATTEntry(page: scratch), window: window,
      bitmap: bitmap, sharesWithAGP: sharesWithAGP, agpScratch: agpScratch)
    self.active = active
    enable()
    if options.version.fillsWithScratch {
      for page in Self.emergencyPageCount..<bitmap.count { store(active.scratch, page: page) }
    } else if sharesWithAGP {
      for page in 0..<bitmap.count { store(GART.GATTEntry(rawValue: 0), page: page) }
    }
    flush()
  }

  /// All of the aperture, or its upper half with AGP, or as much as asked for; it ends at a multiple
  /// of 2 MiB.
  private func window(
    in aperture: ApertureSearch.Aperture, sharesWithAGP: Bool
  ) -> Range<UInt64> {
    let asked = options.windowByteCount.map { min($0, aperture.byteCount) & ~4095 }
    var size = asked ?? (sharesWithAGP ? aperture.byteCount / 2 : aperture.byteCount)
    let unaligned = (aperture.base + size) % Self.windowAlignment
    if unaligned != 0, size > Self.windowAlignment { size -= Self.windowAlignment - unaligned }
    let end = aperture.base + aperture.byteCount
    return (end - max(size, 4096))..<end
  }

  // MARK: Registers

  /// Points every northbridge to the table and switches it on, for the CPU and for devices.
  private func enable() {
    guard let active else { return }
    for function in functions {
      write(GART.TableBase(table: active.table).rawValue, .tableBase, function)
      var control = GART.ApertureControl(rawValue: read(.apertureControl, function))
      control.isEnabled = true
      control.blocksCPU = false
      control.blocksIO = false
      if options.version.walksWithoutProbes { control.walksWithoutProbes = true }
      write(control.rawValue, .apertureControl, function)
    }
  }

  /// Drops the TLB of every node and waits until that is done.
  func flush() {
    for (function, saved) in zip(functions, savedCacheControl) {
      var command = saved
      command.invalidates = true
      write(command.rawValue, .cacheControl, function)
    }
    for function in functions {
      // The hardware finishes; a bound keeps a broken model from hanging the kernel.
      for _ in 0..<1_000_000
      where !GART.CacheControl(rawValue: read(.cacheControl, function)).invalidates { break }
    }
    needsFlush = false
  }

  /// Power came back after suspend to RAM: the aperture again where the kernel had made it, then
  /// table, enable and flush.
  func resume() {
    guard let active else { return }
    if active.aperture.isFixed {
      ApertureSearch.write(active.aperture, to: functions, of: hardware)
    }
    enable()
    flush()
  }

  /// Orderly shutdown or kexec: GartEn is cleared, the table base stays. The crash path does not
  /// come here.
  func shutDown() {
    guard let active else { return }
    if active.sharesWithAGP, options.version.keepsAGPAtShutdown { return }
    for function in functions {
      var control = GART.ApertureControl(rawValue: read(.apertureControl, function))
      control.isEnabled = false
      write(control.rawValue, .apertureControl, function)
    }
  }

  private enum Register {
    case apertureControl, tableBase, cacheControl

    var offset: Int {
      switch self {
      case .apertureControl: Int(GART.RegisterOffset.apertureControl)
      case .tableBase: Int(GART.RegisterOffset.tableBase)
      case .cacheControl: Int(GART.RegisterOffset.cacheControl)
      }
    }
  }

  private func read(_ register: Register, _ function: Requester) -> UInt32 {
    UInt32(truncatingIfNeeded: hardware.readConfiguration(function, at: register.offset))
  }

  private func write(_ value: UInt32, _ register: Register, _ function: Requester) {
    hardware.writeConfiguration(UInt64(value), to: function, at: register.offset)
  }

  var units: [TranslationUnit] { hardware.units }

  // MARK: The table

  private func entryAddress(_ table: PhysicalAddress, _ index: Int) -> PhysicalAddress {
    PhysicalAddress(table.rawValue + UInt64(index) * 4)
  }

  /// Stores an entry for a page of the window.
  private func store(_ entry: GART.GATTEntry, page: Int) {
    guard let active else { return }
    entry.store(to: pages.memory, at: entryAddress(active.table, active.firstIndex + page))
  }

  // MARK: The DMA API

  private var rule: MappingRule {
    options.version == .linux2_6_27 ? .gartAndNommuLinux2_6_27 : .linux7_0
  }

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    let isOutOfReach = rule.needsHelp(buffer, mask: device.dmaMask)
    var iova = buffer.lowerBound.rawValue
    if isOutOfReach || (options.isForced && active != nil) {
      guard active != nil else {
        throw .beyondDeviceMask(buffer.lowerBound, mask: device.dmaMask)
      }
      if let remapped = try remap(buffer, direction: direction) {
        iova = remapped
      } else if isOutOfReach {
        throw fullWindow(buffer.byteCount, direction)
      }
    }
    return MappedBuffer(
      device: device, iova: IOVA(iova), byteCount: buffer.byteCount, direction: direction,
      buffer: buffer, target: buffer)
  }

  /// Takes entries of the window for a buffer; `nil` when there are none.
  private func remap(
    _ buffer: Range<PhysicalAddress>, direction: DMADirection
  ) throws(MappingFailure) -> UInt64? {
    guard !options.version.refusesBeyondEntries || buffer.upperBound.rawValue <= GART.physicalLimit
    else { throw .beyondDeviceMask(buffer.lowerBound, mask: GART.physicalLimit - 1) }
    let offset = buffer.lowerBound.offsetInPage
    guard let window = active?.window,
      let count = PageCount(coveringBytes: buffer.byteCount, atOffset: offset),
      count.rawValue > 0, let first = allocate(count)
    else { return nil }
    for page in 0..<Int(count.rawValue) {
      let target = PhysicalAddress(buffer.lowerBound.rawValue + UInt64(page) * 4096)
      // 2.6.27 does not look whether the entry can name the page.
      store(.wrapping(page: target), page: first + page)
    }
    if needsFlush { flush() }
    return window.lowerBound + UInt64(first) * 4096 + offset
  }

  /// Entries in one run, none across 4 GiB of bus addresses.
  private func allocate(_ count: PageCount) -> Int? {
    guard var active, let length = Int(exactly: count.rawValue), length < active.bitmap.count else {
      return nil
    }
    self.active = nil
    defer { self.active = active }
    let wraps = active.bitmap.wrapCount
    let base = Int(active.window.lowerBound / 4096 & 0xf_ffff)
    let first = active.bitmap.allocate(length, boundary: 1 << 20, offset: base)
    if options.flushesEveryMapping || active.bitmap.wrapCount != wraps { needsFlush = true }
    return first
  }

  /// What Linux does when the window is full: up to 128 KiB the driver is told by an address whose
  /// entries are invalid; beyond that, device and memory would part ways, and the kernel stops.
  private func fullWindow(_ byteCount: UInt64, _ direction: DMADirection) -> MappingFailure {
    if options.panicsWhenFull { return .panic("the GART window is full") }
    guard options.version.hasEmergencyPages, byteCount > UInt64(Self.emergencyPageCount) * 4096
    else { return .full("GART aperture") }
    return .panic(
      direction == .toDevice
        ? "random memory would be sent to the device" : "memory would be corrupted")
  }

  /// What a driver is told in place of an address when a mapping fails.
  var errorAddress: IOVA {
    guard options.version.hasEmergencyPages, let active else { return IOVA(.max) }
    return IOVA(active.window.lowerBound)
  }

  func unmap(_ mapped: MappedBuffer) {
    guard var active,
      let count = PageCount(coveringBytes: mapped.byteCount, atOffset: mapped.iova.offsetInPage)
    else { return }
    let emergency = options.version.hasEmergencyPages ? UInt64(Self.emergencyPageCount) * 4096 : 0
    let start = mapped.iova.rawValue
    guard start >= active.window.lowerBound + emergency, start < active.window.upperBound else {
      return
    }
    let first = Int((start - active.window.lowerBound) / 4096)
    let end = first + Int(count.rawValue)
    for page in first..<end { store(active.scratch, page: page) }
    self.active = nil
    active.bitmap.free(first..<end)
    if options.version.movesHintOnFree, first >= active.bitmap.hint { active.bitmap.setHint(end) }
    self.active = active
  }

  // MARK: AGP

  /// AGP binds pages of memory from an entry of the aperture on, then flushes.
  ///
  /// - Returns: Whether it did: not into the IOMMU's part, and not over pages that are bound.
  func bindAGP(_ memory: [PhysicalAddress], at firstEntry: Int) -> Bool {
    guard let active, active.sharesWithAGP, firstEntry >= 0, !memory.isEmpty,
      memory.count <= active.firstIndex - min(firstEntry, active.firstIndex),
      memory.indices.allSatisfy({ agpEntry(firstEntry + $0)?.isValid == false })
    else { return false }
    for (index, page) in memory.enumerated() {
      GART.GATTEntry(page: page)
        .store(to: pages.memory, at: entryAddress(active.table, firstEntry + index))
    }
    flush()
    return true
  }

  /// AGP gives entries back: they hold its scratch page again, without the valid bit; then a flush.
  func unbindAGP(_ entries: Range<Int>) {
    guard let active, active.sharesWithAGP else { return }
    for index in entries.clamped(to: 0..<active.firstIndex) {
      active.agpScratch.store(to: pages.memory, at: entryAddress(active.table, index))
    }
    flush()
  }

  private func agpEntry(_ index: Int) -> GART.GATTEntry? {
    active.flatMap { GART.GATTEntry(from: pages.memory, at: entryAddress($0.table, index)) }
  }

  /// Nothing: the aperture is no part of the crash kernel, and addresses outside it pass unchanged.
  func prepare(
    crashKernel _: [Range<PhysicalAddress>], for _: [Device], pageSize _: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] { [] }
}
