import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// A VT-d machine: a driver that maps, takes back, moves devices and makes mistakes on one thread, and
/// devices on others.
///
/// Devices ask for pages and send interrupts as well, and the driver answers and changes what becomes of
/// them (VTdRequests.swift). Tables lie in 1 to 16 MiB; address space n has the frames of a MiB of its own from 16 MiB on, so that
/// a wrong answer shows whose page it is.
final class VTdMachine: @unchecked Sendable {
  // Sendable: the driver's part is the driver's alone, all else does not change or is a `Word`.

  enum Mode: CaseIterable {
    case registers2008, registers, queue, scalable
  }

  static let deviceCount = 6
  private static let spaceCount = 8
  private static let tables: UInt64 = 1 << 20
  private static let framesStart: UInt64 = 16 << 20
  private static let statusWord: UInt64 = 0x8000
  private static let queueAddress: UInt64 = 0x1_0000
  /// What a page says that nobody may reach.
  static let freed: UInt64 = 0xdead_dead_dead_dead
  /// PASID of the requests that go through first-stage tables.
  static let pasid: UInt32 = 9

  let mode: Mode
  let memory: FlatMemory
  let unit: RemappingUnit
  private(set) var spaces: [TableSpace] = []
  let shadows: [ShadowSpace]
  /// Of each device, for requests without PASID and, where there are any, with one: the number of its
  /// address space and 1, and a count of changes in the upper half; 0 while it changes.
  let owners: [Word]
  /// The driver is done.
  let isOver = Word()
  /// Each device as the unit sees it.
  let devices = (0..<deviceCount).map { _ in SoakDevice() }
  /// What must become of each interrupt.
  let interrupts = (0..<interruptCount).map { _ in Word() }

  // The driver's own.
  var generator: Generator
  private var pool: PagePool
  private var tail: UInt64 = 0
  private var statusData: UInt32 = 0
  private var rootTable: UInt64 = 0
  private var tablesOfDevices: [UInt64] = []
  private var ownerNumbers: [Int]
  var figures = Figures()

  var isScalable: Bool { mode == .scalable }
  var hasQueue: Bool { mode == .queue || mode == .scalable }

  init(_ mode: Mode, seed: UInt64) {
    self.mode = mode
    generator = Generator(seed: seed)
    var configuration =
      switch mode {
      case .registers2008: RemappingUnitConfiguration.unit2008
      case .registers, .queue: RemappingUnitConfiguration.qemu
      case .scalable: RemappingUnitConfiguration.currentServer
      }
    configuration.caches = [.hardware, .everything, .none, .hardware][generator.below(4)]
    configuration.compressesFaults = generator.oneIn(2)
    guard let memory = try? FlatMemory(byteCount: 32 << 20),
      let unit = try? RemappingUnit(configuration, memory: memory)
    else { fail("no machine") }
    self.memory = memory
    self.unit = unit
    pool = PagePool(Self.tables..<Self.framesStart)
    let width = mode == .registers2008 ? 36 : 39
    var regions: [[UInt64]] = []
    for _ in 0..<Self.spaceCount {
      var set: Set<UInt64> = [0]
      while set.count < 6 {
        let region = generator.next() & (1 << UInt64(width) - 1) & ~0x1f_ffff
        // Not the interrupt range.
        if region >> 21 != 0xfee0_0000 >> 21 { set.insert(region) }
      }
      regions.append(set.sorted())
    }
    shadows = regions.enumerated().map { ShadowSpace(number: $0.offset, regions: $0.element) }
    ownerNumbers = []
    owners = (0..<Self.deviceCount * 2).map { _ in Word() }
    ownerNumbers = Array(repeating: 0, count: owners.count)
    for shadow in shadows {
      let start = Self.framesStart + UInt64(shadow.number) << 20
      spaces.append(
        TableSpace(
          shadow, domain: UInt16(3 + shadow.number),
          style: isScalable && shadow.number % 2 == 1 ? .firstStage : .secondStage,
          levels: mode == .registers2008 ? 3 : 4, root: pool.take(&generator),
          frames: start..<start + 1 << 20, in: memory))
    }
    for frame in stride(from: Self.framesStart, to: 32 << 20, by: 4096) { store(Self.freed, frame) }
    setUp()
  }

  static func requester(_ device: Int) -> Requester {
    Requester(bus: UInt8(device & 1), device: UInt8(device), function: 0)
  }

