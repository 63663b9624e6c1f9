import IOMMUFormats
import IOMMUTranslation

// What events have which code: AMD IOMMU specification, 2.5.2 to 2.5.5. 1 is ILLEGAL_DEV_TABLE_ENTRY, 2
// IO_PAGE_FAULT, 4 PAGE_TAB_HARDWARE_ERROR.

extension CaseDraft {
  /// All that page tables of either kind refuse.
  private static let pageFault = Numbers(
    unmappedRead: 2, unmappedWrite: 2, notReadable: 2, notWritable: 2)
  private static let hostDamage = EntryDamage(
    source: "AMD IOMMU 2.2.3", notPresent: (read: 2, write: 2), reservedBit: { _ in 57 },
    reserved: 2, unreadable: 4)
  /// Of guest tables nothing is reserved but what the processor's manual has so: PS above level 3, and bits
  /// 13 to the size of larger pages. AMD64 architecture, volume 2, 5.3.
  private static let guestDamage = EntryDamage(
    source: "AMD IOMMU 2.2.6", notPresent: (read: 2, write: 2),
    reservedBit: { $0.isPointer ? $0.level > 3 ? 7 : nil : $0.level > 1 ? 13 : nil }, reserved: 2,
    unreadable: 4)
  private static let entrySource = "AMD IOMMU 2.2.2"
  private static let devices: [PCI.Function] = ["00:01.0", "00:1f.7", "03:00.0"]

  mutating func makeHostTables() throws {
    // Four buses: 1,024 entries of 32 bytes.
    let tables = try AMDVi.Tables(in: memory, lastBus: 3)
    var mapped: [(device: PCI.Function, runs: [Run], levels: Int)] = []
    for device in Self.devices.dropLast() {
      let levels = pick([3, 4, 5])
      let domain = try tables.makeDomain(.host(levels: levels))
      let runs = runs(
        reach: 1 << UInt64(12 + 9 * levels), sizes: [12, 12, 13, 15, 16, 20, 21, 22, 25, 30],
        permissions: [.readWrite, .read, .write], targets: 48)
      for run in runs {
        try tables.map(
          in: domain, at: IOVA(run.iova), run.range, run.permissions, sizes: .largest)
      }
      try tables.bind(device, to: domain)
      mapped.append((device, runs, levels))
    }
    let passing = Self.devices[2]
    try tables.pass(passing)
    if isDamaged {
      let (device, runs, levels) = pick(mapped)
      let entry = deviceEntry(of: device, tables)
      let low = memory.quadword(at: entry)!
      if runs.isEmpty || number(0...3) == 0 {
        memory.store(low | 7 << 9, at: entry)
        note(
          "the device table entry of \(device) has mode 7", Self.entrySource, device, fault: 1)
      } else {
        let run = pick(runs)
        let places = path(
          number(run.iova...run.last), root: PhysicalAddress(low & 0x000f_ffff_ffff_f000),
          levels: levels
        ) { entry, _ in
          let next = Int(entry >> 9 & 7)
          return next == 0 || next == 7 ? nil : (entry & 0x000f_ffff_ffff_f000, next)
        }
        damageEntry(of: device, places, Self.hostDamage)
      }
    }
    for (device, runs, levels) in mapped {
      let reach: UInt64 = 1 << UInt64(12 + 9 * levels)
      probe(device, runs, reach: reach, Self.pageFault)
      addFaults(device, reach, 2)
    }
    for access in [Access.read, .write] {
      add(passing, 0x1234_5678, access, .memory(PhysicalAddress(0x1234_5678)))
    }
    addFaults("00:02.0", 0x1000, 2)
    // Beyond the device table.
    addFaults("04:00.0", 0x1000, 2)
    machine = tables.machine
  }

  /// Where a device's entry lies: 32 bytes for each number.
  private func deviceEntry(
    of device: PCI.Function, _ tables: AMDVi.Tables<FlatMemory>
  ) -> PhysicalAddress {
    PhysicalAddress(
      tables.deviceTable.address.rawValue + UInt64(device.requester.rawValue) * 32)
  }

  /// GCR3 bits 14:12 lie in 60:58 of a device's entry, 30:15 in 95:80, 51:31 in 127:107.
  private func guestRootTable(at entry: PhysicalAddress) -> PhysicalAddress {
    let low = memory.quadword(at: entry)!
    let high = memory.quadword(at: PhysicalAddress(entry.rawValue + 8))!
    return PhysicalAddress(
      ((low >> 58) & 7) << 12 | ((high >> 16) & 0xffff) << 15 | (high >> 43) << 31)
  }

