import Testing

@testable import IOMMUImages

@Suite struct DMATraceStampTests {
  @Test(
    arguments: [
      (
        "     kworker/0:1-123     [000] d..1.   299.998750: map: IOMMU: iova=0x1000",
        DMATraceDialect.ftrace, "kworker/0:1-123", 299_998_750
      ),
      (
        "  my [x] task-7 [001] d.h1.   300.000002: unmap: IOMMU: x", .ftrace, "my [x] task-7",
        300_000_002
      ),
      (
        "        my dd  2312 [001] 12345.678901:   iommu:map: IOMMU: x", .ftrace, "my dd-2312",
        12_345_678_901
      ),
      (
        "  dd-2312  ( 2300) [001] ..... 12345.678901234: dma_free: x", .ftrace, "dd-2312",
        12_345_678_901
      ),
      (
        "236498@1676271757.075075:vtd_inv_desc_iotlb_pages domain 0x1", .qemu, nil,
        1_676_271_757_075_075
      ),
    ] as [(String, DMATraceDialect, String?, UInt64)])
  func `who and when stand before an event`(
    line: String, dialect: DMATraceDialect, task: String?, microseconds: UInt64
  ) throws {
    let stamp = try #require(DMATraceStamp(of: Array(line.utf8)[...], dialect))
    #expect(stamp.task == task)
    #expect(stamp.microseconds == microseconds)
  }

  @Test(arguments: [
    "", "[", "task-1 [000] d..1. 1.5: map:", "task-1 [000]", "1@",
    "1@99999999999999999999.000000:x",
    "task-1 [000] d..1. 300: map: x",
  ])
  func `a line without a time has none`(line: String) {
    for dialect in DMATraceDialect.allCases {
      #expect(DMATraceStamp(of: Array(line.utf8)[...], dialect) == nil)
    }
  }
}
