import IOMMUFormats

/// The RAM of a machine as its dump lists it, pages that were left out included.
package struct ListedRAM: Sendable, Hashable {
  /// Bytes of all of it.
  package var byteCount: UInt64
  /// What lies between two pieces and is large: half-open, ascending.
  package var holes: [Range<PhysicalAddress>]

  /// Smaller holes are not told of: firmware keeps any number of pages for itself.
  package static let smallestHole: UInt64 = 16 << 20
}

extension MemoryImage {
  /// What the dump says of the machine's RAM; `nil` for formats that list none, and where a part of
  /// the list is cut off.
  ///
  /// An ELF core has its program headers, a kdump-compressed dump a bitmap of its own.
  ///
  /// - Complexity: O(*n*) in the bitmap's bytes.
  package var listedRAM: ListedRAM? {
    var list = ListedRAM(byteCount: 0, holes: [])
    var end: UInt64?
    func add(_ start: UInt64, _ next: UInt64) {
      list.byteCount += next - start
      if let end, start - end >= ListedRAM.smallestHole {
        list.holes.append(PhysicalAddress(end)..<PhysicalAddress(start))
      }
      end = next
    }
    switch format {
    // Programs that run in the machine itself leave out what they like.
    case .raw, .device, .lime, .avml, .vmware, .xenCore: return nil
    case .elfCore:
      // Memory that the file has lost is memory of the machine.
      guard !isRestUnknown else { return nil }
      let ranges = backedRanges + lostRanges
      for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
        add(range.lowerBound.rawValue, range.upperBound.rawValue)
      }
    case .kdumpCompressed:
      // A file with one bitmap lists what it has, not what there was.
      guard let kdump = paged as? KdumpMemory,
        kdump.files[0].header.memoryBitmap != kdump.files[0].header.dumpedBitmap
      else { return nil }
      let shift = UInt64(kdump.pageByteCount.trailingZeroBitCount)
      let bitmap = kdump.memoryBitmap
      guard bitmap.knownFrameCount == kdump.frameCount else { return nil }
      bitmap.forEachRun(in: 0..<kdump.frameCount) { run in
        add(run.lowerBound << shift, run.upperBound << shift)
      }
    }
    return list
  }
}
