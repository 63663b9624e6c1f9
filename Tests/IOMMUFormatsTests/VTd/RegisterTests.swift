import IOMMUFormats
import Testing

/// The register values of the manual's chapters, G1 to G22, as software writes and reads them.
@Suite struct RegisterTests {
  typealias V = VTd

  @Test func `G1 to G3: a root table address says where and in which mode`() {
    let table = PhysicalAddress(0x10_0000)
    #expect(V.RootTableAddress(rootTable: table).rawValue == 0x0000_0000_0010_0000)
    #expect(
      V.RootTableAddress(rootTable: table, mode: .scalable).rawValue == 0x0000_0000_0010_0400)
    #expect(
      V.RootTableAddress(rootTable: PhysicalAddress(0), mode: .abortDMA).rawValue
        == 0x0000_0000_0000_0c00)
  }

  @Test func `G4 to G6: a command keeps what is on and leaves one-shots out`() {
    var srtp = V.GlobalCommand(keeping: V.GlobalStatus(rawValue: 0x8000_0000))
    srtp.setsRootTablePointer = true
    #expect(srtp.rawValue == 0xc000_0000)
    // TES, RTPS and QIES are on: the pointer is not set once more.
    var ire = V.GlobalCommand(keeping: V.GlobalStatus(rawValue: 0xc400_0000))
    ire.enablesInterruptRemapping = true
    #expect(ire.rawValue == 0x8600_0000)
    #expect(V.GlobalCommand(keeping: V.GlobalStatus(rawValue: ~0)).rawValue == 0x96ff_ffff)
  }

  @Test func `a command's bits are those of the manual`() {
    func bit(_ change: (inout V.GlobalCommand) -> Void) -> UInt32 {
      var command = V.GlobalCommand(rawValue: 0)
      change(&command)
      return command.rawValue
    }
    #expect(bit { $0.enablesTranslation = true } == 1 << 31)
    #expect(bit { $0.setsRootTablePointer = true } == 1 << 30)
    #expect(bit { $0.flushesWriteBuffer = true } == 1 << 27)
    #expect(bit { $0.enablesQueuedInvalidation = true } == 1 << 26)
    #expect(bit { $0.enablesInterruptRemapping = true } == 1 << 25)
    #expect(bit { $0.setsInterruptTablePointer = true } == 1 << 24)
    #expect(bit { $0.passesCompatibilityInterrupts = true } == 1 << 23)
  }

  @Test func `G7 to G10: context commands and what they answer`() {
    #expect(V.ContextCommand(.global).rawValue == 0xa000_0000_0000_0000)
    #expect(V.ContextCommand(.domain, domainID: 5).rawValue == 0xc000_0000_0000_0005)
    #expect(
      V.ContextCommand(.selective, domainID: 5, requester: Requester(rawValue: 0x20)).rawValue
        == 0xe000_0000_0020_0005)
    var answer = V.ContextCommand(.domain, domainID: 5)
    answer.isPending = false
    answer.actual = .global
    #expect(answer.rawValue == 0x4800_0000_0000_0005)
    #expect(answer.actual == .global && answer.requested == .domain && answer.domainID == 5)
  }

  @Test func `G11 to G13: IOTLB commands and what they answer`() {
    #expect(
      V.IOTLBInvalidate(.global, drainsReads: true, drainsWrites: true).rawValue
        == 0x9003_0000_0000_0000)
    #expect(V.IOTLBInvalidate(.selective, domainID: 5).rawValue == 0xb000_0005_0000_0000)
    #expect(
      V.InvalidateAddress(address: IOVA(0x1234_5000), addressMask: 0, hint: true).rawValue
        == 0x1234_5040)
    let answer = V.IOTLBInvalidate(rawValue: 0x3600_0005_0000_0000)
    #expect(!answer.isPending && answer.actual == .selective && answer.domainID == 5)
  }

  @Test func `G14 to G17: the queue's address, width and tail`() {
    let queue = PhysicalAddress(0x40_0000)
    #expect(V.QueueAddress(queue: queue).rawValue == 0x0000_0000_0040_0000)
    let wide = V.QueueAddress(queue: queue, sizeCode: 1, isWide: true)
    #expect(wide.rawValue == 0x0000_0000_0040_0801)
    #expect(wide.byteCount / wide.descriptorByteCount == 256)
    #expect(V.QueueTail(index: 3, isWide: false).rawValue == 0x30)
    #expect(V.QueueTail(index: 3, isWide: true).rawValue == 0x60)
  }

  @Test func `G18 and G19: the interrupt table and the page request queue`() {
    let interrupts = V.InterruptTableAddress(
      table: PhysicalAddress(0x100_0000), sizeCode: 15, usesExtendedMode: true)
    #expect(interrupts.rawValue == 0x0000_0000_0100_080f)
    #expect(interrupts.entryCount == 65_536)
    let requests = V.PageRequestQueueAddress(queue: PhysicalAddress(0x50_0000), sizeCode: 4)
    #expect(requests.rawValue == 0x0000_0000_0050_0004)
    #expect(requests.byteCount / V.PageRequestDescriptor.queueByteCount == 2048)
  }

  @Test func `G20 and G21: fault status`() {
    var faults = V.FaultStatus(rawValue: 0)
    faults.hasPendingFault = true
    faults.firstRecord = 2
    #expect(faults.rawValue == 0x0000_0202)
    faults.hasOverflow = true
    faults.hasQueueError = true
    faults.firstRecord = 0
    #expect(faults.rawValue == 0x0000_0013)
    #expect(V.FaultStatus(rawValue: 0x20).hasCompletionError)
    #expect(V.FaultStatus(rawValue: 0x40).hasTimeoutError)
    #expect(!V.FaultStatus(rawValue: 0x0000_ff00).isAnySet)
  }

  @Test func `G22: events are masked after a reset`() {
    #expect(V.EventControl.resetValue == 0x8000_0000)
    #expect(V.EventControl(rawValue: 0x8000_0000).isMasked)
    #expect(V.EventControl(rawValue: 0x4000_0000).isPending)
  }

  @Test func `a version is major, then minor`() {
    #expect(V.Version(major: 1, minor: 0).rawValue == 0x10)
    #expect(V.Version(rawValue: 0x40).major == 4)
  }

  @Test func `a queue's error record names the error and two devices`() {
    let record = V.QueueErrorRecord(rawValue: 0x0300_00fa_0000_0004)
    #expect(record.error == .reservedField)
    #expect(record.timedOut == Requester("00:1f.2"))
    #expect(record.completedWrongly == Requester("03:00.0"))
  }

  @Test func `protected regions are told in steps of 2 MiB`() {
    #expect(V.ProtectedLowMemory.mask { $0.access == .readWrite }.low == 0xffe0_0000)
    #expect(
      V.ProtectedHighMemory.mask { $0.access == .readWrite }.low == 0xffff_ffff_ffe0_0000)
    var enable = V.ProtectedMemoryEnable(rawValue: 0x8000_0000)
    #expect(enable.isRequested && !enable.isOn)
    enable.isOn = true
    #expect(enable.rawValue == 0x8000_0001)
  }

  @Test func `status registers say what software has not seen`() {
    #expect(V.PageRequestStatus(rawValue: 1).hasPendingRequest)
    #expect(V.PageRequestStatus(rawValue: 2).hasOverflow)
    #expect(V.CompletionStatus(rawValue: 1).isComplete)
  }
}
