import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUTranslation

/// Plays one kernel's trace against the northbridges and compares as it goes.
///
/// After every call that ends, what began and ended with it and every page whose entry was stored
/// is compared: no other answer can have changed. All pages in force and all that were given back
/// are compared when a register other than 0x9c was written, every fourth call with a table of 64
/// KiB and less often in proportion with a larger one, and at the end.
struct GARTReplay {
  static let sweepInterval = 1

  var machine: RecordedMachine
  private(set) var log: DifferenceLog
  private(set) var totals = RecordingTotals()
  private(set) var lastSequence: UInt64 = 0
  /// The northbridges as the crash left them; `nil` before the end of the run proper.
  private(set) var nodesAtCrash: [Northbridge]?
  private(set) var mappings: GARTMappings

  private let truth: TraceTruth
  private let gart: GARTTruth
  /// Our own driver beside the recording.
  private let ours: GARTDriverReplay?
  private var ledger: MappingLedger
  private var call: TraceCall?
  private var storedWordCount = 0
  /// Entries that hold what the call that is going on has stored.
  private var filledByCall: Set<Int> = []
  /// Entries that it has stored and given back: a scatter list that found no room half way.
  private var takenBackCount = 0
  /// Entries stored since the last call ended.
  private var touched: [Range<Int>] = []
  private var registersChanged = false
  /// Calls since all pages were compared.
  private var callsSinceSweep = 0
  /// Compare all pages after every call.
  private let isThorough: Bool
  /// Truth mappings of AGP by the entry that binds them, in the order of binding.
  private var agpBindings: [Int: ArraySlice<TraceMapping>] = [:]
  /// The function that AGP's mappings are for.
  private var agpDevice: Requester?
  /// AGP mappings in force.
  private var boundAGP: [Int: TraceMapping] = [:]
  private var failureCount: UInt64 = 0
  private var flushCount: UInt64 = 0
  private var endedCount: UInt64 = 0

  init(
    machine: RecordedMachine, truth: TraceTruth, gart: GARTTruth, cache: GARTCache.Geometry,
    differenceLimit: Int, isThorough: Bool, beside ours: GARTDriverReplay? = nil
  ) {
    self.machine = machine
    self.truth = truth
    self.gart = gart
    self.ours = ours
    self.isThorough = isThorough
    log = DifferenceLog(limit: differenceLimit)
    mappings = GARTMappings(
      truth: gart, nodeCount: machine.hardware.nodes.count, cache: cache)
    // When AGP bound its pages only the trace tells.
    ledger = MappingLedger(truth.mappings.filter { gart.details[$0.identifier]?.isAGP != true })
    let bindings = truth.mappings.filter { gart.details[$0.identifier]?.isAGP == true }
      .sorted { $0.identifier < $1.identifier }
    let firstPage = gart.aperture.base >> 12
    agpBindings = Dictionary(grouping: bindings) {
      Int(truncatingIfNeeded: $0.iova.pageNumber &- firstPage)
    }.mapValues { $0[...] }
  }

  /// Plays the whole trace.
  mutating func play(_ reader: inout TraceReader) throws(ImageError) {
    while let event = try reader.next() {
      totals.events += 1
      lastSequence = event.sequence
      switch event.action {
      case .configuration(let access): configure(access, event)
      case .memory(let store): self.store(store, event)
      case .call(let call):
        self.call = call
        storedWordCount = 0
        filledByCall.removeAll(keepingCapacity: true)
        takenBackCount = 0
      case .ret(let ret): finish(ret, event)
      case .phase(let name): enter(name, event)
      case .register(let access):
        log.add("seq \(event.sequence): register \(access.name) of a chip, in a trace of a GART")
      case .cacheFlush, .tableAllocation, .housekeeping: break
      }
      ours?.observe(event, on: machine)
    }
    if nodesAtCrash == nil { finishRun() }
    guard let ours else { return }
    ours.finish(on: machine)
    totals.driverSteps = ours.stepCount
    if let difference = ours.difference { log.add(difference) }
  }

  // MARK: Events

