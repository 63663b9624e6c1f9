import IOMMUFormats
import IOMMUImages
@_exported import IOMMUKernelTestSupport
@_exported import IOMMUTestSupport
import Testing

@testable import IOMMULinux

/// What a throwing read gives as an error; `nil` and an issue when it gives a value.
func readError<Value>(
  _ body: () throws(KernelReadError) -> Value, _ location: SourceLocation = #_sourceLocation
) -> KernelReadError? {
  do throws(KernelReadError) {
    let value = try body()
    Issue.record("read \(value)", sourceLocation: location)
    return nil
  } catch {
    return error
  }
}
