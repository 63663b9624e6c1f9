import IOMMUFormats
import IOMMUTranslation

/// What a trace has said so far of the number of one fault.
struct FaultedNumber: Sendable {
  typealias Event = MappingHistory.Event

  let record: FaultRecord
  let address: UInt64
  /// The log has the page only: VT-d units keep nothing below.
  private let isPage: Bool
  /// How often the fault was logged.
  private let count: Int
  /// When it was logged, ascending; of one clock.
  private let moments: [UInt64]
  private let clock: LogTime.Clock?

  /// After the last event.
  private var state = State()
  /// At the last of the moments that events were behind.
  private var snapshot = State()
  /// Moments that events were behind.
  private var passedCount = 0
  /// Of the last event.
  private var time: UInt64 = 0
  private var isComparable: Bool
  private var isInOrder = true

  /// - Returns: `nil` for a fault without a number of a device's.
  init?(_ fault: LoggedFault) {
    guard let iova = fault.record.iova else { return nil }
    record = fault.record
    address = iova.rawValue
    if case .vtd = fault.record.source {
      isPage = iova.rawValue & Event.offsets == 0
    } else {
      isPage = false
    }
    count = fault.count
    let clock = fault.times.first?.clock
    moments = Set(fault.times.lazy.filter { $0.clock == clock }.map(\.microseconds)).sorted()
    self.clock = clock
    isComparable = clock != nil
  }

  // MARK: Events

  /// Takes note of an event in the pages of which the number lies.
  ///
  /// - Returns: Whether it is about the number.
  mutating func note(_ event: Event) -> Bool {
    guard isAbout(event), let numbers = event.numbers else { return false }
    advance(to: event.time)
    state.keep(event)
    switch event.kind {
    case .mapped: state.map(event, numbers, isOwn: isOwn(event))
    case .unmapped: state.unmap(event, numbers, isOwn: isOwn(event))
    case .synced, .read, .wrote, .translated, .invalidated: break
    }
    return true
  }

  private func isAbout(_ event: Event) -> Bool {
    // Another device's numbers are others.
    switch event.owner {
    case .unknown: break
    case .device(let device): if record.device.map({ $0 != device }) ?? false { return false }
    case .other: if record.device != nil { return false }
    }
    let range: ClosedRange<UInt64>?
    switch event.kind {
    case .mapped, .unmapped, .translated, .invalidated: range = event.pages
    case .synced, .read, .wrote: range = isPage ? event.pages : event.numbers
    }
    return range?.contains(address) ?? false
  }

  private func isOwn(_ event: Event) -> Bool {
    if case .device(let device) = event.owner { device == record.device } else { false }
  }

  /// A list of the device's was mapped, of which the trace has not all.
  mutating func noteCut(_ event: Event) {
    advance(to: event.time)
    state.cutLine = event.line
  }

  /// The list was unmapped that a line has mapped.
  mutating func takeBack(piecesOf line: Int, _ event: Event) {
    advance(to: event.time)
    guard let piece = state.piece(of: line) else { return }
    var told = event
    told.numbers = piece.numbers
    state.keep(told)
    state.takeBack(piecesOf: line)
  }

  /// Whether what a line has mapped is still there is not known any more.
  mutating func doubt(piecesOf line: Int, _ doubt: Doubt, at time: LogTime?) {
    advance(to: time)
    state.doubt(piecesOf: line, doubt)
  }

  mutating func noteLoss(line: Int, at time: LogTime?) {
    advance(to: time)
    state.doubtAll(.loss(line: line))
  }

  /// Keeps what was known at the moments that are behind an event now.
  private mutating func advance(to moment: LogTime?) {
    guard let moment, moment.clock == clock else {
      isComparable = false
      return
    }
    if moment.microseconds < time { isInOrder = false }
    time = max(time, moment.microseconds)
    let before = passedCount
    while passedCount < moments.count, moments[passedCount] < moment.microseconds {
      passedCount += 1
    }
    if passedCount > before { snapshot = state }
  }

  // MARK: Words

  /// Why it is not known whether something is mapped.
  enum Doubt: Sendable {
    /// A list was unmapped that may be this one.
    case list(line: Int)
    /// Another part of the page was unmapped.
    case otherPart(line: Int)
    /// Events were lost, or not understood.
    case loss(line: Int)
    /// More was mapped at once than is kept.
    case many
  }

