import IOMMUFormats
import IOMMUInspection
import IOMMURule
import IOMMUTestSupport
import IOMMUTranslation

/// Looks for tables in memory: an edited machine's, or any bytes at any address.
enum SearchExercise {
  /// Where raw bytes lie: the BIOS's data, a megabyte, 4 GiB, and up to the last byte of all.
  private static let bases: [UInt64] = [0, 0x9_f000, 0x10_0000, 1 << 32, 0xffff_ffff_ffff_0000]

  static func run(_ input: UnsafeRawBufferPointer) {
    guard let first = input.first else { return }
    if first & 1 == 0 {
      MachineInput.with(UnsafeRawBufferPointer(rebasing: input.dropFirst())) { search($0.memory) }
    } else {
      let bytes = SparseBytes.expanded(input.dropFirst())
      let base = bases[Int(first >> 1) % bases.count]
      let count =
        base > UInt64.max - UInt64(SparseBytes.limit) ? Int(UInt64.max - base) : bytes.count
      search(ByteMemory(bytes: Array(bytes.prefix(count)), base: base))
    }
  }

  private static func search(_ memory: some PhysicalMemory) {
    let search = TableSearch(in: memory)
    for candidate in search.candidates {
      require(TableSearch.lowestScore...100 ~= candidate.score, "a score is 25 to 100")
      require(!candidate.reasons.isEmpty, "a candidate has reasons")
      candidate.reasons.forEach { Output.check(text: $0) }
      Output.check(encoded: candidate)
    }
    let selection = search.selection(in: memory)
    require(
      selection.taken.allSatisfy { $0.isCertain && $0.kind.translates },
      "only certain tables are taken")
    for (_, reason) in selection.passedOver { Output.check(text: reason) }
    for remark in selection.remarks { Output.check(text: remark) }
    guard !selection.units.isEmpty else { return }
    let machine = Machine(name: "found", units: selection.units)
    var budget = EnumerationBudget(remainingTables: 1024)
    for table in machine.tables(in: memory).tables.prefix(16) {
      _ = machine.mappings(of: table, in: memory, budget: &budget)
    }
  }
}

/// Judges an edited machine by the Rule.
enum RuleExercise {
  static func run(_ input: UnsafeRawBufferPointer) { MachineInput.with(input, run) }

  private static func run(_ edited: MachineInput) {
    guard let evidence = evidence(of: edited.machine, &edited.rest) else { return }
    let verdicts = RuleCheck(evidence: evidence, memory: edited.memory).all()
    require(verdicts.count == 13, "the Rule has thirteen checks")
    for verdict in verdicts {
      let hasBroken = verdict.findings.contains { $0.kind == .broken }
      require(
        hasBroken == (verdict.outcome == .broken), "a broken rule has a finding that breaks it")
      if verdict.outcome == .holds {
        require(
          !verdict.findings.contains { $0.kind == .unknown }, "what holds leaves nothing open")
      }
    }
    let report = RuleReport(evidence, in: edited.memory)
    var text = ""
    report.write(to: &text)
    Output.check(text: text)
    Output.check(encoded: report)
  }

  /// The machine with one or two crash kernel ranges, now and then vast, and perhaps a device.
  static func evidence(of machine: Machine, _ reader: inout ByteReader) -> RuleEvidence? {
    var ranges: [Range<PhysicalAddress>] = []
    let count = reader.byte()
    for _ in 0...Int(count & 1) {
      let start = reader.wide() & ~0xfff
      let size = reader.wide()
      ranges.append(
        PhysicalAddress(
          start)..<PhysicalAddress(
            start.addingReportingOverflow(size).overflow ? .max : start &+ size))
    }
    let devices: [PCI.Function] =
      count & 2 == 0
      ? []
      : [PCI.Function(Requester(rawValue: UInt16(truncatingIfNeeded: reader.number(byteCount: 2))))]
    var machine = machine
    if count & 4 != 0 { machine.ram = [PhysicalAddress(0)..<PhysicalAddress(2 << 20)] }
    var evidence = RuleEvidence(dump: machine, crashKernel: ranges, devices: devices)
    if count & 8 != 0 { addKernel(to: &evidence, of: machine, &reader) }
    return evidence
  }
}

