import IOMMUFormats
import IOMMUImages
import IOMMULinux
import IOMMUTestSupport

/// A kernel with symbols and types, whose structures a test puts where it likes.
///
/// Structures have the members that are read, one after the other in the order of their definition.
package final class TinySystem {
  package let kernel: TinyKernel
  private var btf = TinyBTF()
  private let basics: TinyBTF.Basics
  private var ids: [String: UInt32] = [:]
  private var offsets: [String: (offset: UInt64, count: Int)] = [:]
  private var sizes: [String: UInt64] = [:]
  private var symbols: [(name: String, address: UInt64)] = [("_stext", TinyKernel.text)]
  private var next = TinyKernel.text + 0x80_0000

  /// - Parameters:
  ///   - memory: Memory that holds the kernel; its own where there is none.
  ///   - base: Where the kernel is in it, a multiple of 2 MiB.
  package init(in memory: FlatMemory? = nil, at base: UInt64 = 0) {
    kernel = TinyKernel(in: memory, at: base)
    basics = btf.basics()
    ids["list_head"] = basics.list
    sizes["list_head"] = 16
    ids["rb_node"] = basics.list + 2
    sizes["rb_node"] = 24
    offsets["rb_node.rb_right"] = (8, 8)
    offsets["rb_node.rb_left"] = (16, 8)
    kernel.lines += """
      SYMBOL(init_uts_ns)=ffffffff81008000
      OFFSET(uts_namespace.name)=0
      SYMBOL(kallsyms_names)=ffffffff81100000
      SYMBOL(kallsyms_num_syms)=ffffffff81110000
      SYMBOL(kallsyms_token_table)=ffffffff81111000
      SYMBOL(kallsyms_token_index)=ffffffff81112000
      SYMBOL(kallsyms_offsets)=ffffffff81113000
      SYMBOL(kallsyms_relative_base)=ffffffff81110008

      """
    for (number, name) in ["Linux", "(none)", "6.1.0-tiny", "#1 SMP tiny", "x86_64"].enumerated() {
      kernel.put(Array(name.utf8), at: TinyKernel.text + 0x8000 + 65 * UInt64(number))
    }
  }

  /// Defines a structure: names with `1`, `2`, `4`, `8` for numbers, `*` or `*NAME` for pointers, `[N]TYPE`
  /// for arrays, or the name of a structure.
  package func define(_ name: String, _ members: [(String, String)]) {
    var fields: [(String, UInt32, UInt32)] = []
    var place: UInt64 = 0
    for (member, kind) in members {
      let (type, size) = self.type(kind)
      let alignment = UInt64(kind.hasPrefix("[") ? 8 : size >= 8 ? 8 : max(size, 1))
      place = (place + alignment - 1) / alignment * alignment
      fields.append((member, type, UInt32(place * 8)))
      offsets["\(name).\(member)"] = (place, Int(size))
      place += size
    }
    sizes[name] = (place + 7) / 8 * 8
    ids[name] = btf.structure(name, byteCount: UInt32(sizes[name]!), fields)
  }

  private func type(_ kind: String) -> (id: UInt32, size: UInt64) {
    switch kind {
    case "1": return (basics.u8, 1)
    case "2": return (basics.u16, 2)
    case "4": return (basics.u32, 4)
    case "8": return (basics.u64, 8)
    case "*": return (basics.text, 8)
    case _ where kind.hasPrefix("*"):
      return (btf.pointer(to: ids[String(kind.dropFirst())] ?? basics.u64), 8)
    case _ where kind.hasPrefix("["):
      let parts = kind.dropFirst().split(separator: "]")
      let count = UInt32(parts[0])!
      let element = type(String(parts[1]))
      return (btf.array(of: element.id, count: count), UInt64(count) * element.size)
    default: return (ids[kind]!, sizes[kind]!)
    }
  }

  /// Room for a structure, zeros until a test puts something there.
  package func make(_ name: String, _ values: [String: UInt64] = [:]) -> UInt64 {
    let address = next
    next += (sizes[name]! + 255) / 256 * 256
    for (member, value) in values { set(name, address, member, value) }
    return address
  }

  package func set(_ name: String, _ address: UInt64, _ member: String, _ value: UInt64) {
    let field = offsets["\(name).\(member)"]!
    kernel.put(little(value, min(field.count, 8)), at: address + field.offset)
  }

  package func offset(_ member: String) -> UInt64 { offsets[member]!.offset }

  package func text(_ text: String) -> UInt64 {
    let address = next
    next += 256
    kernel.put(Array(text.utf8) + [0], at: address)
    return address
  }

  /// A variable of so many bytes.
  package func variable(_ name: String, byteCount: UInt64 = 8, _ words: [UInt64] = []) -> UInt64 {
    let address = next
    next += (byteCount + 255) / 256 * 256
    symbols.append((name, address))
    kernel.put(words: words, at: address)
    return address
  }

  /// Makes a list through these places, which are those of `list_head`s.
  package func chain(_ head: UInt64, _ places: [UInt64]) {
    let all = [head] + places
    for (number, place) in all.enumerated() {
      kernel.put(
        words: [all[(number + 1) % all.count], all[(number + all.count - 1) % all.count]], at: place
      )
    }
  }

  /// The kernel with all that was defined; nothing can be defined any more.
  package func opened(without leftOut: Set<UInt64> = []) throws -> LinuxKernel {
    finish()
    return try LinuxKernel(kernel.info, in: LackingMemory(kernel.memory, without: leftOut))
  }

  /// Puts symbols and types in place; nothing can be defined any more.
  package func finish() {
    let types = btf.bytes
    let start = TinyKernel.text + 0x60_0000
    kernel.put(types, at: start)
    let all = symbols + [("__start_BTF", start), ("__stop_BTF", start + UInt64(types.count))]
    var names: [UInt8] = []
    var places: [UInt8] = []
    for (name, address) in all {
      names += [UInt8(name.utf8.count + 1)] + Array("D\(name)".utf8)
      // Below 0: −1 − n bytes behind the base.
      places += little(0 &- 1 &- (address - TinyKernel.text), 4)
    }
    var table: [UInt8] = []
    var index: [UInt8] = []
    for letter in 0..<256 {
      index += little(UInt64(table.count), 2)
      table += (0x21..<0x7f ~= letter ? [UInt8(letter)] : []) + [0]
    }
    kernel.put(names, at: TinyKernel.text + 0x10_0000)
    kernel.put(words: [UInt64(all.count), TinyKernel.text], at: TinyKernel.text + 0x11_0000)
    kernel.put(table, at: TinyKernel.text + 0x11_1000)
    kernel.put(index, at: TinyKernel.text + 0x11_2000)
    kernel.put(places, at: TinyKernel.text + 0x11_3000)
  }

  /// Defines `struct resource` and its root.
  package func defineResources() -> UInt64 {
    define(
      "resource",
      [
        ("start", "8"), ("end", "8"), ("name", "*"), ("flags", "8"), ("parent", "8"),
        ("sibling", "8"),
        ("child", "8"),
      ])
    return variable("iomem_resource", byteCount: 56)
  }

  package func resource(
    _ start: UInt64, _ end: UInt64, _ name: String, child: UInt64 = 0, sibling: UInt64 = 0
  ) -> UInt64 {
    make(
      "resource",
      ["start": start, "end": end, "name": text(name), "child": child, "sibling": sibling])
  }
}
