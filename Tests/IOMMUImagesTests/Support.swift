import Glibc
import IOMMUFormats
@_exported import IOMMUTestSupport
import Testing

@testable import IOMMUImages

/// An ELF core, byte by byte; it knows nothing of the writer that it helps to test.
struct TinyELF {
  struct Load {
    var physical: UInt64
    var data: [UInt8] = []
    var memorySize: UInt64?
    var fileSize: UInt64?
    var offset: UInt64?
    var type: UInt32 = 1
  }

  var loads: [Load] = []
  var type: UInt16 = 4
  var headerSize: UInt16 = 56
  var isExtended = false

  init(_ loads: [Load] = []) { self.loads = loads }

  static func little(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }

  var bytes: [UInt8] {
    let tableEnd = 64 + 56 * loads.count
    var bytes: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    bytes += Self.little(UInt64(type), 2) + [62, 0] + [1, 0, 0, 0]
    bytes += Self.little(0, 8)
    bytes += Self.little(64, 8)
    bytes += Self.little(isExtended ? UInt64(tableEnd) : 0, 8)
    bytes += [0, 0, 0, 0] + [64, 0] + Self.little(UInt64(headerSize), 2)
    bytes += isExtended ? [0xff, 0xff] : Self.little(UInt64(loads.count), 2)
    bytes += isExtended ? [64, 0, 1, 0, 0, 0] : [0, 0, 0, 0, 0, 0]
    var offset = UInt64(tableEnd + (isExtended ? 64 : 0))
    for load in loads {
      let count = UInt64(load.data.count)
      bytes += Self.little(UInt64(load.type), 4) + [7, 0, 0, 0]
      bytes += Self.little(load.offset ?? offset, 8)
      bytes += Self.little(0xffff_8880_0000_0000 &+ load.physical, 8)
      bytes += Self.little(load.physical, 8)
      bytes += Self.little(load.fileSize ?? count, 8)
      bytes += Self.little(load.memorySize ?? count, 8)
      bytes += Self.little(0, 8)
      offset += count
    }
    if isExtended {
      var section = [UInt8](repeating: 0, count: 64)
      section.replaceSubrange(44..<48, with: Self.little(UInt64(loads.count), 4))
      bytes += section
    }
    for load in loads { bytes += load.data }
    return bytes
  }
}

extension Range where Bound == PhysicalAddress {
  static func physical(_ range: Range<UInt64>) -> Self {
    PhysicalAddress(range.lowerBound)..<PhysicalAddress(range.upperBound)
  }
}

/// The error that opening gives; `nil` and an issue when it gives none.
func openingError(_ path: String) -> ImageError? {
  do throws(ImageError) {
    _ = try MemoryImage(path: path)
    Issue.record("\(path) was opened")
    return nil
  } catch {
    return error
  }
}
