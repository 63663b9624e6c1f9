import IOMMUFormats
import IOMMUTranslation

/// Pages of the address space that asked last, as packed words: from the IOTLB, one by one and in
/// blocks, and for a block's misses from the tables.
///
/// Counts by itself, and puts the numbers among the caches' others by ``settleCounters()``.
struct PortPages {
  private let caches: Pinned<PortCaches>.Reference
  /// Which requests the space is for; 0 while none is answered from here.
  private var key: UInt64 = 0
  /// The space's in the IOTLB.
  private var number: UInt64 = 0
  private var isScalable = false
  /// Answers by packed words that are in no counter yet.
  private var hits: UInt64 = 0
  /// Pages that went from the tables into the IOTLB and are in no counter yet.
  private var fills: UInt64 = 0
  /// The last tables that a block went through.
  private var tables: (table: VTd.SecondStageTable, translator: Translator<FlatMemory>)?

  init(_ caches: Pinned<PortCaches>.Reference) { self.caches = caches }

  /// Takes up the space of a binding.
  mutating func serve(_ binding: PortBinding, key: UInt64) {
    settleCounters()
    self.key = key
    number = binding.number
    isScalable = binding.rules.isScalable
  }

  /// Answers nothing until there is a space again.
  mutating func forget() {
    settleCounters()
    key = 0
  }

  /// Registers have changed: the same tables may be read otherwise.
  mutating func forgetTables() { tables = nil }

  /// Puts what was counted here among the counters of the caches.
  mutating func settleCounters() {
    guard hits | fills != 0 else { return }
    caches.value.countBindings(isScalable: isScalable, hits &+ fills)
    caches.value.iotlb.count(hit: true, times: hits)
    caches.value.iotlb.count(hit: false, times: fills)
    caches.value.structures.count(hit: false, times: fills)
    if fills > 0, let tables {
      for level in 1...tables.table.format.levels {
        caches.value.entriesRead.count(.level(level), isFirstStage: false, times: fills)
      }
    }
    hits = 0
    fills = 0
  }

  // MARK: One request

  /// The answer to a request that the IOTLB knows, of the device and the PASID that asked last; `nil`
  /// for anything else: for misses, large pages and faults.
  @inline(__always)
  mutating func answer(_ request: VTd.Request, byteCount: UInt64) -> Translation? {
    guard request.spaceKey == key else { return nil }
    let page = caches.value.iotlb.packedPage(number, request.address)
    guard page.allows(request.operation.needs) else { return nil }
    hits &+= 1
    return .mapped(
      page.translation(of: IOVA(request.address)).physical!,
      byteCount: min(byteCount, 0x1000 - request.address & 0xfff))
  }

  /// The same for a plain DMA without PASID.
  @inline(__always)
  mutating func answer(
    _ iova: IOVA, _ access: Access, of requester: Requester
  ) -> PackedTranslation? {
    // Interrupt addresses have no page in the IOTLB without a PASID.
    guard isServing(requester) else { return nil }
    let page = caches.value.iotlb.packedPage(number, iova.rawValue)
    guard page.allows(access.permission) else { return nil }
    hits &+= 1
    return page.translation(of: iova)
  }

  /// Whether plain DMAs of a device are answered from here now.
  @inline(__always)
  func isServing(_ requester: Requester) -> Bool { key == requester.spaceKey }

  // MARK: Blocks

  /// Looks up where the requests of a block go, all at once, in the IOTLB as it is.
  ///
  /// - Parameters:
  ///   - answers: Those that the IOTLB knows; the others are left without a meaning.
  ///   - misses: The numbers of those others, in order.
  /// - Returns: How many those are.
  /// - Precondition: The device is served; there are `count` addresses, answers and numbers of misses.
  @inline(never)
  mutating func lookUp(
    _ addresses: UnsafePointer<IOVA>, count: Int, _ access: Access,
    into answers: UnsafeMutablePointer<PackedTranslation>, misses: UnsafeMutablePointer<Int>
  ) -> Int {
    let missCount = unsafe caches.value.iotlb.lookUp(
      addresses, count: count, number, access.permission, into: answers, misses: misses)
    hits &+= UInt64(count &- missCount)
    return missCount
  }

  /// The pages of a block's misses, all read at once; `false` when their tables have no such way, or
  /// a paging-structure cache has to be asked one by one.
  mutating func read(
    _ block: BatchBlock, count: Int, _ access: Access, through binding: PortBinding?,
    in memory: FlatMemory
  ) -> Bool {
    guard caches.value.hasPlainWalks, number != .max,
      case .table(.secondStage(let table))? = binding?.route
    else { return false }
    if tables?.table.isSame(as: table) != true {
      settleCounters()
      block.forgetRegions()
      let handle = DeviceHandle(
        requester: Requester(rawValue: 0), route: .table(.secondStage(table)))
      tables = (table, Translator(handle, in: memory))
    }
    // Safe: a block has room for as many as it can miss.
    let addresses = unsafe UnsafeBufferPointer(start: block.addresses, count: count)
    let found = unsafe UnsafeMutableBufferPointer(start: block.pages, count: count)
    if let regions = block.regions {
      var store = regions.regions(for: access, keepingLowBits: true)
      unsafe tables!.translator.pages(of: addresses, for: access, into: found, remembering: &store)
    } else {
      var none = NoRegions()
      unsafe tables!.translator.pages(of: addresses, for: access, into: found, remembering: &none)
    }
    return true
  }

  /// Answers misses of a block in their order by pages that were read for them; what it learns goes
  /// into the IOTLB.
  ///
  /// - Parameter next: The number of the first of the misses to answer; afterwards that of one that
  ///   needs all steps, or of one behind the last.
  /// - Precondition: The device is served, and the block's requests have as many answers.
  @inline(never)
  mutating func fill(
    _ block: BatchBlock, next: inout Int, count: Int, _ access: Access,
    into answers: UnsafeMutablePointer<PackedTranslation>
  ) {
    let done = unsafe caches.value.iotlb.fill(
      block, next: &next, count: count, number, access.permission, into: answers)
    hits &+= done.hits
    fills &+= done.fills
  }
}

extension VTd.SecondStageTable {
  /// Whether walks through both read the same entries alike; both are of one unit, whose registers
  /// have not changed in between.
  fileprivate func isSame(as other: VTd.SecondStageTable) -> Bool {
    root == other.root && format.levels == other.format.levels
      && addressWidth == other.addressWidth && marks == other.marks
  }
}
