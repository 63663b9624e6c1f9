import IOMMUFormats
import IOMMUTranslation

// What faults have which number: Intel VT-d 7.1.3, tables of fault reasons.

extension CaseDraft {
  /// A server's: 46-bit physical addresses, so that bits 51:46 of entries are reserved.
  private static let limits: VTd.Limits = {
    var limits = VTd.Limits.permissive
    limits.hostAddressWidth = 46
    return limits
  }()

  private static let devices: [PCI.Function] = ["00:03.0", "00:0f.2", "02:00.1"]
  /// On the bus of the first two, without tables; and on a bus without any.
  private static let unboundDevice: PCI.Function = "00:04.0"
  private static let unboundBus: PCI.Function = "05:00.0"

  /// The tables that entries of VT-d's page tables lead to: bits 51:12, unless bit 7 says that it is a page.
  private static func nextTable(_ entry: UInt64, _ level: Int) -> (table: UInt64, level: Int)? {
    level == 1 || entry & 0x80 != 0 ? nil : (entry & 0x000f_ffff_ffff_f000, level - 1)
  }

  mutating func makeSecondStage() throws {
    let numbers = Numbers(unmappedRead: 6, unmappedWrite: 5, notReadable: 6, notWritable: 5)
    let tables = try VTd.Tables(in: memory, limits: Self.limits)
    var mapped: [(device: PCI.Function, runs: [Run], levels: Int)] = []
    for device in Self.devices.dropLast() {
      let levels = pick([3, 4])
      let domain = try tables.makeDomain(.secondStage(levels: levels))
      let runs = runs(
        reach: Self.reach(levels: levels), sizes: [12, 12, 12, 21, 30],
        permissions: [.readWrite, .read, .write], targets: 46)
      for run in runs {
        try tables.map(
          in: domain, at: IOVA(run.iova), run.range, run.permissions,
          sizes: pick([.smallest, .largest].filter { run.byteCount <= 4 << 20 || $0 == .largest }))
      }
      try tables.bind(device, to: domain)
      mapped.append((device, runs, levels))
    }
    let passing = Self.devices[2]
    try tables.pass(passing)
    var root = tables.rootTableAddress
    if isDamaged { damageLegacy(&root, mapped) }
    for (device, runs, levels) in mapped {
      let reach = Self.reach(levels: levels)
      probe(device, runs, reach: reach, numbers)
      add(device, reach, .read, .fault(4))
      add(device, reach, .write, .fault(4))
    }
    for access in [Access.read, .write] {
      add(passing, 0x1234_5678, access, .memory(PhysicalAddress(0x1234_5678)))
      add(passing, 1 << 46, access, .fault(4))
      add(Self.unboundDevice, 0x1000, access, .fault(2))
      add(Self.unboundBus, 0x1000, access, .fault(1))
    }
    var machine = tables.machine
    machine.units = [
      .vtd(
        VTd.Unit(
          base: tables.base, rootTableAddress: root, status: VTd.GlobalStatus(translates: true),
          limits: Self.limits))
    ]
    self.machine = machine
  }

  private static func reach(levels: Int) -> UInt64 { 1 << UInt64(12 + 9 * levels) }

