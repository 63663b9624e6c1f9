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
    var addresses: ClosedRange<UInt64>
    var read: UInt8?
    var write: UInt8?
  }

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

  // MARK: Requests

  /// Requests to every mapping, its ends and beside them, and to addresses anywhere.
  mutating func probe(
    _ device: PCI.Function, _ runs: [Run], from base: UInt64 = 0, reach: UInt64,
    _ numbers: Numbers, outside: Numbers? = nil
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
        add(device, address, access, answer(address, access, runs, numbers))
      }
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
    _ device: PCI.Function, _ address: UInt64, _ access: Access, _ answer: TableCase.Answer
  ) {
    let effect = effects.first {
      ($0.device == nil || $0.device == device) && $0.addresses.contains(address)
    }
    probes.append(
      TableCase.Probe(
        device: device, iova: IOVA(address), access: access,
        expected: effect.map { .fault(access == .read ? $0.read : $0.write) } ?? answer))
  }

  // MARK: Damage

  /// Notes what is wrong, and what follows for requests of one device, or of all.
  mutating func note(
    _ text: String, _ device: PCI.Function?, _ addresses: ClosedRange<UInt64> = 0...(.max),
    read: UInt8?, write: UInt8?
  ) {
    damage = text
    effects.append(Effect(device: device, addresses: addresses, read: read, write: write))
  }

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
  struct EntryDamage {
    /// Nothing is present where the entry was.
    var notPresent: (read: UInt8, write: UInt8)
    /// A bit that must be zero in leaves and in pointers, and its fault.
    var reserved: (bit: UInt64, fault: UInt8)
    /// A pointer leads where no memory answers.
    var unreadable: UInt8
  }

  /// Damages one entry on the way to some address of a mapping.
  mutating func damageEntry(
    of device: PCI.Function, _ places: [Place], _ numbers: EntryDamage
  ) {
    let place = pick(places)
    let what = place.isPointer ? "pointer" : "leaf"
    let name = "\(what) of level \(place.level) at \(place.address)"
    let entry = memory.quadword(at: place.address)!
    switch number(0...(place.isPointer ? 2 : 1)) {
    case 0:
      memory.store(0 as UInt64, at: place.address)
      note(
        "the \(name) is not present", device, place.covered, read: numbers.notPresent.read,
        write: numbers.notPresent.write)
    case 1:
      memory.store(entry | 1 << numbers.reserved.bit, at: place.address)
      note(
        "the \(name) has bit \(numbers.reserved.bit) set", device, place.covered,
        read: numbers.reserved.fault, write: numbers.reserved.fault)
    default:
      // 2 TiB: no memory, and below every width.
      memory.store(entry & ~0x000f_ffff_ffff_f000 | 1 << 41, at: place.address)
      note(
        "the \(name) leads to 2 TiB, where no memory is", device, place.covered,
        read: numbers.unreadable, write: numbers.unreadable)
    }
  }
}
