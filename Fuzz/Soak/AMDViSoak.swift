import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Synchronization

/// An AMD-Vi unit, its driver on one thread and its devices on others.
///
/// Every word that the driver writes is the manual's, none is made by the code that reads it.
final class AMDViMachine: Sendable {
  enum Model: String, CaseIterable { case current, qemu, firstRevision = "first revision" }

  static let deviceCount = 8
  static let spaceCount = 4
  static let interruptCount = 32

  private static let commands: UInt64 = 0x1_0000
  private static let events: UInt64 = 0x1_1000
  private static let pageRequests: UInt64 = 0x1_2000
  private static let completion: UInt64 = 0x1_3000
  private static let deviceTable: UInt64 = 0x10_0000
  private static let interruptTables: UInt64 = 0x20_0000
  private static let pageTables: UInt64 = 0x40_0000
  private static let frames: UInt64 = 16 << 20
  private static let framesPerSpace: UInt64 = 1024

  let unit: AMDViUnit
  let memory: FlatMemory
  let spaces: [ShadowSpace]
  /// By device: which space it is in, as the page of a state.
  let places = (0..<deviceCount).map { _ in Word() }
  /// By device and index: vector and destination of the entry, as the page of a state.
  let interrupts = (0..<deviceCount * interruptCount).map { _ in Word() }
  let deviceTLBs: [SoakDeviceTLB]
  let isDone = Word()
  let hasWideEntries: Bool
  let takesPageRequests: Bool
  private let cachesNotPresent: Bool
  private let driver: Mutex<Driver>

  /// What only the driver's thread uses.
  private struct Driver {
    var generator: Generator
    var figures = Figures()
    var tail: UInt64 = 0
    var waits: UInt64 = 0
  }

  var figures: Figures { driver.withLock { $0.figures } }

  static func requester(_ device: Int) -> Requester {
    Requester(bus: 0, device: UInt8(device), function: 0)
  }

  init(_ model: Model, seed: UInt64) {
    var generator = Generator(seed: seed)
    var configuration: AMDViUnitConfiguration =
      switch model {
      case .current: .current
      case .qemu: .qemu
      case .firstRevision: .firstRevision
      }
    func size() -> CacheSize {
      switch generator.below(4) {
      case 0: .none
      case 1: .unbounded
      default: .fixed(sets: 1 << generator.below(6), ways: 1 + generator.below(4))
      }
    }
    configuration.caches = AMDViCacheConfiguration(
      deviceEntries: size(), guestRoots: size(), translations: size(), pageWalks: size(),
      interruptEntries: size())
    guard let memory = try? FlatMemory(byteCount: 32 << 20),
      let unit = try? AMDViUnit(configuration, memory: memory)
    else { fail("no unit") }
    self.memory = memory
    self.unit = unit
    cachesNotPresent = model == .qemu
    takesPageRequests = model != .firstRevision
    hasWideEntries = model != .firstRevision && generator.oneIn(2)
    spaces = (0..<Self.spaceCount).map { number in
      ShadowSpace(
        number: number,
        regions: (0..<3).map { UInt64($0 + 1) << 30 | UInt64(generator.below(512)) << 21 })
    }
    deviceTLBs = (0..<Self.deviceCount).map { _ in SoakDeviceTLB() }
    driver = Mutex(Driver(generator: generator))
    for space in spaces { setUp(space) }
    for device in 0..<Self.deviceCount {
      let space = device % Self.spaceCount
      store(domain(space), entry(device) + 8)
      store(root(space), entry(device))
      // IV, IntCtl 10b, 32 entries.
      store(0x2000_0000_0000_000b | interruptTable(device), entry(device) + 16)
      places[device].store(
        PageState(rawValue: 0).mapped(UInt64(space) << 12, reads: true, writes: true).rawValue)
      unit.attach(deviceTLBs[device], to: Self.requester(device))
    }
    write(Self.deviceTable, 0x00)
    write(0x0800_0000_0000_0000 | Self.commands, 0x08)
    write(0x0800_0000_0000_0000 | Self.events, 0x10)
    if takesPageRequests { write(0x0800_0000_0000_0000 | Self.pageRequests, 0x38) }
    write(control, 0x18)
  }

