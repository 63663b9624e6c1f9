import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The primary kernel's DMA API on IBM Calgary, and the Rule in its tables.
///
/// The machine has one live chip; ``LinuxCalgaryDriver``, as of Linux 2.6.27, drives it through its
/// registers. The Rule takes pages in every table, whether or not a driver uses it.
final class CalgaryDriver: DMADriver {
  static let base = PhysicalAddress(0xfe00_0000)

  let machine: CalgaryMachine
  let kernel: LinuxCalgaryDriver
  /// The page ranges that the Rule has taken, by root bus.
  private var identity: [UInt8: [Range<Int>]] = [:]

  init(
    pages: PagePool, map: MemoryMap, devices: [Device], configuration: CalgaryConfiguration
  ) throws(SetUpError) {
    let ranges = Self.busRanges(for: devices)
    var options = configuration.options
    options.firmwareWindow =
      IOVA(MemoryMap.pciHole.lowerBound.rawValue)..<options.firmwareWindow.upperBound
    var firmware = CalgaryFirmware(
      model: .calgary, chassis: [[.init(base: Self.base, buses: ranges)]], options: options)
    for range in ranges { try firmware.topology.addDevices(devices, below: range) }
    machine = CalgaryMachine(firmware, memory: pages.memory) {
      (byteCount: UInt64, what: String) throws(SetUpError) -> PhysicalAddress in
      try pages.allocateTable(byteCount, alignment: byteCount, what: what)
    }
    kernel = LinuxCalgaryDriver(
      .init(endOfRAM: map.endOfRAM.rawValue, tableSize: configuration.tableSize),
      platform: machine)
    try kernel.start()
  }

  /// Four PHBs over the buses in use: each gets one bus, the last one all that remain.
  static func busRanges(for devices: [Device]) -> [ClosedRange<UInt8>] {
    let buses = Set(devices.map(\.requester.bus)).sorted()
    var ranges: [ClosedRange<UInt8>] = []
    for (index, bus) in buses.prefix(Calgary.hostBridgeCount).enumerated() {
      let isLast = index == Calgary.hostBridgeCount - 1 || index == buses.count - 1
      let next = index + 1 < buses.count ? buses[index + 1] - 1 : bus
      ranges.append(bus...(isLast ? buses[buses.count - 1] : next))
    }
    // Bridges without devices get the buses above, one each.
    var free = Int(buses.last ?? 0) + 1
    while ranges.count < Calgary.hostBridgeCount, free <= 255 {
      ranges.append(UInt8(free)...UInt8(free))
      free += 1
    }
    return ranges
  }

  var units: [TranslationUnit] { machine.units.map { .calgary($0.chip) } }
  var ports: [any DMAPort] { machine.units }

  /// Where both are below one host bridge.
  func shareNumbers(_ one: Device, _ other: Device) -> Bool {
    kernel.busIndex(of: one.requester) == kernel.busIndex(of: other.requester)
  }

  func kexec() { for unit in machine.units { unit.kexec() } }

  /// The buses of the bridge whose table it is.
  private func owner(_ bus: LinuxCalgaryDriver.Bus) -> TableOwner {
    let bridges = machine.units.lazy.compactMap { $0.chip.hostBridge(above: bus.number) }
    return .buses(bridges.first?.buses ?? bus.number...bus.number)
  }

