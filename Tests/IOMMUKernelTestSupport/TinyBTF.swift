/// BTF, byte by byte; it knows nothing of the reader that it helps to test.
package struct TinyBTF {
  package private(set) var types: [UInt8] = []
  package private(set) var strings: [UInt8] = [0]
  package private(set) var count: UInt32 = 0
  /// Where the numbers of types and strings begin: those of a kernel, for a module.
  package var firstID: UInt32 = 1
  package var firstString: UInt32 = 0

  package init() {}

  package var bytes: [UInt8] {
    hexBytes("9feb0100 18000000 00000000") + little(UInt64(types.count), 4)
      + little(UInt64(types.count), 4) + little(UInt64(strings.count), 4) + types + strings
  }

  package mutating func string(_ text: String) -> UInt32 {
    if text.isEmpty { return 0 }
    let offset = UInt32(strings.count)
    strings += Array(text.utf8) + [0]
    return firstString + offset
  }

  @discardableResult
  package mutating func add(
    _ kind: UInt8, _ name: String, sizeOrType: UInt32 = 0, count: UInt32 = 0, flag: Bool = false,
    tail: [UInt32] = []
  ) -> UInt32 {
    let info = UInt32(kind) << 24 | count | (flag ? 1 << 31 : 0)
    for word in [string(name), info, sizeOrType] + tail { types += little(UInt64(word), 4) }
    self.count += 1
    return firstID + self.count - 1
  }

  package mutating func integer(_ name: String, byteCount: UInt32) -> UInt32 {
    add(1, name, sizeOrType: byteCount, tail: [byteCount * 8])
  }

  package mutating func pointer(to type: UInt32) -> UInt32 { add(2, "", sizeOrType: type) }

  package mutating func array(of type: UInt32, count: UInt32) -> UInt32 {
    add(3, "", tail: [type, type, count])
  }

  /// - Parameter members: Name, type and offset in bits; with `flag` the bits of a bit field in bits 31:24.
  package mutating func structure(
    _ name: String, byteCount: UInt32, isUnion: Bool = false, flag: Bool = false,
    _ members: [(String, UInt32, UInt32)]
  ) -> UInt32 {
    var tail: [UInt32] = []
    for (name, type, offset) in members { tail += [string(name), type, offset] }
    return add(
      isUnion ? 5 : 4, name, sizeOrType: byteCount, count: UInt32(members.count), flag: flag,
      tail: tail)
  }

  /// Numbers of 1, 2, 4 and 8 bytes, `char` among them, and the kernel's lists and trees.
  package struct Basics {
    package var u8: UInt32
    package var u16: UInt32
    package var u32: UInt32
    package var u64: UInt32
    package var text: UInt32
    package var list: UInt32
  }

  package mutating func basics() -> Basics {
    let u8 = integer("char", byteCount: 1)
    let u16 = integer("short", byteCount: 2)
    let u32 = integer("int", byteCount: 4)
    let u64 = integer("long", byteCount: 8)
    let text = pointer(to: u8)
    // A pointer to the structure behind it.
    let toList = pointer(to: firstID + count + 1)
    let list = structure("list_head", byteCount: 16, [("next", toList, 0), ("prev", toList, 64)])
    let toNode = pointer(to: firstID + count + 1)
    _ = structure(
      "rb_node", byteCount: 24,
      [("__rb_parent_color", u64, 0), ("rb_right", toNode, 64), ("rb_left", toNode, 128)])
    return Basics(u8: u8, u16: u16, u32: u32, u64: u64, text: text, list: list)
  }
}
