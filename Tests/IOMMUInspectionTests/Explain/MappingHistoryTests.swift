import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import Testing

@Suite struct MappingHistoryTests {
  typealias Event = MappingHistory.Event

  /// What is said of the first fault of a log.
  func history(
    _ lines: String, _ events: [Event], change: (inout MappingHistory) -> Void = { _ in }
  ) throws -> [String] {
    let reader = log(lines)
    var history = MappingHistory(reader.faults)
    for event in events { history.note(event) }
    change(&history)
    var context = FaultContext()
    context.history = history
    var explanation = FaultExplanation(try #require(reader.faults.first))
    context.complete(&explanation)
    return explanation.history
  }

  func at(_ microseconds: UInt64) -> LogTime { LogTime(.kernel, microseconds: microseconds) }
  /// So many whole seconds.
  func at(s seconds: UInt64) -> LogTime { at(seconds * 1_000_000) }

  static let fault =
    "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x05] x"
  /// The same device and number at 100 s.
  static let at100 = "[  100.000000] \(fault)"
  /// AMD-Vi's events have all bits of the number.
  static let amd100 =
    "[  100.000000] AMD-Vi: Event logged [IO_PAGE_FAULT device=00:03.0 domain=0x0001 address=0x1420 flags=0x0020]"

  let own = Event.Owner.device(PCI.Function(Requester("00:03.0")!))
  let other = Event.Owner.device(PCI.Function(Requester("00:08.0")!))

  /// Something of nobody's, so that the trace does not end before the fault.
  var end: Event { Event(.mapped, 0xffff_0000...0xffff_0fff, time: at(s: 200), line: 99) }

  @Test func `what happened to a number before its fault is told with how long before`() throws {
    #expect(
      try history(
        "[  301.000002] \(Self.fault)",
        [
          Event(
            .mapped, 0x1000...0x1fff, task: "kworker/0:1-123", time: at(299_998_750), line: 2),
          Event(.mapped, 0x2000...0x2fff, time: at(299_999_500), line: 3),
          Event(.mapped, 0x1000...0x1fff, of: other, time: at(300_000_000), line: 4),
          Event(.unmapped, 0x0...0x1fff, task: "nvme-7", time: at(300_999_752), line: 5),
          Event(.mapped, 0x1000...0x1fff, time: at(302_000_000), line: 6),
        ]) == [
          "mapped 0x1000..<0x2000 by kworker/0:1-123, 1.001252 s before (line 2)",
          "unmapped 0x0..<0x2000 by nvme-7, 250 us before (line 5)",
          "taken back before the fault: the device used the number too late, if this is the device's own",
          "1 event after the fault",
        ])
  }

  @Test func `the last four events are kept`() throws {
    let events = (0..<7).map { number in
      Event(
        number % 2 == 0 ? .mapped : .unmapped, 0x1000...(.max), time: at(UInt64(number)),
        line: number + 1)
    }
    let texts = try history("[    9.000000] \(Self.fault)", events)
    #expect(texts.first == "3 events before these")
    #expect(texts.count == 7)
    #expect(texts[4] == "mapped 0x1000, 8.999994 s before (line 7)")
  }

  // MARK: Pages