  private mutating func configure(_ access: ConfigurationAccess, _ event: TraceEvent) {
    let node = machine.hardware.nodes.firstIndex { $0.function == access.function }
    guard access.isWrite else {
      let (value, firmwareByteCount) = machine.read(access)
      if firmwareByteCount == 0 { totals.reads += 1 } else { totals.firmwareReads += 1 }
      log.compare(
        value, access.value,
        "seq \(event.sequence): \(access.function) register \(hexadecimal(access.offset))",
        show: { hexadecimal($0) })
      return
    }
    totals.writes += 1
    if !access.isConsistent {
      log.add("seq \(event.sequence): a write whose bytes on the bus are not its value")
    }
    machine.write(access)
    guard let node else { return }
    guard access.offset == GART.RegisterOffset.cacheControl else {
      registersChanged = true
      return
    }
    guard GART.CacheControl(rawValue: UInt32(truncatingIfNeeded: access.value)).invalidates else {
      return
    }
    flushCount += 1
    mappings.flushed(node: node)
  }

  private mutating func store(_ store: MemoryStore, _ event: TraceEvent) {
    totals.stores += store.wordCount
    storedWordCount += store.wordCount
    let bytes = store.bytes
    if machine.memory.write(bytes, at: store.address) != bytes.count {
      log.add("seq \(event.sequence): a store to \(store.address), where the truth has no RAM")
    }
    let offset = store.address.rawValue &- machine.table.rawValue
    guard offset < gart.aperture.entryCount * 4 else { return }
    let end = min(offset + UInt64(bytes.count) + 3, gart.aperture.entryCount * 4)
    let entries = Int(offset / 4)..<Int(end / 4)
    touched.append(entries)
    guard call != nil else { return }
    for index in entries {
      let place = PhysicalAddress(machine.table.rawValue + UInt64(index) * 4)
      if GART.GATTEntry(from: machine.memory, at: place) != gart.aperture.scratchEntry {
        filledByCall.insert(index)
      } else if filledByCall.remove(index) != nil {
        takenBackCount += 1
      }
    }
  }

  private mutating func enter(_ phase: String, _ event: TraceEvent) {
    if phase == "crash" || phase == "end" {
      finishRun()
    } else if phase.contains("registers lost") {
      machine.losePower()
      for node in machine.hardware.nodes.indices { mappings.flushed(node: node) }
    }
  }

  /// A call ends: what it began and ended is compared, and that it is what the truth says.
  private mutating func finish(_ ret: TraceReturn, _ event: TraceEvent) {
    guard let call else { return }
    self.call = nil
    let (ended, begun) = ledger.advance(to: event.sequence &+ 1)
    let place = "seq \(event.sequence), \(call.function.rawValue)"
    totals.calls += 1
    totals.mappings += begun.count
    endedCount += UInt64(ended.count)
    var begunOrBound = begun.sorted { $0.identifier < $1.identifier }
    switch call.function {
    case .bindAGP: begunOrBound = bind(call, ret, place)
    case .unbindAGP: unbind(call, place)
    default: compare(call, ret, begun: begunOrBound, ended: ended, place)
    }
    ours?.run(
      call, ret, begun: begunOrBound, ended: ended.sorted { $0.identifier < $1.identifier },
      on: machine, place)
    for mapping in ended + begun
    where mapping.firstSequence != event.sequence &+ 1
      && mapping.endSequence != event.sequence &+ 1
    {
      log.add("\(place): mapping \(mapping.identifier) begins or ends, but not with a call")
    }
    for mapping in ended { mappings.end(mapping, on: machine, &log) }
    for mapping in begun { mappings.begin(mapping, on: machine, &log) }
    for range in touched { mappings.check(entries: range, on: machine, &log) }
    touched.removeAll(keepingCapacity: true)
    callsSinceSweep += 1
    let interval = isThorough ? 1 : Int(gart.aperture.entryCount / 4096)
    if registersChanged || callsSinceSweep >= interval {
      mappings.sweep(on: machine, &log)
      registersChanged = false
      callsSinceSweep = 0
    }
  }

