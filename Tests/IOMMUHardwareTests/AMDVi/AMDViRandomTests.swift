import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUHardware

/// Random tables, requests and changes: a unit with caches against one that reads everything anew.
///
/// Between a change and the commands that the manual asks for, the cached unit answers as before the
/// change or as after it; behind them, as the other. Where a change of the host's table moves tables of a
/// guest, some of which are known, the walk between meets what neither has.
@Suite struct AMDViRandomTests {
  static let caches: [AMDViCacheConfiguration] = [
    .everything, .hardware,
    AMDViCacheConfiguration(
      deviceEntries: .fixed(sets: 1, ways: 2), guestRoots: .fixed(sets: 1, ways: 2),
      translations: .fixed(sets: 2, ways: 2), pageWalks: .fixed(sets: 1, ways: 2),
      interruptEntries: .fixed(sets: 1, ways: 2)),
    AMDViCacheConfiguration(
      deviceEntries: .none, guestRoots: .unbounded, translations: .unbounded, pageWalks: .none,
      interruptEntries: .unbounded),
    AMDViCacheConfiguration(
      deviceEntries: .unbounded, guestRoots: .none, translations: .none, pageWalks: .unbounded,
      interruptEntries: .none),
  ]

  @Test(arguments: caches, seeds)
  func `after the manual's commands a cached answer is that of the tables`(
    caches: AMDViCacheConfiguration, seed: UInt64
  ) throws {
    var world = try RandomAMDVi(caches: caches, seed: seed)
    for _ in 0..<150 {
      let questions = world.questions()
      let before = questions.map(world.plainAnswer)
      for (question, answer) in zip(questions, before) {
        try #require(world.cachedAnswer(question) == answer, "\(question)")
      }
      let commands = world.change()
      let after = questions.map(world.plainAnswer)
      for (index, question) in questions.enumerated() where !world.isNested(question) {
        let answer = world.cachedAnswer(question)
        try #require(answer == before[index] || answer == after[index], "\(question)")
      }
      world.run(commands)
      for (index, question) in questions.enumerated() {
        try #require(world.cachedAnswer(question) == after[index], "\(question)")
      }
    }
    #expect(world.wasBusy)
  }
}

/// Four domains with tables of all kinds, and devices that move between them.
struct RandomAMDVi {
  /// A request or an interrupt.
  enum Question {
    case request(AMDVi.Request)
    case interrupt(AMDVi.InterruptRequest, Requester)
  }

  enum Answer: Equatable {
    case request(AMDVi.Answer)
    case interrupt(AMDViInterruptOutcome)
  }

  typealias Command = (low: UInt64, high: UInt64)

  /// A tree of three tables: two entries at the top, four in each middle one, 32 in each of the lowest.
  struct Tree {
    var root: UInt64
    var middles: [UInt64]
    /// By middle entry: 4·i3 + i2.
    var leaves: [UInt64]
  }

  private let machine: AMDViMachine
  private let plain: AMDViUnit
  private var generator: SeededGenerator
  private var nextPage: UInt64 = 0x20_0000
  /// Domains 1 and 2: host tables of 3 and 4 levels; 3: guest tables; 4: guest tables in host tables.
  private var hosts: [UInt16: Tree] = [:]
  private var fourLevelRoot: UInt64 = 0
  /// By domain, then PASID.
  private var guests: [UInt16: [Tree]] = [:]
  /// The uppermost guest tables, and the GCR3 tables.
  private var guestTops: [UInt16: [UInt64]] = [:]
  private var guestRoots: [UInt16: UInt64] = [:]
  private var domains: [UInt16: UInt16] = [:]
  private var mappedCount = 0
  private var faultCount = 0

  static let devices = (0..<5).map { Requester(rawValue: 0x20 + $0) }

