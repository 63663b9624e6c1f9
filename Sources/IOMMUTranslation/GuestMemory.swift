import IOMMUFormats

/// The stage of a nested translation that turns a guest's addresses into the host's.
public protocol HostStage: IOTable {
  /// Whether the tables translate a guest's address at all.
  func reaches(_ address: UInt64) -> Bool

  /// The page of a guest's address with what its entries allow together; `nil` where there is none.
  func hostPage(
    of address: UInt64, in memory: some PhysicalMemory
  ) -> (page: PhysicalAddress, sizeLog2: Int, permissions: Permissions)?
}

extension VTd.SecondStageTable: HostStage {
  public func hostPage(
    of address: UInt64, in memory: some PhysicalMemory
  ) -> (page: PhysicalAddress, sizeLog2: Int, permissions: Permissions)? {
    var observer = Unobserved()
    guard
      case .page(let page) = page(
        of: address, for: .read, writes: false, in: memory, marker: NoMarks(), observer: &observer)
    else { return nil }
    return (page.page, page.sizeLog2, page.secondStage)
  }
}

/// Memory as a guest sees it: what the host's tables let be read.
public struct GuestMemory<Stage: HostStage, Memory: PhysicalMemory>: PhysicalMemory {
  private let table: Stage
  private let memory: Memory

  public init(_ table: Stage, memory: Memory) {
    self.table = table
    self.memory = memory
  }

  /// Where a guest address lies, and how many bytes follow in its page; `nil` when the host's tables
  /// do not let it be read.
  private func host(_ address: PhysicalAddress) -> (PhysicalAddress, byteCount: UInt64)? {
    guard let page = table.hostPage(of: address.rawValue, in: memory),
      page.permissions.contains(.read)
    else { return nil }
    return (
      place(address.rawValue, in: page.page, sizeLog2: page.sizeLog2),
      bytesInPage(address.rawValue, sizeLog2: page.sizeLog2, atMost: .max)
    )
  }

  /// Where the byte at a guest address lies; `nil` when the host's tables do not let it be read.
  public func hostAddress(of address: PhysicalAddress) -> PhysicalAddress? { host(address)?.0 }

  /// Where the host's memory does not answer on the way to a guest address, or at it: an entry of the
  /// host's tables, or the byte itself; `nil` when the host's tables do not let it be read.
  func absentHostAddress(for address: PhysicalAddress) -> PhysicalAddress? {
    if let host = hostAddress(of: address) { return host }
    guard table.reaches(address.rawValue) else { return nil }
    var observer = Unobserved()
    let walk = table.format.walk(
      address.rawValue, from: table.root, in: memory, observer: &observer)
    return walk.end == .unreadable ? walk.entryAddress : nil
  }

  /// Whether nobody knows what lies there: of the guest's own memory or of the host's tables.
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

  /// What the host has of a guest address, or of the entry of the host's tables that would lead there;
  /// no memory where the host's tables do not let it be read.
  public func presence(of address: PhysicalAddress) -> Presence {
    absentHostAddress(for: address).map { memory.presence(of: $0) } ?? .absent
  }

  /// One range: what answers in it, each read finds out.
  public var backedRanges: [Range<PhysicalAddress>] {
    [PhysicalAddress(0)..<PhysicalAddress(table.space.byteCount)]
  }

  public var storedPageCount: UInt64 { memory.storedPageBound }
}