  private mutating func damageLegacy(
    _ root: inout VTd.RootTableAddress, _ mapped: [(device: PCI.Function, runs: [Run], levels: Int)]
  ) {
    let (device, runs, levels) = pick(mapped)
    let rootEntry = PhysicalAddress(root.rawValue + UInt64(device.requester.bus) * 16)
    let contexts = memory.quadword(at: rootEntry)! & ~0xfff
    let context = PhysicalAddress(contexts + UInt64(device.requester.deviceFunction) * 16)
    let low = memory.quadword(at: context)!
    let bus = [Self.devices[0], Self.devices[1], Self.unboundDevice]
    /// All devices of the first bus.
    func noteBus(_ draft: inout Self, _ text: String, _ fault: UInt8) {
      for device in bus { draft.note(text, device, read: fault, write: fault) }
    }
    switch number(0...9) {
    case 0:
      root = VTd.RootTableAddress(rawValue: 1 << 41)
      note("the root table lies at 2 TiB, where no memory is", nil, read: 8, write: 8)
    case 1:
      memory.store(0 as UInt64, at: rootEntry)
      noteBus(&self, "the root entry of bus 0 is not present", 1)
    case 2:
      memory.store(contexts | 1 | 1 << 4, at: rootEntry)
      noteBus(&self, "the root entry of bus 0 has reserved bit 4 set", 0xa)
    case 3:
      memory.store(1 << 41 | 1 as UInt64, at: rootEntry)
      noteBus(&self, "the context table of bus 0 lies at 2 TiB, where no memory is", 9)
    case 4:
      memory.store(low & ~1, at: context)
      note("the context entry of \(device) is not present", device, read: 2, write: 2)
    case 5:
      memory.store(low | 1 << 5, at: context)
      note("the context entry of \(device) has reserved bit 5 set", device, read: 0xb, write: 0xb)
    case 6:
      let high = PhysicalAddress(context.rawValue + 8)
      memory.store(memory.quadword(at: high)! | 7, at: high)
      note("the context entry of \(device) has AW 7", device, read: 3, write: 3)
    default:
      guard let run = runs.isEmpty ? nil : pick(runs) else {
        memory.store(low & ~1, at: context)
        return note("the context entry of \(device) is not present", device, read: 2, write: 2)
      }
      damageEntry(
        of: device,
        path(
          number(run.iova...run.last), root: PhysicalAddress(low & ~0xfff), levels: levels,
          next: Self.nextTable),
        EntryDamage(notPresent: (read: 6, write: 5), reserved: (bit: 48, fault: 0xc), unreadable: 7)
      )
    }
  }

  mutating func makeFirstStage() throws {
    let numbers = Numbers(
      unmappedRead: 0x71, unmappedWrite: 0x71, notReadable: nil, notWritable: 0x85)
    let tables = try VTd.Tables(in: memory, mode: .scalable, limits: Self.limits)
    var mapped: [(device: PCI.Function, runs: [Run])] = []
    // The lower half of the canonical addresses.
    let reach: UInt64 = 1 << 47
    for device in Self.devices {
      let domain = try tables.makeDomain(.firstStage(levels: 4))
      let runs = runs(
        reach: reach, sizes: [12, 12, 21, 30], permissions: [.readWrite, .read], targets: 46)
      for run in runs {
        try tables.map(
          in: domain, at: IOVA(run.iova), run.range, run.permissions, sizes: .largest)
      }
      try tables.bind(device, to: domain)
      mapped.append((device, runs))
    }
    if isDamaged, let (device, runs) = mapped.first(where: { !$0.runs.isEmpty }) {
      let run = pick(runs)
      let root = memory.quadword(at: pasidEntry(of: device, tables).advanced(byBytes: 16)!)!
      damageEntry(
        of: device,
        path(
          number(run.iova...run.last), root: PhysicalAddress(root & ~0xfff), levels: 4,
          next: Self.nextTable),
        EntryDamage(
          notPresent: (read: 0x71, write: 0x71), reserved: (bit: 48, fault: 0x72), unreadable: 0x70)
      )
    }
    for (device, runs) in mapped {
      probe(device, runs, reach: reach, numbers)
      add(device, reach, .read, .fault(0x80))
      add(device, reach, .write, .fault(0x80))
    }
    addUnboundScalable()
    machine = tables.machine
  }

  private mutating func addUnboundScalable() {
    for access in [Access.read, .write] {
      add(Self.unboundDevice, 0x1000, access, .fault(0x41))
      add(Self.unboundBus, 0x1000, access, .fault(0x39))
    }
  }

