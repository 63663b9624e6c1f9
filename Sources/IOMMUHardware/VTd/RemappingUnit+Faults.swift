import IOMMUFormats

extension RemappingUnit {
  var faultStatus: VTd.FaultStatus {
    get { page[VTd.FaultStatus.self, VTd.RegisterOffset.faultStatus] }
    set { page[VTd.FaultStatus.self, VTd.RegisterOffset.faultStatus] = newValue }
  }

  private func place(ofRecord index: Int) -> UInt64 {
    configuration.capability.faultRecordOffset + UInt64(index) * 16
  }

  /// Whether `offset` is the doubleword of a fault record that has F.
  func isFaultRecordTop(_ offset: UInt64) -> Bool {
    let first = configuration.capability.faultRecordOffset
    return offset >= first && offset % 16 == 12
      && (offset - first) / 16 < UInt64(configuration.capability.faultRecordCount)
  }

  /// Writes a fault down, as far as there is room. Specification: Intel VT-d 7.2.1.
  ///
  /// Call with the lock held.
  func record(_ fault: VTd.FaultRecord) {
    guard !faultStatus.hasOverflow else { return }
    if configuration.compressesFaults, hasRecord(of: fault.requester) { return }
    let place = place(ofRecord: nextFaultRecord)
    guard !page[VTd.FaultRecord.self, place].isValid else {
      // The overflow alone raises no event.
      faultStatus.hasOverflow = true
      return
    }
    let index = nextFaultRecord
    nextFaultRecord = (index + 1) % configuration.capability.faultRecordCount
    page[VTd.FaultRecord.self, place] = fault
    guard !faultStatus.hasPendingFault else { return }
    raise(.fault) {
      faultStatus.firstRecord = UInt8(index)
      faultStatus.hasPendingFault = true
    }
  }

  private func hasRecord(of requester: Requester) -> Bool {
    (0..<configuration.capability.faultRecordCount).contains {
      let record = page[VTd.FaultRecord.self, place(ofRecord: $0)]
      return record.isValid && record.requester == requester
    }
  }

  /// F of some record was cleared: PPF is what the records' F bits say together.
  func faultRecordWasCleared() {
    faultStatus.hasPendingFault = (0..<configuration.capability.faultRecordCount).contains {
      page[VTd.FaultRecord.self, place(ofRecord: $0)].isValid
    }
    settle(.fault)
  }

  /// A bit of FSTS_REG was cleared: the queue goes on when its errors are gone.
  func faultStatusWasCleared() {
    settle(.fault)
    runQueue()
  }
}
