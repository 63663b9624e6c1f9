import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUInspection

/// Events with the device table entry that Linux prints behind them.
@Suite struct LoggedDeviceEntryTests {
  private static func illegal(_ flags: String, _ lines: String...) -> [String] {
    [
      "iommu ivhd0: AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=0000:02:00.0 "
        + "pasid=0x00000 address=0x131400000 flags=\(flags)]"
    ] + lines
  }

  private func explained(_ lines: [String]) throws -> FaultExplanation {
    let reader = log(lines)
    #expect(reader.unread.isEmpty)
    return FaultExplanation(try #require(reader.faults.first))
  }

  @Test func `the entry of a translation request is decoded, with what some units reserve`() throws
  {
    let explanation = try explained(
      Self.illegal(
        "0x0180", "AMD-Vi: DTE[0]: 6190000000000003", "AMD-Vi: DTE[1]: 00001001049e000b",
        "AMD-Vi: DTE[2]: 200000013c610013", "AMD-Vi: DTE[3]: 0000000000000000"))
    let walk = try #require(explanation.loggedWalk)
    #expect(walk.steps.map(\.titleText) == ["device table entry [0x200]"])
    #expect(
      walk.steps[0].entry.meaning
        == "GCR3 table 0x1024f0000, 2 levels, guest tables of 4 levels, in host addresses, rw, "
        + "domain 11, translation requests allowed; interrupt table 0x13c610000, 512 entries")
    #expect(walk.steps[0].entry.violations.isEmpty)
    #expect(
      explanation.comparison == [
        "no bit is set that all units reserve; a unit reserves those of features that it lacks: PPR "
          + "(bit 52), GV (bit 55), GLX (bits 57:56), GCR3[30:15] (bits 95:80) and GCR3[51:31] "
          + "(bits 127:107)"
      ])
    #expect(
      explanation.details == [
        "flags 0x180: RZ (a reserved bit was set), TR (the device asked for a translation)"
      ])
  }

  /// As a host with SNP has logged it.
  @Test func `of a host with SNP Mode 0 is suspected, and the control register is read`() throws {
    let explanation = try explained([
      "iommu ivhd3: AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=0000:43:00.0 "
        + "pasid=0x00000 address=0x3737b01000 flags=0x0020]",
      "iommu ivhd3: AMD-Vi: Control Reg : 0xc22000142148d", "AMD-Vi: DTE[0]: 6000000000000003",
      "AMD-Vi: DTE[1]: 0000000000000001", "AMD-Vi: DTE[2]: 2000003088b3e013",
      "AMD-Vi: DTE[3]: 0000000000000000",
    ])
    #expect(
      explanation.details == [
        "flags 0x20: RW (a write)",
        "control register in the log: 0x000c22000142148d, IommuEn, EventLogEn, EventIntEn, "
          + "InvTimeOut 4, Coherent, CmdBufEn, GAEn, SmiFEn, SmiFLogEn, BlkStopMrkEn, EPHEn, XTEn, "
          + "IntCapXTEn",
      ])
    #expect(
      explanation.loggedWalk?.steps.first?.entry.meaning
        == "pass-through, rw, domain 1; interrupt table 0x3088b3e000, 512 entries")
    #expect(
      explanation.comparison == [
        "nothing in this entry is illegal for all units, but Mode 0 (pass-through) is where SNP is on"
      ])
  }

  @Test(arguments: [
    // Bit 2, which all units reserve.
    (
      "0x0080", "6000000000163607", "0000000000000005", "0000000000000000",
      "reserved bits 6:2 are set: 0x1", "faults 0x1: "
    ),
    // Mode 7.
    (
      "0x0000", "6000000000163e03", "0000000000000005", "0000000000000000",
      "Mode is 7, which is reserved", "faults 0x1: "
    ),
    // An interrupt, and IntTabLen 12.
    (
      "0x0008", "0000000000000000", "0000000000000000", "2000000000380019",
      "IntTabLen is 12, and the most is 11", "interrupts are stopped"
    ),
  ])
  func `what is illegal in the entry is named, and is the fault that was logged`(
    flags: String, word0: String, word1: String, word2: String, wrong: String, end: String
  ) throws {
    let explanation = try explained(
      Self.illegal(
        flags, "AMD-Vi: DTE[0]: \(word0)", "AMD-Vi: DTE[1]: \(word1)", "AMD-Vi: DTE[2]: \(word2)",
        "AMD-Vi: DTE[3]: 0000000000000000"))
    let walk = try #require(explanation.loggedWalk)
    #expect(walk.steps[0].entry.violations == [wrong])
    #expect(walk.end.hasPrefix(end), "\(walk.end)")
    #expect(explanation.comparison == ["the fault that was logged"])
  }

  @Test func `an entry without anything illegal is said to have changed`() throws {
    // Mode 3, and the event tells of a reserved bit.
    let explanation = try explained(
      Self.illegal(
        "0x00a0", "AMD-Vi: DTE[0]: 6000000012345603", "AMD-Vi: DTE[1]: 0000000000000005",
        "AMD-Vi: DTE[2]: 0000000000000000", "AMD-Vi: DTE[3]: 0000000000000000"))
    #expect(
      explanation.loggedWalk?.end == "unknown: the next entry is not in the log")
    #expect(
      explanation.comparison == [
        "nothing in this entry is illegal: it was written after the event, or the unit still had an "
          + "older one in its cache"
      ])
  }

  @Test func `doublewords of older kernels are the same entry`() throws {
    let words = [
      "12345603", "60000000", "00000005", "00000000", "00380013", "20000000", "00000000",
      "00000000",
    ]
    let explanation = try explained(
      Self.illegal("0x0080")
        + words.enumerated().map { "AMD-Vi: DTE[\($0.offset)]: \($0.element)" })
    #expect(
      explanation.loggedWalk?.steps.first?.entry.words
        == [0x6000_0000_1234_5603, 5, 0x2000_0000_0038_0013, 0])
  }

  @Test func `an entry belongs to the event before it that calls one illegal, and to no other`() {
    let reader = log(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=01:00.0 domain=0x000d address=0x1000 flags=0x0020]",
      "AMD-Vi: DTE[0]: 6000000012345603", "AMD-Vi: DTE[1]: 0000000000000005",
      "DMAR: root entry: 0x0000000105a66001")
    #expect(reader.faults.map(\.tables.isEmpty) == [true])
    #expect(reader.faults.map(\.tables.deviceDetails) == [[]])
    #expect(
      reader.unread == [
        UnreadLine(
          line: 2, unit: "AMD-Vi",
          reason: "a device table entry, and no line about its event before it")
      ])
  }
}