  /// IommuEn, EventLogEn, CmdBufEn; PprLogEn and PprEn; GAEn.
  private var control: UInt64 {
    0x1405 | (takesPageRequests ? 0xa000 : 0) | (hasWideEntries ? 0x2_0000 : 0)
  }

  private func store(_ word: UInt64, _ address: UInt64) {
    memory.store(word, at: PhysicalAddress(address))
  }

  private func write(_ value: UInt64, _ offset: UInt64) {
    unit.write(value, at: offset, byteCount: 8)
  }

  private func read(_ offset: UInt64) -> UInt64 { unit.read(offset, byteCount: 8) }

  // MARK: Tables

  private func entry(_ device: Int) -> UInt64 {
    Self.deviceTable + 32 * UInt64(Self.requester(device).rawValue)
  }

  private func interruptTable(_ device: Int) -> UInt64 {
    Self.interruptTables + UInt64(device) << 12
  }

  /// A table of a space: 0 the uppermost, then two for each region.
  private func table(_ space: Int, _ number: Int) -> UInt64 {
    Self.pageTables + UInt64(space) << 16 + UInt64(number) << 12
  }

  /// Quadword 0: V, TV, Mode 3, IR, IW, and PPR.
  private func root(_ space: Int) -> UInt64 {
    0x6000_0000_0000_0603 | table(space, 0) | (takesPageRequests ? 1 << 52 : 0)
  }

  /// Quadword 1: DomainID.
  private func domain(_ space: Int) -> UInt64 { UInt64(space + 1) }

  /// Where in the uppermost table a region hangs.
  private func upperEntry(_ space: ShadowSpace, region: Int) -> UInt64 {
    table(space.number, 0) + 8 * (space.regions[region] >> 30)
  }

  private func leaf(_ space: ShadowSpace, _ index: Int) -> UInt64 {
    table(space.number, 2 + 2 * (index / ShadowSpace.pagesPerRegion))
      + 8 * (space.address(index) >> 12 & 511)
  }

  private func setUp(_ space: ShadowSpace) {
    for region in space.regions.indices {
      let middle = table(space.number, 1 + 2 * region)
      store(0x6000_0000_0000_0401 | middle, upperEntry(space, region: region))
      store(
        0x6000_0000_0000_0201 | table(space.number, 2 + 2 * region),
        middle + 8 * (space.regions[region] >> 21 & 511))
    }
  }

  /// The frames of a space, half-open.
  static func frames(of space: Int) -> Range<UInt64> {
    let start = frames + UInt64(space) * framesPerSpace << 12
    return start..<start + framesPerSpace << 12
  }

  // MARK: The driver

  func drive(operations: Int) {
    driver.withLock { driver in
      for _ in 0..<operations {
        operate(&driver)
        driver.figures.operations += 1
      }
      drain(&driver)
    }
    isDone.store(1)
  }

  private func operate(_ driver: inout Driver) {
    let space = spaces[driver.generator.below(Self.spaceCount)]
    switch driver.generator.below(16) {
    case 0: move(driver.generator.below(Self.deviceCount), to: space.number, &driver)
    case 1: unlink(space, region: driver.generator.below(space.regions.count), &driver)
    case 2, 3, 4: changeInterrupt(&driver)
    case 5, 6: drain(&driver)
    default: change(space, driver.generator.below(space.pageCount), &driver)
    }
  }

