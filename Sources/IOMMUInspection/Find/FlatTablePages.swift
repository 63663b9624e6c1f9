import IOMMUFormats

extension PhysicalMemory {
  /// The first byte past all memory.
  var endOfMemory: UInt64 { backedRanges.last?.upperBound.rawValue ?? 0 }

  /// Hands out what is there and stored of a range, in pieces that end with a page or with what is
  /// there, at most 64 KiB at a time; a page with a stored byte whole.
  ///
  /// - Parameter pages: The memory's ``PhysicalMemory/storedPageRanges``.
  func forEachPiece(
    of range: Range<PhysicalAddress>, in pages: [Range<PhysicalAddress>],
    _ body: (PhysicalAddress, Span<UInt8>) -> Void
  ) {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    var index = pages.partitioningIndex { $0.upperBound > range.lowerBound }
    while index < pages.count, pages[index].lowerBound < range.upperBound {
      let part = pages[index].clamped(to: range)
      index += 1
      var address = part.lowerBound.rawValue
      let end = part.upperBound.rawValue
      while address < end {
        // Up to a multiple of the buffer, so that all but the first begin at a page.
        let room = UInt64(buffer.count) - address % UInt64(buffer.count)
        let count = withBytes(
          from: PhysicalAddress(address), upTo: Int(min(room, end - address)), buffer: &buffer
        ) {
          body(PhysicalAddress(address), $0)
          return $0.count
        }
        // A range may promise a page that is not there.
        address =
          count > 0
          ? address + UInt64(count)
          : address | 4095 == .max ? end : min(end, (address | 4095) + 1)
      }
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
    memory.forEachPiece(of: range, in: memory.storedPageRanges) { address, bytes in
      for offset in stride(from: 0, to: bytes.count - 4095, by: 4096) {
        let page = bytes.extracting(offset..<offset + 4096)
        guard !sieve.look(page).isIdle else { continue }
        finder.see(page, at: PhysicalAddress(address.rawValue + UInt64(offset)))
      }
    }
    return finder.candidates(in: memory, crashKernel: []).first { $0.address == start }
  }
}
