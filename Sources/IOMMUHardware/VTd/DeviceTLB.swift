import IOMMUFormats

/// A device with a TLB of its own, as a unit sees it: it is told what to drop, and answers.
///
/// A unit calls with its lock held: an implementation must not call the unit.
public protocol DeviceTLB: AnyObject, Sendable {
  /// Drops translations of a range of pages.
  ///
  /// - Parameters:
  ///   - range: The pages, as the descriptor codes them.
  ///   - target: Whether those without PASID are meant, those of one PASID, or those of all PASIDs.
  func invalidate(_ range: VTd.DeviceTLBRange, of target: DeviceTLBTarget)
    -> DeviceTLBInvalidationResult

  /// Software's answer to a group of page requests.
  func receive(_ response: PageGroupResponse)
}

/// Which translations of a device an invalidation means.
public enum DeviceTLBTarget: Hashable, Sendable {
  case withoutPASID
  case pasid(UInt32)
  case allPASIDs
}

/// What a device makes of an invalidation.
public enum DeviceTLBInvalidationResult: Sendable {
  case completed
  /// No answer came in time: ITE.
  case timedOut
  /// The answer was not one that belongs to the request: ICE.
  case completedWrongly
}

/// The answer to a group of page requests. Specification: Intel VT-d 7.6.
public struct PageGroupResponse: Hashable, Sendable {
  public var pasid: UInt32?
  /// PRGI, as the requests of the group had it.
  public var groupIndex: UInt16
  public var code: VTd.PageResponseCode

  public init(pasid: UInt32?, groupIndex: UInt16, code: VTd.PageResponseCode) {
    self.pasid = pasid
    self.groupIndex = groupIndex
    self.code = code
  }
}