/// Page requests, and events of the reverse map table.
@Suite struct AMDViFieldTests {
  private func explained(_ line: String) throws -> FaultExplanation {
    FaultExplanation(try #require(log(line).faults.first))
  }

  @Test func `a page request that the unit does not take is told field by field`() throws {
    let explanation = try explained(
      "AMD-Vi: Event logged [INVALID_PPR_REQUEST device=03:00.0 pasid=0x00005 "
        + "address=0x7f0000001000 flags=0x0025 tag=0x123]")
    #expect(
      explanation.attempt
        == "03:00.0 asked for the page of guest virtual address 0x7f0000001000 with PASID 0x5")
    #expect(
      explanation.details == [
        "flags 0x25: GN (a guest's address, with a PASID), US (of user privilege), RW (a write)",
        "PASID 0x5", "tag 0x123, which the answer repeats",
      ])
  }

  @Test func `a page request that the kernel refuses is told field by field`() throws {
    let explanation = try explained(
      "iommu ivhd0: AMD-Vi: PPR logged [Request ignored due to GN=0 (device=0000:03:00.0 "
        + "pasid=0x00005 address=0x7f0000001000 flags=0x0064 tag=0x323]")
    #expect(explanation.attempt == "03:00.0 asked for the page of IOVA 0x7f0000001000")
    #expect(
      explanation.meaning
        == "AMD-Vi PAGE_SERVICE_REQUEST: page request without a PASID, which the kernel refuses")
    #expect(
      explanation.details == [
        "flags 0x64: wants to read and write, of user privilege",
        "PASID 0x5, of no meaning without GN",
        "tag 0x123, the last request of its group",
      ])
  }

  @Test func `events of the reverse map table keep the guest and its flags`() throws {
    let explanation = try explained(
      "AMD-Vi: Event logged [RMP_PAGE_FAULT device=0000:03:00.0, vmg_tag=0x0017, gpa=0x1000, "
        + "flags_rmp=0x0042, flags=0x0020]")
    #expect(explanation.attempt == "03:00.0 reached for guest physical address 0x1000")
    #expect(
      explanation.details == [
        "flags 0x20: what they mean with this event is not known",
        "VMGTag 0x17, by which the unit knows the guest",
        "RMP flags 0x42, of which no source says more",
      ])
  }

  @Test(arguments: [
    (
      "AMD-Vi: IOMMU PPR log restarting",
      "the page request log was full, and page requests are lost"
    ),
    (
      "AMD-Vi: IOMMU GA log restarting",
      "the log of interrupts for guests was full, and interrupts are lost"
    ),
    ("AMD-Vi: GA log notifier failed", "nobody took an interrupt for a guest"),
    (
      "AMD-Vi: Unknown PPR request received",
      "the page request log had an entry that is no page request"
    ),
  ])
  func `messages about the other logs are named`(line: String, reason: String) {
    #expect(log(line).unread == [UnreadLine(line: 1, unit: "AMD-Vi", reason: reason)])
  }
}