extension RuleExercise {
  /// What a kernel's allocators might say: of numbers near those of the crash kernel, and of pages.
  private static func addKernel(
    to evidence: inout RuleEvidence?, of machine: Machine, _ reader: inout ByteReader
  ) {
    let crashKernel = evidence?.machine.crashKernel.first?.lowerBound.rawValue ?? 0
    var allocators: [RuleEvidence.Allocator] = []
    for _ in 0..<reader.below(4) {
      var held: [RuleEvidence.Allocator.Held] = []
      for _ in 0..<reader.below(6) {
        let start = reader.byte() & 1 == 0 ? crashKernel &+ reader.wide() : reader.wide()
        let size = reader.wide() | 1
        let end = start.addingReportingOverflow(size)
        guard !end.overflow else { continue }
        let states: [RuleEvidence.Allocator.State] = [.taken, .cached, .waiting]
        held.append(.init(IOVA(start)..<IOVA(end.partialValue), states[reader.below(3)]))
      }
      let device = PCI.Function(
        Requester(rawValue: UInt16(truncatingIfNeeded: reader.number(byteCount: 2))))
      allocators.append(
        .init(
          devices: [device], root: PhysicalAddress(reader.wide()), held: held,
          isWhole: reader.byte() & 1 == 0))
    }
    evidence?.allocators = allocators
    let all: [RuleEvidence.PageUse] = [.allocated, .free, .slab, .user, .offline]
    var uses: [UInt64: RuleEvidence.PageUse] = [:]
    for _ in 0..<reader.below(64) { uses[reader.wide()] = all[reader.below(all.count)] }
    evidence?.tablePages = .init(uses: uses, unknown: reader.byte() & 1 == 0 ? nil : "nobody asked")
  }
}

/// Lists, compares, annotates and reports an edited machine.
enum WritersExercise {
  static func run(_ input: UnsafeRawBufferPointer) { MachineInput.with(input, run) }

  private static func run(_ edited: MachineInput) {
    let (machine, memory) = (edited.machine, edited.memory)
    let report = MapsReport(all: machine, in: memory)
    var text = ""
    report.writeText(of: memory, to: &text)
    report.writeTSV(of: memory, to: &text)
    DomainTranslationStruct(report).write(of: memory, to: &text)
    DomainTranslationStruct(report, layout: .linux6_12).write(of: memory, to: &text)
    let summary = MapsSummary(report, in: memory)
    summary.write(to: &text)
    let interrupts = InterruptReport(machine, in: memory)
    interrupts.writeText(to: &text)
    interrupts.writeTSV(to: &text)
    Output.check(encoded: report.encodable(in: memory))
    Output.check(encoded: summary)
    Output.check(encoded: interrupts)

    let address = edited.rest.wide()
    let byteCount = edited.rest.wide()
    let end = address.addingReportingOverflow(byteCount)
    let target = PhysicalAddress(address)..<PhysicalAddress(end.overflow ? .max : end.partialValue)
    for target in [
      target, target.lowerBound..<(target.lowerBound.advanced(byBytes: 1) ?? target.lowerBound),
    ] {
      let reach = ReachReport(
        target, writing: edited.rest.byte() & 1 == 0, machine: machine, in: memory)
      reach.write(to: &text)
      Output.check(encoded: reach)
    }
    let annotator = Annotator(machine, in: memory)
    if let region = annotator.regions.randomElement(by: edited.rest.byte()) {
      let start = region.start.rawValue & ~0xfff
      let stop = PhysicalAddress(start).advanced(byBytes: 512) ?? PhysicalAddress(.max)
      annotator.writeHexdump(PhysicalAddress(start)..<stop, of: memory, to: &text)
      var pieces = ""
      Hexdump.writeJSON([PhysicalAddress(start)..<stop, target], of: memory, to: &pieces)
      Output.check(json: pieces)
    }
    let difference = MapsDifference(
      before: edited.before.machine, in: edited.before.memory, after: machine, in: memory)
    difference.write(to: &text)
    Output.check(encoded: difference)
    Output.check(text: text)

    let title = String(decoding: edited.rest.bytes(32), as: UTF8.self)
    var page = ""
    let rule = RuleExercise.evidence(of: machine, &edited.rest).map { RuleReport($0, in: memory) }
    let dump = DumpReport(title: title, machine: machine, in: memory, rule: rule)
    dump.write(to: &page)
    Output.check(markup: page)
    Output.check(encoded: dump)
  }
}

extension Array {
  fileprivate func randomElement(by number: UInt8) -> Element? {
    isEmpty ? nil : self[Int(number) % count]
  }
}

/// Asks an edited machine the same in every way.
enum AgreeExercise {
  /// Mappings of a table that are looked at.
  private static let runCount = 6

  static func run(_ input: UnsafeRawBufferPointer) { MachineInput.with(input, run) }

  private static func run(_ edited: MachineInput) {
    let (machine, memory) = (edited.machine, edited.memory)
    let others = (0..<4).map { _ in edited.rest.wide() }
    let all = machine.tables(in: memory)
    var budget = EnumerationBudget(for: memory)
    var tables = 0
    for table in all.tables.prefix(64) {
      tables += 1
      let mappings = machine.mappings(of: table, in: memory, budget: &budget)
      guard let requester = table.owner.device?.requester else { continue }
      check(
        machine, memory, requester, table, mappings,
        addresses: tables <= 8 ? addresses(of: mappings, table, others) : [others[0]])
    }
  }

