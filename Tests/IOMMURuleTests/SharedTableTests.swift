import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMURule

/// What holds of a table is said once, however many devices share it.
@Suite struct SharedTableTests {
  /// All devices of bus 0 go through the table of three levels at 0x3000, 05:01.0 through one of its own.
  ///
  /// Root entry 5 leads to contexts at 0xa000, and 05:01.0 to 0xb000.
  private func shared(by count: UInt64 = 256) throws -> Dump {
    let dump = try Dump(
      [Dump.unit()],
      words: [
        (0x1000, 0x2001), (0x1050, 0xa001), (0x3000, 0x4003), (0x4000, 0x7003),
        (0xa080, 0xb001), (0xa088, 0x501), (0xb000, 0xc003), (0xc000, 0xd003),
      ])
    for device in 0..<count {
      dump.store(0x3001, at: 0x2000 + device * 16)
      dump.store(0x301, at: 0x2008 + device * 16)
    }
    return dump
  }

  @Test func `two devices with one table are one finding with both names`() throws {
    let dump = try shared(by: 2)
    dump.store(0x20_1003, at: 0x7080)
    dump.store(0xf000, at: 0xa080)
    let verdict = try dump.check(devices: []).noOtherNumber()
    #expect(
      verdict.texts == [
        "00:00.0 and 00:00.1: 0x10000..<0x11000 maps to 0x201000, in the crash kernel"
      ])
    #expect(verdict.findings[0].owner == .requester(PCI.Function(Requester("00:00.0")!)))
    #expect(verdict.findings[0].others == [.requester(PCI.Function(Requester("00:00.1")!))])
  }

  @Test func `of very many runs in the crash kernel some of each table are kept`() throws {
    // One page at every second number, forty times, and once in another table.
    let dump = try shared(by: 1)
    for page in 0..<40 as Range<UInt64> {
      dump.store(0x20_1003, at: 0x7000 + 16 * page)
    }
    dump.store(0x20_1003, at: 0xd000)
    let survey = TableSurvey(dump.machine, in: dump.memory, runLimit: 30)
    let first = try #require(survey[survey.tables[0].table])
    #expect(first.strays.count == 30 && first.writable.count == 30)
    #expect(
      first.gaps.map(\.text) == [
        "00:00.0 IOVA 0x3c000..<0x4f000: unknown, there are more of them than are looked at"
      ])
    let second = try #require(survey[survey.tables[1].table])
    #expect(second.strays.count == 1 && second.gaps.isEmpty)
  }

  @Test func `up to four names are told, more are counted`() throws {
    for (count, text) in [
      (1, "00:00.0"), (3, "00:00.0, 00:00.1 and 00:00.2"),
      (4, "00:00.0, 00:00.1, 00:00.2 and 00:00.3"), (5, "00:00.0 and 4 more"),
    ] as [(UInt64, String)] {
      let dump = try shared(by: count)
      dump.store(0x20_1003, at: 0x7080)
      #expect(try dump.check(devices: []).noOtherNumber().findings[0].subjectText == text)
    }
  }

  @Test func `a table that many share hides no finding of another`() throws {
    // Eight numbers of 256 devices lead into the crash kernel, and one of another device.
    let dump = try shared()
    for page in 0..<8 as Range<UInt64> { dump.store(0x20_1003, at: 0x7080 + page * 16) }
    dump.store(0x20_2003, at: 0xd008)
    let check = try dump.check(devices: []) { $0.freedTables = [] }
    let strays = check.noOtherNumber()
    #expect(strays.findings.count == 9)
    #expect(!strays.isTruncated)
    #expect(
      strays.texts[8] == "05:01.0: 0x1000..<0x2000 maps to 0x202000, in the crash kernel")
    #expect(check.leftoverDisjoint().findings.count == 9)
    #expect(check.exposure().findings.count == 9)
    let text =
      "4 of 4 pages are not mapped to themselves; the first: read faults: read without read "
      + "permission, or no mapping"
    // Neither maps the crash kernel to itself: two tables are two findings.
    #expect(
      check.identity().texts == [
        "00:00.0 and 255 more: " + text, "05:01.0: " + text,
      ])
    #expect(check.tablesSound().texts == [])
  }

  @Test func `devices without a table whose requests end alike are one finding`() throws {
    let dump = try shared(by: 1)
    let verdict = try dump.check(devices: ["00:05.0", "00:06.0"]).identity()
    #expect(verdict.findings.count == 1)
    #expect(verdict.findings[0].subjectText == "00:05.0 and 00:06.0")
  }

  @Test func `pass-through devices are one finding`() throws {
    let dump = try shared(by: 0)
    for device in 0..<256 as Range<UInt64> {
      dump.store(0x9, at: 0x2000 + device * 16)
      dump.store(0x302, at: 0x2008 + device * 16)
    }
    let verdict = try dump.check(devices: []).exposure()
    #expect(
      verdict.texts == [
        "00:00.0 and 255 more: their DMA passes untranslated and can write 0x200000..<0x204000, in the "
          + "crash kernel, at any time"
      ])
  }

  @Test func `what is not known of a table is told once`() throws {
    let dump = try shared()
    let check = try dump.check(devices: [], lacking: [0x7000])
    #expect(
      check.noOtherNumber().texts == [
        "00:00.0 and 255 more: 0x0..<0x200000: unknown, the table of level 1 at 0x7000 is not in this "
          + "dump"
      ])
  }

  @Test func `tables in the crash kernel are told once, those of contexts too`() throws {
    // Every root entry leads to the same contexts; they and the page tables lie in the crash kernel.
    let dump = try Dump(
      [Dump.unit()], words: [(0x20_0000, 0x20_1001), (0x20_0008, 0x301), (0x20_1000, 0x20_2003)])
    for bus in 0..<256 as Range<UInt64> { dump.store(0x20_0001, at: 0x1000 + bus * 16) }
    let verdict = try dump.check(devices: []) { $0.freedTables = [] }.tablesSound()
    #expect(
      verdict.texts == [
        "context table at 0x200000 lies in the crash kernel",
        "00:00.0 and 255 more: table at 0x201000 lies in the crash kernel",
        "00:00.0 and 255 more: table at 0x202000 lies in the crash kernel",
      ])
  }

  @Test func `entries that stop requests use up no room of what lets them pass`() throws {
    // Bit 4 of a context entry is reserved: 1,536 devices are refused. One more has a table in the crash
    // kernel.
    let dump = try Dump([Dump.unit()])
    for bus in 0..<6 as Range<UInt64> {
      dump.store(0x4_0001 + bus << 12, at: 0x1000 + bus * 16)
      for device in 0..<256 as Range<UInt64> {
        dump.store(0x6011, at: 0x4_0000 + bus << 12 + device * 16)
        dump.store(0x401, at: 0x4_0008 + bus << 12 + device * 16)
      }
    }
    dump.store(0x5_0001, at: 0x1060)
    dump.store(0x20_0001, at: 0x5_0000)
    dump.store(0x301, at: 0x5_0008)
    let verdict = try dump.check(devices: []) { $0.freedTables = [] }.tablesSound()
    #expect(verdict.texts[0] == "06:00.0: table at 0x200000 lies in the crash kernel")
    #expect(verdict.isTruncated)
    #expect(verdict.findings.count == 1 + 1024)
  }
}
