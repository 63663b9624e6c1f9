import IOMMUFormats
import IOMMUTranslation

/// A device table as a kernel writes it: one entry for each number that there can be.
struct AMDViDeviceTable {
  let memory: FlatMemory
  let start: PhysicalAddress
  let byteCount: UInt64

  /// Bytes of a table for devices up to `last`, as Linux counts: a power of two of pages.
  static func byteCount(lastDevice last: Requester) -> UInt64 {
    let pages = (UInt64(last.rawValue) + 1) * AMDVi.deviceTableEntryByteCount
    return max(4096, 1 << UInt64(64 - (pages - 1).leadingZeroBitCount))
  }

  /// A table in which every device has the same entry.
  init(
    pages: PagePool, lastDevice: Requester, filledWith entry: AMDVi.DeviceTableEntry
  ) throws(SetUpError) {
    let byteCount = Self.byteCount(lastDevice: lastDevice)
    // The register is written in two halves by some kernels, and its upper one by others not at all.
    let start = try pages.allocateTable(
      byteCount, below: 1 << 32, what: "the AMD-Vi device table")
    self.init(memory: pages.memory, start: start, byteCount: byteCount)
    let page = Self.page(filledWith: entry).bytes
    for offset in stride(from: 0, to: byteCount, by: 4096) {
      memory.write(page, at: PhysicalAddress(start.rawValue + offset))
    }
  }

  /// A page of the table in which every device has the same entry.
  static func page(
    filledWith entry: AMDVi.DeviceTableEntry
  ) -> (bytes: [UInt8], entryCount: Int) {
    let words = (0..<4).map { entry.quadwords[$0] }
    let bytes = words.flatMap { word in
      (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) }
    }
    return (Array(repeating: bytes, count: 128).flatMap { $0 }, 128)
  }

  /// A table that is there already.
  init(memory: FlatMemory, start: PhysicalAddress, byteCount: UInt64) {
    self.memory = memory
    self.start = start
    self.byteCount = byteCount
  }

  /// Entries in the table.
  var count: Int { Int(byteCount / AMDVi.deviceTableEntryByteCount) }

  /// The register that puts the table in force.
  var register: AMDVi.DeviceTableBase {
    AMDVi.DeviceTableBase(address: start, byteCount: byteCount)
  }

  func place(of device: Requester) -> PhysicalAddress {
    precondition(Int(device.rawValue) < count, "a device with a domain has an entry")
    return PhysicalAddress(
      start.rawValue + UInt64(device.rawValue) * AMDVi.deviceTableEntryByteCount)
  }

  /// A device's entry.
  subscript(device: Requester) -> AMDVi.DeviceTableEntry {
    get { AMDVi.DeviceTableEntry(from: memory, at: place(of: device))! }
    nonmutating set { newValue.store(to: memory, at: place(of: device)) }
  }
}

extension AMDVi.DeviceTableEntry {
  /// V and TV without rights: every request is stopped.
  static var blocked: Self { Self(mode: 0, domainID: 0, permissions: []) }

  /// V and TV with mode 0 and all rights: every request passes untranslated.
  static var passing: Self {
    Self(mode: 0, domainID: AMDViDriver.passingID, permissions: .readWrite)
  }

  /// The same entry with other tables; what firmware wants for the device stays.
  func translating(
    mode: Int, root: PhysicalAddress, domainID: UInt16, permissions: Permissions = .readWrite
  ) -> Self {
    let new = Self(mode: mode, root: root, domainID: domainID, permissions: permissions)
    var entry = self
    entry.quadwords[0] = new.quadwords[0]
    // DomainID alone: flags of the second quadword are firmware's and the kernel's own.
    entry.quadwords[1] = quadwords[1] & ~0xffff | UInt64(domainID)
    return entry
  }
}