/// Events beside the tables of a dump.
@Suite struct AMDViEventTableTests {
  /// 00:03.0 in domain 5 with a table of three levels, 00:04.0 in pass-through and read only, 00:05.0
  /// without translation; 00:03.0 may use the exclusion range 0x200000 to 0x2fffff. 00:03.0 has an
  /// interrupt table.
  private func explained(_ line: String) throws -> FaultExplanation {
    let memory = try FlatMemory(byteCount: 4 << 20)
    func store(_ words: [UInt64], _ address: UInt64) {
      for (index, word) in words.enumerated() {
        memory.store(word, at: PhysicalAddress(address + 8 * UInt64(index)))
      }
    }
    store(
      [0x6000_0000_0016_3603, 0x80_0000_0005, 0x2000_0000_0038_0013], 0x10_0000 + 32 * 0x18)
    store([0x2000_0000_0000_0003, 7], 0x10_0000 + 32 * 0x20)
    var unit = AMDVi.Unit(
      base: PhysicalAddress(0xfed8_0000),
      deviceTable: AMDVi.DeviceTableBase(rawValue: 0x10_0000),
      control: AMDVi.Control(rawValue: 1))
    unit.exclusionBase = AMDVi.ExclusionBase(rawValue: 0x20_0001)
    unit.exclusionLimit = AMDVi.ExclusionLimit(rawValue: 0x2f_f000)
    let explainer = FaultExplainer(Machine(name: "AMD", units: [.amdvi(unit)]), in: memory)
    return explainer.explain(try #require(log(line).faults.first))
  }

  private static func fault(
    _ device: String, domain: String = "0x0005", _ address: String, _ flags: String
  ) -> String {
    "AMD-Vi: Event logged [IO_PAGE_FAULT device=\(device) domain=\(domain) address=\(address) "
      + "flags=\(flags)]"
  }

  @Test func `another domain than the device's is told, and the same is not`() throws {
    let other = try explained(Self.fault("00:03.0", domain: "0x000d", "0x1000", "0x0000"))
    #expect(other.now?.hasPrefix("the same: ") == true)
    let hint =
      "the event names domain 0xd, and device table entry [0x18] has 0x5: it was written after the "
      + "fault, or the unit still had an older one in its cache"
    #expect(other.hints.first == hint)
    let same = try explained(Self.fault("00:03.0", "0x1000", "0x0000"))
    #expect(!same.hints.contains { $0.contains("names domain") })
    // An entry without V has no domain.
    let none = try explained(Self.fault("00:05.0", "0x1000", "0x0000"))
    #expect(!none.hints.contains { $0.contains("names domain") })
    let interrupt = try explained(Self.fault("00:03.0", domain: "0x000d", "0xfdf8000000", "0x0008"))
    #expect(interrupt.hints == [hint])
  }

  @Test(arguments: [
    (
      "00:03.0", "0x200010", "0x0000",
      "allowed: the number is in the unit's exclusion range, so that it reaches 0x200010."
    ),
    (
      "00:04.0", "0x1000", "0x0050",
      "allowed: pass-through (Mode 0), r-, so that it reaches 0x1000."
    ),
    (
      "00:05.0", "0x1000", "0x0000",
      "allowed: nothing translates what this device asks for, so that it reaches 0x1000."
    ),
  ])
  func `what passes without a table is not said to go through one`(
    device: String, address: String, flags: String, now: String
  ) throws {
    let explanation = try explained(Self.fault(device, address, flags))
    #expect(explanation.now?.hasPrefix(now) == true, "\(explanation.now ?? "")")
    #expect(!explanation.isBorneOut)
    #expect(!explanation.hints.contains("the device's table maps nothing at all"))
  }

  @Test func `a write in a pass-through that only reads lacks IW of the device table entry`() throws
  {
    let explanation = try explained(
      Self.fault("00:04.0", domain: "0x0007", "0x1000", "0x0070"))
    #expect(explanation.now?.hasPrefix("the same: ") == true)
    #expect(
      explanation.remedy
        == "IW in the device table entry at 0x100400, which no page table can give")
    #expect(!explanation.hints.contains("the device's table maps nothing at all"))
  }

  @Test func `an entry that the event calls illegal and that is legal now has changed`() throws {
    let explanation = try explained(
      "AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=00:03.0 pasid=0x00000 address=0x1000 "
        + "flags=0x0080]")
    #expect(
      explanation.now?.hasPrefix(
        "the device table entry is legal by what is known of the unit: it was written after the event, "
          + "or the unit still had an older one in its cache. The request faults") == true)
    #expect(!explanation.isBorneOut)
  }

  @Test func `a translated request is held against I of the device table entry`() throws {
    let explanation = try explained(
      "AMD-Vi: Event logged [INVALID_DEVICE_REQUEST device=00:03.0 pasid=0x00000 address=0x1000 "
        + "flags=0x0200]")
    #expect(explanation.now == "the same: device table entry [0x18] at 0x100300 has I clear")
  }

  @Test func `an interrupt is held against the device table entry`() throws {
    let remapped = try explained(Self.fault("00:03.0", "0xfdf8000000", "0x0008"))
    #expect(
      remapped.now
        == "device table entry [0x18] at 0x100300: interrupt table 0x380000, 512 entries")
    #expect(
      remapped.remedy
        == "an entry with RemapEn in this table, at the index that the message's data has")
    let passed = try explained(Self.fault("00:04.0", "0xfdf8000000", "0x0008"))
    #expect(
      passed.now == "device table entry [0x20] at 0x100400: interrupts pass as they are (IV clear)")
    #expect(passed.remedy == nil)
  }
}
