import IOMMUFormats
import IOMMUTranslation

/// The primary kernel on IBM Calgary: one TCE table for each PHB that has devices.
///
/// Behaves as Linux 2.6.27: table size from the end of RAM, reserved regions, next-fit allocation,
/// no flush on map or unmap. Source: Linux 2.6.27 `pci-calgary_64.c`, `tce_64.c`.
final class CalgaryDriver: DMADriver {
  /// One PHB with its table and the driver's own bitmap.
  struct Bus {
    var phb: Int
    var buses: ClosedRange<UInt8>
    var table: PhysicalAddress
    var size: Calgary.TableSize
    var bitmap: NextFitBitmap
    /// The page ranges that the Rule has taken.
    var identity: [Range<Int>] = []
    var name: String { "bus:" + hexadecimal(buses.lowerBound, digits: 2) }
  }

  /// IO pages 0 to 31 stand for "mapping failed" and are never given out.
  static let emergencyPageCount = 32
  static let base = PhysicalAddress(0xfe00_0000)

  private let pages: PagePool
  private var tables: [Bus] = []
  /// Bus ranges of the four PHBs.
  private let busRanges: [ClosedRange<UInt8>]
  private let window = IOVA(MemoryMap.pciHole.lowerBound.rawValue)..<IOVA(0xfec0_0000)

  /// - Parameter tableSize: `nil` for the size that Linux chose from the end of RAM.
  init(
    pages: PagePool, map: MemoryMap, devices: [Device], tableSize: Calgary.TableSize?
  ) throws(SetUpError) {
    self.pages = pages
    busRanges = Self.busRanges(for: devices)
    let size = tableSize ?? .chosenByLinux(endOfRAM: map.endOfRAM.rawValue)
    for (phb, buses) in busRanges.enumerated()
    where devices.contains(where: { buses.contains($0.requester.bus) }) {
      let table = try pages.allocateTable(
        size.byteCount, alignment: size.byteCount, what: "the TCE table of PHB \(phb)")
      var bitmap = NextFitBitmap(count: Int(size.entryCount))
      bitmap.reserve(0..<Self.emergencyPageCount)
      bitmap.reserve(0xa0..<0x100)
      bitmap.reserve(Int(window.lowerBound.pageNumber)..<Int(window.upperBound.pageNumber))
      tables.append(Bus(phb: phb, buses: buses, table: table, size: size, bitmap: bitmap))
    }
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

  var units: [TranslationUnit] {
    let bridges = busRanges.enumerated().map { phb, buses -> CalgaryChip.HostBridge? in
      let bus = tables.first { $0.phb == phb }
      let register = Calgary.TableAddressRegister(rawValue: 0)
      let configuration = Calgary.ConfigurationRegister(rawValue: 0)
      return CalgaryChip.HostBridge(
        buses: buses,
        tableAddress: bus.map { register.setting(table: $0.table, size: $0.size) } ?? register,
        configuration: bus == nil ? configuration : configuration.enablingTranslation,
        memory1: window)
    }
    return [.calgary(CalgaryChip(model: .calgary, base: Self.base, hostBridges: bridges))]
  }

  private func index(of device: Device) -> Int? {
    tables.firstIndex { $0.buses.contains(device.requester.bus) }
  }

  private func entryAddress(_ bus: Bus, _ index: Int) -> PhysicalAddress {
    PhysicalAddress(bus.table.rawValue + UInt64(index) * 8)
  }

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    guard let number = index(of: device) else {
      throw .full("no TCE table for \(device.requester)")
    }
    let offset = buffer.lowerBound.offsetInPage
    guard let count = PageCount(coveringBytes: buffer.byteCount, atOffset: offset),
      count.rawValue > 0,
      let first = tables[number].bitmap.allocate(Int(count.rawValue))
    else { throw .full("TCE table of \(tables[number].name)") }
    let bus = tables[number]
    let permissions: Permissions = direction == .toDevice ? .read : .readWrite
    for page in 0..<Int(count.rawValue) {
      let target = PhysicalAddress(
        buffer.lowerBound.alignedDown(to: 4096).rawValue + UInt64(page) * 4096)
      Calgary.TranslationControlEntry(page: target, permissions: permissions)
        .store(to: pages.memory, at: entryAddress(bus, first + page))
    }
    return MappedBuffer(
      device: device, iova: IOVA(UInt64(first) * 4096 + offset), byteCount: buffer.byteCount,
      direction: direction, buffer: buffer, target: buffer)
  }