  /// The next table of guest tables, as the processor's: PS says that there is none.
  private static func nextGuestTable(
    _ entry: UInt64, _ level: Int
  ) -> (table: UInt64, level: Int)? {
    level == 1 || entry & 0x80 != 0 ? nil : (entry & 0x000f_ffff_ffff_f000, level - 1)
  }

  mutating func makeGuestTables() throws {
    let rootLevels = pick([1, 2])
    let limit: UInt32 = 1 << UInt32(9 * rootLevels)
    let tables = try AMDVi.Tables(in: memory, lastBus: 3, pasidBits: 9 * rootLevels)
    let levels = pick([4, 5])
    // The lower half of the canonical addresses.
    let reach: UInt64 = 1 << UInt64(11 + 9 * levels)
    // One takes requests without PASID as those of PASID 0 (GIoV), the other finds no table for them.
    let first = UInt32(number(1...UInt64(limit - 3)))
    let spaces: [(device: PCI.Function, pasid: PASID?)] = [
      (Self.devices[0], nil), (Self.devices[0], PASID(first)), (Self.devices[0], PASID(first + 1)),
      (Self.devices[1], PASID(first)),
    ]
    var mapped: [(device: PCI.Function, pasid: PASID?, runs: [Run])] = []
    for (device, pasid) in spaces {
      let domain = try tables.makeDomain(.guest(levels: levels))
      let runs = runs(
        reach: reach, sizes: [12, 12, 21, 30], permissions: [.readWrite, .read], targets: 48)
      for run in runs {
        try tables.map(
          in: domain, at: IOVA(run.iova), run.range, run.permissions, sizes: .largest)
      }
      try tables.bind(device, pasid: pasid, to: domain)
      mapped.append((device, pasid, runs))
    }
    if isDamaged {
      let (device, pasid, runs) = pick(mapped)
      damageGuest(
        of: device, pasid, runs, levels: levels, rootLevels: rootLevels,
        entry: deviceEntry(of: device, tables))
    }
    for (device, pasid, runs) in mapped {
      probe(device, pasid: pasid, runs, reach: reach, Self.pageFault)
      // Which of two faults is found first, no source says.
      if pasid != nil, !isDamaged { addFaults(device, pasid: pasid, reach, 2) }
    }
    addFaults(Self.devices[1], 0x1000, 2)
    // Without a GCR3 entry, and beyond the GCR3 table.
    addFaults(Self.devices[0], pasid: PASID(first + 2), 0x1000, 2)
    addFaults(Self.devices[0], pasid: PASID(limit), 0x1000, 2)
    addFaults("00:02.0", 0x1000, 2)
    machine = tables.machine
  }

  private mutating func damageGuest(
    of device: PCI.Function, _ pasid: PASID?, _ runs: [Run], levels: Int, rootLevels: Int,
    entry: PhysicalAddress
  ) {
    let space = pasid?.rawValue ?? 0
    let high = PhysicalAddress(entry.rawValue + 8)
    func word(_ place: PhysicalAddress) -> UInt64 { memory.quadword(at: place)! }
    let name = "the device table entry of \(device)"
    let rootName = "the GCR3 entry of PASID \(space) of \(device)"
    let roots = guestRootTable(at: entry)
    let root = path(UInt64(space) << 12, root: roots, levels: rootLevels) { entry, level in
      level == 1 ? nil : (entry & 0x000f_ffff_ffff_f000, level - 1)
    }.last!.address
    switch number(0...9) {
    case 0:
      memory.store(word(entry) | 7 << 9, at: entry)
      note("\(name) has mode 7", Self.entrySource, device, fault: 1)
    case 1:
      memory.store(word(entry) | 3 << 56, at: entry)
      note("\(name) has GLX 3", Self.entrySource, device, fault: 1)
    case 2:
      memory.store(word(entry) & ~2, at: entry)
      note("\(name) has TV clear", Self.entrySource, device, fault: 2)
    case 3:
      memory.store(word(high) | (Self.nowhere >> 31) << 43, at: high)
      note(
        "the GCR3 table of \(device) lies above 2 TiB, where no memory is", Self.entrySource,
        device,
        pasids: 0...(1 << UInt32(9 * rootLevels) - 1), fault: 4)
    case 4:
      memory.store(word(root) & ~1, at: root)
      note(
        "\(rootName) is not valid", "AMD IOMMU 2.2.6", device, pasids: space...space, fault: 2)
    case 5:
      memory.store(Self.nowhere | 1, at: root)
      note(
        "\(rootName) leads to 2 TiB, where no memory is", "AMD IOMMU 2.2.6", device,
        pasids: space...space, fault: 4)
    default:
      guard let run = runs.isEmpty ? nil : pick(runs) else {
        memory.store(word(root) & ~1, at: root)
        return note(
          "\(rootName) is not valid", "AMD IOMMU 2.2.6", device, pasids: space...space, fault: 2)
      }
      damageEntry(
        of: device, pasids: space...space,
        path(
          number(run.iova...run.last),
          root: PhysicalAddress(word(root) & 0x000f_ffff_ffff_f000), levels: levels,
          next: Self.nextGuestTable),
        Self.guestDamage)
    }
  }

