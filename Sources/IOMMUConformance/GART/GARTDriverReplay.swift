import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUKdump
import IOMMUTranslation

/// Runs our own GART driver beside the recording of the real one, on northbridges and memory of its
/// own: it has to make the same register writes, give out the same numbers and leave the same table.
final class GARTDriverReplay {
  private let memory: FlatMemory
  private let hardware: Northbridges
  private var driver: GARTDriver?
  private var truth: TraceTruth
  private var gart: GARTTruth
  private var devices: [Requester: Device] = [:]
  /// Register writes of the recording since the last comparison.
  private var recorded: [Northbridges.ConfigurationWrite] = []
  private var comparedWriteCount = 0
  private var phase = ""
  private var nodesAtCrash: [Northbridge]?
  /// Steps that both took.
  private(set) var stepCount = 0
  /// The first difference, after which our driver is not what the real one is.
  private(set) var difference: String?
  /// Why our driver could not be run on; no difference.
  private(set) var stop: String?
  /// A list found no room, and what it was about is not recorded: how far the searches for it went,
  /// the next number tells.
  private var hintIsUnknown = false

  /// Phases in which the kernel boots.
  private static let bootPhases = [
    "early_gart_iommu_check", "gart_iommu_hole_init", "init_amd_nbs", "gart_iommu_init",
  ]

  /// - Parameter memory: As large as that of the recording, and of our driver alone.
  init(memory: FlatMemory, states: NorthbridgeStates, truth: TraceTruth, gart: GARTTruth) {
    self.memory = memory
    hardware = Northbridges(
      nodes: states.nodes.map { state in
        var model = Northbridge.Model()
        model.deviceID = state.deviceID
        return Northbridge(function: state.function, model: model)
      })
    hardware.keepsConfigurationWrites = true
    self.truth = truth
    self.gart = gart
    devices = Self.devices(in: truth, gart)
  }

  /// The second kernel comes, on the machine that the crash left.
  func start(truth: TraceTruth, gart: GARTTruth) {
    if difference != nil {
      difference = nil
      stop = "our driver had left the recording before the crash"
    }
    if let nodesAtCrash { hardware.restore(nodesAtCrash) }
    self.truth = truth
    self.gart = gart
    devices = Self.devices(in: truth, gart)
    driver = nil
    phase = ""
    recorded = []
    comparedWriteCount = hardware.configurationWrites.count
  }

  /// A recording does not say how many address lines a device has: as few as reach what it was given
  /// untranslated. That sends the same buffers through the GART as the real number does. Coherent
  /// memory has a mask of its own.
  private static func devices(
    in truth: TraceTruth, _ gart: GARTTruth
  ) -> [Requester: Device] {
    var highest: [Requester: UInt64] = [:]
    for mapping in truth.mappings {
      let end = mapping.physical.rawValue &+ mapping.byteCount &- 1
      let isStreaming = gart.details[mapping.identifier]?.function != "alloc_coherent"
      let reached = isStreaming && !mapping.isRemapped ? max(end, 0xff_ffff) : 0xff_ffff
      highest[mapping.device] = max(highest[mapping.device] ?? 0, reached)
    }
    return highest.reduce(into: [:]) { devices, pair in
      let mask = UInt64.max >> UInt64(pair.value.leadingZeroBitCount)
      devices[pair.key] = Device(name: "\(pair.key)", requester: pair.key, dmaMask: mask)
    }
  }

  // MARK: Following the recording

  /// Takes notice of an event that has been applied to the machine.
  func observe(_ event: TraceEvent, on machine: RecordedMachine) {
    guard difference == nil, stop == nil else { return }
    switch event.action {
    case .configuration(let access) where access.isWrite:
      guard hardware.nodes.contains(where: { $0.function == access.function }) else { return }
      recorded.append(
        .init(
          function: access.function, offset: Int(access.offset), byteCount: access.byteCount,
          value: access.value))
    case .phase(let name):
      if !Self.bootPhases.contains(name) { finishPhase(on: machine, place(event)) }
      phase = name
      if name == "crash" { nodesAtCrash = hardware.nodes }
    case .call:
      finishPhase(on: machine, place(event))
      phase = ""
    default: break
    }
  }

