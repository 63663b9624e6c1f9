extension AMDVi {
  /// MMIO 0x2020: what of the unit runs, and what waits for software.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct Status: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.Status {
  public static var name: StaticString { "IOMMU status" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var eventOverflow: BitField { BitField(0...0, "EventOverflow") }
  static var eventLogInt: BitField { BitField(1...1, "EventLogInt") }
  static var comWaitInt: BitField { BitField(2...2, "ComWaitInt") }
  static var eventLogRun: BitField { BitField(3...3, "EventLogRun") }
  static var cmdBufRun: BitField { BitField(4...4, "CmdBufRun") }
  static var pprOverflow: BitField { BitField(5...5, "PprOverflow") }
  static var pprInt: BitField { BitField(6...6, "PprInt") }
  static var pprLogRun: BitField { BitField(7...7, "PprLogRun") }
  static var gaLogRun: BitField { BitField(8...8, "GALogRun") }
  static var gaLogOverflow: BitField { BitField(9...9, "GALOverflow") }
  static var gaInt: BitField { BitField(10...10, "GAInt") }
  static var pprOverflowB: BitField { BitField(11...11, "PprOverflowB") }
  static var pprLogActive: BitField { BitField(12...12, "PprLogActive") }
  static var eventOverflowB: BitField { BitField(15...15, "EventOverflowB") }
  static var eventLogActive: BitField { BitField(16...16, "EventLogActive") }
  static var pprOverflowEarlyB: BitField { BitField(17...17, "PprOverflowEarlyB") }
  static var pprOverflowEarly: BitField { BitField(18...18, "PprOverflowEarly") }

  public static var registerFields: [RegisterField] {
    [
      .writeOneToClear(eventOverflow, sticky: false), .writeOneToClear(eventLogInt, sticky: false),
      .writeOneToClear(comWaitInt, sticky: false), .readOnly(eventLogRun), .readOnly(cmdBufRun),
      .writeOneToClear(pprOverflow, sticky: false), .writeOneToClear(pprInt, sticky: false),
      .readOnly(pprLogRun), .readOnly(gaLogRun), .writeOneToClear(gaLogOverflow, sticky: false),
      .writeOneToClear(gaInt, sticky: false), .writeOneToClear(pprOverflowB, sticky: false),
      .readOnly(pprLogActive), .reserved(13...14), .writeOneToClear(eventOverflowB, sticky: false),
      .readOnly(eventLogActive), .writeOneToClear(pprOverflowEarlyB, sticky: false),
      .writeOneToClear(pprOverflowEarly, sticky: false), .reserved(19...63),
    ]
  }

  /// EventOverflow: an event found no room.
  public var hasEventOverflow: Bool {
    get { self[Self.eventOverflow] != 0 }
    set { self[Self.eventOverflow] = newValue ? 1 : 0 }
  }
  /// EventLogInt: an event was logged.
  public var hasEvent: Bool {
    get { self[Self.eventLogInt] != 0 }
    set { self[Self.eventLogInt] = newValue ? 1 : 0 }
  }
  /// ComWaitInt: a completion wait that asked for an interrupt is done.
  public var hasCompletion: Bool {
    get { self[Self.comWaitInt] != 0 }
    set { self[Self.comWaitInt] = newValue ? 1 : 0 }
  }
  /// EventLogRun: events are logged.
  public var logsEvents: Bool {
    get { self[Self.eventLogRun] != 0 }
    set { self[Self.eventLogRun] = newValue ? 1 : 0 }
  }
  /// CmdBufRun: commands are fetched.
  public var fetchesCommands: Bool {
    get { self[Self.cmdBufRun] != 0 }
    set { self[Self.cmdBufRun] = newValue ? 1 : 0 }
  }
  /// PprOverflow: a page request found no room.
  public var hasPageRequestOverflow: Bool {
    get { self[Self.pprOverflow] != 0 }
    set { self[Self.pprOverflow] = newValue ? 1 : 0 }
  }
  /// PprInt: a page request was logged.
  public var hasPageRequest: Bool {
    get { self[Self.pprInt] != 0 }
    set { self[Self.pprInt] = newValue ? 1 : 0 }
  }
  /// PprLogRun: page requests are logged.
  public var logsPageRequests: Bool {
    get { self[Self.pprLogRun] != 0 }
    set { self[Self.pprLogRun] = newValue ? 1 : 0 }
  }
  /// GALogRun: interrupts of guests are logged.
  public var logsGuestInterrupts: Bool {
    get { self[Self.gaLogRun] != 0 }
    set { self[Self.gaLogRun] = newValue ? 1 : 0 }
  }
  /// GALOverflow: an interrupt of a guest found no room.
  public var hasGuestOverflow: Bool {
    get { self[Self.gaLogOverflow] != 0 }
    set { self[Self.gaLogOverflow] = newValue ? 1 : 0 }
  }
  /// GAInt: an interrupt of a guest was logged.
  public var hasGuestInterrupt: Bool {
    get { self[Self.gaInt] != 0 }
    set { self[Self.gaInt] = newValue ? 1 : 0 }
  }
  /// PprOverflowEarly: the log of page requests is nearly full.
  public var hasEarlyPageRequestOverflow: Bool {
    get { self[Self.pprOverflowEarly] != 0 }
    set { self[Self.pprOverflowEarly] = newValue ? 1 : 0 }
  }
}
