extension AMDVi {
  /// An entry of the event log: a request that was stopped, or trouble of the unit itself.
  ///
  /// Sixteen bytes. The code, in the uppermost bits of the first quadword, decides what most others
  /// mean; of codes that say nothing of a device, a domain or flags, the bits for those are reserved.
  /// Specification: AMD IOMMU 2.5, by VirtualBox `iommu-amd.h`, illumos `amd_iommu_log.h` and, for the
  /// upper part of the PASID, AMD's own "iommu/amd: Fix incorrect PASID decoding from event log" (Linux
  /// 5.4).
  @frozen
  public struct Event: TableEntry {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64 = 0, high: UInt64 = 0) {
      self.low = low
      self.high = high
    }
  }

  /// What happened: bits 63:60 of an event. Open: a code without a name here keeps its value.
  @frozen
  public struct EventCode: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The device table entry of a request cannot be used.
    @inlinable public static var illegalDeviceTableEntry: Self { Self(rawValue: 0x1) }
    /// The page tables, or the interrupt table, do not allow a request.
    @inlinable public static var pageFault: Self { Self(rawValue: 0x2) }
    /// A device table entry could not be read.
    @inlinable public static var deviceTableHardwareError: Self { Self(rawValue: 0x3) }
    /// An entry of a page table could not be read.
    @inlinable public static var pageTableHardwareError: Self { Self(rawValue: 0x4) }
    /// A command that the unit does not know, or with a reserved bit.
    @inlinable public static var illegalCommand: Self { Self(rawValue: 0x5) }
    /// A command could not be read, or its answer not be written.
    @inlinable public static var commandHardwareError: Self { Self(rawValue: 0x6) }
    /// A device did not answer an invalidation.
    @inlinable public static var invalidationTimeout: Self { Self(rawValue: 0x7) }
    /// A request of a kind that the device may not send.
    @inlinable public static var invalidDeviceRequest: Self { Self(rawValue: 0x8) }
    /// A page request that the unit does not take.
    @inlinable public static var invalidPageRequest: Self { Self(rawValue: 0x9) }
    /// A performance counter has come to zero.
    @inlinable public static var counterZero: Self { Self(rawValue: 0xa) }
    /// Trouble with a guest's own event log.
    @inlinable public static var guestEventFault: Self { Self(rawValue: 0xb) }
    /// The unit could not reach memory on a guest's behalf.
    @inlinable public static var guestHardwareError: Self { Self(rawValue: 0xc) }
    /// The reverse map table does not allow a request.
    @inlinable public static var reverseMapFault: Self { Self(rawValue: 0xd) }
    /// The reverse map table could not be read.
    @inlinable public static var reverseMapHardwareError: Self { Self(rawValue: 0xe) }
  }
}

extension AMDVi.Event {
  public static var name: StaticString { "AMD-Vi event" }
  public static var specification: StaticString { "AMD IOMMU 2.5" }
  @inlinable public static var bitCount: Int { 128 }
  public static var exampleVariants: [AMDVi.EventCode] {
    (0...15).map { AMDVi.EventCode(rawValue: $0) }
  }

  static var deviceID: BitField { BitField(0...15, "DeviceID") }
  static var pasidHigh: BitField { BitField(16...19, "PASID19:16") }
  static var requestPASIDLow: BitField { BitField(16...31, "PASID15:0") }
  static var reverseMapFlags: BitField { BitField(16...23, "RMPFlags") }
  static var requestTag: BitField { BitField(32...41, "Tag") }
  static var requestPASIDHigh: BitField { BitField(42...45, "PASID19:16") }
  static var domain: BitField { BitField(32...47, "DomainID/PASID15:0") }
  /// Of events that tell no domain; bits of ``domain``.
  static var pasidLow: BitField { BitField(32...47, "PASID15:0") }
  static var guestTag: BitField { BitField(32...47, "VMGTag") }
  static var gn: BitField { BitField(48...48, "GN") }
  static var nx: BitField { BitField(49...49, "NX") }
  /// Of an invalid device request; ``nx`` elsewhere.
  static var requestUser: BitField { BitField(49...49, "US") }
  static var us: BitField { BitField(50...50, "US") }
  static var i: BitField { BitField(51...51, "I") }
  static var pr: BitField { BitField(52...52, "PR") }
  static var rw: BitField { BitField(53...53, "RW") }
  static var pe: BitField { BitField(54...54, "PE") }
  static var rz: BitField { BitField(55...55, "RZ") }
  static var tr: BitField { BitField(56...56, "TR") }
  static var requestType: BitField { BitField(57...59, "Type") }
  static var busError: BitField { BitField(57...58, "Type") }
  /// All flags as the kernel prints them.
  static var flags: BitField { BitField(48...59, "flags") }
  static var codeField: BitField { BitField(60...63, "EventCode") }
  static var addressField: BitField { BitField(64...127, "Address", .address) }
  static var counterNoteHigh: BitField { BitField(64...83, "CounterNote51:32") }
  static var counterNoteLow: BitField { BitField(96...127, "CounterNote31:0") }
  /// The event's bits where nobody knows what they mean, as the registers of hardware errors call them.
  static var firstOperand: BitField { BitField(0...59, "FirstEventOperand") }
  static var secondOperand: BitField { BitField(64...127, "SecondEventOperand") }

