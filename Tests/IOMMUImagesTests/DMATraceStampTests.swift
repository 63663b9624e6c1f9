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

  /// Name, time and clock by what wrote the line.
  @Test(
    arguments: [
      ("      dd-2312      1d..1. 12345690us+: ", "dd-2312", 12_345_690, true),
      ("      dd-2312      1d..1. 12345678us : ", "dd-2312", 12_345_678, true),
      ("   my dd-2312    128dNh1.    4us!: ", "my dd-2312", 4, true),
      (
        "[   12.345680][ T2312]       dd-2312      1d..1. 12345690us+: ", "dd-2312", 12_345_690,
        true
      ),
      ("[   12.345680]       dd-2312      1d..1.   90us : ", "dd-2312", 90, true),
      (
        "           my dd    2312   1 1 00000001 [00005c3a] 47.123ms (+0.012ms): ", "my dd-2312",
        47_123, true
      ),
      ("      dd-2312      1d..1. 12345.678901: ", "dd-2312", 12_345_678_901, false),
      ("[   12.345678] ", nil, 12_345_678, false),
      ("[12345.678901][ T2312] ", nil, 12_345_678_901, false),
      ("Nov  2 10:00:00 host kernel: [   12.345678] ", nil, 12_345_678, false),
      (" 1)    dd-2312    |               |  /* ", "dd-2312", nil, false),
      (" 12345.678901 |   1)               |  /* ", nil, 12_345_678_901, false),
      (
        " 12345.678901 |   1)    dd-2312    |  d..1. |               |  /* ", "dd-2312",
        12_345_678_901, false
      ),
      ("              dd  2312        iommu:", "dd-2312", nil, false),
      ("           my dd  2312/2313 [001]        iommu:", "my dd-2313", nil, false),
      (
        "              dd  2312 [001] 12345.678901:          1                  iommu:", "dd-2312",
        12_345_678_901, false
      ),
      ("dd-2312 [001] ..... 300: ", "dd-2312", nil, false),
    ] as [(String, String?, UInt64?, Bool)])
  func `who and when stand before an event of Linux in all its forms`(
    head: String, task: String?, microseconds: UInt64?, isSinceTraceBegan: Bool
  ) throws {
    let line = head + "map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096"
    let stamp = try #require(DMATraceStamp(of: Array(line.utf8)[...], .ftrace))
    #expect(stamp.task == task)
    #expect(stamp.microseconds == microseconds)
    #expect(stamp.isSinceTraceBegan == isSinceTraceBegan)
  }

  @Test(arguments: [
    "", "[", "task-1 [000] d..1. 1.5: map:", "task-1 [000]", "1@",
    "1@99999999999999999999.000000:x",
    "task-1 [000] d..1. 300: map: x", "map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096",
    " 1)               |  /* map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096 */",
  ])
  func `a line without a time has none`(line: String) {
    for dialect in DMATraceDialect.allCases {
      #expect(DMATraceStamp(of: Array(line.utf8)[...], dialect) == nil)
    }
  }
}
