import Glibc
import Synchronization

/// How a page of a kdump-compressed file is packed, and the system's library that unpacks it.
///
/// The libraries are loaded when a page first needs one: the tool is built and runs without them.
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

  fileprivate var symbol: String {
    switch self {
    case .zlib: "uncompress"
    case .lzo: "lzo1x_decompress_safe"
    case .snappy: "snappy_uncompress"
    case .zstd: "ZSTD_decompressDCtx"
    }
  }

  /// The library, ready for use; `nil` when it is not installed. It is looked for once.
  var loaded: LoadedCodec? {
    switch self {
    case .zlib: Self.loadedZlib
    case .lzo: Self.loadedLZO
    case .snappy: Self.loadedSnappy
    case .zstd: Self.loadedZstd
    }
  }

  private static let loadedZlib = LoadedCodec(.zlib)
  private static let loadedLZO = LoadedCodec(.lzo)
  private static let loadedSnappy = LoadedCodec(.snappy)
  private static let loadedZstd = LoadedCodec(.zstd)
}

/// A codec whose library is loaded.
@safe
struct LoadedCodec: @unchecked Sendable {
  // Safe: the functions are those of the library's documented interface, it is never unloaded, and
  // they are given bounds with every pointer. Sendable: they keep no state between calls.
  let codec: PageCodec
  private let function: UnsafeMutableRawPointer
  private let library: UnsafeMutableRawPointer
  /// Zstandard's; the others need none.
  private let contexts: ContextPool?

  fileprivate init?(_ codec: PageCodec) {
    guard let library = unsafe dlopen(codec.library, RTLD_NOW | RTLD_LOCAL),
      let function = unsafe dlsym(library, codec.symbol)
    else { return nil }
    switch codec {
    case .zlib, .lzo, .snappy: contexts = nil
    case .zstd:
      guard let create = unsafe dlsym(library, "ZSTD_createDCtx") else { return nil }
      contexts = unsafe ContextPool(create: create)
    }
    self.codec = codec
    unsafe self.library = library
    unsafe self.function = function
  }

  // The libraries' functions. A C `size_t`, `unsigned long` and LZO's `lzo_uint` are all `UInt`.
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
    switch codec {
    case .zlib:
      isGood = unsafe unsafeBitCast(function, to: Zlib.self)(to, &produced, from, count) == 0
    case .lzo:
      isGood = unsafe unsafeBitCast(function, to: LZO.self)(from, count, to, &produced, nil) == 0
    case .snappy:
      isGood = unsafe unsafeBitCast(function, to: Snappy.self)(from, count, to, &produced) == 0
    case .zstd:
      guard let contexts, let context = unsafe contexts.take() else { return false }
      // An error is a number above every size.
      produced = unsafe unsafeBitCast(function, to: Zstd.self)(context, to, produced, from, count)
      unsafe contexts.giveBack(context)
      isGood = true
    }
    return isGood && produced == byteCount
  }

  /// Packs a page with zlib's fastest level and appends that; nothing when that does not make it
  /// smaller.
  ///
  /// - Precondition: the codec is zlib.
  func pack(_ source: Span<UInt8>, into target: inout [UInt8]) {
    precondition(codec == .zlib, "pages are packed with zlib")
    guard let function = unsafe dlsym(library, "compress2") else { return }
    // Safe: compress2 is called as zlib declares it. It reads what the span has and writes at most
    // `produced` bytes, for which there is room; both last for this call.
    unsafe source.withUnsafeBytes { from in
      target.append(addingCapacity: from.count) { output in
        unsafe output.withUnsafeMutableBufferPointer { room, filledCount in
          guard let from = from.baseAddress, let to = room.baseAddress else { return }
          var produced = UInt(room.count)
          let call = unsafe unsafeBitCast(function, to: ZlibPack.self)
          let status = unsafe call(to, &produced, from, UInt(room.count), 1)
          if status == 0, produced < UInt(room.count) { filledCount = Int(produced) }
        }
      }
    }
  }
}

/// Contexts of a library that are not in use: making one costs more than a page. There are never
/// more than threads that unpacked at once.
private final class ContextPool: Sendable {
  private typealias Create = @convention(c) () -> UnsafeMutableRawPointer?
  /// Pointers as numbers, which may go from thread to thread.
  private let free = Mutex<[UInt]>([])
  private let create: UInt

  /// - Parameter create: The function that makes a context and takes nothing.
  @unsafe init(create: UnsafeMutableRawPointer) { self.create = UInt(bitPattern: create) }

  /// A context that nobody else has until it is given back; `nil` when there is no memory for one.
  @unsafe func take() -> UnsafeMutableRawPointer? {
    if let known = free.withLock({ $0.popLast() }) {
      return unsafe UnsafeMutableRawPointer(bitPattern: known)
    }
    // Safe: the number was made of this function's address.
    return unsafe unsafeBitCast(create, to: Create.self)()
  }

  /// - Parameter context: One that was taken, and is not used any more.
  @unsafe func giveBack(_ context: UnsafeMutableRawPointer) {
    let number = UInt(bitPattern: context)
    free.withLock { $0.append(number) }
  }
}
