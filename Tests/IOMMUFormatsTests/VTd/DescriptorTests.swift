import IOMMUFormats
import Testing

/// Descriptors of the invalidation queue as bytes: V28 to V49.
@Suite struct DescriptorTests {
  struct Vector: Sendable, CustomTestStringConvertible {
    var id: String
    var bytes: String
    var type: VTd.DescriptorType
    var descriptor: [UInt8]
    var testDescription: String { id }

    init(_ id: String, _ descriptor: some InvalidationDescriptor, _ bytes: String) {
      self.id = id
      self.bytes = bytes
      type = Swift.type(of: descriptor).type
      self.descriptor = descriptor.bytes
    }
  }

  static let nic = Requester("03:00.0")!

  static let vectors = [
    Vector("V28", VTd.ContextCacheDescriptor(.global), "1100000000000000 0000000000000000"),
    Vector(
      "V29", VTd.ContextCacheDescriptor(.domain, domainID: 5),
      "2100050000000000 0000000000000000"),
    Vector(
      "V30",
      VTd.ContextCacheDescriptor(
        .selective, domainID: 5, requester: Requester(rawValue: 0x20), functionMask: .all),
      "3100050020000300 0000000000000000"),
    Vector(
      "V31", VTd.IOTLBDescriptor(.global, drainsReads: true, drainsWrites: true),
      "d200000000000000 0000000000000000"),
    Vector(
      "V32", VTd.IOTLBDescriptor(.domain, domainID: 0x1234),
      "2200341200000000 0000000000000000"),
    Vector(
      "V33",
      VTd.IOTLBDescriptor(.selective, domainID: 5, address: IOVA(0x1234_5000), hint: true),
      "3200050000000000 4050341200000000"),
    Vector(
      "V34",
      VTd.IOTLBDescriptor(
        .selective, domainID: 5, address: IOVA(0x4000_0000), addressMask: 18),
      "3200050000000000 1200004000000000"),
    Vector(
      "V35",
      VTd.DeviceTLBDescriptor(
        requester: nic, address: IOVA(0x7fff_ffff_ffff_f000), isRange: true,
        physicalFunction: nic),
      "0300000000030003 01f0ffffffffff7f"),
    Vector("V36", VTd.InterruptEntryDescriptor.global, "0400000000000000 0000000000000000"),
    Vector(
      "V37", VTd.InterruptEntryDescriptor(index: 7, indexMask: 2),
      "1400001007000000 0000000000000000"),
    Vector(
      "V38",
      VTd.WaitDescriptor(status: (PhysicalAddress(0x30_0000), 0xdead_beef), isFence: true),
      "65000000efbeadde 0000300000000000"),
    Vector("V39", VTd.WaitDescriptor(interrupts: true), "1500000000000000 0000000000000000"),
    Vector("V40", VTd.WaitDescriptor(isFence: true), "4500000000000000 0000000000000000"),
    Vector(
      "V41",
      VTd.WaitDescriptor(status: (PhysicalAddress(0x30_0000), 1), drainsPageRequests: true),
      "a500000001000000 0000300000000000"),
    Vector(
      "V42", VTd.PASIDCacheDescriptor(.pasid, domainID: 1, pasid: 0x12345),
      "1700010045230100 0000000000000000"),
    Vector("V43", VTd.PASIDCacheDescriptor(.global), "3700000000000000 0000000000000000"),
    Vector(
      "V44", VTd.PASIDIOTLBDescriptor(.pasid, domainID: 1, pasid: 5),
      "2600010005000000 0000000000000000"),
    Vector(
      "V45",
      VTd.PASIDIOTLBDescriptor(
        .page, domainID: 1, pasid: 5, address: IOVA(0x7fff_ffff_e000), addressMask: 1),
      "3600010005000000 01e0ffffff7f0000"),
    Vector(
      "V46",
      VTd.PASIDDeviceTLBDescriptor(
        requester: nic, pasid: 5, address: IOVA(0x1000), isRange: false,
        maximumInvalidationsPending: 4),
      "4800000305000000 0010000000000000"),
    Vector(
      "V47",
      VTd.PageGroupResponseDescriptor(
        requester: nic, pasid: 5, groupIndex: 0x155, code: .invalidRequest),
      "1910000305000000 a80a000000000000"),
    Vector("V48", VTd.HostPermissionsDescriptor(.global), "1a00000000000000 0000000000000000"),
  ]

  @Test(arguments: vectors)
  func `a descriptor is these sixteen bytes, and says its type`(vector: Vector) {
    #expect(vector.descriptor == hexdump(vector.bytes))
    let low = hexdump(vector.bytes).prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    #expect(VTd.DescriptorType(descriptor: low) == vector.type)
    #expect(vector.type.format.type == vector.type)
  }

