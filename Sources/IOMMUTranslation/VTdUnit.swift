import IOMMUFormats

/// A VT-d remapping unit in legacy mode, as its registers stand.
public struct VTdUnit: Sendable, Hashable {
  /// Physical base of the unit's registers.
  public var base: PhysicalAddress
  public var rootTableAddress: VTd.RootTableAddress
  public var status: VTd.GlobalStatus
  public var limits: VTd.Limits

  public init(
    base: PhysicalAddress, rootTableAddress: VTd.RootTableAddress, status: VTd.GlobalStatus,
    limits: VTd.Limits
  ) {
    self.base = base
    self.rootTableAddress = rootTableAddress
    self.status = status
    self.limits = limits
  }

  /// Where the root entry of a bus lies.
  @inlinable
  public func rootEntryAddress(bus: UInt8) -> PhysicalAddress {
    PhysicalAddress(rootTableAddress.rootTable.rawValue &+ UInt64(bus) &* 16)
  }

  /// Where the context entry of a requester lies in its bus's context table.
  @inlinable
  public static func contextEntryAddress(
    in contextTable: PhysicalAddress, deviceFunction: UInt8
  ) -> PhysicalAddress {
    PhysicalAddress(contextTable.rawValue &+ UInt64(deviceFunction) &* 16)
  }

  /// What the root and context entries say of a requester. Reads at most two entries.
  ///
  /// The steps are those of a legacy untranslated request without PASID; specification: Intel VT-d
  /// 3.4, 7.1.3. Step numbers as in the comments.
  public func resolve(
    _ requester: Requester, in memory: some PhysicalMemory, observer: inout some WalkObserver
  ) -> DeviceHandle.Route {
    // 0. Translation off: addresses pass unchanged.
    guard status.translates else { return .untranslated }
    // 2, 3. The mode that RTADDR selects. Scalable mode needs SMTS, which no unit here has.
    switch rootTableAddress.mode {
    case .legacy: break
    case .abortDMA, .reserved, .scalable: return .blocked(.vtd(.invalidTableMode, isRecorded: true))
    }
    // 5. The root entry: faults here are never qualified, there is no FPD yet.
    let rootPlace = rootEntryAddress(bus: requester.bus)
    guard let root = VTd.RootEntry(from: memory, at: rootPlace) else {
      return .blocked(.vtd(.rootTableUnreadable, isRecorded: true))
    }
    observer.read(root, at: rootPlace, level: VTdUnit.rootLevel)
    guard root.isPresent else { return .blocked(.vtd(.rootEntryNotPresent, isRecorded: true)) }
    let rootReserved = VTd.RootEntry.reservedMasks(limits)
    guard root.low & rootReserved.low == 0, root.high & rootReserved.high == 0 else {
      return .blocked(.vtd(.rootEntryReserved, isRecorded: true))
    }
    // 6. The context entry.
    let place = Self.contextEntryAddress(
      in: root.contextTable, deviceFunction: requester.deviceFunction)
    guard let context = VTd.ContextEntry(from: memory, at: place) else {
      return .blocked(.vtd(.contextTableUnreadable, isRecorded: true))
    }
    observer.read(context, at: place, level: VTdUnit.contextLevel)
    // 7. FPD counts even when the entry is not present; then P, reserved bits, type, width.
    let isReported = !context.suppressesFaultReports
    guard context.isPresent else {
      return .blocked(.vtd(.contextEntryNotPresent, isRecorded: isReported))
    }
    var reserved = VTd.ContextEntry.reservedMasks(limits)
    if context.translationType == .passThrough { reserved.low &= ~VTd.ContextEntry.pointerMask }
    guard context.low & reserved.low == 0, context.high & reserved.high == 0 else {
      return .blocked(.vtd(.contextEntryReserved, isRecorded: isReported))
    }
    let isSupported =
      switch context.translationType {
      case .secondStage: true
      case .secondStageWithDeviceTLB: limits.hasDeviceTLBs
      case .passThrough: limits.hasPassThrough
      case .reserved: false
      }
    guard isSupported, limits.supports(levels: context.levels) else {
      return .blocked(.vtd(.contextEntryInvalid, isRecorded: isReported))
    }
    // 9. Pass-through reaches all of the host's address width.
    if context.translationType == .passThrough {
      return .passThrough(hostAddressWidth: limits.hostAddressWidth, isReported: isReported)
    }
    return .secondStage(
      SecondStageTable(
        root: context.secondStageTable,
        format: SecondStageFormat(levels: context.levels, limits: limits),
        addressWidth: min(limits.maximumGuestAddressWidth, 12 + 9 * context.levels),
        isReported: isReported))
  }

  /// The levels that observers see for the two tables above the second-stage tables.
  public static let rootLevel = 7
  public static let contextLevel = 6
}

/// A VT-d second-stage table in force for one device.
@frozen
public struct SecondStageTable: Sendable {
  public let root: PhysicalAddress
  public let format: SecondStageFormat
  /// Bits of IOVA that are translated: the smaller of the unit's and the table's.
  public let addressWidth: Int
  public let isReported: Bool

  @inlinable
  public init(root: PhysicalAddress, format: SecondStageFormat, addressWidth: Int, isReported: Bool)
  {
    self.root = root
    self.format = format
    self.addressWidth = addressWidth
    self.isReported = isReported
  }

  @inlinable
  func translate(
    _ address: UInt64, byteCount: UInt64, access: Access, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> Translation {
    // 1. The interrupt range is never remapped as memory.
    if VTd.isInterruptAddress(address) { return DeviceHandle.interruptAnswer(access) }
    // 10. Second-stage addresses are not sign-extended: bits above the width must be zero.
    guard address &>> UInt64(truncatingIfNeeded: addressWidth) == 0 else {
      return fault(.addressBeyondWidth)
    }
    // 11. The walk.
    let walk = format.walk(address, from: root, in: memory, observer: &observer)
    switch walk.end {
    case .unreadable:
      return fault(walk.level == format.levels ? .contextEntryInvalid : .tableUnreadable)
    case .malformed:
      return fault(.secondStageEntryReserved)
    case .empty:
      return fault(access == .read ? .readNotPermitted : .writeNotPermitted)
    case .page:
      guard walk.permissions.contains(access.permission) else {
        return fault(access == .read ? .readNotPermitted : .writeNotPermitted)
      }
      let physical = place(address, in: walk.page, sizeLog2: walk.sizeLog2)
      // 12. A page in the interrupt range is no memory either.
      guard !VTd.isInterruptAddress(physical.rawValue) else {
        return fault(.interruptAddressReached)
      }
      var length = bytesInPage(address, sizeLog2: walk.sizeLog2, atMost: byteCount)
      // The interrupt range starts at a multiple of 2 MiB: only a larger page can run into it.
      if walk.sizeLog2 > 21 {
        length = bytesBeforeInterruptRange(address, atMost: length)
        length = bytesBeforeInterruptRange(physical.rawValue, atMost: length)
      }
      return .mapped(physical, byteCount: length)
    }
  }

  @inlinable
  func fault(_ reason: VTd.FaultReason) -> Translation {
    .fault(.vtd(reason, isRecorded: isReported || !reason.isQualified))
  }
}