  func store(_ word: UInt64, _ address: UInt64) {
    memory.store(word, at: PhysicalAddress(address))
  }

  // MARK: The driver

  func write(_ value: UInt64, _ offset: UInt64, _ byteCount: Int = 4) {
    unit.write(value, at: offset, byteCount: byteCount)
  }

  func read(_ offset: UInt64, _ byteCount: Int = 4) -> UInt64 {
    unit.read(offset, byteCount: byteCount)
  }

  func command(_ bit: UInt64) {
    write(read(0x1c) & 0x96ff_ffff | 1 << bit, 0x18)
    expect(read(0x1c) >> bit & 1 == 1, "GCMD bit \(bit) has no effect")
  }

  private func cleanTable() -> UInt64 {
    let page = pool.take(&generator)
    memory.zero(at: PhysicalAddress(page), byteCount: 4096)
    return page
  }

  private func setUp() {
    rootTable = cleanTable()
    let contexts = [cleanTable(), cleanTable()]
    for (bus, table) in contexts.enumerated() { store(table | 1, rootTable + UInt64(bus) * 16) }
    for device in 0..<Self.deviceCount {
      let requester = Self.requester(device)
      let table = contexts[Int(requester.bus)]
      guard isScalable else {
        tablesOfDevices.append(table + UInt64(requester.deviceFunction) * 16)
        continue
      }
      let directory = cleanTable()
      let pasids = cleanTable()
      store(pasids | 1, directory)
      // P, DTE, PASIDE, PRE; requests without PASID are those of PASID 0.
      store(directory | 0x1d, table + UInt64(requester.deviceFunction & 0x7f) * 32)
      tablesOfDevices.append(pasids)
      unit.attach(devices[device], to: requester)
    }
    write(rootTable | (isScalable ? 0x400 : 0), 0x20, 8)
    command(30)
    if hasQueue {
      write(Self.queueAddress | (isScalable ? 0x800 : 0), 0x90, 8)
      command(26)
    }
    invalidateEverything()
    setUpRequests()
    command(31)
    for slot in owners.indices where slot % 2 == 0 || isScalable { move(slot) }
  }

  /// Whether an address space may be behind a slot: first stage with PASID, second stage without.
  private func fits(_ space: Int, _ slot: Int) -> Bool {
    !isScalable || (spaces[space].style == .firstStage) == (slot % 2 == 1)
  }

  /// Gives a device another address space.
  private func move(_ slot: Int) {
    let word = owners[slot]
    let old = word.load()
    word.store(0)
    let device = slot / 2
    let entry =
      tablesOfDevices[device] + (isScalable ? UInt64(slot % 2 == 1 ? Self.pasid : 0) * 64 : 0)
    let oldNumber = old == 0 ? nil : Int(old & 0xffff) - 1
    // Not present first, and forgotten by the unit, as every driver does it.
    store(0, entry)
    if let oldNumber { forget(device, slot, domain: spaces[oldNumber].domain) }
    var number = generator.below(Self.spaceCount)
    while !fits(number, slot) { number = generator.below(Self.spaceCount) }
    let space = spaces[number]
    if isScalable {
      let isFirst = space.style == .firstStage
      store(UInt64(space.domain) | 1 << 23, entry + 8)
      store(isFirst ? space.root : 0, entry + 16)
      store((isFirst ? 1 << 6 : space.root | 2 << 6 | UInt64(space.levels - 2) << 2) | 1, entry)
    } else {
      store(UInt64(space.domain) << 8 | UInt64(space.levels - 2), entry + 8)
      store(space.root | 1, entry)
    }
    ownerNumbers[slot] += 1
    word.store(UInt64(ownerNumbers[slot]) << 32 | UInt64(number + 1))
    figures.operations += 1
  }

  /// What the unit remembers of a device's entry goes, and what it remembers of the domain.
  private func forget(_ device: Int, _ slot: Int, domain: UInt16) {
    let requester = UInt64(Self.requester(device).rawValue)
    if isScalable {
      let pasid = UInt64(slot % 2 == 1 ? Self.pasid : 0)
      submit([7 | 1 << 4 | UInt64(domain) << 16 | pasid << 32])
      submit([6 | 2 << 4 | UInt64(domain) << 16 | pasid << 32])
      submit([2 | 2 << 4 | UInt64(domain) << 16])
      complete()
    } else if hasQueue {
      submit([1 | 3 << 4 | UInt64(domain) << 16 | requester << 32])
      submit([2 | 2 << 4 | UInt64(domain) << 16])
      complete()
    } else {
      write(1 << 63 | 3 << 61 | requester << 16 | UInt64(domain), 0x28, 8)
      expect(read(0x28, 8) >> 63 == 0, "ICC stays set")
      invalidateByRegister(2, domain: domain)
    }
    figures.invalidations += 1
  }

