import IOMMUFormats
import IOMMUImages

/// The kernel's own table of symbols (kallsyms): names and run-time addresses of its functions and variables,
/// without those of modules.
///
/// Names are packed with 256 tokens, in the order of addresses. Where a symbol lies is said in one of four
/// ways; which one, no version tells, so that the one is taken that gives `_stext` the address that VMCOREINFO
/// has for it.
///
/// Source: Linux `kernel/kallsyms.c` and `scripts/kallsyms.c`; the lines of VMCOREINFO are there since 6.0.
public struct KernelSymbols: Sendable {
  /// How addresses are written down.
  public enum Encoding: String, CaseIterable, Sendable {
    /// 64 bits each.
    case absolute
    /// From 0 up: an absolute value, of per-cpu variables; below: −1 − *n* bytes behind the base.
    case absolutePerCPU
    /// Bytes behind the base.
    case relative
    /// Bytes from the entry itself.
    case selfRelative
  }

  public let encoding: Encoding
  /// Symbols that were read.
  public var count: Int { nameOffsets.count }
  /// What is missing of the table, and why.
  public let problem: KernelReadError?

  /// The packed names: length and tokens.
  private let names: [UInt8]
  /// Where the tokens of each name begin, and how many there are.
  private let nameOffsets: [(offset: UInt32, count: UInt16)]
  private let tokens: KallsymsTokens
  private let places: SymbolPlaces
  private let index: NameIndex

  /// More symbols than any kernel has.
  static let countLimit = 1 << 22

  /// Reads the table that VMCOREINFO leads to.
  ///
  /// - Throws: ``KernelReadError`` when VMCOREINFO has no table, when none of its names or places can be
  ///   read, or when no way of reading them gives `_stext`.
  /// - Complexity: O(*n*) in the bytes of the names.
  public init(_ info: VMCoreInfo, in memory: KernelMemory) throws(KernelReadError) {
    func symbol(_ name: String) throws(KernelReadError) -> UInt64 {
      guard let address = info.symbol(name) else { throw .noKey("SYMBOL(\(name))") }
      return address
    }
    let expected = try symbol("_stext")
    let count = Int(try memory.doubleword(at: try symbol("kallsyms_num_syms")))
    guard 1...Self.countLimit ~= count else {
      throw .damaged("kallsyms of \(count) symbols, where 1 to \(Self.countLimit) can be")
    }
    let tokens = try KallsymsTokens(
      table: try symbol("kallsyms_token_table"), index: try symbol("kallsyms_token_index"),
      in: memory)
    var packed = PackedNames(at: try symbol("kallsyms_names"), in: memory)
    var index = NameIndex(capacity: count)
    var offsets: [(offset: UInt32, count: UInt16)] = []
    offsets.reserveCapacity(count)
    while offsets.count < count, let name = packed.next(tokens) {
      offsets.append(
        (UInt32(truncatingIfNeeded: name.offset), UInt16(truncatingIfNeeded: name.count)))
      index.add(name.hash)
    }
    let names = packed.bytes
    var problem = packed.error
    guard !offsets.isEmpty else { throw problem ?? .damaged("kallsyms has no names") }

    // Which encodings the lines of VMCOREINFO allow.
    let table: UInt64
    var candidates: [Encoding]
    var base: UInt64 = 0
    if let addresses = info.symbol("kallsyms_addresses") {
      (table, candidates) = (addresses, [.absolute])
    } else {
      table = try symbol("kallsyms_offsets")
      candidates = [.selfRelative]
      if let place = info.symbol("kallsyms_relative_base") {
        base = try memory.quadword(at: place)
        candidates = [.absolutePerCPU, .relative, .selfRelative]
      }
    }
    let width = candidates == [.absolute] ? 8 : 4
    let (bytes, error) = memory.prefix(at: table, count: offsets.count * width)
    problem = problem ?? error
    let made = candidates.map {
      SymbolPlaces(encoding: $0, table: table, base: base, bytes: bytes)
    }
    var stexts: [Int] = []
    index.forEach(NameHash("_stext".utf8).value) { number in
      if Self.tokens(names, offsets[number]).isName(tokens, "_stext") { stexts.append(number) }
      return stexts.count < 16
    }
    guard
      let places = made.first(where: { places in
        stexts.contains { places.address(of: $0) == expected }
      })
    else {
      throw .damaged(
        stexts.isEmpty
          ? "kallsyms has no _stext"
          : "kallsyms gives _stext no address that is \(hexadecimal(expected)), in any encoding")
    }
    self.tokens = tokens
    self.names = names
    nameOffsets = offsets
    self.index = index
    self.places = places
    self.problem = problem
    encoding = places.encoding
  }

  /// The addresses of all symbols of a name, ascending by their place in the table.
  public func addresses(of name: String) -> [UInt64] {
    var found: [UInt64] = []
    index.forEach(NameHash(name.utf8).value) { number in
      if Self.tokens(names, nameOffsets[number]).isName(tokens, name),
        let address = places.address(of: number)
      {
        found.append(address)
      }
      return true
    }
    return found.reversed()
  }

