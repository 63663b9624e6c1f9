import IOMMUFormats

/// What becomes of the first byte of a DMA request, in one word.
///
/// Eight bytes for each answer keep a batch's output out of the way of the tables. Bits 51:0 are the
/// physical address, all others zero; or bit 63 is set and bits 15:0 say why there is none.
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
  /// Bits 15:8 of an answer without an address.
  @usableFromInline
  enum Kind: UInt64 {
    case beyondDeviceMask = 1
    case vtdRecorded, vtdUnrecorded, gart, calgary, interruptMessage, addressTooWide
    case protectedMemory
  }

  init(kind: Kind, _ detail: UInt8 = 0) {
    rawValue = 1 << 63 | kind.rawValue << 8 | UInt64(detail)
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
    case .fault(.beyondDeviceMask): self.init(kind: .beyondDeviceMask)
    case .fault(.protectedMemory): self.init(kind: .protectedMemory)
    case .fault(.vtd(let reason, let isRecorded)):
      self.init(kind: isRecorded ? .vtdRecorded : .vtdUnrecorded, reason.rawValue)
    case .fault(.gart(let fault)): self.init(kind: .gart, Self.code(of: fault))
    case .fault(.calgary(let fault)): self.init(kind: .calgary, Self.code(of: fault))
    }
  }

  /// The answer for one byte; `nil` for ``addressTooWide`` and for words that are no answer.
  public var translation: Translation? {
    if let physical { return .mapped(physical, byteCount: 1) }
    let detail = UInt8(truncatingIfNeeded: rawValue)
    switch Kind(rawValue: rawValue >> 8 & 0xff) {
    case .beyondDeviceMask: return .fault(.beyondDeviceMask)
    case .protectedMemory: return .fault(.protectedMemory)
    case .vtdRecorded:
      return .fault(.vtd(VTd.FaultReason(rawValue: detail), isRecorded: true))
    case .vtdUnrecorded:
      return .fault(.vtd(VTd.FaultReason(rawValue: detail), isRecorded: false))
    case .gart: return Self.named(detail).map { .fault(.gart($0)) }
    case .calgary: return Self.named(detail).map { .fault(.calgary($0)) }
    case .interruptMessage: return .interruptMessage
    case .addressTooWide, nil: return nil
    }
  }

  /// The number of a fault among those of its kind.
  private static func code<Named: CaseIterable & Equatable>(of fault: Named) -> UInt8 {
    UInt8(Array(Named.allCases).firstIndex(of: fault)!)
  }

  private static func named<Named: CaseIterable>(_ code: UInt8) -> Named? {
    Named.allCases.dropFirst(Int(code)).first
  }
}
