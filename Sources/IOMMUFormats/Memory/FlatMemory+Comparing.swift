import Glibc

extension FlatMemory {
  /// Whether memory has these bytes from `address` on; `false` where RAM ends before they do.
  package func holds(_ bytes: [UInt8], at address: PhysicalAddress) -> Bool {
    guard isBacked(address, byteCount: UInt64(bytes.count)) else { return false }
    // Safe: RAM is there for all of them.
    return unsafe bytes.withUnsafeBytes { bytes in
      guard let start = bytes.baseAddress else { return true }
      return unsafe memcmp(start, pointer(to: address), bytes.count) == 0
    }
  }

  /// How many of these bytes memory does not have from `address` on; those beyond RAM among them.
  package func differenceCount(_ bytes: [UInt8], at address: PhysicalAddress) -> Int {
    // Safe: the buffer is used while it is there.
    unsafe bytes.withUnsafeBytes {
      let (differing, compared) = unsafe compare($0, at: address)
      return differing + bytes.count - compared
    }
  }

  /// Compares as many bytes as RAM has in one run from `address`.
  private func compare(
    _ bytes: UnsafeRawBufferPointer, at address: PhysicalAddress
  ) -> (differing: Int, compared: Int) {
    guard let memory = unsafe bytesInPlace(from: address) else { return (0, 0) }
    let count = min(bytes.count, memory.count)
    // Safe: both have as many bytes.
    let differing = unsafe Self.differenceCount(
      UnsafeRawBufferPointer(rebasing: bytes[..<count]),
      UnsafeRawBufferPointer(rebasing: memory[..<count]))
    return (differing, count)
  }

  /// Copies as many of `bytes` as RAM takes in one run from `address`.
  ///
  /// - Returns: Bytes of memory that hold something else than before.
  package func exchange(_ bytes: UnsafeRawBufferPointer, at address: PhysicalAddress) -> Int {
    let changed = unsafe compare(bytes, at: address).differing
    unsafe write(bytes, at: address)
    return changed
  }

  /// How many bytes of two runs of one length differ.
  private static func differenceCount(
    _ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer
  ) -> Int {
    let wholeCount = left.count & ~7
    var count = 0
    var offset = 0
    // Safe: neither loop goes beyond the runs' length.
    while offset < wholeCount {
      let difference =
        unsafe left.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        ^ right.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      // The top bit of every byte that is not zero.
      let low: UInt64 = 0x7f7f_7f7f_7f7f_7f7f
      count &+= (((difference & low) &+ low | difference) & ~low).nonzeroBitCount
      offset &+= 8
    }
    while offset < left.count {
      if unsafe left[offset] != right[offset] { count &+= 1 }
      offset &+= 1
    }
    return count
  }
}