  // MARK: Calls against the truth

  private mutating func compare(
    _ call: TraceCall, _ ret: TraceReturn, begun: [TraceMapping], ended: [TraceMapping],
    _ place: String
  ) {
    let all = begun + ended
    for mapping in all {
      log.compare(mapping.device, call.device ?? mapping.device, "\(place): the device")
      checkShape(mapping, place)
    }
    for mapping in begun {
      log.compare(
        gart.details[mapping.identifier]?.function, call.function.rawValue, "\(place): the call")
    }
    let words = all.reduce(0) { $0 + ($1.isRemapped ? Int($1.pageCount) : 0) }
    // What found no room half way was stored and given back.
    log.compare(storedWordCount - 2 * takenBackCount, words, "\(place): entries stored")
    switch call.function {
    case .mapPage, .allocateCoherent:
      log.compare(takenBackCount, 0, "\(place): entries stored and given back")
      guard !begun.isEmpty || !isFailure(ret) else {
        failureCount += 1
        return
      }
      log.compare(begun.count, 1, "\(place): mappings in the truth")
      log.compare(ended.count, 0, "\(place): mappings that end")
      guard let mapping = begun.first else { return }
      log.compare(ret.iova, mapping.iova, "\(place): the address returned")
      log.compare(call.physical ?? ret.physical, mapping.physical, "\(place): the buffer")
      log.compare(call.count, mapping.byteCount, "\(place): the length")
      if let direction = call.direction {
        log.compare(mapping.direction, direction, "\(place): the direction")
      }
    case .mapSegments:
      guard !begun.isEmpty || ret.result != 0 else {
        failureCount += 1
        return
      }
      log.compare(UInt64(begun.count), call.number ?? 0, "\(place): segments in the truth")
      log.compare(ended.count, 0, "\(place): mappings that end")
      for mapping in begun {
        log.compare(mapping.direction, call.direction ?? .none, "\(place): the direction")
      }
      checkList(begun, outputCount: ret.result ?? 0, place)
      if takenBackCount > 0 {
        // The second try is one without merging.
        log.compare(
          ret.result ?? 0, Int64(begun.count), "\(place): segments of a list that was tried again")
      }
    default:
      log.compare(begun.count, 0, "\(place): mappings that begin")
      guard let first = ended.min(by: { $0.identifier < $1.identifier }) else {
        log.add("\(place): no mapping ends")
        return
      }
      log.compare(call.iova, first.iova, "\(place): the address given back")
      checkLength(call, ended, first, place)
    }
  }

  /// A failed mapping gives the first page of the IOMMU's part, or a number that means nothing.
  private func isFailure(_ ret: TraceReturn) -> Bool {
    let error = gart.aperture.base + gart.aperture.firstEntry << 12
    return ret.iova == IOVA(error) || ret.iova == IOVA(0) || ret.iova == IOVA(.max)
  }

  /// What holds of every mapping by itself.
  private mutating func checkShape(_ mapping: TraceMapping, _ place: String) {
    let name = "\(place): mapping \(mapping.identifier)"
    log.compare(gart.details[mapping.identifier]?.kernel, truth.kernel, "\(name): the kernel")
    let count = PageCount(
      coveringBytes: mapping.byteCount, atOffset: mapping.physical.offsetInPage)
    log.compare(mapping.pageCount, count?.rawValue ?? 0, "\(name): pages")
    log.compare(mapping.iova.offsetInPage, mapping.physical.offsetInPage, "\(name): the offset")
    let aperture = gart.aperture.base..<(gart.aperture.base + gart.aperture.byteCount)
    log.compare(aperture.contains(mapping.iova.rawValue), mapping.isRemapped, "\(name): remapped")
    if !mapping.isRemapped {
      log.compare(mapping.iova.rawValue, mapping.physical.rawValue, "\(name): untranslated address")
    }
    if mapping.endSequence == nil, gart.details[mapping.identifier]?.state != .live {
      log.add("\(name): it never ends and is not live")
    }
    if mapping.endSequence != nil, gart.details[mapping.identifier]?.state != .freed {
      log.add("\(name): it ends and was not freed")
    }
  }

