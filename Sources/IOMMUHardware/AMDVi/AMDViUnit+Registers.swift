import IOMMUFormats
import IOMMUTranslation

extension RegisterPage {
  /// The window of an AMD-Vi unit, from ``AMDVi/registerMap`` and the feature registers.
  init(_ configuration: AMDViUnitConfiguration) {
    let values: [String: UInt64] = [
      "EFR": configuration.features.rawValue, "EFR2": configuration.features2.rawValue,
      // As in the capability block, until software chooses another.
      "MsiVector1": 2,
    ]
    self.init(
      AMDVi.registerMap.filter { configuration.has($0.requirement) }.flatMap { register in
        (0..<UInt64(configuration.count(of: register))).map { index in
          Placed(
            register.format, at: register.offset + index * register.strideByteCount,
            reset: values[register.name],
            writable: register.format == AMDVi.Control.self ? configuration.controlBits : ~0)
        }
      }, byteCount: 0x4000)
  }

  /// Whether an access is one that the unit takes: 1, 2, 4 or 8 bytes at a multiple of as many.
  func allowsBytes(_ offset: UInt64, byteCount width: Int) -> Bool {
    [1, 2, 4, 8].contains(width) && offset % UInt64(width) == 0 && offset < byteCount
  }
}

extension AMDViUnit {
  /// Reads a register.
  ///
  /// - Parameters:
  ///   - offset: Bytes from the base of the window.
  ///   - width: 1, 2, 4 or 8, and `offset` a multiple of it; any other access reads as zero.
  public func read(_ offset: UInt64, byteCount width: Int) -> UInt64 {
    locked {
      guard page.allowsBytes(offset, byteCount: width) else { return 0 }
      let value = quadword(at: offset & ~7) >> (8 * (offset & 7))
      return value & Self.bits(ofBytes: width)
    }
  }

  /// Writes a register; commands are done when the call returns.
  ///
  /// A smaller write changes its bytes of the register and leaves the others. Parameters as in
  /// ``read(_:byteCount:)``; any other access has no effect.
  public func write(_ value: UInt64, at offset: UInt64, byteCount width: Int) {
    locked {
      guard page.allowsBytes(offset, byteCount: width) else { return }
      let place = offset & ~7
      let shift = 8 * (offset & 7)
      let bits = Self.bits(ofBytes: width) << shift
      let value = value << shift & bits
      guard accepts(quadword(at: place) & ~bits | value, at: place) else { return }
      let before = control
      for half: UInt64 in [0, 4] {
        let halfBits = UInt32(truncatingIfNeeded: bits >> (8 * half))
        guard halfBits != 0 else { continue }
        _ = page.softwareWrite(
          UInt32(truncatingIfNeeded: value >> (8 * half)), at: place + half, bits: halfBits)
      }
      wasWritten(place, before: before)
    }
  }

  private static func bits(ofBytes width: Int) -> UInt64 { ~0 >> UInt64(64 - 8 * width) }

  /// What software reads from a quadword of the window.
  private func quadword(at place: UInt64) -> UInt64 {
    UInt64(page.softwareRead(place)) | UInt64(page.softwareRead(place + 4)) << 32
  }

  // MARK: Registers by name

  var control: AMDVi.Control {
    page[AMDVi.Control.self, AMDVi.RegisterOffset.control]
  }
  var status: AMDVi.Status {
    get { page[AMDVi.Status.self, AMDVi.RegisterOffset.status] }
    set { page[AMDVi.Status.self, AMDVi.RegisterOffset.status] = newValue }
  }

  // MARK: Effects

  /// Whether the unit takes a write now. Where a ring lies does not change while it runs, nor does
  /// what only the unit writes.
  private func accepts(_ value: UInt64, at place: UInt64) -> Bool {
    typealias Offset = AMDVi.RegisterOffset
    switch place {
    case Offset.control:
      // Nothing of a write that asks for more segments than there are (*assumed*).
      return AMDVi.Control(rawValue: value).segmentCode <= configuration.features.maximumSegmentCode
    case Offset.commandBufferBase, Offset.commandHead: return !status.fetchesCommands
    case Offset.eventLogBase, Offset.eventTail: return !status.logsEvents
    case Offset.pageRequestLogBase, Offset.pageRequestTail: return !status.logsPageRequests
    case Offset.guestLogBase, Offset.guestTail: return !status.logsGuestInterrupts
    case Offset.systemManagementFilter..<(Offset.systemManagementFilter + 0x80):
      return !page[AMDVi.SystemManagementFilter.self, place].isLocked
    default: return true
    }
  }