  init(caches: AMDViCacheConfiguration, seed: UInt64) throws {
    machine = try AMDViMachine(caches: caches)
    var configuration = AMDViUnitConfiguration.current
    configuration.caches = .none
    plain = try AMDViUnit(configuration, memory: machine.memory)
    generator = SeededGenerator(seed: seed)
    plain.write(AMDViMachine.deviceTable | 0x1f, at: 0, byteCount: 8)
    for unit in [machine.unit, plain] {
      // GTEn, and no event log: commands only.
      unit.write(0x1_1401, at: 0x18, byteCount: 8)
    }
    for domain: UInt16 in [1, 2, 4] { hosts[domain] = tree() }
    fourLevelRoot = page()
    set(fourLevelRoot, 0, 0x6000_0000_0000_0601 | hosts[2]!.root)
    for domain: UInt16 in [3, 4] {
      guests[domain] = (0..<2).map { _ in tree() }
      guestTops[domain] = (0..<2).map { _ in page() }
      guestRoots[domain] = page()
      for pasid in 0..<2 {
        set(guestTops[domain]![pasid], 0, guests[domain]![pasid].root | 0x27)
        set(guestRoots[domain]!, UInt64(pasid), guestTops[domain]![pasid] | 1)
      }
    }
    for domain in hosts.keys.sorted() {
      for index in 0..<2 { _ = changeHostTop(domain, index) }
      for index in 0..<8 { _ = changeHostMiddle(domain, index) }
      for index in 0..<16 { _ = changeHostLeaves(domain, index / 2, index % 2) }
    }
    // The guest's tables lie where they are: the first 4 MiB are their own.
    set(hosts[4]!.root, 0, 0x6000_0000_0000_0401 | hosts[4]!.middles[0])
    for index: UInt64 in 0..<2 {
      set(hosts[4]!.middles[0], index, 0x6000_0000_0000_0001 | index << 21)
    }
    for domain in guests.keys.sorted() {
      for pasid in 0..<2 {
        for index in 0..<2 { _ = changeGuestTop(domain, pasid, index) }
        for index in 0..<8 { _ = changeGuestMiddle(domain, pasid, index) }
        for index in 0..<256 { _ = changeGuestLeaf(domain, pasid, index / 32, index % 32) }
      }
    }
    for device in Self.devices { run(changeDevice(device)) }
  }

  // MARK: Memory

  private mutating func page() -> UInt64 {
    defer { nextPage += 0x1000 }
    return nextPage
  }

  private mutating func tree() -> Tree {
    Tree(
      root: page(), middles: (0..<2).map { _ in page() }, leaves: (0..<8).map { _ in page() })
  }

  private func set(_ table: UInt64, _ index: UInt64, _ word: UInt64) {
    machine.memory.store(word, at: PhysicalAddress(table + index * 8))
  }

  private mutating func random(_ bound: Int) -> Int { Int(generator.next() % UInt64(bound)) }

  /// IR and IW, mostly both.
  private mutating func permissions() -> UInt64 {
    [0x6000, 0x6000, 0x6000, 0x2000, 0x4000, 0][random(6)] << 48
  }

  /// A page of data, aligned.
  private mutating func target(_ sizeLog2: UInt64 = 12) -> UInt64 {
    UInt64(random(0x4000)) << 12 & (~0 << sizeLog2)
  }

  /// The page of a host's leaf. That of a guest, whose tables are found by it: the same page, or one that
  /// nobody writes to.
  private mutating func target(
    _ domain: UInt16, _ address: UInt64, _ sizeLog2: UInt64 = 12
  ) -> UInt64 {
    guard domain == 4 else { return target(sizeLog2) }
    return address >> 22 == 0
      ? address & (~0 << sizeLog2) : UInt64(random(0x100)) << 12 & (~0 << sizeLog2)
  }

  // MARK: Changes, with the commands that they need

  /// Something changes in tables that the unit may know.
  mutating func change() -> [Command] {
    let host: UInt16 = [1, 2, 4][random(3)]
    let guest = UInt16(3 + random(2))
    let pasid = random(2)
    switch random(12) {
    case 0, 1, 2: return changeHostLeaves(host, random(8), random(2))
    case 3: return changeHostMiddle(host, random(8))
    case 4: return changeHostTop(host, random(2))
    case 5, 6: return changeGuestLeaf(guest, pasid, random(8), random(32))
    case 7: return changeGuestMiddle(guest, pasid, random(8))
    case 8: return changeGuestTop(guest, pasid, random(2))
    case 9: return changeGuestRoot(guest, pasid)
    case 10: return changeInterrupt(Self.devices[random(5)], UInt64(random(32)))
    default: return changeDevice(Self.devices[random(5)])
    }
  }

  mutating func run(_ commands: [Command]) {
    // Now and then more is dropped than has to be.
    machine.run(random(20) == 0 ? [AMDVi.InvalidateAllCommand().words] : commands)
  }

  /// - Parameter isGuest: Of a guest's tables, which both of its PASIDs may use.
  private mutating func pages(
    _ domain: UInt16, _ address: UInt64, sizeLog2: Int, isGuest: Bool = false, isLeaf: Bool
  ) -> [Command] {
    // A larger block, or everything, is as good; PDE is needed above leaves.
    let size = random(4) == 0 ? 64 : min(64, sizeLog2 + random(4))
    let pasids: [PASID?] = isGuest ? [PASID(0), PASID(1)] : [nil]
    return pasids.map { pasid in
      AMDVi.InvalidatePagesCommand(
        domainID: domain, pasid: pasid, address: IOVA(address), sizeLog2: size,
        dropsUpperLevels: !isLeaf || random(2) == 0
      ).words
    }
  }

