extension VTd {
  /// Why a unit blocked a request: the number in the fault record.
  ///
  /// Open: a number that has no name here keeps its value. Specification: Intel VT-d 7.1.3 and,
  /// for interrupts, 5.1.4.1.
  @frozen
  public struct FaultReason: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
  }
}

// Legacy mode.
extension VTd.FaultReason {
  /// 01h: the bus has no context table: root entry not present.
  @inlinable public static var rootEntryNotPresent: Self { Self(rawValue: 0x01) }
  /// 02h: the device has no domain: context entry not present.
  @inlinable public static var contextEntryNotPresent: Self { Self(rawValue: 0x02) }
  /// 03h: context entry with a width or type that the unit does not support.
  @inlinable public static var contextEntryInvalid: Self { Self(rawValue: 0x03) }
  /// 04h: IOVA beyond the width of the table.
  @inlinable public static var addressBeyondWidth: Self { Self(rawValue: 0x04) }
  /// 05h: write without write permission, or no mapping.
  @inlinable public static var writeNotPermitted: Self { Self(rawValue: 0x05) }
  /// 06h: read without read permission, or no mapping.
  @inlinable public static var readNotPermitted: Self { Self(rawValue: 0x06) }
  /// 07h: pointer to a second-stage table where no memory answers.
  @inlinable public static var tableUnreadable: Self { Self(rawValue: 0x07) }
  /// 08h: root table where no memory answers.
  @inlinable public static var rootTableUnreadable: Self { Self(rawValue: 0x08) }
  /// 09h: context table where no memory answers.
  @inlinable public static var contextTableUnreadable: Self { Self(rawValue: 0x09) }
  /// 0Ah: reserved bit set in the root entry.
  @inlinable public static var rootEntryReserved: Self { Self(rawValue: 0x0a) }
  /// 0Bh: reserved bit set in the context entry.
  @inlinable public static var contextEntryReserved: Self { Self(rawValue: 0x0b) }
  /// 0Ch: reserved bit set in a second-stage entry.
  @inlinable public static var secondStageEntryReserved: Self { Self(rawValue: 0x0c) }
  /// 0Dh: translation or translated request that the context entry does not allow.
  @inlinable public static var requestKindNotAllowed: Self { Self(rawValue: 0x0d) }
  /// 0Eh: page that lies in the interrupt address range.
  @inlinable public static var interruptAddressReached: Self { Self(rawValue: 0x0e) }
}

// Interrupt remapping.
extension VTd.FaultReason {
  /// 20h: reserved bit set in the interrupt request.
  @inlinable public static var interruptRequestReserved: Self { Self(rawValue: 0x20) }
  /// 21h: interrupt index beyond the interrupt remapping table.
  @inlinable public static var interruptIndexBeyondTable: Self { Self(rawValue: 0x21) }
  /// 22h: interrupt remapping entry not present.
  @inlinable public static var interruptEntryNotPresent: Self { Self(rawValue: 0x22) }
  /// 23h: interrupt remapping table where no memory answers.
  @inlinable public static var interruptTableUnreadable: Self { Self(rawValue: 0x23) }
  /// 24h: reserved bit set in the interrupt remapping entry.
  @inlinable public static var interruptEntryReserved: Self { Self(rawValue: 0x24) }
  /// 25h: interrupt in the compatibility format, which is blocked.
  @inlinable public static var compatibilityInterruptBlocked: Self { Self(rawValue: 0x25) }
  /// 26h: interrupt from a requester that the entry does not admit.
  @inlinable public static var interruptSourceRefused: Self { Self(rawValue: 0x26) }
  /// 27h: posted interrupt descriptor where no memory answers.
  @inlinable public static var postedDescriptorUnreadable: Self { Self(rawValue: 0x27) }
  /// 28h: reserved bit set in the posted interrupt descriptor.
  @inlinable public static var postedDescriptorReserved: Self { Self(rawValue: 0x28) }
  /// 29h: request to the interrupt address range that is no interrupt.
  @inlinable public static var malformedInterruptRequest: Self { Self(rawValue: 0x29) }
  /// 2Ah: extended interrupt mode is off on a unit that requires it.
  @inlinable public static var extendedInterruptModeRequired: Self { Self(rawValue: 0x2a) }
  /// 2Bh: interrupt remapping is off on a unit that requires it.
  @inlinable public static var interruptRemappingRequired: Self { Self(rawValue: 0x2b) }
}