  @Test func `an address that is a page is that of any event in it`() throws {
    let log =
      "[  100.000000] DMAR: [DMA Read NO_PASID] Request device [02:00.0] fault addr 0xfff36000 [fault reason 0x06] x"
    let device = Event.Owner.device(PCI.Function(Requester("02:00.0")!))
    #expect(
      try history(
        log,
        [
          Event(.mapped, 0xfff3_6842...0xfff3_6e2b, of: device, time: at(90_000_001), line: 1),
          Event(.unmapped, 0xfff3_6842...0xfff3_6e2b, of: device, time: at(92_000_001), line: 2),
        ]) == [
          "mapped 0xfff36842..<0xfff36e2c for 02:00.0, 9.999999 s before (line 1)",
          "unmapped 0xfff36842..<0xfff36e2c for 02:00.0, 7.999999 s before (line 2)",
          "taken back before the fault: the device used the number too late",
          "the trace ends 7.999999 s before the fault: what came then is not in it",
        ])
    #expect(
      try history(
        log,
        [Event(.read, 0xfff3_6842...0xfff3_6e2b, of: device, time: at(90_000_001), line: 1)]
      ).first == "read 0xfff36842..<0xfff36e2c for 02:00.0, 9.999999 s before (line 1)")
  }

  @Test(arguments: [
    (Event.Kind.mapped, 0x1800, true), (.unmapped, 0x1800, true), (.mapped, 0x2000, false),
    // What a device reads is bytes.
    (.read, 0x1800, false), (.read, 0x1400, true), (.synced, 0x1800, false),
  ])
  func `an exact address is compared with bytes, and with the pages that are mapped`(
    kind: Event.Kind, start: UInt64, isAbout: Bool
  ) throws {
    let texts = try history(
      Self.amd100, [Event(kind, start...start + 0x3f, time: at(s: 99), line: 1)])
    #expect((texts.first != Self.none) == isAbout, "\(texts)")
  }

  static let none = "no event of the trace before the fault is about this number"

  @Test func `an address within a page that a unit translates is in it`() throws {
    #expect(
      try history(
        "7@100.000000:vtd_dmar_fault sid 0x18 fault 5 addr 0xfff36420 write 1",
        [
          Event(
            .translated, 0xfff3_6000...0xfff3_6fff,
            time: LogTime(.epoch, microseconds: 99_000_000), line: 1)
        ]
      ).first == "translated 0xfff36000..<0xfff37000, 1.000000 s before (line 1)")
  }

  @Test func `of two mappings in a page the other one stays`() throws {
    let first = Event(.mapped, 0x1000...0x10ff, of: own, time: at(s: 90), line: 1)
    let second = Event(.mapped, 0x1800...0x18ff, of: own, time: at(s: 91), line: 2)
    func unmapped(_ range: ClosedRange<UInt64>) -> Event {
      Event(.unmapped, range, of: own, time: at(s: 92), line: 3)
    }
    #expect(
      try history(Self.at100, [first, second, unmapped(0x1800...0x18ff), end]).last
        == "mapped at the time of the fault")
    #expect(
      try history(Self.at100, [first, second, unmapped(0x1400...0x14ff), end]).last
        == "taken back perhaps: line 3 unmaps another part of the page")
    #expect(
      try history(Self.at100, [first, second, unmapped(0x1000...0x1fff), end]).last
        == "taken back before the fault: the device used the number too late")
  }

  @Test func `more mappings in a page than are kept are no reason to be sure`() throws {
    let events = (0..<17).map { number in
      let start = 0x1000 + UInt64(number) * 64
      return Event(
        .mapped, start...start + 63, of: own, time: at(90_000_000 + UInt64(number)),
        line: number + 1)
    }
    #expect(
      try history(Self.at100, events + [end]).last
        == "mapped perhaps: more was mapped at once than is kept")
  }

  // MARK: What is known

  @Test func `times that cannot be compared say nothing of before`() throws {
    let mapped = Event(.mapped, 0x1000...0x1fff, of: own, time: at(1_500), line: 1)
    let told = [
      "mapped 0x1000..<0x2000 for 00:03.0 (line 1)",
      "the log's time and the trace's cannot be compared: these are the last of the whole trace, and "
        + "whether they came before the fault is not known",
    ]
    for stamp in [
      "", "[Sun Nov 29 02:30:54 2026] ", "[Nov29 02:30] ", "[  +0.000013] ",
      "Nov 29 02:30:54 host kernel: ", "2026-11-29T02:30:54.123456+00:00 host kernel: ",
      "1700000000.123456 host kernel: ", "(XEN) [  100.000000] ", "7@1700000000.123456:",
    ] {
      #expect(try history(stamp + Self.fault, [mapped]) == told, "\(stamp)")
    }
    // A trace of which the clock counts ticks.
    #expect(
      try history(Self.at100, [Event(.mapped, 0x1000...0x1fff, of: own, line: 1)]) == told)
    #expect(
      try history(Self.fault, [Event(.mapped, 0x9000...0x9fff, time: at(1), line: 1)]) == [
        "no event of the trace is about this number"
      ])
    #expect(
      try history(
        "[    1.000000] \(Self.fault)", [Event(.mapped, 0x5000...0x5fff, time: at(s: 2), line: 1)])
        == [Self.none, "the trace begins after the fault"])
  }

  @Test func `a trace that ends before the fault says what was then`() throws {
    #expect(
      try history(
        Self.at100, [Event(.mapped, 0x1000...0x1fff, of: own, time: at(s: 98), line: 1)]) == [
          "mapped 0x1000..<0x2000 for 00:03.0, 2.000000 s before (line 1)",
          "mapped when the trace ends",
          "the trace ends 2.000000 s before the fault: what came then is not in it",
        ])
  }

  @Test func `what is in no order of time decides nothing`() throws {
    #expect(
      try history(
        Self.at100,
        [
          Event(.unmapped, 0x1000...0x1fff, of: own, time: at(s: 95), line: 1),
          Event(.mapped, 0x1000...0x1fff, of: own, time: at(s: 90), line: 2), end,
        ]
      ).last
        == "the trace's events are not in the order of their times: what was the last before the fault "
        + "is not known")
  }

  @Test func `the device's own events decide over those of nobody`() throws {
    let unmapped = Event(.unmapped, 0x1000...0x1fff, of: own, time: at(s: 92), line: 1)
    let anonymous = Event(.mapped, 0x1000...0x1fff, time: at(s: 95), line: 2)
    #expect(
      try history(Self.at100, [unmapped, anonymous, end]).last
        == "taken back before the fault: the device used the number too late")
    #expect(
      try history(Self.at100, [anonymous, end]).last
        == "mapped at the time of the fault, if this is the device's own")
    let mapped = Event(.mapped, 0x1000...0x1fff, of: own, time: at(s: 92), line: 1)
    #expect(
      try history(Self.at100, [mapped, anonymous, end]).last == "mapped at the time of the fault")
    #expect(
      try history(
        Self.at100,
        [mapped, Event(.unmapped, 0x1000...0x1fff, time: at(s: 95), line: 2), end]
      ).last
        == "mapped at the time of the fault, unless line 2 took it back, which names no device")
  }

  @Test func `events of devices that are not on PCI are no PCI device's`() throws {
    let event = Event(
      .mapped, 0x1000...0x1fff, of: .other("1e784000.usb"), time: at(s: 99), line: 1)
    #expect(try history(Self.at100, [event, end]) == [Self.none])
    // Of a stream nobody knows which device it is.
    let stream = """
      [  100.000000] arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:
      [  100.000000] arm-smmu-v3 arm-smmu-v3.0.auto: 0x0000000700000010
      [  100.000000] arm-smmu-v3 arm-smmu-v3.0.auto: 0x0000020800000000
      [  100.000000] arm-smmu-v3 arm-smmu-v3.0.auto: 0x0000000000001000
      [  100.000000] arm-smmu-v3 arm-smmu-v3.0.auto: 0x0000000000000000
      """
    #expect(
      try history(stream, [event, end]) == [
        "mapped 0x1000..<0x2000 for 1e784000.usb, 1.000000 s before (line 1)",
        "mapped at the time of the fault, if this is the device's own",
      ])
  }

  @Test func `a sync maps nothing`() throws {
    let synced = Event(.synced, 0x1000...0x1fff, of: own, time: at(s: 99), line: 2)
    #expect(
      try history(Self.at100, [synced, end]) == [
        "synced 0x1000..<0x2000 for 00:03.0, 1.000000 s before (line 2)"
      ])
    let unmapped = Event(.unmapped, 0x1000...0x1fff, of: own, time: at(s: 92), line: 1)
    #expect(
      try history(Self.at100, [unmapped, synced, end]).last
        == "taken back before the fault: the device used the number too late")
  }

  // MARK: Lists

  func mapped(
    _ memory: [UInt64]?, isCut: Bool = false, numbers: ClosedRange<UInt64> = 0x1000...0x1fff,
    at seconds: UInt64 = 90, line: Int = 1
  ) -> Event {
    Event(
      .mapped, numbers, of: own, list: .init(memory, isCut: isCut), time: at(s: seconds), line: line
    )
  }

  func unmapped(_ memory: [UInt64]?, at seconds: UInt64 = 92, line: Int = 2) -> Event {
    Event(.unmapped, nil, of: own, list: .init(memory), time: at(s: seconds), line: line)
  }

  static let perhaps =
    "taken back perhaps: line 2 unmaps a list, and it is not known whether it is this one"

  @Test func `a list is unmapped by its memory`() throws {
    #expect(
      try history(
        Self.at100,
        [
          mapped([0x7000, 0x9000]), mapped([0x7000, 0x9000], numbers: 0x2000...0x2fff),
          unmapped([0x7000, 0x9000]), end,
        ]) == [
          "mapped 0x1000..<0x2000 for 00:03.0, 10.000000 s before (line 1)",
          "unmapped 0x1000..<0x2000 for 00:03.0, 8.000000 s before (line 2)",
          "taken back before the fault: the device used the number too late",
        ])
    // Other memory, or another device's.
    var others = unmapped([0x7000, 0x9000])
    others.owner = other
    for event in [unmapped([0xa000]), others] {
      #expect(
        try history(Self.at100, [mapped([0x7000, 0x9000]), event, end]).last
          == "mapped at the time of the fault")
    }
    // After the fault.
    #expect(
      try history(Self.at100, [mapped([0x7000]), unmapped([0x7000], at: 101), end]).suffix(2) == [
        "mapped at the time of the fault", "1 event after the fault",
      ])
  }

  @Test func `a list that cannot be told is taken back perhaps`() throws {
    for (memory, gone) in [
      ([0x7000, 0x9000], nil), (nil, [0x7000, 0x9000]), ([0x7000, 0x9000], [0x9000]),
    ] as [([UInt64]?, [UInt64]?)] {
      #expect(
        try history(Self.at100, [mapped(memory), unmapped(gone), end]).last == Self.perhaps)
    }
    // The same memory, twice at once: the first unmap is of either, the second is the other's.
    let twice = [
      mapped([0x7000]), mapped([0x7000], numbers: 0x8000...0x8fff, line: 5), unmapped([0x7000]),
    ]
    #expect(try history(Self.at100, twice + [end]).last == Self.perhaps)
    #expect(
      try history(Self.at100, twice + [unmapped([0x7000], at: 93, line: 3), end]).last
        == "taken back before the fault: the device used the number too late")
    // What is mapped anew is.
    #expect(
      try history(Self.at100, twice + [mapped([0xb000], at: 93, line: 6), end]).last
        == "mapped at the time of the fault")
  }

  @Test func `a list that was cut may have the number`() throws {
    let cut = mapped([0x7000], isCut: true, numbers: 0x5000...0x5fff, at: 95, line: 7)
    #expect(
      try history(Self.at100, [cut, end]) == [
        Self.none + "; but the list of line 7 was cut, and the number may be in what is missing"
      ])
    let taken = Event(.unmapped, 0x1000...0x1fff, of: own, time: at(s: 92), line: 2)
    #expect(
      try history(Self.at100, [taken, cut, end]).last
        == "taken back, and mapped again perhaps: the list of line 7 was cut, and the number may be in "
        + "what is missing")
    // After the fault, another device's, or with the number in what is there.
    var late = cut
    late.time = at(s: 150)
    var others = cut
    others.owner = other
    for event in [late, others] {
      #expect(
        try history(Self.at100, [taken, event, end]).last
          == "taken back before the fault: the device used the number too late")
    }
    let held = mapped([0x7000], isCut: true)
    #expect(
      try history(Self.at100, [held, end]).last == "mapped at the time of the fault")
    // The unmap has the whole list.
    #expect(
      try history(Self.at100, [held, unmapped([0x7000, 0x9000]), end]).last
        == "taken back before the fault: the device used the number too late")
  }

  @Test func `lost events leave nothing certain`() throws {
    let mapped = Event(.mapped, 0x1000...0x1fff, of: own, time: at(s: 92), line: 1)
    #expect(
      try history(
        Self.at100, [mapped],
        change: {
          $0.noteLoss(line: 2); $0.note(end)
        }
      ).last
        == "mapped as far as is known: what line 2 tells is lost or not understood")
    let begin = Event(.mapped, 0xffff_0000...0xffff_0fff, time: at(s: 1), line: 1)
    #expect(
      try history(Self.at100, [begin, end], change: { $0.noteLoss(line: 100) })
        == [Self.none + "; but some of it is lost or not understood"])
    // What was lost after the fault changes nothing, and what was lost first takes nothing back.
    var reader = MappingHistory(log(Self.at100).faults)
    reader.noteLoss(line: 1)
    for event in [mapped, end] { reader.note(event) }
    var context = FaultContext()
    context.history = reader
    var explanation = FaultExplanation(try #require(log(Self.at100).faults.first))
    context.complete(&explanation)
    #expect(explanation.history.last == "mapped at the time of the fault")
    #expect(
      try history(Self.at100, [mapped, end], change: { $0.noteLoss(line: 100) }).last
        == "mapped at the time of the fault")
  }

  // MARK: Times of a fault

  @Test func `of a fault that was logged again the last time within the trace counts`() throws {
    let lines = [50, 100, 300].map { "[   \($0 < 100 ? " " : "")\($0).000000] \(Self.fault)\n" }
      .joined()
    #expect(log(lines).faults.first?.count == 3)
    let events = [
      Event(.mapped, 0x1000...0x1fff, of: own, time: at(s: 40), line: 1),
      Event(.unmapped, 0x1000...0x1fff, of: own, time: at(s: 60), line: 2),
      Event(.mapped, 0x1000...0x1fff, of: own, time: at(s: 120), line: 3), end,
    ]
    #expect(
      try history(lines, events) == [
        "logged 3 times; this is for the one at 100.000000 s, the last within the trace",
        "mapped 0x1000..<0x2000 for 00:03.0, 60.000000 s before (line 1)",
        "unmapped 0x1000..<0x2000 for 00:03.0, 40.000000 s before (line 2)",
        "taken back before the fault: the device used the number too late",
        "1 event after the fault",
      ])
    // The trace has no more than the beginning.
    #expect(
      try history(lines, Array(events.prefix(2))).prefix(1) == [
        "logged 3 times; this is for the one at 50.000000 s, the last within the trace"
      ])
    #expect(
      try history(lines, Array(events.prefix(1))) == [
        "logged 3 times; this is for the one at 50.000000 s, the first behind the trace",
        "mapped 0x1000..<0x2000 for 00:03.0, 10.000000 s before (line 1)",
        "mapped when the trace ends",
        "the trace ends 10.000000 s before the fault: what came then is not in it",
      ])
  }

  @Test func `times of a fault are kept evenly, and the last one`() throws {
    let count = 5_000
    let fault = try #require(
      log((0..<count).map { "[ \(1000 + $0).000000] \(Self.fault)\n" }.joined()).faults.first)
    #expect(fault.count == count)
    #expect(fault.times.count <= 1_024)
    #expect(fault.times.count > 500)
    #expect(fault.time == at(s: 1_000))
    #expect(fault.times.last == at(s: 5_999))
    #expect(
      zip(fault.times, fault.times.dropFirst()).allSatisfy { $0.microseconds < $1.microseconds })
  }
}
