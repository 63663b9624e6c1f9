import IOMMUFormats
import IOMMUTranslation

/// A live Calgary or CalIOC2 chip: 1 MiB of registers that are written, and caches that remember.
///
/// A kernel reaches it only through its registers and the tables in memory. Values are as the x86
/// processor sees them in ``read(at:byteCount:)`` and ``write(_:at:byteCount:)``: little-endian over
/// registers that are big-endian, so that a driver swaps their bytes. Everything that is not
/// publicly known is an option in ``CalgaryOptions``.
///
/// Not safe for use by several threads at once.
///
/// Source: Linux `pci-calgary_64.c`.
public final class CalgaryUnit {
  public let model: Calgary.Chip.Model
  /// BBAR: the physical base of the registers.
  public let base: PhysicalAddress
  public let options: CalgaryOptions

  /// The registers' values, their bits numbered as documented; in the order of `Register.all`.
  private var values: [UInt64]
  /// What the registers of each PHB say, worked out once per write.
  var bridges: [Bridge] = []
  /// Lines of memory that the processor's cache holds changed, as memory still has them.
  var heldLines: [UInt64: [UInt64]] = [:]

  /// What one PHB does at present.
  struct Bridge {
    var buses: ClosedRange<UInt8>?
    var configuration = Calgary.ConfigurationRegister(rawValue: 0)
    /// The table, its holes as the options have them; whether it is in force, the configuration says.
    var table: Calgary.TCETable
    /// The holes as the registers have them.
    var holes: Calgary.TCETable.Holes
    /// The caches and options leave nothing to do but what `table` does.
    var isPlain = false
    /// The CalIOC2's page migration has stopped the PHB.
    var isHardStopped = false
    var cache: TCECache?
  }

  /// A chip after power-on. Firmware gives each PHB its buses with ``setUpBuses(_:)``.
  public init(
    model: Calgary.Chip.Model, base: PhysicalAddress, options: CalgaryOptions = CalgaryOptions()
  ) {
    self.model = model
    self.base = base
    self.options = options
    values = []
    powerOn()
  }

  /// The registers' values at power-on; caches empty.
  public func powerOn() {
    values = Calgary.Register.all.map { register in
      switch register.kind {
      case .arbitration: UInt64(options.idleValues.arbitration)
      case .splitQueue: options.idleValues.splitQueue
      default: 0
      }
    }
    heldLines = [:]
    let noHoles = Calgary.TCETable.Holes(legacy: 0..<0, memory1: 0..<0, memory2: 0..<0)
    let noTable = Calgary.TCETable(
      table: PhysicalAddress(0), size: .kib64, refusesDualAddressCycles: false, holes: noHoles)
    bridges = (0..<Calgary.hostBridgeCount).map { _ in
      Bridge(table: noTable, holes: noHoles, cache: options.cache.map { TCECache($0) })
    }
    for phb in bridges.indices { refresh(phb) }
  }

  /// Another kernel is started without a reset of the machine.
  public func kexec() {
    switch options.kexec {
    case .keepsEverything: break
    case .dropsCaches: for phb in bridges.indices { dropCache(phb) }
    case .resets: powerOn()
    }
  }

  // MARK: Values, as documented

  private static let indices = Dictionary(
    uniqueKeysWithValues: Calgary.Register.all.enumerated().map { ($1, $0) })

  /// What a register holds, its bits numbered as documented. Reading it so changes nothing.
  public func value(of register: Calgary.Register) -> UInt64 { values[Self.indices[register]!] }

  public func value(of kind: Calgary.RegisterKind, _ phb: Int = 0) -> UInt64 {
    value(of: Calgary.Register(kind, phb))
  }

