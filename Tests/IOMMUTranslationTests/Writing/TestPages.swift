import IOMMUFormats
import IOMMUTranslation
import Testing

/// Pages for tables, of which each is given back once and is not looked at afterwards.
final class TestPages {
  let memory: FlatMemory
  private var free: [PhysicalAddress]
  private(set) var inUse: Set<PhysicalAddress> = []
  /// How many more may be given out.
  var limit = Int.max

  init(in memory: FlatMemory, _ range: Range<UInt64>) {
    self.memory = memory
    free = stride(from: range.lowerBound, to: range.upperBound, by: 4096).reversed().map {
      PhysicalAddress($0)
    }
  }

  func allocate() -> PhysicalAddress? {
    guard limit > 0, let page = free.popLast() else { return nil }
    limit -= 1
    memory.zero(at: page, byteCount: 4096)
    inUse.insert(page)
    return page
  }

  func release(_ page: PhysicalAddress) {
    #expect(inUse.remove(page) != nil, "\(page) is given back once")
    // Present and full of reserved bits, whoever reads it.
    memory.storeSeries(from: ~0, step: 0, count: 512, isBigEndian: false, at: page)
    free.append(page)
  }
}

/// What is mapped, page by page, without a table.
struct MappingModel {
  struct Page: Equatable {
    var target: UInt64
    var permissions: Permissions
  }
  var pages: [UInt64: Page] = [:]

  mutating func map(
    _ range: Range<PhysicalAddress>, at iova: IOVA, _ permissions: Permissions
  ) {
    for index in 0..<range.byteCount >> 12 {
      pages[iova.pageNumber &+ index] = Page(
        target: range.lowerBound.rawValue + index << 12, permissions: permissions)
    }
  }

  mutating func unmap(_ range: Range<IOVA>) {
    for page in range.lowerBound.pageNumber..<range.upperBound.pageNumber { pages[page] = nil }
  }

  func isFree(_ first: UInt64, _ count: UInt64) -> Bool {
    (0..<count).allSatisfy { pages[first &+ $0] == nil }
  }
}

extension TableFormat {
  /// Where the walker says that a page is.
  func page(
    of number: UInt64, from root: PhysicalAddress, in memory: some PhysicalMemory
  ) -> MappingModel.Page? {
    var observer = Unobserved()
    let address = number << 12
    let walk = walk(address, from: root, in: memory, observer: &observer)
    switch walk.end {
    case .page:
      let mask: UInt64 = 1 << UInt64(walk.sizeLog2) - 1
      return MappingModel.Page(
        target: walk.page.rawValue | address & mask,
        permissions: walk.permissions.intersection(.readWrite))
    case .empty: return nil
    default:
      Issue.record("the walk of \(hexadecimal(address)) ended at \(walk)")
      return nil
    }
  }
}

func physical(_ range: Range<UInt64>) -> Range<PhysicalAddress> {
  PhysicalAddress(range.lowerBound)..<PhysicalAddress(range.upperBound)
}

func iovas(_ range: Range<UInt64>) -> Range<IOVA> {
  IOVA(range.lowerBound)..<IOVA(range.upperBound)
}
