import IOMMUFormats

extension PhysicalMemory {
  /// The first byte past all memory.
  var endOfMemory: UInt64 { backedRanges.last?.upperBound.rawValue ?? 0 }

  /// Hands out what is there of a range, at most 64 KiB at a time.
  func forEachPiece(
    of range: Range<PhysicalAddress>,
    _ body: (PhysicalAddress, Span<UInt8>) -> Void
  ) {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    var address = range.lowerBound.rawValue
    while address < range.upperBound.rawValue {
      let wanted = Int(min(UInt64(buffer.count), range.upperBound.rawValue - address))
      let count = copyBytes(from: PhysicalAddress(address), to: &buffer, 0..<wanted)
      guard count > 0 else {
        address = (address | 4095) + 1
        continue
      }
      body(PhysicalAddress(address), buffer.span.extracting(..<count))
      address += UInt64(count)
    }
  }
}

extension TableFinder {
  /// What a search of this range alone finds at its start: for flat tables, to which nothing points
  /// and whose entries have to speak for them.
  static func candidate(
    at start: PhysicalAddress, within byteCount: UInt64, in memory: some PhysicalMemory
  ) -> TableCandidate? {
    guard let mask = excludedBits, let range = Range(start: start, byteCount: byteCount) else {
      return nil
    }
    let sieve = PageSieve([mask])
    var finder = Self()
    memory.forEachPiece(of: range) { address, bytes in
      for offset in stride(from: 0, to: bytes.count - 4095, by: 4096) {
        let page = bytes.extracting(offset..<offset + 4096)
        guard !sieve.look(page).isIdle else { continue }
        finder.see(page, at: PhysicalAddress(address.rawValue + UInt64(offset)))
      }
    }
    return finder.candidates(in: memory, crashKernel: []).first { $0.address == start }
  }
}
