import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// AMD-Vi as Linux 2.6.27 drove it, its mistakes among the rest.
///
/// One domain for all devices, or one for each; numbers from the bottom of an aperture upwards, from
/// where the last search ended; tables of three levels with all lower tables made at the start; 4 KiB
/// pages. No event log: what is stopped, nobody hears of. Source: Linux 2.6.27
/// `arch/x86/kernel/amd_iommu.c`, `amd_iommu_init.c`.
final class LinuxAMDViDriver: DMADriver {
  /// Tables and numbers, of one device or of all.
  struct Domain {
    var id: UInt16
    var tree: HostTableWriter.Tree
    var bitmap: NextFitBitmap
    /// Page numbers that the Rule has taken.
    var identity: [Range<Int>] = []
    /// Whose entries lead here.
    var devices: [Requester] = []
  }

  static let ringEntryCount = 512
  private typealias Offset = AMDVi.RegisterOffset

  /// Memory that firmware wants mapped to itself, as the driver reads it.
  private struct UnityMap {
    var devices: ClosedRange<UInt16>
    var addresses: Range<UInt64>
    var permissions: Permissions
  }

  private let pages: PagePool
  private let platform: AMDViPlatform
  private let registers: AMDViUnit
  private let base: PhysicalAddress
  private let aperture: UInt64
  private let isolatesDevices: Bool
  private let table: AMDViDeviceTable
  private let writer: HostTableWriter
  private let commandBuffer: PhysicalAddress
  private var commandTail: UInt64 = 0
  /// Times a wait gave up; the driver only warns.
  private(set) var waitTimeoutCount = 0
  private var unityMaps: [UnityMap] = []
  private(set) var domains: [Domain] = []
  private var domainOf: [Requester: Int] = [:]

  /// Finds the unit, and sets everything up; translation is switched on last, wherever it was before.
  ///
  /// - Parameters:
  ///   - apertureByteCount: Numbers of a domain; 32 MiB to 1 GiB, a power of two.
  ///   - isolatesDevices: `amd_iommu=isolate`: a domain for each device.
  init(
    pages: PagePool, platform: AMDViPlatform, apertureByteCount: UInt64, isolatesDevices: Bool
  ) throws(SetUpError) {
    precondition(
      apertureByteCount.nonzeroBitCount == 1 && 32 << 20...1 << 30 ~= apertureByteCount,
      "an aperture has 32 MiB to 1 GiB")
    self.pages = pages
    self.platform = platform
    aperture = apertureByteCount
    self.isolatesDevices = isolatesDevices
    let firmware = try AMDViUnitDriver.table(of: platform)
    // It knows the first type alone, and everything else in the table it takes for something too.
    guard let block = firmware.blocks.first(where: { $0.type == .unit }),
      let registers = platform.registers(at: block.base)
    else { throw .ivrsTable("there is no IVHD of type 10h") }
    base = block.base
    self.registers = registers
    writer = HostTableWriter(pages: pages, maximumLevels: 3, forcesCoherence: true)
    let last = block.spans.map(\.devices.upperBound).max() ?? 0
    var entry = AMDVi.DeviceTableEntry.blocked
    entry.suppressesFaults = true
    table = try AMDViDeviceTable(
      pages: pages, lastDevice: Requester(rawValue: last), filledWith: entry)
    commandBuffer = try pages.allocateTable(
      UInt64(Self.ringEntryCount) * 16, what: "AMD-Vi commands")
    // The upper half stays as it was after a reset.
    registers.write(
      table.register.rawValue & 0xffff_ffff, at: Offset.deviceTableBase, byteCount: 4)
    registers.write(
      AMDVi.CommandBufferBase(address: commandBuffer, entryCount: Self.ringEntryCount).rawValue,
      at: Offset.commandBufferBase, byteCount: 8)
    for offset in [Offset.commandHead, Offset.commandTail] {
      registers.write(0, at: offset, byteCount: 4)
    }
    change { $0.fetchesCommands = true }
    setFlags(block)
    readMemory(firmware)
    if !isolatesDevices { domains.append(try makeDomain(for: nil)) }
    enable()
  }

  // MARK: Registers

  private func change(_ change: (inout AMDVi.Control) -> Void) {
    var control = AMDVi.Control(rawValue: registers.read(Offset.control, byteCount: 8))
    change(&control)
    registers.write(control.rawValue, at: Offset.control, byteCount: 8)
  }

