import Glibc

/// A whole file, mapped: its bytes lie in this process for as long as the mapping does.
///
/// Bytes that the file loses meanwhile read as zeros, and ``loss`` tells.
@safe
final class FileMapping: @unchecked Sendable {
  // Safe: the bytes are mapped, read-only, from the initialiser to the end of `deinit`, and guarded
  // against SIGBUS for as long. Sendable: nothing here changes.
  private let start: UnsafeRawPointer
  let byteCount: Int
  private let token: MappingGuard.Token

  /// `nil` when the system cannot map the file.
  init?(descriptor: Int32, byteCount: Int) {
    let place = unsafe mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0)
    guard let start = unsafe place, unsafe start != MAP_FAILED else { return nil }
    unsafe self.start = UnsafeRawPointer(start)
    self.byteCount = byteCount
    unsafe token = MappingGuard.watch(UnsafeRawBufferPointer(start: start, count: byteCount))
  }

  deinit {
    MappingGuard.release(token)
    unsafe munmap(UnsafeMutableRawPointer(mutating: start), byteCount)
  }

  /// Hands over bytes in place.
  ///
  /// - Precondition: they lie in the file.
  func withBytes<Result>(at offset: Int, count: Int, _ body: (Span<UInt8>) -> Result) -> Result {
    precondition(
      offset >= 0 && count >= 0 && offset <= byteCount && count <= byteCount - offset,
      "the bytes lie in the file")
    // Safe: the precondition keeps them inside, and the span ends with this call.
    return unsafe body(Span(_unsafeStart: pointer.advanced(by: offset), count: count))
  }

  private var pointer: UnsafePointer<UInt8> {
    // Safe: the mapping holds nothing but bytes, and nobody binds it to another type.
    unsafe start.assumingMemoryBound(to: UInt8.self)
  }

  /// All bytes, for those who keep the mapping alive and check their own bounds.
  @unsafe var bytes: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: start, count: byteCount)
  }

  /// The first byte of the lowest page that was lost; `nil` when none was.
  var loss: UInt64? { MappingGuard.loss(token) }

  /// Takes the bytes out of this process, for as long as nobody looks at them: those in memory count as
  /// the process's own from the first look on.
  func forgetLooks() { advise(MADV_DONTNEED) }

  /// Tells the system how the bytes are about to be looked at, such as `MADV_RANDOM`.
  func advise(_ advice: Int32) {
    // Safe: an advice changes no byte of a mapping of a file that nobody writes through.
    _ = unsafe madvise(UnsafeMutableRawPointer(mutating: start), byteCount, advice)
  }
}
