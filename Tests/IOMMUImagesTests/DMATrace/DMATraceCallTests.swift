import IOMMUFormats
import Testing

@testable import IOMMUImages

@Suite struct DMATraceCallTests {
  func read(_ line: String) -> DMATraceCall? { DMATraceCall(of: Array(line.utf8)[...], .ftrace) }

  @Test(arguments: [
    (
      "dd-1 [000] ..... 1.000000: dma_map_sg: 0000:02:00.0 dir=TO_DEVICE dma_addrs={0x1000,0x2000} "
        + "sizes={0x1000,0x1000} phys_addrs={0x7000,0x9000} attrs=",
      DMATraceCall.Kind.mapList, [0x7000, 0x9000] as [UInt64]?
    ),
    (
      "dd-1 [000] ..... 1.000000: dma_unmap_sg: 0000:02:00.0 dir=TO_DEVICE phys_addrs={0x7000,0x9000} attrs=",
      .unmapList, [0x7000, 0x9000]
    ),
    ("dma:dma_unmap_sg:  0000:02:00.0 dir=TO_DEVICE phys_addrs={0x7000,0x90", .unmapList, nil),
    ("dma:dma_unmap_sg:  0000:02:00.0 dir=TO_DEVICE attrs=", .unmapList, nil),
    (
      "dma_sync_single_for_device: 0000:02:00.0 dir=TO_DEVICE dma_addr=1000 size=64 attrs=", .sync,
      nil
    ),
    ("dma_sync_single_for_device: device=0000:02:00.0 dma_addr=4096 size=64 dir=1", .sync, nil),
    (
      "dma_map_phys: 0000:02:00.0 dir=TO_DEVICE dma_addr=1000 size=64 phys_addr=7000 attrs=",
      .other, nil
    ),
  ])
  func `a call says of which list it is`(
    line: String, kind: DMATraceCall.Kind, memory: [UInt64]?
  ) throws {
    let call = try #require(read(line))
    #expect(call.kind == kind)
    #expect(call.physicalAddresses == memory)
    #expect(call.deviceName == "0000:02:00.0")
    #expect(call.device == PCI.Function(Requester("02:00.0")!))
    #expect(!call.isCut)
  }

  @Test func `a list that the kernel has cut is one`() throws {
    let call = try #require(
      read(
        "dma_map_sg: 0000:01:00.0 dir=TO_DEVICE nents=128/200 ents=1/200 [TRUNCATED] dma_addrs={0x1000} "
          + "sizes={0x1000} phys_addrs={0x1} attrs="))
    #expect(call.isCut)
    #expect(call.physicalAddresses == [1])
  }

  @Test(arguments: ["1e784000.usb", "0000:02:00.0x", "virtio0", "02", "0x18"])
  func `a device that is not on PCI has its name alone`(name: String) throws {
    let call = try #require(read("dma_unmap_sg: \(name) dir=TO_DEVICE phys_addrs={0x1} attrs="))
    #expect(call.deviceName == name)
    #expect(call.device == nil)
  }

  @Test(arguments: [
    "iommu:map: IOMMU: iova=0x1000 - 0x2000 paddr=0x7000 size=4096", "dma_unmap_sg: ",
    "dma_unmap_sg:",
    "dma_unmap_sg: phys_addrs={0x1}", "", "nothing", "02:00.0,1000,4,r",
  ])
  func `other lines are no calls`(line: String) {
    #expect(read(line) == nil)
  }
}