  /// What IVHD says of the unit's links. The flags' numbers are taken for masks: of HtTunEn nothing is
  /// left, and the others follow from bits that are not theirs.
  private func setFlags(_ block: AMDVi.IVRS.Block) {
    let flags = block.bytes[1]
    for (mask, bit) in [(UInt8(0), 1), (1, 8), (2, 9), (3, 11)] {
      change { control in
        let isOn = flags & mask != 0
        control.rawValue = control.rawValue & ~(1 << UInt64(bit)) | (isOn ? 1 : 0) << UInt64(bit)
      }
    }
    change { $0.rawValue |= 1 << 10 }
  }

  private var exclusion: (base: UInt64, limit: UInt64)?

  private func enable() {
    if let exclusion {
      registers.write(exclusion.base | 1, at: Offset.exclusionBase, byteCount: 8)
      registers.write(exclusion.limit, at: Offset.exclusionLimit, byteCount: 8)
    }
    change { $0.isEnabled = true }
  }

  var units: [TranslationUnit] {
    func read(_ offset: UInt64) -> UInt64 { registers.read(offset, byteCount: 8) }
    var unit = AMDVi.Unit(
      base: base, deviceTable: AMDVi.DeviceTableBase(rawValue: read(Offset.deviceTableBase)),
      control: AMDVi.Control(rawValue: read(Offset.control)),
      features: AMDVi.ExtendedFeatures(rawValue: read(Offset.extendedFeatures)),
      features2: AMDVi.ExtendedFeatures2(rawValue: read(Offset.extendedFeatures2)), segment: 0)
    unit.exclusionBase = AMDVi.ExclusionBase(rawValue: read(Offset.exclusionBase))
    unit.exclusionLimit = AMDVi.ExclusionLimit(rawValue: read(Offset.exclusionLimit))
    return [.amdvi(unit)]
  }

  var ports: [any DMAPort] { [platform] }

  func shareNumbers(_ one: Device, _ other: Device) -> Bool {
    !isolatesDevices || one.sourceID == other.sourceID
  }

  // MARK: Firmware's memory

  /// Goes over all blocks as if they were IVMD: of a unit's block with HtTunEn the fields behind it are
  /// taken for memory.
  private func readMemory(_ firmware: AMDVi.IVRS) {
    for block in firmware.blocks where block.bytes.count >= 32 {
      let flags = block.bytes[1]
      let last: UInt16
      var first = block.deviceID.rawValue
      switch block.type {
      case .memoryOfAll: (first, last) = (0, UInt16(table.count - 1))
      case .memoryOfRange: last = block.lastDeviceID.rawValue
      default: last = first
      }
      guard first <= last, Int(last) < table.count else { continue }
      func quadword(_ offset: Int) -> UInt64 {
        (0..<8).reduce(0) { $0 | UInt64(block.bytes[offset + $1]) << UInt64(8 * $1) }
      }
      let start = quadword(16)
      let (end, overflow) = start.addingReportingOverflow(quadword(24))
      guard !overflow else { continue }
      if flags & 8 != 0 {
        // One range per unit, and the last one wins; the limit is a page too far.
        exclusion = (start & ~0xfff, end & ~0xfff)
        for number in first...last {
          var entry = table[Requester(rawValue: number)]
          entry.usesExclusionRange = true
          table[Requester(rawValue: number)] = entry
        }
      } else if flags & 1 != 0 {
        let rounded = (start & ~0xfff)..<(end > .max - 0xfff ? ~0xfff : (end + 0xfff) & ~0xfff)
        unityMaps.append(
          UnityMap(
            devices: first...last, addresses: rounded,
            permissions: Permissions(rawValue: flags >> 1 & 3)))
      }
    }
  }

  // MARK: Domains

  /// A domain with all the tables that its aperture needs.
  private func makeDomain(for device: Requester?) throws(SetUpError) -> Domain {
    var bitmap = NextFitBitmap(count: Int(aperture >> 12))
    // Zero is an error.
    bitmap.reserve(0..<1)
    if let exclusion, exclusion.base < aperture {
      bitmap.reserve(Int(exclusion.base >> 12)..<Int(min(exclusion.limit, aperture) >> 12))
    }
    var domain = Domain(
      id: UInt16(domains.count + 1), tree: try writer.makeTree(), bitmap: bitmap)
    for address in stride(from: 0, to: aperture, by: 2 << 20) {
      _ = try writer.table(ofLevel: 1, for: address, in: domain.tree)
    }
    for map in unityMaps where device.map({ map.devices.contains($0.rawValue) }) ?? true {
      // A page beyond what three levels reach is refused, and all behind it.
      let end = min(map.addresses.upperBound, domain.tree.reach)
      for address in stride(from: map.addresses.lowerBound, to: end, by: 4096) {
        try storeUnity(address, map.permissions, domain.tree)
      }
      let numbers = map.addresses.clamped(to: 0..<aperture)
      domain.bitmap.reserve(Int(numbers.lowerBound >> 12)..<Int(numbers.upperBound >> 12))
    }
    return domain
  }