  @Test func `a descriptor's fields read back`() throws {
    let context = try entry(
      VTd.ContextCacheDescriptor.self, from: hexdump("3100050020000300 0000000000000000"))
    #expect(context.granularity == .selective && context.domainID == 5)
    #expect(context.requester.rawValue == 0x20 && context.functionMask.ignoredBits == 7)
    let page = try entry(
      VTd.PASIDIOTLBDescriptor.self, from: hexdump("3600010005000000 01e0ffffff7f0000"))
    #expect(page.granularity == .page && page.pasid == 5 && page.domainID == 1)
    #expect(page.address == IOVA(0x7fff_ffff_e000) && page.addressMask == 1 && !page.hint)
    let wait = try entry(
      VTd.WaitDescriptor.self, from: hexdump("65000000efbeadde 0000300000000000"))
    #expect(wait.storesStatus && wait.isFence && !wait.interrupts)
    #expect(wait.statusAddress == PhysicalAddress(0x30_0000) && wait.statusData == 0xdead_beef)
    let group = try entry(
      VTd.PageGroupResponseDescriptor.self, from: hexdump("1910000305000000 a80a000000000000"))
    #expect(group.requester == Self.nic && group.pasid == 5 && group.groupIndex == 0x155)
    #expect(group.code == .invalidRequest)
    let index = try entry(
      VTd.InterruptEntryDescriptor.self, from: hexdump("1400001007000000 0000000000000000"))
    #expect(index.indices == 4..<8)
  }

  @Test func `V49: a page request is these bytes`() throws {
    let request = VTd.PageRequestDescriptor(
      requester: Self.nic, pasid: 5, address: IOVA(0x7f00_0000_1000), reads: true, writes: true,
      isLastInGroup: true, groupIndex: 0x155, isPrivileged: true)
    #expect(request.bytes == hexdump("0101000305002000 af1a0000007f0000"))
    #expect(request.pasid == 5 && request.groupIndex == 0x155 && request.isLastInGroup)
    #expect(request.address == IOVA(0x7f00_0000_1000) && request.isPrivileged)
  }

  @Test(arguments: [0, 11, 12, 15, 0x10, 0x11, 0x15, 0x71])
  func `a type that the manual does not list is none`(type: UInt64) {
    #expect(VTd.DescriptorType(descriptor: (type / 16) << 9 | type & 15) == nil)
  }

  @Test func `optional fields are reserved where the capability is missing`() throws {
    let none = VTd.DescriptorRules(hasInvalidationThrottle: false, hasPageRequestDrain: false)
    let all = VTd.DescriptorRules(hasInvalidationThrottle: true, hasPageRequestDrain: true)
    let drain = VTd.WaitDescriptor(drainsPageRequests: true)
    #expect(drain.reservedViolations(none).map(\.bits) == [7...7])
    #expect(drain.reservedViolations(all).isEmpty)
    let throttled = VTd.DeviceTLBDescriptor(
      requester: Self.nic, address: IOVA(0), isRange: false, physicalFunction: Requester("ff:1f.7"))
    #expect(throttled.reservedViolations(none).map(\.bits) == [12...15, 52...63])
    #expect(throttled.reservedViolations(all).isEmpty)
  }

  @Test func `a device's range is coded by its lowest clear bit`() {
    #expect(range(0x1234_5000, false) == (0x1234_5000, 12))
    #expect(range(0x1234_4000, true) == (0x1234_4000, 13))
    #expect(range(0x1234_5000, true) == (0x1234_4000, 14))
    #expect(range(0x1234_7000, true) == (0x1234_0000, 16))
    #expect(range(0x7fff_ffff_ffff_f000, true) == (0, 64))
    #expect(range(0xffff_ffff_ffff_f000, true) == (0, 64))
  }

  func range(_ address: UInt64, _ isRange: Bool) -> (UInt64, Int) {
    let range = VTd.DeviceTLBRange(pageNumber: address >> 12, isRange: isRange)
    return (range.address.rawValue, range.sizeLog2)
  }

  @Test func `a range overlaps the pages that have a byte in it`() {
    let range = VTd.DeviceTLBRange(pageNumber: 0x1_2345, isRange: true)  // 0x12344000, 16 KiB
    #expect(range.overlaps(IOVA(0x1234_7000), sizeLog2: 12))
    #expect(!range.overlaps(IOVA(0x1234_8000), sizeLog2: 12))
    #expect(range.overlaps(IOVA(0x1220_0000), sizeLog2: 21))
    #expect(VTd.DeviceTLBRange(pageNumber: ~0 >> 12, isRange: true).overlaps(IOVA(0), sizeLog2: 12))
  }
}
