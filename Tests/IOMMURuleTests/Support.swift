import IOMMUFormats
import IOMMUKdump
import IOMMURule
import IOMMUTestSupport
import IOMMUTranslation

// MARK: Dumps

/// A dump of 16 MiB with a crash kernel of four pages at 2 MiB, its tables written by hand.
struct Dump {
  let memory: FlatMemory
  var machine: Machine

  init(_ units: [TranslationUnit], words: [(UInt64, UInt64)] = []) throws {
    memory = try FlatMemory(byteCount: 16 << 20)
    machine = Machine(
      name: "dump", units: units, ram: [.addresses(0..<0x100_0000)],
      crashKernel: [.addresses(0x20_0000..<0x20_4000)])
    for (address, word) in words { store(word, at: address) }
  }

  func store(_ word: UInt64, at address: UInt64) {
    memory.store(word, at: PhysicalAddress(address))
  }

  /// What a look at the dump judges, by somebody who may know what the kdump kernel needs.
  func check(
    devices: [String] = ["00:03.0", "00:04.0"], lacking pages: [UInt64] = [],
    _ change: (inout RuleEvidence) -> Void = { _ in }
  ) throws -> RuleCheck<LackingMemory> {
    var evidence = RuleEvidence(
      dump: machine, devices: devices.map { PCI.Function(Requester($0)!) })!
    change(&evidence)
    return RuleCheck(
      evidence: evidence,
      memory: LackingMemory(memory, without: Set(pages)))
  }

  /// Registers of a VT-d unit with a root table at 0x1000, without capabilities.
  static func unit(
    status: UInt32? = 0xc000_0000, limits: VTd.Limits = .permissive, scalable: Bool = false,
    interruptTable: UInt64? = nil
  ) -> TranslationUnit {
    .vtd(
      VTd.Unit(
        base: PhysicalAddress(0xfed9_0000),
        rootTableAddress: VTd.RootTableAddress(rawValue: scalable ? 0x1400 : 0x1000),
        status: status.map { VTd.GlobalStatus(rawValue: $0) }, limits: limits,
        interruptTableAddress: interruptTable.map { VTd.InterruptTableAddress(rawValue: $0) }))
  }

  /// Two devices, 00:03.0 and 00:04.0, each with the crash kernel mapped to itself in three levels, and
  /// 00:03.0 with one more page, IOVA 0x10000 -> 0x800000.
  static func vtd(status: UInt32? = 0xc000_0000) throws -> Dump {
    try Dump(
      [unit(status: status)],
      words: [
        (0x1000, 0x2001), (0x2180, 0x3001), (0x2188, 0x301), (0x2200, 0x6001), (0x2208, 0x401),
        (0x3000, 0x4003), (0x4000, 0x7003), (0x4008, 0x5003), (0x7080, 0x80_0003),
        (0x5000, 0x20_0003), (0x5008, 0x20_1003), (0x5010, 0x20_2003), (0x5018, 0x20_3003),
        (0x6000, 0x8003), (0x8008, 0x9003),
        (0x9000, 0x20_0003), (0x9008, 0x20_1003), (0x9010, 0x20_2003), (0x9018, 0x20_3003),
      ])
  }

  /// A unit whose root table is empty.
  static func vtdWithoutContexts() throws -> Dump { try Dump([unit()]) }

  /// A northbridge with an aperture of 32 MiB at 0x4000000, or lower, and its table at 0x40000.
  static func gart(aperture: UInt32 = 0x2, control: UInt32 = 0x1) throws -> Dump {
    try Dump([
      .gart(
        GART.Node(
          device: Requester("00:18.3")!, control: GART.ApertureControl(rawValue: control),
          base: GART.ApertureBase(rawValue: aperture), tableBase: GART.TableBase(rawValue: 0x400)))
    ])
  }

  /// A Calgary chip whose first bridge, with buses 0 to 1, has a table at 0x100000 that maps the
  /// crash kernel to itself.
  static func calgary(_ size: Calgary.TableSize = .kib64) throws -> Dump {
    let dump = try Dump([
      .calgary(
        Calgary.Chip(
          model: .calgary, base: PhysicalAddress(0xfe00_0000),
          hostBridges: [
            Calgary.Chip.HostBridge(
              buses: 0...1,
              tableAddress: Calgary.TableAddressRegister(rawValue: 0).setting(
                table: PhysicalAddress(0x10_0000), size: size),
              configuration: Calgary.ConfigurationRegister(rawValue: 0).enablingTranslation)
          ]))
    ])
    for page in UInt64(0x200)..<0x204 {
      dump.memory.store(bigEndian: page << 12 | 3, at: PhysicalAddress(0x10_0000 + page * 8))
    }
    return dump
  }

  /// No unit at all.
  static func nommu() throws -> Dump { try Dump([]) }
}

// MARK: Live crashes

/// Disk 01:01.0, NIC 02:01.0 and the 32-bit controller 00:03.0 of ``Device/usual``.
let disk = Device.usual[0]

/// A kernel of 256 MiB with 16 MiB of crash kernel at 32 MiB, which has done what the Rule demands, or
/// not, and has started its drivers.
func crash(
  _ mode: TranslationMode, applyingRule: Bool = true, devices: [Device] = Device.usual,
  crashKernel: [Range<PhysicalAddress>] = [.addresses(0x200_0000..<0x300_0000)],
  ramByteCount: UInt64 = 256 << 20
) throws -> PrimaryKernel {
  let ram = try MemoryMap.ram(byteCount: ramByteCount)
  let primary = try PrimaryKernel(
    MachineConfiguration(
      mode: mode, map: try MemoryMap(ram: ram, crashKernel: crashKernel), devices: devices))
  if applyingRule { try primary.applyRule() }
  CrashSimulation().startDrivers(primary)
  return primary
}

/// What is judged when the kernel crashes now.
func check(
  _ primary: PrimaryKernel, _ change: (inout RuleEvidence) -> Void = { _ in }
) -> RuleCheck<FlatMemory> {
  var evidence = primary.evidence()
  change(&evidence)
  return RuleCheck(evidence: evidence, memory: primary.memory)
}

/// The usual devices, none of which the kdump kernel needs.
let idleDevices = Device.usual.map { device in
  var device = device
  device.isNeededByKdump = false
  return device
}

/// Where the walk of the disk's IOVA ends.
func lastEntry(_ primary: PrimaryKernel, _ iova: UInt64) -> PhysicalAddress {
  struct Last: WalkObserver {
    var address = PhysicalAddress(0)
    mutating func read<Entry: TableEntry>(
      _: Entry, at address: PhysicalAddress, in _: TablePlace, index _: UInt64,
      as _: @autoclosure () -> Entry.Variant
    ) {
      self.address = address
    }
  }
  var last = Last()
  let handle = primary.machine.resolve(disk.requester, in: primary.memory)
  _ = handle.translate(
    IOVA(iova), byteCount: 1, access: .read, in: primary.memory, observer: &last)
  return last.address
}

extension Range<PhysicalAddress> {
  static func addresses(_ range: Range<UInt64>) -> Self {
    PhysicalAddress(range.lowerBound)..<PhysicalAddress(range.upperBound)
  }
}

extension RuleVerdict {
  /// The findings as `subject: text`.
  var texts: [String] {
    findings.map { finding in (finding.subjectText.map { "\($0): " } ?? "") + finding.text }
  }
}