  /// Where the entry for requests without PASID lies, by the manual's arithmetic: 9.3 to 9.6.
  private func pasidEntry(
    of device: PCI.Function, _ tables: VTd.Tables<FlatMemory>
  ) -> PhysicalAddress {
    let (bus, number) = (UInt64(device.requester.bus), UInt64(device.requester.deviceFunction))
    func word(_ address: UInt64) -> UInt64 { memory.quadword(at: PhysicalAddress(address))! }
    let contexts = word(tables.rootTable.rawValue + bus * 16 + number >> 7 * 8) & ~0xfff
    let directory = word(contexts + (number & 127) * 32) & ~0xfff
    return PhysicalAddress(word(directory) & ~0xfff)
  }

  mutating func makeNested() throws {
    let tables = try VTd.Tables(in: memory, mode: .scalable, limits: Self.limits)
    let device = Self.devices[0]
    let host = try tables.makeDomain(.secondStage(levels: 4))
    let guest = try tables.makeDomain(.nested(levels: 4, host: host.id))
    // A guest of 4 GiB whose memory lies above its tables.
    let guestRuns = runs(
      from: 1 << 30, reach: 0xc000_0000, sizes: [12, 21, 21, 30],
      permissions: [.readWrite, .readWrite, .read], targets: 46)
    for run in guestRuns {
      try tables.map(in: host, at: IOVA(run.iova), run.range, run.permissions, sizes: .largest)
    }
    let reach: UInt64 = 1 << 47
    var outer = runs(
      reach: reach, sizes: [12, 12, 12, 21], permissions: [.readWrite, .read], targets: 46)
    for index in outer.indices {
      // Into the guest's memory, or beside it.
      let target = guestRuns.isEmpty ? nil : pick(guestRuns)
      let room = target.map { min(outer[index].byteCount, $0.byteCount) } ?? 4096
      outer[index].byteCount = room
      outer[index].physical =
        target.map { $0.iova + (number(0...($0.byteCount - room) >> 12)) << 12 } ?? 0xd000_0000
    }
    for run in outer {
      try tables.map(in: guest, at: IOVA(run.iova), run.range, run.permissions)
    }
    try tables.bind(device, to: guest)
    if isDamaged, !outer.isEmpty {
      let run = pick(outer)
      let root = memory.quadword(at: pasidEntry(of: device, tables).advanced(byBytes: 16)!)!
      // The guest's tables have the addresses that they have in the host.
      let places = path(
        number(run.iova...run.last), root: PhysicalAddress(root & ~0xfff), levels: 4,
        next: Self.nextTable)
      damageEntry(
        of: device, places,
        EntryDamage(
          // A guest has 48 bits of address, as the second stage has, and that maps nothing at 2 TiB.
          notPresent: (read: 0x71, write: 0x71), reserved: (bit: 48, fault: 0x74), unreadable: 0x79)
      )
    }
    let first = Numbers(
      unmappedRead: 0x71, unmappedWrite: 0x71, notReadable: nil, notWritable: 0x85)
    let second = Numbers(
      unmappedRead: 0x79, unmappedWrite: 0x79, notReadable: 0x86, notWritable: 0x85)
    var addresses: [UInt64] = []
    for run in outer {
      addresses += [run.iova, run.last, number(run.iova...run.last), run.last + 1]
    }
    for address in addresses {
      for access in [Access.read, .write] {
        var answer = answer(address, access, outer, first)
        if case .memory(let guestAddress) = answer {
          answer = self.answer(guestAddress.rawValue, access, guestRuns, second)
        }
        add(device, address, access, answer)
      }
    }
    add(device, reach, .read, .fault(0x80))
    addUnboundScalable()
    machine = tables.machine
  }
}

extension CaseDraft.Run {
  var range: Range<PhysicalAddress> {
    PhysicalAddress(physical)..<PhysicalAddress(physical + byteCount)
  }
}
