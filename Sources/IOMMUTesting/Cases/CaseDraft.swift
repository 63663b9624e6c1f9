import IOMMUFormats
import IOMMUTranslation
import IOMMUWorkloads

/// A case while it is made: what was mapped, and what a request must get for it.
struct CaseDraft {
  /// One mapping: consecutive bytes on both sides.
  struct Run {
    var iova: UInt64
    var physical: UInt64
    var byteCount: UInt64
    var permissions: Permissions

    func holds(_ address: UInt64) -> Bool { address >= iova && address - iova < byteCount }
    var last: UInt64 { iova + (byteCount - 1) }
  }

  /// What the damage makes of some requests of a device.
  struct Effect {
    /// `nil` for every device.
    var device: PCI.Function?
    /// Requests without PASID are of 0.
    var pasids: ClosedRange<UInt32>
    var addresses: ClosedRange<UInt64>
    var read: UInt8?
    var write: UInt8?
    /// Of a request that would be stopped anyway the manual does not say which fault is found first: such
    /// requests are left out.
    var isOnlyForAllowed = false

    func meets(_ device: PCI.Function, _ pasid: PASID?, _ address: UInt64) -> Bool {
      (self.device == nil || self.device == device) && pasids.contains(pasid?.rawValue ?? 0)
        && addresses.contains(address)
    }
  }

  static let anyPASID: ClosedRange<UInt32> = 0...0xf_ffff

  /// The numbers of a kind's faults.
  struct Numbers {
    /// Nothing is mapped there.
    var unmappedRead: UInt8?
    var unmappedWrite: UInt8?
    var notReadable: UInt8?
    var notWritable: UInt8?
  }

  var generator: SeededGenerator
  let isDamaged: Bool
  let memory: FlatMemory
  var machine: Machine?
  var damage: String?
  var damageSource: String?
  var probes: [TableCase.Probe] = []
  var effects: [Effect] = []

  init(seed: UInt64, isDamaged: Bool) {
    generator = SeededGenerator(seed: seed)
    self.isDamaged = isDamaged
    do {
      memory = try FlatMemory(byteCount: Self.memoryByteCount)
    } catch {
      preconditionFailure("16 MiB of address space: \(error)")
    }
  }

  /// Where the memory of every case ends: nothing answers from here on.
  static let memoryByteCount: UInt64 = 16 << 20

  // MARK: Chance

  mutating func number(_ range: ClosedRange<UInt64>) -> UInt64 {
    UInt64.random(in: range, using: &generator)
  }

  mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[Int(number(0...UInt64(elements.count - 1)))]
  }

  /// Mappings that do not overlap and stay clear of interrupts.
  ///
  /// - Parameters:
  ///   - reach: IOVAs lie below it.
  ///   - sizes: Pages that mappings may be large and aligned enough for, as powers of two.
  ///   - permissions: What each may allow.
  ///   - targets: Pages lie below 2^`targets`, and above 4 GiB.
  mutating func runs(
    from base: UInt64 = 0, reach: UInt64, sizes: [Int], permissions: [Permissions], targets: Int
  ) -> [Run] {
    var runs: [Run] = []
    for _ in 0..<number(4...10) {
      let size = UInt64(pick(sizes))
      let unit: UInt64 = 1 << size
      let byteCount = min(unit * number(1...(size == 12 ? 24 : 2)), (reach - base) / 4)
      guard byteCount >= 4096 else { continue }
      // Some lie in a row, so that tables are shared.
      let after = runs.last.map { $0.last + 1 + 4096 * (number(0...3) * 256) }
      let somewhere = base + number(0...(reach - base - byteCount) >> 12) << 12
      let start = (number(0...1) == 0 ? after ?? somewhere : somewhere) & ~(unit - 1)
      let physical = (number(1 << 32...(1 << UInt64(targets)) - byteCount)) & ~(unit - 1)
      let run = Run(
        iova: max(start, base), physical: max(physical, 1 << 32), byteCount: byteCount,
        permissions: pick(permissions))
      let isClear = !runs.contains { $0.iova <= run.last && run.iova <= $0.last }
      let interrupts: ClosedRange<UInt64> = 0xfee0_0000...0xfeef_ffff
      guard isClear, run.last < reach, !interrupts.overlaps(run.iova...run.last) else { continue }
      runs.append(run)
    }
    return runs
  }

  // MARK: Guests

  /// Memory of a guest of 4 GiB: it lies above the guest's tables.
  mutating func guestMemory(sizes: [Int], targets: Int) -> [Run] {
    runs(
      from: 1 << 30, reach: 0xc000_0000, sizes: sizes,
      permissions: [.readWrite, .readWrite, .read], targets: targets)
  }

  /// What a guest's own tables map: parts of its memory, or what is beside it.
  mutating func guestMappings(into memory: [Run], reach: UInt64, targets: Int) -> [Run] {
    var mappings = runs(
      reach: reach, sizes: [12, 12, 12, 21], permissions: [.readWrite, .read], targets: targets)
    for index in mappings.indices {
      let target = memory.isEmpty ? nil : pick(memory)
      let room = target.map { min(mappings[index].byteCount, $0.byteCount) } ?? 4096
      mappings[index].byteCount = room
      mappings[index].physical =
        target.map { $0.iova + (number(0...($0.byteCount - room) >> 12)) << 12 } ?? 0xd000_0000
    }
    return mappings
  }

  // MARK: Requests

  /// Requests to every mapping, its ends and beside them, and to addresses anywhere.
  mutating func probe(
    _ device: PCI.Function, pasid: PASID? = nil, _ runs: [Run], from base: UInt64 = 0,
    reach: UInt64, _ numbers: Numbers
  ) {
    var addresses: [UInt64] = []
    for run in runs {
      addresses += [run.iova, run.last, number(run.iova...run.last)]
      if run.iova > base { addresses.append(run.iova - 1) }
      if run.last < reach - 1 { addresses.append(run.last + 1) }
    }
    for _ in 0..<4 { addresses.append(base + number(0...reach - base - 1)) }
    for address in addresses where !(0xfee0_0000...0xfeef_ffff).contains(address) {
      for access in [Access.read, .write] {
        add(device, pasid: pasid, address, access, answer(address, access, runs, numbers))
      }
    }
  }

  /// Requests through a guest's mappings, and then through those of its host.
  mutating func probe(
    _ device: PCI.Function, pasid: PASID? = nil, guest: [Run], _ guestNumbers: Numbers,
    host: [Run], _ hostNumbers: Numbers
  ) {
    var addresses: [UInt64] = []
    for run in guest {
      addresses += [run.iova, run.last, number(run.iova...run.last), run.last + 1]
    }
    for address in addresses {
      for access in [Access.read, .write] {
        var answer = answer(address, access, guest, guestNumbers)
        if case .memory(let place) = answer {
          answer = self.answer(place.rawValue, access, host, hostNumbers)
        }
        add(device, pasid: pasid, address, access, answer)
      }
    }
  }

  /// A read and a write that nothing lets through.
  mutating func addFaults(
    _ device: PCI.Function, pasid: PASID? = nil, _ address: UInt64, _ number: UInt8?
  ) {
    for access in [Access.read, .write] {
      add(device, pasid: pasid, address, access, .fault(number))
    }
  }

  /// What runs make of a request.
  func answer(
    _ address: UInt64, _ access: Access, _ runs: [Run], _ numbers: Numbers
  ) -> TableCase.Answer {
    guard let run = runs.first(where: { $0.holds(address) }) else {
      return .fault(access == .read ? numbers.unmappedRead : numbers.unmappedWrite)
    }
    guard run.permissions.contains(access == .read ? .read : .write) else {
      return .fault(access == .read ? numbers.notReadable : numbers.notWritable)
    }
    return .memory(PhysicalAddress(run.physical + (address - run.iova)))
  }

  /// One request; damage comes before what was mapped.
  mutating func add(
    _ device: PCI.Function, pasid: PASID? = nil, _ address: UInt64, _ access: Access,
    _ answer: TableCase.Answer
  ) {
    let effect = effects.first { $0.meets(device, pasid, address) }
    if let effect, effect.isOnlyForAllowed, case .fault = answer { return }
    probes.append(
      TableCase.Probe(
        device: device, pasid: pasid, iova: IOVA(address), access: access,
        expected: effect.map { .fault(access == .read ? $0.read : $0.write) } ?? answer))
  }

  // MARK: Damage

  /// Notes what is wrong, and what follows for requests of one device, or of all.
  ///
  /// - Parameter source: Where the manual describes what is damaged.
  mutating func note(
    _ text: String, _ source: String, _ device: PCI.Function?,
    pasids: ClosedRange<UInt32> = anyPASID, _ addresses: ClosedRange<UInt64> = 0...(.max),
    read: UInt8?, write: UInt8?
  ) {
    (damage, damageSource) = (text, source)
    effects.append(
      Effect(device: device, pasids: pasids, addresses: addresses, read: read, write: write))
  }

  /// The same where reads and writes meet the same fault.
  mutating func note(
    _ text: String, _ source: String, _ device: PCI.Function?,
    pasids: ClosedRange<UInt32> = anyPASID, _ addresses: ClosedRange<UInt64> = 0...(.max),
    fault: UInt8?
  ) {
    note(text, source, device, pasids: pasids, addresses, read: fault, write: fault)
  }

  /// Where nothing answers: 2 TiB, beyond every case's memory, and below every width.
  static let nowhere: UInt64 = 1 << 41

  /// An entry on the way to an address: where it lies, of which level, and whether it leads to a table.
  struct Place {
    var address: PhysicalAddress
    var level: Int
    var isPointer: Bool
    /// The addresses that it is for.
    var covered: ClosedRange<UInt64>
  }

  /// The entries on the way to an address in tables of 512 entries, by the manuals' arithmetic.
  ///
  /// - Parameter next: The table that an entry of a level leads to, and its level; `nil` for a leaf.
  func path(
    _ address: UInt64, root: PhysicalAddress, levels: Int,
    next: (UInt64, _ level: Int) -> (table: UInt64, level: Int)?
  ) -> [Place] {
    var (table, level) = (root.rawValue, levels)
    var places: [Place] = []
    while true {
      let shift = UInt64(12 + 9 * (level - 1))
      let place = PhysicalAddress(table + (address >> shift & 511) * 8)
      let entry = memory.quadword(at: place)!
      let first = (address >> shift) << shift
      let lower = next(entry, level)
      places.append(
        Place(
          address: place, level: level, isPointer: lower != nil,
          covered: first...(first | (1 << shift - 1))))
      guard let lower else { return places }
      (table, level) = (lower.table, lower.level)
    }
  }

  /// What can be wrong with an entry of page tables, by the numbers of its faults.
  struct EntryDamage: Sendable {
    /// Where the manual describes the entries.
    var source: String
    /// Nothing is present where the entry was.
    var notPresent: (read: UInt8, write: UInt8)
    /// A bit that must be zero in an entry, where there is one, and its fault.
    var reservedBit: @Sendable (Place) -> UInt64?
    var reserved: UInt8
    /// A pointer leads where no memory answers.
    var unreadable: UInt8
  }

  /// Damages one entry on the way to some address of a mapping.
  mutating func damageEntry(
    of device: PCI.Function, pasids: ClosedRange<UInt32> = anyPASID, _ places: [Place],
    _ numbers: EntryDamage
  ) {
    let place = pick(places)
    let what = place.isPointer ? "pointer" : "leaf"
    let name = "\(what) of level \(place.level) at \(place.address)"
    let entry = memory.quadword(at: place.address)!
    switch (number(0...(place.isPointer ? 2 : 1)), numbers.reservedBit(place)) {
    case (0, _), (1, nil):
      memory.store(0 as UInt64, at: place.address)
      note(
        "the \(name) is not present", numbers.source, device, pasids: pasids, place.covered,
        read: numbers.notPresent.read, write: numbers.notPresent.write)
    case (1, let bit?):
      memory.store(entry | 1 << bit, at: place.address)
      note(
        "the \(name) has bit \(bit) set", numbers.source, device, pasids: pasids, place.covered,
        fault: numbers.reserved)
      // A reserved bit, and a permission that is missing in the same entry.
      effects[effects.count - 1].isOnlyForAllowed = !place.isPointer
    default:
      memory.store(entry & ~0x000f_ffff_ffff_f000 | Self.nowhere, at: place.address)
      note(
        "the \(name) leads to 2 TiB, where no memory is", numbers.source, device, pasids: pasids,
        place.covered, fault: numbers.unreadable)
    }
  }
}
