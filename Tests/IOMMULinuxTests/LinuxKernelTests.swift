import IOMMUFormats
import IOMMUImages
import Testing

@testable import IOMMULinux

@Suite struct LinuxKernelTests {
  @Test func `a kernel says what it is, and what it was started with`() throws {
    let system = TinySystem()
    _ = system.variable("saved_command_line", [system.text("intel_iommu=on crashkernel=128M")])
    _ = system.variable("nr_cpu_ids", [4])
    _ = system.variable("__cpu_possible_mask", [0b1011])
    _ = system.variable("__per_cpu_offset", byteCount: 32, [0x1000, 0x2000, 0x3000, 0x4000])
    let kernel = try system.opened()
    #expect(kernel.isBorneOut)
    #expect(kernel.names?.release == "6.1.0-tiny" && kernel.names?.version == "#1 SMP tiny")
    #expect(kernel.names?.machine == "x86_64" && kernel.names?.node == "(none)")
    #expect(try kernel.commandLine() == "intel_iommu=on crashkernel=128M")
    #expect(try kernel.possibleProcessors() == [0, 1, 3])
    #expect(try kernel.processorOffsets().map(\.offset) == [0x1000, 0x2000, 0x4000])
    #expect(
      readError { () throws(KernelReadError) in try kernel.value(of: "none") } == .noSymbol("none"))
  }

  @Test func `what cannot be read is an error, each time it is asked for`() throws {
    let system = TinySystem()
    // The page of the types is not there: symbols are.
    let kernel = try system.opened(without: [0x60_0000])
    #expect(try kernel.symbols.address(of: "_stext") == TinyKernel.text)
    for _ in 0..<2 {
      let error = readError { () throws(KernelReadError) in try kernel.types }
      #expect(error?.isAbsence == true)
    }
  }

  /// The lines of `/proc/iomem`.
  @Test func `the map of resources`() throws {
    let system = TinySystem()
    let root = system.defineResources()
    let crash = system.resource(0x300_0000, 0xaff_ffff, "Crash kernel")
    let code = system.resource(0xe00_0000, 0xee0_1d31, "Kernel code")
    system.set("resource", crash, "sibling", code)
    let bus = system.resource(0x1_0000_0000, 0x8_ffff_ffff, "PCI Bus 0000:00")
    let ram = system.resource(0x10_0000, 0x17fc_cfff, "System RAM", child: crash, sibling: bus)
    let reserved = system.resource(0, 0xfff, "Reserved", sibling: ram)
    system.set("resource", root, "child", reserved)
    let map = try KernelResources(try system.opened())
    #expect(
      map.lines.map(\.text) == [
        "00000000-00000fff : Reserved", "00100000-17fccfff : System RAM",
        "  03000000-0affffff : Crash kernel", "  0e000000-0ee01d31 : Kernel code",
        "100000000-8ffffffff : PCI Bus 0000:00",
      ])
    #expect(map.problems.isEmpty)
    #expect(
      map.ranges(named: "Crash kernel") == [
        PhysicalAddress(0x300_0000)..<PhysicalAddress(0xb00_0000)
      ])
  }

  @Test func `a map that loops, and a line that is not there`() throws {
    let system = TinySystem()
    let root = system.defineResources()
    let first = system.resource(0, 0xfff, "Reserved")
    let second = system.resource(0x1000, 0x1fff, "System RAM", child: first, sibling: 0x1234)
    system.set("resource", first, "sibling", second)
    system.set("resource", root, "child", first)
    let map = try KernelResources(try system.opened())
    #expect(map.lines.map(\.name) == ["Reserved", "System RAM"])
    #expect(
      map.problems == [.endless("the map of resources", address: first), .unmapped(0x1234)])
  }

  // MARK: Two kernels

  /// A second kernel, whose image lies at physical 8 MiB of the first one's 16: within its crash range.
  private static func withCapture(_ system: TinySystem) {
    let memory = system.kernel.memory
    let lines = system.kernel.lines
      .replacing("NUMBER(phys_base)=-16777216", with: "NUMBER(phys_base)=-8388608")
      .replacing("6.1.0-tiny", with: "6.1.0-crash")
    for (from, to) in [(0x1000, 0x80_1000), (0x2000, 0x80_2000), (0x3000, 0x80_3000)]
      as [(UInt64, UInt64)]
    {
      _ = memory.write(
        memory.bytes(at: PhysicalAddress(from), count: 4096)!, at: PhysicalAddress(to))
    }
    memory.store(0x80_2003 as UInt64, at: PhysicalAddress(0x80_1000 + 511 * 8))
    memory.store(0x80_3003 as UInt64, at: PhysicalAddress(0x80_2000 + 510 * 8))
    for number in 0..<4 as Range<UInt64> {
      memory.store(
        0x80_0083 + number << 21 as UInt64, at: PhysicalAddress(0x80_3000 + (8 + number) * 8))
    }
    _ = memory.write(Array("6.1.0-crash\0".utf8), at: PhysicalAddress(0x80_8000 + 130))
    _ = memory.write(Array(lines.utf8), at: PhysicalAddress(0x90_0000))
  }

  @Test func `a second kernel is found in what the first has kept for it`() throws {
    let system = TinySystem()
    let root = system.defineResources()
    // Structures are put into memory from 8 MiB on: these lines stand where the other kernel is not.
    let line = TinyKernel.text + 0x50_0000
    system.kernel.put(words: [0x80_0000, 0xff_ffff, line + 0x100], at: line)
    system.kernel.put(Array("Crash kernel\0".utf8), at: line + 0x100)
    system.set("resource", root, "child", line)
    Self.withCapture(system)
    let alone = try system.opened()
    let kernels = try LinuxKernels(notes: alone.info, in: system.kernel.memory)
    #expect(kernels.all.map(\.role) == [.old, .capture])
    #expect(kernels.all.map(\.kernel.info.release) == ["6.1.0-tiny", "6.1.0-crash"])
    #expect(kernels[.capture]?.origin == .memory(PhysicalAddress(0x90_0000)))
    #expect(kernels[.capture]?.memory.tables.root == PhysicalAddress(0x80_1000))
    #expect(kernels.notices.isEmpty)
  }

  @Test func `without notes memory is looked through, and what is not borne out is no kernel`()
    throws
  {
    let system = TinySystem()
    _ = system.defineResources()
    let kernel = try system.opened()
    let memory = system.kernel.memory
    _ = memory.write(Array(system.kernel.lines.utf8), at: PhysicalAddress(0x9000))
    // An earlier kernel's text, whose memory is another's now.
    _ = memory.write(
      Array(
        system.kernel.lines.replacing("6.1.0-tiny", with: "5.10.0")
          .replacing("phys_base)=-16777216", with: "phys_base)=-8388608").utf8),
      at: PhysicalAddress(0xa000))
    let kernels = try LinuxKernels(notes: nil, in: memory)
    #expect(kernels.all.map(\.kernel.info.release) == ["6.1.0-tiny"])
    #expect(kernels.all.first?.kernel.origin == .memory(PhysicalAddress(0x9000)))
    #expect(kernels.notices.count == 1)
    #expect(kernels.all[0].kernel.isSame(as: kernel))
    let error = readError { () throws(KernelReadError) in
      guard let empty = try? FlatMemory(byteCount: 1 << 16) else { throw .null }
      return try LinuxKernels(notes: nil, in: empty)
    }
    #expect(
      error?.description == "no VMCOREINFO in the notes, and none in the memory that is there")
  }
}
