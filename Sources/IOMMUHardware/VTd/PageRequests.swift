import IOMMUFormats
import IOMMUTranslation

/// A device asks software to make a page present. Specification: Intel VT-d 7.4.
public struct PageRequest: Hashable, Sendable {
  public var requester: Requester
  public var pasid: PASID?
  /// The page; bits 11:0 do not count.
  public var address: IOVA
  public var reads: Bool
  public var writes: Bool
  public var isPrivileged: Bool
  public var isExecute: Bool
  /// LPIG: the last request of its group, the one that is answered.
  public var isLastInGroup: Bool
  /// PRGI, 9 bits.
  public var groupIndex: UInt16

  /// - Precondition: `groupIndex` is below 512.
  public init(
    _ requester: Requester, pasid: PASID? = nil, address: IOVA, reads: Bool = true,
    writes: Bool = false, isPrivileged: Bool = false, isExecute: Bool = false,
    isLastInGroup: Bool = true, groupIndex: UInt16 = 0
  ) {
    precondition(groupIndex < 512, "a page request group index has nine bits")
    self.requester = requester
    self.pasid = pasid
    self.address = address
    self.reads = reads
    self.writes = writes
    self.isPrivileged = isPrivileged
    self.isExecute = isExecute
    self.isLastInGroup = isLastInGroup
    self.groupIndex = groupIndex
  }

  var descriptor: VTd.PageRequestDescriptor {
    VTd.PageRequestDescriptor(
      requester: requester, pasid: pasid?.rawValue, address: address, reads: reads, writes: writes,
      isLastInGroup: isLastInGroup, groupIndex: groupIndex, isPrivileged: isPrivileged,
      isExecute: isExecute)
  }
}

/// What became of a page request.
public enum PageRequestOutcome: Hashable, Sendable {
  /// It is in software's queue; an answer comes as a page group response.
  case queued
  /// It was dropped; the response goes to the device at once when the request was the last of its
  /// group.
  case dropped(PageGroupResponse?)
}

extension TranslationPort {
  /// Answers a translation request of a device with a TLB of its own (PCIe ATS).
  ///
  /// All from the tables, not from the caches; a fault that is to be recorded is.
  ///
  /// - Precondition: `request` is a translation request.
  public func completeTranslationRequest(_ request: VTd.Request) -> TranslationCompletion {
    synchroniseIfNeeded()
    let completion = engine.value.completion(of: request, in: memory)
    if case .failure(let fault, _) = completion, fault.reason.isRecordedForTranslationRequests {
      report(fault.fault, of: request)
    }
    return completion
  }

  /// Puts a device's page request into software's queue, or says why not.
  ///
  /// A unit that is off or has no page requests answers Invalid Request (*assumed*).
  public func submitPageRequest(_ request: PageRequest) -> PageRequestOutcome {
    synchroniseIfNeeded()
    func dropped(_ code: VTd.PageResponseCode) -> PageRequestOutcome {
      .dropped(
        request.isLastInGroup
          ? PageGroupResponse(
            pasid: request.pasid?.rawValue, groupIndex: request.groupIndex, code: code) : nil)
    }
    guard unit.configuration.extendedCapability.hasPageRequests else {
      return dropped(.invalidRequest)
    }
    let question = VTd.Request(
      request.requester, request.address, request.writes ? .write : .read, kind: .page,
      pasid: request.pasid, isPrivileged: request.isPrivileged, isExecute: request.isExecute)
    switch engine.value.admitPageRequest(question, in: memory) {
    case .failure(let fault):
      if let fault { report(fault.fault, of: question) }
      return dropped(.invalidRequest)
    case .success(let invalidation):
      var isQueued = false
      outsideTurn {
        isQueued = unit.locked {
          unit.enqueue(request.descriptor, after: invalidation)
        }
      }
      return isQueued ? .queued : dropped(.success)
    }
  }
}

extension RemappingUnit {
  /// Writes a page request to the queue; `false` when it is full, or was and software has not
  /// cleared the overflow. Specification: Intel VT-d 7.4.1.
  ///
  /// The ring's length is a power of two; of software's head only the bits inside it count.
  func enqueue(
    _ request: VTd.PageRequestDescriptor, after invalidation: CacheInvalidation
  ) -> Bool {
    let status = VTd.RegisterOffset.pageRequestStatus
    guard !page[VTd.PageRequestStatus.self, status].hasOverflow else { return false }
    let queue =
      page[VTd.PageRequestQueueAddress.self, VTd.RegisterOffset.pageRequestQueueAddress]
    let inRing = queue.byteCount - 1
    let head =
      page[VTd.PageRequestQueueHead.self, VTd.RegisterOffset.pageRequestHead].byteOffset & inRing
    let tail =
      page[VTd.PageRequestQueueTail.self, VTd.RegisterOffset.pageRequestTail].byteOffset & inRing
    let next = (tail + VTd.PageRequestDescriptor.queueByteCount) & inRing
    guard next != head else {
      raise(.pageRequest) { page[VTd.PageRequestStatus.self, status].hasOverflow = true }
      return false
    }
    post(invalidation)
    drain()
    store(request, at: queue.queue.advanced(byBytes: tail))
    page[VTd.PageRequestQueueTail.self, VTd.RegisterOffset.pageRequestTail] =
      VTd.PageRequestQueueTail(rawValue: next)
    raise(.pageRequest) { page[VTd.PageRequestStatus.self, status].hasPendingRequest = true }
    return true
  }

  /// Stores a descriptor of 32 bytes, the upper half zero; where no memory answers it is lost.
  private func store(_ request: VTd.PageRequestDescriptor, at place: PhysicalAddress?) {
    guard let place, memory.isBacked(place, byteCount: VTd.PageRequestDescriptor.queueByteCount)
    else { return }
    memory.store(UInt64(0), at: PhysicalAddress(place.rawValue + 16))
    memory.store(UInt64(0), at: PhysicalAddress(place.rawValue + 24))
    request.store(to: memory, at: place)
  }
}
