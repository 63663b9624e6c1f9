import IOMMUFormats
import Testing

/// The register values of the manual, A1 to A17, as software writes and reads them.
@Suite struct AMDViRegisterTests {
  typealias A = AMDVi

  @Test(arguments: [
    (0x1_0000_01ff, 0x1_0000_0000, 2_097_152),
    (0x10_001f, 0x10_0000, 131_072),
    (0x37f0_0000, 0x37f0_0000, 4096),
    (0x37f0_0007, 0x37f0_0000, 32_768),
  ])
  func `A1 to A5: a device table lies here and is so long`(
    raw: UInt64, address: UInt64, byteCount: UInt64
  ) {
    let base = A.DeviceTableBase(rawValue: raw)
    #expect(base.address.rawValue == address && base.byteCount == byteCount)
    #expect(A.DeviceTableBase(address: base.address, byteCount: byteCount) == base)
  }

  @Test func `A6 to A8: a segment says its own length`() {
    let full = A.DeviceTableSegmentBase(rawValue: 0x2_0000_00ff)
    #expect(full.address.rawValue == 0x2_0000_0000 && full.byteCount == 0x10_0000)
    #expect(A.DeviceTableSegmentBase(rawValue: 0x7f).byteCount == 0x8_0000)
    #expect(A.DeviceTableSegmentBase(rawValue: 0x3f).byteCount == 0x4_0000)
    // Bit 8 is no part of it here.
    #expect(A.DeviceTableSegmentBase(rawValue: 0x100).byteCount == 0x1000)
  }

  @Test func `A9 to A11: a ring lies here and has so many entries`() {
    let commands = A.CommandBufferBase(rawValue: 0x0900_0000_1234_0000)
    #expect(commands.address.rawValue == 0x1234_0000 && commands.lengthCode == 9)
    #expect(commands.entryCount == 512 && commands.byteCount == 0x2000)
    #expect(A.CommandBufferBase(address: commands.address, entryCount: 512) == commands)
    let events = A.EventLogBase(rawValue: 0x0800_0000_00ab_c000)
    #expect(events.address.rawValue == 0xab_c000)
    #expect(events.entryCount == 256 && events.byteCount == 0x1000)
    let long = A.CommandBufferBase(rawValue: 0x0f00_0001_0000_0000)
    #expect(long.address.rawValue == 0x1_0000_0000)
    #expect(long.entryCount == 32_768 && long.byteCount == 0x8_0000)
  }

  @Test func `a length below 8 is none`() {
    for code in UInt64(0)..<8 {
      #expect(A.CommandBufferBase(rawValue: code << 56).entryCount == nil)
      #expect(A.GuestLogBase(rawValue: code << 56).byteCount == nil)
    }
  }

  @Test func `entries of eight bytes: the shortest log of them is a page as well`() {
    let log = A.GuestLogBase(rawValue: 0x0800_0000_0005_0000)
    #expect(log.entryCount == 512 && log.byteCount == 4096)
    #expect(A.GuestLogBase(address: PhysicalAddress(0x5_0000), entryCount: 512) == log)
  }

  @Test func `pointers keep the bits they have`() {
    #expect(A.RingPointer(byteOffset: ~0).rawValue == 0x7_fff0)
    #expect(A.RingPointer(rawValue: 0xffff_1ff3).byteOffset == 0x7_1ff0)
    #expect(A.GuestLogPointer(byteOffset: ~0).rawValue == 0xfff8)
    #expect(A.GuestLogTailAddress(rawValue: ~0).address.rawValue == 0xf_ffff_ffff_fff8)
  }

  @Test func `A12 and A13: what software switches on`() {
    var control = A.Control(rawValue: 0x400)
    control.isEnabled = true
    control.logsEvents = true
    control.interruptsOnEvents = true
    control.fetchesCommands = true
    #expect(control.rawValue == 0x140d)
    let linux = A.Control(rawValue: 0x148d)
    #expect(linux.invalidationTimeout == 1000)
    #expect(linux.isEnabled && linux.logsEvents && linux.interruptsOnEvents)
    #expect(linux.fetchesCommands && !linux.interruptsOnCompletion)
    let later = A.Control(rawValue: 0xc_0000_0003_148d)
    #expect(later.translatesGuests && later.usesWideInterruptEntries)
    #expect(later.usesExtendedDestinations && later.usesExtendedOwnInterrupts)
    #expect(!linux.translatesGuests && !linux.usesWideInterruptEntries)
    #expect(!linux.usesExtendedDestinations && !linux.usesExtendedOwnInterrupts)
  }

