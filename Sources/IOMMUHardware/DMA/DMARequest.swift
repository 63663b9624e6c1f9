import IOMMUFormats
import IOMMUTranslation

/// A DMA request as a device sends it.
public struct DMARequest: Hashable, Sendable {
  public var requester: Requester
  /// The PASID prefix, where there is one.
  public var pasid: PASID?
  public var address: IOVA
  /// At least 1. Bytes behind the last address of all are no part of the request.
  public var byteCount: UInt64
  public var access: Access

  /// - Parameters:
  ///   - access: Whether the device reads or writes.
  ///   - requester: The device that sends it.
  ///   - pasid: The PASID prefix; `nil` for a request without.
  ///   - address: The first byte.
  ///   - byteCount: At least 1.
  public init(
    _ access: Access, by requester: Requester, pasid: PASID? = nil, at address: IOVA,
    byteCount: UInt64 = 1
  ) {
    precondition(byteCount > 0, "a DMA request has at least one byte")
    self.requester = requester
    self.pasid = pasid
    self.address = address
    self.byteCount = byteCount
    self.access = access
  }
}

/// A piece of a DMA request, all of which came to the same end.
public struct DMAPiece: Equatable, Sendable {
  public var address: IOVA
  /// Bytes of the request before the piece.
  public var offset: UInt64
  /// At least 1.
  public var byteCount: UInt64
  public var answer: Translation

  /// - Parameters:
  ///   - address: The piece's first byte.
  ///   - offset: Bytes of the request before the piece.
  ///   - byteCount: At least 1.
  ///   - answer: What all of the piece came to.
  package init(address: IOVA, offset: UInt64, byteCount: UInt64, answer: Translation) {
    self.address = address
    self.offset = offset
    self.byteCount = byteCount
    self.answer = answer
  }

  /// I/O addresses, half-open. No range holds the last address of all: one that would ends before
  /// it.
  public var iovas: Range<IOVA> {
    address..<(address.advanced(byBytes: byteCount) ?? IOVA(.max))
  }
}

extension DMARequest {
  /// Splits the request as platforms do, at the end of each page, and answers the pieces in order.
  ///
  /// - Parameters:
  ///   - translate: Answers the first piece of a request, as ``DMAPort/translate(_:in:)`` does.
  ///   - body: What is done with a piece, before the next one is asked for.
  /// - Complexity: O(pages).
  public func forEachPiece(
    answeredBy translate: (DMARequest) -> Translation, _ body: (DMAPiece) -> Void
  ) {
    var rest = self
    // The last address of all ends the request.
    let toLastAddress = UInt64.max - address.rawValue
    rest.byteCount = byteCount - 1 <= toLastAddress ? byteCount : toLastAddress + 1
    var offset: UInt64 = 0
    while true {
      let answer = translate(rest)
      let length =
        switch answer {
        case .mapped(_, let granted): min(rest.byteCount, granted)
        case .interruptMessage, .fault:
          min(rest.byteCount, PageCount.pageByteCount - rest.address.offsetInPage)
        }
      precondition(length > 0, "a unit answers at least one byte of a request")
      body(
        DMAPiece(address: rest.address, offset: offset, byteCount: length, answer: answer))
      guard length < rest.byteCount else { return }
      offset += length
      rest.byteCount -= length
      rest.address = IOVA(rest.address.rawValue + length)
    }
  }
}
