import IOMMUFormats
import IOMMURule
import IOMMUTranslation
import Testing

@testable import IOMMUInspection
@testable import IOMMULinux

/// A device 00:03.0 of a VT-d unit, as the kernel and as the tables have it.
@Suite struct KernelSurveyTests {
  private static let unit: UInt64 = 0xffff_8880_0000_1000
  private static let domain: UInt64 = 0xffff_8880_0000_2000

  //   root[0] → context 0x2000; context[00:03.0] → 0x3000 → 0x4000 → 0x5000 → 0x6000, DID 3, 4 levels
  private static func memory(_ more: [UInt64: UInt64] = [:]) throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 1 << 20)
    var words: [UInt64: UInt64] = [
      0x1000: 0x2001, 0x2000 + 0x18 * 16: 0x3001, 0x2008 + 0x18 * 16: 0x302, 0x3000: 0x4003,
      0x4000: 0x5003, 0x5000: 0x6003, 0x6000 + 0x80 * 8: 0x8_0003,
    ]
    words.merge(more) { $1 }
    for (address, word) in words { memory.store(word, at: PhysicalAddress(address)) }
    return memory
  }

  private static func function(_ rawValue: UInt16) -> PCI.Function {
    PCI.Function(Requester(rawValue: rawValue))
  }

  private static func device(
    _ requester: UInt16, group: Int, _ attachment: KernelDevice.Attachment = .domain(domain)
  ) -> KernelDevice {
    var device = KernelDevice(
      name: function(requester).longText, address: UInt64(requester), function: function(requester))
    device.requester = device.function
    device.group = group
    device.unit = unit
    device.attachment = attachment
    return device
  }

  /// Page 0x80 is live, 0x90 and 0x91 are kept for use again, 0xa0 waits, 0x10 to 0x1f are a window's.
  private static let ranges: [ClosedRange<UInt64>] = [
    0x10...0x1f, 0x80...0x80, 0x90...0x91, 0xa0...0xa0,
  ]

  private static func state(
    root: UInt64 = 0x3000, id: UInt32 = 3, ranges: [ClosedRange<UInt64>] = ranges,
    devices: [KernelDevice] = [device(0x18, group: 1)]
  ) -> IOMMUState {
    var unit = KernelUnit(kind: .vtd, address: Self.unit, name: "dmar0")
    unit.registerBase = PhysicalAddress(0xfed9_0000)
    unit.table = PhysicalAddress(0x1000)
    unit.capability = 0xd2_008c_222f_0606
    unit.extendedCapability = 0xf0_0f4a
    var domain = KernelDomain(address: Self.domain)
    domain.type = 11
    domain.ids = [.init(unit: Self.unit, id: id)]
    domain.root = PhysicalAddress(root)
    domain.levels = 4
    domain.iova = IOVAAllocator(
      granule: 4096, ranges: ranges,
      cached: [.init(order: 1, own: [(processor: 0, pages: [0x90])], depot: [])],
      waiting: [.init(processor: 0, page: 0xa0, count: 1, counter: 7)])
    var state = IOMMUState()
    state.units = [unit]
    state.devices = devices
    state.domains = [domain]
    return state
  }

  private static let resources = KernelResources(lines: [
    .init(addresses: 0x1_0000...0x1_ffff, name: "PCI Bus 0000:00", depth: 0)
  ])

  private static func survey(
    _ state: IOMMUState, _ memory: FlatMemory, role: LinuxKernels.Role = .old,
    after old: IOMMUState? = nil
  ) -> KernelSurvey {
    KernelSurvey(state, role: role, resources: resources, after: old, in: memory)
  }

  private static func findings(_ state: IOMMUState, _ memory: FlatMemory) -> [String] {
    survey(state, memory).findings.map { "\($0.kind.rawValue): \($0.device): \($0.text)" }
  }

  @Test func `where all agree there is no finding`() throws {
    let survey = Self.survey(Self.state(), try Self.memory())
    #expect(survey.findings.isEmpty && survey.unknown.isEmpty)
    let found = try #require(survey.devices.first)
    #expect(found.seen == .table(PhysicalAddress(0x3000), domainID: 3))
    #expect(found.pageCount == 1 && found.handOver == nil)
    #expect(found.counts == .init(live: 1, cached: 1, waiting: 1, reserved: 1))
  }

  @Test func `another table, another id, none, or all of memory`() throws {
    let memory = try Self.memory()
    #expect(
      Self.findings(Self.state(root: 0x7000), memory) == [
        "other table: 00:03.0: the kernel has attached the table at 0x7000, and the unit has that at 0x3000"
      ])
    #expect(
      Self.findings(Self.state(id: 4), memory) == [
        "other domain id: 00:03.0: the kernel says domain 4, and the unit has 3"
      ])
    #expect(
      Self.findings(Self.state(), try Self.memory([0x2000 + 0x18 * 16: 0])) == [
        "other table: 00:03.0: the kernel has attached the table at 0x3000, and the unit has no entry for it"
      ])
    // Translation type 2 passes requests.
    #expect(
      Self.findings(Self.state(), try Self.memory([0x2000 + 0x18 * 16: 0x9])) == [
        "other table: 00:03.0: the kernel has attached the table at 0x3000, and the unit lets it pass"
      ])
  }

  @Test func `pages and numbers that do not fit`() throws {
    let stray = try Self.memory([0x6000 + 0xb0 * 8: 0xb_0003])
    #expect(
      Self.findings(Self.state(), stray) == [
        "mapped, not allocated: 00:03.0: 0xb0000..<0xb1000 is mapped, and not allocated in whole"
      ])
    #expect(
      Self.findings(Self.state(ranges: Self.ranges + [0xc0...0xc0]), try Self.memory()) == [
        "allocated, not mapped: 00:03.0: 0xc0000..<0xc1000 is allocated, and nothing is mapped there"
      ])
    let stale = try Self.memory([0x6000 + 0x91 * 8: 0x9_1003, 0x6000 + 0xa0 * 8: 0xa_0003])
    #expect(
      Self.findings(Self.state(), stale) == [
        "freed, still mapped: 00:03.0: 0x90000..<0x92000 was given back, and is mapped",
        "freed, still mapped: 00:03.0: 0xa0000..<0xa1000 was given back, and is mapped",
      ])
    // A mapping over two ranges that touch is allocated in whole.
    let long = try Self.memory([0x6000 + 0x81 * 8: 0x8_1003])
    #expect(Self.findings(Self.state(ranges: [0x10...0x1f, 0x80...0x80, 0x81...0x81]), long) == [])
  }

  @Test func `many of one kind are counted`() throws {
    var words: [UInt64: UInt64] = [:]
    for page in stride(from: 0xb0, to: 0xb0 + 14, by: 2) as StrideTo<UInt64> {
      words[0x6000 + page * 8] = page << 12 | 3
    }
    let findings = Self.findings(Self.state(), try Self.memory(words))
    #expect(findings.count == 5)
    #expect(
      findings.last == "mapped, not allocated: 00:03.0: and 3 more of which the same is true")
  }

  @Test func `an allocator that was not read to its end accuses nobody of stray pages`() throws {
    var state = Self.state()
    state.domains[0].iova?.problems = [.null]
    #expect(Self.findings(state, try Self.memory([0x6000 + 0xb0 * 8: 0xb_0003])) == [])
  }

  @Test func `a table of two groups, and a requester that is nobody`() throws {
    let two = try Self.memory([0x2000 + 0x20 * 16: 0x3001, 0x2008 + 0x20 * 16: 0x302])
    let devices = [Self.device(0x18, group: 1), Self.device(0x20, group: 2)]
    #expect(
      Self.findings(Self.state(devices: devices), two) == [
        "shared table: 00:04.0: shares the table at 0x3000 with 00:03.0, of another group"
      ])
    let same = [Self.device(0x18, group: 1), Self.device(0x20, group: 1)]
    #expect(Self.findings(Self.state(devices: same), two) == [])
    #expect(
      Self.findings(Self.state(), two) == [
        "no such device: 00:04.0: the unit has a table for a requester that is no device of the kernel's"
      ])
  }

  /// 03:02.0 is behind a bridge that sends its requests as 03:00.0 as well.
  @Test func `a bridge takes its secondary bus's number`() throws {
    let memory = try Self.memory([
      0x1030: 0x8001, 0x8000: 0x3001, 0x8008: 0x302, 0x8000 + 0x10 * 16: 0x3001,
      0x8008 + 0x10 * 16: 0x302,
    ])
    let state = Self.state(devices: [Self.device(0x18, group: 1), Self.device(0x310, group: 1)])
    #expect(Self.findings(state, memory) == [])
  }

  @Test func `what a capture kernel has done with each device`() throws {
    let old = Self.state()
    let left = Self.survey(
      Self.state(root: 0x7000, devices: [Self.device(0x18, group: 1, .none)]), try Self.memory(),
      role: .capture, after: old)
    #expect(left.devices[0].handOver == .left)
    #expect(left.findings.map(\.kind) == [.oldTable])
    let replaced = Self.survey(Self.state(), try Self.memory(), role: .capture, after: nil)
    #expect(replaced.devices[0].handOver == .replaced && replaced.findings.isEmpty)
    let blocked = Self.survey(
      Self.state(devices: [Self.device(0x18, group: 1, .none)]),
      try Self.memory([0x2000 + 0x18 * 16: 0]), role: .capture, after: old)
    #expect(blocked.devices[0].handOver == .blocked && blocked.findings.isEmpty)
  }

  @Test
  func `a unit whose tables are not walked, or that are not there, leaves its devices unknown`()
    throws
  {
    var state = Self.state()
    state.units[0].kind = .smmuv3
    let other = Self.survey(state, try Self.memory())
    #expect(other.devices[0].seen == .unknown && other.devices[0].pageCount == nil)
    #expect(
      other.unknown
        == ["dmar0 at 0xfed90000: tables of this kind are not walked; pages are not counted"])
    let lacking = LackingMemory(try Self.memory(), without: [0x2000])
    let hidden = KernelSurvey(Self.state(), role: .old, resources: nil, in: lacking)
    #expect(hidden.devices[0].seen == .unknown && hidden.findings.isEmpty)
    #expect(!hidden.unknown.isEmpty)
  }

  /// What a driver has written to GCMD_REG last: TE, QIE, IRE, and CFI.
  @Test func `a unit that translates is on as far as its driver has switched it on`() throws {
    func status(_ command: UInt32?) throws -> UInt32? {
      var state = Self.state()
      state.units[0].command = command
      let made = KernelMachine(state, in: try Self.memory())
      let unit = try #require(made.machine.units.first?.as(VTd.Unit.self))
      return unit.status?.rawValue
    }
    // As the registers of the same machine had it: TES, RTPS, QIES, IRES.
    #expect(try status(0x8600_0000) == 0xc600_0000)
    #expect(try status(0x8080_0000) == 0xc080_0000)
    // What is not known to translate is looked at as before: whoever has tables has used them.
    #expect(try status(0x0600_0000) == nil && status(nil) == nil)
  }

  @Test func `numbers of allocators as the Rule has them`() throws {
    let state = Self.state(devices: [
      Self.device(0x18, group: 1), Self.device(0x20, group: 2, .none),
    ])
    let allocators = state.allocators
    #expect(allocators.map(\.devices) == [[Self.function(0x18)]])
    #expect(allocators[0].root == PhysicalAddress(0x3000) && allocators[0].isWhole)
    #expect(
      allocators[0].held == [
        .init(IOVA(0x1_0000)..<IOVA(0x2_0000), .taken),
        .init(IOVA(0x8_0000)..<IOVA(0x8_1000), .taken),
        .init(IOVA(0x9_0000)..<IOVA(0x9_2000), .cached),
        .init(IOVA(0xa_0000)..<IOVA(0xa_1000), .waiting),
      ])
    // Nobody uses the numbers of a domain that nothing is attached to.
    #expect(Self.state(devices: [Self.device(0x18, group: 1, .none)]).allocators.isEmpty)
  }

  @Test func `dates`() {
    for (seconds, text) in [
      (0, "1970-01-01 00:00:00 UTC"), (951_782_400, "2000-02-29 00:00:00 UTC"),
      (1_795_868_069, "2026-11-28 12:14:29 UTC"), (4_107_542_399, "2100-02-28 23:59:59 UTC"),
      (4_107_542_400, "2100-03-01 00:00:00 UTC"),
    ] as [(UInt64, String)] {
      #expect(KernelReport.dateText(seconds) == text)
    }
    #expect(KernelReport.dateText(.max) == "18446744073709551615 seconds after 1970")
  }

  @Test func `text is broken between words, and words that are too long within`() {
    #expect(KernelReport.wrapped("one two three", to: 8) == ["one two", "three"])
    #expect(KernelReport.wrapped("abcdefghij", to: 4) == ["abcd", "efgh", "ij"])
    #expect(KernelReport.wrapped("", to: 4) == [""])
  }
}