  public static func fields(_ code: AMDVi.EventCode) -> [BitField] {
    guard !hasUnknownLayout(code) else { return [firstOperand, codeField, secondOperand] }
    let address =
      code == .counterZero ? [counterNoteHigh, .ignored(84...95), counterNoteLow] : [addressField]
    return lower(code) + flagFields(code) + [codeField] + address
  }

  /// Of the events of guests' units, and of codes without a name, nothing but the code is known.
  private static func hasUnknownLayout(_ code: AMDVi.EventCode) -> Bool {
    switch code {
    case .illegalDeviceTableEntry, .pageFault, .deviceTableHardwareError, .pageTableHardwareError,
      .illegalCommand, .commandHardwareError, .invalidationTimeout, .invalidDeviceRequest,
      .invalidPageRequest, .counterZero, .reverseMapFault, .reverseMapHardwareError:
      false
    default: true
    }
  }

  /// Bits 47:0, as far as they are not part of a longer run.
  private static func lower(_ code: AMDVi.EventCode) -> [BitField] {
    switch code {
    case .illegalDeviceTableEntry, .invalidDeviceRequest:
      [deviceID, pasidHigh, .ignored(20...31), pasidLow]
    case .pageFault, .pageTableHardwareError: [deviceID, pasidHigh, .ignored(20...31), domain]
    case .invalidPageRequest:
      [deviceID, requestPASIDLow, requestTag, requestPASIDHigh, .ignored(46...47)]
    case .reverseMapFault: [deviceID, reverseMapFlags, .ignored(24...31), guestTag]
    case .reverseMapHardwareError: [deviceID, .ignored(16...31), guestTag]
    case .deviceTableHardwareError, .invalidationTimeout: [deviceID]
    default: []
    }
  }

  /// Bits 59:48, and those below them that mean nothing either.
  private static func flagFields(_ code: AMDVi.EventCode) -> [BitField] {
    switch code {
    case .illegalDeviceTableEntry:
      [
        gn, .ignored(49...50), i, .ignored(52...52), rw, .ignored(54...54), rz, tr,
        .ignored(57...59),
      ]
    case .pageFault, .invalidPageRequest:
      [gn, nx, us, i, pr, rw, pe, rz, tr, .ignored(57...59)]
    case .deviceTableHardwareError:
      [
        .ignored(16...50), i, .ignored(52...52), rw, .ignored(54...55), tr, busError,
        .ignored(59...59),
      ]
    case .pageTableHardwareError:
      [gn, .ignored(49...50), i, .ignored(52...52), rw, .ignored(54...55), tr, busError]
        + [.ignored(59...59)]
    case .illegalCommand, .counterZero: [.ignored(0...59)]
    case .commandHardwareError: [.ignored(0...56), busError, .ignored(59...59)]
    case .invalidationTimeout: [.ignored(16...59)]
    case .invalidDeviceRequest: [gn, requestUser, .ignored(50...55), tr, requestType]
    default: [flags]
    }
  }

  /// An event as a kernel prints it, field by field.
  ///
  /// What events of this code have no field for stays zero, whatever is given.
  ///
  /// - Parameters:
  ///   - code: What happened; its lower 4 bits.
  ///   - device: Who sent the request, or who did not answer.
  ///   - domain: The domain, or with GN the PASID; its lower 20 bits.
  ///   - flags: Bits 59:48; its lower 12 bits.
  ///   - address: What it is an address of, the code decides.
  public init(
    _ code: AMDVi.EventCode, device: Requester = Requester(rawValue: 0), domain: UInt64 = 0,
    flags: UInt64 = 0, address: UInt64 = 0
  ) {
    self.init(low: 0, high: 0)
    self[Self.codeField] = UInt64(code.rawValue & 0xf)
    self[Self.deviceID] = UInt64(device.rawValue)
    self[Self.domain] = domain & Self.domain.valueMask
    self[Self.pasidHigh] = domain >> 16 & Self.pasidHigh.valueMask
    let told = Self.fields(self.code).filter { $0.quadwordIndex == 0 && $0.use != .ignored }
    low &= told.reduce(0) { $0 | $1.mask }
    // All of them, also those that have no name here: they were printed.
    self[Self.flags] = flags & Self.flags.valueMask
    self[Self.addressField] = address
  }

  /// An INVALID_PPR_REQUEST as a kernel prints it, field by field.
  ///
  /// - Parameters:
  ///   - device: Who asked.
  ///   - pasid: The address space; its lower 20 bits.
  ///   - tag: Bits 41:32, the group of requests; its lower 10 bits.
  ///   - flags: Bits 59:48; its lower 12 bits.
  ///   - address: The page.
  public init(
    pageRequestOf device: Requester, pasid: UInt64, tag: UInt64, flags: UInt64, address: UInt64
  ) {
    self.init(.invalidPageRequest, device: device, flags: flags, address: address)
    self[Self.requestPASIDLow] = pasid & Self.requestPASIDLow.valueMask
    self[Self.requestPASIDHigh] = pasid >> 16 & Self.requestPASIDHigh.valueMask
    self[Self.requestTag] = tag & Self.requestTag.valueMask
  }