// The root table pointer.
extension VTd.FaultReason {
  /// 30h: translation table mode that the unit does not support.
  @inlinable public static var invalidTableMode: Self { Self(rawValue: 0x30) }
  /// 31h: request with PASID in legacy mode.
  @inlinable public static var pasidInLegacyMode: Self { Self(rawValue: 0x31) }
  /// 32h: page request in legacy mode.
  @inlinable public static var pageRequestInLegacyMode: Self { Self(rawValue: 0x32) }
  /// 33h: all DMA is aborted: abort-DMA mode.
  @inlinable public static var abortDMAMode: Self { Self(rawValue: 0x33) }
  /// 34h: execute request, which the unit does not know.
  @inlinable public static var executeRequestRefused: Self { Self(rawValue: 0x34) }
}

// Scalable mode: root, context and PASID tables.
extension VTd.FaultReason {
  /// 38h: scalable-mode root table where no memory answers.
  @inlinable public static var scalableRootTableUnreadable: Self { Self(rawValue: 0x38) }
  /// 39h: the bus has no context table: half of the root entry not present.
  @inlinable public static var scalableRootEntryNotPresent: Self { Self(rawValue: 0x39) }
  /// 3Ah: reserved bit set in the scalable-mode root entry.
  @inlinable public static var scalableRootEntryReserved: Self { Self(rawValue: 0x3a) }
  /// 40h: scalable-mode context table where no memory answers.
  @inlinable public static var scalableContextTableUnreadable: Self { Self(rawValue: 0x40) }
  /// 41h: the device has no PASID directory: context entry not present.
  @inlinable public static var scalableContextEntryNotPresent: Self { Self(rawValue: 0x41) }
  /// 42h: reserved bit set in the scalable-mode context entry.
  @inlinable public static var scalableContextEntryReserved: Self { Self(rawValue: 0x42) }
  /// 43h: scalable-mode context entry whose fields contradict each other.
  @inlinable public static var scalableContextEntryInvalid: Self { Self(rawValue: 0x43) }
  /// 44h: translation or translated request of a device without DTE.
  @inlinable public static var deviceTLBNotEnabled: Self { Self(rawValue: 0x44) }
  /// 45h: request with PASID of a device without PASIDE.
  @inlinable public static var pasidNotEnabled: Self { Self(rawValue: 0x45) }
  /// 46h: PASID beyond the device's PASID directory.
  @inlinable public static var pasidBeyondDirectory: Self { Self(rawValue: 0x46) }
  /// 47h: page request of a device without PRE.
  @inlinable public static var pageRequestNotEnabled: Self { Self(rawValue: 0x47) }
  /// 48h: request with the PASID that stands for requests without one.
  @inlinable public static var pasidIsRequesterPASID: Self { Self(rawValue: 0x48) }
  /// 49h: translated request with PASID of a device without EPTR.
  @inlinable public static var translatedPASIDNotEnabled: Self { Self(rawValue: 0x49) }
  /// 50h: PASID directory where no memory answers.
  @inlinable public static var pasidDirectoryUnreadable: Self { Self(rawValue: 0x50) }
  /// 51h: PASID directory entry not present.
  @inlinable public static var pasidDirectoryEntryNotPresent: Self { Self(rawValue: 0x51) }
  /// 52h: reserved bit set in the PASID directory entry.
  @inlinable public static var pasidDirectoryEntryReserved: Self { Self(rawValue: 0x52) }
  /// 58h: PASID table where no memory answers.
  @inlinable public static var pasidTableUnreadable: Self { Self(rawValue: 0x58) }
  /// 59h: PASID table entry not present.
  @inlinable public static var pasidEntryNotPresent: Self { Self(rawValue: 0x59) }
  /// 5Ah: reserved bit set in the PASID table entry.
  @inlinable public static var pasidEntryReserved: Self { Self(rawValue: 0x5a) }
  /// 5Bh: PASID table entry with a type or width that the unit does not support.
  @inlinable public static var pasidEntryInvalid: Self { Self(rawValue: 0x5b) }
  /// 5Ch: execute request, which the unit does not support.
  @inlinable public static var executeNotSupported: Self { Self(rawValue: 0x5c) }
  /// 5Dh: supervisor request for a PASID that allows none.
  @inlinable public static var supervisorNotEnabled: Self { Self(rawValue: 0x5d) }
  /// 60h: translated request beyond the host permission table.
  @inlinable public static var addressBeyondPermissionTable: Self { Self(rawValue: 0x60) }
  /// 89h: PASID with more bits than the unit supports.
  @inlinable public static var pasidBeyondSupportedBits: Self { Self(rawValue: 0x89) }
}

