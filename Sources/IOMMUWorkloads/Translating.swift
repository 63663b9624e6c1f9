import CIOMMUAtomics
import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

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
@inline(never)
public func loadAll(
  _ places: [UInt64], in window: MemoryWindow, into answers: inout [PackedTranslation]
) {
  var start = 0
  while start < places.count {
    let end = min(start + 256, places.count)
    for index in start..<end { window.prefetch(places[index]) }
    for index in start..<end {
      answers[index] = PackedTranslation(rawValue: window.quadword(unchecked: places[index]))
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
final class Gate: @unchecked Sendable {
  private let missing: UnsafeMutablePointer<UInt64>

  init(_ count: Int) {
    missing = .allocate(capacity: 1)
    missing.initialize(to: UInt64(count))
  }

  deinit { missing.deallocate() }

  func wait() {
    var value = ciommu_load64(missing)
    while !ciommu_compare_exchange64(missing, &value, value - 1) {}
    while ciommu_load64(missing) > 0 { sched_yield() }
  }
}

/// Runs a closure on so many threads and waits for their results, which come in order.
public func runThreads(
  _ count: Int, _ body: @escaping @Sendable (Int) -> Double
) -> [Double] {
  let results = UnsafeMutablePointer<Double>.allocate(capacity: count)
  results.initialize(repeating: 0, count: count)
  defer { results.deallocate() }
  var threads: [pthread_t] = []
  for index in 0..<count {
    var thread = pthread_t()
    let work = ThreadWork(index: index, result: results + index, body: body)
    let code = pthread_create(
      &thread, nil,
      { argument in
        let work = Unmanaged<ThreadWork>.fromOpaque(argument!).takeRetainedValue()
        work.result.pointee = work.body(work.index)
        return nil
      }, Unmanaged.passRetained(work).toOpaque())
    precondition(code == 0, "the system starts a thread")
    threads.append(thread)
  }
  for thread in threads { pthread_join(thread, nil) }
  return (0..<count).map { results[$0] }
}

/// What one thread does and where its result goes; handed over once.
private final class ThreadWork: @unchecked Sendable {
  let index: Int
  let result: UnsafeMutablePointer<Double>
  let body: @Sendable (Int) -> Double

  init(
    index: Int, result: UnsafeMutablePointer<Double>, body: @escaping @Sendable (Int) -> Double
  ) {
    self.index = index
    self.result = result
    self.body = body
  }
}
