import IOMMUFormats

extension RemappingUnit {
  /// The three conditions that a unit interrupts for, each with registers of its own.
  enum Event {
    case fault, completion, pageRequest

    var control: UInt64 {
      switch self {
      case .fault: VTd.RegisterOffset.faultControl
      case .completion: VTd.RegisterOffset.completionControl
      case .pageRequest: VTd.RegisterOffset.pageRequestControl
      }
    }
    var data: UInt64 { control + 4 }
    var address: UInt64 { control + 8 }
    var upperAddress: UInt64 { control + 12 }
  }

  /// Whether any status bit of an event is set; while one is, no further event is raised.
  private func isSet(_ event: Event) -> Bool {
    switch event {
    case .fault: page[VTd.FaultStatus.self, VTd.RegisterOffset.faultStatus].isAnySet
    case .completion:
      page[VTd.CompletionStatus.self, VTd.RegisterOffset.completionStatus].isComplete
    case .pageRequest:
      page[VTd.PageRequestStatus.self, VTd.RegisterOffset.pageRequestStatus].rawValue != 0
    }
  }

  /// Sets status bits, and raises the event when none of its bits was set before.
  ///
  /// Specification: Intel VT-d 7.3.
  func raise(_ event: Event, _ setStatus: () -> Void) {
    let wasSet = isSet(event)
    setStatus()
    guard !wasSet else { return }
    page[VTd.EventControl.self, event.control].isPending = true
    sendIfUnmasked(event)
  }

  /// xCTL was written: a pending message goes out when it is no longer masked.
  func controlWasWritten(of event: Event) { sendIfUnmasked(event) }

  /// Status bits were cleared: with the last of them a pending message is forgotten.
  func settle(_ event: Event) {
    if !isSet(event) { page[VTd.EventControl.self, event.control].isPending = false }
  }

  private func sendIfUnmasked(_ event: Event) {
    var control = page[VTd.EventControl.self, event.control]
    guard control.isPending, !control.isMasked else { return }
    control.isPending = false
    page[VTd.EventControl.self, event.control] = control
    let address = page[VTd.EventAddress.self, event.address].rawValue
    let upper = page[VTd.EventUpperAddress.self, event.upperAddress].rawValue
    send(
      InterruptMessage(
        address: UInt64(upper) << 32 | UInt64(address),
        data: page[VTd.EventData.self, event.data].rawValue))
  }
}
