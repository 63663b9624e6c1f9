import Glibc
import Harness

/// The target that the environment names; libFuzzer calls this before anything else.
nonisolated(unsafe) private var target = FuzzTarget.elf

@_cdecl("LLVMFuzzerInitialize")
public func initialize(
  _: UnsafeMutablePointer<Int32>,
  _: UnsafeMutablePointer<UnsafeMutablePointer<UnsafePointer<CChar>>>
) -> Int32 {
  let name = getenv("IOMMU_FUZZ_TARGET").map { String(cString: $0) } ?? ""
  guard let named = FuzzTarget(rawValue: name) else {
    fatalError("IOMMU_FUZZ_TARGET is one of \(FuzzTarget.allCases.map(\.rawValue))")
  }
  target = named
  return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func test(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  target.run(UnsafeRawBufferPointer(start: bytes, count: count))
  return 0
}
