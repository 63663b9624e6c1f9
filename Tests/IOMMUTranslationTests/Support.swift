import IOMMUFormats
@_exported import IOMMUTestSupport
import IOMMUTranslation

extension FlatMemory {
  /// Stores bytes written as a hexdump.
  func store(hex: String, at address: UInt64) {
    let stored = hexdump(hex).withUnsafeBytes { write($0, at: PhysicalAddress(address)) }
    precondition(stored == hexdump(hex).count, "no RAM for the hexdump")
  }

  func store(_ quadword: UInt64, at address: UInt64) {
    store(quadword, at: PhysicalAddress(address))
  }
}

extension VTd.Limits {
  /// A unit that allows what the arguments say; by default QEMU's of 39 bits.
  static func unit(
    hostAddressWidth: Int = 39, guestAddressWidth: Int = 39, widths: UInt8 = 0b00010,
    pages2MiB: Bool = true, pages1GiB: Bool = true, snoop: Bool = false, deviceTLBs: Bool = false,
    transient: Bool = false
  ) -> VTd.Limits {
    VTd.Limits(
      hostAddressWidth: hostAddressWidth, maximumGuestAddressWidth: guestAddressWidth,
      supportedWidths: widths, has2MiBPages: pages2MiB, has1GiBPages: pages1GiB, domainIDBits: 16,
      hasSnoopControl: snoop, hasPassThrough: true, hasDeviceTLBs: deviceTLBs,
      hasTransientMappings: transient)
  }
}

/// A machine with one VT-d unit whose root table lies at 0x100000.
func vtdMachine(_ limits: VTd.Limits, rootTableAddress: UInt64 = 0x10_0000, isOn: Bool = true)
  -> Machine
{
  Machine(
    name: "one VT-d unit",
    units: [
      .vtd(
        VTd.Unit(
          base: PhysicalAddress(0xfed9_0000),
          rootTableAddress: VTd.RootTableAddress(rawValue: rootTableAddress),
          status: VTd.GlobalStatus(rawValue: isOn ? 0xc000_0000 : 0), limits: limits))
    ])
}

/// 00:04.0.
let device = Requester(rawValue: 0x0020)

/// Root and context table of 00:04.0 at 0x100000 and 0x101000, as plain words: no code under test.
func storeContext(table: UInt64, widthCode: UInt64, in memory: FlatMemory) {
  memory.store(0x10_1001, at: 0x10_0000)
  memory.store(0, at: 0x10_0008)
  memory.store(table | 1, at: 0x10_1200)
  memory.store(widthCode | 5 << 8, at: 0x10_1208)
}

/// Builds second-stage tables out of plain words: no code under test has a hand in them.
struct TableBuilder {
  let memory: FlatMemory
  let root: UInt64
  let levels: Int
  /// Flags of an entry that points to a table: R and W, or P, R/W and U/S.
  let pointerFlags: UInt64
  private var next: UInt64

  init(in memory: FlatMemory, root: UInt64, levels: Int, pointerFlags: UInt64 = 3) {
    self.memory = memory
    self.root = root
    self.levels = levels
    self.pointerFlags = pointerFlags
    next = root + 4096
  }

  /// Writes `entry` at `level` for `iova`, with new tables above it where there are none.
  mutating func set(_ entry: UInt64, for iova: UInt64, level: Int) {
    var table = root
    for above in stride(from: levels, to: level, by: -1) {
      let place = table + (iova >> UInt64(12 + 9 * (above - 1)) & 511) * 8
      var pointer = memory.quadword(at: PhysicalAddress(place))!
      if pointer == 0 {
        pointer = next | pointerFlags
        next += 4096
        memory.store(pointer, at: place)
      }
      table = pointer & 0xf_ffff_ffff_f000
    }
    memory.store(entry, at: table + (iova >> UInt64(12 + 9 * (level - 1)) & 511) * 8)
  }

  /// Where the entry of `level` for `iova` lies.
  func place(of iova: UInt64, level: Int) -> UInt64 {
    var table = root
    for above in stride(from: levels, to: level, by: -1) {
      let place = table + (iova >> UInt64(12 + 9 * (above - 1)) & 511) * 8
      table = memory.quadword(at: PhysicalAddress(place))! & 0xf_ffff_ffff_f000
    }
    return table + (iova >> UInt64(12 + 9 * (level - 1)) & 511) * 8
  }
}