  private func storeUnity(
    _ address: UInt64, _ permissions: Permissions, _ tree: HostTableWriter.Tree
  ) throws(SetUpError) {
    let lowest = try writer.table(ofLevel: 1, for: address, in: tree)
    AMDVi.PageTableEntry(
      page: PhysicalAddress(address), sizeLog2: 12, level: 1, permissions: permissions
    ).store(
      to: pages.memory, at: tree.format.entryAddress(of: address, in: lowest, level: 1))
  }

  /// The domain of a device, which is attached to it when it has none yet.
  private func domain(of device: Device) throws(SetUpError) -> Int {
    if let index = domainOf[device.requester] { return index }
    for number in device.entryIDs where Int(number.rawValue) >= table.count {
      throw .ivrsTable("\(number) is beyond the last device that firmware names")
    }
    let index: Int
    if let known = domainOf[device.sourceID] {
      index = known
    } else {
      if isolatesDevices { domains.append(try makeDomain(for: device.sourceID)) }
      index = domains.count - 1
    }
    for number in device.entryIDs where domainOf[number] == nil {
      let domain = domains[index]
      // The third doubleword keeps SA and EX: no fault of the device is ever logged.
      table[number] = table[number].translating(
        mode: 3, root: domain.tree.root, domainID: domain.id)
      domains[index].devices.append(number)
      domainOf[number] = index
      queue(AMDVi.InvalidateDeviceEntryCommand(number))
      wait()
    }
    return index
  }

  // MARK: Commands

  private func queue(_ command: any AMDViCommand) {
    let size = UInt64(Self.ringEntryCount) * 16
    command.store(
      to: pages.memory, at: PhysicalAddress(commandBuffer.rawValue + commandTail))
    let next = (commandTail + 16) % size
    let head = registers.read(Offset.commandHead, byteCount: 4)
    // A full buffer drops the command, and its caller does not ask.
    guard next != head else { return }
    commandTail = next
    registers.write(next, at: Offset.commandTail, byteCount: 4)
  }

  /// Waits until the unit says that it is done. What is written back has the bit clear, which clears
  /// nothing: from the second wait on the bit is set already.
  private func wait() {
    queue(AMDVi.CompletionWaitCommand(interrupts: true))
    var status = AMDVi.Status(rawValue: registers.read(Offset.status, byteCount: 4))
    guard status.hasCompletion else {
      waitTimeoutCount += 1
      return
    }
    status.hasCompletion = false
    registers.write(status.rawValue, at: Offset.status, byteCount: 4)
  }

  /// One page by its number, more by dropping the whole domain; upper entries stay.
  private func flush(_ numbers: Range<Int>, of domain: Domain) {
    if numbers.count == 1 {
      queue(
        AMDVi.InvalidatePagesCommand(
          domainID: domain.id, address: IOVA(UInt64(numbers.lowerBound) << 12), sizeLog2: 12,
          dropsUpperLevels: false))
    } else {
      queue(AMDVi.InvalidatePagesCommand(domainID: domain.id, dropsUpperLevels: false))
    }
  }

  /// What it takes for the sign that entries are cached which are not present: a number of a bit is
  /// used as a mask, and the capability's own id has one of its bits set in every unit.
  private var flushesAfterMapping: Bool { platform.capability.rawValue & 26 != 0 }

