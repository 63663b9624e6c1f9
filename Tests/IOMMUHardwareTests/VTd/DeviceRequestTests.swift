import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// Page requests and translation requests: what devices with TLBs of their own send.
@Suite struct DeviceRequestTests {
  func requests() throws -> Bench {
    let bench = try Bench.scalable()
    bench.write(0x50_0000, Offset.pqa, 8)
    bench.write(0, Offset.pectl)
    return bench
  }

  static let request = PageRequest(
    Bench.nic, pasid: PASID(5), address: IOVA(0x7f00_0000_1abc), reads: true, writes: true,
    isPrivileged: true, isLastInGroup: true, groupIndex: 0x155)

  @Test func `V49: a page request lands in the queue`() throws {
    let bench = try requests()
    for place in stride(from: UInt64(0x50_0000), to: 0x50_0020, by: 8) { bench.store(~0, place) }
    #expect(bench.port.submitPageRequest(Self.request) == .queued)
    #expect(
      bench.memory.bytes(at: PhysicalAddress(0x50_0000), count: 32)
        == hexdump(
          "0101200005002000 af1a0000007f0000 0000000000000000 0000000000000000"))
    #expect(bench.read(Offset.pqt, 8) == 0x20 && bench.read(Offset.prs) == 1)
    #expect(bench.messages.with { $0.count } == 1)
    #expect(bench.port.submitPageRequest(Self.request) == .queued)
    #expect(bench.messages.with { $0.count } == 1)
    bench.write(1, Offset.prs)
    #expect(bench.port.submitPageRequest(Self.request) == .queued)
    #expect(bench.messages.with { $0.count } == 2)
  }

  @Test func `a full queue drops requests and says so`() throws {
    let bench = try requests()
    for _ in 0..<127 { #expect(bench.port.submitPageRequest(Self.request) == .queued) }
    let success = PageGroupResponse(pasid: 5, groupIndex: 0x155, code: .success)
    #expect(bench.port.submitPageRequest(Self.request) == .dropped(success))
    #expect(bench.read(Offset.prs) == 3 && bench.read(Offset.pqt, 8) == 127 * 32)
    // Software makes room, but PRO is still set.
    bench.write(0x20, Offset.pqh, 8)
    #expect(bench.port.submitPageRequest(Self.request) == .dropped(success))
    var silent = Self.request
    silent.isLastInGroup = false
    #expect(bench.port.submitPageRequest(silent) == .dropped(nil))
    bench.write(2, Offset.prs)
    #expect(bench.port.submitPageRequest(Self.request) == .queued)
    #expect(bench.read(Offset.pqt, 8) == 0)
  }

  @Test func `V53: a page request that the tables refuse is a fault`() throws {
    let bench = try requests()
    bench.store(0x12_000d, 0x10_1400)
    let invalid = PageGroupResponse(pasid: 5, groupIndex: 0x155, code: .invalidRequest)
    #expect(bench.port.submitPageRequest(Self.request) == .dropped(invalid))
    // T2, PRIV, PP, 47h, PASID 5.
    #expect(bench.record.1 == 0x8000_0547_b000_0020)
    #expect(bench.read(Offset.pqt, 8) == 0)
    bench.clearFaults()
    bench.write(0x10_0000, Offset.rtaddr, 8)
    bench.command(30)
    #expect(bench.port.submitPageRequest(Self.request) == .dropped(invalid))
    #expect(bench.record.1 >> 32 & 0xff == 0x32)
  }

  @Test func `a unit that is off, or has no page requests, answers invalid`() throws {
    let bench = try requests()
    bench.command(31, false)
    let invalid = PageGroupResponse(pasid: 5, groupIndex: 0x155, code: .invalidRequest)
    #expect(bench.port.submitPageRequest(Self.request) == .dropped(invalid))
    #expect(try Bench.legacy().port.submitPageRequest(Self.request) == .dropped(invalid))
    #expect(bench.read(Offset.fsts) == 0)
  }

  @Test func `a page request makes the unit forget the page first`() throws {
    for (pgtt, leaf, entry) in [
      (1, 0x13_4000, 0x21_0007), (2, 0x11_4000, 0x21_0003), (3, 0x13_4000, 0x21_0007),
    ] as [(UInt64, UInt64, UInt64)] {
      let bench = try Bench.scalable(.everything, pgtt: pgtt)
      bench.write(0x50_0000, Offset.pqa, 8)
      #expect(bench.translate(pasid: 5).address == 0x20_0678)
      bench.store(entry, leaf + 325 * 8)
      var request = Self.request
      request.address = IOVA(Bench.iova)
      #expect(bench.port.submitPageRequest(request) == .queued)
      #expect(bench.translate(pasid: 5).address == 0x21_0678)
    }
  }

  @Test func `a queue where no memory answers loses requests`() throws {
    let bench = try requests()
    bench.write(0x7000_0000, Offset.pqa, 8)
    #expect(bench.port.submitPageRequest(Self.request) == .queued)
    #expect(bench.read(Offset.pqt, 8) == 0x20)
  }

  @Test func `V47: software's answer reaches the device`() throws {
    let bench = try requests()
    let device = Device()
    bench.unit.attach(device, to: Requester("03:00.0")!)
    bench.queue([0x5_0300_1019, 0xaa8])
    #expect(
      device.responses.with { $0 } == [
        PageGroupResponse(pasid: 5, groupIndex: 0x155, code: .invalidRequest)
      ])
  }

  // MARK: Translation requests

  @Test func `a translation request is answered with the page`() throws {
    let bench = try Bench.scalable()
    bench.store(0x20_0001, 0x11_4000 + 325 * 8)
    let request = VTd.Request(
      Bench.nic, IOVA(Bench.iova), kind: .translation(noWrite: false), pasid: PASID(5))
    #expect(
      bench.port.completeTranslationRequest(request)
        == .success(
          DeviceTranslation(
            page: PhysicalAddress(0x20_0000), sizeLog2: 12, permissions: .read)))
  }

  @Test func `what a device is told in a success is not recorded, an abort is`() throws {
    let bench = try Bench.scalable()
    let request = VTd.Request(Bench.nic, IOVA(0), kind: .translation(noWrite: false))
    #expect(
      bench.port.completeTranslationRequest(request)
        == .success(
          DeviceTranslation(page: PhysicalAddress(0), sizeLog2: 12, permissions: [])))
    #expect(bench.read(Offset.fsts) == 0)
    bench.store(0x7000_0003, 0x11_2000)
    guard case .failure(let fault, .completerAbort) = bench.port.completeTranslationRequest(request)
    else {
      Issue.record("no abort")
      return
    }
    #expect(fault.reason == .secondStageTableUnreadable)
    // AT says what kind of request it was.
    #expect(bench.record.1 == 0xd000_0078_0000_0020)
  }

  @Test func `translated requests pass, and fault as such`() throws {
    let bench = try Bench.scalable()
    var request = VTd.Request(Bench.nic, IOVA(0x1234_5000), .write, kind: .translated)
    #expect(bench.port.translate(request).address == 0x1234_5000)
    request.address = 1 << 52
    #expect(bench.port.translate(request).reason == 0x83)
    bench.clearFaults()
    bench.store(0x12_0009, 0x10_1400)
    request.address = 0x1234_5000
    #expect(bench.port.translate(request).reason == 0x44)
    #expect(bench.record.1 == 0xa000_0044_0000_0020)
  }
}
