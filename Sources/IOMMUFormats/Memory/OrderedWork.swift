import Glibc

/// Processors that this process may run on, at most 16: more pieces at once would take memory, and
/// what reads a file has no use for them.
package var usableProcessorCount: Int {
  typealias Affinity = @convention(c) (Int32, UInt, UnsafeMutableRawPointer) -> Int32
  // The system's headers keep it for C with extensions.
  guard let function = unsafe dlsym(nil, "sched_getaffinity") else { return 1 }
  var set = InlineArray<128, UInt64>(repeating: 0)
  // Safe: it is called as the C library declares it, and fills in no more than the set has.
  let isKnown = unsafe withUnsafeMutableBytes(of: &set) { bytes in
    unsafe unsafeBitCast(function, to: Affinity.self)(0, UInt(bytes.count), bytes.baseAddress!) == 0
  }
  guard isKnown else { return 1 }
  return max(1, min(set.indices.reduce(0) { $0 + set[$1].nonzeroBitCount }, 16))
}

/// Does work on pieces that follow each other, on several threads, and hands over what comes of it in
/// the order of the pieces.
///
/// The calling thread works too, and takes what is done. Pieces are begun in their order, and no more
/// than four for each thread are on their way. The threads have ended when this returns or throws.
///
/// - Parameters:
///   - threadCount: Threads that work, the calling one counted. Fewer do where the system starts no
///     more.
///   - pieces: Gone through on the calling thread.
///   - work: What is done with a piece, on any thread.
///   - take: Called on the calling thread. What it throws ends the work; pieces that were begun are
///     brought to their end, and their results dropped.
/// - Complexity: O(*n*) in the pieces, and two locks for each.
package func inOrder<Piece: Sendable, Outcome: Sendable, Failure: Error>(
  threadCount: Int = usableProcessorCount, _ pieces: some Sequence<Piece>,
  work: @escaping @Sendable (Piece) -> Outcome, take: (Outcome) throws(Failure) -> Void
) throws(Failure) {
  var pieces = pieces.makeIterator()
  guard threadCount > 1 else {
    while let piece = pieces.next() { try take(work(piece)) }
    return
  }
  let queue = WorkQueue(work)
  var threads: [pthread_t] = []
  defer {
    queue.end()
    for thread in threads { pthread_join(thread, nil) }
  }
  let limit = 4 * threadCount
  var begun = 0
  var taken = 0
  while true {
    while begun - taken < limit, let piece = pieces.next() {
      queue.add(piece, number: begun)
      begun += 1
    }
    guard begun > taken else { return }
    // One piece needs one thread.
    while threads.count < min(threadCount, begun) - 1, let thread = startThread({ queue.run() }) {
      threads.append(thread)
    }
    try take(queue.outcome(of: taken))
    taken += 1
  }
}

/// Does work on a thread of its own while `body` runs, where there is a processor for it; elsewhere, and where
/// the system starts no thread, behind `body`.
///
/// The thread has ended when this returns or throws.
///
/// - Parameters:
///   - threadCount: Threads that work, the calling one counted; with 1 there is no other.
///   - work: What it makes is nobody else's.
///   - body: Called on the calling thread. When it throws, what the work made is dropped.
/// - Returns: What came of both.
package func alongside<Made, Result, Failure: Error>(
  threadCount: Int = usableProcessorCount, _ work: @escaping @Sendable () -> sending Made,
  _ body: () throws(Failure) -> Result
) throws(Failure) -> (made: Made, result: Result) {
  let place = MadePlace<Made>()
  var thread: pthread_t?
  if threadCount > 1 { thread = startThread { place.made = work() } }
  defer { if let thread { pthread_join(thread, nil) } }
  let result = try body()
  guard let started = thread else { return (work(), result) }
  pthread_join(started, nil)
  thread = nil
  // Nobody else sets it, and the thread has come to its end.
  return (place.made!, result)
}

/// What a thread has made for another.
private final class MadePlace<Made>: @unchecked Sendable {
  // Sendable: set by one thread, and looked at by another when that has ended.
  var made: Made?
}

