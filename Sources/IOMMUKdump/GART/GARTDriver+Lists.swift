import IOMMUFormats
import IOMMUTranslation

/// Where one buffer of a scatter list is for its device.
package struct ListedBuffer: Equatable {
  package var iova: IOVA
  /// Which of the segments that the device sees holds it; buffers of one segment follow each other.
  package var segment: Int
}

extension GARTDriver {
  /// No merged segment is longer, unless the device's driver says so.
  static let largestSegmentByteCount: UInt64 = 65_536

  /// Maps a scatter list, all of it or nothing.
  ///
  /// Buffers that follow each other become one segment for the device where merging is on, all of
  /// them need the GART, they meet at page boundaries and the segment stays below 64 KiB. A list
  /// that finds no room with merging or `force` is tried again buffer by buffer, without either.
  ///
  /// - Parameter buffers: None is empty.
  package func map(
    list buffers: [Range<PhysicalAddress>], for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> [ListedBuffer] {
    defer { if needsFlush { flush() } }
    guard let window = active?.window, !buffers.isEmpty else {
      return try mapSingly(buffers, for: device, direction)
    }
    var mapped: [ListedBuffer] = []
    for (number, run) in runs(of: buffers, for: device).enumerated() {
      let first = buffers[run.lowerBound]
      guard needsGART(first, device) else {
        mapped.append(ListedBuffer(iova: IOVA(first.lowerBound.rawValue), segment: number))
        continue
      }
      guard let entry = allocate(Self.pageCount(buffers[run])) else {
        if needsFlush { flush() }
        unmap(mapped, of: buffers)
        let failure = fullWindow(UInt64(Self.pageCount(buffers[run])) * 4096, direction)
        guard options.isForced || options.mergesLists else { throw failure }
        do {
          return try mapSingly(buffers, for: device, direction)
        } catch {
          // The buffer that found no room speaks first, then the segment that did not.
          if case .panic = error { throw error }
          throw failure
        }
      }
      store(buffers[run], from: entry)
      var iova = window.lowerBound + UInt64(entry) * 4096 + first.lowerBound.offsetInPage
      for buffer in buffers[run] {
        mapped.append(ListedBuffer(iova: IOVA(iova), segment: number))
        iova += buffer.byteCount
      }
    }
    return mapped
  }

  private func needsGART(_ buffer: Range<PhysicalAddress>, _ device: Device) -> Bool {
    options.isForced || rule.needsHelp(buffer, mask: device.dmaMask)
  }

  /// The list cut into segments.
  private func runs(of buffers: [Range<PhysicalAddress>], for device: Device) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    var start = 0
    var byteCount: UInt64 = 0
    for (index, buffer) in buffers.enumerated() {
      let goesOn =
        index > start && options.mergesLists && needsGART(buffer, device)
        && needsGART(buffers[index - 1], device) && buffer.lowerBound.offsetInPage == 0
        && buffers[index - 1].upperBound.offsetInPage == 0
        && byteCount + buffer.byteCount <= Self.largestSegmentByteCount
      if index > start, !goesOn {
        runs.append(start..<index)
        start = index
        byteCount = 0
      }
      byteCount += buffer.byteCount
    }
    runs.append(start..<buffers.count)
    return runs
  }

  /// Each buffer by itself, and through the GART only what the device does not reach.
  private func mapSingly(
    _ buffers: [Range<PhysicalAddress>], for device: Device, _ direction: DMADirection
  ) throws(MappingFailure) -> [ListedBuffer] {
    var mapped: [ListedBuffer] = []
    for (number, buffer) in buffers.enumerated() {
      do {
        let iova = try address(for: buffer, device, direction, forcing: false)
        mapped.append(ListedBuffer(iova: iova, segment: number))
      } catch {
        unmap(mapped, of: buffers)
        throw error
      }
    }
    return mapped
  }

  private func unmap(_ mapped: [ListedBuffer], of buffers: [Range<PhysicalAddress>]) {
    for (listed, buffer) in zip(mapped, buffers) { unmap(listed.iova, byteCount: buffer.byteCount) }
  }
}
