import IOMMUFormats

extension VTd {
  /// The registers of a VT-d unit that decide about interrupt requests, as they stand.
  ///
  /// A value without memory of what it has read: a unit that caches entries asks ``locate(_:)``, gets
  /// the entry from its cache or from memory, and asks ``decide(_:index:from:)``. Specification: Intel
  /// VT-d 5.1.
  public struct InterruptRemapping: Sendable, Hashable {
    /// GSTS.IRES.
    public var isEnabled: Bool
    /// GSTS.CFIS.
    public var passesCompatibilityFormat: Bool
    /// IRTA_REG as the last SIRTP found it.
    public var table: VTd.InterruptTableAddress
    /// HAW.
    public var hostAddressWidth: Int
    /// CAP.PI.
    public var canPost: Bool
    /// ECAP.EIMER.
    public var requiresExtendedMode: Bool
    /// ECAP.IRREQ.
    public var isRequired: Bool

    public init(
      isEnabled: Bool, passesCompatibilityFormat: Bool = false, table: VTd.InterruptTableAddress,
      hostAddressWidth: Int, canPost: Bool = false, requiresExtendedMode: Bool = false,
      isRequired: Bool = false
    ) {
      self.isEnabled = isEnabled
      self.passesCompatibilityFormat = passesCompatibilityFormat
      self.table = table
      self.hostAddressWidth = hostAddressWidth
      self.canPost = canPost
      self.requiresExtendedMode = requiresExtendedMode
      self.isRequired = isRequired
    }

    /// Where the answer to a request stands.
    public enum Place: Hashable, Sendable {
      case decided(InterruptDecision)
      /// In entry `index`, which lies at this address.
      case entry(index: UInt16, PhysicalAddress)
    }

    /// Finds the entry that decides about a request, or decides without one. Reads no memory.
    ///
    /// Steps as the manual has them: remapping off, format, reserved bits (20h), index (21h).
    public func locate(_ request: VTd.InterruptRequest) -> Place {
      func blocked(_ reason: VTd.FaultReason) -> Place {
        .decided(.blocked(InterruptFault(reason: reason)))
      }
      // Off: every request is taken as one in compatibility format, unless remapping is a must.
      guard isEnabled else {
        return isRequired ? blocked(.interruptRemappingRequired) : .decided(.passed)
      }
      guard !requiresExtendedMode || table.usesExtendedMode else {
        return blocked(.extendedInterruptModeRequired)
      }
      guard let index = request.index else {
        let passes = passesCompatibilityFormat && !table.usesExtendedMode
        return passes ? .decided(.passed) : blocked(.compatibilityInterruptBlocked)
      }
      guard !request.isReserved else { return blocked(.interruptRequestReserved) }
      // Handle and subhandle may add up to 17 bits; the record has room for 16.
      let record = UInt16(truncatingIfNeeded: index)
      let width = UInt64(hostAddressWidth)
      guard index < table.entryCount,
        let address = table.table.advanced(byBytes: UInt64(index) * 16),
        address.rawValue >> width == 0
      else {
        return .decided(
          .blocked(InterruptFault(reason: .interruptIndexBeyondTable, index: record)))
      }
      return .entry(index: record, address)
    }

    /// What an entry says of a request from `requester`.
    ///
    /// - Parameters:
    ///   - entry: `nil` when it cannot be read.
    ///   - index: The number of the entry in its table; answers and faults name it.
    ///   - requester: Who sent the request; the entry may admit some only.
    public func decide(
      _ entry: VTd.InterruptRemappingEntry?, index: UInt16, from requester: Requester
    ) -> InterruptDecision {
      guard let entry else {
        return .blocked(InterruptFault(reason: .interruptTableUnreadable, index: index))
      }
      func blocked(_ reason: VTd.FaultReason) -> InterruptDecision {
        .blocked(
          InterruptFault(
            reason: reason, index: index, isRecorded: !entry.suppressesFaultReports))
      }
      guard entry.isPresent else { return blocked(.interruptEntryNotPresent) }
      // The place of this check, before that of the source, is *assumed*; so is that a delivery mode
      // which is not defined counts as reserved.
      guard let deliveryMode = entry.isPosted ? .fixed : entry.deliveryMode, isWellFormed(entry)
      else {
        return blocked(.interruptEntryReserved)
      }
      guard entry.admits(requester) else { return blocked(.interruptSourceRefused) }
      if entry.isPosted {
        return .posted(
          PostedInterrupt(
            descriptor: entry.postedDescriptor, vector: entry.vector, isUrgent: entry.isUrgent,
            index: index, isReported: !entry.suppressesFaultReports))
      }
      return .delivered(
        InterruptDelivery(
          vector: entry.vector,
          destination: entry.destination(usesExtendedMode: table.usesExtendedMode),
          deliveryMode: deliveryMode, isLogical: entry.isLogical,
          isLevelTriggered: entry.isLevelTriggered, hasRedirectionHint: entry.hasRedirectionHint))
    }

    /// No reserved bit is set, and SVT is not the reserved one.
    private func isWellFormed(_ entry: VTd.InterruptRemappingEntry) -> Bool {
      let reserved = VTd.InterruptRemappingEntry.reservedMasks(variant(of: entry))
      return entry.low & reserved.low == 0 && entry.high & reserved.high == 0
        && entry.sourceValidation != .reserved
    }

    /// What decides the meaning of an entry's bits.
    public func variant(of entry: VTd.InterruptRemappingEntry)
      -> VTd.InterruptRemappingEntry.Variant
    {
      VTd.InterruptRemappingEntry.Variant(
        isPosted: entry.isPosted && canPost, usesExtendedMode: table.usesExtendedMode,
        canPost: canPost)
    }

    /// The whole decision, with the entry read from memory.
    ///
    /// A posted interrupt's descriptor is neither read nor written here.
    public func decide(
      _ request: VTd.InterruptRequest, from requester: Requester, in memory: some PhysicalMemory
    ) -> InterruptDecision {
      switch locate(request) {
      case .decided(let decision): decision
      case .entry(let index, let address):
        decide(
          VTd.InterruptRemappingEntry(from: memory, at: address), index: index, from: requester)
      }
    }
  }
}