// Scalable mode: page tables.
extension VTd.FaultReason {
  /// 70h: pointer to a first-stage table where no memory answers.
  @inlinable public static var firstStageTableUnreadable: Self { Self(rawValue: 0x70) }
  /// 71h: first-stage entry not present.
  @inlinable public static var firstStageEntryNotPresent: Self { Self(rawValue: 0x71) }
  /// 72h: reserved bit set in a first-stage entry.
  @inlinable public static var firstStageEntryReserved: Self { Self(rawValue: 0x72) }
  /// 73h: first-stage table where no memory answers.
  @inlinable public static var firstStageRootUnreadable: Self { Self(rawValue: 0x73) }
  /// 74h: guest address in a first-stage entry beyond the second stage's width.
  @inlinable public static var guestAddressBeyondWidth: Self { Self(rawValue: 0x74) }
  /// 75h: first-stage table that the second stage does not let be read.
  @inlinable public static var firstStageRootNotPermitted: Self { Self(rawValue: 0x75) }
  /// 76h: lower first-stage table that the second stage does not let be read.
  @inlinable public static var firstStageTableNotPermitted: Self { Self(rawValue: 0x76) }
  /// 77h: first-stage accessed or dirty bit that the second stage does not let be set.
  @inlinable public static var firstStageUpdateNotPermitted: Self { Self(rawValue: 0x77) }
  /// 78h: pointer to a second-stage table where no memory answers.
  @inlinable public static var secondStageTableUnreadable: Self { Self(rawValue: 0x78) }
  /// 79h: second-stage entry not present, or entries that together allow nothing.
  @inlinable public static var secondStageEntryNotPresent: Self { Self(rawValue: 0x79) }
  /// 7Ah: reserved bit set in a second-stage entry.
  @inlinable public static var scalableSecondStageEntryReserved: Self { Self(rawValue: 0x7a) }
  /// 7Bh: second-stage table where no memory answers.
  @inlinable public static var secondStageRootUnreadable: Self { Self(rawValue: 0x7b) }
  /// 7Ch: second-stage accessed or dirty bit to be set by walks that do not snoop.
  @inlinable public static var secondStageUpdateNotSnooped: Self { Self(rawValue: 0x7c) }
  /// 7Dh: second-stage accessed or dirty bit that could not be set.
  @inlinable public static var secondStageUpdateFailed: Self { Self(rawValue: 0x7d) }
  /// 80h: IOVA that is not canonical.
  @inlinable public static var addressNotCanonical: Self { Self(rawValue: 0x80) }
  /// 81h: user request to a supervisor page.
  @inlinable public static var userNotPermitted: Self { Self(rawValue: 0x81) }
  /// 83h: address beyond the host address width.
  @inlinable public static var hostAddressBeyondWidth: Self { Self(rawValue: 0x83) }
  /// 84h: IOVA beyond the width of the second-stage table.
  @inlinable public static var scalableAddressBeyondWidth: Self { Self(rawValue: 0x84) }
  /// 85h: write without write permission.
  @inlinable public static var scalableWriteNotPermitted: Self { Self(rawValue: 0x85) }
  /// 86h: read without read permission.
  @inlinable public static var scalableReadNotPermitted: Self { Self(rawValue: 0x86) }
  /// 87h: page that lies in the interrupt address range.
  @inlinable public static var scalableInterruptAddressReached: Self { Self(rawValue: 0x87) }
  /// 90h: first-stage accessed or dirty bit to be set by walks that do not snoop.
  @inlinable public static var firstStageUpdateNotSnooped: Self { Self(rawValue: 0x90) }
  /// 91h: first-stage accessed or dirty bit that could not be set.
  @inlinable public static var firstStageUpdateFailed: Self { Self(rawValue: 0x91) }
  /// A0h: pointer to a host permission table where no memory answers.
  @inlinable public static var permissionTableUnreadable: Self { Self(rawValue: 0xa0) }
  /// A1h: reserved bit set in a host permission entry.
  @inlinable public static var permissionEntryReserved: Self { Self(rawValue: 0xa1) }
  /// A2h: host permission table where no memory answers.
  @inlinable public static var permissionRootUnreadable: Self { Self(rawValue: 0xa2) }
  /// A3h: host permission table that ends without permission.
  @inlinable public static var permissionTableNoAccess: Self { Self(rawValue: 0xa3) }
  /// A4h: translated write that the host permission table does not allow.
  @inlinable public static var permissionTableNoWrite: Self { Self(rawValue: 0xa4) }
  /// A5h: translated read that the host permission table does not allow.
  @inlinable public static var permissionTableNoRead: Self { Self(rawValue: 0xa5) }
}

