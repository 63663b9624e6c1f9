import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// A buffer that a driver has handed to a device.
public struct MappedBuffer: Sendable, Hashable {
  public var device: Device
  /// What the driver told the device.
  public var iova: IOVA
  public var byteCount: UInt64
  public var direction: DMADirection
  /// The driver's own buffer.
  public var buffer: Range<PhysicalAddress>
  /// Where DMA to the IOVA is meant to end: the buffer, or the bounce slots that stand for it.
  public var target: Range<PhysicalAddress>

  /// The numbers the device uses, half-open.
  public var iovas: Range<IOVA> { iova..<IOVA(iova.rawValue + byteCount) }
}

extension MappedBuffer {
  /// A buffer that DMA reaches itself, at the number that its first byte has.
  init(
    _ buffer: Range<PhysicalAddress>, at iova: IOVA, _ device: Device, _ direction: DMADirection
  ) {
    self.init(
      device: device, iova: iova, byteCount: buffer.byteCount, direction: direction,
      buffer: buffer, target: buffer)
  }

  /// A buffer that the device reaches by its physical address.
  init(
    untranslated buffer: Range<PhysicalAddress>, _ device: Device, _ direction: DMADirection
  ) throws(MappingFailure) {
    guard buffer.upperBound.rawValue - 1 <= device.dmaMask else {
      throw .beyondDeviceMask(buffer.lowerBound, mask: device.dmaMask)
    }
    self.init(buffer, at: IOVA(buffer.lowerBound.rawValue), device, direction)
  }
}

/// What the Rule took in one table.
public struct TableSetUp: Sendable, Equatable {
  /// Whose requests the table translates.
  public var table: TableOwner
  /// Devices that have the same table, beside that one.
  public var sharers: [TableOwner] = []
  /// What the entries are called: TCE, SS-PDE, SS-PTE.
  public var entryName: String
  /// Leaf entries that map the crash kernel ranges to themselves.
  public var identityEntryCount: UInt64
  /// Of those, the ones written by this set-up; 0 when it had been made before.
  public var writtenEntryCount: UInt64
  /// Bytes of the identity entries.
  public var identityEntryByteCount: UInt64
  /// 4 KiB pages taken for new tables of a radix tree.
  public var newTablePageCount: UInt64
  /// Pages of I/O space that stay reserved.
  public var reservedPageCount: UInt64
  /// Leaf entries in the whole table, for a flat one; `nil` for a tree.
  public var entryCount: UInt64?
  /// Bytes of the whole table, for a flat one.
  public var tableByteCount: UInt64?
  /// Bytes of I/O space that the kernel's allocator gives out from.
  public var spaceByteCount: UInt64

  /// The part of the I/O space that the Rule takes, 0 to 1.
  public var shareOfSpace: Double {
    Double(reservedPageCount * PageCount.pageByteCount) / Double(spaceByteCount)
  }
}

/// The DMA API of the primary kernel in one of the cases.
protocol DMADriver: AnyObject {
  /// The hardware that the driver has programmed, as its registers stand.
  var units: [TranslationUnit] { get }

  /// Where devices' requests enter that hardware; empty where none translates.
  var ports: [any DMAPort] { get }

  /// Whether numbers of one device mean the same for the other.
  func shareNumbers(_ one: Device, _ other: Device) -> Bool

  /// Another kernel is started without a reset of the machine.
  func kexec()

  /// The crash path switches translation off.
  func switchOff()

  /// Gives a buffer to a device.
  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer

  /// Gives a page to a device at a number that somebody else has chosen.
  func map(
    page: PhysicalAddress, at iova: IOVA, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer

  /// Takes a buffer back.
  func unmap(_ mapped: MappedBuffer)

  /// The device's driver goes: what the device had of its own is given back.
  func unbind(_ device: Device)

  /// Keeps the crash kernel's numbers from being handed out, and maps nothing: half of what the Rule
  /// demands.
  func reserve(crashKernel: [Range<PhysicalAddress>], for devices: [Device]) throws(SetUpError)

  /// Does what the Rule demands, in every table that any of `devices` may need; or throws and
  /// changes nothing. Doing it again writes nothing.
  func prepare(
    crashKernel: [Range<PhysicalAddress>], for devices: [Device], pageSize: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp]
}

extension DMADriver {
  /// Where both have one domain.
  func shareNumbers(_ one: Device, _ other: Device) -> Bool { one.domainKey == other.domainKey }

  /// Nothing: the hardware does not notice.
  func kexec() {}

  /// Nothing: there is no translation.
  func switchOff() {}

  /// Nothing: numbers are physical addresses, and the crash kernel's are never handed out.
  func reserve(crashKernel _: [Range<PhysicalAddress>], for _: [Device]) throws(SetUpError) {}