  /// What happened to the number, in sentences.
  ///
  /// - Parameters:
  ///   - first: The first time of the trace.
  ///   - last: The last one.
  ///   - hasLosses: Events of the trace were lost, or not understood.
  func texts(first: LogTime?, last: LogTime?, hasLosses: Bool) -> [String] {
    guard isComparable, let first, let last, first.clock == clock, last.clock == clock else {
      return incomparableTexts(hasLosses: hasLosses)
    }
    let (moment, place) = chosenMoment(first.microseconds, last.microseconds)
    let then = moment < time ? snapshot : state
    var texts: [String] = []
    if moments.count > 1, place != .beforeTrace {
      let which = place == .within ? "the last within the trace" : "the first behind the trace"
      texts.append(
        "logged \(count) times; this is for the one at \(secondsText(moment)) s, \(which)")
    }
    texts += then.texts(before: moment)
    if then.count == 0 {
      texts.append(
        "no event of the trace before the fault is about this number"
          + then.missingText(hasLosses: hasLosses))
    } else if !isInOrder {
      texts.append(
        "the trace's events are not in the order of their times: what was the last before the fault "
          + "is not known")
    } else if let verdict = then.verdict(isBehindTrace: place == .behindTrace) {
      texts.append(verdict)
    }
    let afterCount = state.count - then.count
    if afterCount > 0 { texts.append("\(countText(afterCount, "event")) after the fault") }
    switch place {
    case .beforeTrace: texts.append("the trace begins after the fault")
    case .behindTrace:
      texts.append(
        "the trace ends \(durationText(moment - last.microseconds)) before the fault: what came then "
          + "is not in it")
    case .within: break
    }
    return texts
  }

  private enum Place { case beforeTrace, within, behindTrace }

  /// The last moment within the trace, else the one next to it.
  private func chosenMoment(_ first: UInt64, _ last: UInt64) -> (UInt64, Place) {
    let behind = moments.firstIndex { $0 > last } ?? moments.count
    if behind > 0, moments[behind - 1] >= first { return (moments[behind - 1], .within) }
    if behind < moments.count { return (moments[behind], .behindTrace) }
    return (moments[behind - 1], .beforeTrace)
  }

  private func incomparableTexts(hasLosses: Bool) -> [String] {
    guard state.count > 0 else {
      return [
        "no event of the trace is about this number" + state.missingText(hasLosses: hasLosses)
      ]
    }
    return state.texts(before: nil) + [
      "the log's time and the trace's cannot be compared: these are the last of the whole trace, and "
        + "whether they came before the fault is not known"
    ]
  }
}

// MARK: What is mapped

/// What is mapped by the events of one kind of witness.
private struct Standing: Sendable {
  /// Mappings that nothing has taken back.
  var pieces: [MappingHistory.Event] = []
  /// Something was taken back.
  var hasUnmapped = false
  var doubt: FaultedNumber.Doubt?
  /// Where something was unmapped behind these mappings that names no device.
  var strangerLine: Int?

  var isKnown: Bool { !pieces.isEmpty || hasUnmapped }
  var isMapped: Bool { !pieces.isEmpty }

  /// More pieces were mapped at once than are kept.
  private var isOverfull = false

  /// Pieces within one page that are kept.
  private static let limit = 16

  mutating func map(_ event: MappingHistory.Event, _ numbers: ClosedRange<UInt64>) {
    pieces.removeAll { $0.numbers?.overlaps(numbers) ?? false }
    pieces.append(event)
    if pieces.count > Self.limit {
      pieces.removeFirst()
      isOverfull = true
    }
    certain()
  }

  mutating func unmap(_ event: MappingHistory.Event, _ numbers: ClosedRange<UInt64>) {
    let count = pieces.count
    pieces.removeAll { $0.numbers?.overlaps(numbers) ?? false }
    if pieces.isEmpty {
      hasUnmapped = true
      certain()
    } else if pieces.count == count {
      doubt = .otherPart(line: event.line)
    }
  }

  mutating func takeBack(piecesOf line: Int) {
    pieces.removeAll { $0.line == line }
    hasUnmapped = true
    if pieces.isEmpty { certain() }
  }

  /// Nothing that was doubted matters any more.
  private mutating func certain() { (doubt, strangerLine) = (isOverfull ? .many : nil, nil) }
}

/// What is known of a number at some moment.
private struct State: Sendable {
  /// The last events about it, oldest first.
  private var events: [MappingHistory.Event] = []
  private(set) var count = 0
  /// By what the device itself did.
  private var own = Standing()
  /// By events that do not say whose they are: those of the kernel's iommu core.
  private var anonymous = Standing()
  /// Where a list of the device's was mapped of which the trace has not all, and nothing since is the
  /// device's own.
  var cutLine: Int?

  /// Events that are kept.
  private static let limit = 4

  mutating func keep(_ event: MappingHistory.Event) {
    count += 1
    events.append(event)
    if events.count > Self.limit { events.removeFirst() }
  }

  mutating func map(_ event: MappingHistory.Event, _ numbers: ClosedRange<UInt64>, isOwn: Bool) {
    guard isOwn else { return anonymous.map(event, numbers) }
    own.map(event, numbers)
    cutLine = nil
  }

  mutating func unmap(_ event: MappingHistory.Event, _ numbers: ClosedRange<UInt64>, isOwn: Bool) {
    guard isOwn else {
      anonymous.unmap(event, numbers)
      if own.isMapped { own.strangerLine = event.line }
      return
    }
    own.unmap(event, numbers)
    cutLine = nil
  }

