import Glibc

/// How a whole file is packed, and the system's library that unpacks it.
///
/// The libraries are loaded when a file first needs one: the tool is built and runs without them.
enum StreamCodec: CaseIterable {
  case gzip
  case xz
  case zstd
  case bzip2

  /// The codec whose mark begins a file.
  init?(markedBy head: some Collection<UInt8>) {
    guard let codec = Self.allCases.first(where: { head.starts(with: $0.mark) }) else { return nil }
    self = codec
  }

  /// The bytes that such a file begins with. Sources: RFC 1952; the .xz file format 1.2.1; RFC 8878;
  /// bzip2's manual.
  var mark: [UInt8] {
    switch self {
    case .gzip: [0x1f, 0x8b]
    case .xz: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]
    case .zstd: [0x28, 0xb5, 0x2f, 0xfd]
    case .bzip2: Array("BZh".utf8)
    }
  }

  var name: String { "\(self)" }

  var library: String {
    switch self {
    case .gzip: PageCodec.zlib.library
    case .xz: "liblzma.so.5"
    case .zstd: PageCodec.zstd.library
    case .bzip2: "libbz2.so.1.0"
    }
  }

  /// What to install, as Debian names it.
  var package: String {
    switch self {
    case .gzip: PageCodec.zlib.package
    case .xz: "liblzma5"
    case .zstd: PageCodec.zstd.package
    case .bzip2: "libbz2-1.0"
    }
  }

  /// The program that unpacks such a file.
  var command: String {
    switch self {
    case .gzip: "gunzip"
    case .xz: "unxz"
    case .zstd: "unzstd"
    case .bzip2: "bunzip2"
    }
  }
}

/// Unpacks one file, from its start to its end, with the members that follow each other in it.
@safe
final class StreamUnpacker {
  // Safe: the functions are those of the library's documented interface, it is never unloaded, and
  // they are given bounds with every pointer.
  enum Progress: Equatable {
    /// There may be more.
    case goesOn
    /// A member has ended; another may follow.
    case memberEnded
    /// The bytes are none that the library's own packer writes.
    case isDamaged
  }

  private let codec: StreamCodec
  /// The library's stream structure, or, of zstd, its context.
  private let state: UnsafeMutableRawPointer
  private let step: UnsafeMutableRawPointer
  /// Readies the state for another member; `nil` where the library does so by itself.
  private let restart: UnsafeMutableRawPointer?
  private let end: UnsafeMutableRawPointer
  private let isError: UnsafeMutableRawPointer?
  private var needsRestart = false

  // A C `size_t` and `unsigned long` are `UInt`.
  private typealias Action = @convention(c) (UnsafeMutableRawPointer) -> Int32
  private typealias Step = @convention(c) (UnsafeMutableRawPointer, Int32) -> Int32
  private typealias ZlibStart =
    @convention(c) (UnsafeMutableRawPointer, Int32, UnsafePointer<CChar>, Int32) -> Int32
  private typealias BzipStart = @convention(c) (UnsafeMutableRawPointer, Int32, Int32) -> Int32
  private typealias XzStart = @convention(c) (UnsafeMutableRawPointer, UInt64, UInt32) -> Int32
  private typealias ZstdCreate = @convention(c) () -> UnsafeMutableRawPointer?
  private typealias ZstdStep =
    @convention(c) (UnsafeMutableRawPointer, UnsafeMutableRawPointer, UnsafeMutableRawPointer) ->
    UInt
  private typealias ZstdFree = @convention(c) (UnsafeMutableRawPointer) -> UInt
  private typealias ZstdIsError = @convention(c) (UInt) -> UInt32

  /// Bytes of the largest stream structure, liblzma's.
  private static let stateByteCount = 136
  /// A dictionary that needs more is none of a trace.
  private static let xzMemoryLimit: UInt64 = 1 << 30

  /// `nil` when the library is not installed.
  init?(_ codec: StreamCodec) {
    guard let library = unsafe dlopen(codec.library, RTLD_NOW | RTLD_LOCAL) else { return nil }
    func function(_ name: String) -> UnsafeMutableRawPointer? { unsafe dlsym(library, name) }
    self.codec = codec
    if codec == .zstd {
      guard let create = unsafe function("ZSTD_createDCtx"),
        let step = unsafe function("ZSTD_decompressStream"),
        let free = unsafe function("ZSTD_freeDCtx"), let isError = unsafe function("ZSTD_isError"),
        let state = unsafe unsafeBitCast(create, to: ZstdCreate.self)()
      else { return nil }
      unsafe self.state = state
      unsafe self.step = step
      unsafe restart = nil
      unsafe end = free
      unsafe self.isError = isError
      return
    }
    let names: (start: String, step: String, restart: String?, end: String) =
      switch codec {
      case .gzip: ("inflateInit2_", "inflate", "inflateReset", "inflateEnd")
      case .xz: ("lzma_stream_decoder", "lzma_code", nil, "lzma_end")
      default:
        ("BZ2_bzDecompressInit", "BZ2_bzDecompress", "BZ2_bzDecompressInit", "BZ2_bzDecompressEnd")
      }
    guard let start = unsafe function(names.start), let step = unsafe function(names.step),
      let end = unsafe function(names.end)
    else { return nil }
    let state = UnsafeMutableRawPointer.allocate(
      byteCount: Self.stateByteCount, alignment: 16)
    unsafe state.initializeMemory(as: UInt8.self, repeating: 0, count: Self.stateByteCount)
    let status: Int32
    switch codec {
    case .gzip:
      // A window of 2^15 bytes, and 16 for gzip's header. The structure has 112 bytes on 64 bits.
      status = unsafe unsafeBitCast(start, to: ZlibStart.self)(state, 15 + 16, "1", 112)
    case .xz:
      // LZMA_CONCATENATED: members that follow are read as well.
      status = unsafe unsafeBitCast(start, to: XzStart.self)(state, Self.xzMemoryLimit, 8)
    default:
      status = unsafe unsafeBitCast(start, to: BzipStart.self)(state, 0, 0)
    }
    guard status == 0 else {
      unsafe state.deallocate()
      return nil
    }
    unsafe self.state = state
    unsafe self.step = step
    unsafe restart = names.restart.flatMap(function)
    unsafe self.end = end
    unsafe isError = nil
  }

