import IOMMUFormats
import Testing

@testable import IOMMULinux

@Suite struct BTFTests {
  /// Types 97 and 18805 of Debian's 6.1 as they lie in the dump `vtd-full`, their strings where they are
  /// there: `struct list_head { next; prev; }`, `struct dmar_drhd_unit { list; hdr; reg_base_addr; … }`.
  @Test func `structures of a real kernel`() throws {
    var types: [UInt8] = []
    // Forward declarations without a name stand for the 96 types before.
    for _ in 1..<97 { types += hexBytes("00000000 00000007 00000000") }
    types += hexBytes(
      "fc02000002000004100000000603000062000000000000000b0300006200000040000000")
    types += hexBytes("00000000 00000002 61000000")
    var strings = [UInt8](repeating: 0, count: 0x320)
    for (offset, text) in [(0x2fc, "list_head"), (0x306, "next"), (0x30b, "prev")] {
      strings.replaceSubrange(offset..<offset + text.utf8.count, with: Array(text.utf8))
    }
    let header =
      hexBytes("9feb0100 18000000 00000000") + little(UInt64(types.count), 4)
      + little(UInt64(types.count), 4) + little(UInt64(strings.count), 4)
    let btf = try BTF(header + types + strings)
    #expect(btf.count == 98 && btf.problem == nil)
    let list = try btf.structure(named: "list_head")
    #expect(list == 97)
    #expect(btf.byteCount(of: list) == 16)
    #expect(try btf.member("next", of: list) == BTF.Member(type: 98, bitOffset: 0))
    #expect(try btf.member("prev", of: list) == BTF.Member(type: 98, bitOffset: 64))
    #expect(btf.element(of: 98) == 97)
  }

