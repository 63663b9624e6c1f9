import Glibc
import Synchronization

/// Tells what did not hold and how to get there again, and ends the run.
func fail(_ text: String) -> Never {
  let line = Array("soak: \(currentMachine.name): \(text)\n".utf8)
  _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
  _exit(1)
}

func expect(_ condition: Bool, _ text: @autoclosure () -> String) {
  if !condition { fail(text()) }
}

/// The machine that runs now; set while no other thread runs.
final class CurrentMachine: @unchecked Sendable {
  var name = ""
}
let currentMachine = CurrentMachine()

/// SplitMix64: random numbers that come again with the same seed.
struct Generator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }

  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
  mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }
}

/// Runs `body` on so many threads, and waits for all of them.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
  final class Start {
    let index: Int
    let body: @Sendable (Int) -> Void
    init(_ index: Int, _ body: @escaping @Sendable (Int) -> Void) {
      self.index = index
      self.body = body
    }
  }
  var threads: [pthread_t] = []
  for index in 0..<count {
    var thread = pthread_t()
    let start = Unmanaged.passRetained(Start(index, body)).toOpaque()
    let code = pthread_create(
      &thread, nil,
      { argument in
        let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
        start.body(start.index)
        return nil
      }, start)
    guard code == 0 else { fail("no thread: \(code)") }
    threads.append(thread)
  }
  for thread in threads { pthread_join(thread, nil) }
}

/// What threads add up to.
struct Figures: Sendable {
  var machines: [String: Int] = [:]
  /// What software did: maps, unmaps, moves of devices, register writes.
  var operations = 0
  var invalidations = 0
  var queueErrors = 0
  var faultRecords = 0
  /// Answers by what they were and how they were judged.
  var mapped = 0
  var faults = 0
  var duringChange = 0
  /// Stale answers where hardware may give them: unmapped, and no flush yet.
  var stale = 0
  /// Accesses to memory inside transactions.
  var accesses = 0

  /// Page requests that a unit took, groups of them that were answered, and those that found no room.
  var pageRequests = 0
  var pageGroups = 0
  var droppedRequests = 0
  /// Interrupts by what became of them, and entries that software changed.
  var delivered = 0
  var posted = 0
  var blocked = 0
  var interruptsDuringChange = 0
  var interruptChanges = 0

  var translations: Int { mapped + faults + duringChange + stale }

  mutating func add(_ other: Figures) {
    machines.merge(other.machines, uniquingKeysWith: +)
    operations += other.operations
    invalidations += other.invalidations
    queueErrors += other.queueErrors
    faultRecords += other.faultRecords
    pageRequests += other.pageRequests
    pageGroups += other.pageGroups
    droppedRequests += other.droppedRequests
    delivered += other.delivered
    posted += other.posted
    blocked += other.blocked
    interruptsDuringChange += other.interruptsDuringChange
    interruptChanges += other.interruptChanges
    mapped += other.mapped
    faults += other.faults
    duringChange += other.duringChange
    stale += other.stale
    accesses += other.accesses
  }
}

/// A value that threads add to.
final class Shared<Value: Sendable>: Sendable {
  private let mutex: Mutex<Value>
  init(_ value: Value) { mutex = Mutex(value) }
  func with<Result: Sendable>(_ body: (inout Value) -> Result) -> Result {
    mutex.withLock { body(&$0) }
  }
}

/// A number that threads read while another changes it.
final class Word: Sendable {
  private let value: Atomic<UInt64>
  init(_ value: UInt64 = 0) { self.value = Atomic(value) }
  func load() -> UInt64 { value.load(ordering: .sequentiallyConsistent) }
  func store(_ new: UInt64) { value.store(new, ordering: .sequentiallyConsistent) }
}

/// What the process has used.
enum Usage {
  private static func status(_ key: String) -> Int {
    guard let stream = fopen("/proc/self/status", "r") else { return 0 }
    defer { fclose(stream) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, 256, stream) != nil {
      let text = String(
        decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      guard text.hasPrefix(key) else { continue }
      return Int(text.filter(\.isNumber)) ?? 0
    }
    return 0
  }

  /// KiB in memory now, and the most there were.
  static var resident: Int { status("VmRSS:") }
  static var peak: Int { status("VmHWM:") }

  /// Seconds of all threads.
  static var processorTime: Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }
}