  func map(
    page _: PhysicalAddress, at iova: IOVA, for _: Device, direction _: DMADirection
  ) throws(MappingFailure) -> MappedBuffer { throw .noChoice(iova) }

  /// Nothing: the device has no table of its own.
  func unbind(_: Device) {}
}

/// Which pages the identity map uses where the hardware has more than one size.
public enum PageSizePolicy: String, Sendable, CaseIterable, Codable {
  /// 4 KiB only, as in 2008.
  case smallest
  /// The largest that alignment and the unit allow.
  case largest
}

/// Physical pages for tables and buffers: RAM without the crash kernel ranges.
struct RAMAllocator {
  private var allocator: TopDownAllocator

  init(_ map: MemoryMap) {
    allocator = TopDownAllocator(
      space: map.ram.map { $0.lowerBound.rawValue..<$0.upperBound.rawValue })
    // The first MiB is the firmware's and the trampolines'.
    allocator.reserve(0..<0x10_0000)
    for range in map.crashKernel {
      allocator.reserve(range.lowerBound.rawValue..<range.upperBound.rawValue)
    }
  }

  /// The highest free run that ends at or below `limit`.
  mutating func allocate(
    _ byteCount: UInt64, alignment: UInt64 = 4096, below limit: UInt64 = .max
  ) -> PhysicalAddress? {
    allocator.allocate(byteCount, alignment: alignment, below: limit).map { PhysicalAddress($0) }
  }

  mutating func free(_ range: Range<PhysicalAddress>) {
    allocator.free(range.lowerBound.rawValue..<range.upperBound.rawValue)
  }

  /// Takes this range out of use, whether it is free or not.
  mutating func reserve(_ range: Range<PhysicalAddress>) {
    allocator.reserve(range.lowerBound.rawValue..<range.upperBound.rawValue)
  }

  /// Takes this range if all of it is free RAM.
  mutating func take(_ range: Range<PhysicalAddress>) -> Bool {
    let range = range.lowerBound.rawValue..<range.upperBound.rawValue
    guard allocator.space.contains(where: { $0.contains(range) }),
      allocator.firstTaken(in: range) == nil
    else { return false }
    allocator.reserve(range)
    return true
  }
}

/// The pages of the machine, shared by the kernel and its DMA driver.
final class PagePool {
  let memory: FlatMemory
  private var allocator: RAMAllocator
  /// Table pages that were given back: nothing may point at them any more.
  private(set) var freedTables: [Range<PhysicalAddress>] = []
  /// 4 KiB pages of tables given out so far.
  private(set) var tablePageCount: UInt64 = 0
  /// Tables lie below this address.
  private let tableLimit: UInt64

  /// - Parameters:
  ///   - memory: The machine's memory.
  ///   - map: Which of it is this kernel's.
  ///   - tableLimit: Tables lie below this address: by default in the first 4 GiB.
  init(memory: FlatMemory, map: MemoryMap, tableLimit: UInt64 = 1 << 32) {
    self.memory = memory
    self.tableLimit = tableLimit
    allocator = RAMAllocator(map)
  }

  /// A zeroed table, aligned to `alignment`; below `limit` where that is lower than the pool's own.
  func allocateTable(
    _ byteCount: UInt64, alignment: UInt64 = 4096, below limit: UInt64 = .max, what: String
  ) throws(SetUpError) -> PhysicalAddress {
    guard
      let table = allocator.allocate(
        byteCount, alignment: alignment, below: min(limit, tableLimit))
    else { throw .outOfMemory(what: what) }
    memory.zero(at: table, byteCount: byteCount)
    tablePageCount += byteCount / 4096
    return table
  }

  func freeTable(_ range: Range<PhysicalAddress>) {
    allocator.free(range)
    freedTables.append(range)
  }

  /// A page for a driver's buffer: the one that is wanted, or any that is free.
  func bufferPage(
    _ wanted: PhysicalAddress?
  ) throws(MappingFailure) -> Range<PhysicalAddress> {
    guard let start = wanted ?? allocate(PageCount.pageByteCount) else {
      throw .full("crash kernel range")
    }
    return start..<PhysicalAddress(start.rawValue + PageCount.pageByteCount)
  }

  func allocate(_ byteCount: UInt64, below limit: UInt64 = .max) -> PhysicalAddress? {
    allocator.allocate(byteCount, below: limit)
  }

  func free(_ range: Range<PhysicalAddress>) { allocator.free(range) }

  /// Takes a range out of use, whether it is free or not.
  func reserve(_ range: Range<PhysicalAddress>) { allocator.reserve(range) }

  /// Takes a range if all of it is free RAM.
  func take(_ range: Range<PhysicalAddress>) -> Bool { allocator.take(range) }
}