  private func word(_ kind: Calgary.RegisterKind, _ phb: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: value(of: kind, phb))
  }

  /// Sets a register as firmware or the chip itself does, whatever a write by software would do.
  ///
  /// Drops no cache. A split queue that is set stays as it is set.
  package func set(_ register: Calgary.Register, to value: UInt64) {
    values[Self.indices[register]!] =
      register.byteCount == 8 ? value : value & 0xffff_ffff
    refresh(register.phb)
  }

  /// As firmware leaves a chip: the buses of its PHBs and their MEM_1 windows.
  ///
  /// - Parameter buses: One range for each PHB; `nil` for a PHB without devices, whose own number
  ///   is then the one after its neighbour's last, if there is one.
  public func setUpBuses(_ buses: [ClosedRange<UInt8>?]) {
    var next: UInt8? = 0
    for phb in 0..<Calgary.hostBridgeCount {
      let own = phb < buses.count ? buses[phb] : nil
      var register = own.map {
        Calgary.BusRangeRegister(firstBus: $0.lowerBound, lastBus: $0.upperBound)
      }
      if register == nil, options.unusedBuses == .ownNumber {
        // After the last number of all there is none: a range the wrong way round.
        register = Calgary.BusRangeRegister(firstBus: next ?? 255, lastBus: next ?? 254)
      }
      next = (own?.upperBound ?? next).flatMap { $0 == 255 ? nil : $0 + 1 }
      set(.init(.stuff, phb), to: UInt64(register?.rawValue ?? 0))
      let window = options.firmwareWindow
      set(.init(.memory1Low, phb), to: window.lowerBound.rawValue & 0xffff_ffff)
      set(.init(.memory1High, phb), to: window.lowerBound.rawValue >> 32)
      set(.init(.memory1Last, phb), to: window.upperBound.rawValue - 1)
    }
  }

  /// The chip as its registers stand, as machine files keep it.
  public var chip: Calgary.Chip {
    Calgary.Chip(
      model: model, base: base,
      hostBridges: bridges.indices.map { hostBridge($0) })
  }

  /// The PHB whose buses include `bus`; of several the last one, as the Linux driver takes it.
  public func bridge(above bus: UInt8) -> Int? {
    bridges.lastIndex { $0.buses?.contains(bus) == true }
  }

  private func hostBridge(_ phb: Int) -> Calgary.Chip.HostBridge? {
    guard let buses = bridges[phb].buses else { return nil }
    return Calgary.Chip.HostBridge(
      buses: buses, tableAddress: .init(rawValue: value(of: .tableAddress, phb)),
      configuration: bridges[phb].configuration,
      memory1: Calgary.HostBridgeWindow.memory1(
        low: word(.memory1Low, phb), high: word(.memory1High, phb), last: word(.memory1Last, phb)),
      memory2: Calgary.HostBridgeWindow.memory2(
        low: word(.memory2Low, phb), high: word(.memory2High, phb),
        lastLow: word(.memory2LastLow, phb), lastHigh: word(.memory2LastHigh, phb)))
  }

  /// Works out what a PHB does from its registers.
  private func refresh(_ phb: Int) {
    let configuration = Calgary.ConfigurationRegister(rawValue: word(.configuration, phb))
    let address = Calgary.TableAddressRegister(rawValue: value(of: .tableAddress, phb))
    bridges[phb].buses = Calgary.BusRangeRegister(rawValue: word(.stuff, phb)).buses
    bridges[phb].configuration = configuration
    // The windows do not depend on buses; a bridge without any has holes like another.
    let bridge = Calgary.Chip.HostBridge(
      buses: 0...0, tableAddress: address, configuration: configuration,
      memory1: Calgary.HostBridgeWindow.memory1(
        low: word(.memory1Low, phb), high: word(.memory1High, phb), last: word(.memory1Last, phb)),
      memory2: Calgary.HostBridgeWindow.memory2(
        low: word(.memory2Low, phb), high: word(.memory2High, phb),
        lastLow: word(.memory2LastLow, phb), lastHigh: word(.memory2LastHigh, phb)))
    bridges[phb].holes = bridge.holes
    bridges[phb].table = Calgary.TCETable(
      table: address.table, size: address.tableSize,
      refusesDualAddressCycles: configuration.refusesDualAddressCycles, holes: bridge.holes)
    bridges[phb].isPlain = configuration.translates && !isBlocked(phb) && hasPlainOptions
  }

  /// Whether the options leave nothing to do but what a ``Calgary/TCETable`` does.
  private var hasPlainOptions: Bool {
    options.cache == nil && options.unusedEntryBits == .ignored
      && options.entryPermissions == .independent && options.misalignedTable == .added
      && options.beyondTable == .fault && options.tableReads == .coherent
      && options.holes == .blocked && options.dualAddressCycles == .untranslated
      && options.hubIdentifier == .ignored && options.interruptWrites == .untranslated
  }

  // MARK: Access by the processor

  /// Loads `byteCount` bytes as an x86 processor does: the byte at the lowest address is the least
  /// significant.
  ///
  /// Any offset and any width has an answer: an access that the options do not allow, or past the
  /// end, reads as all ones; what no register is known for reads as zero.
  public func read(at offset: UInt64, byteCount: Int) -> UInt64 {
    let allOnes: UInt64 = byteCount >= 8 ? .max : ~(.max << UInt64(8 * max(0, byteCount)))
    guard isAllowed(offset, byteCount) else { return allOnes }
    var result: UInt64 = 0
    var last: (register: Calgary.Register, value: UInt64)?
    for index in 0..<byteCount {
      let place = offset + UInt64(index)
      if let register = register(at: place) {
        if last?.register != register { last = (register, readEffect(register)) }
        let shift = UInt64(8 * (register.byteCount - 1 - Int(place - register.offset)))
        result |= (last!.value >> shift & 0xff) << UInt64(8 * index)
      } else if options.baseRegister == .readable, 0x500..<0x508 ~= place {
        result |= (base.rawValue >> UInt64(8 * (7 - (place - 0x500))) & 0xff) << UInt64(8 * index)
      }
    }
    return result
  }

  /// Stores the low `byteCount` bytes of `value` as an x86 processor does.
  ///
  /// What the options do not allow, and what no register is known for, changes nothing.
  public func write(_ value: UInt64, at offset: UInt64, byteCount: Int) {
    guard isAllowed(offset, byteCount) else { return }
    var pending: (register: Calgary.Register, bits: UInt64, mask: UInt64)?
    for index in 0..<byteCount {
      let place = offset + UInt64(index)
      guard let register = register(at: place) else { continue }
      if let done = pending, done.register != register {
        writeEffect(done.register, done.bits, mask: done.mask)
        pending = nil
      }
      let shift = UInt64(8 * (register.byteCount - 1 - Int(place - register.offset)))
      let byte = value >> UInt64(8 * index) & 0xff
      pending = (
        register, (pending?.bits ?? 0) | byte << shift, (pending?.mask ?? 0) | 0xff << shift
      )
    }
    if let done = pending { writeEffect(done.register, done.bits, mask: done.mask) }
  }

  private func isAllowed(_ offset: UInt64, _ byteCount: Int) -> Bool {
    guard 1...8 ~= byteCount, offset < Calgary.registerSpaceByteCount,
      UInt64(byteCount) <= Calgary.registerSpaceByteCount - offset
    else { return false }
    switch options.accessSizes {
    case .anyBytes: return true
    case .alignedWords: return (byteCount == 4 || byteCount == 8) && offset % UInt64(byteCount) == 0
    }
  }

  private func register(at offset: UInt64) -> Calgary.Register? {
    guard let register = Calgary.Register(containing: offset),
      model == .calioc2 || !register.kind.description.isCalIOC2Only
    else { return nil }
    return register
  }

  /// A register's value for a read by software, and what the read does.
  private func readEffect(_ register: Calgary.Register) -> UInt64 {
    var value = value(of: register)
    let phb = register.phb
    switch register.kind {
    case .pageMigrationControl:
      var control = Calgary.PageMigrationRegister(rawValue: UInt32(value))
      if options.pageMigration == .hardStopOnRead, control.softStops {
        bridges[phb].isHardStopped = true
        control.isHardStopped = true
      }
      value = UInt64(control.rawValue)
    case .pageMigrationDebug:
      var debug = Calgary.PageMigrationRegister(rawValue: UInt32(value))
      if bridges[phb].isHardStopped { debug.isHardStopped = true }
      value = UInt64(debug.rawValue)
    default: break
    }
    return value
  }

  private func writeEffect(_ register: Calgary.Register, _ bits: UInt64, mask: UInt64) {
    let old = value(of: register)
    let phb = register.phb
    var new = old & ~mask | bits
    switch register.kind.description.access {
    case .stored:
      if register.kind == .chipConfiguration, options.chipConfiguration == .readOnly { new = old }
    case .readOnly:
      new = old
    case .writeZeroClears:
      new = old & (bits | ~mask)
    case .tableAddress:
      if options.tableAddressUnusedBits == .readOnly {
        let writable = mask & Calgary.TableAddressRegister.softwareMask
        new = old & ~writable | bits & writable
      }
      if options.invalidation == .everyTableAddressWrite || isQuiesced(phb) { dropCache(phb) }
    case .pageMigration:
      // The stop itself is the chip's; software starts and ends it.
      var control = Calgary.PageMigrationRegister(rawValue: UInt32(new))
      if options.pageMigration == .hardStopOnRead { control.isHardStopped = false }
      if !control.softStops { bridges[phb].isHardStopped = false }
      new = UInt64(control.rawValue)
    }
    set(register, to: new)
  }

  // MARK: State that DMA and flushes look at

  /// Whether a driver has brought the PHB to rest.
  private func isQuiesced(_ phb: Int) -> Bool {
    switch model {
    case .calgary: value(of: .arbitration, phb) == 0
    case .calioc2:
      Calgary.PageMigrationRegister(rawValue: word(.pageMigrationControl, phb)).softStops
    }
  }

  /// Whether the PHB lets no request through at all.
  func isBlocked(_ phb: Int) -> Bool {
    let configuration = bridges[phb].configuration
    let slotsOff =
      options.slotDisable == .anyBit
      ? configuration.areSlotsDisabled
      : configuration == configuration.disablingSlots
    return slotsOff || isStopped(phb)
  }

  /// Whether an error has stopped the PHB, where the options say that one does.
  func isStopped(_ phb: Int) -> Bool {
    options.errorLatch == .firstAndStop
      && Calgary.ChannelStatusRegister(rawValue: word(.channelStatus, phb)).hasError
  }

  private func dropCache(_ phb: Int) { bridges[phb].cache?.drop() }
}
