import IOMMUFormats
import Testing

@testable import IOMMULinux

@Suite struct KernelObjectTests {
  private static let place = TinyKernel.text + 0x20_0000

  /// `struct thing { long n; char *name; struct list_head list; struct thing *other; char label[8];
  /// int low:5, high:3; int negative; struct rb_node node; }`
  private static func btf() throws -> BTF {
    var tiny = TinyBTF()
    let basics = tiny.basics()
    let toThing = tiny.pointer(to: tiny.firstID + tiny.count + 2)
    let label = tiny.array(of: basics.u8, count: 8)
    _ = tiny.structure(
      "thing", byteCount: 88, flag: true,
      [
        ("n", basics.u64, 0), ("name", basics.text, 64), ("list", basics.list, 128),
        ("other", toThing, 256), ("label", label, 320), ("low", basics.u32, 0x0500_0000 | 384),
        ("high", basics.u32, 0x0300_0000 | 389), ("negative", basics.u32, 416),
        // `rb_node` is the last of the basics.
        ("node", label - 2, 448),
      ])
    let slots = tiny.array(of: basics.u64, count: 64)
    _ = tiny.structure(
      "xa_node", byteCount: 528, [("shift", basics.u8, 0), ("slots", slots, 128)])
    _ = tiny.structure("xarray", byteCount: 16, [("xa_head", basics.u64, 64)])
    return try BTF(tiny.bytes)
  }

  private static func types(
    _ kernel: TinyKernel, without leftOut: Set<UInt64> = []
  ) throws -> KernelTypes {
    KernelTypes(try kernel.reader(without: leftOut), btf: try btf())
  }