  /// - Parameter granularity: 1 all, 2 a domain, 3 pages of it.
  private func invalidateByRegister(
    _ granularity: UInt64, domain: UInt16, address: UInt64 = 0, order: UInt64 = 0
  ) {
    let place = (read(0x10, 8) >> 8 & 0x3ff) * 16
    if granularity == 3 { write(address & ~0xfff | order, place, 8) }
    write(1 << 63 | granularity << 60 | UInt64(domain) << 32, place + 8, 8)
    let done = read(place + 8, 8)
    expect(done >> 63 == 0 && done >> 57 & 3 != 0, "IOTLB_REG \(done): not done")
  }

  private func invalidateEverything() {
    if isScalable {
      submit([1 | 1 << 4])
      submit([7 | 3 << 4])
      submit([2 | 1 << 4])
      complete()
    } else if hasQueue {
      submit([1 | 1 << 4])
      submit([2 | 1 << 4])
      complete()
    } else {
      write(1 << 63 | 1 << 61, 0x28, 8)
      invalidateByRegister(1, domain: 0)
    }
    figures.invalidations += 1
  }

  /// What the unit remembers of some pages of a space goes; all lies in one domain, in one region when
  /// `region` says so.
  private func invalidate(_ space: TableSpace, pages: [Int], prunes: Bool) {
    figures.invalidations += 1
    let domain = UInt64(space.domain) << 16
    let way = prunes ? generator.below(2) : generator.below(4)
    if way == 0 {
      invalidateEverything()
      return
    }
    if space.style == .firstStage {
      let head = 6 | domain | UInt64(Self.pasid) << 32
      if way == 1 {
        submit([head | 2 << 4])
      } else {
        for page in pages { submit([head | 3 << 4, space.shadow.address(page)]) }
      }
      complete()
    } else if hasQueue {
      if way == 1 {
        submit([2 | 2 << 4 | domain])
      } else {
        // IH: only leaves have changed.
        for page in pages { submit([2 | 3 << 4 | domain, space.shadow.address(page) | 1 << 6]) }
      }
      complete()
    } else if way == 1 {
      invalidateByRegister(2, domain: space.domain)
    } else {
      for page in pages {
        invalidateByRegister(3, domain: space.domain, address: space.shadow.address(page))
      }
    }
  }

  // MARK: The queue

  func submit(_ words: [UInt64]) {
    let width: UInt64 = isScalable ? 32 : 16
    for index in 0..<width / 8 {
      store(
        index < UInt64(words.count) ? words[Int(index)] : 0, Self.queueAddress + tail + index * 8)
    }
    tail = (tail + width) % 4096
    // Some are told one by one, some together.
    if generator.oneIn(2) { write(tail, 0x88, 8) }
  }

  /// A wait descriptor behind all of them: when its status word is there, all are done.
  func complete() {
    if generator.oneIn(200) { submitWrong() }
    statusData &+= 1
    store(0, Self.statusWord)
    submit([5 | 1 << 5 | UInt64(statusData) << 32, Self.statusWord])
    write(tail, 0x88, 8)
    var attempts = 0
    while memory.doubleword(at: PhysicalAddress(Self.statusWord)) != statusData {
      recoverQueue()
      attempts += 1
      expect(
        attempts < 16,
        "the queue does not go on: FSTS \(read(0x34)), head \(read(0x80, 8)), tail \(tail)")
    }
    expect(read(0x80, 8) == tail, "the wait is done and the queue is not")
  }

  /// A descriptor that no unit takes, or one for a device that does not answer.
  private func submitWrong() {
    figures.queueErrors += 1
    if isScalable, generator.oneIn(2) {
      devices[0].isLate.store(1)
      submit([3 | UInt64(Self.requester(0).rawValue) << 32, 0])
    } else {
      submit([0xf])
    }
  }

  /// As a driver does: the wrong descriptor becomes a harmless one, errors are cleared.
  private func recoverQueue() {
    let status = read(0x34)
    if status & 1 << 4 != 0 {
      let head = read(0x80, 8)
      store(1 | 1 << 4, Self.queueAddress + head)
      for index in 1..<(isScalable ? 4 : 2) as Range<UInt64> {
        store(0, Self.queueAddress + head + index * 8)
      }
    }
    devices[0].isLate.store(0)
    write(status & 0x70, 0x34)
  }

