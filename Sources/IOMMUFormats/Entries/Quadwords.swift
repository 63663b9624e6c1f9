/// The words of an entry that is wider than 128 bits, low first.
///
/// `Quadwords<4>` holds a 256-bit entry, `Quadwords<8>` a 512-bit one; both lie in registers or on
/// the stack, never on the heap.
@frozen
public struct Quadwords<let count: Int>: Sendable {
  @usableFromInline var words: InlineArray<count, UInt64>

  /// All bits zero.
  @inlinable
  public init() { words = InlineArray(repeating: 0) }

  /// Quadword `index`; 0 holds bits 63:0.
  ///
  /// - Precondition: `index` is below `count`.
  @inlinable
  public subscript(index: Int) -> UInt64 {
    @inline(__always) get { words[index] }
    @inline(__always) set { words[index] = newValue }
  }
}

extension Quadwords: Hashable {
  public static func == (left: Self, right: Self) -> Bool {
    for index in 0..<count where left.words[index] != right.words[index] { return false }
    return true
  }

  public func hash(into hasher: inout Hasher) {
    for index in 0..<count { hasher.combine(words[index]) }
  }
}

/// What a ``WideEntry`` keeps its bits in.
public protocol QuadwordStorage: Hashable, Sendable {
  /// Words that there are.
  static var quadwordCount: Int { get }
  /// All bits zero.
  init()
  /// Quadword `index`; 0 holds bits 63:0.
  subscript(_: Int) -> UInt64 { get set }
}

extension Quadwords: QuadwordStorage {
  /// Words that there are.
  @inlinable public static var quadwordCount: Int { count }
}

/// A table entry or descriptor of 256 or 512 bits.
public protocol WideEntry: TableEntry {
  /// Four or eight quadwords.
  associatedtype Storage: QuadwordStorage
  /// The entry's bits.
  var quadwords: Storage { get set }
  /// The entry with these bits.
  init(quadwords: Storage)
}

extension WideEntry {
  @inlinable public static var bitCount: Int { Storage.quadwordCount * 64 }

  /// All bits zero.
  @inlinable public init() { self.init(quadwords: Storage()) }

  /// The entry with these first two quadwords, all others zero.
  @inlinable
  public init(low: UInt64, high: UInt64) {
    var quadwords = Storage()
    quadwords[0] = low
    quadwords[1] = high
    self.init(quadwords: quadwords)
  }

  @inlinable
  public var low: UInt64 {
    @inline(__always) get { quadwords[0] }
    @inline(__always) set { quadwords[0] = newValue }
  }

  @inlinable
  public var high: UInt64 {
    @inline(__always) get { quadwords[1] }
    @inline(__always) set { quadwords[1] = newValue }
  }

  @inlinable
  public subscript(quadword index: Int) -> UInt64 {
    @inline(__always) get { quadwords[index] }
    @inline(__always) set { quadwords[index] = newValue }
  }
}
