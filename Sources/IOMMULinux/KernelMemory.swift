import IOMMUFormats
import IOMMUImages

/// A kernel's memory by its own addresses.
///
/// Every read says why it failed; none reads outside of the dump. Not for several threads at once: it
/// remembers where pages lie.
public final class KernelMemory {
  /// The physical memory.
  public let memory: any PhysicalMemory
  /// How addresses become physical.
  public let tables: KernelPageTables

  /// Pages that were looked at last, by their number modulo the count; all ones for none.
  private var known: [(page: UInt64, physical: UInt64)]
  private var touched: Set<UInt64> = []

  public init(_ memory: any PhysicalMemory, tables: KernelPageTables) {
    self.memory = memory
    self.tables = tables
    known = Array(repeating: (.max, 0), count: 1024)
  }

  /// Pages of 4 KiB of the kernel's that were read.
  public var touchedPageCount: Int { touched.count }

  /// Where an address lies.
  public func physicalAddress(of address: UInt64) throws(KernelReadError) -> PhysicalAddress {
    let address = tables.canonical(address)
    let page = address >> 12
    let slot = Int(truncatingIfNeeded: page & UInt64(known.count - 1))
    if known[slot].page != page {
      let physical = try tables.physicalAddress(of: address, in: memory)
      known[slot] = (page, physical.rawValue & ~0xfff)
      touched.insert(physical.rawValue >> 12)
    }
    return PhysicalAddress(known[slot].physical | address & 0xfff)
  }

  // MARK: Bytes

  /// Bytes from an address on, up to the first that cannot be read.
  ///
  /// - Returns: The bytes, and why there are fewer than were asked for.
  public func prefix(at address: UInt64, count: Int) -> (bytes: [UInt8], error: KernelReadError?) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(min(count, 1 << 24))
    var place = tables.canonical(address)
    while bytes.count < count {
      let part = min(count - bytes.count, Int(4096 - place & 0xfff))
      do throws(KernelReadError) {
        try append(part, at: place, to: &bytes)
      } catch {
        return (bytes, error)
      }
      let (next, overflow) = place.addingReportingOverflow(UInt64(part))
      if overflow, bytes.count < count { return (bytes, .unmapped(next)) }
      place = next
    }
    return (bytes, nil)
  }

  /// Appends bytes that lie in one page.
  private func append(
    _ count: Int, at address: UInt64, to bytes: inout [UInt8]
  ) throws(KernelReadError) {
    let physical = try physicalAddress(of: address)
    var done = 0
    // Safe: as many bytes count as initialized as were copied.
    let part = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      filled = unsafe memory.copyBytes(from: physical, to: UnsafeMutableRawBufferPointer(buffer))
      done = filled
    }
    bytes += part
    guard done < count else { return }
    let place = PhysicalAddress(physical.rawValue &+ UInt64(done))
    throw .absent(address: address &+ UInt64(done), physical: place, memory.presence(of: place))
  }

  /// `count` bytes from an address on.
  public func bytes(at address: UInt64, count: Int) throws(KernelReadError) -> [UInt8] {
    let (bytes, error) = prefix(at: address, count: count)
    if let error { throw error }
    return bytes
  }

  /// The little-endian number of 1 to 8 bytes at an address.
  public func unsigned(at address: UInt64, byteCount: Int) throws(KernelReadError) -> UInt64 {
    let place = tables.canonical(address)
    if Int(place & 0xfff) + byteCount <= 4096 {
      let physical = try physicalAddress(of: place)
      let word =
        byteCount == 8
        ? memory.quadword(at: physical)
        : byteCount == 4 ? memory.doubleword(at: physical).map(UInt64.init) : nil
      if let word { return word }
    }
    return try bytes(at: place, count: byteCount).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// The pointer, or other number of 64 bits, at an address.
  public func quadword(at address: UInt64) throws(KernelReadError) -> UInt64 {
    try unsigned(at: address, byteCount: 8)
  }

  /// The number of 32 bits at an address.
  public func doubleword(at address: UInt64) throws(KernelReadError) -> UInt32 {
    UInt32(truncatingIfNeeded: try unsigned(at: address, byteCount: 4))
  }

  /// The letters at an address up to a zero, or up to `limit` of them.
  public func string(at address: UInt64, limit: Int = 4096) throws(KernelReadError) -> String {
    guard address != 0 else { throw .null }
    var letters: [UInt8] = []
    var place = tables.canonical(address)
    while letters.count < limit {
      // A short look first: most are names.
      let count = min(limit - letters.count, 64, Int(4096 - place & 0xfff))
      let part = try bytes(at: place, count: count)
      if let end = part.firstIndex(of: 0) {
        letters += part[..<end]
        break
      }
      letters += part
      place = place &+ UInt64(count)
    }
    return String(decoding: letters, as: UTF8.self)
  }
}
