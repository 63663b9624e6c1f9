import IOMMUFormats

/// What becomes of the first byte of a DMA request, in one word.
///
/// Eight bytes for each answer keep a batch's output out of the way of the tables. Bits 51:0 are the
/// physical address, all others zero; or bit 63 is set and bits 23:0 say why there is none.
/// ``translation`` is the same as an enum.
@frozen
public struct PackedTranslation: RawRepresentable, Hashable, Sendable {
  public var rawValue: UInt64

  @inlinable @inline(__always)
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// The request reaches memory.
  @inlinable @inline(__always)
  public var isMapped: Bool { rawValue &>> 63 == 0 }

  /// Where the byte goes; `nil` when it goes nowhere.
  @inlinable @inline(__always)
  public var physical: PhysicalAddress? { isMapped ? PhysicalAddress(rawValue) : nil }
}

extension PackedTranslation {
  /// Bits 23:16 of an answer without an address; below them, for a fault, its scheme and its number.
  @usableFromInline
  enum Kind: UInt64 {
    case recordedFault = 1
    case unrecordedFault, interruptMessage, addressTooWide
  }

  init(kind: Kind, _ detail: UInt16 = 0) {
    rawValue = 1 << 63 | kind.rawValue << 16 | UInt64(detail)
  }

  /// An address of 2^52 or more, where no machine has memory: passed unchanged by a route that does
  /// not translate it. The word has no room for it; ``DeviceHandle`` answers it in full.
  public static let addressTooWide = Self(kind: .addressTooWide)

  /// The same answer in one word; how far the mapping goes on is not part of it.
  public init(_ translation: Translation) {
    switch translation {
    case .mapped(let physical, _):
      self = physical.rawValue >> 52 == 0 ? Self(rawValue: physical.rawValue) : .addressTooWide
    case .interruptMessage: self.init(kind: .interruptMessage)
    case .fault(let fault):
      self.init(
        kind: fault.isRecorded ? .recordedFault : .unrecordedFault,
        UInt16(fault.scheme) << 8 | UInt16(fault.code))
    }
  }

  /// The answer for one byte; `nil` for ``addressTooWide`` and for words that are no answer.
  public var translation: Translation? {
    if let physical { return .mapped(physical, byteCount: 1) }
    let kind = Kind(rawValue: rawValue >> 16 & 0xff)
    switch kind {
    case .recordedFault, .unrecordedFault:
      let scheme = UInt8(truncatingIfNeeded: rawValue >> 8)
      guard Int(scheme) < FaultSchemes.all.count else { return nil }
      return .fault(
        Fault(
          scheme: scheme, code: UInt8(truncatingIfNeeded: rawValue),
          isRecorded: kind == .recordedFault))
    case .interruptMessage: return .interruptMessage
    case .addressTooWide, nil: return nil
    }
  }
}
