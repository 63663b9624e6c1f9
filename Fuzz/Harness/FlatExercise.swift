import IOMMUFormats
import IOMMUHardware
import IOMMUTestSupport
import IOMMUTranslation

/// A hostile guest with a Calgary chip: registers at any offset and width, TCEs, and DMA.
enum CalgaryExercise {
  private static let operationLimit = 512
  private static let buses: [ClosedRange<UInt8>?] = [0...1, 2...3, nil, 8...15]

  static func run(_ input: UnsafeRawBufferPointer) {
    guard input.count >= 4 else { return }
    var reader = ByteReader(input)
    let options = options(&reader)
    let model: Calgary.Chip.Model = reader.byte() & 1 == 0 ? .calgary : .calioc2
    guard let memory = try? FlatMemory(byteCount: 2 << 20) else { fatalError("no memory") }
    let unit = CalgaryUnit(model: model, base: PhysicalAddress(0xfe00_0000), options: options)
    unit.setUpBuses(buses)
    for _ in 0..<operationLimit where !reader.isAtEnd { act(unit, memory, &reader) }
    checkChip(unit, memory, &reader)
    unit.powerOn()
    for register in Calgary.Register.all
    where register.kind != .arbitration && register.kind != .splitQueue {
      require(unit.value(of: register) == 0, "power-on leaves no register as it was")
    }
  }

  private static func options(_ reader: inout ByteReader) -> CalgaryOptions {
    var options = CalgaryOptions()
    let choices = reader.number(byteCount: 3)
    func has(_ bit: UInt64) -> Bool { choices >> bit & 1 == 1 }
    options.unusedEntryBits = has(0) ? .fault : .ignored
    options.entryPermissions =
      has(1) ? (has(2) ? .writeAloneIsEmpty : .writeIncludesRead) : .independent
    options.tableAddressUnusedBits = has(3) ? .stored : .readOnly
    options.misalignedTable = has(4) ? (has(5) ? .combined : .fault) : .added
    options.beyondTable = has(6) ? (has(7) ? .wraps : .untranslated) : .fault
    options.cache =
      has(8) ? .init(setCount: 8, wayCount: 2, keepsEmptyEntries: has(9)) : nil
    options.invalidation = has(10) ? .onlyWhileQuiesced : .everyTableAddressWrite
    options.holes = has(11) ? (has(12) ? .translated : .untranslated) : .blocked
    options.translationOff = has(13) ? .blocked : .identity
    options.dualAddressCycles = has(14) ? .blocked : .untranslated
    options.errorLatch = has(15) ? (has(16) ? .firstAndStop : .last) : .first
    options.slotDisable = has(17) ? .allBits : .anyBit
    options.pageMigration = has(18) ? .storage : .hardStopOnRead
    options.baseRegister = has(19) ? .readable : .unimplemented
    options.unusedBuses = has(20) ? .zero : .ownNumber
    options.interruptWrites = has(21) ? .translated : .untranslated
    options.accessSizes = has(22) ? .anyBytes : .alignedWords
    options.failedRequests = has(23) ? .aborted : .dropped
    return options
  }

  private static func act(
    _ unit: CalgaryUnit, _ memory: FlatMemory, _ reader: inout ByteReader
  ) {
    let operation = reader.byte()
    switch operation & 7 {
    case 0:
      let word = reader.wide()
      memory.store(bigEndian: word, at: PhysicalAddress(reader.number(byteCount: 2) << 3))
    case 1:
      // A register that there is; its value as the processor sees it.
      let registers = Calgary.Register.all
      let register = registers[Int(reader.number(byteCount: 2)) % registers.count]
      let value = reader.wide()
      unit.write(
        register.byteCount == 8
          ? value.byteSwapped : UInt64(UInt32(truncatingIfNeeded: value).byteSwapped),
        at: register.offset, byteCount: register.byteCount)
    case 2:
      let offset = operation & 16 == 0 ? reader.number(byteCount: 3) : reader.wide()
      unit.write(reader.wide(), at: offset, byteCount: Int(operation >> 4))
    case 3:
      let offset = operation & 16 == 0 ? reader.number(byteCount: 3) : reader.wide()
      let count = Int(operation >> 4)
      let value = unit.read(at: offset, byteCount: count)
      require(
        count >= 8 || value >> UInt64(8 * count) == 0, "a read has no more bits than bytes")
    case 4:
      if operation & 0x80 == 0 { unit.kexec() } else { unit.powerOn(); unit.setUpBuses(buses) }
    case 5:
      let request = request(&reader, limit: 1 << 16)
      if request.access == .read {
        let (bytes, _) = unit.read(request, from: memory)
        require(UInt64(bytes.count) == request.byteCount, "a read has its bytes")
      } else {
        _ = unit.write(
          [UInt8](repeating: operation, count: Int(request.byteCount)), request, to: memory)
      }
    default:
      let request = request(&reader, limit: .max)
      if case .mapped(_, let count)? = unit.translate(request, in: memory) {
        require(1...request.byteCount ~= count, "a mapping is no longer than the request")
      }
    }
  }

  private static func request(_ reader: inout ByteReader, limit: UInt64) -> DMARequest {
    let flags = reader.byte()
    let address =
      flags & 6 == 0 ? reader.wide() : reader.number(byteCount: 2) << (flags & 2 == 0 ? 12 : 4)
    return DMARequest(
      flags & 1 == 0 ? .read : .write, by: Requester(bus: flags >> 4, device: 3, function: 0),
      at: IOVA(address), byteCount: max(1, min(limit, reader.wide())))
  }