  // MARK: Pages

  private func map() {
    let space = spaces[generator.below(spaces.count)]
    map(generator.below(space.shadow.pageCount), of: space)
  }

  /// Maps a page that is not mapped, as long as there is a frame for it.
  func map(_ index: Int, of space: TableSpace) {
    guard space.shadow[index].kind == .unmapped, !space.freeFrames.isEmpty else { return }
    let frame = space.freeFrames.take(&generator)
    let kind = generator.below(8)
    let writes = kind != 0
    let reads = kind != 1 || space.style == .firstStage
    store(frame, frame)
    let state = space.shadow[index].changing()
    space.shadow[index] = state
    space.map(index, to: frame, reads: reads, writes: writes, tables: &pool, &generator)
    space.shadow[index] = state.mapped(frame, reads: reads, writes: writes)
    figures.operations += 1
  }

  /// Takes pages back, one or many, and sometimes the table that they are in.
  private func unmap() {
    let space = spaces[generator.below(spaces.count)]
    let region = generator.below(space.shadow.regions.count)
    let all = (region * ShadowSpace.pagesPerRegion..<(region + 1) * ShadowSpace.pagesPerRegion)
      .filter { space.shadow[$0].kind == .mapped }
    guard !all.isEmpty else { return }
    let prunes = generator.oneIn(6)
    let pages = prunes ? all : Array(all.shuffled(using: &generator).prefix(1 + generator.below(4)))
    let old = pages.map { space.shadow[$0] }
    for page in pages { space.shadow[page] = space.shadow[page].changing() }
    for page in pages { space.clear(page) }
    let table = prunes ? space.prune(region: region) : nil
    invalidate(space, pages: pages, prunes: prunes)
    for (page, state) in zip(pages, old) {
      // From here on nobody may reach the page.
      store(Self.freed, state.page)
      space.shadow[page] = space.shadow[page].unmapped()
      space.freeFrames.giveBack(state.page)
    }
    if let table { pool.giveBack(table) }
    figures.operations += pages.count
  }

  /// Another page, or other permissions, where one is mapped.
  private func remap() {
    let space = spaces[generator.below(spaces.count)]
    let index = generator.below(space.shadow.pageCount)
    let old = space.shadow[index]
    guard old.kind == .mapped, !space.freeFrames.isEmpty else { return }
    let frame = space.freeFrames.take(&generator)
    store(frame, frame)
    let writes = generator.oneIn(2)
    space.shadow[index] = old.changing()
    space.map(index, to: frame, reads: true, writes: writes, tables: &pool, &generator)
    invalidate(space, pages: [index], prunes: false)
    store(Self.freed, old.page)
    space.shadow[index] = space.shadow[index].mapped(frame, reads: true, writes: writes)
    space.freeFrames.giveBack(old.page)
    figures.operations += 1
  }

  /// Reads fault records and clears them, as a driver's interrupt handler does.
  private func collectFaults() {
    let capability = read(0x08, 8)
    let first = (capability >> 24 & 0x3ff) * 16
    for index in 0...capability >> 40 & 0xff {
      let place = first + index * 16
      guard read(place + 12) >> 31 == 1 else { continue }
      let requester = UInt16(truncatingIfNeeded: read(place + 8))
      expect(
        (0..<Self.deviceCount).contains { Self.requester($0).rawValue == requester },
        "a fault record names \(requester), which no device is")
      write(1 << 31, place + 12)
      // While devices go on, the next fault may be there already.
      expect(isOver.load() == 0 || read(place + 12) >> 31 == 0, "F stays set")
      figures.faultRecords += 1
    }
    write(1, 0x34)
  }

  /// The driver's life.
  func drive(operations: Int) {
    for _ in 0..<operations {
      switch generator.below(32) {
      case 0: move(slotOfAny())
      case 1: collectFaults()
      case 2: if generator.oneIn(8) { invalidateEverything() }
      case 3...6: remap()
      case 7...12: unmap()
      default: map()
      }
      if isScalable, generator.oneIn(4) { servePageRequests() }
      if hasQueue, generator.oneIn(8) { changeInterrupt() }
      // Where there are fewer processors than threads, devices have their turn too.
      if generator.oneIn(8) { sched_yield() }
    }
    isOver.store(1)
  }