extension VTd.FaultReason {
  /// Every reason that the manual names, ascending.
  public static let named: [VTd.FaultReason] = descriptions.map { Self(rawValue: $0.number) }

  /// Whether FPD in an entry on the way suppresses the record (never the blocking).
  ///
  /// A number that the manual does not name is not qualified.
  public var isQualified: Bool {
    Self.byNumber[Int(rawValue)]?.isQualified ?? false
  }

  /// Whether the fault is one of interrupt remapping: 20h to 2Fh.
  public var concernsInterrupts: Bool { 0x20...0x2f ~= rawValue }

  /// What the number means, in a few words of our own.
  public var meaning: String {
    Self.byNumber[Int(rawValue)]?.meaning ?? "fault reason \(hexadecimal(rawValue))"
  }

  private typealias Description = (number: UInt8, isQualified: Bool, meaning: String)

  private static let byNumber: [Description?] = descriptions.reduce(
    into: Array(repeating: nil, count: 256)
  ) { table, description in table[Int(description.number)] = description }

  private static let descriptions: [Description] = [
    (0x01, false, "the bus has no context table: root entry not present"),
    (0x02, true, "the device has no domain: context entry not present"),
    (0x03, true, "context entry with a width or type that the unit does not support"),
    (0x04, true, "IOVA beyond the width of the table"),
    (0x05, true, "write without write permission, or no mapping"),
    (0x06, true, "read without read permission, or no mapping"),
    (0x07, true, "pointer to a second-stage table where no memory answers"),
    (0x08, false, "root table where no memory answers"),
    (0x09, false, "context table where no memory answers"),
    (0x0a, false, "reserved bit set in the root entry"),
    (0x0b, true, "reserved bit set in the context entry"),
    (0x0c, true, "reserved bit set in a second-stage entry"),
    (0x0d, true, "translation or translated request that the context entry does not allow"),
    (0x0e, true, "page that lies in the interrupt address range"),
    (0x20, false, "reserved bit set in the interrupt request"),
    (0x21, false, "interrupt index beyond the interrupt remapping table"),
    (0x22, true, "interrupt remapping entry not present"),
    (0x23, false, "interrupt remapping table where no memory answers"),
    (0x24, true, "reserved bit set in the interrupt remapping entry"),
    (0x25, false, "interrupt in the compatibility format, which is blocked"),
    (0x26, true, "interrupt from a requester that the entry does not admit"),
    (0x27, true, "posted interrupt descriptor where no memory answers"),
    (0x28, true, "reserved bit set in the posted interrupt descriptor"),
    (0x29, false, "request to the interrupt address range that is no interrupt"),
    (0x2a, false, "extended interrupt mode is off on a unit that requires it"),
    (0x2b, false, "interrupt remapping is off on a unit that requires it"),
    (0x30, false, "translation table mode that the unit does not support"),
    (0x31, false, "request with PASID in legacy mode"),
    (0x32, false, "page request in legacy mode"),
    (0x33, false, "all DMA is aborted: abort-DMA mode"),
    (0x34, false, "execute request, which the unit does not know"),
    (0x38, false, "scalable-mode root table where no memory answers"),
    (0x39, false, "the bus has no context table: half of the root entry not present"),
    (0x3a, false, "reserved bit set in the scalable-mode root entry"),
    (0x40, false, "scalable-mode context table where no memory answers"),
    (0x41, true, "the device has no PASID directory: context entry not present"),
    (0x42, true, "reserved bit set in the scalable-mode context entry"),
    (0x43, true, "scalable-mode context entry whose fields contradict each other"),
    (0x44, true, "translation or translated request of a device without DTE"),
    (0x45, true, "request with PASID of a device without PASIDE"),
    (0x46, true, "PASID beyond the device's PASID directory"),
    (0x47, true, "page request of a device without PRE"),
    (0x48, true, "request with the PASID that stands for requests without one"),
    (0x49, true, "translated request with PASID of a device without EPTR"),
    (0x50, false, "PASID directory where no memory answers"),
    (0x51, true, "PASID directory entry not present"),
    (0x52, true, "reserved bit set in the PASID directory entry"),
    (0x58, false, "PASID table where no memory answers"),
    (0x59, true, "PASID table entry not present"),
    (0x5a, true, "reserved bit set in the PASID table entry"),
    (0x5b, true, "PASID table entry with a type or width that the unit does not support"),
    (0x5c, true, "execute request, which the unit does not support"),
    (0x5d, true, "supervisor request for a PASID that allows none"),
    (0x60, true, "translated request beyond the host permission table"),
    (0x70, true, "pointer to a first-stage table where no memory answers"),
    (0x71, true, "first-stage entry not present"),
    (0x72, true, "reserved bit set in a first-stage entry"),
    (0x73, true, "first-stage table where no memory answers"),
    (0x74, true, "guest address in a first-stage entry beyond the second stage's width"),
    (0x75, true, "first-stage table that the second stage does not let be read"),
    (0x76, true, "lower first-stage table that the second stage does not let be read"),
    (0x77, true, "first-stage accessed or dirty bit that the second stage does not let be set"),
    (0x78, true, "pointer to a second-stage table where no memory answers"),
    (0x79, true, "second-stage entry not present, or entries that together allow nothing"),
    (0x7a, true, "reserved bit set in a second-stage entry"),
    (0x7b, true, "second-stage table where no memory answers"),
    (0x7c, true, "second-stage accessed or dirty bit to be set by walks that do not snoop"),
    (0x7d, true, "second-stage accessed or dirty bit that could not be set"),
    (0x80, true, "IOVA that is not canonical"),
    (0x81, true, "user request to a supervisor page"),
    (0x83, true, "address beyond the host address width"),
    (0x84, true, "IOVA beyond the width of the second-stage table"),
    (0x85, true, "write without write permission"),
    (0x86, true, "read without read permission"),
    (0x87, true, "page that lies in the interrupt address range"),
    (0x89, true, "PASID with more bits than the unit supports"),
    (0x90, true, "first-stage accessed or dirty bit to be set by walks that do not snoop"),
    (0x91, true, "first-stage accessed or dirty bit that could not be set"),
    (0xa0, true, "pointer to a host permission table where no memory answers"),
    (0xa1, true, "reserved bit set in a host permission entry"),
    (0xa2, true, "host permission table where no memory answers"),
    (0xa3, true, "host permission table that ends without permission"),
    (0xa4, true, "translated write that the host permission table does not allow"),
    (0xa5, true, "translated read that the host permission table does not allow"),
  ]
}