extension Translation {
  /// The VT-d fault number, when this is one.
  var reason: UInt8? {
    if case .fault(let fault) = self { fault.number } else { nil }
  }

  /// Mapped to this address for this many bytes.
  static func to(_ address: UInt64, _ byteCount: UInt64 = 1) -> Translation {
    .mapped(PhysicalAddress(address), byteCount: byteCount)
  }
}

/// Scalable-mode tables for 00:04.0 out of plain words: root table 0x100000, context table
/// 0x101000, PASID directory 0x120000, PASID table 0x121000.
struct ScalableTables {
  let memory: FlatMemory

  /// - Parameter context: The context entry's first quadword, without the directory's address.
  init(context: UInt64 = 1, requesterPASID: UInt64 = 0, byteCount: UInt64 = 8 << 20) throws {
    memory = try FlatMemory(byteCount: byteCount)
    memory.store(0x10_1001, at: 0x10_0000)
    memory.store(0x12_0000 | context, at: 0x10_1400)
    memory.store(requesterPASID, at: 0x10_1408)
    memory.store(0x12_1001, at: 0x12_0000)
  }

  /// Writes the first three quadwords of a PASID entry, which are all that is used.
  func set(_ words: [UInt64], pasid: UInt64 = 0) {
    for (index, word) in words.enumerated() {
      memory.store(word, at: 0x12_1000 + pasid * 64 + UInt64(index) * 8)
    }
  }

  func quadword(at address: UInt64) -> UInt64 { memory.quadword(at: PhysicalAddress(address))! }

  /// The resolver of a unit with these tables.
  func resolver(_ limits: VTd.Limits = .modern) -> VTd.Resolver { scalableResolver(limits) }

  /// A request's answer, with marks set in memory.
  func translate(_ request: VTd.Request, _ limits: VTd.Limits = .modern) -> Translation {
    var observer = Unobserved()
    return resolver(limits).translate(
      request, in: memory, marker: AtomicMarks(in: memory), observer: &observer)
  }

  /// An untranslated request of 00:04.0.
  func translate(
    _ address: UInt64, _ operation: VTd.Request.Operation = .read, pasid: UInt32? = nil,
    isPrivileged: Bool = false, on limits: VTd.Limits = .modern
  ) -> Translation {
    translate(
      VTd.Request(
        device, IOVA(address), operation, pasid: pasid.map { PASID($0) },
        isPrivileged: isPrivileged), limits)
  }
}

/// A unit whose scalable-mode root table lies at 0x100000.
func scalableResolver(_ limits: VTd.Limits, rootTableAddress: UInt64 = 0x10_0400) -> VTd.Resolver {
  VTd.Resolver(
    VTd.Unit(
      base: PhysicalAddress(0xfed9_0000),
      rootTableAddress: VTd.RootTableAddress(rawValue: rootTableAddress),
      status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: limits))
}

extension VTd.Limits {
  /// A unit of today with all that scalable mode knows, 46 bits of host address.
  static let modern = VTd.Limits(
    hostAddressWidth: 46, maximumGuestAddressWidth: 57, supportedWidths: 0b01110,
    has2MiBPages: true, has1GiBPages: true, domainIDBits: 16, hasSnoopControl: true,
    hasPassThrough: true, hasDeviceTLBs: true, hasTransientMappings: false,
    features: VTd.Features.all.subtracting([.permissionTables, .executeRequests]), pasidBits: 20,
    majorVersion: 6)

  /// The same without some of it.
  func without(_ features: VTd.Features) -> VTd.Limits {
    var limits = self
    limits.features.subtract(features)
    return limits
  }

  /// QEMU 7.2 with scalable mode and PASIDs, 48 bits.
  static let scalableQEMU = VTd.Limits(
    capability: VTd.Capability(rawValue: 0x00d2_008c_222f_0606),
    extendedCapability: VTd.ExtendedCapability(rawValue: 0x4900_80f0_0f4a), hostAddressWidth: 48)
}

extension Translation {
  /// A fault that is recorded.
  static func recorded(_ number: UInt8) -> Translation {
    .fault(.vtd(VTd.FaultReason(rawValue: number), isRecorded: true))
  }

  /// A fault whose record FPD suppresses.
  static func silent(_ number: UInt8) -> Translation {
    .fault(.vtd(VTd.FaultReason(rawValue: number), isRecorded: false))
  }
}