  private func slotOfAny() -> Int {
    let device = generator.below(Self.deviceCount)
    return device * 2 + (isScalable ? generator.below(2) : 0)
  }

  /// When nothing else goes on: every page of every space is what the shadow says, a fault is recorded
  /// with its own words, and what was an error is none any more.
  func checkAtRest() {
    checkRequestsAtRest()
    let port = unit.makePort()
    for slot in owners.indices where slot % 2 == 0 || isScalable {
      let shadow = shadows[Int(owners[slot].load() & 0xffff) - 1]
      let device = Devices(self, port: port, seed: 0)
      for index in 0..<shadow.pageCount { device.checkOne(slot, index, writes: index % 2 == 0) }
      figures.add(device.figures)
    }
    collectFaults()
    collectFaults()
    let number = Int(owners[0].load() & 0xffff) - 1
    guard
      let index = (0..<shadows[number].pageCount).first(where: {
        shadows[number][$0].kind == .unmapped
      })
    else { return }
    let address = shadows[number].address(index)
    guard
      case .fault(let fault) = port.translate(VTd.Request(Self.requester(0), IOVA(address), .write))
    else { fail("\(address) is not mapped, and is no fault") }
    let place = (read(0x08, 8) >> 24 & 0x3ff) * 16 + (read(0x34) >> 8 & 0xff) * 16
    expect(read(0x34) & 2 != 0, "a fault is pending: \(fault)")
    expect(
      read(place, 8) == address & ~0xfff && UInt16(truncatingIfNeeded: read(place + 8)) == 0,
      "the record names the address and the device")
    collectFaults()
    expect(read(0x34) & 0x7f == 0, "FSTS is \(read(0x34)) after all was cleared")
  }
}

/// The devices behind one port, on one thread.
final class Devices {
  let machine: VTdMachine
  let port: TranslationPort
  var generator: Generator
  var figures = Figures()
  /// Page request groups that no other thread uses.
  let groups: Range<Int>

  init(_ machine: VTdMachine, port: TranslationPort, groups: Range<Int> = 0..<0, seed: UInt64) {
    self.machine = machine
    self.port = port
    self.groups = groups
    generator = Generator(seed: seed)
  }

  /// Sends requests until the driver is done.
  func run() {
    while machine.isOver.load() == 0 {
      for _ in 0..<64 {
        let slot =
          2 * generator.below(VTdMachine.deviceCount)
          + (machine.isScalable ? generator.below(2) : 0)
        switch generator.below(18) {
        case 16: if machine.hasQueue { sendInterrupt() }
        case 17: if machine.isScalable, generator.oneIn(8) { askForPages(slot) }
        case 0: if slot % 2 == 0 { batch(slot) }
        case 1: if machine.isScalable { askForTranslation(slot) }
        case 2...5: transact(slot)
        default:
          checkOne(slot, generator.below(machine.shadows[0].pageCount), writes: generator.oneIn(2))
        }
      }
    }
  }

  func shadow(_ owner: UInt64) -> ShadowSpace? {
    owner == 0 ? nil : machine.shadows[Int(owner & 0xffff) - 1]
  }

  private func request(_ slot: Int, _ address: UInt64, _ operation: VTd.Request.Operation)
    -> VTd.Request
  {
    VTd.Request(
      VTdMachine.requester(slot / 2), IOVA(address), operation,
      pasid: slot % 2 == 1 ? PASID(VTdMachine.pasid) : nil)
  }

  /// Where an address space's pages lie.
  private func owns(_ shadow: ShadowSpace, _ physical: UInt64) -> Bool {
    physical >> 20 == 16 + UInt64(shadow.number)
  }

  /// One request, held against what was known before and after.
  func checkOne(_ slot: Int, _ index: Int, writes: Bool) {
    let owner = machine.owners[slot].load()
    guard let shadow = shadow(owner) else { return }
    let before = shadow[index]
    let address = shadow.address(index) + generator.next() & 0xff8
    let answer: Translation
    if slot % 2 == 0, generator.oneIn(2) {
      let word = port.translate(
        IOVA(address), writes ? .write : .read, of: VTdMachine.requester(slot / 2))
      guard let translation = word.translation else { fail("\(word) is no answer") }
      answer = translation
    } else {
      answer = port.translate(request(slot, address, writes ? .write : .read), byteCount: 1)
    }
    let after = shadow[index]
    let isSameOwner = machine.owners[slot].load() == owner
    judge(
      answer, address, writes: writes, shadow, before, after, isSameOwner: isSameOwner, slot: slot)
  }

