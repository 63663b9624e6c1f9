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
package final class GARTDriver {
  static let emergencyPageCount = 32
  /// The window ends at a multiple of this.
  static let windowAlignment: UInt64 = 2 << 20

  /// Why a kernel leaves the GART alone.
  package enum Idleness: Equatable {
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

  package let options: GARTOptions
  package let hardware: Northbridges
  /// Function 3 of every northbridge.
  let functions: [Requester]
  package private(set) var idleness: Idleness?
  var active: Active?
  let memory: FlatMemory
  private let pages: any GARTPages
  /// 0x9c as it was at boot: every flush writes it back with InvGart set, a walk error included.
  private let savedCacheControl: [GART.CacheControl]
  /// The cache may hold what the table no longer says: the next mapping flushes.
  var needsFlush = false

  /// Boots: looks for what is there, lays an aperture over RAM if there is none, and starts the
  /// GART if memory needs it.
  ///
  /// - Parameters:
  ///   - pages: The memory of this kernel.
  ///   - map: What this kernel takes for RAM.
  package init(
    pages: any GARTPages, map: MemoryMap, hardware: Northbridges,
    options: GARTOptions = GARTOptions()
  ) throws(SetUpError) {
    self.pages = pages
    memory = pages.memory
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
    let window = window(in: aperture, sharesWithAGP: sharesWithAGP)
    let table = try pages.allocate(.table, byteCount: UInt64(count) * 4)
    let scratch = try pages.allocate(.scratchPage, byteCount: 4096)
    var active = Active(
      aperture: aperture, table: table, scratch: GART.GATTEntry(page: scratch), window: window,
      bitmap: NextFitBitmap(count: Int(window.upperBound - window.lowerBound) / 4096),
      sharesWithAGP: sharesWithAGP, agpScratch: GART.GATTEntry(rawValue: 0))
    if options.version.hasEmergencyPages { active.bitmap.reserve(0..<Self.emergencyPageCount) }
    if sharesWithAGP {
      let page = try pages.allocate(.agpScratchPage, byteCount: 4096)
      active.agpScratch = GART.GATTEntry(rawValue: GART.GATTEntry(page: page).rawValue & ~3)
    }
    self.active = active
    if sharesWithAGP { startAGP() }
    if !sharesWithAGP || options.version.enablesBesideAGP { enable() }
    if options.version.flushesBeforeFilling { flush() }
    fill()
    if !options.version.flushesBeforeFilling { flush() }
  }

  /// The entries of the window before anything is mapped.
  private func fill() {
    guard let active else { return }
    if options.version.fillsWithScratch {
      for page in Self.emergencyPageCount..<active.bitmap.count {
        store(active.scratch, page: page)
      }
    } else if active.sharesWithAGP {
      for page in 0..<active.bitmap.count { store(GART.GATTEntry(rawValue: 0), page: page) }
    }
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
  func enable() {
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
  package func flush() {
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
  package func resume() {
    guard let active else { return }
    if active.aperture.isFixed {
      ApertureSearch.write(active.aperture, to: functions, of: hardware)
    }
    enable()
    flush()
  }

  /// Orderly shutdown or kexec: GartEn is cleared, the table base stays. The crash path does not
  /// come here.
  package func shutDown() {
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

  // MARK: The table

  func entryAddress(_ table: PhysicalAddress, _ index: Int) -> PhysicalAddress {
    PhysicalAddress(table.rawValue + UInt64(index) * 4)
  }

  /// Stores an entry for a page of the window.
  func store(_ entry: GART.GATTEntry, page: Int) {
    guard let active else { return }
    entry.store(to: memory, at: entryAddress(active.table, active.firstIndex + page))
  }
}
