import IOMMUFormats

/// The kernel's own description of its types (BTF): structures, their members and where those lie.
///
/// Only an index is made when it is opened; a type is looked at when somebody asks for it.
///
/// Source: Linux `Documentation/bpf/btf.rst`.
public struct BTF: Sendable {
  /// A type's number; 0 is `void`.
  public typealias TypeID = UInt32

  /// What a type is.
  public enum Kind: UInt8, Sendable {
    case integer = 1
    case pointer, array, structure, union, enumeration, forward, typeAlias, volatile, const,
      restrict
    case function, functionPrototype, variable, dataSection, float, declarationTag, typeTag
    case enumeration64
  }

  /// A type's first words.
  struct Header {
    var name: UInt32
    var kind: Kind
    var hasKindFlag: Bool
    /// Members, parameters or values.
    var count: Int
    /// Bytes, or the type that this one refers to.
    var sizeOrType: UInt32
    /// Where what follows the first words begins.
    var tail: Int
  }

  /// Header and all.
  private let bytes: [UInt8]
  private let strings: Range<Int>
  /// Where each type begins, from type ``firstID`` on.
  private let offsets: [UInt32]
  /// The number of the first type in here: 1, or where the kernel's end for a module's.
  public let firstID: TypeID
  /// The kernel's, for a module's.
  private let base: [BTF]
  private let firstString: UInt32
  /// Structures and unions that have a name, ascending.
  private let named: [TypeID]
  private let index: NameIndex
  /// Why types behind the last one were not read.
  public let problem: KernelReadError?

  /// Bytes of the header that all versions have.
  static let headerByteCount = 24
  static let magic: UInt16 = 0xeb9f
  /// More than any kernel has.
  static let byteCountLimit = 1 << 27

  /// Types, `void` not among them; those of the kernel below a module are not.
  public var count: Int { offsets.count }

  /// Reads the types of a kernel.
  ///
  /// - Throws: ``KernelReadError/damaged(_:)`` when the header says what cannot be.
  /// - Complexity: O(*n*) in the types.
  public init(_ bytes: [UInt8]) throws(KernelReadError) { try self.init(bytes, base: nil) }

  /// Reads the types of a module: they go on where the kernel's end.
  public init(_ bytes: [UInt8], of kernel: BTF) throws(KernelReadError) {
    try self.init(bytes, base: kernel)
  }

  private init(_ bytes: [UInt8], base: BTF?) throws(KernelReadError) {
    guard bytes.count >= Self.headerByteCount, bytes.count <= Self.byteCountLimit else {
      throw .damaged("BTF of \(bytes.count) bytes")
    }
    let span = bytes.span
    let magic = span.integer(UInt16.self, at: 0)
    guard magic == Self.magic, span[2] == 1 else {
      throw .damaged("BTF of magic \(hexadecimal(magic)) and version \(span[2])")
    }
    func part(_ place: Int) throws(KernelReadError) -> Range<Int> {
      let start =
        UInt64(span.integer(UInt32.self, at: 4)) + UInt64(span.integer(UInt32.self, at: place))
      let end = start + UInt64(span.integer(UInt32.self, at: place + 4))
      guard end <= UInt64(bytes.count) else {
        throw .damaged("BTF names bytes up to \(end), and has \(bytes.count)")
      }
      return Int(start)..<Int(end)
    }
    let types = try part(8)
    strings = try part(16)
    self.base = base.map { [$0] } ?? []
    firstID = base.map { $0.firstID + UInt32($0.count) } ?? 1
    firstString = base.map { $0.firstString + UInt32($0.strings.count) } ?? 0
    self.bytes = bytes
    var offsets: [UInt32] = []
    offsets.reserveCapacity(types.count / 18)
    var named: [TypeID] = []
    var hashes: [UInt64] = []
    var problem: KernelReadError?
    var place = types.lowerBound
    while place < types.upperBound {
      guard let header = Self.header(at: place, in: bytes, end: types.upperBound),
        let tail = Self.tailByteCount(header), tail <= types.upperBound - header.tail
      else {
        problem = .damaged("BTF type \(Int(firstID) + offsets.count) is damaged")
        break
      }
      if header.kind == .structure || header.kind == .union, header.name >= firstString {
        let start = Int(header.name - firstString) + strings.lowerBound
        if start < strings.upperBound, bytes[start] != 0 {
          named.append(firstID + UInt32(offsets.count))
          hashes.append(NameHash(Self.letters(of: bytes[start..<strings.upperBound])).value)
        }
      }
      offsets.append(UInt32(place))
      place = header.tail + tail
    }
    self.offsets = offsets
    self.named = named
    self.problem = problem
    index = hashes.reduce(into: NameIndex(capacity: hashes.count)) { $0.add($1) }
  }