  private func judge(
    _ answer: Translation, _ address: UInt64, writes: Bool, _ shadow: ShadowSpace,
    _ before: PageState, _ after: PageState, isSameOwner: Bool, slot: Int
  ) {
    guard isSameOwner else {
      // The device is on its way from one space to another: somebody's page, or a fault.
      figures.duringChange += 1
      return
    }
    if case .mapped(let physical, _) = answer {
      expect(
        owns(shadow, physical.rawValue),
        "slot \(slot) of space \(shadow.number) reaches \(physical), of another space, at \(address)"
      )
    }
    guard before == after, before.kind != .changing else {
      figures.duringChange += 1
      return
    }
    let isAllowed = before.kind == .mapped && (writes ? before.writes : before.reads)
    switch answer {
    case .mapped(let physical, _):
      expect(
        isAllowed,
        "slot \(slot) \(address): \(before) does not allow it, and it goes to \(physical)")
      expect(
        physical.rawValue == before.page | address & 0xfff,
        "slot \(slot) \(address): goes to \(physical), and \(before) says \(before.page)")
      figures.mapped += 1
    case .fault(let fault):
      expect(!isAllowed, "slot \(slot) \(address): \(before) allows it, and it is \(fault)")
      figures.faults += 1
    case .interruptMessage: fail("\(address) is no interrupt")
    }
  }

  /// Many requests at once.
  private func batch(_ slot: Int) {
    let owner = machine.owners[slot].load()
    guard let shadow = shadow(owner) else { return }
    let indices = (0..<32).map { _ in generator.below(shadow.pageCount) }
    let before = indices.map { shadow[$0] }
    let addresses = indices.map { IOVA(shadow.address($0)) }
    var answers = [PackedTranslation](
      repeating: PackedTranslation(rawValue: 0), count: indices.count)
    let writes = generator.oneIn(2)
    var span = answers.mutableSpan
    port.translate(
      addresses.span, writes ? .write : .read, of: VTdMachine.requester(slot / 2), into: &span)
    let after = indices.map { shadow[$0] }
    let isSameOwner = machine.owners[slot].load() == owner
    for number in indices.indices {
      guard let answer = answers[number].translation else {
        fail("\(answers[number]) is no answer")
      }
      judge(
        answer, addresses[number].rawValue, writes: writes, shadow, before[number], after[number],
        isSameOwner: isSameOwner, slot: slot)
    }
  }

  /// A translation and the access that it allows: the page is still there while the transaction lasts.
  private func transact(_ slot: Int) {
    guard let shadow = shadow(machine.owners[slot].load()) else { return }
    let index = generator.below(shadow.pageCount)
    let address = shadow.address(index)
    let request = request(slot, address, .read)
    let reached: (page: UInt64, word: UInt64)? = port.transaction {
      guard case .mapped(let physical, _) = port.translate(request, byteCount: 8),
        let word = machine.memory.quadword(at: physical)
      else { return nil }
      return (physical.rawValue, word)
    }
    guard let reached else { return }
    expect(
      reached.word == reached.page,
      "slot \(slot) \(address) reached page \(reached.page) after it was taken back: \(reached.word)"
    )
    figures.accesses += 1
  }

  /// A translation request of a device with a TLB: straight from the tables.
  private func askForTranslation(_ slot: Int) {
    let owner = machine.owners[slot].load()
    guard let shadow = shadow(owner) else { return }
    let index = generator.below(shadow.pageCount)
    let before = shadow[index]
    let address = shadow.address(index)
    var question = request(slot, address, .read)
    question.kind = .translation(noWrite: true)
    let completion = port.completeTranslationRequest(question)
    guard machine.owners[slot].load() == owner, shadow[index] == before, before.kind != .changing
    else {
      figures.duringChange += 1
      return
    }
    if case .success(let found) = completion, !found.permissions.isEmpty {
      expect(
        before.kind == .mapped && found.page.rawValue == before.page,
        "a translation of slot \(slot) \(address) leads to \(found.page), and the shadow says \(before)"
      )
      figures.mapped += 1
    } else {
      expect(
        before.kind == .unmapped || !before.reads,
        "a translation of slot \(slot) \(address) fails, and the shadow says \(before)")
      figures.faults += 1
    }
  }
}
