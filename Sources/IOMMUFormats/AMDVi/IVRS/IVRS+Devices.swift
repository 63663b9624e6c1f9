extension AMDVi.IVRS.Block {
  /// Devices that entries of a unit name together: one, or a range.
  public struct Span: Hashable, Sendable {
    public var devices: ClosedRange<UInt16>
    /// Whose number their requests carry; `nil` for their own.
    public var source: Requester?

    public init(devices: ClosedRange<UInt16>, source: Requester? = nil) {
      self.devices = devices
      self.source = source
    }

    /// `00:14.0`, or `03:00.0 to 03:1f.7`.
    public var text: String {
      let first = Requester(rawValue: devices.lowerBound)
      return devices.count == 1
        ? "\(first)" : "\(first) to \(Requester(rawValue: devices.upperBound))"
    }
  }

  /// The devices behind a unit, in the order of its entries. Ranges that do not end are left out.
  ///
  /// I/O APICs and timers are devices by the number that their interrupts carry.
  public var spans: [Span] {
    var spans: [Span] = []
    var start: AMDVi.IVRS.DeviceEntry?
    for entry in entries {
      let number = entry.deviceID.rawValue
      switch entry.type {
      case .all: spans.append(Span(devices: 0...0xffff))
      case .select, .extendedSelect: spans.append(Span(devices: number...number))
      case .aliasSelect: spans.append(Span(devices: number...number, source: entry.sourceID))
      case .rangeStart, .aliasRangeStart, .extendedRangeStart: start = entry
      case .rangeEnd:
        if let first = start, first.deviceID.rawValue <= number {
          spans.append(
            Span(
              devices: first.deviceID.rawValue...number,
              source: first.type.isAlias ? first.sourceID : nil))
        }
        start = nil
      default: break
      }
    }
    return spans
  }
}
