import CIOMMUAtomics

/// Physical memory that lies in this process as it is: physical 0 at `base`, for `byteCount` bytes.
///
/// What lets a translation read entries without asking the memory for each. It does not keep the
/// memory alive: whoever holds a window holds its memory too. Addresses in it that answer nothing
/// (holes between RAM ranges) read as zeros.
///
/// A window may be handed to other threads: it is two numbers, and the words behind it are read
/// atomically. Reading through it is what is unsafe.
@frozen
@safe
public struct MemoryWindow: Sendable {
  // A number, because the start of a window that was moved may lie outside of the memory, where a
  // pointer must not point; only what is read lies inside.
  @unsafe @usableFromInline let address: UInt
  /// Bytes from physical 0; 0 when nothing can be read in place.
  public let byteCount: UInt64

  /// A window through which nothing can be read.
  @inlinable
  public init() {
    unsafe address = 0
    byteCount = 0
  }

  /// - Precondition: `base` is 8-byte aligned, and `byteCount` bytes from it stay readable for as
  ///   long as the window is used.
  @unsafe
  @inlinable
  public init(base: UnsafeRawPointer?, byteCount: UInt64) {
    let address = UInt(bitPattern: base)
    precondition(address & 7 == 0, "entries are read at multiples of eight")
    unsafe self.address = address
    self.byteCount = address == 0 ? 0 : byteCount
  }

  @unsafe
  private init(address: UInt, byteCount: UInt64) {
    unsafe self.address = address
    self.byteCount = byteCount
  }

  /// Where it begins in this process: a number that tells windows apart, and nothing to read by.
  package var start: UInt64 {
    // Safe: nothing is read.
    unsafe UInt64(address)
  }

  /// The window with its offsets counted from `offset` on, which may lie before its start: a negative
  /// number, wrapped.
  public func moved(by offset: UInt64) -> MemoryWindow {
    // Safe: start and length move together, so that what could be read still can, and no more.
    unsafe MemoryWindow(
      address: address &+ UInt(truncatingIfNeeded: offset), byteCount: byteCount &- offset)
  }

  /// The little-endian quadword at `offset`; atomic.
  ///
  /// Not checked: the caller has shown that `offset` is a multiple of eight and at most
  /// `byteCount` − 8.
  @unsafe
  @inlinable @inline(__always)
  package func quadword(unchecked offset: UInt64) -> UInt64 {
    unsafe UInt64(littleEndian: ciommu_load64(pointer(offset)))
  }

  /// The little-endian doubleword at `offset`; atomic.
  ///
  /// Not checked: the caller has shown that `offset` is a multiple of four and at most
  /// `byteCount` − 4.
  @unsafe
  @inlinable @inline(__always)
  package func doubleword(unchecked offset: UInt64) -> UInt32 {
    unsafe UInt32(littleEndian: ciommu_load32(pointer(offset)))
  }

  /// Asks for the cache line at `offset` without waiting. Any offset is allowed.
  @inlinable @inline(__always)
  package func prefetch(_ offset: UInt64) {
    // Safe: nothing is read.
    unsafe ciommu_prefetch(pointer(offset))
  }

  @inlinable @inline(__always)
  func pointer(_ offset: UInt64) -> UnsafeRawPointer {
    // Not zero: a window that is read through has a base, and offsets stay inside it.
    unsafe UnsafeRawPointer(bitPattern: address &+ UInt(truncatingIfNeeded: offset))
      .unsafelyUnwrapped
  }
}