  /// The ends of runs and gaps and what lies beside them, and addresses of the fuzzer's.
  private static func addresses(
    of mappings: TableMappings, _ table: DMATable, _ others: [UInt64]
  ) -> [UInt64] {
    var addresses = others
    if let space = table.table?.space {
      addresses += others.map { space.base &+ $0 % space.byteCount }
    }
    let runs = mappings.runs.prefix(runCount) + mappings.runs.suffix(runCount)
    for run in runs {
      let (first, end) = (run.iova.lowerBound.rawValue, run.iova.upperBound.rawValue)
      addresses += [first, first &- 1, end &- 1, end, first &+ (end &- first) / 2]
      addresses += others.prefix(2).map { first &+ $0 % (end &- first) }
    }
    for gap in mappings.gaps.prefix(runCount) {
      guard case .addresses(_, let range) = gap.scope else { continue }
      addresses += [range.lowerBound.rawValue, range.upperBound.rawValue &- 1]
    }
    return addresses
  }

  private static func check(
    _ machine: Machine, _ memory: LackingMemory, _ requester: Requester, _ table: DMATable,
    _ mappings: TableMappings, addresses: [UInt64]
  ) {
    let handle = machine.resolve(requester, pasid: table.pasid, in: memory)
    let translator = Translator(handle, in: memory)
    for access in Access.allCases {
      let exact = addresses.map {
        handle.translate(IOVA($0), byteCount: 1, access: access, in: memory)
      }
      var packed = [PackedTranslation](
        repeating: PackedTranslation(rawValue: 0), count: addresses.count)
      let iovas = addresses.map { IOVA($0) }
      var answers = packed.mutableSpan
      translator.translate(iovas.span, access, into: &answers)
      for (index, answer) in exact.enumerated() {
        let address = addresses[index]
        let word = PackedTranslation(answer)
        require(
          translator.translate(IOVA(address), access) == word,
          "the fast path says of \(requester) \(access) \(hexadecimal(address)) what the exact one says: \(answer)"
        )
        require(
          packed[index] == word,
          "a batch says of \(requester) \(access) \(hexadecimal(address)) what the exact path says: \(answer)"
        )
        checkListing(address, access, answer, handle, table, mappings, memory)
      }
      checkWalks(machine, memory, requester, table, addresses.prefix(4), access, exact)
    }
  }

  /// What is listed is reached, and what is reached is listed, but for what is not known.
  private static func checkListing(
    _ address: UInt64, _ access: Access, _ answer: Translation, _ handle: DeviceHandle,
    _ table: DMATable, _ mappings: TableMappings, _ memory: LackingMemory
  ) {
    guard let space = table.table?.space, case .table(let own) = handle.route,
      own.identity == table.table?.identity
    else { return }
    guard
      !mappings.gaps.contains(where: { gap in
        guard case .addresses(_, let range) = gap.scope else { return true }
        return range.contains(IOVA(address))
      }), !space.passing.contains(where: { $0.contains(address) })
    else { return }
    let run = mappings.runs.first { $0.iova.contains(IOVA(address)) }
    let isListed =
      run.map { $0.permissions.contains(access.permission) && !$0.access.needsSupervisor } ?? false
    if case .mapped(let physical, _) = answer {
      require(
        isListed,
        "\(table.name): \(access) \(hexadecimal(address)) reaches \(physical) and is not listed")
      let offset = address - run!.iova.lowerBound.rawValue
      require(
        physical.rawValue == run!.physical.rawValue &+ offset,
        "\(table.name): \(access) \(hexadecimal(address)) goes to \(physical), and the list says another place"
      )
    } else {
      require(
        !isListed,
        "\(table.name): \(access) \(hexadecimal(address)) is listed, and is answered by \(answer)")
    }
  }

  private static func checkWalks(
    _ machine: Machine, _ memory: LackingMemory, _ requester: Requester, _ table: DMATable,
    _ addresses: ArraySlice<UInt64>, _ access: Access, _ exact: [Translation]
  ) {
    for (address, answer) in zip(addresses, exact) {
      let walk = ToldWalk(
        requester, pasid: table.pasid, IOVA(address), access: access, machine: machine, in: memory)
      if case .mapped(let physical, _) = answer {
        guard case .memory(physical, _) = walk.end else {
          fatalError(
            "\(table.name): \(access) \(hexadecimal(address)) reaches \(physical): \(walk.endText)")
        }
      } else {
        require(
          !walk.reachesMemory,
          "\(table.name): \(access) \(hexadecimal(address)): \(answer), \(walk.endText)")
      }
    }
  }
}
