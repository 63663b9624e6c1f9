import IOMMUFormats
import IOMMUTranslation

/// Function 3 of an AMD northbridge, alive: GART registers in configuration space, a TLB, and a log
/// of one walk error.
///
/// Software reaches it by configuration accesses only, devices and the CPU by `translate`.
/// Register behaviour: 0x90, 0x94 and 0x98 keep what is written, reserved bits read as zero
/// (*assumed*); 0x9c starts a flush and keeps the sticky walk error; the machine check registers
/// keep what is written. Power-on values are zero (*assumed*).
///
/// Source: Linux `gart.h`, `k8.c`; AMD BKDG for family 0Fh as quoted by open firmware.
public struct Northbridge: Sendable {
  /// What differs from one northbridge to the next.
  public struct Model: Sendable, Hashable {
    /// 0x1103 for family 0Fh, 0x1203 for family 10h.
    public var deviceID: UInt16 = 0x1103
    /// Family 0Fh: a read through an invalid entry reads the page that the entry names.
    public var hasErratum156 = false
    /// How often 0x9c still reads with InvGart set after a flush was asked for. Real time in
    /// hardware; *assumed* here: once.
    public var flushPollCount = 1
    /// *Assumed* off: the cache keeps its translations while GartEn is clear, and they count again
    /// when it is set.
    public var disablingDropsCache = false
    public var cache = GARTCache.Geometry.off

    public init() {}
  }

  /// Who makes an access.
  public enum Initiator: Sendable, CaseIterable {
    case device
    case cpu
  }

  public let model: Model
  /// Bus, device and function: 00:18.3 for node 0.
  public let function: Requester
  package private(set) var cache: GARTCache
  package private(set) var control = GART.ApertureControl(rawValue: 0)
  package private(set) var base = GART.ApertureBase(rawValue: 0)
  package private(set) var tableBase = GART.TableBase(rawValue: 0)
  package private(set) var cacheControl = GART.CacheControl(rawValue: 0)
  package private(set) var machineCheckControl = GART.MachineCheckControl(rawValue: 0)
  package private(set) var machineCheckStatus = GART.MachineCheckStatus(rawValue: 0)
  package private(set) var machineCheckAddress = GART.MachineCheckAddress(rawValue: 0)
  /// Flushes since power-on.
  package private(set) var flushCount = 0
  /// Walks that ended at an invalid entry or found no table, since power-on.
  package private(set) var walkErrorCount = 0
  private var space: PCI.ConfigurationSpace
  /// Reads of 0x9c that will still see the flush under way.
  private var remainingPolls = 0

  /// A northbridge after power-on.
  ///
  /// - Parameters:
  ///   - function: Its function 3.
  ///   - model: What it is, where northbridges differ.
  public init(function: Requester, model: Model = Model()) {
    self.function = function
    self.model = model
    cache = GARTCache(geometry: model.cache)
    space = PCI.ConfigurationSpace(
      vendorID: GART.northbridgeIDs[0].vendor, deviceID: model.deviceID, classCode: 0x06_0000)
    space.store(0x0080_0000, at: PCI.RegisterOffset.headerType)
  }

  /// The registers as a unit of a machine.
  public var registers: GART.Node {
    GART.Node(
      device: function, control: control, base: base, tableBase: tableBase,
      hasErratum156: model.hasErratum156)
  }

  /// Puts a register to the value that firmware or an earlier kernel left, without what a write
  /// would set off: no flush, no clearing. Reserved bits stay zero.
  ///
  /// - Parameter offset: A multiple of four inside the configuration space.
  package mutating func load(_ value: UInt32, at offset: Int) {
    switch UInt64(offset) {
    case Offset.cacheControl:
      cacheControl = written(value, .max, over: cacheControl)
      cacheControl.invalidates = false
      remainingPolls = 0
    case Offset.apertureControl: control = written(value, .max, over: control)
    case Offset.machineCheckControl...(Offset.machineCheckAddress + 4), Offset.apertureBase,
      Offset.tableBase:
      write(value, mask: .max, at: offset)
    default: space.store(value, at: offset)
    }
  }

  /// Takes the power away and brings it back: registers, log and cache are as at power-on.
  package mutating func powerCycle() { self = Northbridge(function: function, model: model) }

  // MARK: Configuration accesses

  private typealias Offset = GART.RegisterOffset

  /// A configuration read of any width and alignment, little-endian.
  ///
  /// The first read after a flush may still find it under way, so reading has an effect.
  ///
  /// - Parameters:
  ///   - offset: Any; bytes outside the configuration space read as ones.
  ///   - byteCount: 0 to 8.
  package mutating func readConfiguration(at offset: Int, byteCount: Int) -> UInt64 {
    var value: UInt64 = 0
    forEachDoubleword(at: offset, byteCount: byteCount) { doubleword, mask, shift in
      let word = UInt64(register(at: doubleword) & mask)
      value |= shift >= 0 ? word << UInt64(shift) : word >> UInt64(-shift)
      if doubleword == Int(Offset.cacheControl), mask & 1 != 0 { pollFlush() }
    }
    return value
  }