/// A thread that does this and ends; `nil` when the system starts none.
private func startThread(_ run: @escaping @Sendable () -> Void) -> pthread_t? {
  var thread = pthread_t()
  let body = unsafe Unmanaged.passRetained(ThreadBody(run))
  // Safe: the argument is the body, which the thread takes over.
  let code = unsafe pthread_create(
    &thread, nil,
    { argument in
      unsafe Unmanaged<ThreadBody>.fromOpaque(argument!).takeRetainedValue().run()
      return nil
    }, unsafe body.toOpaque())
  guard code == 0 else {
    unsafe body.release()
    return nil
  }
  return thread
}

/// What threads of ``inOrder(threadCount:_:work:take:)`` share.
@safe
private final class WorkQueue<Piece: Sendable, Outcome: Sendable>: @unchecked Sendable {
  // Safe, and Sendable: the mutex and the conditions lie where nothing moves them, as long as the
  // queue lives; all else that changes does so under the mutex.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  /// A piece was added, or the end has come.
  private let isWanted: UnsafeMutablePointer<pthread_cond_t>
  /// A piece was done.
  private let isDone: UnsafeMutablePointer<pthread_cond_t>
  private let work: @Sendable (Piece) -> Outcome
  /// Pieces that nobody has begun, ascending.
  private var waiting: [(number: Int, piece: Piece)] = []
  private var outcomes: [Int: Outcome] = [:]
  private var hasEnded = false

  init(_ work: @escaping @Sendable (Piece) -> Outcome) {
    self.work = work
    unsafe mutex = .allocate(capacity: 1)
    unsafe isWanted = .allocate(capacity: 1)
    unsafe isDone = .allocate(capacity: 1)
    unsafe pthread_mutex_init(mutex, nil)
    unsafe pthread_cond_init(isWanted, nil)
    unsafe pthread_cond_init(isDone, nil)
  }

  deinit {
    unsafe pthread_cond_destroy(isDone)
    unsafe pthread_cond_destroy(isWanted)
    unsafe pthread_mutex_destroy(mutex)
    unsafe isDone.deallocate()
    unsafe isWanted.deallocate()
    unsafe mutex.deallocate()
  }

  private func withLock<Result>(_ body: () -> Result) -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return body()
  }

  func add(_ piece: Piece, number: Int) {
    withLock { waiting.append((number, piece)) }
    unsafe pthread_cond_signal(isWanted)
  }

  /// Nothing is begun any more.
  func end() {
    withLock {
      hasEnded = true
      waiting = []
    }
    unsafe pthread_cond_broadcast(isWanted)
  }

  /// Works until the end.
  func run() {
    while let (number, piece) = next() { keep(work(piece), of: number) }
  }

  /// The next piece; waits for one, and is `nil` after the end.
  private func next() -> (number: Int, piece: Piece)? {
    withLock {
      while waiting.isEmpty, !hasEnded { unsafe pthread_cond_wait(isWanted, mutex) }
      return waiting.isEmpty ? nil : waiting.removeFirst()
    }
  }

  private func keep(_ outcome: Outcome, of number: Int) {
    withLock { outcomes[number] = outcome }
    unsafe pthread_cond_signal(isDone)
  }

  /// What came of a piece that was added; does others while it waits.
  func outcome(of number: Int) -> Outcome {
    while true {
      var begun: (number: Int, piece: Piece)?
      let outcome: Outcome? = withLock {
        while true {
          if let outcome = outcomes.removeValue(forKey: number) { return outcome }
          guard waiting.isEmpty else {
            begun = waiting.removeFirst()
            return nil
          }
          unsafe pthread_cond_wait(isDone, mutex)
        }
      }
      if let outcome { return outcome }
      guard let begun else { continue }
      let made = work(begun.piece)
      if begun.number == number { return made }
      keep(made, of: begun.number)
    }
  }
}

/// What a thread does.
private final class ThreadBody {
  let run: @Sendable () -> Void
  init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