  /// What a line has mapped of this number, if it is still there.
  func piece(of line: Int) -> MappingHistory.Event? {
    (own.pieces + anonymous.pieces).first { $0.line == line }
  }

  mutating func takeBack(piecesOf line: Int) {
    if own.pieces.contains(where: { $0.line == line }) {
      own.takeBack(piecesOf: line)
      cutLine = nil
    } else {
      anonymous.takeBack(piecesOf: line)
    }
  }

  mutating func doubt(piecesOf line: Int, _ doubt: FaultedNumber.Doubt) {
    if own.pieces.contains(where: { $0.line == line }) { own.doubt = doubt }
    if anonymous.pieces.contains(where: { $0.line == line }) { anonymous.doubt = doubt }
  }

  mutating func doubtAll(_ doubt: FaultedNumber.Doubt) {
    if own.isKnown { own.doubt = doubt }
    if anonymous.isKnown { anonymous.doubt = doubt }
  }

  // MARK: Words

  /// The last events, in lines.
  ///
  /// - Parameter moment: When the fault was; `nil` where times cannot be compared.
  func texts(before moment: UInt64?) -> [String] {
    let more = count - events.count
    return (more > 0 ? ["\(countText(more, "event")) before these"] : [])
      + events.map { $0.text(before: moment) }
  }

  /// What may be missing of a trace that has nothing about the number.
  func missingText(hasLosses: Bool) -> String {
    if let cutLine {
      return "; but the list of line \(cutLine) was cut, and the number may be in what is missing"
    }
    return hasLosses ? "; but some of it is lost or not understood" : ""
  }

  /// Whether the number was mapped when the fault came; `nil` where no event decides.
  ///
  /// - Parameter isBehindTrace: The trace ends before the fault.
  func verdict(isBehindTrace: Bool) -> String? {
    // What the device did decides over what somebody did.
    let standing = own.isKnown ? own : anonymous
    guard standing.isKnown else {
      return cutLine.map {
        "mapped perhaps: the list of line \($0) was cut, and the number may be in what is missing"
      }
    }
    let whose = own.isKnown ? "" : ", if this is the device's own"
    switch standing.doubt {
    case .list(let line):
      return
        "taken back perhaps: line \(line) unmaps a list, and it is not known whether it is this one"
        + whose
    case .otherPart(let line):
      return "taken back perhaps: line \(line) unmaps another part of the page\(whose)"
    case .loss(let line):
      return (standing.isMapped ? "mapped" : "taken back")
        + " as far as is known: what line \(line) tells is lost or not understood\(whose)"
    case .many: return "mapped perhaps: more was mapped at once than is kept\(whose)"
    case nil: break
    }
    if standing.isMapped {
      let stranger =
        standing.strangerLine.map { ", unless line \($0) took it back, which names no device" }
        ?? ""
      let when = isBehindTrace ? "when the trace ends" : "at the time of the fault"
      return "mapped \(when)" + stranger + whose
    }
    if let cutLine {
      return "taken back, and mapped again perhaps: the list of line \(cutLine) was cut, and the "
        + "number may be in what is missing\(whose)"
    }
    return "taken back before the fault: the device used the number too late\(whose)"
  }
}

extension MappingHistory.Event {
  fileprivate func text(before moment: UInt64?) -> String {
    var range = ""
    if let numbers {
      let end =
        numbers.upperBound == .max ? "" : "..<" + hexadecimal(numbers.upperBound + 1)
      range =
        numbers == 0...UInt64.max ? " everything" : " " + hexadecimal(numbers.lowerBound) + end
    }
    let device =
      switch owner {
      case .device(let device): " for \(device)"
      case .other(let name): " for \(name)"
      case .unknown: ""
      }
    let task = task.map { " by \($0)" } ?? ""
    var ago = ""
    // Of events that are not in their order one may be behind the fault.
    if let moment, let time, time.microseconds <= moment {
      ago = ", \(durationText(moment - time.microseconds)) before"
    }
    return "\(kind.rawValue)\(range)\(device)\(task)\(ago) (line \(line))"
  }
}

/// `250 us`, `1.250 ms`, `3.000001 s`: exact.
private func durationText(_ microseconds: UInt64) -> String {
  if microseconds < 1_000 { return "\(microseconds) us" }
  if microseconds < 1_000_000 {
    return "\(microseconds / 1_000).\(fractionText(microseconds % 1_000, 3)) ms"
  }
  return "\(secondsText(microseconds)) s"
}

/// `3.000001`: exact.
private func secondsText(_ microseconds: UInt64) -> String {
  "\(microseconds / 1_000_000).\(fractionText(microseconds % 1_000_000, 6))"
}

private func fractionText(_ value: UInt64, _ digits: Int) -> String {
  let text = "\(value)"
  return String(repeating: "0", count: digits - text.count) + text
}
