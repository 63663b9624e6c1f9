import IOMMUFormats
@_exported import IOMMUTestSupport
import IOMMUTranslation
import Synchronization

/// 1 MiB of RAM with tables of every kind, and the two machines that they belong to.
///
/// The entries are stored as numbers, not through the library's own initialisers: the bytes are
/// what the manuals say, whatever the code under test makes of them.
struct SmallMachine {
  let memory: FlatMemory
  /// A Calgary chip and a VT-d unit.
  let machine: Machine
  /// A GART; no machine with one has any of the others.
  let gartMachine: Machine

  static let limits = VTd.Limits(
    hostAddressWidth: 39, maximumGuestAddressWidth: 39, supportedWidths: 0b00110,
    has2MiBPages: true, has1GiBPages: false, domainIDBits: 16, hasSnoopControl: true,
    hasPassThrough: true, hasDeviceTLBs: false, hasTransientMappings: false)

  /// What is said of the entry with a reserved bit.
  static let damage =
    "00:05.0: every request faults 0xb, reserved bit set in the context entry: context table entry at "
    + "0x31280"

  init() throws {
    let memory = try FlatMemory(byteCount: 0x10_0000)
    self.memory = memory
    func store(_ words: [UInt64], at address: UInt64) {
      for (index, word) in words.enumerated() {
        memory.store(word, at: PhysicalAddress(address + 8 * UInt64(index)))
      }
    }
    // Calgary: a 64 KiB TCE table at 0x8000 for bus 1.
    //   TCE 0x100 → 0x12345000 rw, 0x101 → 0x12346000 rw, 0x102 → 0x5000 r-, 0x103 names 0x6000
    for (index, entry) in [0x1234_5003, 0x1234_6003, 0x5001, 0x6000 as UInt64].enumerated() {
      memory.store(bigEndian: entry, at: PhysicalAddress(0x8800 + 8 * UInt64(index)))
    }
    let bridge = Calgary.Chip.HostBridge(
      buses: 1...1, tableAddress: Calgary.TableAddressRegister(rawValue: 0x8000),
      configuration: Calgary.ConfigurationRegister(rawValue: 0x2110_0000))
    // GART: an aperture of 32 MiB at 0x4000000, its GATT at 0x20000.
    //   entry 0 → 0x12_3456_7000, 1 → 0x12_3456_8000, 2 free, 3 names 0x9000 without V
    for (index, entry) in [0x3456_7123, 0x3456_8123, 0, 0x9002 as UInt32].enumerated() {
      memory.store(entry, at: PhysicalAddress(0x2_0000 + 4 * UInt64(index)))
    }
    let node = GART.Node(
      device: Requester(bus: 0, device: 0x18, function: 3),
      control: GART.ApertureControl(rawValue: 1), base: GART.ApertureBase(rawValue: 2),
      tableBase: GART.TableBase(rawValue: 0x200))
    // VT-d: root[0] → context 0x31000, root[3] → context 0x32000
    store([0x31001, 0], at: 0x30000)
    store([0x32001, 0], at: 0x30030)
    //   00:03.0 and 00:03.1 → table 0x33000, three levels, domain 5; 00:04.0 pass-through;
    //   00:05.0 has reserved bit 4 set
    store([0x33001, 0x501, 0x33001, 0x501], at: 0x31000 + 0x18 * 16)
    store([0x9, 0x601], at: 0x31000 + 0x20 * 16)
    store([0x33011, 0x701], at: 0x31000 + 0x28 * 16)
    //   03:00.0 → table 0x36000, four levels, domain 6
    store([0x36001, 0x602], at: 0x32000)
    //   0x33000[0] → 0x34000; 0x34000[0] → 0x35000, [1] → 2 MiB at 0x400000, [2] with bit 12 set
    store([0x34003], at: 0x33000)
    store([0x35003, 0x40_0083, 0x60_1083], at: 0x34000)
    //   0x35000[16] → 0x50000 rw, [17] → 0x51000 rw, [18] → 0x52000 -w
    store([0x50003, 0x51003, 0x52002], at: 0x35080)
    //   0x36000[1] → 0x37000, which maps nothing
    store([0, 0x37003], at: 0x36000)
    let unit = VTd.Unit(
      base: PhysicalAddress(0xfed9_0000), rootTableAddress: VTd.RootTableAddress(rawValue: 0x30000),
      status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: Self.limits)
    machine = Machine(
      name: "small",
      units: [
        .calgary(
          Calgary.Chip(model: .calgary, base: PhysicalAddress(0xfe00_0000), hostBridges: [bridge])),
        .vtd(unit),
      ])
    gartMachine = Machine(name: "gart", units: [.gart(node)])
  }
}

/// Memory that counts how often an entry is read from it.
struct CountedMemory: PhysicalMemory {
  final class Count: Sendable {
    private let words = Atomic<Int>(0)
    var value: Int { words.load(ordering: .relaxed) }
    func add() { words.wrappingAdd(1, ordering: .relaxed) }
  }

  let base: FlatMemory
  let count = Count()

  func quadword(at address: PhysicalAddress) -> UInt64? {
    count.add()
    return base.quadword(at: address)
  }
  func doubleword(at address: PhysicalAddress) -> UInt32? {
    count.add()
    return base.doubleword(at: address)
  }
  func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    base.read(at: address, into: buffer)
  }
  var backedRanges: [Range<PhysicalAddress>] { base.backedRanges }
}

/// Memory that answers in some places only.
struct PatchyMemory: PhysicalMemory {
  var patches: [(start: UInt64, bytes: [UInt8])]

  func bytes<Word: FixedWidthInteger>(at address: PhysicalAddress, as _: Word.Type) -> Word? {
    var word: Word = 0
    let count = withUnsafeMutableBytes(of: &word) { read(at: address, into: $0) }
    return count == Word.bitWidth / 8 ? Word(littleEndian: word) : nil
  }
  func quadword(at address: PhysicalAddress) -> UInt64? { bytes(at: address, as: UInt64.self) }
  func doubleword(at address: PhysicalAddress) -> UInt32? { bytes(at: address, as: UInt32.self) }
  func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    for patch in patches
    where address.rawValue >= patch.start && address.rawValue - patch.start < patch.bytes.count {
      let rest = patch.bytes[Int(address.rawValue - patch.start)...].prefix(buffer.count)
      buffer.copyBytes(from: rest)
      return rest.count
    }
    return 0
  }
  var backedRanges: [Range<PhysicalAddress>] {
    patches.map {
      PhysicalAddress($0.start)..<PhysicalAddress($0.start + UInt64($0.bytes.count))
    }
  }
}

func addresses(_ range: Range<UInt64>) -> Range<PhysicalAddress> {
  PhysicalAddress(range.lowerBound)..<PhysicalAddress(range.upperBound)
}
