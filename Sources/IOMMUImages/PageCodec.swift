import Glibc
import Synchronization

/// How a page of a kdump-compressed file is packed, and the system's library that unpacks it.
///
/// The libraries are loaded when a page first needs one: the tool is built and runs without them. What
/// zlib packs libdeflate unpacks, where it is installed too.
enum PageCodec: UInt32, CaseIterable {
  // The flag of a page descriptor. Source: makedumpfile's IMPLEMENTATION, "page_desc".
  case zlib = 0x1
  case lzo = 0x2
  case snappy = 0x4
  case zstd = 0x20

  /// The flags of a descriptor that say how its page is packed.
  static let mask: UInt32 = allCases.reduce(0) { $0 | $1.rawValue }

  var library: String {
    switch self {
    case .zlib: "libz.so.1"
    case .lzo: "liblzo2.so.2"
    case .snappy: "libsnappy.so.1"
    case .zstd: "libzstd.so.1"
    }
  }

  /// What to install, as Debian names it.
  var package: String {
    switch self {
    case .zlib: "zlib1g"
    case .lzo: "liblzo2-2"
    case .snappy: "libsnappy1v5"
    case .zstd: "libzstd1"
    }
  }

  /// A library that unpacks such pages, ready for use; `nil` when none is installed. It is looked for
  /// once.
  var loaded: LoadedCodec? {
    switch self {
    case .zlib: Self.loadedZlib
    case .lzo: Self.loadedLZO
    case .snappy: Self.loadedSnappy
    case .zstd: Self.loadedZstd
    }
  }

  // Both have the same format; libdeflate takes half the time.
  private static let loadedZlib = LoadedCodec(.libdeflate) ?? LoadedCodec(.zlib)
  private static let loadedLZO = LoadedCodec(.lzo)
  private static let loadedSnappy = LoadedCodec(.snappy)
  private static let loadedZstd = LoadedCodec(.zstd)
}

/// A codec whose library is loaded.
@safe
struct LoadedCodec: @unchecked Sendable {
  // Safe: the functions are those of the libraries' documented interfaces, they are never unloaded, and
  // they are given bounds with every pointer. Sendable: they keep no state between calls but in
  // contexts, of which each call has its own.

  /// A library and what it is called for.
  enum Library {
    case libdeflate, zlib, lzo, snappy, zstd

    var codec: PageCodec {
      switch self {
      case .libdeflate, .zlib: .zlib
      case .lzo: .lzo
      case .snappy: .snappy
      case .zstd: .zstd
      }
    }

    fileprivate var file: String { self == .libdeflate ? "libdeflate.so.0" : codec.library }

    fileprivate var symbol: String {
      switch self {
      case .libdeflate: "libdeflate_zlib_decompress"
      case .zlib: "uncompress"
      case .lzo: "lzo1x_decompress_safe"
      case .snappy: "snappy_uncompress"
      case .zstd: "ZSTD_decompressDCtx"
      }
    }
  }

  var codec: PageCodec { library.codec }
  private let library: Library
  private let unpacking: UnsafeMutableRawPointer
  /// Of those that pack pages, which are libdeflate and zlib.
  private let packing: UnsafeMutableRawPointer?
  /// Libdeflate's and Zstandard's; the others need none.
  private let contexts: ContextPool?
  /// Libdeflate's, to pack.
  private let packers: ContextPool?

