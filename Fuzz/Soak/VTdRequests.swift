import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

// What devices ask beside translations: pages that are not there (Intel VT-d 7.4 to 7.6), and interrupts
// (chapter 5).

/// A device as its unit sees it: it drops translations, or is late, and gets answers to its page requests.
final class SoakDevice: DeviceTLB {
  let isLate = Word()
  /// For each group of page requests what came as an answer: how many so far, and in the lower bits the
  /// last one's ``word(pasid:code:)``.
  let answers = (0..<VTdMachine.groupCount).map { _ in Word() }
  /// The same as software has sent them, stored before.
  let sent = (0..<VTdMachine.groupCount).map { _ in Word() }
  /// Groups whose last request a unit has taken: how many.
  let asked = (0..<VTdMachine.groupCount).map { _ in Word() }

  func invalidate(_: VTd.DeviceTLBRange, of _: DeviceTLBTarget) -> DeviceTLBInvalidationResult {
    isLate.load() == 0 ? .completed : .timedOut
  }

  func receive(_ response: PageGroupResponse) {
    let word = answers[Int(response.groupIndex)]
    word.store(
      Self.next(
        word.load(),
        Self.word(pasid: response.pasid.map(UInt64.init), code: UInt64(response.code.rawValue))))
  }

  static func word(pasid: UInt64?, code: UInt64) -> UInt64 {
    (pasid.map { 1 << 24 | $0 << 4 } ?? 0) | code
  }

  /// One answer more.
  static func next(_ word: UInt64, _ answer: UInt64) -> UInt64 {
    (word >> 32 &+ 1) << 32 | answer
  }
}

/// What must become of the interrupts of one entry, while the driver changes it and devices send.
///
/// Bits 1:0 say what. Bits 9:2 are the vector, 17:10 the destination, 25:18 the number of the device that
/// may send, 63:32 count the changes.
struct InterruptState: Equatable {
  enum Kind: UInt64 { case blocked, delivered, posted, changing }

  var rawValue: UInt64

  var kind: Kind { Kind(rawValue: rawValue & 3)! }
  var vector: UInt64 { rawValue >> 2 & 0xff }
  var destination: UInt64 { rawValue >> 10 & 0xff }
  var device: Int { Int(rawValue >> 18 & 0xff) }

  /// The next state.
  func next(_ kind: Kind, vector: UInt64 = 0, destination: UInt64 = 0, device: Int = 0)
    -> InterruptState
  {
    InterruptState(
      rawValue: (rawValue >> 32 &+ 1) << 32 | UInt64(device) << 18 | destination << 10
        | vector << 2 | kind.rawValue)
  }
}

extension VTdMachine {
  /// PRGI has nine bits.
  static let groupCount = 512
  static let interruptCount = 64
  private static let interruptTable: UInt64 = 0x2_0000
  private static let postedDescriptors: UInt64 = 0x3_0000
  private static let pageRequestQueue: UInt64 = 0x4_0000
  private static let pageRequestQueueByteCount: UInt64 = 4096

  /// Interrupt remapping, and a queue for page requests, as far as the unit has them.
  func setUpRequests() {
    guard hasQueue else { return }
    // S = 5: 2^6 entries; EIME in scalable mode.
    write(Self.interruptTable | (isScalable ? 0x800 : 0) | 5, 0xb8, 8)
    command(24)
    submit([4])
    complete()
    command(25)
    if isScalable { write(Self.pageRequestQueue, 0xd0, 8) }
  }

  /// Everything that was asked has been answered.
  func checkRequestsAtRest() {
    guard isScalable else { return }
    servePageRequests()
    expect(read(0xc0, 8) == read(0xc8, 8), "page requests are left")
    for (number, device) in devices.enumerated() {
      for group in 0..<Self.groupCount {
        let (asked, answered) = (device.asked[group].load(), device.answers[group].load() >> 32)
        expect(
          asked == answered,
          "group \(group) of device \(number) was asked \(asked) times and answered \(answered) times"
        )
      }
    }
  }

  // MARK: Page requests

