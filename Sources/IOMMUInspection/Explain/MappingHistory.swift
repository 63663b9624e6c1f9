import IOMMUFormats
import IOMMUTranslation

/// What a trace says of the numbers that faults have: who mapped and unmapped them, and when.
///
/// Made for the faults of a log, and then told of every event of a trace; of each fault the last events
/// before it are kept. A fault that was logged many times is compared at one of them: the last that the
/// trace covers.
public struct MappingHistory: Sendable {
  /// One event of a trace.
  public struct Event: Sendable {
    public enum Kind: String, Sendable {
      case mapped, unmapped, synced, read, wrote, translated, invalidated
    }

    public enum Owner: Sendable, Hashable {
      case device(PCI.Function)
      /// A device that is not on PCI, by its name.
      case other(String)
      /// The trace does not say.
      case unknown
    }

    public var kind: Kind
    /// The numbers that it is about, the last one included; `nil` where the trace does not say, as of a
    /// list that is unmapped.
    public var numbers: ClosedRange<UInt64>?
    public var owner: Owner
    /// The list of which this is a piece, or which is unmapped.
    public var list: List?
    /// Which task did it, as the trace has it.
    public var task: String?
    public var time: LogTime?
    /// The line of the trace, from 1.
    public var line: Int

    public init(
      _ kind: Kind, _ numbers: ClosedRange<UInt64>?, of owner: Owner = .unknown, list: List? = nil,
      task: String? = nil, time: LogTime? = nil, line: Int
    ) {
      self.kind = kind
      self.numbers = numbers
      self.owner = owner
      self.list = list
      self.task = task
      self.time = time
      self.line = line
    }
  }

  /// Pieces of memory that are mapped and unmapped with one call.
  public struct List: Sendable {
    /// Where the pieces lie; `nil` where the trace does not say.
    public var memory: [UInt64]?
    /// The trace has only the first pieces.
    public var isCut: Bool

    public init(_ memory: [UInt64]?, isCut: Bool = false) {
      self.memory = memory
      self.isCut = isCut
    }
  }

  /// A list that is mapped, with a fault's number in it.
  private struct OpenList {
    var owner: Event.Owner
    var list: List
    /// How often it is mapped; what is unmapped does not say which of these goes.
    var count = 1
    /// Lines that map it so that a number is in it, and where that is in ``numbers``.
    var pieces: [(line: Int, place: Int)] = []
  }

  /// Faults that are looked for, the first of the log.
  private static let faultLimit = 1_000
  /// Lists with numbers of faults in them that are mapped at once.
  private static let openListLimit = 256

  /// Ascending by their addresses.
  private var numbers: [FaultedNumber]
  /// Where the faults of the log are in ``numbers``.
  private var places: [FaultRecord: Int] = [:]
  /// The same, by device; `nil` is for faults that name none.
  private var placesOfDevice: [PCI.Function?: [Int]] = [:]
  private var openLists: [OpenList] = []
  /// The line of the list that was noted last, and its place in ``openLists`` if it has one.
  private var listLine: Int?
  private var listPlace: Int?
  private var hasLosses = false
  /// Events were noted since the last loss.
  private var hasNews = false
  private var first: LogTime?
  private var last: LogTime?

  /// - Parameter faults: The faults of a log.
  public init(_ faults: [LoggedFault]) {
    numbers = faults.prefix(Self.faultLimit).compactMap { FaultedNumber($0) }
    numbers.sort { $0.address < $1.address }
    for (place, number) in numbers.enumerated() {
      places[number.record] = place
      placesOfDevice[number.record.device, default: []].append(place)
    }
  }

  /// Takes note of an event, in the order of the trace.
  ///
  /// - Complexity: O(log faults), and the faults that it is about; O(faults) for a list that was cut.
  public mutating func note(_ event: Event) {
    hasNews = true
    if let time = event.time {
      if first.map({ $0.clock == time.clock && $0.microseconds > time.microseconds }) ?? true {
        first = time
      }
      if last.map({ $0.clock != time.clock || $0.microseconds < time.microseconds }) ?? true {
        last = time
      }
    }
    guard let pages = event.pages else { return takeBack(event) }
    begin(event)
    var place = firstPlace(from: pages.lowerBound)
    var touched: [Int] = []
    while place < numbers.count, numbers[place].address <= pages.upperBound {
      if numbers[place].note(event) { touched.append(place) }
      place += 1
    }
    open(event, touched)
  }