  @Test func `members are read as their types say`() throws {
    let kernel = TinyKernel()
    kernel.put(words: [5, Self.place + 0x100, 0, 0, Self.place + 0x200], at: Self.place)
    kernel.put(
      Array("label789".utf8) + little(0b101_00011, 4) + little(0xffff_fffe, 4), at: Self.place + 40)
    kernel.put(Array("a name\0".utf8), at: Self.place + 0x100)
    kernel.put(words: [6], at: Self.place + 0x200)
    let thing = try Self.types(kernel).object("thing", at: Self.place)
    #expect(try thing.unsigned("n") == 5)
    #expect(try thing.string("name") == "a name")
    #expect(try thing.string("label") == "label789")
    #expect(try thing.unsigned("low") == 3 && thing.unsigned("high") == 5)
    #expect(try thing.unsigned("negative") == 0xffff_fffe && thing.signed("negative") == -2)
    #expect(try thing.signed("high") == -3)
    let other = try thing.object(at: "other")
    #expect(try other.unsigned("n") == 6)
    #expect(try other.objectIfAny(at: "other") == nil)
    #expect(readError { () throws(KernelReadError) in try other.object(at: "other") } == .null)
    #expect(try thing.address(of: "list.prev") == Self.place + 24)
    #expect(thing.has("node.rb_left") && !thing.has("nothing"))
    #expect(
      readError { () throws(KernelReadError) in try thing.unsigned("list") }?.description
        == "thing.list is no number")
    #expect(
      try thing.types.container("thing", of: "list", at: Self.place + 16).address == Self.place)
  }

  private static func numbers(
    _ list: KernelCollection<KernelObject>
  ) -> [UInt64] { list.elements.compactMap { try? $0.unsigned("n") } }

  /// Three things on pages of their own, in a list.
  private static func chained() -> TinyKernel {
    let kernel = TinyKernel()
    let places = (1...3).map { place + 0x1000 * UInt64($0) }
    kernel.put(words: [places[0] + 16, places[2] + 16], at: place)
    for (number, address) in places.enumerated() {
      let next = number < 2 ? places[number + 1] + 16 : place
      kernel.put(words: [UInt64(number + 1), 0, next, 0], at: address)
    }
    return kernel
  }

  @Test func `a list is gone through to its head`() throws {
    let kernel = Self.chained()
    let list = try Self.types(kernel).list(at: Self.place, of: "thing", through: "list")
    #expect(Self.numbers(list) == [1, 2, 3] && list.problems.isEmpty)
    kernel.put(words: [Self.place, Self.place], at: Self.place)
    let empty = try Self.types(kernel).list(at: Self.place, of: "thing", through: "list")
    #expect(empty.elements.isEmpty && empty.problems.isEmpty)
    kernel.put(words: [0, 0], at: Self.place)
    let unmade = try Self.types(kernel).list(at: Self.place, of: "thing", through: "list")
    #expect(unmade.elements.isEmpty && unmade.problems.isEmpty)
  }

  @Test func `a list that loops, or leads to nowhere, is told with what was read`() throws {
    let kernel = Self.chained()
    kernel.put(words: [Self.place + 0x1010], at: Self.place + 0x3010)
    let loop = try Self.types(kernel).list(at: Self.place, of: "thing", through: "list")
    #expect(Self.numbers(loop) == [1, 2, 3])
    #expect(loop.problems == [.endless("the list", address: Self.place)])
    kernel.put(words: [0x1234], at: Self.place + 0x2010)
    let wild = try Self.types(kernel).list(at: Self.place, of: "thing", through: "list")
    #expect(wild.elements.count == 3 && wild.problems == [.unmapped(0x1234)])
    kernel.put(words: [0], at: Self.place + 0x2010)
    let cut = try Self.types(kernel).list(at: Self.place, of: "thing", through: "list")
    #expect(Self.numbers(cut) == [1, 2] && cut.problems == [.null])
    let lacking = try Self.types(Self.chained(), without: [0x20_2000])
      .list(at: Self.place, of: "thing", through: "list")
    #expect(Self.numbers(lacking) == [1])
    #expect(
      lacking.problems
        == [
          .absent(
            address: Self.place + 0x2010, physical: PhysicalAddress(0x20_2010), .absent)
        ])
  }

  //        4
  //    2       6
  //  1   3   5   7
  private static func planted() -> TinyKernel {
    let kernel = TinyKernel()
    func node(_ number: UInt64) -> UInt64 { place + 0x1000 * number + 56 }
    for number in 1...7 as ClosedRange<UInt64> {
      kernel.put(words: [number], at: place + 0x1000 * number)
      let step = number == 4 ? 2 : number % 2 == 0 ? 1 : 0 as UInt64
      kernel.put(
        words: [0, step == 0 ? 0 : node(number + step), step == 0 ? 0 : node(number - step)],
        at: node(number))
    }
    return kernel
  }

  private static let root = place + 0x4000 + 56

  @Test func `a tree is gone through in order`() throws {
    let tree = try Self.types(Self.planted()).tree(from: Self.root, of: "thing", through: "node")
    #expect(Self.numbers(tree) == [1, 2, 3, 4, 5, 6, 7] && tree.problems.isEmpty)
    let empty = try Self.types(Self.planted()).tree(from: 0, of: "thing", through: "node")
    #expect(empty.elements.isEmpty && empty.problems.isEmpty)
  }

  @Test func `a node that is not there takes its branches with it, and no other`() throws {
    let types = try Self.types(Self.planted(), without: [0x20_2000])
    let tree = try types.tree(from: Self.root, of: "thing", through: "node")
    #expect(Self.numbers(tree) == [4, 5, 6, 7])
    #expect(!tree.problems.isEmpty && tree.problems.allSatisfy(\.isAbsence))
  }

  @Test func `a tree that leads to itself ends`() throws {
    let kernel = Self.planted()
    // The right branch of 3 is the root, and the left one of 5 is 6.
    kernel.put(words: [0, Self.root, 0], at: Self.place + 0x3000 + 56)
    kernel.put(words: [0, 0, Self.place + 0x6000 + 56], at: Self.place + 0x5000 + 56)
    let tree = try Self.types(kernel).tree(from: Self.root, of: "thing", through: "node")
    #expect(Self.numbers(tree) == [1, 2, 3, 4, 5, 6, 7])
    #expect(
      tree.problems
        == [.endless("the tree", address: Self.root), .endless("the tree", address: Self.root)])
  }

  @Test func `an xarray is its one entry, or nodes`() throws {
    let kernel = TinyKernel()
    let array = Self.place
    func found() throws -> KernelCollection<(index: UInt64, pointer: UInt64)> {
      let types = try Self.types(kernel)
      return try types.pointers(in: types.object("xarray", at: array))
    }
    kernel.put(words: [0, 0xffff_8c3d_41e9_20b0], at: array)
    #expect(try found().elements.map(\.pointer) == [0xffff_8c3d_41e9_20b0])
    // A value is no pointer.
    kernel.put(words: [0, 0x11], at: array)
    #expect(try found().elements.isEmpty)
    // Two levels: slots 0 and 2 of the upper, 1 and 63 of the lower.
    let upper = Self.place + 0x1000
    let lower = Self.place + 0x2000
    kernel.put(words: [0, upper | 2], at: array)
    kernel.put(words: [6], at: upper)
    kernel.put(words: [lower | 2, 0, 0xffff_8000_0000_1000], at: upper + 16)
    kernel.put(words: [0], at: lower)
    kernel.put(words: [0xffff_8000_0000_2000], at: lower + 16 + 8)
    kernel.put(words: [0xffff_8000_0000_3000], at: lower + 16 + 63 * 8)
    let two = try found()
    #expect(two.elements.map(\.index) == [1, 63, 128] && two.problems.isEmpty)
    // The lower one names the upper.
    kernel.put(words: [upper | 2], at: lower + 16)
    let loop = try found()
    #expect(loop.elements.map(\.index) == [1, 63, 128])
    #expect(loop.problems == [.endless("the xarray", address: upper)])
  }
}