  // MARK: The DMA API

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    do {
      let index = try domain(of: device)
      let offset = buffer.lowerBound.offsetInPage
      guard let count = PageCount(coveringBytes: buffer.byteCount, atOffset: offset),
        let byteCount = count.byteCount, byteCount > 0
      else { throw MappingFailure.full("numbers of \(device.requester)") }
      let length = Int(byteCount >> 12)
      // Where the last search ended at the end, the next begins at the start.
      if domains[index].bitmap.hint >= domains[index].bitmap.count {
        domains[index].bitmap.setHint(0)
      }
      guard let first = domains[index].bitmap.allocate(length) else {
        throw MappingFailure.full("the \(aperture >> 20) MiB aperture of \(device.requester)")
      }
      let numbers = first..<(first + length)
      let iova = UInt64(first) << 12
      try writer.map(
        buffer.lowerBound.alignedDown(to: 4096), at: iova, byteCount: byteCount,
        AMDViDriver.permissions(direction), in: domains[index].tree, largest: 12)
      if flushesAfterMapping { flush(numbers, of: domains[index]) }
      wait()
      return MappedBuffer(
        device: device, iova: IOVA(iova + offset), byteCount: buffer.byteCount,
        direction: direction, buffer: buffer, target: buffer)
    } catch {
      throw MappingFailure(error)
    }
  }

  func unmap(_ mapped: MappedBuffer) {
    guard let index = domainOf[mapped.device.requester],
      let byteCount = PageCount(
        coveringBytes: mapped.byteCount, atOffset: mapped.iova.offsetInPage)?.byteCount
    else { return }
    let start = mapped.iova.alignedDown(to: 4096).rawValue
    let numbers = Int(start >> 12)..<Int((start + byteCount) >> 12)
    writer.clear(start..<(start + byteCount), in: domains[index].tree)
    domains[index].bitmap.free(numbers)
    flush(numbers, of: domains[index])
    wait()
  }

  // MARK: The crash

  func switchOff() { change { $0.isEnabled = false } }

  // MARK: The Rule

  func reserve(
    crashKernel: [Range<PhysicalAddress>], for devices: [Device]
  ) throws(SetUpError) {
    for device in devices {
      let index = try domain(of: device)
      for range in crashKernel {
        domains[index].bitmap.reserve(
          pageNumbers(range).clamped(to: 0..<domains[index].bitmap.count))
      }
    }
  }

  func prepare(
    crashKernel: [Range<PhysicalAddress>], for devices: [Device], pageSize _: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] {
    let known = Set(devices.compactMap { domainOf[$0.requester] })
    for range in crashKernel {
      guard range.upperBound.rawValue <= aperture else { throw beyond(range) }
    }
    for index in isolatesDevices ? known.sorted() : [0] { try check(index, crashKernel) }
    var served: [Int: [Requester]] = [:]
    for device in devices {
      let index = try domain(of: device)
      if !served[index, default: []].contains(device.sourceID) {
        served[index, default: []].append(device.sourceID)
      }
    }
    var reports: [TableSetUp] = []
    for (index, devices) in served.sorted(by: { $0.key < $1.key }) {
      reports.append(try install(index, devices, crashKernel))
    }
    return reports
  }

  /// The aperture has no numbers for all of the crash kernel.
  private func beyond(_ range: Range<PhysicalAddress>) -> SetUpError {
    let needed = max(
      32 << 20, 1 << UInt64(64 - (range.upperBound.rawValue - 1).leadingZeroBitCount))
    return .beyondTable(
      name: "an AMD-Vi domain of Linux 2.6.27", range: range, coverage: aperture,
      wayOut: needed <= 1 << 30
        ? "boot with amd_iommu_size=\(needed >> 20)M or move the crash kernel down"
        : "no aperture has more than 1 GiB; move the crash kernel down")
  }

  private func check(_ index: Int, _ crashKernel: [Range<PhysicalAddress>]) throws(SetUpError) {
    let domain = domains[index]
    for range in crashKernel {
      let numbers = pageNumbers(range)
      guard !domain.identity.contains(numbers) else { continue }
      guard let taken = domain.bitmap.firstTaken(in: numbers) else { continue }
      var observer = Unobserved()
      let walk = domain.tree.format.walk(
        UInt64(taken) << 12, from: domain.tree.root, in: pages.memory, observer: &observer)
      throw .conflict(
        name: name(domain), iova: IOVA(UInt64(taken) << 12),
        mappedTo: walk.end == .page ? walk.page : nil)
    }
  }

  private func name(_ domain: Domain) -> String {
    domain.devices.first.map { "\($0)" } ?? "an AMD-Vi domain"
  }

  private func pageNumbers(_ range: Range<PhysicalAddress>) -> Range<Int> {
    Int(range.lowerBound.pageNumber)..<Int(range.upperBound.pageNumber)
  }

  private func install(
    _ index: Int, _ devices: [Requester], _ crashKernel: [Range<PhysicalAddress>]
  ) throws(SetUpError) -> TableSetUp {
    let owners = devices.map { TableOwner.requester(PCI.Function($0)) }
    let before = pages.tablePageCount
    var written: UInt64 = 0
    for range in crashKernel where !domains[index].identity.contains(pageNumbers(range)) {
      domains[index].bitmap.reserve(pageNumbers(range))
      domains[index].identity.append(pageNumbers(range))
      written += try writer.map(
        range.lowerBound, at: range.lowerBound.rawValue, byteCount: range.byteCount, .readWrite,
        in: domains[index].tree, largest: 12)
    }
    if written > 0 {
      flush(0..<domains[index].bitmap.count, of: domains[index])
      wait()
    }
    let count = crashKernel.reduce(0) { $0 + $1.byteCount / 4096 }
    return TableSetUp(
      table: owners[0], sharers: Array(owners.dropFirst()), entryName: "PTE",
      identityEntryCount: count, writtenEntryCount: written, identityEntryByteCount: count * 8,
      newTablePageCount: pages.tablePageCount - before, reservedPageCount: count,
      spaceByteCount: aperture)
  }
}