  /// Maps a page, re-aims it, or takes it back.
  private func change(_ space: ShadowSpace, _ index: Int, _ driver: inout Driver) {
    let before = space[index]
    let changing = before.changing()
    space[index] = changing
    let reads = driver.generator.oneIn(2)
    let writes = !reads || driver.generator.oneIn(2)
    let page =
      Self.frames(of: space.number).lowerBound
      + UInt64(driver.generator.below(Int(Self.framesPerSpace))) << 12
    let isMapped = before.kind == .unmapped || driver.generator.oneIn(4)
    store(
      isMapped ? 0x1000_0000_0000_0001 | (reads ? 1 << 61 : 0) | (writes ? 1 << 62 : 0) | page : 0,
      leaf(space, index))
    if before.kind == .mapped || cachesNotPresent {
      // The page, or all of the domain.
      let high =
        driver.generator.oneIn(4)
        ? 0x7fff_ffff_ffff_f003 : space.address(index) | (driver.generator.oneIn(2) ? 2 : 0)
      submit([(0x3000_0000_0000_0000 | domain(space.number) << 32, high)], &driver)
    }
    space[index] =
      isMapped ? changing.mapped(page, reads: reads, writes: writes) : changing.unmapped()
  }

  /// Takes a region back as a whole, by the entry above its tables.
  private func unlink(_ space: ShadowSpace, region: Int, _ driver: inout Driver) {
    let pages = region * ShadowSpace.pagesPerRegion..<(region + 1) * ShadowSpace.pagesPerRegion
    for index in pages { space[index] = space[index].changing() }
    let place = upperEntry(space, region: region)
    store(0, place)
    submit([(0x3000_0000_0000_0000 | domain(space.number) << 32, 0x7fff_ffff_ffff_f003)], &driver)
    for index in pages { store(0, leaf(space, index)) }
    store(0x6000_0000_0000_0401 | table(space.number, 1 + 2 * region), place)
    if cachesNotPresent {
      submit([(0x3000_0000_0000_0000 | domain(space.number) << 32, 0x7fff_ffff_ffff_f003)], &driver)
    }
    for index in pages { space[index] = space[index].unmapped() }
  }

  /// A device goes to another space: its entry stops all while it changes.
  private func move(_ device: Int, to space: Int, _ driver: inout Driver) {
    let changing = PageState(rawValue: places[device].load()).changing()
    places[device].store(changing.rawValue)
    let command: (UInt64, UInt64) = (
      0x2000_0000_0000_0000 | UInt64(Self.requester(device).rawValue), 0
    )
    store(1, entry(device))
    submit([command], &driver)
    store(domain(space), entry(device) + 8)
    store(root(space), entry(device))
    submit([command], &driver)
    places[device].store(
      changing.mapped(UInt64(space) << 12, reads: true, writes: true).rawValue)
  }

  private func changeInterrupt(_ driver: inout Driver) {
    let device = driver.generator.below(Self.deviceCount)
    let index = driver.generator.below(Self.interruptCount)
    let word = interrupts[device * Self.interruptCount + index]
    let changing = PageState(rawValue: word.load()).changing()
    word.store(changing.rawValue)
    let isPresent = driver.generator.below(3) > 0
    let vector = UInt64(0x20 + driver.generator.below(0xd0))
    let destination = UInt64(driver.generator.below(16))
    if hasWideEntries {
      let place = interruptTable(device) + 16 * UInt64(index)
      store(0, place)
      store(vector, place + 8)
      store(isPresent ? 1 | destination << 8 : 0, place)
    } else {
      memory.store(
        UInt32(isPresent ? 1 | destination << 8 | vector << 16 : 0),
        at: PhysicalAddress(interruptTable(device) + 4 * UInt64(index)))
    }
    submit(
      [(0x5000_0000_0000_0000 | UInt64(Self.requester(device).rawValue), 0)], &driver)
    word.store(
      (isPresent
        ? changing.mapped(vector << 12 | destination << 20, reads: true, writes: true)
        : changing.unmapped()).rawValue)
    driver.figures.interruptChanges += 1
  }

  /// Queues commands and a completion wait, and waits for that.
  private func submit(_ commands: [(UInt64, UInt64)], _ driver: inout Driver) {
    driver.waits += 1
    for (low, high) in commands + [
      (0x1000_0000_0000_0001 | Self.completion, driver.waits)
    ] {
      store(low, Self.commands + driver.tail)
      store(high, Self.commands + driver.tail + 8)
      driver.tail = (driver.tail + 16) & 0xfff
    }
    write(driver.tail, 0x2008)
    expect(
      memory.quadword(at: PhysicalAddress(Self.completion)) == driver.waits,
      "a completion wait stores its word")
    driver.figures.invalidations += 1
  }