  /// An RMP_PAGE_FAULT or RMP_HARDWARE_ERROR as a kernel prints it, field by field.
  ///
  /// - Parameters:
  ///   - code: Which of both; its lower 4 bits.
  ///   - device: Who sent the request.
  ///   - guestTag: VMGTag, the guest; its lower 16 bits.
  ///   - reverseMapFlags: Bits 23:16, which only RMP_PAGE_FAULT has; its lower 8 bits.
  ///   - flags: Bits 59:48; its lower 12 bits.
  ///   - address: A guest's physical address, or where the reverse map table was looked at.
  public init(
    reverseMap code: AMDVi.EventCode, device: Requester, guestTag: UInt64,
    reverseMapFlags: UInt64, flags: UInt64, address: UInt64
  ) {
    self.init(code, device: device, domain: guestTag & 0xffff, flags: flags, address: address)
    guard self.code == .reverseMapFault else { return }
    self[Self.reverseMapFlags] = reverseMapFlags & Self.reverseMapFlags.valueMask
  }

  /// Events of this code tell of a device.
  package var namesDevice: Bool {
    Self.fields(code).contains { $0.bits == Self.deviceID.bits }
  }

  /// What happened.
  public var code: AMDVi.EventCode { AMDVi.EventCode(rawValue: UInt8(self[Self.codeField])) }
  /// Who sent the request, or who did not answer; of no meaning in events of commands and counters.
  public var device: Requester { Requester(rawValue: UInt16(self[Self.deviceID])) }
  /// The domain, or with GN the PASID's lower 16 bits; of ``AMDVi/EventCode/pageFault`` and
  /// ``AMDVi/EventCode/pageTableHardwareError``.
  public var domainID: UInt16 { UInt16(self[Self.domain]) }
  /// The PASID of an event with GN.
  public var pasid: UInt32 { UInt32(self[Self.pasidHigh] << 16 | self[Self.domain]) }
  /// The address; what it is one of, the code decides.
  public var address: UInt64 { self[Self.addressField] }
  /// CounterNote: what the counter's registers keep for its event; of
  /// ``AMDVi/EventCode/counterZero``.
  public var counterNote: UInt64 { self[Self.counterNoteHigh] << 32 | self[Self.counterNoteLow] }
  /// Bits 59:48.
  public var flags: UInt64 { self[Self.flags] }
  /// GN: the address is a guest's virtual one.
  public var isGuest: Bool { self[Self.gn] != 0 }
  /// I: an interrupt, not memory.
  public var isInterrupt: Bool { self[Self.i] != 0 }
  /// PR: the page, or the interrupt's entry, was present.
  public var isPresent: Bool { self[Self.pr] != 0 }
  /// RW: a write.
  public var isWrite: Bool { self[Self.rw] != 0 }
  /// PE: the permission was missing.
  public var lacksPermission: Bool { self[Self.pe] != 0 }
  /// RZ: a bit that must be zero was set.
  public var hasReservedBit: Bool { self[Self.rz] != 0 }
  /// TR: the device asked for a translation.
  public var isTranslationRequest: Bool { self[Self.tr] != 0 }
  /// Which request a device may not send; of ``AMDVi/EventCode/invalidDeviceRequest``.
  public var requestType: UInt8 { UInt8(self[Self.requestType]) }
  /// How memory refused; of the events that tell of hardware errors.
  public var busError: UInt8 { UInt8(self[Self.busError]) }

  /// The address space of a page request that was not taken; of ``AMDVi/EventCode/invalidPageRequest``.
  public var requestPASID: UInt32 {
    UInt32(self[Self.requestPASIDHigh] << 16 | self[Self.requestPASIDLow])
  }
  /// The group of page requests; of ``AMDVi/EventCode/invalidPageRequest``.
  public var pageRequestTag: UInt16 { UInt16(self[Self.requestTag]) }
  /// VMGTag: the guest; of the events of the reverse map table.
  public var reverseMapGuestTag: UInt16 { UInt16(self[Self.guestTag]) }
  /// RMPFlags: why the reverse map table refused; of ``AMDVi/EventCode/reverseMapFault``.
  public var reverseMapFlagBits: UInt8 { UInt8(self[Self.reverseMapFlags]) }

  /// The flags that are set and mean something with this code, by the manual's names; a field of
  /// several bits with its value.
  public var setFlags: [(name: String, value: UInt64?)] {
    Self.fields(code).filter { field in
      Self.flags.bits.contains(field.bits.lowerBound) && field.bits != Self.flags.bits
        && field.use == .value && self[field] != 0
    }.map { ("\($0.name)", $0.bits.count > 1 ? self[$0] : nil) }
  }
}