  private static func header(at place: Int, in bytes: [UInt8], end: Int) -> Header? {
    guard end - place >= 12 else { return nil }
    let span = bytes.span
    let info = span.integer(UInt32.self, at: place + 4)
    guard let kind = Kind(rawValue: UInt8(info >> 24 & 0x1f)) else { return nil }
    return Header(
      name: span.integer(UInt32.self, at: place), kind: kind, hasKindFlag: info >> 31 != 0,
      count: Int(info & 0xffff), sizeOrType: span.integer(UInt32.self, at: place + 8),
      tail: place + 12)
  }

  private static func tailByteCount(_ header: Header) -> Int? {
    switch header.kind {
    case .integer, .variable, .declarationTag: 4
    case .array: 12
    case .structure, .union, .dataSection, .enumeration64: 12 * header.count
    case .enumeration, .functionPrototype: 8 * header.count
    case .pointer, .forward, .typeAlias, .volatile, .const, .restrict, .function, .float, .typeTag:
      0
    }
  }

  // MARK: Types

  func header(of type: TypeID) -> Header? {
    if type < firstID { return base.first?.header(of: type) }
    let number = Int(type - firstID)
    guard number < offsets.count else { return nil }
    return Self.header(at: Int(offsets[number]), in: bytes, end: bytes.count)
  }

  /// The word at a place in what follows a type's first words.
  private func word(_ offset: Int, of type: TypeID, _ header: Header) -> UInt32 {
    if type < firstID { return base.first?.word(offset, of: type, header) ?? 0 }
    return bytes.span.integer(UInt32.self, at: header.tail + offset)
  }

  /// What a type or a member is called; empty for what has no name.
  func name(at offset: UInt32) -> String { String(decoding: letters(at: offset), as: UTF8.self) }

  private func letters(at offset: UInt32) -> ArraySlice<UInt8> {
    if offset < firstString { return base.first?.letters(at: offset) ?? [] }
    let start = Int(offset - firstString) + strings.lowerBound
    guard start < strings.upperBound else { return [] }
    return Self.letters(of: bytes[start..<strings.upperBound])
  }

  /// Longer names than anybody gives: a section of strings may have no zero in it.
  private static let nameByteCountLimit = 512

  private static func letters(of bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    bytes.prefix(nameByteCountLimit).prefix { $0 != 0 }
  }

  /// The name of a type; empty for what has none.
  public func name(of type: TypeID) -> String { header(of: type).map { name(at: $0.name) } ?? "" }

  /// Structures and unions of a name, ascending: two drivers may have one of the same name each.
  public func structures(named name: String) -> [TypeID] {
    var found: [TypeID] = []
    let wanted = Array(name.utf8)
    index.forEach(NameHash(wanted).value) { number in
      if let header = header(of: named[number]), letters(at: header.name).elementsEqual(wanted) {
        found.append(named[number])
      }
      return true
    }
    return (base.first?.structures(named: name) ?? []) + found.reversed()
  }

  /// The first structure of a name that has a member at each of the paths.
  ///
  /// - Throws: ``KernelReadError/noType(_:)``.
  public func structure(
    named name: String, having paths: [String] = []
  ) throws(KernelReadError) -> TypeID {
    for type in structures(named: name)
    where paths.allSatisfy({ (try? member($0, of: type)) != nil }) {
      return type
    }
    throw .noType(name)
  }

  /// The type behind names, `const`, `volatile`, `restrict` and tags.
  ///
  /// - Returns: `nil` for a type that is not there, or that is named by itself.
  public func resolved(_ type: TypeID) -> TypeID? {
    var type = type
    for _ in 0..<32 {
      guard let header = header(of: type) else { return nil }
      switch header.kind {
      case .typeAlias, .volatile, .const, .restrict, .typeTag: type = header.sizeOrType
      default: return type
      }
    }
    return nil
  }

