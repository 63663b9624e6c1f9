import IOMMUFormats

/// What a device does with memory.
@frozen
public enum Access: Sendable, CaseIterable, CustomStringConvertible {
  /// The device reads memory.
  case read
  /// The device writes memory.
  case write

  @inlinable public var permission: Permissions { self == .read ? .read : .write }
  public var description: String { self == .read ? "read" : "write" }
}

/// What becomes of a DMA request.
@frozen
public enum Translation: Equatable, Sendable {
  /// The request's first `byteCount` bytes go to this address, in one run.
  ///
  /// Less than was asked for when the request leaves its page: the platform splits it, and the rest
  /// is a request of its own.
  case mapped(PhysicalAddress, byteCount: UInt64)
  /// A write to the interrupt address range of a VT-d machine: a message, not memory.
  case interruptMessage
  /// The hardware blocks the request.
  case fault(Fault)
}