  /// Half of the 32 pages of a lowest table: one page of 64 KiB, or pages of 4 KiB.
  private mutating func changeHostLeaves(
    _ domain: UInt16, _ middle: Int, _ half: Int
  ) -> [Command] {
    let table = hosts[domain]!.leaves[middle]
    let isLarge = random(3) == 0
    let address = UInt64(middle / 4) << 30 | UInt64(middle % 4) << 21 | UInt64(half) << 16
    let large = 0x7e01 | target(domain, address, 16) | permissions()
    for index: UInt64 in 0..<16 {
      let word = isLarge ? large : smallHostLeaf(domain, address | index << 12)
      set(table, UInt64(half) * 16 + index, word)
    }
    return pages(domain, address, sizeLog2: 16, isLeaf: true)
  }

  private mutating func smallHostLeaf(_ domain: UInt16, _ address: UInt64) -> UInt64 {
    let page = target(domain, address)
    switch random(10) {
    case 0, 1: return 0
    case 2: return 0x6010_0000_0000_0001 | page
    case 3: return 0x6000_0000_0000_0401 | page
    default: return 0x1 | page | permissions()
    }
  }

  private mutating func changeHostMiddle(_ domain: UInt16, _ middle: Int) -> [Command] {
    let tree = hosts[domain]!
    let address = UInt64(middle / 4) << 30 | UInt64(middle % 4) << 21
    let word: UInt64
    switch random(8) {
    case 0: word = 0
    case 1, 2: word = 0x1 | target(domain, address, 21) | permissions()
    case 3: word = 0x6000_0000_0000_0401 | tree.leaves[middle]
    default: word = 0x201 | tree.leaves[middle] | permissions()
    }
    set(tree.middles[middle / 4], UInt64(middle % 4), word)
    return pages(domain, address, sizeLog2: 21, isLeaf: false)
  }

  private mutating func changeHostTop(_ domain: UInt16, _ index: Int) -> [Command] {
    let tree = hosts[domain]!
    let word: UInt64
    switch random(8) {
    case 0: word = 0
    // Level 2 is left out.
    case 1: word = 0x201 | tree.leaves[4 * index] | permissions()
    case 2: word = 0x1 | permissions()
    default: word = 0x401 | tree.middles[index] | permissions()
    }
    set(tree.root, UInt64(index), word)
    return pages(domain, UInt64(index) << 30, sizeLog2: 30, isLeaf: false)
  }

  private mutating func guestBits() -> UInt64 {
    [0x67, 0x67, 0x67, 0x65, 0x63, 0x0][random(6)] | (random(5) == 0 ? 1 << 63 : 0)
  }

  private mutating func changeGuestLeaf(
    _ domain: UInt16, _ pasid: Int, _ middle: Int, _ index: Int
  ) -> [Command] {
    set(guests[domain]![pasid].leaves[middle], UInt64(index), target() & 0x3f_ffff | guestBits())
    let address =
      UInt64(middle / 4) << 30 | UInt64(middle % 4) << 21 | UInt64(index) << 12
    return pages(domain, address, sizeLog2: 12, isGuest: true, isLeaf: true)
  }

  private mutating func changeGuestMiddle(
    _ domain: UInt16, _ pasid: Int, _ middle: Int
  ) -> [Command] {
    let tree = guests[domain]![pasid]
    let word: UInt64 =
      random(4) == 0
      ? target(21) & 0x3f_ffff | 0x80 | guestBits() : tree.leaves[middle] | guestBits()
    set(tree.middles[middle / 4], UInt64(middle % 4), word)
    let address = UInt64(middle / 4) << 30 | UInt64(middle % 4) << 21
    return pages(domain, address, sizeLog2: 21, isGuest: true, isLeaf: false)
  }

  private mutating func changeGuestTop(
    _ domain: UInt16, _ pasid: Int, _ index: Int
  ) -> [Command] {
    let tree = guests[domain]![pasid]
    set(tree.root, UInt64(index), tree.middles[index] | (random(4) == 0 ? guestBits() : 0x67))
    return pages(
      domain, UInt64(index) << 30, sizeLog2: 30, isGuest: true, isLeaf: false)
  }

  private mutating func changeGuestRoot(_ domain: UInt16, _ pasid: Int) -> [Command] {
    let word: UInt64 = random(4) == 0 ? 0 : guestTops[domain]![random(2)] | 1
    set(guestRoots[domain]!, UInt64(pasid), word)
    return [
      AMDVi.InvalidatePagesCommand(domainID: domain, pasid: PASID(UInt32(pasid))).words
    ]
  }

