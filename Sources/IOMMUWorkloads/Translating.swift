import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Synchronization

/// How requests are handed to a translator.
public enum TranslationMethod: String, CaseIterable, Sendable {
  /// One call for each.
  case single
  /// Batches, with nothing kept between them.
  case batch
  /// Batches with a region cache kept between them; VT-d tables only.
  case regions

  public var title: String {
    switch self {
    case .single: "single calls"
    case .batch: "batch"
    case .regions: "batch, region cache"
    }
  }
}

/// Translates all addresses, reading.
@inline(never)
public func translateAll(
  _ addresses: [IOVA], by method: TranslationMethod, _ translator: Translator<FlatMemory>,
  _ cache: RegionCache, into answers: inout [PackedTranslation]
) {
  precondition(addresses.count == answers.count, "one answer for each address")
  switch method {
  case .single:
    var span = answers.mutableSpan
    let source = addresses.span
    for index in source.indices { span[index] = translator.translate(source[index], .read) }
  case .batch:
    var span = answers.mutableSpan
    translator.translate(addresses.span, .read, into: &span)
  case .regions:
    var span = answers.mutableSpan
    translator.translate(addresses.span, .read, into: &span, through: cache)
  }
}

/// What no translation gets below on cold tables: one prefetched load of the leaf entry, by a place
/// that is known beforehand.
///
/// Nothing is checked, since a check would cost what is measured.
///
/// - Precondition: Places are multiples of eight, and entries lie there inside of the window, whose
///   memory is held.
@unsafe
@inline(never)
public func loadAll(
  _ places: [UInt64], in window: MemoryWindow, into answers: inout [PackedTranslation]
) {
  var start = 0
  while start < places.count {
    let end = min(start + 256, places.count)
    for index in start..<end { window.prefetch(places[index]) }
    for index in start..<end {
      // Safe: the caller has seen to it.
      answers[index] = unsafe PackedTranslation(
        rawValue: window.quadword(unchecked: places[index]))
    }
    start = end
  }
}

/// Threads that translate at the same time, each its own addresses through the same tables.
///
/// - Returns: Translations per second of all of them, by the clock on the wall.
public func translationsPerSecond(
  threads: Int, _ addresses: [IOVA], by method: TranslationMethod,
  _ translator: Translator<FlatMemory>, passes: Int
) -> Double {
  let gate = Gate(threads)
  let elapsed = runThreads(threads) { _ in
    let cache = RegionCache()
    var answers = [PackedTranslation](
      repeating: PackedTranslation(rawValue: 0), count: addresses.count)
    translateAll(addresses, by: method, translator, cache, into: &answers)
    gate.wait()
    let start = Clock.wall.nanoseconds
    for _ in 0..<passes {
      translateAll(addresses, by: method, translator, cache, into: &answers)
    }
    return Double(Clock.wall.nanoseconds - start)
  }
  // Each thread's own rate: they start together, and none waits for the last.
  return elapsed.reduce(0) { $0 + Double(addresses.count * passes) * 1e9 / max(1, $1) }
}

/// Lets threads start together: each waits until all are there.
final class Gate: Sendable {
  private let missing: Atomic<Int>

  init(_ count: Int) { missing = Atomic(count) }

  func wait() {
    missing.subtract(1, ordering: .acquiringAndReleasing)
    while missing.load(ordering: .acquiring) > 0 { sched_yield() }
  }
}

/// Runs a closure on so many threads and waits for their results, which come in order.
public func runThreads(
  _ count: Int, _ body: @escaping @Sendable (Int) -> Double
) -> [Double] {
  let works = (0..<count).map { ThreadWork(index: $0, body: body) }
  let threads = works.map { work in
    var thread = pthread_t()
    // Safe: the thread's argument is the work, kept alive until the thread has taken it over.
    let code = unsafe pthread_create(
      &thread, nil,
      { argument in
        let work = unsafe Unmanaged<ThreadWork>.fromOpaque(argument!).takeRetainedValue()
        work.result = work.body(work.index)
        return nil
      }, Unmanaged.passRetained(work).toOpaque())
    precondition(code == 0, "the system starts a thread")
    return thread
  }
  for thread in threads { pthread_join(thread, nil) }
  return works.map(\.result)
}

/// What one thread does, and its result.
private final class ThreadWork: @unchecked Sendable {
  // Sendable: the result is the thread's until it has ended.
  let index: Int
  let body: @Sendable (Int) -> Double
  var result = 0.0

  init(index: Int, body: @escaping @Sendable (Int) -> Double) {
    self.index = index
    self.body = body
  }
}