  /// The trace ends.
  func finish(on machine: RecordedMachine) {
    guard difference == nil, stop == nil else { return }
    finishPhase(on: machine, "at the end")
  }

  private func place(_ event: TraceEvent) -> String { "seq \(event.sequence)" }

  /// Does what the kernel did since the phase began.
  private func finishPhase(on machine: RecordedMachine, _ place: String) {
    if Self.bootPhases.contains(phase) {
      boot(on: machine, place)
    } else if phase.contains("registers lost") {
      hardware.powerCycle()
      loadFirmware(of: machine)
      driver?.resume()
    } else if phase.hasPrefix("iommu_shutdown") {
      driver?.shutDown()
    }
    compareWrites(place)
    compareTable(on: machine, place)
  }

  private func boot(on machine: RecordedMachine, _ place: String) {
    var options = GARTOptions(version: .linux4_4)
    options.read(gart.option)
    let topology: PCI.Topology
    if truth.kernel == 1 {
      loadFirmware(of: machine)
      topology = machine.otherFunctions()
    } else {
      topology = hardware.topology
    }
    hardware.topology = topology
    do {
      let map = try MemoryMap(
        ram: truth.memory, crashKernel: truth.kernel == 1 ? gart.crashKernel : [])
      let pages = PlacedPages(
        memory: memory, map: map,
        places: [
          .table: gart.aperture.table, .scratchPage: gart.aperture.scratchPage,
          .agpScratchPage: gart.aperture.agpScratchPage,
        ])
      let driver = try GARTDriver(pages: pages, map: map, hardware: hardware, options: options)
      self.driver = driver
      stepCount += 1
      if (driver.idleness == nil) != (gart.aperture.base != 0) {
        difference =
          "\(place): our driver uses the GART where the real one does not, or not where it does"
      }
    } catch {
      difference = "\(place): our driver gives up: \(error)"
    }
  }

  private func loadFirmware(of machine: RecordedMachine) {
    for (index, node) in hardware.nodes.enumerated() {
      for offset in RecordedMachine.registers {
        hardware.load(
          machine.firmwareRegister(of: node.function, at: offset), node: index, at: offset)
      }
    }
  }

  // MARK: Calls

  /// A call has ended; runs it on our driver.
  ///
  /// - Parameters:
  ///   - begun: The mappings that it made, in the order of the list.
  ///   - ended: The mappings that it took back, in that order.
  func run(
    _ call: TraceCall, _ ret: TraceReturn, begun: [TraceMapping], ended: [TraceMapping],
    on machine: RecordedMachine, _ place: String
  ) {
    guard difference == nil, stop == nil, let driver else { return }
    switch call.function {
    case .bindAGP:
      let pages =
        begun.isEmpty
        ? [PhysicalAddress](
          repeating: PhysicalAddress(0), count: Int(min(call.count ?? 0, 1 << 19)))
        : begun.map(\.physical)
      let isBound = driver.bindAGP(pages, at: Int(truncatingIfNeeded: call.number ?? 0))
      if isBound != (ret.result == 0) { difference = "\(place): our driver answers otherwise" }
    case .unbindAGP:
      let first = Int(min(call.number ?? 0, 1 << 19))
      driver.unbindAGP(first..<(first + Int(min(call.count ?? 0, 1 << 19))))
    case .unmapPage, .unmapSegments, .freeCoherent:
      for mapping in ended { driver.unmap(mapping.iova, byteCount: mapping.byteCount) }
    case .mapPage, .allocateCoherent, .mapSegments:
      map(call, ret, begun, driver, place)
    }
    guard stop == nil else { return }
    stepCount += 1
    compareWrites(place)
    if stepCount % 64 == 0 { compareTable(on: machine, place) }
  }