  private mutating func changeInterrupt(_ device: Requester, _ index: UInt64) -> [Command] {
    let place = AMDViMachine.interruptTable + UInt64(device.rawValue & 7) << 7 + index * 4
    let word = UInt32(truncatingIfNeeded: generator.next()) & 0x00ff_ff4f
    machine.memory.store(word, at: PhysicalAddress(place))
    return [AMDVi.InvalidateInterruptTableCommand(device).words]
  }

  private mutating func changeDevice(_ device: Requester) -> [Command] {
    let old = domains[device.rawValue]
    let domain = UInt16(random(6))
    domains[device.rawValue] = domain
    var entry = AMDVi.DeviceTableEntry()
    switch domain {
    // Addresses are their own; nothing; and domains that have tables.
    case 0: entry = AMDVi.DeviceTableEntry(mode: 0, domainID: 0)
    case 5: break
    case 3:
      entry = AMDVi.DeviceTableEntry(mode: 0, domainID: 3)
    default:
      entry = AMDVi.DeviceTableEntry(
        mode: domain == 2 ? 4 : 3,
        root: PhysicalAddress(domain == 2 ? fourLevelRoot : hosts[domain]!.root),
        domainID: domain)
    }
    if let root = guestRoots[domain] {
      entry.usesGuestTables = true
      entry.usesGuestTablesWithoutPASID = random(2) == 0
      entry.guestRootTable = PhysicalAddress(root)
    }
    if random(3) == 0 { entry.quadwords[0] ^= [1 << 61, 1 << 62, 1 << 1, 1 << 2][random(4)] }
    if domain == 1, random(2) == 0 { entry.hostMarks = 3 }
    // IV, IntCtl 10b; 32 entries of the device's own table.
    entry.quadwords[2] =
      random(4) == 0
      ? 0
      : 0x2000_0000_0000_000b | AMDViMachine.interruptTable + UInt64(device.rawValue & 7) << 7
    machine.setEntry((0..<4).map { entry.quadwords[$0] }, of: device)
    var commands = [AMDVi.InvalidateDeviceEntryCommand(device).words]
    commands.append(AMDVi.InvalidateInterruptTableCommand(device).words)
    if let old, 1...4 ~= old {
      commands.append(AMDVi.InvalidatePagesCommand(domainID: old).words)
      for pasid in 0..<2 where old >= 3 {
        commands.append(
          AMDVi.InvalidatePagesCommand(domainID: old, pasid: PASID(UInt32(pasid))).words)
      }
    }
    return commands
  }

  // MARK: Questions

  mutating func questions() -> [Question] {
    (0..<40).map { _ in
      let device = Self.devices[random(5)]
      guard random(8) != 0 else {
        return .interrupt(AMDVi.InterruptRequest(index: UInt16(random(34))), device)
      }
      var address =
        UInt64(random(2)) << 30 | UInt64(random(4)) << 21 | UInt64(random(32)) << 12
        | UInt64(random(4096))
      if random(30) == 0 { address |= 1 << UInt64(random(64)) }
      let pasid: PASID? = [nil, nil, PASID(0), PASID(1), PASID(2)][random(5)]
      return .request(
        AMDVi.Request(
          device, IOVA(address), [.read, .write, .atomic, .zeroLengthRead][random(4)],
          pasid: pasid, isSupervisor: pasid != nil && random(4) == 0,
          isExecute: pasid != nil && random(6) == 0))
    }
  }

  /// Whether a request goes through a guest's tables that a host's table translates.
  func isNested(_ question: Question) -> Bool {
    guard case .request(let request) = question else { return false }
    return domains[request.requester.rawValue] == 4
  }

  mutating func cachedAnswer(_ question: Question) -> Answer {
    let answer = Self.answer(question, of: machine.unit)
    if case .request(.fault) = answer { faultCount += 1 } else { mappedCount += 1 }
    return answer
  }

  func plainAnswer(_ question: Question) -> Answer { Self.answer(question, of: plain) }

  private static func answer(_ question: Question, of unit: AMDViUnit) -> Answer {
    switch question {
    case .request(let request): .request(unit.translate(request))
    case .interrupt(let request, let device): .interrupt(unit.remap(request, from: device))
    }
  }

  /// Both ends were met often, and so were caches that keep anything.
  var wasBusy: Bool {
    mappedCount > 1000 && faultCount > 1000 && machine.isCommandBufferRunning
      && machine.events().isEmpty
  }
}