  /// What a type is, behind its names; `nil` for `void` and what is not there.
  public func kind(of type: TypeID) -> Kind? { resolved(type).flatMap { header(of: $0)?.kind } }

  /// The type that a pointer leads to, or of an array's elements.
  public func element(of type: TypeID) -> TypeID? {
    guard let type = resolved(type), let header = header(of: type) else { return nil }
    switch header.kind {
    case .pointer: return header.sizeOrType
    case .array: return word(0, of: type, header)
    default: return nil
    }
  }

  /// How many elements an array has.
  public func elementCount(of type: TypeID) -> Int? {
    guard let type = resolved(type), let header = header(of: type), header.kind == .array else {
      return nil
    }
    return Int(word(8, of: type, header))
  }

  /// Bytes of a value of a type.
  public func byteCount(of type: TypeID) -> UInt64? {
    var type = type
    var count: UInt64 = 1
    // Arrays of arrays.
    for _ in 0..<32 {
      guard let resolved = resolved(type), let header = header(of: resolved) else { return nil }
      let own: UInt64
      switch header.kind {
      case .integer, .structure, .union, .enumeration, .enumeration64, .float:
        own = UInt64(header.sizeOrType)
      case .pointer: own = 8
      case .array:
        let (product, overflow) = count.multipliedReportingOverflow(
          by: UInt64(word(8, of: resolved, header)))
        guard !overflow else { return nil }
        count = product
        type = word(0, of: resolved, header)
        continue
      default: return nil
      }
      let (product, overflow) = count.multipliedReportingOverflow(by: own)
      return overflow ? nil : product
    }
    return nil
  }

  // MARK: Members

  /// Where a member lies in its structure.
  public struct Member: Hashable, Sendable {
    public var type: TypeID
    /// From the beginning of the structure.
    public var bitOffset: UInt64
    /// Bits of a bit field; `nil` for any other member.
    public var bitCount: Int?

    public var byteOffset: UInt64 { bitOffset / 8 }
  }

  /// Looks for a member by its path, `member.member`; those of structures and unions without a name count
  /// as the outer one's.
  ///
  /// - Throws: ``KernelReadError/noMember(_:of:)``.
  public func member(_ path: String, of type: TypeID) throws(KernelReadError) -> Member {
    var place = Member(type: type, bitOffset: 0)
    for name in path.utf8.split(separator: UInt8(ascii: ".")) {
      var budget = Self.searchLimit
      guard let member = direct(Array(name), of: place.type, inside: [], &budget) else {
        throw .noMember(path, of: self.name(of: type))
      }
      // Bits of two 32-bit offsets and more: none of a path that anybody writes leaves 64 bits.
      place = Member(
        type: member.type, bitOffset: place.bitOffset &+ member.bitOffset, bitCount: member.bitCount
      )
    }
    return place
  }

  /// Members that are looked at for one name: a type that contains itself has no end.
  private static let searchLimit = 1 << 16

  private func direct(
    _ name: [UInt8], of type: TypeID, inside above: [TypeID], _ budget: inout Int
  ) -> Member? {
    guard above.count < 16, let type = resolved(type), !above.contains(type),
      let header = header(of: type), header.kind == .structure || header.kind == .union
    else { return nil }
    for number in 0..<header.count {
      guard budget > 0 else { return nil }
      budget -= 1
      let letters = letters(at: word(12 * number, of: type, header))
      let offset = word(12 * number + 8, of: type, header)
      let bits = header.hasKindFlag ? Int(offset >> 24) : 0
      var member = Member(
        type: word(12 * number + 4, of: type, header),
        bitOffset: UInt64(header.hasKindFlag ? offset & 0xff_ffff : offset),
        bitCount: bits == 0 ? nil : bits)
      if letters.isEmpty {
        if let inner = direct(name, of: member.type, inside: above + [type], &budget) {
          member.bitOffset = member.bitOffset &+ inner.bitOffset
          member.type = inner.type
          member.bitCount = inner.bitCount
          return member
        }
      } else if letters.elementsEqual(name) {
        return member
      }
    }
    return nil
  }
}
