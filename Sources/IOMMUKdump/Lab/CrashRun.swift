import IOMMUFormats
import IOMMURule
import IOMMUTranslation

/// One access in the lab, and what it came to.
public struct LabAccess: Sendable {
  public var owner: CrashAccess.Owner
  public var device: Device
  /// What the device was doing; `nil` for the capture kernel's own I/O.
  public var source: TrafficSource?
  public var row: LeftoverStream.Row?
  public var direction: DMADirection
  /// The numbers used, half-open.
  public var iova: Range<IOVA>
  public var outcome: Outcome
  public var fault: Fault?
  /// Memory that was read or written, half-open.
  public var reached: [Range<PhysicalAddress>]
  /// Bytes of memory that hold something else than before.
  public var changedByteCount: Int
  /// Whose memory was reached; `nil` where none was, or the access's own alone.
  public var victim: String?
  /// It began before the step and ended after it.
  public var isStraddling = false
  /// How often the device does this while the machine is in that state: by its period and how long the
  /// state lasts.
  public var expectedCount: Double
}

/// A state of the machine after a crash, and the accesses in it.
public struct LabStep: Sendable {
  public var phase: CrashPhase
  /// What the machine is doing.
  public var title: String
  /// Milliseconds after the crash.
  public var start: Double
  /// Milliseconds; of a moment between two stores of a kernel, an *assumed* fraction of one.
  public var duration: Double
  /// The state lasts for a moment: an access falls into it by chance.
  public var momentary: CaptureStep?
  public var accesses: [LabAccess] = []

  /// Its accesses began in the state before, and ended in this one.
  public var isTransition: Bool { accesses.first?.isStraddling ?? false }
}

extension Sequence<LabStep> {
  /// Bytes of the crash kernel's ranges that leftover DMA changed, but for what falls into moments.
  public var strayByteCount: Int {
    lazy.filter { $0.momentary == nil }.flatMap(\.accesses).reduce(0) { count, access in
      access.owner == .leftover && access.outcome == .kill
        ? count + access.changedByteCount : count
    }
  }
}

/// A crash that was played.
public struct LabRun: Sendable {
  public var strategy: CrashStrategy
  public var unit: CrashUnit
  public var steps: [LabStep]
  /// Why the strategy came to an end before its time: an outcome, not an error.
  public var failure: String?
  /// R1 to R13; empty where no table or register of the unit is modelled.
  public var verdicts: [RuleVerdict]
  /// Bytes of the crash kernel's ranges that leftover DMA changed, but for what falls into moments.
  public var strayByteCount: Int

  /// The first state in a phase that is not momentary.
  public func step(_ phase: CrashPhase) -> LabStep? {
    steps.first { $0.phase == phase && $0.momentary == nil && !$0.isTransition }
  }
}
