import IOMMUFormats
import Testing

/// Vectors of interrupt remapping: entries, requests, I/O APIC entries.
@Suite struct InterruptFormatTests {
  typealias Entry = VTd.InterruptRemappingEntry

  static let entries: [(Entry, String)] = [
    // xAPIC: vector 31h to APIC id 2, from 00:1f.2.
    (
      Entry(vector: 0x31, destination: 2, usesExtendedMode: false)
        .admitting(Requester(rawValue: 0x00fa)), "0100310000020000 fa00040000000000"
    ),
    // x2APIC: logical, hint, level, lowest priority, from buses 5 to 7.
    (
      Entry(
        vector: 0xec, destination: 0x0001_0203, usesExtendedMode: true,
        deliveryMode: .lowestPriority, isLogical: true, isLevelTriggered: true,
        hasRedirectionHint: true
      ).admitting(buses: 5...7), "3d00ec0003020100 0705080000000000"
    ),
    // Posted, urgent.
    (
      Entry(postingIn: PhysicalAddress(0x1_2345_6780), vector: 0x55, isUrgent: true)
        .admitting(Requester(rawValue: 0x0018)), "01c0550080674523 1800040001000000"
    ),
  ]

  @Test(arguments: entries)
  func `an entry is these sixteen bytes`(entry: Entry, bytes: String) throws {
    #expect(try stored(entry) == hexdump(bytes))
    #expect(entry.isPresent)
    #expect(!entry.suppressesFaultReports)
    #expect(
      entry.reservedViolations(
        Entry.Variant(
          isPosted: entry.isPosted, usesExtendedMode: entry.isLogical, canPost: entry.isPosted)
      ).isEmpty)
  }

  @Test func `a remapped entry says where an interrupt goes`() throws {
    let entry = try entry(Entry.self, from: hexdump("3d00ec0003020100 0705080000000000"))
    #expect(entry.vector == 0xec)
    #expect(entry.isLogical && entry.hasRedirectionHint && entry.isLevelTriggered)
    #expect(entry.deliveryMode == .lowestPriority)
    #expect(entry.destination(usesExtendedMode: true) == 0x0001_0203)
    #expect(entry.destination(usesExtendedMode: false) == 0x02)
    #expect(entry.sourceValidation == .busRange)
    #expect(!entry.isPosted)
  }

  @Test func `a posted entry says where the descriptor lies`() throws {
    let entry = try entry(Entry.self, from: hexdump("01c0550080674523 1800040001000000"))
    #expect(entry.isPosted && entry.isUrgent)
    #expect(entry.vector == 0x55)
    #expect(entry.postedDescriptor == PhysicalAddress(0x1_2345_6780))
    #expect(entry.sourceValidation == .requester)
  }

  @Test func `delivery modes 3 and 6 are not defined`() {
    let modes = (0..<8).map { Entry(low: UInt64($0) << 5).deliveryMode }
    #expect(
      modes == [
        .fixed, .lowestPriority, .systemManagement, nil, .nonMaskable, .initialize, nil, .external,
      ])
  }

  @Test func `SQ takes function bits out of the comparison`() {
    let entry = Entry(vector: 0x31, destination: 0, usesExtendedMode: false)
    // From 3a:1f.5; each value of SQ admits twice as many functions.
    let functions: [[UInt8]] = [[5], [1, 5], [1, 3, 5, 7], [0, 1, 2, 3, 4, 5, 6, 7]]
    for (sq, admitted) in functions.enumerated() {
      let entry = entry.admitting(Requester("3a:1f.5")!, ignoredFunctionBits: sq)
      let found = (0..<8).filter {
        entry.admits(Requester(bus: 0x3a, device: 0x1f, function: $0))
      }
      #expect(found == admitted.map { $0 })
      #expect(!entry.admits(Requester("3a:1e.5")!))
      #expect(!entry.admits(Requester("3b:1f.5")!))
    }
  }

  @Test func `a bus range holds both of its ends`() {
    let entry = Entry(vector: 1, destination: 0, usesExtendedMode: false).admitting(buses: 5...7)
    let admitted = (UInt8.min...UInt8.max).filter {
      entry.admits(Requester(bus: $0, device: 31, function: 7))
    }
    #expect(admitted == [5, 6, 7])
    // A range from 7 to 5 holds none.
    let reversed = Entry(low: 1, high: 0x0008_0705)
    #expect(reversed.sourceValidation == .busRange)
    #expect(
      !(UInt8.min...UInt8.max).contains {
        reversed.admits(Requester(bus: $0, device: 0, function: 0))
      })
  }

  @Test func `without validation all are admitted, with the reserved one none`() {
    #expect(Entry(low: 1).admits(Requester("ff:1f.7")!))
    #expect(!Entry(low: 1, high: 0xc_0000).admits(Requester("00:00.0")!))
  }

  // MARK: Requests

  static let requests: [(address: UInt32, data: UInt32, handle: UInt16, shv: Bool, index: Int)] = [
    (0xfee0_0018, 0x0, 0x0, true, 0x0),
    (0xfee0_02f8, 0x3, 0x17, true, 0x1a),
    (0xfeef_fffc, 0x0, 0xffff, true, 0xffff),
    (0xfeef_fffc, 0x1, 0xffff, true, 0x1_0000),
    (0xfee0_0010, 0x1234, 0x0, false, 0x0),
  ]

  @Test(arguments: requests)
  func `a request names an entry`(
    address: UInt32, data: UInt32, handle: UInt16, shv: Bool, index: Int
  ) {
    let request = VTd.InterruptRequest(
      address: VTd.InterruptAddress(rawValue: address), data: VTd.InterruptData(rawValue: data))
    #expect(request.address.format == .remappable)
    #expect(request.address.handle == handle)
    #expect(request.address.addsSubhandle == shv)
    #expect(request.index == index)
    #expect(!request.isReserved)
    #expect(VTd.InterruptAddress(handle: handle, addsSubhandle: shv).rawValue == address)
  }

  @Test func `data above a subhandle is reserved, and ignored without one`() {
    let data = VTd.InterruptData(rawValue: 0x1_0000)
    let with = VTd.InterruptRequest(
      address: VTd.InterruptAddress(rawValue: 0xfee0_0018), data: data)
    let without = VTd.InterruptRequest(
      address: VTd.InterruptAddress(rawValue: 0xfee0_0010), data: data)
    #expect(with.isReserved)
    #expect(!without.isReserved)
    #expect(with.index == 0)
  }

  @Test func `a request in compatibility format names a processor`() {
    let request = VTd.InterruptRequest(
      address: VTd.InterruptAddress(rawValue: 0xfee0_1000),
      data: VTd.InterruptData(rawValue: 0x4041))
    #expect(request.address.format == .compatibility)
    #expect(request.index == nil)
    #expect(request.address.destination == 1)
    #expect(request.data.vector == 0x41)
    #expect(!request.isReserved)
    #expect(VTd.InterruptAddress(destination: 1).rawValue == 0xfee0_1000)
    #expect(
      VTd.InterruptAddress(destination: 0xff, isLogical: true, hasRedirectionHint: true).rawValue
        == 0xfeef_f00c)
    #expect(VTd.InterruptData(vector: 0x41).rawValue == 0x41)
    #expect(
      VTd.InterruptData(vector: 0x41, deliveryMode: .lowestPriority, isLevelTriggered: true)
        .rawValue == 0xc141)
  }

  @Test func `an MSI for an index is the address and data that drivers write`() {
    let request = VTd.InterruptRequest(index: 0x17, subhandle: 3)
    #expect(request.address.rawValue == 0xfee0_02f8)
    #expect(request.data.rawValue == 3)
    #expect(VTd.InterruptRequest(index: 0x8001).address.rawValue == 0xfee0_0034)
  }

  // MARK: I/O APIC

  @Test func `a redirection entry has its index in two places`() {
    let low = VTd.RedirectionEntry(index: 5, vector: 0x30)
    #expect(low.rawValue == 0x000b_0000_0000_0030)
    #expect(low.index == 5)
    let high = VTd.RedirectionEntry(index: 0x8001, vector: 0x41, isLevelTriggered: true)
    #expect(high.rawValue == 0x0003_0000_0000_8841)
    #expect(high.index == 0x8001)
    #expect(high.format == .remappable)
    #expect(high.isLevelTriggered)
    #expect(high.vector == 0x41)
    #expect(high.reservedViolations(.remappable).isEmpty)
  }

  @Test func `a pin sends a request without subhandle`() {
    let request = VTd.RedirectionEntry(index: 0x8001, vector: 0x41).request
    #expect(request?.address.rawValue == 0xfee0_0034)
    #expect(request?.index == 0x8001)
    #expect(VTd.RedirectionEntry(rawValue: 0x000b_0000_0001_0030).request == nil, "masked")
  }

  @Test func `a pin in compatibility format sends vector and destination`() {
    // Destination 3, logical, level, lowest priority, vector 59h.
    let request = VTd.RedirectionEntry(rawValue: 0x0300_0000_0000_8959).request
    #expect(request?.address.rawValue == 0xfee0_3004)
    #expect(request?.data.rawValue == 0xc159)
  }

  // MARK: Posted descriptors

  @Test func `a posted descriptor is these bytes`() {
    var descriptor = VTd.PostedInterruptDescriptor(
      notificationVector: 0xf2, destination: 0x0102_0304, isSuppressed: true)
    descriptor.quadwords[1] = 1 << 21
    #expect(
      descriptor.bytes
        == hexdump(
          """
          0000000000000000 0000200000000000 0000000000000000 0000000000000000
          0200f20004030201 0000000000000000 0000000000000000 0000000000000000
          """.filter { !$0.isWhitespace }))
    #expect(descriptor.isWaiting(0x55))
    #expect(!descriptor.isWaiting(0x54))
    #expect(descriptor.isSuppressed && !descriptor.isOutstanding)
    #expect(descriptor.notificationVector == 0xf2)
    #expect(descriptor.destination == 0x0102_0304)
    #expect(descriptor.reservedViolations.isEmpty)
  }

  @Test func `a processor is told once, and not at all while it asks not to be`() {
    let told = VTd.PostedInterruptDescriptor.notified
    #expect(told(0x0102_0304_00f2_0000, false) == 0x0102_0304_00f2_0001)
    #expect(told(0x0102_0304_00f2_0001, false) == nil)
    #expect(told(0x0102_0304_00f2_0001, true) == nil)
    #expect(told(0x0102_0304_00f2_0002, false) == nil)
    #expect(told(0x0102_0304_00f2_0002, true) == 0x0102_0304_00f2_0003)
  }
}