  /// Takes all requests out of the queue, maps what they ask for, and answers them.
  func servePageRequests() {
    // The flag first, so that what comes meanwhile sets it again.
    write(1, 0xdc)
    var head = read(0xc0, 8)
    var answers = 0
    while head != read(0xc8, 8) {
      let words = (0..<4).map { word in
        memory.quadword(at: PhysicalAddress(Self.pageRequestQueue + head + 8 * word)) ?? 0
      }
      expect(words[0] & 0xff == 1 && words[2] == 0 && words[3] == 0, "\(words) is no page request")
      if serve(words) { answers += 1 }
      if answers == 16 {
        complete()
        answers = 0
      }
      head = (head + 32) % Self.pageRequestQueueByteCount
      write(head, 0xc0, 8)
    }
    if answers > 0 { complete() }
    if read(0xdc) & 2 != 0 { write(2, 0xdc) }
  }

  /// - Returns: Whether the request was the last of its group, and is answered.
  private func serve(_ words: [UInt64]) -> Bool {
    let requester = words[0] >> 16 & 0xffff
    let hasPASID = words[0] >> 8 & 1 == 1
    let pasid = words[0] >> 32 & 0xf_ffff
    let group = words[1] >> 3 & 0x1ff
    guard
      let device = (0..<Self.deviceCount).first(where: {
        UInt64(Self.requester($0).rawValue) == requester
      })
    else { fail("a page request of \(requester), which no device is") }
    expect(pasid == (hasPASID ? UInt64(Self.pasid) : 0), "a page request has PASID \(pasid)")
    let space = spaces[Int(owners[device * 2 + (hasPASID ? 1 : 0)].load() & 0xffff) - 1]
    // The device may have been moved since it asked.
    let index = space.shadow.index(of: words[1] & ~0xfff)
    if let index { map(index, of: space) }
    guard words[1] >> 2 & 1 == 1 else { return false }
    let code: UInt64 = index.map { space.shadow[$0].kind == .mapped } == true ? 0 : 1
    let sent = devices[device].sent[Int(group)]
    sent.store(
      SoakDevice.next(sent.load(), SoakDevice.word(pasid: hasPASID ? pasid : nil, code: code)))
    submit([
      9 | (hasPASID ? 1 << 4 : 0) | code << 12 | requester << 16 | pasid << 32, group << 3,
    ])
    figures.pageGroups += 1
    return true
  }

  // MARK: Interrupts

  /// Lets an entry mean something else, and waits until the unit has forgotten what it meant.
  func changeInterrupt() {
    let index = generator.below(Self.interruptCount)
    let old = InterruptState(rawValue: interrupts[index].load())
    let changing = old.next(.changing)
    interrupts[index].store(changing.rawValue)
    let place = Self.interruptTable + UInt64(index) * 16
    let kind: InterruptState.Kind =
      generator.oneIn(4) ? .blocked : isScalable && generator.oneIn(3) ? .posted : .delivered
    let (vector, destination) = (0x20 + generator.next() % 0xd0, generator.next() & 0xff)
    let device = generator.below(Self.deviceCount)
    // SVT 1: this requester and no other.
    let source = UInt64(Self.requester(device).rawValue) | 1 << 18
    store(0, place)
    switch kind {
    case .posted:
      let descriptor = Self.postedDescriptors + UInt64(index) * 64
      for word in 0..<8 as Range<UInt64> { store(0, descriptor + word * 8) }
      // NV and NDST of the notification: as a delivered interrupt has them.
      store(vector << 16 | destination << 32, descriptor + 32)
      store(source | (descriptor >> 32) << 32, place + 8)
      store(1 | 1 << 15 | vector << 16 | (descriptor >> 6 & 0x3ff_ffff) << 38, place)
    case .delivered:
      store(source, place + 8)
      store(1 | vector << 16 | destination << (isScalable ? 32 : 40), place)
    default: store(source, place + 8)
    }
    // G, and the run of 2^IM entries that this one lies in; or all of them.
    let mask = UInt64(generator.below(4))
    submit(generator.oneIn(4) ? [4] : [4 | 1 << 4 | mask << 27 | UInt64(index) << 32])
    complete()
    interrupts[index].store(
      changing.next(kind, vector: vector, destination: destination, device: device).rawValue)
    figures.interruptChanges += 1
  }

  /// Whether an interrupt stands in the descriptor of an entry that posts.
  func isPosted(_ index: Int, vector: UInt64) -> Bool {
    let word = Self.postedDescriptors + UInt64(index) * 64 + vector / 64 * 8
    return (memory.quadword(at: PhysicalAddress(word)) ?? 0) >> (vector % 64) & 1 == 1
  }
}