  private func name(_ bus: LinuxCalgaryDriver.Bus) -> String { "\(owner(bus))" }

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    guard let index = kernel.busIndex(of: device.requester) else {
      throw .full("no TCE table for \(device.requester)")
    }
    let permissions: Permissions = direction == .toDevice ? .read : .readWrite
    guard
      let iova = kernel.map(
        buffer.lowerBound, byteCount: buffer.byteCount, permissions: permissions, on: index)
    else { throw .full("TCE table of \(name(kernel.buses[index]))") }
    return MappedBuffer(
      device: device, iova: iova, byteCount: buffer.byteCount, direction: direction,
      buffer: buffer, target: buffer)
  }

  func map(
    page: PhysicalAddress, at iova: IOVA, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    let permissions: Permissions = direction == .toDevice ? .read : .readWrite
    guard let index = kernel.busIndex(of: device.requester),
      kernel.map(page: page, at: iova, permissions: permissions, on: index)
    else { throw .full("IOVA \(iova) of \(device.requester)") }
    return MappedBuffer(
      page..<PhysicalAddress(page.rawValue + 4096), at: iova, device, direction)
  }

  func reserve(
    crashKernel: [Range<PhysicalAddress>], for _: [Device]
  ) throws(SetUpError) {
    for index in kernel.buses.indices {
      for range in crashKernel {
        let pages = pageNumbers(range).clamped(to: 0..<Int(kernel.buses[index].size.entryCount))
        kernel.buses[index].bitmap.reserve(pages)
      }
    }
  }

  func unmap(_ mapped: MappedBuffer) {
    guard let index = kernel.busIndex(of: mapped.device.requester) else { return }
    kernel.unmap(mapped.iova, byteCount: mapped.byteCount, on: index)
  }

  // MARK: The Rule

  func prepare(
    crashKernel: [Range<PhysicalAddress>], for _: [Device], pageSize _: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] {
    for index in kernel.buses.indices { try check(index, crashKernel) }
    return kernel.buses.indices.map { install($0, crashKernel) }
  }

  /// Finds what stands against the identity map in one table.
  private func check(_ index: Int, _ crashKernel: [Range<PhysicalAddress>]) throws(SetUpError) {
    let bus = kernel.buses[index]
    for range in crashKernel {
      guard range.upperBound.rawValue <= bus.size.coverage else {
        let needed = Calgary.TableSize.smallest(covering: range.upperBound.rawValue)
        throw .beyondTable(
          name: name(bus), range: range, coverage: bus.size.coverage,
          wayOut: needed.map {
            "use a table of at least \($0.byteCount / 1024) KiB or move the crash kernel down"
          }
            ?? "no TCE table covers addresses of 4 GiB and more; move the crash kernel down")
      }
      let bytes = range.lowerBound.rawValue..<range.upperBound.rawValue
      if let hole = bus.windows.first(where: { $0.overlaps(bytes) }) {
        throw .inHole(name: name(bus), range: range, hole: hole)
      }
      guard identity[bus.number]?.contains(pageNumbers(range)) != true else { continue }
      if let page = bus.bitmap.firstTaken(in: pageNumbers(range)) {
        let entry = Calgary.TranslationControlEntry(
          from: machine.memory, at: kernel.entryAddress(page, on: index))
        let target = entry.flatMap { $0.permissions.isEmpty ? nil : $0.page }
        throw .conflict(name: name(bus), iova: IOVA(UInt64(page) * 4096), mappedTo: target)
      }
    }
  }

  private func install(_ index: Int, _ crashKernel: [Range<PhysicalAddress>]) -> TableSetUp {
    let bus = kernel.buses[index]
    var written: UInt64 = 0
    for range in crashKernel where identity[bus.number]?.contains(pageNumbers(range)) != true {
      identity[bus.number, default: []].append(pageNumbers(range))
      kernel.installIdentity(pageNumbers(range), on: index)
      written += range.byteCount / 4096
    }
    // Whether the chip remembers that an entry was empty is not known.
    if written > 0 { kernel.flush(index) }
    let present = crashKernel.reduce(0) { $0 + $1.byteCount / 4096 }
    return TableSetUp(
      table: owner(bus), entryName: "TCE", identityEntryCount: present, writtenEntryCount: written,
      identityEntryByteCount: present * 8, newTablePageCount: 0, reservedPageCount: present,
      entryCount: bus.size.entryCount, tableByteCount: bus.size.byteCount,
      spaceByteCount: bus.size.coverage)
  }

  private func pageNumbers(_ range: Range<PhysicalAddress>) -> Range<Int> {
    Int(range.lowerBound.pageNumber)..<Int(range.upperBound.pageNumber)
  }
}

extension PCI.Topology {
  /// Adds the devices of one PHB: on its root bus, or behind a bridge for each further bus.
  ///
  /// A bus whose devices all sit above slot 7, where the driver does not look, gets a hot-plug
  /// controller in it.
  ///
  /// - Throws: ``SetUpError/noRoomForBridge(on:to:)`` when the root bus is full.
  fileprivate mutating func addDevices(
    _ devices: [Device], below range: ClosedRange<UInt8>
  ) throws(SetUpError) {
    let requesters = Set(devices.map(\.requester)).filter { range.contains($0.bus) }.sorted()
    guard !requesters.isEmpty, let root = bus(numbered: range.lowerBound) else { return }
    // Above the slots where the driver looks, in devices that nobody has; a device each while they last.
    let taken = Set(requesters.filter { $0.bus == range.lowerBound }.map(\.device))
    let free = (8..<UInt8(32)).filter { !taken.contains($0) }
    var places = (0..<UInt8(8)).flatMap { function in
      free.map { (device: $0, function: function) }
    }[...]
    for requester in requesters {
      var place = bus(numbered: requester.bus)
      if place == nil {
        guard let slot = places.popFirst() else {
          throw .noRoomForBridge(on: range.lowerBound, to: requester.bus)
        }
        let below = addBridge(nil, device: slot.device, function: slot.function, on: root)
        if let bridge = bridge(above: below) {
          self[bridge].busNumbers = PCI.BusNumbers(
            primary: range.lowerBound, secondary: requester.bus, subordinate: requester.bus)
        }
        place = below
      }
      guard let place,
        function(device: requester.device, function: requester.function, on: place) == nil
      else { continue }
      addEndpoint(
        device: requester.device, function: requester.function, on: place, portType: nil)
    }
    if !(1...7).contains(where: { function(device: $0, function: 0, on: root) != nil }) {
      addEndpoint(
        device: 7, on: root, vendorID: CalgaryFirmware.vendorID, deviceID: 0x0246,
        classCode: 0x08_0400, portType: nil)
    }
  }
}