  mutating func makeNestedGuest() throws {
    let tables = try AMDVi.Tables(in: memory, lastBus: 3)
    let device = Self.devices[0]
    let pasid = PASID(UInt32(number(1...511)))
    let host = try tables.makeDomain(.host(levels: 4))
    let guest = try tables.makeDomain(.nested(levels: 4, host: host.id))
    let guestRuns = guestMemory(sizes: [12, 13, 16, 21, 22, 30], targets: 48)
    for run in guestRuns {
      try tables.map(in: host, at: IOVA(run.iova), run.range, run.permissions, sizes: .largest)
    }
    let reach: UInt64 = 1 << 47
    let outer = guestMappings(into: guestRuns, reach: reach, targets: 48)
    for run in outer {
      try tables.map(in: guest, at: IOVA(run.iova), run.range, run.permissions)
    }
    try tables.bind(device, pasid: pasid, to: guest)
    let entry = deviceEntry(of: device, tables)
    if isDamaged { damageNestedGuest(of: device, pasid, outer, entry: entry) }
    probe(device, pasid: pasid, guest: outer, Self.pageFault, host: guestRuns, Self.pageFault)
    if !isDamaged { addFaults(device, pasid: pasid, reach, 2) }
    // Requests without PASID have a guest's addresses.
    probe(device, guestRuns, from: 1 << 30, reach: 0xc000_0000, Self.pageFault)
    addFaults("00:02.0", pasid: pasid, 0x1000, 2)
    machine = tables.machine
  }

  private mutating func damageNestedGuest(
    of device: PCI.Function, _ pasid: PASID, _ mappings: [Run], entry: PhysicalAddress
  ) {
    let low = memory.quadword(at: entry)!
    let space = pasid.rawValue...pasid.rawValue
    // The guest's tables have the addresses that they have in the host.
    let root = PhysicalAddress(guestRootTable(at: entry).rawValue + UInt64(pasid.rawValue) * 8)
    let name = "the GCR3 entry of PASID \(pasid) of \(device)"
    switch number(0...6) {
    case 0:
      memory.store(low | 7 << 9, at: entry)
      note(
        "the device table entry of \(device) has mode 7", Self.entrySource, device, fault: 1)
    case 1:
      memory.store(low & ~0x000f_ffff_ffff_f000 | Self.nowhere, at: entry)
      note(
        "the host's table of \(device) lies at 2 TiB, where no memory is", Self.entrySource, device,
        fault: 4)
    case 2:
      // The host maps nothing there.
      memory.store(Self.nowhere | 1, at: root)
      note("\(name) leads to 2 TiB", "AMD IOMMU 2.2.6", device, pasids: space, fault: 2)
    default:
      guard let run = mappings.isEmpty ? nil : pick(mappings) else {
        memory.store(0 as UInt64, at: root)
        return note("\(name) is not valid", "AMD IOMMU 2.2.6", device, pasids: space, fault: 2)
      }
      var damage = Self.guestDamage
      damage.unreadable = 2
      damageEntry(
        of: device, pasids: space,
        path(
          number(run.iova...run.last),
          root: PhysicalAddress(memory.quadword(at: root)! & 0x000f_ffff_ffff_f000), levels: 4,
          next: Self.nextGuestTable),
        damage)
    }
  }
}