  @Test func `fields of the control register lie where the manual has them`() {
    func control(_ bit: Int) -> A.Control { A.Control(rawValue: 1 << UInt64(bit)) }
    #expect(A.Control(rawValue: 0x8_0000_0000).segmentCode == 2)
    #expect(control(13).logsPageRequests && control(14).interruptsOnPageRequests)
    #expect(control(15).takesPageRequests && control(22).filtersSystemManagement)
    #expect(control(25).guestModeCode == 1 && control(28).logsGuestInterrupts)
    #expect(control(29).interruptsOnGuestInterrupts && control(39).answersPageRequests)
    #expect(control(40).relocates && control(43).usesLargeInterruptTables)
    #expect(
      !control(44).usesLargeInterruptTables && A.Control(rawValue: 3 << 46).hostUpdateCode == 3)
    #expect(control(48).leavesGuestDirty && control(54).leavesGuestAccessed)
    #expect(control(58).hasPhysicalGuestRoots && control(59).cachesNoInterruptEntries)
    #expect(A.Control(rawValue: 0).invalidationTimeout == 0)
    #expect(A.Control(rawValue: 0xc0).invalidationTimeout == 100_000)
    #expect(A.Control(rawValue: 0xe0).invalidationTimeout == nil)
  }

  @Test func `A14: what runs and what waits`() {
    let status = A.Status(rawValue: 0x18)
    #expect(status.fetchesCommands && status.logsEvents && !status.hasCompletion)
    #expect(A.Status(rawValue: 0x1c).hasCompletion)
    let stopped = A.Status(rawValue: 0x08)
    #expect(stopped.logsEvents && !stopped.fetchesCommands)
    #expect(A.Status(rawValue: 0x1).hasEventOverflow && A.Status(rawValue: 0x2).hasEvent)
    #expect(A.Status(rawValue: 0x20).hasPageRequestOverflow)
    #expect(A.Status(rawValue: 0x40).hasPageRequest)
    #expect(A.Status(rawValue: 0x80).logsPageRequests)
    #expect(A.Status(rawValue: 0x100).logsGuestInterrupts)
    #expect(A.Status(rawValue: 0x200).hasGuestOverflow)
    #expect(A.Status(rawValue: 0x400).hasGuestInterrupt)
    #expect(A.Status(rawValue: 0x4_0000).hasEarlyPageRequestOverflow)
  }

  @Test func `A16: what an emulated unit says it can do`() {
    let features = A.ExtendedFeatures(rawValue: 0x29d3)
    #expect(features.hasPrefetch && features.hasPageRequests && features.hasGuestTranslation)
    #expect(features.hasInvalidateAll && features.hasWideInterruptEntries)
    #expect(features.hasHardwareErrorRegisters && features.hostLevels == 6)
    #expect(features.guestLevels == 6 && features.guestTableLevels == 1)
    #expect(!features.hasExtendedDestinations && !features.hasNoExecute)
    #expect(!features.hasPerformanceCounters && features.pasidBitCount == 1)
  }

  @Test func `fields of the feature registers lie where the manual has them`() {
    func features(_ bit: Int) -> A.ExtendedFeatures {
      A.ExtendedFeatures(rawValue: 1 << UInt64(bit))
    }
    let none = A.ExtendedFeatures(rawValue: 0)
    #expect(none.hostLevels == 4 && none.guestLevels == 4 && none.guestTableLevels == 1)
    #expect(A.ExtendedFeatures(rawValue: 0x400).hostLevels == 5)
    #expect(A.ExtendedFeatures(rawValue: 0xc00).hostLevels == nil)
    #expect(A.ExtendedFeatures(rawValue: 0x1000).guestLevels == 5)
    #expect(A.ExtendedFeatures(rawValue: 0x3000).guestLevels == nil)
    #expect(A.ExtendedFeatures(rawValue: 0x8000).guestTableLevels == 3)
    #expect(A.ExtendedFeatures(rawValue: 0x8_0000 | 1 << 16).systemManagementFilterCount == 4)
    #expect(none.systemManagementFilterCount == 0 && features(21).hasGuestInterrupts)
    #expect(features(24).hasSecondPageRequestLog && features(28).hasSecondEventLog)
    #expect(A.ExtendedFeatures(rawValue: 15 << 32).pasidBitCount == 16)
    #expect(A.ExtendedFeatures(rawValue: 31 << 32).pasidBitCount == 20)
    #expect(
      features(37).hasPrivilege && A.ExtendedFeatures(rawValue: 3 << 38).maximumSegmentCode == 3)
    #expect(features(40).hasEarlyPageRequestOverflow && features(41).hasPageRequestAnswers)
    #expect(features(42).relocationApertureCount == 4 && features(43).relocationApertureCount == 8)
    #expect(features(45).hasPerformanceOptimization && features(46).hasInterruptCapabilityCopy)
    #expect(features(48).hasGuestIO && features(49).hasHostAccessed)
    #expect(features(50).hasEnhancedPageRequests && features(51).hasAttributeOverride)
    #expect(features(52).hasHostDirty && features(54).hasDeviceInvalidationType)
    #expect(features(5).hasGuestProcessorInterrupts)
    #expect(A.ExtendedFeatures2(rawValue: 0x20).hasGuardedGuestInterrupts)
    #expect(features(55).hasVirtualUnits && features(63).hasReverseMap)
    #expect(A.ExtendedFeatures2(rawValue: 0x8).hasPhysicalGuestRoots)
    #expect(A.ExtendedFeatures2(rawValue: 0x100).hasLargeInterruptTables)
    #expect(A.ExtendedFeatures2(rawValue: 0x800).hasNoHyperTransportRange)
  }

  @Test func `A17: the capability header of an emulated unit`() {
    let header = A.CapabilityHeader(rawValue: 0x1f03_000f)
    #expect(header.isIOMMU && header.hasIOTLB && header.cachesNotPresent)
    #expect(header.hasExtendedFeatures)
    #expect(A.CapabilityHeader(next: 0x64).rawValue == 0x190b_640f)
  }

  @Test func `the capability block says where the registers lie, for whom, and how wide`() {
    let low = A.CapabilityBaseLow(rawValue: 0xfed8_0001)
    #expect(low.isEnabled && low.address == 0xfed8_0000)
    let range = A.CapabilityRange(rawValue: 0xff08_0380)
    #expect(range.devices == Requester("03:01.0")!...Requester("03:1f.7")!)
    #expect(A.CapabilityRange(rawValue: 0xff00_0000).devices == nil)
    #expect(A.CapabilityRange(rawValue: 0x0810_0080).devices == nil)
    let widths = A.CapabilityMiscellaneous(rawValue: 0x0820_3041)
    #expect(widths.message == 1 && widths.pageRequestMessage == 1)
    #expect(widths.physicalAddressWidth == 48 && widths.virtualAddressWidth == 64)
    #expect(
      A.CapabilityMiscellaneous(physicalAddressWidth: 48, message: 1, pageRequestMessage: 1)
        == widths)
    #expect(A.CapabilityMiscellaneous1(rawValue: 0xffff_ff03).guestMessage == 3)
  }

  @Test func `an exclusion range takes whole pages`() {
    let base = A.ExclusionBase(rawValue: 0x20_0003)
    #expect(base.isEnabled && base.allowsAll && base.address.rawValue == 0x20_0000)
    #expect(!A.ExclusionBase(rawValue: 2).isEnabled && !A.ExclusionBase(rawValue: 1).allowsAll)
    #expect(A.ExclusionLimit(rawValue: 0x2f_f000).lastAddress.rawValue == 0x2f_ffff)
  }

  @Test func `an x2APIC id of the unit's own interrupts lies in two places`() {
    let control = A.ExtendedInterruptControl(rawValue: 0x1200_0131_3456_7804)
    #expect(control.destination == 0x1234_5678 && control.vector == 0x31)
    #expect(control.isLogical && control.isArbitrated)
  }

  @Test func `a filter names one device until it is unlocked`() {
    let filter = A.SystemManagementFilter(rawValue: 0x3_00a0)
    #expect(filter.device == Requester("00:14.0") && filter.isValid && filter.isLocked)
    let early = A.PageRequestEarlyOverflow(rawValue: 0xc000_00f0)
    #expect(early.threshold == 240 && early.isEnabled && early.interrupts)
    #expect(A.PageRequestAnswer(rawValue: 0x1f).code == 15)
  }
}
