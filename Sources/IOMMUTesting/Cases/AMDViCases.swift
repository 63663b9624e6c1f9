import IOMMUFormats
import IOMMUTranslation

// What events have which code: AMD IOMMU specification, 2.5.2 to 2.5.5.

extension CaseDraft {
  mutating func makeHostTables() throws {
    // IO_PAGE_FAULT.
    let numbers = Numbers(unmappedRead: 2, unmappedWrite: 2, notReadable: 2, notWritable: 2)
    // Four buses: 1,024 entries of 32 bytes.
    let tables = try AMDVi.Tables(in: memory, lastBus: 3)
    let devices: [PCI.Function] = ["00:01.0", "00:1f.7", "03:00.0"]
    var mapped: [(device: PCI.Function, runs: [Run], levels: Int)] = []
    for device in devices.dropLast() {
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
    let passing = devices[2]
    try tables.pass(passing)
    if isDamaged {
      let (device, runs, levels) = pick(mapped)
      let entry = PhysicalAddress(
        tables.deviceTable.address.rawValue + UInt64(device.requester.rawValue) * 32)
      let low = memory.quadword(at: entry)!
      if runs.isEmpty || number(0...3) == 0 {
        // Mode 7: ILLEGAL_DEV_TABLE_ENTRY.
        memory.store(low | 7 << 9, at: entry)
        note("the device table entry of \(device) has mode 7", device, read: 1, write: 1)
      } else {
        let run = pick(runs)
        let places = path(
          number(run.iova...run.last), root: PhysicalAddress(low & 0x000f_ffff_ffff_f000),
          levels: levels
        ) { entry, _ in
          let next = Int(entry >> 9 & 7)
          return next == 0 || next == 7 ? nil : (entry & 0x000f_ffff_ffff_f000, next)
        }
        damageEntry(
          of: device, places,
          // Reserved bits and what is not present are IO_PAGE_FAULTs; PAGE_TAB_HARDWARE_ERROR.
          EntryDamage(
            notPresent: (read: 2, write: 2), reserved: (bit: 57, fault: 2), unreadable: 4))
      }
    }
    for (device, runs, levels) in mapped {
      let reach: UInt64 = 1 << UInt64(12 + 9 * levels)
      probe(device, runs, reach: reach, numbers)
      for access in [Access.read, .write] { add(device, reach, access, .fault(2)) }
    }
    for access in [Access.read, .write] {
      add(passing, 0x1234_5678, access, .memory(PhysicalAddress(0x1234_5678)))
      add("00:02.0", 0x1000, access, .fault(2))
      // Beyond the device table.
      add("04:00.0", 0x1000, access, .fault(2))
    }
    machine = tables.machine
  }
}