  /// Segments are numbered, in order, and those of one output segment follow each other on the
  /// bus.
  private mutating func checkList(
    _ begun: [TraceMapping], outputCount: Int64, _ place: String
  ) {
    let sorted = begun.sorted { $0.identifier < $1.identifier }
    var last: (mapping: TraceMapping, list: GARTTruth.Detail.List)?
    for (index, mapping) in sorted.enumerated() {
      guard let list = gart.details[mapping.identifier]?.list else {
        log.add("\(place): mapping \(mapping.identifier) is in no list, by the truth")
        continue
      }
      log.compare(list.index, UInt64(index), "\(place): the place in the list")
      log.compare(list.count, UInt64(sorted.count), "\(place): the length of the list")
      if let last {
        log.compare(list.group, last.list.group, "\(place): the list")
        if list.output == last.list.output {
          log.compare(
            mapping.iova.rawValue, last.mapping.iova.rawValue &+ last.mapping.byteCount,
            "\(place): segment \(mapping.identifier)", show: { hexadecimal($0) })
        } else {
          log.compare(list.output, last.list.output &+ 1, "\(place): the segment for the device")
        }
      } else {
        log.compare(list.output, 0, "\(place): the first segment for the device")
      }
      last = (mapping, list)
    }
    let outputs = last.map { Int64(truncatingIfNeeded: $0.list.output &+ 1) } ?? 0
    log.compare(outputs, outputCount, "\(place): segments for the device")
  }

  /// A call that gives back says the length of the mapping, or of a list's first segment before or
  /// after merging.
  private mutating func checkLength(
    _ call: TraceCall, _ ended: [TraceMapping], _ first: TraceMapping, _ place: String
  ) {
    guard call.function == .unmapSegments else {
      log.compare(ended.count, 1, "\(place): mappings that end")
      log.compare(call.count, first.byteCount, "\(place): the length")
      return
    }
    let list = gart.details[first.identifier]?.list
    log.compare(UInt64(ended.count), list?.count ?? 0, "\(place): segments that end")
    let merged = ended.reduce(0 as UInt64) { length, mapping in
      let other = gart.details[mapping.identifier]?.list
      return length &+ (other?.output == list?.output ? mapping.byteCount : 0)
    }
    if call.count != first.byteCount { log.compare(call.count, merged, "\(place): the length") }
  }

  // MARK: AGP

  /// - Returns: The mappings that it made.
  private mutating func bind(
    _ call: TraceCall, _ ret: TraceReturn, _ place: String
  ) -> [TraceMapping] {
    guard ret.result == 0 else {
      log.compare(storedWordCount, 0, "\(place), refused: entries stored")
      return []
    }
    var bound: [TraceMapping] = []
    for index in agpEntries(of: call, place) {
      guard let mapping = agpBindings[index]?.popFirst() else {
        log.add("\(place): the truth does not know that entry \(index) is bound")
        continue
      }
      totals.mappings += 1
      checkShape(mapping, place)
      log.compare(mapping.device, agpDevice ?? mapping.device, "\(place): the device")
      agpDevice = mapping.device
      boundAGP[index] = mapping
      bound.append(mapping)
      mappings.begin(entry: index, target: mapping.physical.pageNumber, on: machine, &log)
    }
    return bound
  }

  /// The entries that a call of AGP is about; none when they are not all in the table.
  private mutating func agpEntries(of call: TraceCall, _ place: String) -> Range<Int> {
    let number = call.number ?? 0
    let count = call.count ?? 0
    log.compare(UInt64(storedWordCount), count, "\(place): entries stored")
    guard number <= gart.aperture.entryCount, count <= gart.aperture.entryCount - number else {
      log.add("\(place): \(count) entries from \(number) are not in the table")
      return 0..<0
    }
    return Int(number)..<Int(number + count)
  }

