import IOMMUFormats

extension AMDVi {
  /// The registers of a unit that decide about interrupts, as they stand.
  ///
  /// A value without memory of what it has read: a unit that caches entries asks
  /// ``locate(_:from:entry:)``, gets the interrupt table entry from its cache or from memory, and asks
  /// ``decide(_:from:)``. Specification: AMD IOMMU 2.2.5.
  public struct InterruptRemapping: Sendable, Hashable {
    /// Control.GAEn: entries have 128 bits.
    public var usesWideEntries: Bool
    /// Control.XTEn: destinations have 32 bits.
    public var usesExtendedDestinations: Bool
    /// Control.GAMEn, of a unit that has it: entries may name guests.
    public var reachesGuests: Bool
    /// Control.NumIntRemapMode: tables have up to 2,048 entries, and data bits 10:8 are of the index.
    public var usesLargeTables: Bool
    /// The devices whose system management interrupts pass; `nil` without a filter.
    public var systemManagementSources: Set<Requester>?
    private let reserved: AMDVi.DeviceTableEntry

    /// What the registers say.
    ///
    /// - Parameters:
    ///   - control: The control register.
    ///   - features: What the unit has; `nil` where nobody knows it, so that it has everything.
    ///   - systemManagementSources: `nil` without a filter.
    public init(
      _ control: AMDVi.Control, _ features: AMDVi.ExtendedFeatures?,
      systemManagementSources: Set<Requester>? = nil
    ) {
      usesWideEntries = control.usesWideInterruptEntries
      usesExtendedDestinations = control.usesExtendedDestinations
      reachesGuests = control.guestModeCode != 0 && features?.hasGuestInterrupts ?? true
      usesLargeTables = control.usesLargeInterruptTables
      self.systemManagementSources = systemManagementSources
      reserved = AMDVi.DeviceTableEntry.reservedMasks(AMDVi.Limits(features))
    }

    /// Where the answer to a request stands.
    public enum Place: Hashable, Sendable {
      case decided(Decision)
      case entry(EntryPlace)
    }

    /// An entry of an interrupt table, before it is read.
    public struct EntryPlace: Hashable, Sendable {
      /// Its number in the device's table.
      public var index: Int
      public var address: PhysicalAddress
      /// DomainID of the device table entry, for events.
      public var domainID: UInt16
      /// IG of the device table entry is clear.
      public var isReported: Bool
    }

    /// What becomes of an interrupt.
    public enum Decision: Hashable, Sendable {
      /// It goes on as it stands.
      case passed
      case delivered(InterruptDelivery)
      case guest(GuestInterrupt)
      case blocked(AMDVi.RequestFault)
    }

    /// An entry of either size.
    @frozen
    public enum Entry: Hashable, Sendable {
      case narrow(AMDVi.InterruptEntry)
      case wide(AMDVi.WideInterruptEntry)
    }

    /// Finds the entry that decides about an interrupt, or decides without one. Reads no memory.
    ///
    /// In 2,048-entry mode all modes of delivery are part of the index where IntCtl remaps (*assumed*).
    ///
    /// - Parameters:
    ///   - request: What the device stores where.
    ///   - device: Whose interrupt it is.
    ///   - entry: The device's.
    public func locate(
      _ request: AMDVi.InterruptRequest, from device: Requester, entry: AMDVi.DeviceTableEntry
    ) -> Place {
      let domainID = entry.isValid ? entry.domainID : 0
      func blocked(_ reason: AMDVi.FaultReason, isReported: Bool = true) -> Place {
        .decided(
          .blocked(AMDVi.RequestFault(reason, domainID: domainID, isReported: isReported)))
      }
      guard entry.isInterruptValid else { return .decided(.passed) }
      guard
        entry.quadwords[2] & reserved.quadwords[2] == 0,
        entry.quadwords[3] & reserved.quadwords[3] == 0
      else { return blocked(.interruptFieldsReserved) }
      let isRemapped = entry.interruptControl == .remap
      if !(isRemapped && usesLargeTables) {
        switch request.deliveryMode {
        case .fixed, .arbitrated: break
        case .systemManagement:
          guard let sources = systemManagementSources else { return .decided(.passed) }
          return sources.contains(device) ? .decided(.passed) : blocked(.interruptNotPassed)
        case .nonMaskable, .initialize, .external:
          return passes(request, entry) ? .decided(.passed) : blocked(.interruptNotPassed)
        case .reserved3, .reserved6: return blocked(.interruptNotPassed)
        }
      }
      switch entry.interruptControl {
      case .abort: return blocked(.interruptNotPassed)
      case .forward: return .decided(.passed)
      case .remap: break
      default: return blocked(.interruptControlReserved)
      }
      let code = entry.interruptTableLengthCode
      guard code <= 11 else { return blocked(.interruptTableLengthIllegal) }
      let isReported = !entry.suppressesInterruptFaults
      guard request.index < 1 << code else {
        return blocked(.interruptBeyondTable, isReported: isReported)
      }
      // Tables end below 2^52 but for their last entries.
      let offset = UInt64(request.index) * (usesWideEntries ? 16 : 4)
      return .entry(
        EntryPlace(
          index: request.index,
          address: PhysicalAddress(entry.interruptTable.rawValue + offset), domainID: domainID,
          isReported: isReported))
    }