  /// Takes note that events were lost at this place of the trace, or were not understood.
  public mutating func noteLoss(line: Int) {
    hasLosses = true
    // What was noted is in doubt once; before the first time there is nothing.
    guard hasNews, let last else { return }
    hasNews = false
    for place in numbers.indices { numbers[place].noteLoss(line: line, at: last) }
  }

  /// The first number that is not less.
  private func firstPlace(from address: UInt64) -> Int {
    var low = 0
    var high = numbers.count
    while low < high {
      let middle = (low + high) / 2
      if numbers[middle].address < address {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }

  // MARK: Lists

  /// The first piece of a list that is mapped: looks for the list among those that are.
  private mutating func begin(_ event: Event) {
    guard event.kind == .mapped, let list = event.list, listLine != event.line else { return }
    listLine = event.line
    listPlace = openLists.lastIndex { $0.owner == event.owner && $0.list.isSame(as: list) }
    if let listPlace { openLists[listPlace].count += 1 }
    guard list.isCut else { return }
    // It may hold any number of its device.
    var concerned = placesOfDevice[PCI.Function?.none] ?? []
    if case .device(let device) = event.owner { concerned += placesOfDevice[device] ?? [] }
    for place in concerned { numbers[place].noteCut(event) }
  }

  /// A piece of a list that is mapped, with numbers in it.
  private mutating func open(_ event: Event, _ places: [Int]) {
    guard event.kind == .mapped, let list = event.list, !places.isEmpty else { return }
    if listPlace == nil {
      if openLists.count == Self.openListLimit {
        doubt(openLists.removeFirst(), .many, at: event.time)
      }
      listPlace = openLists.count
      openLists.append(OpenList(owner: event.owner, list: list))
    }
    guard let listPlace else { return }
    openLists[listPlace].pieces += places.map { (event.line, $0) }
  }

  /// A list is unmapped: of the mappings of this device that which has the same list.
  private mutating func takeBack(_ event: Event) {
    guard event.kind == .unmapped, let list = event.list else { return }
    let doubt = FaultedNumber.Doubt.list(line: event.line)
    guard
      let index = openLists.lastIndex(where: {
        $0.owner == event.owner && $0.list.isSame(as: list)
      })
    else {
      for open in openLists where open.owner == event.owner && open.list.mayBe(list) {
        self.doubt(open, doubt, at: event.time)
      }
      return
    }
    openLists[index].count -= 1
    guard openLists[index].count == 0 else {
      return self.doubt(openLists[index], doubt, at: event.time)
    }
    // What is mapped by this line of the list has its place no more.
    (listLine, listPlace) = (nil, nil)
    for (line, place) in openLists.remove(at: index).pieces {
      numbers[place].takeBack(piecesOf: line, event)
    }
  }

  private mutating func doubt(
    _ open: OpenList, _ doubt: FaultedNumber.Doubt, at time: LogTime?
  ) {
    for (line, place) in open.pieces {
      numbers[place].doubt(piecesOf: line, doubt, at: time)
    }
  }

  // MARK: Words

  /// What happened to the number of a fault, in sentences; empty where it has none.
  func texts(for fault: LoggedFault) -> [String] {
    guard let place = places[fault.record] else { return [] }
    return numbers[place].texts(first: first, last: last, hasLosses: hasLosses)
  }
}

extension MappingHistory.Event {
  /// The pages that its numbers are in: units map no less.
  var pages: ClosedRange<UInt64>? {
    numbers.map { ($0.lowerBound & ~Self.offsets)...($0.upperBound | Self.offsets) }
  }

  /// Numbers within a page of 4 KiB.
  static let offsets: UInt64 = 0xfff
}

extension MappingHistory.List {
  /// Both are of the same memory; a list that was cut is as far as it goes.
  fileprivate func isSame(as other: Self) -> Bool {
    guard let memory, let others = other.memory, !memory.isEmpty, !others.isEmpty else {
      return false
    }
    if memory == others { return true }
    return isCut && others.starts(with: memory) || other.isCut && memory.starts(with: others)
  }

  /// Nothing says that they are of different memory.
  fileprivate func mayBe(_ other: Self) -> Bool {
    guard let memory, let others = other.memory, !memory.isEmpty, !others.isEmpty else {
      return true
    }
    return !Set(memory).isDisjoint(with: others)
  }
}
