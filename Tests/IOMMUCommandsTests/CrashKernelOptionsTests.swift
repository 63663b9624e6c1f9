import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUCommands

/// Where the crash kernel of a dump is taken from.
@Suite struct CrashKernelOptionsTests {
  let scratch = TemporaryDirectory()

  /// A dump with RAM in these ranges, which holds nothing but zeros.
  func image(_ ram: [Range<UInt64>], isOfLinux: Bool = true) throws -> MemoryImage {
    let loads = ram.map { TinyELF.Load(physical: $0.lowerBound, memorySize: UInt64($0.count)) }
    let notes = isOfLinux ? [TinyELF.Load.note("VMCOREINFO", "OSRELEASE=6.1.192\n")] : []
    return try MemoryImage(path: scratch.file("vmcore", TinyELF(notes + loads).bytes))
  }

  /// RAM of guests with crashkernel=160M and crashkernel=128M, as their capture kernels listed it.
  static let ram512: [Range<UInt64>] = [
    0x1000..<0x9_f000, 0x10_0000..<0x1500_0000, 0x1f00_0000..<0x1ffc_d000,
  ]
  static let ram384: [Range<UInt64>] = [
    0x1000..<0x9_f000, 0x10_0000..<0x300_0000, 0xb00_0000..<0x17fc_d000,
  ]

  func ranges(_ arguments: [String], _ image: MemoryImage, _ machine: Machine) throws -> [String] {
    try CrashKernelOptions.parse(arguments).placing(
      machine, in: image, KernelKnowledge(of: image, path: "image")
    ).crashKernel.map(\.text)
  }

  @Test func `a dump that a capture kernel wrote says where that kernel lived`() throws {
    let machine = Machine(name: "", units: [])
    #expect(try ranges([], try image(Self.ram512), machine) == ["0x15000000..<0x1f000000"])
    #expect(try ranges([], try image(Self.ram384), machine) == ["0x3000000..<0xb000000"])
  }

  @Test func `a hole in a dump of anything else says nothing`() throws {
    let image = try image(Self.ram512, isOfLinux: false)
    #expect(try ranges([], image, Machine(name: "", units: [])) == [])
    #expect(
      CrashKernelOptions.unknown(in: image).text
        == "nothing says where the crash kernel is; give --crash-kernel with its line in "
        + "/proc/iomem, such as 15000000-1effffff, or SIZE@OFFSET, such as 160M@336M")
  }

  @Test func `of several holes none is taken, and all are named`() throws {
    let image = try image([0..<0x1000_0000, 0x1400_0000..<0x2000_0000, 0x2800_0000..<0x3000_0000])
    #expect(try ranges([], image, Machine(name: "", units: [])) == [])
    #expect(
      CrashKernelOptions.unknown(in: image).text.hasPrefix(
        "nothing says where the crash kernel is; the dump's RAM has holes at "
          + "0x10000000..<0x14000000 and 0x20000000..<0x28000000, any of which may be it; give"))
  }

  @Test func `the machine file counts before the dump, an option before both`() throws {
    let image = try image(Self.ram512)
    let machine = Machine(
      name: "", units: [], ram: [],
      crashKernel: [PhysicalAddress(0x100_0000)..<PhysicalAddress(0x200_0000)])
    #expect(try ranges([], image, machine) == ["0x1000000..<0x2000000"])
    #expect(
      try ranges(["--crash-kernel", "64M@512M"], image, machine) == ["0x20000000..<0x24000000"])
    // A size alone is that of the machine file's range, else that of a hole.
    #expect(try ranges(["--crash-kernel", "16M"], image, machine) == ["0x1000000..<0x2000000"])
    #expect(try ranges(["--crash-kernel", "160M"], image, machine) == ["0x15000000..<0x1f000000"])
  }

  @Test func `the RAM of the dump with its hole decides what a list of sizes means`() throws {
    let list = "256M-512M:128M,512M-:160M"
    let machine = Machine(name: "", units: [])
    #expect(
      try ranges(["--crash-kernel", list], try image(Self.ram512), machine)
        == ["0x15000000..<0x1f000000"])
    #expect(
      try ranges(["--crash-kernel", list], try image(Self.ram384), machine)
        == ["0x3000000..<0xb000000"])
    #expect(
      try ranges(["--crash-kernel", list + "@64M"], try image(Self.ram384), machine)
        == ["0x4000000..<0xc000000"])
  }

  @Test func `a size that no hole has is refused`() throws {
    let image = try image(Self.ram512)
    let error = #expect(throws: InputError.self) {
      try ranges(["--crash-kernel", "128M"], image, Machine(name: "", units: []))
    }
    #expect(
      error?.text.hasPrefix(
        "--crash-kernel 128M: says no place, and the dump's RAM has not one hole of that size")
        == true)
  }
}
