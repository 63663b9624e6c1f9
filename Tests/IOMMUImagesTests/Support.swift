import Glibc
import IOMMUFormats
@_exported import IOMMUTestSupport
import Testing

@testable import IOMMUImages

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
