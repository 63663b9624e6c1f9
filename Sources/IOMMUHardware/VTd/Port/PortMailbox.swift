import CIOMMUAtomics
import Glibc
import IOMMUFormats
import IOMMUTranslation

/// What a port needs to know of its unit's registers; a copy that the port keeps.
struct PortState: Sendable {
  var resolver: VTd.Resolver
  var protectedRegions = ProtectedRegions()
  /// Bits of a fault record's address that the unit has.
  var faultAddressMask: UInt64
}

/// Where a unit leaves word for one port: changed registers and invalidations.
///
/// Three words are read without the lock: `signal` is set while something waits here, `turn` is odd
/// while the port's thread is inside a transaction, and `thread` is that thread.
final class PortMailbox: @unchecked Sendable {
  // Sendable: the words are atomic, all else is guarded by the unit's lock.
  let signal: UnsafeMutablePointer<UInt64>
  let turn: UnsafeMutablePointer<UInt64>
  private let thread: UnsafeMutablePointer<UInt64>
  var state: PortState
  private var invalidations: [CacheInvalidation] = []

  /// More invalidations than this are not kept for a port that is idle: it forgets everything.
  private static let limit = 1024

  init(_ state: PortState) {
    self.state = state
    // A cache line for the word that the port reads all the time.
    signal = .allocate(capacity: 16)
    signal.initialize(repeating: 0, count: 16)
    turn = signal + 8
    thread = signal + 9
  }

  deinit { signal.deallocate() }

  /// Whether the port has something to take, without the lock.
  @inline(__always) var hasMail: Bool { ciommu_load64(signal) != 0 }

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

  private func ring() { _ = ciommu_exchange64(signal, 1) }

  /// What has come in since the last time.
  func take() -> (state: PortState, invalidations: [CacheInvalidation]) {
    _ = ciommu_exchange64(signal, 0)
    defer { invalidations.removeAll(keepingCapacity: true) }
    return (state, invalidations)
  }

  // MARK: Transactions

  /// Makes the turn odd. A unit that posts from now on waits for its end; what it posted before is
  /// seen by the next look at `signal`.
  func beginTurn() {
    ciommu_store64(thread, UInt64(pthread_self()))
    _ = ciommu_exchange64(turn, ciommu_load64(turn) &+ 1)
  }

  /// Whether a transaction is on its way.
  var isInTurn: Bool { ciommu_load64(turn) & 1 == 1 }

  @inline(__always)
  func endTurn() { ciommu_store64(turn, ciommu_load64(turn) &+ 1) }

  /// Waits until a transaction that may have begun before the last post is over.
  func waitForTurn() {
    let current = ciommu_load64(turn)
    guard current & 1 == 1, ciommu_load64(thread) != UInt64(pthread_self()) else { return }
    while ciommu_load64(turn) == current { sched_yield() }
  }
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
