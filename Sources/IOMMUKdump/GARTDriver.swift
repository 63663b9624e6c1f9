import IOMMUFormats
import IOMMUTranslation

/// The primary kernel on an AMD GART: devices that cannot reach a buffer get it through the
/// aperture.
///
/// Behaves as Linux 2.6.27: the firmware's aperture as a whole is the remapping window, 32
/// emergency entries stay invalid, all other free entries point to a scratch page, next-fit
/// allocation. Source: Linux 2.6.27 `pci-gart_64.c`.
final class GARTDriver: DMADriver {
  static let emergencyPageCount = 32
  /// In the PCI hole, where firmware puts it.
  static let apertureBase: UInt64 = 0xd000_0000
  static let order = 1

  private let pages: PagePool
  private let table: PhysicalAddress
  private let scratch: PhysicalAddress
  private var bitmap: NextFitBitmap
  private let control = GART.ApertureControl(isEnabled: true, order: GARTDriver.order)

  init(pages: PagePool) throws(SetUpError) {
    self.pages = pages
    let count = Int(control.apertureByteCount! / 4096)
    table = try pages.allocateTable(UInt64(count) * 4, what: "the GATT")
    scratch = try pages.allocateTable(4096, what: "the GART's scratch page")
    bitmap = NextFitBitmap(count: count)
    bitmap.reserve(0..<Self.emergencyPageCount)
    for index in Self.emergencyPageCount..<count { store(scratch, at: index) }
  }

  private func store(_ page: PhysicalAddress, at index: Int) {
    GART.GATTEntry(page: page.alignedDown(to: 4096))
      .store(to: pages.memory, at: PhysicalAddress(table.rawValue + UInt64(index) * 4))
  }

  var units: [TranslationUnit] {
    [
      .gart(
        GARTNode(
          device: Requester(bus: 0, device: 0x18, function: 3), control: control,
          base: GART.ApertureBase(address: Self.apertureBase),
          tableBase: GART.TableBase(table: table)))
    ]
  }

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    guard MappingRule.gartAndNommuLinux2_6_27.needsHelp(buffer, mask: device.dmaMask) else {
      return MappedBuffer(
        device: device, iova: IOVA(buffer.lowerBound.rawValue), byteCount: buffer.byteCount,
        direction: direction, buffer: buffer, target: buffer)
    }
    guard buffer.upperBound.rawValue <= GART.physicalLimit else {
      throw .beyondDeviceMask(buffer.lowerBound, mask: GART.physicalLimit - 1)
    }
    let offset = buffer.lowerBound.offsetInPage
    guard let count = PageCount(coveringBytes: buffer.byteCount, atOffset: offset),
      count.rawValue > 0,
      let first = bitmap.allocate(Int(count.rawValue))
    else { throw .full("GART aperture") }
    for page in 0..<Int(count.rawValue) {
      store(PhysicalAddress(buffer.lowerBound.rawValue + UInt64(page) * 4096), at: first + page)
    }
    return MappedBuffer(
      device: device, iova: IOVA(Self.apertureBase + UInt64(first) * 4096 + offset),
      byteCount: buffer.byteCount, direction: direction, buffer: buffer, target: buffer)
  }

  func unmap(_ mapped: MappedBuffer) {
    let start = mapped.iova.rawValue &- Self.apertureBase
    guard start < control.apertureByteCount!,
      let count = PageCount(coveringBytes: mapped.byteCount, atOffset: mapped.iova.offsetInPage)
    else { return }
    let first = Int(start / 4096)
    for index in first..<(first + Int(count.rawValue)) { store(scratch, at: index) }
    bitmap.free(first..<(first + Int(count.rawValue)))
  }

  /// Nothing: the aperture lies outside RAM, and addresses outside it pass unchanged.
  func prepare(
    crashKernel _: [Range<PhysicalAddress>], for _: [Device], pageSize _: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] { [] }
}
