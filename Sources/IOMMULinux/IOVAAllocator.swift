import IOMMUFormats

/// The numbers that the kernel's allocator of I/O virtual addresses holds, page by page.
///
/// Every number that it has given out, or keeps for good, is in a range of its tree. Numbers that drivers have
/// given back stay there while they are kept for use again (*cached*) or while units may still remember them
/// (*waiting* for a flush).
///
/// Source: Linux `drivers/iommu/iova.c` and `dma-iommu.c`.
public struct IOVAAllocator: Sendable {
  /// Pages that were given back and wait until units have forgotten them.
  public struct Waiting: Hashable, Sendable {
    public var processor: Int?
    public var page: UInt64
    public var count: UInt64
    /// What the flush counter was then.
    public var counter: UInt64
  }

  /// Ranges that were given back and are kept, of one size.
  public struct Cached: Hashable, Sendable {
    /// The size in pages, as a power of two.
    public var order: Int
    /// First pages that a processor keeps, with its number.
    public var own: [(processor: Int, pages: [UInt64])]
    /// First pages that any processor may take.
    public var depot: [UInt64]

    public static func == (left: Self, right: Self) -> Bool {
      left.order == right.order && left.depot == right.depot
        && left.own.elementsEqual(right.own) {
          $0.processor == $1.processor && $0.pages == $1.pages
        }
    }

    public func hash(into hasher: inout Hasher) {
      hasher.combine(order)
      hasher.combine(depot)
    }

    /// All of them.
    public var pages: [UInt64] { own.flatMap(\.pages) + depot }
  }

  /// Bytes of a page.
  public var granule: UInt64
  /// Ranges of pages, closed, in the order of the tree, without the anchor at its end.
  public var ranges: [ClosedRange<UInt64>] = []
  public var cached: [Cached] = []
  public var waiting: [Waiting] = []
  /// The flush counter when the last flush began, and when the last was done; `nil` where it is unknown.
  public var flushStart: UInt64?
  public var flushFinish: UInt64?
  /// What could not be read.
  public var problems: [KernelReadError] = []

  /// What has become of a range of the tree.
  public enum State: Hashable, Sendable {
    /// Given out, or kept for good.
    case taken
    case cached
    case waiting
  }

  /// Every range of the tree with its state, in the order of the tree.
  public var states: [(pages: ClosedRange<UInt64>, state: State)] {
    let kept = Set(cached.flatMap(\.pages))
    let queued = Set(waiting.map(\.page))
    return ranges.map { range in
      let first = range.lowerBound
      return (range, kept.contains(first) ? .cached : queued.contains(first) ? .waiting : .taken)
    }
  }

  /// The numbers of pages, in bytes, half-open; `nil` where they pass the end of all numbers.
  public func bytes(_ pages: ClosedRange<UInt64>) -> Range<UInt64>? {
    let granule = max(granule, 1)
    let (start, low) = pages.lowerBound.multipliedReportingOverflow(by: granule)
    let (end, high) = pages.upperBound.addingReportingOverflow(1)
    let (last, top) = end.multipliedReportingOverflow(by: granule)
    return low || high || top ? nil : start..<last
  }

  /// Sizes that are kept: 2^0 to 2^5 pages.
  private static let orderCount = 6

  init(
    granule: UInt64, ranges: [ClosedRange<UInt64>], cached: [Cached] = [], waiting: [Waiting] = []
  ) {
    self.granule = granule
    self.ranges = ranges
    self.cached = cached
    self.waiting = waiting
  }

  /// - Returns: `nil` for a domain that has no allocator.
  init?(_ domain: KernelObject, _ kernel: LinuxKernel) throws(KernelReadError) {
    // 1: a cookie for IOVAs; other kinds hold something else in the same place.
    if domain.has("cookie_type"), try domain.unsigned("cookie_type") != 1 { return nil }
    guard domain.has("iova_cookie") else { return nil }
    let address = try domain.unsigned("iova_cookie")
    guard address != 0 else { return nil }
    let cookie = try domain.types.object("iommu_dma_cookie", at: address)
    if cookie.has("type"), try cookie.unsigned("type") != 0 { return nil }
    let iovad = try cookie.part("iovad")
    granule = try iovad.unsigned("granule")
    readTree(iovad)
    do throws(KernelReadError) {
      try readCaches(iovad, kernel)
    } catch {
      problems.append(error)
    }
    do throws(KernelReadError) {
      // Older kernels have the queue in the allocator.
      try readQueue(cookie.has("fq_flush_finish_cnt") ? cookie : iovad, kernel)
    } catch {
      problems.append(error)
    }
  }

  private mutating func readTree(_ iovad: KernelObject) {
    do throws(KernelReadError) {
      let tree = try iovad.types.tree(
        from: try iovad.unsigned("rbroot.rb_node"), of: "iova", through: "node")
      problems += tree.problems
      for node in tree.elements {
        let first = try node.unsigned("pfn_lo")
        let last = try node.unsigned("pfn_hi")
        guard first != .max else { continue }
        guard first <= last else {
          problems.append(
            .damaged("an IOVA range from \(hexadecimal(first)) to \(hexadecimal(last))"))
          continue
        }
        // In a sound tree each lies behind the one before.
        if let before = ranges.last, before.upperBound >= first {
          problems.append(
            .damaged(
              "IOVA ranges out of order: \(hexadecimal(first)) behind \(hexadecimal(before.upperBound))"
            ))
          continue
        }
        ranges.append(first...last)
      }
    } catch {
      problems.append(error)
    }
  }

  // MARK: Caches