  /// `nil` when the library is not installed, or lacks a function.
  init?(_ library: Library) {
    guard let handle = unsafe dlopen(library.file, RTLD_NOW | RTLD_LOCAL),
      let unpacking = unsafe dlsym(handle, library.symbol)
    else { return nil }
    // Safe: each function is called as its library declares it.
    switch library {
    case .lzo, .snappy:
      unsafe packing = nil
      contexts = nil
      packers = nil
    case .zlib:
      guard let compress = unsafe dlsym(handle, "compress2") else { return nil }
      unsafe packing = compress
      contexts = nil
      packers = nil
    case .zstd:
      guard let create = unsafe dlsym(handle, "ZSTD_createDCtx") else { return nil }
      let address = UInt(bitPattern: create)
      unsafe packing = nil
      contexts = ContextPool { UInt(bitPattern: unsafe unsafeBitCast(address, to: Create.self)()) }
      packers = nil
    case .libdeflate:
      guard let compress = unsafe dlsym(handle, "libdeflate_zlib_compress"),
        let create = unsafe dlsym(handle, "libdeflate_alloc_decompressor"),
        let createPacker = unsafe dlsym(handle, "libdeflate_alloc_compressor")
      else { return nil }
      let address = UInt(bitPattern: create)
      let packerAddress = UInt(bitPattern: createPacker)
      unsafe packing = compress
      contexts = ContextPool { UInt(bitPattern: unsafe unsafeBitCast(address, to: Create.self)()) }
      packers = ContextPool {
        let call = unsafe unsafeBitCast(packerAddress, to: CreatePacker.self)
        return UInt(bitPattern: unsafe call(Self.libdeflateLevel))
      }
    }
    self.library = library
    unsafe self.unpacking = unpacking
  }

  // The libraries' functions. A C `size_t`, `unsigned long` and LZO's `lzo_uint` are all `UInt`.
  private typealias Create = @convention(c) () -> UnsafeMutableRawPointer?
  private typealias CreatePacker = @convention(c) (Int32) -> UnsafeMutableRawPointer?
  private typealias Libdeflate =
    @convention(c) (
      UnsafeMutableRawPointer, UnsafeRawPointer, UInt, UnsafeMutableRawPointer, UInt,
      UnsafeMutablePointer<UInt>?
    ) -> Int32
  private typealias LibdeflatePack =
    @convention(c) (
      UnsafeMutableRawPointer, UnsafeRawPointer, UInt, UnsafeMutableRawPointer, UInt
    ) -> UInt
  private typealias Zlib =
    @convention(c) (
      UnsafeMutableRawPointer, UnsafeMutablePointer<UInt>, UnsafeRawPointer, UInt
    ) -> Int32
  private typealias ZlibPack =
    @convention(c) (
      UnsafeMutableRawPointer, UnsafeMutablePointer<UInt>, UnsafeRawPointer, UInt, Int32
    ) -> Int32
  private typealias LZO =
    @convention(c) (
      UnsafeRawPointer, UInt, UnsafeMutableRawPointer, UnsafeMutablePointer<UInt>,
      UnsafeMutableRawPointer?
    ) -> Int32
  private typealias Snappy =
    @convention(c) (
      UnsafeRawPointer, UInt, UnsafeMutableRawPointer, UnsafeMutablePointer<UInt>
    ) -> Int32
  private typealias Zstd =
    @convention(c) (
      UnsafeMutableRawPointer, UnsafeMutableRawPointer, UInt, UnsafeRawPointer, UInt
    ) -> UInt

  /// Unpacks `source`; whether it gave exactly `byteCount` bytes. None are appended when not.
  ///
  /// - Precondition: there is room for them.
  func unpack(
    _ source: Span<UInt8>, _ byteCount: Int, into output: inout OutputSpan<UInt8>
  ) -> Bool {
    precondition(byteCount <= output.freeCapacity, "a page that is unpacked has room")
    // Safe: none of the libraries reads more than `count` bytes or writes more than `byteCount`,
    // whatever the source says, and both lie in buffers that last for this call.
    return unsafe source.withUnsafeBytes { from in
      unsafe output.withUnsafeMutableBufferPointer { room, filledCount in
        guard let from = from.baseAddress, let start = room.baseAddress, source.count > 0 else {
          return false
        }
        let to = unsafe UnsafeMutableRawPointer(start + filledCount)
        let isWhole = unsafe unpack(from, UInt(source.count), to, UInt(byteCount))
        if isWhole { filledCount += byteCount }
        return isWhole
      }
    }
  }