  /// A configuration write of any width and alignment, little-endian. Each doubleword it touches
  /// sees the bytes that are enabled; bytes outside the configuration space vanish.
  ///
  /// - Parameter byteCount: 0 to 8.
  package mutating func writeConfiguration(_ value: UInt64, at offset: Int, byteCount: Int) {
    forEachDoubleword(at: offset, byteCount: byteCount) { doubleword, mask, shift in
      let word = shift >= 0 ? value >> UInt64(shift) : value << UInt64(-shift)
      write(UInt32(truncatingIfNeeded: word), mask: mask, at: doubleword)
    }
  }

  /// The doubleword at `offset` as it stands, without the effect of a read.
  ///
  /// - Parameter offset: A multiple of four; all ones outside the configuration space.
  public func register(at offset: Int) -> UInt32 {
    guard offset >= 0 else { return .max }
    return switch UInt64(offset) {
    case Offset.apertureControl: control.rawValue
    case Offset.apertureBase: base.rawValue
    case Offset.tableBase: tableBase.rawValue
    case Offset.cacheControl: cacheControl.rawValue
    case Offset.machineCheckControl: machineCheckControl.rawValue
    case Offset.machineCheckStatus: UInt32(truncatingIfNeeded: machineCheckStatus.rawValue)
    case Offset.machineCheckStatus + 4: UInt32(machineCheckStatus.rawValue >> 32)
    case Offset.machineCheckAddress: UInt32(truncatingIfNeeded: machineCheckAddress.rawValue)
    case Offset.machineCheckAddress + 4: UInt32(machineCheckAddress.rawValue >> 32)
    default: space.doubleword(at: offset)
    }
  }

  private mutating func write(_ value: UInt32, mask: UInt32, at offset: Int) {
    guard offset >= 0 else { return }
    switch UInt64(offset) {
    case Offset.apertureControl:
      control = written(value, mask, over: control)
      if model.disablingDropsCache, !control.isEnabled { cache.removeAll() }
    case Offset.apertureBase: base = written(value, mask, over: base)
    case Offset.tableBase: tableBase = written(value, mask, over: tableBase)
    case Offset.cacheControl: writeCacheControl(GART.CacheControl(rawValue: value & mask))
    case Offset.machineCheckControl:
      machineCheckControl = written(value, mask, over: machineCheckControl)
    case Offset.machineCheckStatus:
      machineCheckStatus = written(value, mask, half: 0, over: machineCheckStatus)
    case Offset.machineCheckStatus + 4:
      machineCheckStatus = written(value, mask, half: 1, over: machineCheckStatus)
    case Offset.machineCheckAddress:
      machineCheckAddress = written(value, mask, half: 0, over: machineCheckAddress)
    case Offset.machineCheckAddress + 4:
      machineCheckAddress = written(value, mask, half: 1, over: machineCheckAddress)
    default:
      space.write(space.doubleword(at: offset) & ~mask | value & mask, at: offset)
    }
  }

  /// A register after a write of the bits in `mask`; reserved bits stay zero.
  private func written<Register: WordEntry>(
    _ value: UInt32, _ mask: UInt32, half: UInt64 = 0, over old: Register
  ) -> Register where Register.Variant == OnlyVariant {
    let shift = half * 32
    let mask = UInt64(mask) << shift
    let word = old.low & ~mask | UInt64(value) << shift & mask
    return Register(low: word & ~Register.reservedMasks(OnlyVariant()).low, high: 0)
  }

  // MARK: The flush

  /// Writing 1 to InvGart drops the cache at once (*assumed*) and says so some reads later; writing
  /// 0 changes nothing. Writing 1 to GartPteErr clears it (*assumed*).
  private mutating func writeCacheControl(_ written: GART.CacheControl) {
    if written.hasWalkError { cacheControl.hasWalkError = false }
    guard written.invalidates else { return }
    cache.removeAll()
    flushCount += 1
    remainingPolls = model.flushPollCount
    cacheControl.invalidates = remainingPolls > 0
  }

  private mutating func pollFlush() {
    guard remainingPolls > 0 else { return }
    remainingPolls -= 1
    if remainingPolls == 0 { cacheControl.invalidates = false }
  }

  // MARK: The log

  /// A walk met an invalid entry or no table: sticky error, and the log if it is empty. A full log
  /// keeps its first error (*assumed*) and says that more came.
  mutating func logWalkError(at address: UInt64) {
    walkErrorCount += 1
    cacheControl.hasWalkError = true
    guard !machineCheckStatus.isValid else {
      machineCheckStatus.hasOverflowed = true
      return
    }
    machineCheckStatus = .walkError(isReported: machineCheckControl.reportsWalkErrors)
    machineCheckAddress = GART.MachineCheckAddress(address: address)
  }

  // MARK: The cache

  mutating func cachedEntry(for page: UInt64) -> GART.GATTEntry? { cache.entry(for: page) }
  mutating func keep(_ entry: GART.GATTEntry, for page: UInt64) { cache.insert(entry, for: page) }
}
