import IOMMUFormats

extension VTd.Unit {
  /// What the registers say about interrupts; `nil` where one of them that decides is not known.
  package var interruptRemapping: VTd.InterruptRemapping? {
    guard let status, !status.remapsInterrupts || interruptTableAddress != nil else { return nil }
    return interruptRemapping(
      status, interruptTableAddress ?? VTd.InterruptTableAddress(rawValue: 0))
  }

  private func interruptRemapping(
    _ status: VTd.GlobalStatus, _ table: VTd.InterruptTableAddress
  ) -> VTd.InterruptRemapping {
    VTd.InterruptRemapping(
      isEnabled: status.remapsInterrupts,
      passesCompatibilityFormat: status.passesCompatibilityInterrupts, table: table,
      hostAddressWidth: limits.hostAddressWidth,
      canPost: limits.features.contains(.postedInterrupts),
      requiresExtendedMode: limits.features.contains(.requiredExtendedInterrupts),
      isRequired: limits.features.contains(.requiredInterruptRemapping))
  }

  /// The interrupt remapping table in force; `nil` where none is, where hardware can reach no entry of
  /// it, or where nobody knows.
  package var interruptTable: VTd.InterruptTable? {
    guard let remapping = interruptRemapping, remapping.isEnabled else { return nil }
    let table = VTd.InterruptTable(remapping)
    return table.entryCount > 0 ? table : nil
  }

  package var interrupts: InterruptPassage {
    guard let status else {
      return .unknown("whether \(sentenceName) remaps interrupts is not known: GSTS_REG is not")
    }
    // A table address that nobody knows has EIME or has not: where both answers are one, it is known.
    let answers = (interruptTableAddress.map { [$0] } ?? VTd.InterruptTableAddress.bothModes).map {
      passage(interruptRemapping(status, $0))
    }
    return answers.allSatisfy { $0 == answers[0] }
      ? answers[0]
      : .unknown(
        "whether \(sentenceName) lets interrupts in the compatibility format pass is not known: "
          + "IRTA_REG is not, and with EIME it does not")
  }

  /// What becomes of an interrupt in the compatibility format.
  private func passage(_ remapping: VTd.InterruptRemapping) -> InterruptPassage {
    guard case .decided(.blocked(let fault)) = remapping.locate(.compatible) else {
      return remapping.isEnabled ? .passesCompatibilityFormat : .notRemapped
    }
    let unit = "\(sentenceName) "
    switch fault.reason {
    case .interruptRemappingRequired:
      return .blocks(
        unit + "lets no interrupt pass while remapping is off (ECAP.IRREQ=1, GSTS.IRES=0)")
    case .extendedInterruptModeRequired:
      return .blocks(
        unit + "lets no interrupt pass while destinations have eight bits (ECAP.EIMER=1, EIME=0)")
    default:
      let why = remapping.passesCompatibilityFormat ? "IRTA_REG.EIME=1" : "GSTS.CFIS=0"
      return .blocks(
        unit + "remaps interrupts and blocks those in the compatibility format (\(why))")
    }
  }

  package var unknownInterruptTable: String? {
    guard interruptRemapping == nil else { return nil }
    return status == nil
      ? "GSTS_REG of \(sentenceName) is not"
      : "\(sentenceName) remaps interrupts, and IRTA_REG is not"
  }

  package var mayPostInterrupts: Bool { limits.features.contains(.postedInterrupts) }

  package func interruptMappings(in memory: some PhysicalMemory) -> InterruptTables {
    InterruptTables(interruptTable.map { [$0.mappings(in: memory)] } ?? [])
  }
}

extension VTd.InterruptTableAddress {
  /// One without EIME and one with it.
  fileprivate static var bothModes: [Self] {
    [false, true].map { Self(table: PhysicalAddress(0), sizeCode: 0, usesExtendedMode: $0) }
  }
}

extension VTd.InterruptRequest {
  /// One in the compatibility format, as software sends it that knows of no remapping.
  fileprivate static var compatible: Self {
    Self(
      address: VTd.InterruptAddress(rawValue: UInt32(VTd.interruptAddresses.lowerBound)),
      data: VTd.InterruptData(rawValue: 0))
  }
}

extension VTd {
  /// An interrupt remapping table in force.
  ///
  /// Specification: Intel VT-d 5.1.3, 9.9, 11.4.10.
  package struct InterruptTable: Hashable, Sendable {
    package let remapping: VTd.InterruptRemapping

    init(_ remapping: VTd.InterruptRemapping) { self.remapping = remapping }

    /// The table's first byte.
    package var start: PhysicalAddress { remapping.table.table }

    /// Entries that hardware can reach: as many as IRTA_REG says, below the host address width.
    package var entryCount: Int {
      let size = UInt64(VTd.InterruptRemappingEntry.byteCount)
      let limit: UInt64 = 1 << UInt64(remapping.hostAddressWidth)
      let reached = start.rawValue < limit ? (limit - start.rawValue) / size : 0
      return Int(min(UInt64(remapping.table.entryCount), reached))
    }

    /// The table's bytes, half-open.
    package var range: Range<PhysicalAddress> {
      start..<PhysicalAddress(
        start.rawValue + UInt64(entryCount * VTd.InterruptRemappingEntry.byteCount))
    }

    /// Where an entry lies.
    package func entryAddress(_ index: Int) -> PhysicalAddress {
      PhysicalAddress(
        start.rawValue + UInt64(index) * UInt64(VTd.InterruptRemappingEntry.byteCount))
    }

    /// Every entry that is present.
    ///
    /// - Complexity: O(``entryCount``).
    func mappings(in memory: some PhysicalMemory) -> InterruptMappings {
      var all = InterruptMappings(table: start, entryCount: entryCount)
      var missing: Range<Int>?
      func closeGap() {
        guard let gap = missing else { return }
        all.gaps.append(
          TableGap(
            .absent, .interrupts(UInt32(gap.lowerBound)...UInt32(gap.upperBound - 1)),
            in: .upper(VTd.interruptTable), at: entryAddress(gap.lowerBound)))
        missing = nil
      }
      for index in 0..<entryCount {
        let address = entryAddress(index)
        guard let entry = VTd.InterruptRemappingEntry(from: memory, at: address) else {
          missing = (missing?.lowerBound ?? index)..<index + 1
          continue
        }
        closeGap()
        guard entry.isPresent else { continue }
        let source = entry.source
        all.mappings.append(
          InterruptMapping(
            index: UInt32(index), entryAddress: address, source: source,
            decision: InterruptMapping.Outcome(
              remapping.decide(
                entry, index: UInt16(index), from: source.example ?? Requester(rawValue: 0)))))
      }
      closeGap()
      return all
    }
  }
}

extension VTd.InterruptRemappingEntry {
  /// Who may send the interrupt.
  fileprivate var source: InterruptSource {
    switch sourceValidation {
    case .none: .anyone
    case .requester: .requester(requester, ignoring: ignoredFunctionBits.ignoredBits)
    case .busRange:
      busRange.first <= busRange.last ? .buses(busRange.first...busRange.last) : .nobody
    case .reserved: .nobody
    }
  }
}