  /// Reads the logs, answers page requests, and starts a log again that was full.
  private func drain(_ driver: inout Driver) {
    let events = entries(Self.events, head: 0x2010, tail: 0x2018)
    for event in events { expect(event.low >> 60 != 0, "an event has a code") }
    driver.figures.faultRecords += events.count
    if read(0x2020) & 1 != 0 {
      write(control & ~0x4, 0x18)
      write(1, 0x2020)
      write(control, 0x18)
    }
    guard takesPageRequests else { return }
    for request in entries(Self.pageRequests, head: 0x2030, tail: 0x2038) {
      let device = Int(request.low >> 3 & 0x1f)
      expect(request.low >> 60 == 1 && device < Self.deviceCount, "a page request is of a device")
      driver.figures.pageRequests += 1
      guard request.low >> 41 & 1 == 1 else { continue }
      let tag = request.low >> 32 & 0x1ff
      let code: UInt64 = [0, 1, 15][driver.generator.below(3)]
      deviceTLBs[device].announce(tag: UInt16(tag), code: UInt8(code))
      submit(
        [(0x7000_0000_0000_0000 | request.low & 0xffff, tag << 32 | code << 44)], &driver)
      expect(deviceTLBs[device].isAnswered(UInt16(tag)), "a command answers a group")
      driver.figures.pageGroups += 1
    }
    if read(0x2020) & 0x20 != 0 {
      write(control & ~0x2000, 0x18)
      write(0x20, 0x2020)
      write(control, 0x18)
    }
  }

  /// What a ring of 256 entries has, which is empty then.
  private func entries(
    _ base: UInt64, head: UInt64, tail: UInt64
  ) -> [(low: UInt64, high: UInt64)] {
    var place = read(head)
    let end = read(tail)
    var found: [(low: UInt64, high: UInt64)] = []
    while place != end {
      found.append(
        (
          memory.quadword(at: PhysicalAddress(base + place)) ?? 0,
          memory.quadword(at: PhysicalAddress(base + place + 8)) ?? 0
        ))
      place = (place + 16) & 0xfff
    }
    write(end, head)
    return found
  }
}

/// What a device has asked, and how it was answered.
final class SoakDeviceTLB: AMDViDeviceTLB, Sendable {
  private struct State {
    var asked: Set<UInt16> = []
    var announced: [UInt16: UInt8] = [:]
  }
  private let state = Mutex(State())

  func invalidate(_: AMDVi.InvalidateDeviceTLBCommand) -> Bool { true }

  func receive(_ response: AMDViPageResponse) {
    state.withLock { state in
      expect(state.asked.remove(response.tag) != nil, "a group is answered once")
      expect(
        state.announced.removeValue(forKey: response.tag) == response.code && response.pasid == nil,
        "an answer is what software said")
    }
  }

  /// A group begins; `false` when one of this tag waits for its answer.
  func ask(_ tag: UInt16) -> Bool { state.withLock { $0.asked.insert(tag).inserted } }

  /// The group got no room.
  func giveUp(_ tag: UInt16) {
    state.withLock { state in
      expect(state.asked.remove(tag) != nil, "a group that got no room has no answer")
    }
  }

  func announce(tag: UInt16, code: UInt8) { state.withLock { $0.announced[tag] = code } }

  func isAnswered(_ tag: UInt16) -> Bool { state.withLock { $0.announced[tag] == nil } }
}

/// The devices of one thread: requests, interrupts and page requests until the driver is done.
struct AMDViDevices {
  private let machine: AMDViMachine
  private let devices: Range<Int>
  private var generator: Generator
  private(set) var figures = Figures()

  init(_ machine: AMDViMachine, _ devices: Range<Int>, seed: UInt64) {
    self.machine = machine
    self.devices = devices
    generator = Generator(seed: seed)
  }