    /// Whether the device table entry lets an interrupt pass that no table has; those are for one
    /// processor.
    private func passes(
      _ request: AMDVi.InterruptRequest, _ entry: AMDVi.DeviceTableEntry
    ) -> Bool {
      let needed: AMDVi.InterruptPasses =
        switch request.deliveryMode {
        case .nonMaskable: .nonMaskable
        case .initialize: .initialization
        default: .external
        }
      return !request.isLogical && entry.passes.contains(needed)
    }

    /// The entry at a place, as it lies in memory; `nil` when memory does not hold all of it.
    public func entry(at place: EntryPlace, in memory: some PhysicalMemory) -> Entry? {
      usesWideEntries
        ? AMDVi.WideInterruptEntry(from: memory, at: place.address).map { .wide($0) }
        : AMDVi.InterruptEntry(from: memory, at: place.address).map { .narrow($0) }
    }

    /// What an entry says.
    ///
    /// - Parameters:
    ///   - entry: `nil` when it cannot be read.
    ///   - place: Where it was looked for.
    public func decide(_ entry: Entry?, from place: EntryPlace) -> Decision {
      func blocked(_ reason: AMDVi.FaultReason, _ suppresses: Bool) -> Decision {
        .blocked(
          AMDVi.RequestFault(
            reason, domainID: place.domainID, isReported: place.isReported && !suppresses))
      }
      switch entry {
      case nil:
        return .blocked(
          AMDVi.RequestFault(
            .interruptTableUnreadable, domainID: place.domainID, address: place.address.rawValue))
      case .narrow(let entry):
        guard entry.remaps else { return blocked(.interruptNotPresent, entry.suppressesFaults) }
        guard entry.typeCode <= 1, !entry.isGuest, entry.reservedViolations.isEmpty else {
          return blocked(.interruptEntryReserved, entry.suppressesFaults)
        }
        return .delivered(
          InterruptDelivery(
            vector: entry.vector, destination: UInt32(entry.destination),
            deliveryMode: entry.typeCode == 1 ? .lowestPriority : .fixed,
            isLogical: entry.isLogical, isLevelTriggered: entry.requestsEnd))
      case .wide(let entry):
        guard entry.remaps else { return blocked(.interruptNotPresent, entry.suppressesFaults) }
        let reserved = AMDVi.WideInterruptEntry.reservedMasks(
          .init(isGuest: entry.isGuest, usesExtendedDestinations: usesExtendedDestinations))
        guard !entry.overlaps(reserved), entry.isGuest ? reachesGuests : entry.typeCode <= 1 else {
          return blocked(.interruptEntryReserved, entry.suppressesFaults)
        }
        let destination = usesExtendedDestinations ? entry.destination : entry.destination & 0xff
        guard !entry.isGuest else {
          return .guest(
            GuestInterrupt(
              vector: entry.vector, page: entry.page, tag: entry.tag, destination: destination,
              isRunning: entry.isRunning, isLogged: entry.isLogged))
        }
        return .delivered(
          InterruptDelivery(
            vector: entry.vector, destination: destination,
            deliveryMode: entry.typeCode == 1 ? .lowestPriority : .fixed,
            isLogical: entry.isLogical, isLevelTriggered: entry.requestsEnd))
      }
    }
  }

  /// An interrupt for a guest's virtual APIC.
  public struct GuestInterrupt: Hashable, Sendable {
    /// In the guest.
    public var vector: UInt8
    /// The virtual APIC's page.
    public var page: PhysicalAddress
    /// What software calls the guest's processor.
    public var tag: UInt32
    /// Where the guest runs.
    public var destination: UInt32
    public var isRunning: Bool
    /// An interrupt while the guest does not run is logged.
    public var isLogged: Bool

    public init(
      vector: UInt8, page: PhysicalAddress, tag: UInt32, destination: UInt32, isRunning: Bool,
      isLogged: Bool
    ) {
      self.vector = vector
      self.page = page
      self.tag = tag
      self.destination = destination
      self.isRunning = isRunning
      self.isLogged = isLogged
    }
  }
}

extension AMDVi.RequestFault {
  /// The event of an interrupt that was stopped; `nil` for what is stopped without a word.
  ///
  /// Its address is the message's (*assumed*: a real unit logs one of HyperTransport's, which no source
  /// derives). RW is clear: an interrupt is no write.
  public func event(
    for request: AMDVi.InterruptRequest, from device: Requester
  ) -> AMDVi.Event? {
    let asked = AMDVi.Request(device, IOVA(request.address), .read)
    guard var event = event(for: asked) else { return nil }
    event.low |= UInt64(AMDVi.Event.Flags.interrupt.rawValue) << 48
    return event
  }
}
