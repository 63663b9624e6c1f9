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
struct LoadedCodec: @unchecked Sendable {
  // Sendable: the functions keep no state between calls.
  let codec: PageCodec
  private let function: UnsafeMutableRawPointer
  private let library: UnsafeMutableRawPointer
  /// Zstandard's; the others need none.
  private let contexts: ContextPool?

  fileprivate init?(_ codec: PageCodec) {
    guard let library = dlopen(codec.library, RTLD_NOW | RTLD_LOCAL),
      let function = dlsym(library, codec.symbol)
    else { return nil }
    switch codec {
    case .zlib, .lzo, .snappy: contexts = nil
    case .zstd:
      guard let create = dlsym(library, "ZSTD_createDCtx") else { return nil }
      contexts = ContextPool(create: create)
    }
    self.codec = codec
    self.library = library
    self.function = function
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

  /// Unpacks `source` into `target`; whether it gave exactly as many bytes as `target` has. None
  /// of the libraries writes beyond it, whatever the source says.
  func unpack(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) -> Bool {
    guard let from = source.baseAddress, let to = target.baseAddress, !source.isEmpty else {
      return false
    }
    let count = UInt(source.count)
    var produced = UInt(target.count)
    let isGood: Bool
    switch codec {
    case .zlib: isGood = unsafeBitCast(function, to: Zlib.self)(to, &produced, from, count) == 0
    case .lzo: isGood = unsafeBitCast(function, to: LZO.self)(from, count, to, &produced, nil) == 0
    case .snappy:
      isGood = unsafeBitCast(function, to: Snappy.self)(from, count, to, &produced) == 0
    case .zstd:
      guard let context = contexts?.take() else { return false }
      // An error is a number above every size.
      produced = unsafeBitCast(function, to: Zstd.self)(context, to, produced, from, count)
      contexts?.giveBack(context)
      isGood = true
    }
    return isGood && produced == UInt(target.count)
  }

  /// Packs a page with zlib's fastest level; `nil` when that does not make it smaller.
  ///
  /// - Returns: Bytes of `target` used.
  /// - Precondition: the codec is zlib.
  func pack(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) -> Int? {
    precondition(codec == .zlib, "pages are packed with zlib")
    guard let function = dlsym(library, "compress2"), let from = source.baseAddress,
      let to = target.baseAddress
    else { return nil }
    var produced = UInt(min(target.count, source.count))
    let call = unsafeBitCast(function, to: ZlibPack.self)
    guard call(to, &produced, from, UInt(source.count), 1) == 0, produced < UInt(source.count)
    else { return nil }
    return Int(produced)
  }
}

/// Contexts of a library that are not in use: making one costs more than a page. There are never
/// more than threads that unpacked at once.
private final class ContextPool: Sendable {
  private typealias Create = @convention(c) () -> UnsafeMutableRawPointer?
  /// Pointers as numbers, which may go from thread to thread.
  private let free = Mutex<[UInt]>([])
  private let create: UInt

  init(create: UnsafeMutableRawPointer) { self.create = UInt(bitPattern: create) }

  /// A context that nobody else has until it is given back; `nil` when there is no memory for one.
  func take() -> UnsafeMutableRawPointer? {
    if let known = free.withLock({ $0.popLast() }) {
      return UnsafeMutableRawPointer(bitPattern: known)
    }
    return unsafeBitCast(create, to: Create.self)()
  }

  func giveBack(_ context: UnsafeMutableRawPointer) {
    let number = UInt(bitPattern: context)
    free.withLock { $0.append(number) }
  }
}
