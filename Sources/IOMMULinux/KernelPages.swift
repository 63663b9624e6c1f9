import IOMMUFormats
import IOMMUImages

/// What a kernel's page allocator says of pages of memory: its array of `struct page`.
///
/// Everything needed is in VMCOREINFO, put there for programs that leave pages out of dumps. Not for several
/// threads at once.
///
/// Source: Linux `Documentation/admin-guide/kdump/vmcoreinfo.rst`, `include/linux/page-flags.h` and
/// `mm/page_alloc.c`.
public final class KernelPages {
  /// What a page is used for.
  public enum Use: String, Hashable, Sendable {
    /// Nobody uses it.
    case free
    /// A slab: small objects of the kernel's.
    case slab
    /// A program's, or a file's.
    case user
    /// Taken from the kernel: given back to a hypervisor, or not to be touched.
    case offline
    /// The kernel has given it out, for what it does not say.
    case allocated
    /// Nobody holds it by itself, and it is in no free block: a page that a processor keeps for use again, or
    /// part of several that were given out as one, of which the first alone is counted.
    case uncounted
  }

  private let memory: KernelMemory
  private let start: UInt64
  private let byteCount: UInt64
  private let flags: UInt64
  private let mapCount: UInt64
  private let referenceCount: UInt64
  private let order: UInt64
  private let head: UInt64?
  private let lruBit: UInt64
  private let slabBit: UInt64?
  private let types: [(value: UInt32, use: Use)]
  private let buddy: UInt32

  /// Blocks of the allocator are at most so large, as a power of two of pages.
  private static let orderLimit: UInt64 = 10

  /// Finds the array.
  ///
  /// - Throws: ``KernelReadError`` when VMCOREINFO or symbols do not say where it is, or what is in it.
  public init(_ kernel: LinuxKernel) throws(KernelReadError) {
    let info = kernel.info
    memory = kernel.memory
    guard kernel.memory.tables.architecture == .x86_64 else {
      throw .damaged("where struct page lies is known on x86-64 only")
    }
    // Later kernels say the value itself.
    start =
      if let value = info.symbol("vmemmap") { value } else { try kernel.value(of: "vmemmap_base") }
    func offset(_ member: String) throws(KernelReadError) -> UInt64 {
      guard let offset = info.offset("page.\(member)"), offset < 4096 else {
        throw .noKey("OFFSET(page.\(member))")
      }
      return offset
    }
    guard let size = info.size("page"), 32...4096 ~= size else { throw .noKey("SIZE(page)") }
    byteCount = size
    flags = try offset("flags")
    mapCount = try offset("_mapcount")
    referenceCount = try offset("_refcount")
    order = try offset("private")
    head = try? offset("compound_head")
    guard let lru = info.number("PG_lru"), lru < 64 else { throw .noKey("NUMBER(PG_lru)") }
    lruBit = lru
    slabBit = info.number("PG_slab").flatMap { $0 < 64 ? $0 : nil }
    guard let buddy = info.number("PAGE_BUDDY_MAPCOUNT_VALUE") else {
      throw .noKey("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)")
    }
    self.buddy = UInt32(truncatingIfNeeded: buddy)
    types = [
      ("PAGE_SLAB_MAPCOUNT_VALUE", Use.slab), ("PAGE_OFFLINE_MAPCOUNT_VALUE", Use.offline),
    ].compactMap { key, use in
      info.number(key).map { (UInt32(truncatingIfNeeded: $0), use) }
    }
  }

  /// What the page is used for that an address lies in.
  ///
  /// - Throws: ``KernelReadError`` when its `struct page` cannot be read.
  public func use(of address: PhysicalAddress) throws(KernelReadError) -> Use {
    let page = address.rawValue >> 12
    var place = try self.place(of: page)
    if let head {
      // The rest of a block of several pages leads to its first.
      let word = try memory.quadword(at: place &+ head)
      if word & 1 == 1 { place = word & ~1 }
    }
    let type = try type(at: place)
    if isOf(buddy, type) { return .free }
    let bits = try memory.quadword(at: place &+ flags)
    if let slabBit, bits >> slabBit & 1 == 1 { return .slab }
    if let known = types.first(where: { isOf($0.value, type) }) { return known.use }
    if try isInFreeBlock(page) { return .free }
    if bits >> lruBit & 1 == 1 { return .user }
    // How often it is mapped by programs, less one; what is no number of that kind is a type.
    if Int32(bitPattern: type) >= 0 { return .user }
    return try memory.doubleword(at: place &+ referenceCount) == 0 ? .uncounted : .allocated
  }

  private func place(of page: UInt64) throws(KernelReadError) -> UInt64 {
    let (distance, overflow) = page.multipliedReportingOverflow(by: byteCount)
    guard !overflow else { throw .unmapped(start) }
    return start &+ distance
  }

  private func type(at place: UInt64) throws(KernelReadError) -> UInt32 {
    try memory.doubleword(at: place &+ mapCount)
  }

  /// Up to 6.10 types are numbers below −1; later ones are in the upper byte.
  private func isOf(_ value: UInt32, _ type: UInt32) -> Bool {
    type == value || value & 0xff_ffff == 0 && value != 0 && type >> 24 == value >> 24
  }

  /// Of a free block only the first page says that it is free, and how long it is.
  private func isInFreeBlock(_ page: UInt64) throws(KernelReadError) -> Bool {
    for order in 0...Self.orderLimit {
      let first = (page >> order) << order
      guard first != page || order == 0 else { continue }
      // A hole in memory has no struct page, and no block either.
      guard let place = try? self.place(of: first), let type = try? self.type(at: place) else {
        return false
      }
      guard isOf(buddy, type) else { continue }
      return try memory.quadword(at: place &+ self.order) >= order
    }
    return false
  }
}
