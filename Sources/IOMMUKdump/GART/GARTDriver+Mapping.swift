import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

extension GARTDriver: DMADriver {
  /// All devices have one aperture.
  func shareNumbers(_: Device, _: Device) -> Bool { true }

  var units: [TranslationUnit] { hardware.units }
  var ports: [any DMAPort] { [hardware] }

  func switchOff() { shutDown() }

  /// Nothing: the aperture is no part of the crash kernel, and addresses outside it pass unchanged.
  func prepare(
    crashKernel _: [Range<PhysicalAddress>], for _: [Device], pageSize _: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] { [] }

  var rule: MappingRule {
    options.version == .linux2_6_27 ? .gartAndNommuLinux2_6_27 : .linux7_0
  }

  package func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    // A search that came round asks for a flush even when it found nothing.
    defer { if needsFlush { flush() } }
    let iova = try address(for: buffer, device, direction)
    return MappedBuffer(
      device: device, iova: iova, byteCount: buffer.byteCount, direction: direction,
      buffer: buffer, target: buffer)
  }

  /// Memory that the kernel and a device share for long. Through the GART only with `force`, and
  /// then aligned to its size in pages, rounded up to a power of two.
  package func mapCoherent(
    _ buffer: Range<PhysicalAddress>, for device: Device
  ) throws(MappingFailure) -> MappedBuffer {
    defer { if needsFlush { flush() } }
    var iova = IOVA(buffer.lowerBound.rawValue)
    if options.isForced, active != nil {
      let pages = Int((buffer.byteCount + 4095) / 4096)
      let alignment = pages <= 1 ? 1 : 1 << (Int.bitWidth - (pages - 1).leadingZeroBitCount)
      iova = try address(for: buffer, device, .bidirectional, alignment: alignment)
    }
    return MappedBuffer(
      device: device, iova: iova, byteCount: buffer.byteCount, direction: .bidirectional,
      buffer: buffer, target: buffer)
  }

  /// The number for a buffer: its physical address where that will do, else one of the window.
  func address(
    for buffer: Range<PhysicalAddress>, _ device: Device, _ direction: DMADirection,
    forcing isForced: Bool? = nil, alignment: Int = 1
  ) throws(MappingFailure) -> IOVA {
    let isOutOfReach = rule.needsHelp(buffer, mask: device.dmaMask)
    guard isOutOfReach || (active != nil && isForced ?? options.isForced) else {
      return IOVA(buffer.lowerBound.rawValue)
    }
    guard active != nil else {
      throw .beyondDeviceMask(buffer.lowerBound, mask: device.dmaMask)
    }
    guard !options.version.refusesBeyondEntries || buffer.upperBound.rawValue <= GART.physicalLimit
    else { throw .beyondDeviceMask(buffer.lowerBound, mask: GART.physicalLimit - 1) }
    guard let window = active?.window,
      let first = allocate(Self.pageCount([buffer]), alignment: alignment)
    else {
      guard isOutOfReach else { return IOVA(buffer.lowerBound.rawValue) }
      throw fullWindow(buffer.byteCount, direction)
    }
    store([buffer], from: first)
    return IOVA(window.lowerBound + UInt64(first) * 4096 + buffer.lowerBound.offsetInPage)
  }

  /// Pages that buffers take one after the other, each counted whole; 0 when they have none.
  static func pageCount(_ buffers: some Sequence<Range<PhysicalAddress>>) -> Int {
    buffers.reduce(0) { count, buffer in
      let pages = PageCount(
        coveringBytes: buffer.byteCount, atOffset: buffer.lowerBound.offsetInPage)
      return count + Int(truncatingIfNeeded: pages?.rawValue ?? 0)
    }
  }

  /// Fills entries of the window with the pages of buffers. 2.6.27 does not look whether an entry
  /// can name its page.
  func store(_ buffers: some Sequence<Range<PhysicalAddress>>, from first: Int) {
    var page = first
    for buffer in buffers {
      for index in 0..<Self.pageCount(CollectionOfOne(buffer)) {
        let target = PhysicalAddress(buffer.lowerBound.rawValue + UInt64(index) * 4096)
        store(.wrapping(page: target), page: page)
        page += 1
      }
    }
  }

  /// Entries in one run, none across 4 GiB of bus addresses.
  func allocate(_ length: Int, alignment: Int = 1) -> Int? {
    guard var active, length > 0, length < active.bitmap.count else { return nil }
    // Moved out and back, so that the bitmap is changed where it is.
    self.active = nil
    defer { self.active = active }
    let wraps = active.bitmap.wrapCount
    let base = Int(active.window.lowerBound / 4096 & 0xf_ffff)
    let first = active.bitmap.allocate(
      length, alignment: alignment, boundary: 1 << 20, offset: base)
    if options.flushesEveryMapping || active.bitmap.wrapCount != wraps { needsFlush = true }
    return first
  }

  /// What Linux does when the window is full: up to 128 KiB the driver is told by an address whose
  /// entries are invalid; beyond that, device and memory would part ways, and the kernel stops.
  func fullWindow(_ byteCount: UInt64, _ direction: DMADirection) -> MappingFailure {
    if options.panicsWhenFull { return .panic("the GART window is full") }
    guard options.version.hasEmergencyPages, byteCount > UInt64(Self.emergencyPageCount) * 4096
    else { return .full("GART aperture") }
    return .panic(
      direction == .toDevice
        ? "random memory would be sent to the device" : "memory would be corrupted")
  }

  /// What a driver is told in place of an address when a mapping fails.
  package var errorAddress: IOVA {
    guard options.version.hasEmergencyPages, let active else { return IOVA(.max) }
    return IOVA(active.window.lowerBound)
  }

  /// The next search begins at a number of the window, wherever the last one ended; a number that is
  /// none of the window's changes nothing. For a driver that runs beside a recording with a gap.
  package func continueSearch(at iova: IOVA) {
    guard let window = active?.window, window.contains(iova.rawValue) else { return }
    active?.bitmap.setHint(Int((iova.rawValue - window.lowerBound) / 4096))
  }

  func unmap(_ mapped: MappedBuffer) { unmap(mapped.iova, byteCount: mapped.byteCount) }

  /// Takes back a number of the window; any other is none of the GART's.
  package func unmap(_ iova: IOVA, byteCount: UInt64) {
    guard var active,
      let count = PageCount(coveringBytes: byteCount, atOffset: iova.offsetInPage)
    else { return }
    let emergency = options.version.hasEmergencyPages ? UInt64(Self.emergencyPageCount) * 4096 : 0
    let start = iova.rawValue
    guard start >= active.window.lowerBound + emergency, start < active.window.upperBound else {
      return
    }
    let first = Int((start - active.window.lowerBound) / 4096)
    let end = min(first + Int(truncatingIfNeeded: count.rawValue), active.bitmap.count)
    guard first < end else { return }
    for page in first..<end { store(active.scratch, page: page) }
    self.active = nil
    active.bitmap.free(first..<end)
    if options.version.movesHintOnFree, first >= active.bitmap.hint { active.bitmap.setHint(end) }
    self.active = active
  }
}