  private mutating func readCaches(_ iovad: KernelObject, _ kernel: LinuxKernel)
    throws(KernelReadError)
  {
    let types = iovad.types
    let field = try types.field("rcaches", of: iovad.type)
    // Since 6.0 they are allocated apart.
    let isPart = types.btf.kind(of: field.type) == .array
    let start = isPart ? iovad.address &+ field.offset : try iovad.unsigned("rcaches")
    guard start != 0 else { return }
    let type = try types.type("iova_rcache")
    guard let size = types.btf.byteCount(of: type) else { throw .noType("iova_rcache") }
    let processors = try kernel.processorOffsets()
    for order in 0..<Self.orderCount {
      let cache = KernelObject(types: types, address: start &+ UInt64(order) &* size, type: type)
      var cached = Cached(order: order, own: [], depot: [])
      do throws(KernelReadError) {
        let own = try cache.unsigned("cpu_rcaches")
        for (processor, offset) in processors where own != 0 {
          try types.spend(on: "the caches of processors", at: cache.address)
          let part = try types.object("iova_cpu_rcache", at: own &+ offset)
          var pages: [UInt64] = []
          for path in ["loaded", "prev"] {
            if let magazine = try part.objectIfAny(at: path) {
              pages += try self.pages(of: magazine, count: try magazine.unsigned("size"))
            }
          }
          cached.own.append((processor, pages))
        }
        try readDepot(cache, into: &cached)
      } catch {
        problems.append(error)
      }
      self.cached.append(cached)
    }
  }

  /// Full magazines: an array of them, or since 6.7 a chain.
  private mutating func readDepot(
    _ cache: KernelObject, into cached: inout Cached
  ) throws(KernelReadError) {
    let types = cache.types
    let depot = try types.field("depot", of: cache.type)
    if types.btf.kind(of: depot.type) == .array {
      let count = min(
        try cache.unsigned("depot_size"), UInt64(types.btf.elementCount(of: depot.type) ?? 0))
      for number in 0..<count {
        let pointer = try types.memory.quadword(at: cache.address &+ depot.offset &+ 8 &* number)
        guard pointer != 0 else { continue }
        let magazine = try types.object("iova_magazine", at: pointer)
        cached.depot += try pages(of: magazine, count: try magazine.unsigned("size"))
      }
      return
    }
    var place = try cache.unsigned("depot")
    var seen: Set<UInt64> = []
    while place != 0 {
      guard seen.insert(place).inserted else {
        throw .endless("the depot of magazines", address: place)
      }
      let magazine = try types.object("iova_magazine", at: place)
      cached.depot += try pages(of: magazine, count: .max)
      place = try magazine.unsigned("next")
    }
  }

  private func pages(of magazine: KernelObject, count: UInt64) throws(KernelReadError) -> [UInt64] {
    let types = magazine.types
    let field = try types.field("pfns", of: magazine.type)
    let count = min(count, UInt64(types.btf.elementCount(of: field.type) ?? 0), 1 << 12)
    for _ in 0..<count { try types.spend(on: "the magazine", at: magazine.address) }
    let bytes = try types.memory.bytes(at: magazine.address &+ field.offset, count: 8 * Int(count))
    return (0..<Int(count)).map { bytes.span.integer(UInt64.self, at: 8 * $0) }
  }

  // MARK: Flush queue

  private mutating func readQueue(_ owner: KernelObject, _ kernel: LinuxKernel)
    throws(KernelReadError)
  {
    guard owner.has("fq_flush_finish_cnt") else { return }
    flushStart = try owner.unsigned("fq_flush_start_cnt")
    flushFinish = try owner.unsigned("fq_flush_finish_cnt")
    let isSingle = owner.has("options.qt") ? try owner.unsigned("options.qt") == 1 : false
    let path = ["fq", isSingle ? "single_fq" : "percpu_fq"].first { owner.has($0) }
    guard let path else { throw .noMember("percpu_fq", of: "iommu_dma_cookie") }
    let pointer = try owner.unsigned(path)
    // There is none until the domain is lazy.
    guard pointer != 0 else { return }
    if isSingle {
      try readQueue(at: pointer, processor: nil, owner.types)
      return
    }
    for (processor, offset) in try kernel.processorOffsets() {
      do throws(KernelReadError) {
        try readQueue(at: pointer &+ offset, processor: processor, owner.types)
      } catch {
        problems.append(error)
      }
    }
  }

  private mutating func readQueue(
    at address: UInt64, processor: Int?, _ types: KernelTypes
  ) throws(KernelReadError) {
    let queue = try types.object("iova_fq", at: address)
    let entries = try types.field("entries", of: queue.type)
    guard let element = types.btf.element(of: entries.type),
      let size = types.btf.byteCount(of: element),
      size > 0
    else { throw .noMember("entries", of: "iova_fq") }
    let capacity =
      queue.has("mod_mask")
      ? try queue.unsigned("mod_mask") + 1 : UInt64(types.btf.elementCount(of: entries.type) ?? 0)
    let tail = try queue.unsigned("tail")
    var place = try queue.unsigned("head")
    guard 1...1 << 20 ~= capacity, place < capacity, tail < capacity else {
      throw .damaged("a flush queue of \(capacity) entries from \(place) to \(tail)")
    }
    while place != tail {
      try types.spend(on: "the flush queue", at: address)
      let entry = KernelObject(
        types: types, address: address &+ entries.offset &+ place &* size, type: element)
      waiting.append(
        Waiting(
          processor: processor, page: try entry.unsigned("iova_pfn"),
          count: try entry.unsigned("pages"),
          counter: try entry.unsigned("counter")))
      place = (place + 1) % capacity
    }
  }
}