  deinit {
    if codec == .zstd {
      _ = unsafe unsafeBitCast(end, to: ZstdFree.self)(state)
    } else {
      _ = unsafe unsafeBitCast(end, to: Action.self)(state)
      unsafe state.deallocate()
    }
  }

  /// Unpacks from `input`, and appends at most `room` bytes to `output`.
  ///
  /// - Parameter isLast: Nothing comes behind this input.
  /// - Returns: How many bytes of the input are done with, and what comes next. Neither bytes taken nor
  ///   given, with `goesOn`, is a file that ends too early.
  func unpack(
    _ input: ArraySlice<UInt8>, isLast: Bool, into output: inout [UInt8], atMost room: Int
  ) -> (taken: Int, Progress) {
    if needsRestart {
      needsRestart = false
      guard restartMember() else { return (0, .isDamaged) }
    }
    var result: (taken: Int, Progress) = (0, .isDamaged)
    // Safe: the library reads no more than the input has and writes no more than `room` bytes, for
    // which there is room; both last for this call.
    unsafe input.withUnsafeBytes { from in
      output.append(addingCapacity: room) { span in
        unsafe span.withUnsafeMutableBufferPointer { to, filledCount in
          guard let start = to.baseAddress else { return }
          let (taken, given, progress) = unsafe call(from, start + filledCount, room, isLast)
          filledCount += given
          result = (taken, progress)
        }
      }
    }
    if result.1 == .memberEnded { needsRestart = unsafe restart != nil }
    return result
  }

  private func restartMember() -> Bool {
    guard let restart = unsafe restart else { return true }
    if codec == .bzip2 {
      _ = unsafe unsafeBitCast(end, to: Action.self)(state)
      unsafe state.initializeMemory(as: UInt8.self, repeating: 0, count: Self.stateByteCount)
      return unsafe unsafeBitCast(restart, to: BzipStart.self)(state, 0, 0) == 0
    }
    return unsafe unsafeBitCast(restart, to: Action.self)(state) == 0
  }

  @unsafe private func call(
    _ from: UnsafeRawBufferPointer, _ to: UnsafeMutablePointer<UInt8>, _ room: Int, _ isLast: Bool
  ) -> (taken: Int, given: Int, Progress) {
    if codec == .zstd { return unsafe callZstd(from, to, room) }
    // All three begin alike: next_in, avail_in, total_in, next_out, avail_out. Only liblzma counts what
    // is available in 64 bits.
    let isWide = codec == .xz
    func available(at offset: Int) -> Int {
      isWide
        ? unsafe Int(state.load(fromByteOffset: offset, as: UInt.self))
        : unsafe Int(state.load(fromByteOffset: offset, as: UInt32.self))
    }
    func setAvailable(_ count: Int, at offset: Int) {
      if isWide {
        unsafe state.storeBytes(of: UInt(count), toByteOffset: offset, as: UInt.self)
      } else {
        unsafe state.storeBytes(of: UInt32(count), toByteOffset: offset, as: UInt32.self)
      }
    }
    unsafe state.storeBytes(
      of: UInt(bitPattern: from.baseAddress), toByteOffset: 0, as: UInt.self)
    setAvailable(from.count, at: 8)
    unsafe state.storeBytes(of: UInt(bitPattern: to), toByteOffset: 24, as: UInt.self)
    setAvailable(room, at: 32)
    let status: Int32
    if codec == .bzip2 {
      status = unsafe unsafeBitCast(step, to: Action.self)(state)
    } else {
      // LZMA_FINISH is 3; zlib wants no flush, 0.
      let action: Int32 = codec == .xz && isLast ? 3 : 0
      status = unsafe unsafeBitCast(step, to: Step.self)(state, action)
    }
    let ended: Int32 = codec == .bzip2 ? 4 : 1
    // Z_BUF_ERROR and LZMA_BUF_ERROR: there was nothing to do.
    let idle: Int32 = codec == .xz ? 10 : -5
    let progress: Progress =
      status == ended
      ? .memberEnded : status == 0 || (status == idle && codec != .bzip2) ? .goesOn : .isDamaged
    return (from.count - available(at: 8), room - available(at: 32), progress)
  }

  @unsafe private func callZstd(
    _ from: UnsafeRawBufferPointer, _ to: UnsafeMutablePointer<UInt8>, _ room: Int
  ) -> (taken: Int, given: Int, Progress) {
    // Buffers are a pointer, a size and a position.
    let output: [UInt] = [UInt(bitPattern: to), UInt(room), 0]
    let input: [UInt] = [UInt(bitPattern: from.baseAddress), UInt(from.count), 0]
    var buffers = output + input
    let rest = unsafe buffers.withUnsafeMutableBytes { bytes -> UInt in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe unsafeBitCast(step, to: ZstdStep.self)(state, base, base + 24)
    }
    let hasFailed =
      unsafe isError.map { unsafe unsafeBitCast($0, to: ZstdIsError.self)(rest) != 0 } ?? false
    return (
      Int(buffers[5]), Int(buffers[2]), hasFailed ? .isDamaged : rest == 0 ? .memberEnded : .goesOn
    )
  }
}