  @Test func `members of members, without names, behind names of types, and bit fields`() throws {
    var tiny = TinyBTF()
    let basics = tiny.basics()
    let inner = tiny.structure(
      "", byteCount: 8, isUnion: true, [("a", basics.u32, 0), ("b", basics.u64, 0)])
    let flags = tiny.structure(
      "flags", byteCount: 1, flag: true,
      [("low", basics.u8, 0x0500_0000), ("level", basics.u8, 0x0300_0005)])
    let alias = tiny.add(8, "flags_t", sizeOrType: flags)
    let const = tiny.add(10, "", sizeOrType: alias)
    let tagged = tiny.add(18, "user", sizeOrType: const)
    let array = tiny.array(of: tagged, count: 3)
    tiny.add(7, "outer")
    let outer = tiny.structure(
      "outer", byteCount: 32,
      [("first", basics.u16, 0), ("", inner, 64), ("flags", tagged, 128), ("many", array, 136)])
    let btf = try BTF(tiny.bytes)
    #expect(try btf.structure(named: "outer") == outer)
    #expect(try btf.member("b", of: outer) == BTF.Member(type: basics.u64, bitOffset: 64))
    #expect(
      try btf.member("flags.level", of: outer)
        == BTF.Member(type: basics.u8, bitOffset: 133, bitCount: 3))
    let many = try btf.member("many", of: outer)
    #expect(btf.elementCount(of: many.type) == 3 && btf.byteCount(of: many.type) == 3)
    #expect(btf.resolved(tagged) == flags && btf.name(of: outer) == "outer")
    #expect(
      readError { () throws(KernelReadError) in try btf.member("flags.none", of: outer) }
        == .noMember("flags.none", of: "outer"))
    #expect(
      readError { () throws(KernelReadError) in try btf.structure(named: "none") }
        == .noType("none"))
  }

  /// arm64 has two of `arm_smmu_device`, in an order that differs from version to version.
  @Test func `of two structures of one name the one with the member is taken`() throws {
    var tiny = TinyBTF()
    let basics = tiny.basics()
    let old = tiny.structure("arm_smmu_device", byteCount: 8, [("smrs", basics.u64, 0)])
    let new = tiny.structure("arm_smmu_device", byteCount: 8, [("strtab_cfg", basics.u64, 0)])
    let btf = try BTF(tiny.bytes)
    #expect(btf.structures(named: "arm_smmu_device") == [old, new])
    #expect(try btf.structure(named: "arm_smmu_device") == old)
    #expect(try btf.structure(named: "arm_smmu_device", having: ["strtab_cfg"]) == new)
  }

  @Test func `a module's types go on where the kernel's end`() throws {
    var tiny = TinyBTF()
    let basics = tiny.basics()
    let kernel = try BTF(tiny.bytes)
    var more = TinyBTF()
    more.firstID = UInt32(kernel.count) + 1
    more.firstString = UInt32(tiny.strings.count)
    let own = more.structure(
      "own", byteCount: 24, [("list", basics.list, 0), ("n", basics.u64, 128)])
    let module = try BTF(more.bytes, of: kernel)
    #expect(own == UInt32(kernel.count) + 1)
    #expect(try module.structure(named: "own") == own)
    #expect(try module.structure(named: "list_head") == basics.list)
    #expect(try module.member("list.prev", of: own).byteOffset == 8)
    #expect(try module.member("n", of: own) == BTF.Member(type: basics.u64, bitOffset: 128))
  }

  @Test func `types that are named by themselves, or contain themselves, come to an end`()
    throws
  {
    var tiny = TinyBTF()
    let basics = tiny.basics()
    let alias = tiny.add(8, "a", sizeOrType: tiny.firstID + tiny.count)
    let selfish = tiny.firstID + tiny.count
    // 40 members without names, each the structure itself.
    _ = tiny.structure(
      "selfish", byteCount: 8, (0..<40).map { _ in ("", selfish, 0) } + [("end", basics.u8, 0)])
    let btf = try BTF(tiny.bytes)
    #expect(btf.resolved(alias) == nil && btf.byteCount(of: alias) == nil)
    #expect(try btf.structure(named: "selfish") == selfish)
    #expect(try btf.member("end", of: selfish) == BTF.Member(type: basics.u8, bitOffset: 0))
    #expect(
      readError { () throws(KernelReadError) in try btf.member("none", of: selfish) }
        == .noMember("none", of: "selfish"))
  }

  @Test func `damage ends the types, and what stands before is there`() throws {
    var tiny = TinyBTF()
    let basics = tiny.basics()
    let before = tiny.structure("before", byteCount: 8, [("n", basics.u64, 0)])
    let count = Int(tiny.count)
    tiny.add(31, "unknown")
    _ = tiny.structure("after", byteCount: 8, [("n", basics.u64, 0)])
    let btf = try BTF(tiny.bytes)
    #expect(btf.count == count && btf.problem == .damaged("BTF type \(count + 1) is damaged"))
    #expect(try btf.structure(named: "before") == before)
    #expect(btf.structures(named: "after").isEmpty)
    // Every byte of a whole one in its turn: refused, or read as far as it goes.
    for index in 0..<tiny.bytes.count {
      for value in [0, 0xff, 0x80] as [UInt8] {
        var bytes = tiny.bytes
        bytes[index] = value
        guard let btf = try? BTF(bytes) else { continue }
        _ = try? btf.member("n", of: btf.structure(named: "before"))
      }
    }
  }

  @Test func `headers that cannot be are errors`() {
    let cases: [(bytes: String, message: String)] = [
      ("", "BTF of 0 bytes"),
      (
        "9eeb0100 18000000 00000000 00000000 00000000 00000000", "BTF of magic 0xeb9e and version 1"
      ),
      (
        "9feb0200 18000000 00000000 00000000 00000000 00000000", "BTF of magic 0xeb9f and version 2"
      ),
      (
        "9feb0100 18000000 00000000 01000000 00000000 00000000",
        "BTF names bytes up to 25, and has 24"
      ),
      (
        "9feb0100 ffffffff ffffffff ffffffff 00000000 00000000",
        "BTF names bytes up to 12884901885, and has 24"
      ),
    ]
    for (bytes, message) in cases {
      let error = readError { () throws(KernelReadError) in try BTF(hexBytes(bytes)) }
      #expect(error?.description == message)
    }
  }
}
