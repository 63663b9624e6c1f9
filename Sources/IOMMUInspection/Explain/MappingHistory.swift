import IOMMUFormats
import IOMMUTranslation

/// What a trace says of the numbers that faults have: who mapped and unmapped them, and when.
///
/// Made for the faults of a log, and then told of every event of a trace; of each fault the last events
/// before it are kept.
public struct MappingHistory: Sendable {
  /// One event of a trace.
  public struct Event: Sendable {
    public enum Kind: String, Sendable {
      case mapped, unmapped, read, wrote, translated, invalidated
    }

    public var kind: Kind
    /// The numbers that it is about; the last one is of it.
    public var numbers: ClosedRange<UInt64>
    /// Whose they are; `nil` where the trace does not say.
    public var device: PCI.Function?
    /// Which task did it, as the trace has it.
    public var task: String?
    public var time: LogTime?
    /// The line of the trace, from 1.
    public var line: Int

    public init(
      _ kind: Kind, _ numbers: ClosedRange<UInt64>, device: PCI.Function? = nil,
      task: String? = nil, time: LogTime? = nil, line: Int
    ) {
      self.kind = kind
      self.numbers = numbers
      self.device = device
      self.task = task
      self.time = time
      self.line = line
    }
  }

  /// What is kept of a fault.
  fileprivate struct Number {
    var address: UInt64
    var device: PCI.Function?
    var time: LogTime?
    var fault: Int
    /// The last events before the fault, oldest first.
    var before: [Event] = []
    var beforeCount = 0
    /// Events behind it in time.
    var afterCount = 0
  }

  /// Events kept of each fault.
  fileprivate static let limit = 4
  /// Faults that are looked for, the first of the log.
  private static let faultLimit = 1_000

  /// Ascending by their addresses.
  private var numbers: [Number]
  /// Where the faults of the log are in ``numbers``.
  private var places: [Int: Int] = [:]
  private var first: LogTime?
  private var last: LogTime?

  /// - Parameter faults: The faults of a log.
  public init(_ faults: [LoggedFault]) {
    numbers = faults.prefix(Self.faultLimit).compactMap { fault in
      guard let iova = fault.record.iova else { return nil }
      return Number(
        address: iova.rawValue, device: fault.record.device, time: fault.time, fault: fault.line)
    }
    numbers.sort { $0.address < $1.address }
    for (place, number) in numbers.enumerated() { places[number.fault] = place }
  }

  /// Takes note of an event, in the order of the trace.
  ///
  /// - Complexity: O(log faults), and the faults that it is about.
  public mutating func note(_ event: Event) {
    if let time = event.time {
      first = first ?? time
      last = time
    }
    var low = 0
    var high = numbers.count
    while low < high {
      let middle = (low + high) / 2
      if numbers[middle].address < event.numbers.lowerBound {
        low = middle + 1
      } else {
        high = middle
      }
    }
    while low < numbers.count, numbers[low].address <= event.numbers.upperBound {
      numbers[low].note(event)
      low += 1
    }
  }

  /// What happened to the number of a fault, in sentences; empty where it has none.
  func texts(for fault: LoggedFault) -> [String] {
    guard let place = places[fault.line] else { return [] }
    let number = numbers[place]
    var texts = number.before.map { text(of: $0, before: number.time) }
    if number.beforeCount > Self.limit {
      texts.insert("\(number.beforeCount - Self.limit) events before these", at: 0)
    }
    if let last = number.before.last {
      // Events of the kernel's iommu core do not say whose space they are of.
      let whose = last.device == nil ? ", if this is the device's own" : ""
      switch last.kind {
      case .unmapped:
        texts.append("taken back before the fault: the device used the number too late\(whose)")
      case .mapped: texts.append("mapped at the time of the fault\(whose)")
      case .read, .wrote, .translated, .invalidated: break
      }
    } else {
      texts.append("no event of the trace before the fault is about this number")
    }
    if number.afterCount > 0 {
      texts.append(
        number.afterCount == 1
          ? "1 event after the fault" : "\(number.afterCount) events after the fault")
    }
    if let time = number.time, let first, first.clock == time.clock,
      first.microseconds > time.microseconds
    {
      texts.append("the trace begins after the fault")
    } else if number.time == nil || first.map({ $0.clock != number.time?.clock }) ?? true {
      texts.append(
        "the log's time and the trace's cannot be compared: these are the last of the whole trace")
    }
    return texts
  }

  private func text(of event: Event, before time: LogTime?) -> String {
    let start = hexadecimal(event.numbers.lowerBound)
    let end =
      event.numbers.upperBound == .max
      ? "" : "..<" + hexadecimal(event.numbers.upperBound + 1)
    let range = event.numbers == 0...UInt64.max ? "everything" : start + end
    let device = event.device.map { " for \($0)" } ?? ""
    let task = event.task.map { " by \($0)" } ?? ""
    var ago = ""
    if let time, let moment = event.time, moment.clock == time.clock {
      ago = ", \(durationText(time.microseconds - moment.microseconds)) before"
    }
    return "\(event.kind.rawValue) \(range)\(device)\(task)\(ago) (line \(event.line))"
  }
}

extension MappingHistory.Number {
  mutating func note(_ event: MappingHistory.Event) {
    // Another device's numbers are others.
    if let device, let other = event.device, device != other { return }
    if let time, let moment = event.time, moment.clock == time.clock,
      moment.microseconds > time.microseconds
    {
      afterCount += 1
      return
    }
    beforeCount += 1
    before.append(event)
    if before.count > MappingHistory.limit { before.removeFirst() }
  }
}

/// `250 us`, `1.250 ms`, `3.000001 s`: exact.
private func durationText(_ microseconds: UInt64) -> String {
  func fraction(_ value: UInt64, _ digits: Int) -> String {
    let text = "\(value)"
    return String(repeating: "0", count: digits - text.count) + text
  }
  if microseconds < 1_000 { return "\(microseconds) us" }
  if microseconds < 1_000_000 {
    return "\(microseconds / 1_000).\(fraction(microseconds % 1_000, 3)) ms"
  }
  return "\(microseconds / 1_000_000).\(fraction(microseconds % 1_000_000, 6)) s"
}