  /// - Precondition: `from` has `count` bytes, and `to` has room for `byteCount`.
  @unsafe private func unpack(
    _ from: UnsafeRawPointer, _ count: UInt, _ to: UnsafeMutableRawPointer, _ byteCount: UInt
  ) -> Bool {
    var produced = byteCount
    let isGood: Bool
    // Safe: each symbol is called as its library declares it.
    switch library {
    case .libdeflate:
      guard let contexts, let context = unsafe contexts.take() else { return false }
      let call = unsafe unsafeBitCast(unpacking, to: Libdeflate.self)
      isGood = unsafe call(context, from, count, to, byteCount, &produced) == 0
      unsafe contexts.giveBack(context)
    case .zlib:
      isGood = unsafe unsafeBitCast(unpacking, to: Zlib.self)(to, &produced, from, count) == 0
    case .lzo:
      isGood = unsafe unsafeBitCast(unpacking, to: LZO.self)(from, count, to, &produced, nil) == 0
    case .snappy:
      isGood = unsafe unsafeBitCast(unpacking, to: Snappy.self)(from, count, to, &produced) == 0
    case .zstd:
      guard let contexts, let context = unsafe contexts.take() else { return false }
      // An error is a number above every size.
      produced = unsafe unsafeBitCast(unpacking, to: Zstd.self)(context, to, produced, from, count)
      unsafe contexts.giveBack(context)
      isGood = true
    }
    return isGood && produced == byteCount
  }

  /// zlib's fastest level, which makedumpfile takes too.
  private static let zlibLevel: Int32 = 1
  /// The fastest of libdeflate's that packs: a dump is 0.5 % larger than with zlib's fastest.
  private static let libdeflateLevel: Int32 = 1

  /// Packs a page as zlib does and appends that; nothing when that does not make it smaller.
  ///
  /// - Precondition: the codec is zlib.
  func pack(_ source: Span<UInt8>, into target: inout [UInt8]) {
    precondition(codec == .zlib, "pages are packed with zlib")
    // Safe: both functions are called as their libraries declare them. They read what the span has and
    // write at most as many bytes as there is room for; both last for this call.
    unsafe source.withUnsafeBytes { from in
      target.append(addingCapacity: from.count) { output in
        unsafe output.withUnsafeMutableBufferPointer { room, filledCount in
          guard let from = from.baseAddress, let to = room.baseAddress, room.count > 1 else {
            return
          }
          filledCount = unsafe Int(pack(from, UInt(source.count), to, UInt(source.count - 1)))
        }
      }
    }
  }

  /// - Returns: Bytes written; 0 when the room is too small.
  /// - Precondition: `from` has `count` bytes, and `to` has room for `byteCount`.
  @unsafe private func pack(
    _ from: UnsafeRawPointer, _ count: UInt, _ to: UnsafeMutableRawPointer, _ byteCount: UInt
  ) -> UInt {
    guard let packing = unsafe packing else { return 0 }
    // Safe: each symbol is called as its library declares it.
    guard let packers else {
      var produced = byteCount
      let call = unsafe unsafeBitCast(packing, to: ZlibPack.self)
      return unsafe call(to, &produced, from, count, Self.zlibLevel) == 0 ? produced : 0
    }
    guard let context = unsafe packers.take() else { return 0 }
    defer { unsafe packers.giveBack(context) }
    let call = unsafe unsafeBitCast(packing, to: LibdeflatePack.self)
    return unsafe call(context, from, count, to, byteCount)
  }
}

/// Contexts of a library that are not in use: making one costs more than a page. There are never
/// more than threads that unpacked or packed at once.
private final class ContextPool: Sendable {
  /// Pointers as numbers, which may go from thread to thread.
  private let free = Mutex<[UInt]>([])
  private let create: @Sendable () -> UInt

  /// - Parameter create: Makes a context; 0 when there is no memory for one.
  init(_ create: @escaping @Sendable () -> UInt) { self.create = create }

  /// A context that nobody else has until it is given back; `nil` when there is no memory for one.
  @unsafe func take() -> UnsafeMutableRawPointer? {
    unsafe UnsafeMutableRawPointer(bitPattern: free.withLock { $0.popLast() } ?? create())
  }

  /// - Parameter context: One that was taken, and is not used any more.
  @unsafe func giveBack(_ context: UnsafeMutableRawPointer) {
    let number = UInt(bitPattern: context)
    free.withLock { $0.append(number) }
  }
}