  func unmap(_ mapped: MappedBuffer) {
    guard let number = index(of: mapped.device),
      let count = PageCount(coveringBytes: mapped.byteCount, atOffset: mapped.iova.offsetInPage)
    else { return }
    let first = Int(mapped.iova.pageNumber)
    for page in first..<(first + Int(count.rawValue)) {
      Calgary.TranslationControlEntry(rawValue: 0)
        .store(to: pages.memory, at: entryAddress(tables[number], page))
    }
    tables[number].bitmap.free(first..<(first + Int(count.rawValue)))
  }

  func prepare(
    crashKernel: [Range<PhysicalAddress>], for _: [Device], pageSize _: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] {
    for bus in tables { try check(bus, crashKernel) }
    return tables.indices.map { number in install(number, crashKernel) }
  }

  /// Finds what stands against the identity map in one table.
  private func check(_ bus: Bus, _ crashKernel: [Range<PhysicalAddress>]) throws(SetUpError) {
    for range in crashKernel {
      guard range.upperBound.rawValue <= bus.size.coverage else {
        let needed = Calgary.TableSize.smallest(covering: range.upperBound.rawValue)
        throw .beyondTable(
          name: bus.name, range: range, coverage: bus.size.coverage,
          wayOut: needed.map {
            "use a table of at least \($0.byteCount / 1024) KiB or move the crash kernel down"
          }
            ?? "no TCE table covers addresses of 4 GiB and more; move the crash kernel down")
      }
      let holes = CalgaryChip.HostBridge(
        buses: bus.buses, tableAddress: .init(rawValue: 0), configuration: .init(rawValue: 0),
        memory1: window
      ).holes
      if let hole = holes.overlapping(range.lowerBound.rawValue..<range.upperBound.rawValue) {
        throw .inHole(name: bus.name, range: range, hole: hole)
      }
      guard !bus.identity.contains(pageNumbers(range)) else { continue }
      for page in pageNumbers(range) where bus.bitmap.isTaken(page) {
        let entry = Calgary.TranslationControlEntry(
          from: pages.memory, at: entryAddress(bus, page))
        let target = entry.flatMap { $0.permissions.isEmpty ? nil : $0.page }
        throw .conflict(
          name: bus.name, iova: IOVA(UInt64(page) * 4096), mappedTo: target)
      }
    }
  }

  private func install(_ number: Int, _ crashKernel: [Range<PhysicalAddress>]) -> TableSetUp {
    var written: UInt64 = 0
    for range in crashKernel {
      let pageNumbers = pageNumbers(range)
      guard !tables[number].identity.contains(pageNumbers) else { continue }
      tables[number].identity.append(pageNumbers)
      tables[number].bitmap.reserve(pageNumbers)
      for page in pageNumbers {
        Calgary.TranslationControlEntry(
          page: PhysicalAddress(UInt64(page) * 4096), permissions: .readWrite
        ).store(to: pages.memory, at: entryAddress(tables[number], page))
      }
      written += UInt64(pageNumbers.count)
    }
    let present = crashKernel.reduce(0) { $0 + $1.byteCount / 4096 }
    let bus = tables[number]
    return TableSetUp(
      table: bus.name, entryName: "TCE", identityEntryCount: present, writtenEntryCount: written,
      identityEntryByteCount: present * 8, newTablePageCount: 0, reservedPageCount: present,
      entryCount: bus.size.entryCount, tableByteCount: bus.size.byteCount,
      spaceByteCount: bus.size.coverage)
  }

  private func pageNumbers(_ range: Range<PhysicalAddress>) -> Range<Int> {
    Int(range.lowerBound.pageNumber)..<Int(range.upperBound.pageNumber)
  }
}