  /// The address of the first symbol of a name; names of static functions repeat.
  public func address(of name: String) -> UInt64? { addresses(of: name).first }

  /// A symbol by its number, from 0 in the order of the table.
  ///
  /// - Parameter number: Less than ``count``.
  public func symbol(_ number: Int) -> (name: String, type: Character, address: UInt64?)? {
    let letters = Self.tokens(names, nameOffsets[number]).letters(tokens)
    guard let type = letters.first else { return nil }
    return (
      String(decoding: letters.dropFirst(), as: UTF8.self), Character(Unicode.Scalar(type)),
      places.address(of: number)
    )
  }

  private static func tokens(
    _ names: [UInt8], _ name: (offset: UInt32, count: UInt16)
  ) -> ArraySlice<UInt8> {
    names[Int(name.offset)..<Int(name.offset) + Int(name.count)]
  }
}

/// The 256 strings that names are put together from.
struct KallsymsTokens: Sendable {
  /// One for each number; empty for what cannot be read.
  let letters: [[UInt8]]
  let hashes: [NameHash]

  /// Longer tokens than any kernel has.
  private static let byteCountLimit = 1024

  init(table: UInt64, index: UInt64, in memory: KernelMemory) throws(KernelReadError) {
    let offsets = try memory.bytes(at: index, count: 512)
    let last = (0..<256).map { Int(offsets.span.integer(UInt16.self, at: 2 * $0)) }
    let (bytes, error) = memory.prefix(at: table, count: last.max()! + Self.byteCountLimit)
    if bytes.isEmpty, let error { throw error }
    letters = last.map { start in
      Array(bytes[min(start, bytes.count)...].prefix(Self.byteCountLimit).prefix { $0 != 0 })
    }
    hashes = letters.map { NameHash($0) }
  }
}

extension ArraySlice where Element == UInt8 {
  /// The letters that these tokens are: type and name.
  fileprivate func letters(_ tokens: KallsymsTokens) -> [UInt8] {
    reduce(into: []) { $0 += tokens.letters[Int($1)] }
  }

  /// Whether these tokens are a type and this name.
  fileprivate func isName(_ tokens: KallsymsTokens, _ name: String) -> Bool {
    letters(tokens).dropFirst().elementsEqual(name.utf8)
  }
}

/// Goes through packed names as far as they can be read.
private struct PackedNames {
  private let memory: KernelMemory
  private var next: UInt64
  private(set) var bytes: [UInt8] = []
  private(set) var error: KernelReadError?
  private var place = 0

  private static let chunkByteCount = 1 << 16
  /// More than the names of any kernel take.
  private static let byteCountLimit = 1 << 26

  init(at address: UInt64, in memory: KernelMemory) {
    self.memory = memory
    next = address
  }

  /// Whether bytes are there, after reading more if need be.
  private mutating func has(_ count: Int) -> Bool {
    while bytes.count < place + count, error == nil {
      guard bytes.count < Self.byteCountLimit else {
        error = .damaged("kallsyms has more than \(Self.byteCountLimit) bytes of names")
        return false
      }
      let (more, failure) = memory.prefix(at: next, count: Self.chunkByteCount)
      bytes += more
      next = next &+ UInt64(more.count)
      error = failure
    }
    return bytes.count >= place + count
  }

  /// The next name: where its tokens begin, how many there are, and the hash of its letters but the first.
  mutating func next(
    _ tokens: KallsymsTokens
  ) -> (offset: Int, count: Int, hash: UInt64)? {
    guard has(1) else { return nil }
    var count = Int(bytes[place])
    place += 1
    if count & 0x80 != 0 {
      guard has(1) else { return nil }
      count = count & 0x7f | Int(bytes[place]) << 7
      place += 1
    }
    guard has(count) else { return nil }
    let start = place
    place += count
    var hash = NameHash()
    // The type is the first letter of the first token that has one.
    var type: UInt8?
    for token in bytes[start..<place] {
      if type == nil { type = tokens.letters[Int(token)].first }
      hash.append(tokens.hashes[Int(token)])
    }
    return (start, count, type.map { hash.dropping(first: $0) } ?? 0)
  }
}

/// The places of symbols, in one encoding.
private struct SymbolPlaces {
  let encoding: KernelSymbols.Encoding
  /// Where the table lies.
  let table: UInt64
  let base: UInt64
  let bytes: [UInt8]

  /// `nil` where the table cannot be read.
  func address(of number: Int) -> UInt64? {
    let width = encoding == .absolute ? 8 : 4
    guard number < bytes.count / width else { return nil }
    if encoding == .absolute { return bytes.span.integer(UInt64.self, at: number * 8) }
    let word = bytes.span.integer(UInt32.self, at: number * 4)
    // Bytes before or behind, modulo 2^64.
    let signed = UInt64(bitPattern: Int64(Int32(bitPattern: word)))
    switch encoding {
    case .absolute: return nil
    case .absolutePerCPU:
      return signed >> 63 == 0 ? UInt64(word) : base &- 1 &- signed
    case .relative: return base &+ UInt64(word)
    case .selfRelative: return table &+ UInt64(number) &* 4 &+ signed
    }
  }
}
