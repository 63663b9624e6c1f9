import IOMMUFormats
import IOMMUTranslation

/// One line of the outcome matrix: a strategy on a unit, played with a device that goes on with four kinds
/// of numbers.
public struct MatrixLine: Sendable {
  public var strategy: CrashStrategy
  public var unit: CrashUnit
  /// The outcomes of the leftover accesses by row and phase; none where the device is at rest.
  public var outcomes: [LeftoverStream.Row: [CrashPhase: Outcome]]
  /// Outcomes in states that last for a moment, in their order.
  public var moments: [Moment]
  /// Rows whose number the primary kernel could not hand out: an access there is wild.
  public var wildRows: Set<LeftoverStream.Row>
  /// d: the capture kernel's own I/O, a write and a read.
  public var ownIO: [Outcome]
  /// The whole crash.
  public var run: LabRun

  /// The outcomes of the leftover accesses in one momentary state.
  public struct Moment: Sendable {
    public var phase: CrashPhase
    public var step: CaptureStep
    public var outcomes: [LeftoverStream.Row: Outcome]
  }

  /// `OWN / BLK-F / KILL` for P1 to P3, one word where all are the same, `-` where nothing is sent.
  public func text(_ row: LeftoverStream.Row) -> String {
    let words = [CrashPhase.panicked, .waiting, .driven].map {
      outcomes[row]?[$0]?.rawValue ?? "-"
    }
    return Set(words).count == 1 ? words[0] : words.joined(separator: "/")
  }
}

/// The matrix of strategies and outcomes, executed.
public enum CrashMatrix {
  /// The device of M1 that the matrix is played with.
  public static func device(for unit: CrashUnit, _ strategy: CrashStrategy) -> Device {
    // Where numbers are addresses, buffers above 4 GiB are for devices that reach them.
    let isNarrow = unit == .gart || unit == .swiotlb
    return Device(
      name: "NIC", requester: Requester(bus: 1, device: 0, function: 0),
      dmaMask: isNarrow ? 0xffff_ffff : .max)
  }

  /// Plays one line.
  ///
  /// - Parameters:
  ///   - strategy: One of the unit's.
  ///   - unit: What stands between the device and memory.
  ///   - caches: What the unit remembers.
  ///   - reset: When the device comes to rest.
  ///   - omitsFlushes: The capture kernel does not have dropped what is remembered.
  ///   - crashKernel: Half-open, whole pages of RAM.
  public static func line(
    _ strategy: CrashStrategy, on unit: CrashUnit, caches: CacheLevel = .hardware,
    reset: ResetBehaviour = .afterMapping, omitsFlushes: Bool = false,
    crashKernel: [Range<PhysicalAddress>] = [CrashMachine.crashRange]
  ) throws(SetUpError) -> MatrixLine {
    let (lab, wild) = try lab(
      strategy, on: unit, caches: caches, reset: reset, omitsFlushes: omitsFlushes,
      crashKernel: crashKernel)
    return MatrixLine(strategy: strategy, unit: unit, run: lab.play(), wildRows: wild)
  }

  /// The machine of one line, its numbers handed out and its crash not played.
  ///
  /// - Parameters:
  ///   - strategy: One of the unit's.
  ///   - unit: What stands between the device and memory.
  ///   - caches: What the unit remembers.
  ///   - reset: When the device comes to rest.
  ///   - omitsFlushes: The capture kernel does not have dropped what is remembered.
  ///   - crashKernel: Half-open, whole pages of RAM.
  /// - Returns: The machine, and the rows whose number the primary kernel could not hand out.
  public static func lab(
    _ strategy: CrashStrategy, on unit: CrashUnit, caches: CacheLevel = .hardware,
    reset: ResetBehaviour = .afterMapping, omitsFlushes: Bool = false,
    crashKernel: [Range<PhysicalAddress>] = [CrashMachine.crashRange]
  ) throws(SetUpError) -> (lab: CrashLab, wildRows: Set<LeftoverStream.Row>) {
    let device = device(for: unit, strategy)
    let machine = try CrashMachine.m1(
      crashKernel: crashKernel, devices: [CrashDevice(device, sources: [], reset: reset)])
    let lab = try CrashLab(
      CrashSetup(
        strategy, on: unit, machine: machine, caches: caches, omitsFlushes: omitsFlushes))
    return (lab, try lab.handOutMatrixNumbers(device))
  }
}

extension CrashLab {
  /// Hands out numbers a, c and f of M1, and adds a stream for each and for b.
  ///
  /// - Returns: Rows that nobody has handed out although somebody might have.
  func handOutMatrixNumbers(_ device: Device) throws(SetUpError) -> Set<LeftoverStream.Row> {
    func hand(_ page: UInt64) throws(SetUpError) -> MappedBuffer {
      do {
        return try primary.map(
          PhysicalAddress(page)..<PhysicalAddress(page + 4096), for: device,
          direction: .bidirectional)
      } catch {
        throw .outOfMemory(what: "a buffer of \(device.name): \(error)")
      }
    }
    func begin(_ row: LeftoverStream.Row, _ iova: IOVA, _ target: Range<PhysicalAddress>?) {
      add(
        LeftoverStream(
          device: device, source: target == nil ? .wild : .statusPage,
          iova: iova..<IOVA(iova.rawValue + 64),
          target: target.map { $0.lowerBound..<PhysicalAddress($0.lowerBound.rawValue + 64) },
          row: row))
    }
    let f = try hand(0x1_5000_1000)
    _ = try hand(0x1_6000_0000)
    let a = try hand(0x1_4000_0000)
    let numberInRange = IOVA(0x200_0000)
    let c = try? primary.map(
      page: PhysicalAddress(0x1_5000_0000), at: numberInRange, for: device,
      direction: .bidirectional)
    begin(.a, a.iova, a.target)
    begin(.b, setup.unit.hardware.unmappedNumber(setup, primary), nil)
    begin(.c, numberInRange, c?.target)
    begin(.f, f.iova, f.target)
    return c == nil ? [.c] : []
  }
}

extension MatrixLine {
  /// Reads the line off a crash that was played.
  ///
  /// - Parameters:
  ///   - strategy: What was played.
  ///   - unit: Where.
  ///   - run: What came of it.
  ///   - wildRows: Rows whose number nobody could hand out.
  public init(
    strategy: CrashStrategy, unit: CrashUnit, run: LabRun, wildRows: Set<LeftoverStream.Row>
  ) {
    self.strategy = strategy
    self.unit = unit
    self.run = run
    self.wildRows = wildRows
    outcomes = [:]
    moments = []
    ownIO = []
    for step in run.steps {
      if let momentary = step.momentary {
        var moment = Moment(phase: step.phase, step: momentary, outcomes: [:])
        for access in step.accesses {
          if let row = access.row { moment.outcomes[row] = access.outcome }
        }
        moments.append(moment)
        continue
      }
      for access in step.accesses where !access.isStraddling {
        if access.owner == .kdump {
          ownIO.append(access.outcome)
        } else if let row = access.row {
          outcomes[row, default: [:]][step.phase] = access.outcome
        }
      }
    }
  }
}
