import Glibc
import IOMMUFormats
import IOMMUTranslation
import Synchronization

/// What a port needs to know of its unit's registers; a copy that the port keeps.
struct PortState: Sendable {
  var resolver: VTd.Resolver
  var protectedRegions = ProtectedRegions()
  /// Bits of a fault record's address that the unit has.
  var faultAddressMask: UInt64
}

/// Where a unit leaves word for one port: changed registers and invalidations.
final class PortMailbox: @unchecked Sendable {
  // Sendable: the words are atomic, all else is guarded by the unit's lock.

  /// Set while something waits here; read without the lock.
  private let signal = Atomic<Bool>(false)
  // The port reads `signal` all the time: no word that others write shares its cache line.
  private let padding = (0, 0, 0, 0, 0, 0, 0, 0)
  /// Odd while the port's thread is inside a transaction; read without the lock.
  private let turn = Atomic<UInt64>(0)
  /// That thread.
  private let thread = Atomic<UInt>(0)
  private(set) var state: PortState
  private var invalidations: [CacheInvalidation] = []

  /// More invalidations than this are not kept for a port that is idle: it forgets everything.
  private static let limit = 1024

  init(_ state: PortState) { self.state = state }

  /// Whether the port has something to take, without the lock.
  @inline(__always) var hasMail: Bool { signal.load(ordering: .sequentiallyConsistent) }

  func post(_ invalidation: CacheInvalidation) {
    if invalidation == .everything || invalidations.count >= Self.limit {
      invalidations = [.everything]
    } else {
      invalidations.append(invalidation)
    }
    ring()
  }

  func publish(_ state: PortState) {
    self.state = state
    ring()
  }

  private func ring() { _ = signal.exchange(true, ordering: .sequentiallyConsistent) }

  /// What has come in since the last time.
  func take() -> (state: PortState, invalidations: [CacheInvalidation]) {
    _ = signal.exchange(false, ordering: .sequentiallyConsistent)
    defer { invalidations.removeAll(keepingCapacity: true) }
    return (state, invalidations)
  }

  // MARK: Transactions

  /// Makes the turn odd. A unit that posts from now on waits for its end; what it posted before is
  /// seen by the next look at `signal`.
  func beginTurn() {
    thread.store(Self.currentThread, ordering: .releasing)
    turn.wrappingAdd(1, ordering: .sequentiallyConsistent)
  }

  /// Whether a transaction is on its way.
  var isInTurn: Bool { turn.load(ordering: .acquiring) & 1 == 1 }

  /// The port's own thread alone changes the turn.
  @inline(__always)
  func endTurn() {
    turn.store(turn.load(ordering: .relaxed) &+ 1, ordering: .releasing)
  }

  /// Waits until a transaction that may have begun before the last post is over.
  func waitForTurn() {
    let current = turn.load(ordering: .sequentiallyConsistent)
    guard current & 1 == 1, thread.load(ordering: .acquiring) != Self.currentThread else { return }
    while turn.load(ordering: .acquiring) == current { sched_yield() }
  }

  private static var currentThread: UInt { UInt(pthread_self()) }
}

extension RemappingUnit {
  /// What ports have to know of the registers as they stand.
  var portState: PortState {
    PortState(
      resolver: currentResolver, protectedRegions: protectedRegions,
      faultAddressMask: faultAddressMask)
  }

  /// The unit as its registers stand; made anew only when the tables changed.
  private var currentResolver: VTd.Resolver {
    let unit = VTd.Unit(
      base: PhysicalAddress(0), rootTableAddress: rootTableAddress,
      status: VTd.GlobalStatus(translates: status.translates), limits: limits)
    if let resolver, resolver.unit == unit { return resolver }
    let made = VTd.Resolver(unit)
    resolver = made
    return made
  }

  /// FI has as many bits as the widest table (11.4.7.6); with first-stage tables, as those.
  private var faultAddressMask: UInt64 {
    var width =
      (3...5).filter { limits.supports(levels: $0) }.map { VTd.Paging.addressWidth(levels: $0) }
      .max() ?? 48
    if limits.features.contains(.firstStage) {
      width = max(width, limits.features.contains(.fiveLevelFirstStage) ? 57 : 48)
    }
    return 1 << UInt64(width) - 1
  }

  /// Tells every port that registers have changed.
  func publishState() {
    guard !mailboxes.isEmpty else { return }
    let state = portState
    for mailbox in mailboxes { mailbox.publish(state) }
  }

  /// Tells every port to forget something, before its next translation.
  func post(_ invalidation: CacheInvalidation) {
    for mailbox in mailboxes { mailbox.post(invalidation) }
  }

  /// Waits until no transaction uses a translation that is older than what was posted last.
  func drain() {
    for mailbox in mailboxes { mailbox.waitForTurn() }
  }
}
