import IOMMUFormats
import IOMMUTranslation

// What faults have which number: Intel VT-d 7.1.3, tables of fault reasons.

extension CaseDraft {
  /// A server's: 46-bit physical addresses, so that bits 51:46 of entries are reserved, and second-stage
  /// tables of three and four levels.
  private static let limits: VTd.Limits = {
    var limits = VTd.Limits.permissive
    limits.hostAddressWidth = 46
    limits.maximumGuestAddressWidth = 48
    limits.supportedWidths = 0b00110
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
      addFaults(device, reach, 4)
    }
    for access in [Access.read, .write] {
      add(passing, 0x1234_5678, access, .memory(PhysicalAddress(0x1234_5678)))
    }
    for address in [1 << 46, 1 << 48] as [UInt64] { addFaults(passing, address, 4) }
    addFaults(Self.unboundDevice, 0x1000, 2)
    addFaults(Self.unboundBus, 0x1000, 1)
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
    let (rootSource, source) = ("Intel VT-d 9.1", "Intel VT-d 9.3")
    /// All devices of the first bus.
    func noteBus(_ draft: inout Self, _ text: String, _ fault: UInt8) {
      for device in bus { draft.note(text, rootSource, device, fault: fault) }
    }
    switch number(0...9) {
    case 0:
      root = VTd.RootTableAddress(rawValue: Self.nowhere)
      note(
        "the root table lies at 2 TiB, where no memory is", "Intel VT-d 11.4.5", nil, fault: 8)
    case 1:
      memory.store(0 as UInt64, at: rootEntry)
      noteBus(&self, "the root entry of bus 0 is not present", 1)
    case 2:
      memory.store(contexts | 1 | 1 << 4, at: rootEntry)
      noteBus(&self, "the root entry of bus 0 has reserved bit 4 set", 0xa)
    case 3:
      memory.store(Self.nowhere | 1, at: rootEntry)
      noteBus(&self, "the context table of bus 0 lies at 2 TiB, where no memory is", 9)
    case 4:
      memory.store(low & ~1, at: context)
      note("the context entry of \(device) is not present", source, device, fault: 2)
    case 5:
      memory.store(low | 1 << 5, at: context)
      note("the context entry of \(device) has reserved bit 5 set", source, device, fault: 0xb)
    case 6:
      let high = PhysicalAddress(context.rawValue + 8)
      memory.store(memory.quadword(at: high)! | 7, at: high)
      note("the context entry of \(device) has AW 7", source, device, fault: 3)
    default:
      guard let run = runs.isEmpty ? nil : pick(runs) else {
        memory.store(low & ~1, at: context)
        return note("the context entry of \(device) is not present", source, device, fault: 2)
      }
      damageEntry(
        of: device,
        path(
          number(run.iova...run.last), root: PhysicalAddress(low & ~0xfff), levels: levels,
          next: Self.nextTable),
        EntryDamage(
          source: "Intel VT-d 9.8", notPresent: (read: 6, write: 5), reservedBit: { _ in 48 },
          reserved: 0xc, unreadable: 7))
    }
  }

  private static let firstStageNumbers = Numbers(
    unmappedRead: 0x71, unmappedWrite: 0x71, notReadable: nil, notWritable: 0x85)
  private static let firstStageDamage = EntryDamage(
    source: "Intel VT-d 9.7", notPresent: (read: 0x71, write: 0x71), reservedBit: { _ in 48 },
    reserved: 0x72, unreadable: 0x70)
  /// In scalable mode.
  private static let secondStageNumbers = Numbers(
    unmappedRead: 0x79, unmappedWrite: 0x79, notReadable: 0x86, notWritable: 0x85)
  private static let secondStageDamage = EntryDamage(
    source: "Intel VT-d 9.8", notPresent: (read: 0x79, write: 0x79), reservedBit: { _ in 48 },
    reserved: 0x7a, unreadable: 0x78)

  mutating func makeFirstStage() throws {
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
      let root = memory.quadword(at: entries(of: device, tables).firstStage)!
      damageEntry(
        of: device,
        path(
          number(run.iova...run.last), root: PhysicalAddress(root & ~0xfff), levels: 4,
          next: Self.nextTable),
        Self.firstStageDamage)
    }
    for (device, runs) in mapped {
      probe(device, runs, reach: reach, Self.firstStageNumbers)
      addFaults(device, reach, 0x80)
    }
    addUnboundScalable()
    machine = tables.machine
  }

  private mutating func addUnboundScalable() {
    addFaults(Self.unboundDevice, 0x1000, 0x41)
    addFaults(Self.unboundBus, 0x1000, 0x39)
  }

  /// Where entries of an address space lie; of requests without PASID that is 0.
  private struct SpaceEntries {
    var context: PhysicalAddress
    var directory: PhysicalAddress
    var pasid: PhysicalAddress
    /// The quadword of the PASID table entry with FSPTPTR.
    var firstStage: PhysicalAddress { PhysicalAddress(pasid.rawValue + 16) }
  }

  /// By the manual's arithmetic: 9.2 to 9.6.
  private func entries(
    of device: PCI.Function, pasid: PASID? = nil, _ tables: VTd.Tables<FlatMemory>
  ) -> SpaceEntries {
    let (bus, number) = (UInt64(device.requester.bus), UInt64(device.requester.deviceFunction))
    let space = UInt64(pasid?.rawValue ?? 0)
    func word(_ address: UInt64) -> UInt64 { memory.quadword(at: PhysicalAddress(address))! }
    let contexts = word(tables.rootTable.rawValue + bus * 16 + number >> 7 * 8) & ~0xfff
    let context = contexts + (number & 127) * 32
    let directory = word(context) & ~0xfff + space >> 6 * 8
    return SpaceEntries(
      context: PhysicalAddress(context), directory: PhysicalAddress(directory),
      pasid: PhysicalAddress(word(directory) & ~0xfff + (space & 63) * 64))
  }

  mutating func makePASIDs() throws {
    // A directory of 2^(2 + 7) entries: PASIDs below 2^15.
    let limit: UInt32 = 1 << 15
    let tables = try VTd.Tables(
      in: memory, mode: .scalable, limits: Self.limits, pasidBits: limit.trailingZeroBitCount)
    let device = Self.devices[0]
    // Requests without PASID and two PASIDs of one PASID table, and one of another.
    let near = UInt32(number(1...60))
    let far = UInt32(number(64...UInt64(limit - 1)))
    var spaces: [Space] = []
    for pasid in [nil, PASID(near), PASID(near + 1), PASID(far)] {
      let isFirst = number(0...1) == 0
      let levels = isFirst ? 4 : pick([3, 4])
      let reach = isFirst ? 1 << 47 : Self.reach(levels: levels)
      let domain = try tables.makeDomain(
        isFirst ? .firstStage(levels: levels) : .secondStage(levels: levels))
      let runs = runs(
        reach: reach, sizes: [12, 12, 21, 30],
        permissions: isFirst ? [.readWrite, .read] : [.readWrite, .read, .write], targets: 46)
      for run in runs {
        try tables.map(
          in: domain, at: IOVA(run.iova), run.range, run.permissions, sizes: .largest)
      }
      try tables.bind(device, pasid: pasid, to: domain)
      spaces.append(
        Space(pasid: pasid, isFirst: isFirst, levels: levels, reach: reach, runs: runs))
    }
    let withoutPASIDs = Self.devices[1]
    try tables.bind(withoutPASIDs, to: try tables.makeDomain(.firstStage(levels: 4)))
    if isDamaged {
      let space = pick(spaces)
      damage(space, of: device, entries(of: device, pasid: space.pasid, tables))
    } else {
      // RID_PASID is 0, and no request may carry it; nor one that the directory has no entry for.
      addFaults(device, pasid: PASID(0), 0x1000, 0x48)
      addFaults(device, pasid: PASID(limit), 0x1000, 0x46)
    }
    for space in spaces {
      probe(
        device, pasid: space.pasid, space.runs, reach: space.reach,
        space.isFirst ? Self.firstStageNumbers : Self.secondStageNumbers)
      addFaults(device, pasid: space.pasid, space.reach, space.isFirst ? 0x80 : 0x84)
    }
    // Without a PASID table entry, and without a directory entry.
    addFaults(device, pasid: PASID(near + 2), 0x1000, 0x59)
    addFaults(device, pasid: PASID(far >> 6 == 1 ? 128 : 64), 0x1000, 0x51)
    addFaults(withoutPASIDs, pasid: PASID(near), 0x1000, 0x45)
    addUnboundScalable()
    machine = tables.machine
  }

  /// An address space of a device.
  private struct Space {
    /// `nil` for requests without PASID.
    var pasid: PASID?
    var isFirst: Bool
    var levels: Int
    var reach: UInt64
    var runs: [Run]

    /// Those that share its PASID table.
    var neighbours: ClosedRange<UInt32> {
      let first = (pasid?.rawValue ?? 0) & ~63
      return first...(first | 63)
    }
  }

  private mutating func damage(_ space: Space, of device: PCI.Function, _ places: SpaceEntries) {
    func word(_ place: PhysicalAddress) -> UInt64 { memory.quadword(at: place)! }
    let number = space.pasid?.rawValue ?? 0
    let (context, directory) = ("the context entry of \(device)", "the PASID directory entry")
    let entry = "the entry of PASID \(number) of \(device)"
    let neighbours = space.neighbours
    let group = "\(directory) of PASIDs \(neighbours.lowerBound) to \(neighbours.upperBound)"
    /// Stores a word over an entry.
    func store(_ word: UInt64, _ place: PhysicalAddress) { memory.store(word, at: place) }
    func noteGroup(_ draft: inout Self, _ text: String, _ fault: UInt8) {
      draft.note(
        "\(group) of \(device) \(text)", "Intel VT-d 9.5", device, pasids: neighbours,
        fault: fault)
    }
    func noteEntry(
      _ draft: inout Self, _ text: String, _ fault: UInt8, upTo last: UInt64 = .max
    ) {
      draft.note(
        "\(entry) \(text)", "Intel VT-d 9.6", device, pasids: number...number, 0...last,
        fault: fault)
    }
    let low = word(places.pasid)
    switch self.number(0...14) {
    case 0:
      store(word(places.context) & ~1, places.context)
      note("\(context) is not present", "Intel VT-d 9.4", device, fault: 0x41)
    case 1:
      store(word(places.context) | 1 << 7, places.context)
      note("\(context) has reserved bit 7 set", "Intel VT-d 9.4", device, fault: 0x42)
    case 2:
      store(word(places.context) & ~8, places.context)
      note(
        "\(context) has PASIDE clear", "Intel VT-d 9.4", device,
        pasids: 1...Self.anyPASID.upperBound, fault: 0x45)
    case 3:
      store(word(places.context) & 0xfff | Self.nowhere, places.context)
      note(
        "the PASID directory of \(device) lies at 2 TiB, where no memory is", "Intel VT-d 9.4",
        device, fault: 0x50)
    case 4:
      store(word(places.directory) & ~1, places.directory)
      noteGroup(&self, "is not present", 0x51)
    case 5:
      store(word(places.directory) | 1 << 2, places.directory)
      noteGroup(&self, "has reserved bit 2 set", 0x52)
    case 6:
      store(Self.nowhere | 1, places.directory)
      noteGroup(&self, "leads to 2 TiB, where no memory is", 0x58)
    case 7:
      store(low & ~1, places.pasid)
      noteEntry(&self, "is not present", 0x59)
    case 8:
      store(low | 1 << 5, places.pasid)
      noteEntry(&self, "has reserved bit 5 set", 0x5a)
    case 9:
      store(low | 7 << 6, places.pasid)
      noteEntry(&self, "has PGTT 7", 0x5b)
    case 10:
      let place = space.isFirst ? places.firstStage : places.pasid
      store(word(place) & 0xfff | Self.nowhere, place)
      // Addresses beyond the tables are refused before these are read: 3.6, 3.7.
      noteEntry(
        &self, "has its top table at 2 TiB, where no memory is", space.isFirst ? 0x73 : 0x7b,
        upTo: space.reach - 1)
    default:
      guard let run = space.runs.isEmpty ? nil : pick(space.runs) else {
        store(low & ~1, places.pasid)
        return noteEntry(&self, "is not present", 0x59)
      }
      let root = word(space.isFirst ? places.firstStage : places.pasid) & ~0xfff
      damageEntry(
        of: device, pasids: number...number,
        path(
          self.number(run.iova...run.last), root: PhysicalAddress(root), levels: space.levels,
          next: Self.nextTable),
        space.isFirst ? Self.firstStageDamage : Self.secondStageDamage)
    }
  }

  mutating func makeNested() throws {
    let tables = try VTd.Tables(in: memory, mode: .scalable, limits: Self.limits)
    let device = Self.devices[0]
    let host = try tables.makeDomain(.secondStage(levels: 4))
    let guest = try tables.makeDomain(.nested(levels: 4, host: host.id))
    let guestRuns = guestMemory(sizes: [12, 21, 21, 30], targets: 46)
    for run in guestRuns {
      try tables.map(in: host, at: IOVA(run.iova), run.range, run.permissions, sizes: .largest)
    }
    let reach: UInt64 = 1 << 47
    let outer = guestMappings(into: guestRuns, reach: reach, targets: 46)
    for run in outer {
      try tables.map(in: guest, at: IOVA(run.iova), run.range, run.permissions)
    }
    try tables.bind(device, to: guest)
    if isDamaged, !outer.isEmpty {
      let run = pick(outer)
      let root = memory.quadword(at: entries(of: device, tables).firstStage)!
      // The guest's tables have the addresses that they have in the host.
      let places = path(
        number(run.iova...run.last), root: PhysicalAddress(root & ~0xfff), levels: 4,
        next: Self.nextTable)
      damageEntry(
        of: device, places,
        EntryDamage(
          // A guest has 48 bits of address, as the second stage has, and that maps nothing at 2 TiB.
          source: "Intel VT-d 9.7", notPresent: (read: 0x71, write: 0x71),
          reservedBit: { _ in 48 }, reserved: 0x74, unreadable: 0x79))
    }
    probe(
      device, guest: outer, Self.firstStageNumbers, host: guestRuns, Self.secondStageNumbers)
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
