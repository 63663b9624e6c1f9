import FuzzHarness
import Glibc

/// The target that the environment names; libFuzzer calls this before anything else.
nonisolated(unsafe) private var target = FuzzTarget.elf

/// Without a name: the names of all targets, a line each, and nothing else.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(
  _: UnsafeMutablePointer<Int32>,
  _: UnsafeMutablePointer<UnsafeMutablePointer<UnsafePointer<CChar>>>
) -> Int32 {
  guard let name = getenv("IOMMU_FUZZ_TARGET").map({ String(cString: $0) }) else {
    for target in FuzzTarget.allCases { print(target.rawValue) }
    exit(0)
  }
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