  private func map(
    _ call: TraceCall, _ ret: TraceReturn, _ begun: [TraceMapping], _ driver: GARTDriver,
    _ place: String
  ) {
    guard let requester = call.device else { return }
    guard !begun.isEmpty else { return failedMap(call, requester, driver, place) }
    if hintIsUnknown, let first = begun.first(where: \.isRemapped) {
      hintIsUnknown = false
      driver.continueSearch(at: first.iova)
      // Whether the search came round for it, and a flush was owed, is as little known.
      recorded = []
      defer { comparedWriteCount = hardware.configurationWrites.count }
      return map(call, ret, begun, driver, place)
    }
    let device = devices[requester] ?? Device(name: "", requester: requester)
    let buffers = begun.map {
      $0.physical..<PhysicalAddress($0.physical.rawValue &+ max($0.byteCount, 1))
    }
    do {
      let numbers: [IOVA]
      switch call.function {
      case .mapSegments:
        let listed = try driver.map(list: buffers, for: device, direction: .bidirectional)
        let segments = begun.map { Int(gart.details[$0.identifier]?.list?.output ?? 0) }
        if listed.map(\.segment) != segments {
          difference = "\(place): our driver cuts the list into other segments"
        }
        numbers = listed.map(\.iova)
      case .allocateCoherent:
        numbers = [try driver.mapCoherent(buffers[0], for: device).iova]
      default:
        numbers = [try driver.map(buffers[0], for: device, direction: .bidirectional).iova]
      }
      for (number, mapping) in zip(numbers, begun) where number != mapping.iova {
        difference = "\(place): our driver gives out \(number), not \(mapping.iova)"
      }
    } catch {
      difference = "\(place): our driver finds no room: \(error)"
    }
  }

  /// The real driver found no room, and neither may ours.
  private func failedMap(
    _ call: TraceCall, _ requester: Requester, _ driver: GARTDriver, _ place: String
  ) {
    if call.function == .mapSegments {
      hintIsUnknown = true
      recorded = []
      return
    }
    guard call.function == .mapPage, let start = call.physical,
      let buffer = Range(start: start, byteCount: max(call.count ?? 0, 1))
    else {
      stop = "\(place): what the failed call was about is not recorded"
      return
    }
    let device = devices[requester] ?? Device(name: "", requester: requester)
    if let mapped = try? driver.map(buffer, for: device, direction: .toDevice) {
      difference = "\(place): our driver finds room at \(mapped.iova)"
    }
  }

  // MARK: Comparing

  private func compareWrites(_ place: String) {
    guard difference == nil else { return }
    let ours = Array(hardware.configurationWrites[comparedWriteCount...])
    comparedWriteCount += ours.count
    stepCount += ours.count
    defer { recorded = [] }
    guard ours != recorded else { return }
    let index =
      zip(ours, recorded).enumerated().first { $1.0 != $1.1 }?.offset
      ?? min(ours.count, recorded.count)
    func text(_ writes: [Northbridges.ConfigurationWrite]) -> String {
      guard index < writes.count else { return "nothing" }
      let write = writes[index]
      return "\(hexadecimal(write.value)) to \(write.function) \(hexadecimal(write.offset))"
    }
    difference = "\(place): our driver writes \(text(ours)), the real one \(text(recorded))"
  }

  private func compareTable(on machine: RecordedMachine, _ place: String) {
    guard difference == nil, driver?.idleness == nil, gart.aperture.tableByteCount > 0 else {
      return
    }
    let count = Int(gart.aperture.tableByteCount)
    let ours = memory.bytes(at: gart.aperture.table, count: count)
    if ours != machine.memory.bytes(at: gart.aperture.table, count: count) {
      difference = "\(place): our driver's table is not the real one's"
    }
  }
}
