import IOMMUFormats

/// Memory as a guest sees it: what the second stage lets be read.
public struct GuestMemory<Memory: PhysicalMemory>: PhysicalMemory {
  private let table: VTd.SecondStageTable
  private let memory: Memory

  public init(_ table: VTd.SecondStageTable, memory: Memory) {
    self.table = table
    self.memory = memory
  }

  /// Where a guest address lies, and how many bytes follow in its page; `nil` when the second stage
  /// does not let it be read.
  private func host(_ address: PhysicalAddress) -> (PhysicalAddress, byteCount: UInt64)? {
    var observer = Unobserved()
    guard
      case .page(let page) = table.page(
        of: address.rawValue, for: .read, writes: false, in: memory, marker: NoMarks(),
        observer: &observer), page.secondStage.contains(.read)
    else { return nil }
    return (
      place(address.rawValue, in: page.page, sizeLog2: page.sizeLog2),
      bytesInPage(address.rawValue, sizeLog2: page.sizeLog2, atMost: .max)
    )
  }

  /// Where the byte at a guest address lies; `nil` when the second stage does not let it be read.
  public func hostAddress(of address: PhysicalAddress) -> PhysicalAddress? { host(address)?.0 }

  /// Where the host's memory does not answer on the way to a guest address, or at it: an entry of the
  /// second stage, or the byte itself; `nil` when the second stage does not let it be read.
  func absentHostAddress(for address: PhysicalAddress) -> PhysicalAddress? {
    if let host = hostAddress(of: address) { return host }
    guard table.reaches(address.rawValue) else { return nil }
    var observer = Unobserved()
    let walk = table.format.walk(
      address.rawValue, from: table.root, in: memory, observer: &observer)
    return walk.end == .unreadable ? walk.entryAddress : nil
  }

  /// Whether nobody knows what lies there: of the guest's own memory or of the second stage's tables.
  public func isAbsent(at address: PhysicalAddress) -> Bool {
    absentHostAddress(for: address).map { memory.isAbsent(at: $0) } ?? false
  }

  public func quadword(at address: PhysicalAddress) -> UInt64? {
    guard let (place, byteCount) = host(address), byteCount >= 8 else { return nil }
    return memory.quadword(at: place)
  }

  public func doubleword(at address: PhysicalAddress) -> UInt32? {
    guard let (place, byteCount) = host(address), byteCount >= 4 else { return nil }
    return memory.doubleword(at: place)
  }

  public func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard let (place, byteCount) = host(address) else { return 0 }
    let count = min(buffer.count, Int(clamping: byteCount))
    // Safe: the first part of the caller's buffer.
    return unsafe memory.read(
      at: place, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]))
  }

  /// The bytes from a guest address to the end of its page, where the host's lie in place.
  public func bytesInPlace(from address: PhysicalAddress) -> UnsafeRawBufferPointer? {
    // Safe: the first part of what the host's memory answers for.
    guard let (place, byteCount) = host(address),
      let bytes = unsafe memory.bytesInPlace(from: place)
    else { return nil }
    return unsafe UnsafeRawBufferPointer(rebasing: bytes.prefix(Int(clamping: byteCount)))
  }

  /// What the host has of a guest address, or of the entry of the second stage that would lead there;
  /// no memory where the second stage does not let it be read.
  public func presence(of address: PhysicalAddress) -> Presence {
    absentHostAddress(for: address).map { memory.presence(of: $0) } ?? .absent
  }

  /// One range: what answers in it, each read finds out.
  public var backedRanges: [Range<PhysicalAddress>] {
    [PhysicalAddress(0)..<PhysicalAddress(1 << UInt64(table.addressWidth))]
  }

  public var storedPageCount: UInt64 { memory.storedPageBound }
}