  private func wasWritten(_ place: UInt64, before: AMDVi.Control) {
    typealias Offset = AMDVi.RegisterOffset
    switch place {
    case Offset.control:
      registersHaveChanged()
      switchRings(before)
    case Offset.deviceTableBase, Offset.exclusionBase, Offset.deviceTableSegmentBase...0x130,
      Offset.systemManagementFilter..<(Offset.systemManagementFilter + 0x80):
      registersHaveChanged()
    case Offset.exclusionLimit:
      page[AMDVi.ExclusionLimit.self, place].rawValue |= 0xfff
      registersHaveChanged()
    case Offset.commandBufferBase: clearPointers(Offset.commandHead, Offset.commandTail)
    case Offset.eventLogBase: clearPointers(Offset.eventHead, Offset.eventTail)
    case Offset.pageRequestLogBase: clearPointers(Offset.pageRequestHead, Offset.pageRequestTail)
    case Offset.guestLogBase: clearPointers(Offset.guestHead, Offset.guestTail)
    case Offset.commandTail: runCommands()
    case Offset.messageCapability & ~7...Offset.messageMapping & ~7: messageRegistersWereWritten()
    default: break
    }
  }

  private func clearPointers(_ head: UInt64, _ tail: UInt64) {
    page[AMDVi.RingPointer.self, head] = AMDVi.RingPointer(rawValue: 0)
    page[AMDVi.RingPointer.self, tail] = AMDVi.RingPointer(rawValue: 0)
  }

  /// Rings start where what switches them on becomes one, and their length is legal.
  private func switchRings(_ before: AMDVi.Control) {
    typealias Offset = AMDVi.RegisterOffset
    func update(
      _ isOn: (AMDVi.Control) -> Bool, isLegal: Bool,
      _ run: WritableKeyPath<AMDVi.Status, Bool>, _ overflow: WritableKeyPath<AMDVi.Status, Bool>?
    ) {
      if !isOn(control) {
        status[keyPath: run] = false
      } else if !isOn(before), isLegal {
        if let overflow { status[keyPath: overflow] = false }
        status[keyPath: run] = true
      }
    }
    update(
      { $0.isEnabled && $0.logsEvents },
      isLegal: page[AMDVi.EventLogBase.self, Offset.eventLogBase].byteCount != nil,
      \.logsEvents, \.hasEventOverflow)
    update(
      { $0.isEnabled && $0.takesPageRequests && $0.logsPageRequests },
      isLegal: page[AMDVi.PageRequestLogBase.self, Offset.pageRequestLogBase].byteCount != nil,
      \.logsPageRequests, \.hasPageRequestOverflow)
    update(
      { $0.isEnabled && $0.logsGuestInterrupts },
      isLegal: page[AMDVi.GuestLogBase.self, Offset.guestLogBase].byteCount != nil,
      \.logsGuestInterrupts, \.hasGuestOverflow)
    update(
      { $0.isEnabled && $0.fetchesCommands },
      isLegal: page[AMDVi.CommandBufferBase.self, Offset.commandBufferBase].byteCount != nil,
      \.fetchesCommands, nil)
    runCommands()
  }

  // MARK: What the registers mean

  /// A register that decides about tables was written. What caches know stays: software says what to
  /// drop. Entries of GCR3 tables are kept with what the registers made of them.
  private func registersHaveChanged() {
    (resolver, interruptRemapping) = Self.meaning(of: page, configuration)
    caches.guestRoots.invalidateAll()
  }

  static func meaning(
    of page: RegisterPage, _ configuration: AMDViUnitConfiguration
  ) -> (AMDVi.Resolver, AMDVi.InterruptRemapping) {
    typealias Offset = AMDVi.RegisterOffset
    let control = page[AMDVi.Control.self, Offset.control]
    let features = configuration.tableFeatures
    var unit = AMDVi.Unit(
      base: PhysicalAddress(0),
      deviceTable: page[AMDVi.DeviceTableBase.self, Offset.deviceTableBase],
      control: control, features: features, features2: configuration.features2)
    unit.furtherSegments = (0..<(1 << configuration.features.maximumSegmentCode - 1)).map {
      page[AMDVi.DeviceTableSegmentBase.self, Offset.deviceTableSegmentBase + UInt64($0) * 8]
    }
    unit.exclusionBase = page[AMDVi.ExclusionBase.self, Offset.exclusionBase]
    unit.exclusionLimit = page[AMDVi.ExclusionLimit.self, Offset.exclusionLimit]
    var sources: Set<Requester>?
    if control.filtersSystemManagement {
      let filters = (0..<configuration.features.systemManagementFilterCount).map {
        page[
          AMDVi.SystemManagementFilter.self, Offset.systemManagementFilter + UInt64($0) * 8]
      }
      sources = Set(filters.filter(\.isValid).map(\.device))
    }
    return (
      AMDVi.Resolver(unit),
      AMDVi.InterruptRemapping(control, features, systemManagementSources: sources)
    )
  }
}