  /// A chip without choices of its own answers as its registers say, and as one that is saved does.
  private static func checkChip(
    _ unit: CalgaryUnit, _ memory: FlatMemory, _ reader: inout ByteReader
  ) {
    var plain = CalgaryOptions()
    plain.unusedBuses = unit.options.unusedBuses
    guard unit.options == plain else { return }
    let machine = Machine(name: "chip", units: [.calgary(unit.chip)])
    for bus in [0, 2, 3, 9] as [UInt8] {
      let requester = Requester(bus: bus, device: 3, function: 0)
      guard unit.bridge(above: bus) != nil else { continue }
      for address in [0, 0xa_0000, 0x2_3456, 0x7fff_f000, 0xfee0_0000, reader.wide()] {
        for access in Access.allCases {
          let live = unit.translate(
            DMARequest(access, by: requester, at: IOVA(address)), in: memory)
          let saved = machine.translate(requester, IOVA(address), access: access, in: memory)
          // What blocks a bridge for a time is no part of its tables.
          if case .fault(let fault)? = live, fault == .calgary(.slotsDisabled) { continue }
          require(
            live == saved,
            "\(requester) \(access) \(hexadecimal(address)): the chip \(live.map { "\($0)" } ?? "passes"), its registers \(saved)"
          )
        }
      }
    }
  }
}

/// A hostile guest with northbridges: configuration accesses of any offset and width, GATT entries,
/// DMA, and the CPU's own accesses.
enum GARTExercise {
  private static let operationLimit = 512

  static func run(_ input: UnsafeRawBufferPointer) {
    guard input.count >= 3 else { return }
    var reader = ByteReader(input)
    let first = reader.byte()
    var model = Northbridge.Model()
    model.hasErratum156 = first & 1 != 0
    model.disablingDropsCache = first & 2 != 0
    model.flushPollCount = Int(first >> 2 & 3)
    model.cache = [.off, .unlimited, .sets(setCount: 4, wayCount: 2)][Int(first >> 4 & 3) % 3]
    guard let memory = try? FlatMemory(byteCount: 2 << 20) else { fatalError("no memory") }
    let bridges = Northbridges(nodeCount: 1 + Int(first >> 6), model: model)
    for _ in 0..<operationLimit where !reader.isAtEnd { act(bridges, memory, &reader) }
    checkNodes(bridges, memory, &reader)
    bridges.powerCycle()
    let request = DMARequest(.write, by: Requester(rawValue: 0x18), at: IOVA(0x1000), byteCount: 8)
    require(
      bridges.translate(request, in: memory) == .mapped(PhysicalAddress(0x1000), byteCount: 8),
      "after power-on all requests pass")
  }

  private static func act(
    _ bridges: Northbridges, _ memory: FlatMemory, _ reader: inout ByteReader
  ) {
    let operation = reader.byte()
    let function = Requester(
      bus: 0, device: 0x18 + operation >> 6, function: operation & 32 == 0 ? 3 : 2)
    switch operation & 7 {
    case 0:
      let word = UInt32(truncatingIfNeeded: reader.wide())
      memory.store(
        word,
        at: PhysicalAddress(reader.number(byteCount: 2) << 3 | UInt64(operation >> 3 & 1) << 2))
    case 1:
      let offsets = [0x90, 0x94, 0x98, 0x9c, 0x40, 0x44, 0x48, 0x4c, 0x50, 0x54]
      bridges.writeConfiguration(
        reader.wide(), to: function, at: offsets[reader.below(offsets.count)])
    case 2:
      let offset = operation & 16 == 0 ? Int(reader.byte()) : Int(truncatingIfNeeded: reader.wide())
      bridges.writeConfiguration(
        reader.wide(), to: function, at: offset, byteCount: reader.below(9))
    case 3:
      let offset = operation & 16 == 0 ? Int(reader.byte()) : Int(truncatingIfNeeded: reader.wide())
      let count = reader.below(9)
      let value = bridges.readConfiguration(function, at: offset, byteCount: count)
      require(
        count >= 8 || value >> UInt64(8 * count) == 0, "a read has no more bits than bytes")
    case 4: if operation & 0x80 != 0 { bridges.powerCycle() }
    default:
      let address = operation & 8 == 0 ? reader.number(byteCount: 3) << 12 : reader.wide()
      let count = max(1, reader.wide())
      let answer = bridges.translate(
        IOVA(address), byteCount: count, access: operation & 16 == 0 ? .read : .write,
        by: operation & 32 == 0 ? .device : .cpu, in: memory)
      if case .mapped(_, let byteCount) = answer {
        require(1...count ~= byteCount, "a mapping is no longer than the request")
      }
    }
  }

  /// Without a cache the northbridges answer as their registers say.
  private static func checkNodes(
    _ bridges: Northbridges, _ memory: FlatMemory, _ reader: inout ByteReader
  ) {
    guard bridges.nodes[0].model.cache == .off,
      let node = bridges.nodes.first(where: { $0.registers.window != nil }),
      let window = node.registers.window
    else { return }
    let machine = Machine(name: "node", units: [.gart(node.registers)])
    for page in [
      0, 1, window.byteCount / 4096 - 1, window.byteCount / 4096, reader.number(byteCount: 2),
    ] {
      let address = window.base &+ page << 12
      for access in Access.allCases {
        let request = DMARequest(
          access, by: Requester(rawValue: 0x18), at: IOVA(address), byteCount: 64)
        let live = bridges.translate(request, in: memory)
        let saved = machine.resolve(request.requester, in: memory)
          .translate(request.address, byteCount: 64, access: access, in: memory)
        require(
          live == saved,
          "\(access) \(hexadecimal(address)): the nodes \(live.map { "\($0)" } ?? "pass"), their registers \(saved)"
        )
      }
    }
  }
}
