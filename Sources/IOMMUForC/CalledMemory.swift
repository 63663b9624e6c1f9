import CIOMMU
import IOMMUFormats
import Synchronization

/// Memory that C answers for, call by call.
final class CalledMemory: WritableMemory, @unchecked Sendable {
  // Sendable: nothing changes but what is atomic; whether the calls may come from several threads at once,
  // the caller decides, who makes them.
  private let calls: iommu_memory_calls
  let backedRanges: [Range<PhysicalAddress>]
  /// The lowest address at which a store was not taken; all ones for none.
  private let lostStore = Atomic<UInt>(.max)
  /// What was made over it is complete, and `release` is this memory's to call.
  private let isOwned = Atomic<Bool>(false)

  init(_ calls: iommu_memory_calls) throws {
    try requireZero(calls.reserved)
    guard calls.read != nil else { throw CallError.argument("read is null: memory has to be read") }
    let given = try elements(calls.ranges, calls.range_count, "ranges")
    guard !given.isEmpty else {
      throw CallError.argument("ranges is empty: say where memory answers")
    }
    var ranges: [Range<PhysicalAddress>] = []
    for range in given {
      let range = try Range<PhysicalAddress>(range)
      guard !range.isEmpty, ranges.last.map({ $0.upperBound < range.lowerBound }) ?? true else {
        throw CallError.argument(
          "range \(range.text) is empty, or does not come behind the one before it: they are ascending, and "
            + "do not touch")
      }
      ranges.append(range)
    }
    self.calls = calls
    backedRanges = ranges
  }

  /// From now on the caller's `release` is called with the memory's end.
  func takeOver() { isOwned.store(true, ordering: .relaxed) }

  deinit { if isOwned.load(ordering: .relaxed) { calls.release?(calls.context) } }

  /// Whether the bytes lie in one range.
  private func holds(_ address: PhysicalAddress, byteCount: UInt64) -> Bool {
    let index = backedRanges.partitioningIndex { $0.upperBound > address }
    guard index < backedRanges.count, backedRanges[index].lowerBound <= address else {
      return false
    }
    return backedRanges[index].upperBound.rawValue - address.rawValue >= byteCount
  }

  func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    let index = backedRanges.partitioningIndex { $0.upperBound > address }
    guard let base = buffer.baseAddress, index < backedRanges.count,
      backedRanges[index].lowerBound <= address
    else { return 0 }
    let count = Int(
      min(UInt64(buffer.count), backedRanges[index].upperBound.rawValue - address.rawValue))
    guard count > 0 else { return 0 }
    let done = calls.read(calls.context, address.rawValue, base, count)
    // An answer of more bytes than were asked for is none.
    return 0...count ~= done ? done : 0
  }

  private func word<Word: FixedWidthInteger>(at address: PhysicalAddress) -> Word? {
    var word: Word = 0
    let byteCount = MemoryLayout<Word>.size
    guard holds(address, byteCount: UInt64(byteCount)) else { return nil }
    let done = withUnsafeMutableBytes(of: &word) { read(at: address, into: $0) }
    return done == byteCount ? Word(littleEndian: word) : nil
  }

  func quadword(at address: PhysicalAddress) -> UInt64? { word(at: address) }
  func doubleword(at address: PhysicalAddress) -> UInt32? { word(at: address) }

  func isAbsent(at address: PhysicalAddress) -> Bool {
    calls.is_dump != 0 && bytes(at: address, count: 1) == nil
  }

  // MARK: Stores

  var takesStores: Bool { calls.write != nil }

  func isWritable(at address: PhysicalAddress) -> Bool {
    takesStores && holds(address, byteCount: 8)
  }

  /// - Returns: Bytes stored.
  func write(_ bytes: UnsafeRawBufferPointer, at address: PhysicalAddress) -> Int {
    let index = backedRanges.partitioningIndex { $0.upperBound > address }
    guard let write = calls.write, let base = bytes.baseAddress, index < backedRanges.count,
      backedRanges[index].lowerBound <= address
    else { return 0 }
    let count = Int(
      min(UInt64(bytes.count), backedRanges[index].upperBound.rawValue - address.rawValue))
    let done = write(calls.context, address.rawValue, base, count)
    return 0...count ~= done ? done : 0
  }

  private func storeWord(_ word: some FixedWidthInteger, at address: PhysicalAddress) {
    let done = withUnsafeBytes(of: word.littleEndian) { write($0, at: address) }
    if done != word.bitWidth / 8 { lostStore.storeLower(UInt(address.rawValue)) }
  }

  func store(_ quadword: UInt64, at address: PhysicalAddress) { storeWord(quadword, at: address) }
  func store(_ doubleword: UInt32, at address: PhysicalAddress) {
    storeWord(doubleword, at: address)
  }

  /// In pages: a call for each quadword would be five hundred for a table.
  func zero(at address: PhysicalAddress, byteCount: UInt64) {
    let page = [UInt8](repeating: 0, count: Int(min(byteCount, 4096)))
    var place = address.rawValue
    var left = byteCount
    while left > 0 {
      let count = Int(min(left, 4096 - place & 4095))
      let done = page.withUnsafeBytes {
        write(UnsafeRawBufferPointer(rebasing: $0[..<count]), at: PhysicalAddress(place))
      }
      if done != count { lostStore.storeLower(UInt(place)) }
      place += UInt64(count)
      left -= UInt64(count)
    }
  }

  func compareExchange(
    at address: PhysicalAddress, expected: UInt64, desired: UInt64
  ) -> UInt64? {
    guard let exchange = calls.compare_exchange else {
      let found = quadword(at: address) ?? 0
      guard found == expected else { return found }
      store(desired, at: address)
      return nil
    }
    var found = expected
    return exchange(calls.context, address.rawValue, &found, desired) != 0 || found == expected
      ? nil : found
  }

  /// - Throws: When a store was not taken since the last time that somebody asked.
  func checkStores() throws {
    let address = lostStore.exchange(.max, ordering: .relaxed)
    guard address == .max else {
      throw CallError.memory(
        "a store to \(hexadecimal(address)) was not taken, where the memory said that it has some: what was "
          + "being changed is not whole")
    }
  }
}