extension Devices {
  /// An interrupt, held against what was known before and after.
  func sendInterrupt() {
    let index = generator.below(VTdMachine.interruptCount)
    let word = machine.interrupts[index]
    let before = InterruptState(rawValue: word.load())
    let device = generator.oneIn(4) ? generator.below(VTdMachine.deviceCount) : before.device
    let requester = VTdMachine.requester(min(device, VTdMachine.deviceCount - 1))
    guard !generator.oneIn(32) else {
      // Without CFI no message in the old format passes, whatever entries say.
      let old = VTd.InterruptRequest(
        address: VTd.InterruptAddress(rawValue: 0xfee0_0000),
        data: VTd.InterruptData(rawValue: 0x31))
      expectBlocked(machine.unit.remap(old, from: requester), 0x25)
      return
    }
    // Handle in the address, and half of them with a subhandle in the data.
    let subhandle = generator.oneIn(2) ? UInt16(generator.below(index + 1)) : 0
    let handle = UInt32(index - Int(subhandle))
    let request = VTd.InterruptRequest(
      address: VTd.InterruptAddress(
        rawValue: 0xfee0_0010 | handle << 5 | (subhandle > 0 ? 8 : 0)),
      data: VTd.InterruptData(rawValue: UInt32(subhandle)))
    let outcome = machine.unit.remap(request, from: requester)
    let isThere =
      if case .posted = outcome { machine.isPosted(index, vector: before.vector) } else { false }
    guard word.load() == before.rawValue, before.kind != .changing else {
      figures.interruptsDuringChange += 1
      return
    }
    guard before.kind != .blocked else { return expectBlocked(outcome, 0x22) }
    guard requester == VTdMachine.requester(before.device) else {
      return expectBlocked(outcome, 0x26)
    }
    let delivery = InterruptDelivery(
      vector: UInt8(before.vector), destination: UInt32(before.destination))
    if before.kind == .delivered {
      expect(outcome == .delivered(delivery), "interrupt \(index) is \(outcome), not \(delivery)")
      figures.delivered += 1
    } else {
      guard case .posted(let notification) = outcome else {
        fail("interrupt \(index) is \(outcome), and not posted")
      }
      expect(isThere, "interrupt \(index) is posted, and does not stand in its descriptor")
      expect(
        notification == nil || notification == delivery,
        "the notification of interrupt \(index) is \(outcome), not \(delivery)")
      figures.posted += 1
    }
  }

  private func expectBlocked(_ outcome: InterruptOutcome, _ reason: UInt8) {
    guard case .blocked(let fault) = outcome, fault.reason.rawValue == reason else {
      fail("an interrupt is \(outcome), and not blocked with reason \(reason)")
    }
    figures.blocked += 1
  }

  /// A group of requests for pages, of which software answers the last; first what came for the one
  /// before.
  func askForPages(_ slot: Int) {
    guard !groups.isEmpty else { return }
    let device = machine.devices[slot / 2]
    let group = groups.lowerBound + generator.below(groups.count)
    let asked = device.asked[group].load()
    let answer = device.answers[group].load()
    // Still under way.
    guard answer >> 32 == asked else { return }
    expect(
      answer == device.sent[group].load(),
      "device \(slot / 2) got answer \(answer) for group \(group), and \(device.sent[group].load()) was sent"
    )
    let owner = machine.owners[slot].load()
    guard let shadow = shadow(owner) else { return }
    let count = 1 + generator.below(3)
    let indices = (0..<count).map { _ in generator.below(shadow.pageCount) }
    for (number, index) in indices.enumerated() {
      let isLast = number == count - 1
      if isLast { device.asked[group].store(asked + 1) }
      let outcome = port.submitPageRequest(
        PageRequest(
          VTdMachine.requester(slot / 2), pasid: slot % 2 == 1 ? PASID(VTdMachine.pasid) : nil,
          address: IOVA(shadow.address(index)), reads: true, writes: generator.oneIn(2),
          isLastInGroup: isLast, groupIndex: UInt16(group)))
      switch outcome {
      case .queued: figures.pageRequests += 1
      case .dropped(let response):
        if isLast { device.asked[group].store(asked) }
        expect((response != nil) == isLast, "\(outcome) of a request whose LPIG is \(isLast)")
        if response?.code == .invalidRequest {
          expect(machine.owners[slot].load() != owner, "slot \(slot) may ask for pages: \(outcome)")
        }
        figures.droppedRequests += 1
      }
    }
  }
}
