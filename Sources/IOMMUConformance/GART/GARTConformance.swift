import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUTranslation

/// One directory of a recorded GART driver: the first kernel's trace, and the kdump kernel's after
/// it, each against what lies beside it.
package struct GARTConformance {
  let directory: String
  let cache: GARTCache.Geometry
  let differenceLimit: Int
  /// Whether our own driver runs beside the recording.
  let runsDriver: Bool
  /// Whether all pages are compared after every call.
  let isThorough: Bool

  package init(
    directory: String, cache: GARTCache.Geometry, differenceLimit: Int, runsDriver: Bool,
    isThorough: Bool
  ) {
    self.directory = directory
    self.cache = cache
    self.differenceLimit = differenceLimit
    self.runsDriver = runsDriver
    self.isThorough = isThorough
  }

  private func path(_ file: String) -> String {
    directory + (directory.hasSuffix("/") ? "" : "/") + file
  }

  private func exists(_ file: String) -> Bool {
    // Safe: the call reads the path, and nothing of it after it returns.
    unsafe access(path(file), F_OK) == 0
  }

  /// Plays the directory's traces.
  ///
  /// - Throws: ``ImageError`` for a file that is missing or cannot be read.
  package func results() throws(ImageError) -> [RecordingResult] {
    let truth = try TraceTruth(path: path("truth.json"))
    let states = try NorthbridgeStates(path: path("northbridges.json"))
    let hasSecondKernel = exists("trace-kdump.jsonl")
    let kdumpTruth = hasSecondKernel ? try TraceTruth(path: path("truth-kdump.json")) : nil
    let ram = joined(truth.memory + (kdumpTruth?.memory ?? []))
    let machine = RecordedMachine(
      memory: try memory(of: truth, ram: ram), functions: states.nodes.map(\.function), cache: cache
    )

    let gart = try GARTTruth(path: path("truth.json"))
    let ours =
      runsDriver
      ? GARTDriverReplay(
        memory: try memory(of: truth, ram: ram), states: states, truth: truth, gart: gart) : nil
    var first = GARTReplay(
      machine: machine, truth: truth, gart: gart, cache: cache, differenceLimit: differenceLimit,
      isThorough: isThorough, beside: ours)
    var reader = try TraceReader(path: path("trace.jsonl"))
    try first.play(&reader)
    let nodes = first.nodesAtCrash ?? []
    try compareFiles(&first, nodes, states, truth, gart, suffix: "")
    if exists("northbridges-after-shutdown.json") {
      let after = try NorthbridgeStates(path: path("northbridges-after-shutdown.json"))
      let final = first.machine.hardware.nodes
      first.compare { log, _ in compare(final, after, &log) }
    }
    var results = [result(first, "trace.jsonl", ours)]
    if let kdumpTruth {
      first.machine.restore(nodes)
      let kdumpGART = try GARTTruth(path: path("truth-kdump.json"))
      ours?.start(truth: kdumpTruth, gart: kdumpGART)
      var second = GARTReplay(
        machine: first.machine, truth: kdumpTruth, gart: kdumpGART, cache: cache,
        differenceLimit: differenceLimit, isThorough: isThorough, beside: ours)
      reader = try TraceReader(path: path("trace-kdump.jsonl"))
      try second.play(&reader)
      if second.lastSequence <= first.lastSequence {
        second.compare { log, _ in
          log.add("the second kernel's events do not come after the first's")
        }
      }
      try compareFiles(
        &second, second.nodesAtCrash ?? [],
        try NorthbridgeStates(path: path("northbridges-kdump.json")), kdumpTruth, kdumpGART,
        suffix: "-kdump")
      results.append(result(second, "trace-kdump.jsonl", ours))
    }
    return results
  }

  private func result(
    _ replay: GARTReplay, _ trace: String, _ ours: GARTDriverReplay?
  ) -> RecordingResult {
    RecordingResult(
      recording: path(trace), log: replay.log,
      notes: ours?.stop.map { ["our driver stops: \($0)"] } ?? [], totals: replay.totals)
  }

  private func memory(
    of truth: TraceTruth, ram: [Range<PhysicalAddress>]
  ) throws(ImageError) -> FlatMemory {
    do {
      return try FlatMemory(ram: ram)
    } catch {
      throw ImageError(file: truth.path, place: "ram", found: "\(error)")
    }
  }

  /// RAM of both kernels; ranges that overlap become one.
  private func joined(_ ranges: [Range<PhysicalAddress>]) -> [Range<PhysicalAddress>] {
    var joined: [Range<PhysicalAddress>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = joined.last, range.lowerBound <= last.upperBound {
        joined[joined.count - 1] =
          last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        joined.append(range)
      }
    }
    return joined
  }

  // MARK: What lies beside a trace

  /// Registers, table and image at the crash.
  ///
  /// - Parameter suffix: `-kdump` for the second kernel.
  private func compareFiles(
    _ replay: inout GARTReplay, _ nodes: [Northbridge], _ states: NorthbridgeStates,
    _ truth: TraceTruth, _ gart: GARTTruth, suffix: String
  ) throws(ImageError) {
    let machine = replay.machine
    try replay.compare { (log, totals) throws(ImageError) in
      log.compare(truth.kernel, suffix.isEmpty ? 1 : 2, "kernel")
      compare(nodes, states, &log)
      for state in states.nodes {
        log.compare(
          machine.firmwareValue(of: state.function, at: PCI.RegisterOffset.identity),
          PCI.Identity(vendorID: state.vendorID, deviceID: state.deviceID).rawValue,
          "\(state.function): the identifiers", show: { hexadecimal($0) })
      }
      guard gart.aperture.tableByteCount > 0 else { return }
      let count = Int(gart.aperture.tableByteCount)
      let table = machine.memory.bytes(at: gart.aperture.table, count: count)
      for file in ["gatt\(suffix).bin", "image\(suffix).elf"] where exists(file) {
        let image = try MemoryImage(path: path(file))
        let place = file.hasPrefix("gatt") ? PhysicalAddress(0) : gart.aperture.table
        totals.tableBytes += count
        if image.bytes(at: place, count: count) != table || table == nil {
          log.add("\(file): the table there is not the one that the trace leaves")
        }
        if file.hasPrefix("image") {
          compareSamples(truth, gart, nodes, image, &log, &totals)
        }
      }
    }
  }

  private func compare(
    _ nodes: [Northbridge], _ states: NorthbridgeStates, _ log: inout DifferenceLog
  ) {
    log.compare(nodes.map(\.function), states.nodes.map(\.function), "\(states.path): functions")
    for (node, state) in zip(nodes, states.nodes) {
      for (name, found, expected) in [
        ("0x90", node.control.rawValue, state.control), ("0x94", node.base.rawValue, state.base),
        ("0x98", node.tableBase.rawValue, state.table),
        ("0x9c", node.cacheControl.rawValue, state.cache),
      ] {
        log.compare(
          found, expected, "\(node.function) register \(name) at the end",
          show: { hexadecimal($0) })
      }
      log.compare(
        NorthbridgeStates.Meaning(control: node.control, base: node.base, table: node.tableBase),
        state.meaning, "\(node.function): what the registers mean")
    }
  }

  /// Reads buffers as their devices would, out of the image: each aligned quadword of a sampled page
  /// is a mark and its own address.
  private func compareSamples(
    _ truth: TraceTruth, _ gart: GARTTruth, _ nodes: [Northbridge], _ image: MemoryImage,
    _ log: inout DifferenceLog, _ totals: inout RecordingTotals
  ) {
    let devices = Northbridges(nodes: nodes)
    for mapping in truth.mappings where gart.details[mapping.identifier]?.isSampled == true {
      guard mapping.pageCount <= 1 << 19 else { continue }
      for index in 0..<mapping.pageCount {
        let page = PhysicalAddress((mapping.physical.pageNumber + index) << 12)
        let answer = devices.translate(
          IOVA((mapping.iova.pageNumber + index) << 12), byteCount: 4096, access: .read, in: image)
        totals.imagePages += 1
        guard case .mapped(let address, byteCount: 4096) = answer,
          let bytes = image.bytes(at: address, count: 4096)
        else {
          log.add("mapping \(mapping.identifier): page \(index) cannot be read: \(answer)")
          continue
        }
        let isMarked = stride(from: 0, to: 4096, by: 8).allSatisfy {
          bytes.span.integer(UInt64.self, at: $0)
            == 0xa5a5_0000_0000_0000 &+ page.rawValue &+ UInt64($0)
        }
        if !isMarked { log.add("mapping \(mapping.identifier): page \(index) is not its buffer's") }
      }
    }
  }
}