  mutating func run() {
    while machine.isDone.load() == 0 {
      let device = devices.lowerBound + generator.below(devices.count)
      switch generator.below(32) {
      case 0: askForPages(device)
      case 1...4: interrupt(device)
      default: translate(device)
      }
    }
  }

  private mutating func translate(_ device: Int) {
    let place = machine.places[device]
    let before = PageState(rawValue: place.load())
    let number = Int(before.page >> 12)
    let space = machine.spaces[number % AMDViMachine.spaceCount]
    let index = generator.below(space.pageCount)
    let page = space[index]
    let offset = UInt64(generator.below(4000))
    let isWrite = generator.oneIn(2)
    let answer = machine.unit.translate(
      AMDVi.Request(
        AMDViMachine.requester(device), IOVA(space.address(index) + offset),
        isWrite ? .write : .read), byteCount: 64)
    guard place.load() == before.rawValue, before.kind == .mapped else {
      figures.duringChange += 1
      return
    }
    if case .mapped(let address, _) = answer {
      expect(
        AMDViMachine.frames(of: space.number).contains(address.rawValue),
        "device \(device) of space \(space.number) reached \(address)")
    }
    guard space[index] == page, page.kind != .changing else {
      figures.duringChange += 1
      return
    }
    let isAllowed = page.kind == .mapped && (isWrite ? page.writes : page.reads)
    switch answer {
    case .mapped(let address, let byteCount):
      expect(
        isAllowed && address.rawValue == page.page + offset && byteCount == 64,
        "\(IOVA(space.address(index))) of space \(space.number) leads to \(address): \(page)")
      figures.mapped += 1
    case .fault:
      expect(!isAllowed, "\(IOVA(space.address(index))) of space \(space.number) faults: \(page)")
      figures.faults += 1
    case .interruptMessage: fail("a page is no interrupt")
    }
  }

  private mutating func interrupt(_ device: Int) {
    let place = machine.places[device]
    let index = generator.below(AMDViMachine.interruptCount)
    let word = machine.interrupts[device * AMDViMachine.interruptCount + index]
    let (moved, before) = (place.load(), word.load())
    let outcome = machine.unit.remap(
      AMDVi.InterruptRequest(address: 0xfee0_0000, data: UInt32(index)),
      from: AMDViMachine.requester(device))
    let state = PageState(rawValue: before)
    guard place.load() == moved, word.load() == before, state.kind != .changing else {
      figures.interruptsDuringChange += 1
      return
    }
    switch outcome {
    case .delivered(let delivery):
      expect(
        state.kind == .mapped && UInt64(delivery.vector) == state.page >> 12 & 0xff
          && UInt64(delivery.destination) == state.page >> 20,
        "interrupt \(index) of device \(device) is \(delivery): \(state)")
      figures.delivered += 1
    case .blocked:
      expect(state.kind == .unmapped, "interrupt \(index) of device \(device) is blocked")
      figures.blocked += 1
    case .passed, .guest: fail("an interrupt is delivered or blocked")
    }
  }

  /// A group of up to three requests.
  private mutating func askForPages(_ device: Int) {
    guard machine.takesPageRequests else { return }
    let tag = UInt16(generator.below(512))
    guard machine.deviceTLBs[device].ask(tag) else { return }
    let count = 1 + generator.below(3)
    for number in 1...count {
      let entry = AMDVi.PageRequestEntry(
        AMDViMachine.requester(device), pasid: nil, address: IOVA(UInt64(number) << 12),
        reads: true, writes: generator.oneIn(2), tag: tag, isLast: number == count)
      switch machine.unit.submit(entry) {
      case .queued: break
      case .dropped(let response):
        figures.droppedRequests += 1
        // Where the log is full a device gets none, unless the unit answers by itself.
        expect(response == nil || entry.isLast, "an answer is to the last request of its group")
        if entry.isLast { machine.deviceTLBs[device].giveUp(tag) }
      }
    }
  }
}