  private mutating func unbind(_ call: TraceCall, _ place: String) {
    for index in agpEntries(of: call, place) {
      endedCount += 1
      if let mapping = boundAGP.removeValue(forKey: index),
        gart.details[mapping.identifier]?.state != .freed
      {
        log.add("\(place): mapping \(mapping.identifier) was not freed, by the truth")
      }
      mappings.end(entry: index, on: machine, &log)
    }
  }

  // MARK: The end

  /// The run proper ends, with a crash or with the trace; what follows is a shutdown.
  private mutating func finishRun() {
    guard nodesAtCrash == nil else { return }
    nodesAtCrash = machine.hardware.nodes
    mappings.sweep(on: machine, &log)
    if !ledger.isAtEnd { log.add("mappings of the truth begin or end after the trace") }
    for mapping in agpBindings.values.compactMap(\.first) {
      log.add("mapping \(mapping.identifier) is never bound")
    }
    for mapping in boundAGP.values where gart.details[mapping.identifier]?.state != .live {
      log.add("mapping \(mapping.identifier) of AGP is bound and not live")
    }
    let counts = gart.counts
    let identityCount = truth.mappings.count { !$0.isRemapped }
    log.compare(counts.mappings, UInt64(truth.mappings.count), "counts.mappings")
    log.compare(counts.freed, endedCount, "counts.freed")
    log.compare(counts.live, counts.mappings &- counts.freed, "counts.live")
    log.compare(counts.identity, UInt64(identityCount), "counts.identity")
    log.compare(counts.failures, failureCount, "counts.map_failures")
    log.compare(counts.flushes, flushCount, "counts.flush_writes_all_nbs")
    totals.flushes = Int(flushCount)
    totals.add(mappings)
    compareAperture()
  }

  /// The aperture as the truth has it, and every entry of its table counted by kind.
  private mutating func compareAperture() {
    let aperture = gart.aperture
    if let uses = gart.secondKernelUsesGART {
      log.compare(uses, aperture.base != 0, "second_kernel_uses_gart")
    }
    guard aperture.base != 0 else {
      log.compare(aperture.scratchPage, PhysicalAddress(0), "aperture.scratch_pa without a GART")
      return
    }
    for node in machine.hardware.nodes {
      let registers = node.registers
      log.compare(registers.control.isEnabled, true, "\(node.function): GartEn")
      log.compare(registers.base.address, aperture.base, "\(node.function): the aperture's base")
      log.compare(
        registers.control.apertureByteCount ?? 0, aperture.byteCount,
        "\(node.function): the aperture's size")
      log.compare(registers.tableBase.table, aperture.table, "\(node.function): the table")
    }
    log.compare(aperture.entryCount, aperture.byteCount >> 12, "aperture.entries")
    log.compare(
      aperture.scratchEntry, GART.GATTEntry.wrapping(page: aperture.scratchPage),
      "aperture.scratch_entry")
    // A kind that the driver does not have is zero, and counts nothing.
    let agpScratch = GART.GATTEntry.wrapping(page: aperture.agpScratchPage).rawValue & ~3
    var zero: UInt64 = 0
    var scratch: UInt64 = 0
    var agp: UInt64 = 0
    for index in 0..<min(aperture.entryCount, 1 << 19) {
      let entry = aperture.table.advanced(byBytes: 4 * index).flatMap {
        machine.memory.doubleword(at: $0)
      }
      if entry == 0 {
        zero += 1
      } else if entry == aperture.scratchEntry.rawValue {
        scratch += 1
      } else if entry == agpScratch {
        agp += 1
      }
    }
    log.compare(zero, aperture.zeroEntryCount, "entries that are zero")
    log.compare(scratch, aperture.scratchEntryCount, "entries that name the scratch page")
    log.compare(agp, aperture.agpScratchEntryCount, "entries that name AGP's scratch page")
  }

  /// Compares something that lies beside the trace.
  mutating func compare<Failure>(
    _ body: (inout DifferenceLog, inout RecordingTotals) throws(Failure) -> Void
  ) throws(Failure) {
    try body(&log, &totals)
  }
}
