import IOMMUFormats

/// Kernel memory with the types of what lies in it.
///
/// Offsets come from the kernel's own BTF. Not for several threads at once.
public final class KernelTypes {
  public let memory: KernelMemory
  public let btf: BTF

  private struct Path: Hashable {
    var type: BTF.TypeID
    var path: String
  }
  private var members: [Path: Result<KernelField, KernelReadError>] = [:]
  private var structures: [String: BTF.TypeID] = [:]
  /// Elements of lists, trees and queues that are still looked at: structures of a damaged dump may lead
  /// to the same ones any number of times, and no more are told apart than its pages have room for.
  private var remainingElements: UInt64

  public init(_ memory: KernelMemory, btf: BTF) {
    self.memory = memory
    self.btf = btf
    let (room, overflow) = memory.memory.storedPageCount.multipliedReportingOverflow(by: 256)
    remainingElements = overflow ? 1 << 26 : max(1 << 16, min(room, 1 << 26))
  }

  /// Counts an element of a list, a tree or a queue.
  ///
  /// - Throws: ``KernelReadError/endless(_:address:)`` when there have been more than there can be.
  func spend(on what: @autoclosure () -> String, at address: UInt64) throws(KernelReadError) {
    guard remainingElements > 0 else { throw .endless(what(), address: address) }
    remainingElements -= 1
  }

  /// The structure of a name; the one with members at these paths, where there are several.
  public func type(
    _ name: String, having paths: [String] = []
  ) throws(KernelReadError) -> BTF.TypeID {
    if paths.isEmpty, let known = structures[name] { return known }
    let type = try btf.structure(named: name, having: paths)
    if paths.isEmpty { structures[name] = type }
    return type
  }

  /// The structure of a name that lies at an address.
  public func object(
    _ name: String, at address: UInt64, having paths: [String] = []
  ) throws(KernelReadError) -> KernelObject {
    guard address != 0 else { throw .null }
    return KernelObject(types: self, address: address, type: try type(name, having: paths))
  }

  /// The structure of a name around a member that lies at an address.
  public func container(
    _ name: String, of path: String, at address: UInt64, having paths: [String] = []
  ) throws(KernelReadError) -> KernelObject {
    guard address != 0 else { throw .null }
    let type = try type(name, having: paths)
    let offset = try field(path, of: type).offset
    return KernelObject(types: self, address: address &- offset, type: type)
  }

  /// Where a member lies.
  public func field(_ path: String, of type: BTF.TypeID) throws(KernelReadError) -> KernelField {
    let key = Path(type: type, path: path)
    if let known = members[key] { return try known.get() }
    let result: Result<KernelField, KernelReadError>
    do throws(KernelReadError) {
      let member = try btf.member(path, of: type)
      result = .success(KernelField(member, byteCount: btf.byteCount(of: member.type)))
    } catch {
      result = .failure(error)
    }
    members[key] = result
    return try result.get()
  }
}

/// A member of a structure, as it is read.
public struct KernelField: Hashable, Sendable {
  public var type: BTF.TypeID
  /// From the beginning of the structure, in bytes.
  public var offset: UInt64
  /// `nil` for what has no size.
  public var byteCount: UInt64?
  /// Of a bit field: its lowest bit in the word at ``offset``, and its bits.
  var bits: (lowest: UInt8, count: UInt8)? {
    bitCount == 0 ? nil : (lowestBit, bitCount)
  }
  private var lowestBit: UInt8
  private var bitCount: UInt8

  init(_ member: BTF.Member, byteCount: UInt64?) {
    type = member.type
    offset = member.byteOffset
    self.byteCount = byteCount
    lowestBit = UInt8(member.bitOffset % 8)
    bitCount = UInt8(clamping: member.bitCount ?? 0)
  }
}

/// A structure in a kernel's memory.
public struct KernelObject {
  public let types: KernelTypes
  /// The kernel's address of it.
  public let address: UInt64
  public let type: BTF.TypeID

  /// Where a member lies.
  public func address(of path: String) throws(KernelReadError) -> UInt64 {
    address &+ (try types.field(path, of: type).offset)
  }

  /// Whether the structure has a member.
  public func has(_ path: String) -> Bool { (try? types.field(path, of: type)) != nil }

  /// A number of at most 64 bits without a sign: an integer, an enumeration, a pointer, a bit field.
  public func unsigned(_ path: String) throws(KernelReadError) -> UInt64 {
    let field = try types.field(path, of: type)
    let place = address &+ field.offset
    if let bits = field.bits {
      let count = min((Int(bits.lowest) + Int(bits.count) + 7) / 8, 8)
      let word = try types.memory.unsigned(at: place, byteCount: count)
      return word >> UInt64(bits.lowest) & (bits.count < 64 ? 1 << UInt64(bits.count) &- 1 : .max)
    }
    guard let count = field.byteCount, 1...8 ~= count else {
      throw .damaged("\(types.btf.name(of: type)).\(path) is no number")
    }
    return try types.memory.unsigned(at: place, byteCount: Int(count))
  }

  /// A number with a sign.
  public func signed(_ path: String) throws(KernelReadError) -> Int64 {
    let field = try types.field(path, of: type)
    let word = try unsigned(path)
    let bits = field.bits.map { UInt64($0.count) } ?? (field.byteCount ?? 8) * 8
    guard 1..<64 ~= bits, word >> (bits - 1) & 1 == 1 else { return Int64(bitPattern: word) }
    return Int64(bitPattern: word | UInt64.max << bits)
  }

  /// What a pointer in the structure leads to, as BTF says what that is.
  ///
  /// - Throws: ``KernelReadError/null`` for a null pointer.
  public func object(at path: String) throws(KernelReadError) -> KernelObject {
    let pointer = try unsigned(path)
    guard pointer != 0 else { throw .null }
    let field = try types.field(path, of: type)
    guard let element = types.btf.element(of: field.type), let type = types.btf.resolved(element)
    else {
      throw .damaged("\(types.btf.name(of: self.type)).\(path) leads to no type that is known")
    }
    return KernelObject(types: types, address: pointer, type: type)
  }

  /// The same, `nil` for a null pointer.
  public func objectIfAny(at path: String) throws(KernelReadError) -> KernelObject? {
    do throws(KernelReadError) {
      return try object(at: path)
    } catch {
      guard error == .null else { throw error }
      return nil
    }
  }

  /// A structure that lies in this one.
  public func part(_ path: String) throws(KernelReadError) -> KernelObject {
    let field = try types.field(path, of: type)
    guard let type = types.btf.resolved(field.type) else {
      throw .noMember(path, of: types.btf.name(of: self.type))
    }
    return KernelObject(types: types, address: address &+ field.offset, type: type)
  }

  /// The letters that a pointer leads to, or an array holds.
  public func string(_ path: String) throws(KernelReadError) -> String {
    let field = try types.field(path, of: type)
    if types.btf.kind(of: field.type) == .array {
      return try types.memory.string(
        at: address &+ field.offset, limit: Int(clamping: min(field.byteCount ?? 0, 1 << 16)))
    }
    return try types.memory.string(at: try unsigned(path))
  }
}
