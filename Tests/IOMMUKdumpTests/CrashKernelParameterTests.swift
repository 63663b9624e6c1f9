import IOMMUFormats
import IOMMUKdump
import Testing

@Suite struct CrashKernelParameterTests {
  static let gib: UInt64 = 1 << 30
  static let mib: UInt64 = 1 << 20

  /// The ranges in MiB on a machine with so many GiB.
  static func ranges(_ texts: [String], gib: Double) throws -> [[UInt64]] {
    let byteCount = UInt64(gib * Double(Self.gib))
    let ram = try MemoryMap.ram(byteCount: byteCount)
    let request = try CrashKernelRequest(
      texts.map { try CrashKernelParameter($0) }, ramByteCount: byteCount)
    let map = try MemoryMap(ram: ram, crashKernel: request.ranges(in: ram))
    return map.crashKernel.map { [$0.lowerBound.rawValue / mib, $0.upperBound.rawValue / mib] }
  }

  @Test(arguments: [
    // Ends of RAM ranges are exclusive.
    ("1G-4G:192M,4G-64G:256M", 4.0, [[16, 272]] as [[UInt64]]),
    ("1G-4G:192M,4G-64G:256M", 2.0, [[16, 208]]),
    ("1G-4G:192M,4G-64G:256M", 1.0, [[16, 208]]),
    ("1G-4G:192M,4G-64G:256M", 3.875, [[16, 208]]),
    ("512M-:192M", 4.0, [[16, 208]]), ("0-:64M", 0.5, [[16, 80]]),
    ("1G-4G:192M,4G-:256M@32M", 4.0, [[32, 288]]), ("1G-:192M@0x2000000", 4.0, [[32, 224]]),
    ("crashkernel=256M@16M", 4.0, [[16, 272]]), ("256M@16M", 4.0, [[16, 272]]),
    ("256M", 4.0, [[16, 272]]), ("crashkernel=64M", 4.0, [[16, 80]]),
    ("10000000-17ffffff", 4.0, [[256, 384]]),
    ("10000000-17ffffff : Crash kernel", 4.0, [[256, 384]]), ("128M@10000000", 4.0, [[256, 384]]),
    ("10000000+128M", 4.0, [[256, 384]]), ("10000000..<18000000", 4.0, [[256, 384]]),
    // 8 GiB end at 9 GiB: 1 GiB of them is moved out of the hole for PCI devices. The low part is
    // x86-64's own choice.
    ("192M,high", 8.0, [[9024, 9216], [16, 272]]),
    // Without RAM above 4 GiB there is no need of a low part. 3 GiB end at 3 GiB.
    ("192M,high", 3.0, [[2880, 3072]]),
  ])
  func `crashkernel= is read as Linux reads it`(
    text: String, gib: Double, expected: [[UInt64]]
  ) throws {
    #expect(try Self.ranges([text], gib: gib) == expected)
  }

  @Test func `several parameters go together`() throws {
    #expect(
      try Self.ranges(["192M,high", "72M,low"], gib: 8) == [[9024, 9216], [16, 88]])
    #expect(try Self.ranges(["192M,high", "0,low"], gib: 8) == [[9024, 9216]])
    #expect(
      try Self.ranges(["64M@16M", "10000000-17ffffff"], gib: 4) == [[16, 80], [256, 384]])
  }

  @Test func `a machine has as much RAM as was bought, whatever firmware keeps`() throws {
    let parameter = try CrashKernelParameter("4G-:256M")
    let ram = try MemoryMap.ram(byteCount: 4 << 30)
    let byteCount = ram.reduce(0) { $0 + $1.byteCount }
    #expect(byteCount == 4 << 30 - 384 << 10)
    let request = try CrashKernelRequest([parameter], ramByteCount: byteCount)
    #expect(
      try request.ranges(in: ram) == [PhysicalAddress(0x100_0000)..<PhysicalAddress(0x1100_0000)])
  }

  @Test(arguments: [
    ("auto", "with auto the distribution chose the size"),
    ("crashkernel=auto", "with auto the distribution chose the size"),
    ("1G,cma", "cma pages belong to programs until the crash"),
    ("", "nothing is there"), ("128", "128 bytes are no whole pages"),
    ("0", "0 bytes are no whole pages"), ("0,high", "0 bytes are no whole pages"),
    ("128M,highest", "'highest' is none of high, low and cma"), ("1G:128M", "'1G:128M' is no size"),
    ("1G-2G", "0x40000000..<0x80000001 is not a multiple of 4 KiB"), ("1G-2G:", "nothing is there"),
    ("2G-1G:128M", "'2G-1G' ends before"),
    ("1G-2G:128M,", "'' is no size"), ("1G-2G:128M@", "nothing is there"),
    ("128M@16385K", "0x1000400..<0x9000400 is not a multiple of 4 KiB"),
    ("128M@16777216", "0x16777216..<0x1e777216 is not a multiple of 4 KiB"),
    ("0@16M", "it holds no byte"), ("15000000-1efffff0", "0x15000000..<0x1efffff1 is not"),
  ])
  func `what is no crash kernel is refused with the reason`(text: String, reason: String) throws {
    let error = #expect(throws: NotationError.self) { try CrashKernelParameter(text) }
    #expect(try #require(error).description.hasPrefix(reason), "\(error!)")
  }

  @Test(arguments: [
    (["1G-4G:192M"], SetUpError.noCrashKernelForRAM("1G-4G:192M", byteCount: 4 << 30)),
    (["64M", "128M"], .crashKernelTwice("128M")), (["72M,low"], .lowCrashKernelAlone),
    (["192M,high", "64M"], .highCrashKernelBesideOthers),
    (["192M,high", "64M@16M"], .highCrashKernelBesideOthers),
    (["4G"], .noRoomForCrashKernel(byteCount: 4 << 30)),
    (["8G,high"], .noRoomForCrashKernel(byteCount: 8 << 30)),
  ])
  func `what does not go together is an error`(texts: [String], error: SetUpError) {
    #expect(throws: error) { try Self.ranges(texts, gib: 4) }
  }

  // MARK: Dumps

  static func range(_ start: UInt64, _ end: UInt64) -> Range<PhysicalAddress> {
    PhysicalAddress(start)..<PhysicalAddress(end)
  }

  /// Holes of at least 16 MiB in dumps that capture kernels wrote, and where those kernels lived.
  @Test(
    arguments: [
      // RAM 0x1000..<0x9f000, 0x100000..<0x15000000, 0x1f000000..<0x1ffcd000; crashkernel=160M.
      ([(0x1500_0000, 0x1f00_0000)], [(0x1500_0000, 0x1f00_0000)]),
      // RAM from 0x40000000, an arm64 machine; crashkernel=192M.
      ([(0x6320_0000, 0x6f20_0000)], [(0x6320_0000, 0x6f20_0000)]),
      // The hole for PCI devices beside it, and a part above 4 GiB.
      (
        [(0x1500_0000, 0x1f00_0000), (0x8000_0000, 0x1_0000_0000), (0x4_7000_0000, 0x4_7c00_0000)],
        [(0x1500_0000, 0x1f00_0000), (0x4_7000_0000, 0x4_7c00_0000)]
      ),
      // Firmware's own memory starts and ends anywhere.
      ([(0x6e2c_f000, 0x7f00_0000)], []),
      // Nobody knows which of two.
      ([(0x1500_0000, 0x1f00_0000), (0x4000_0000, 0x4400_0000)], []),
      ([], []),
    ] as [([(UInt64, UInt64)], [(UInt64, UInt64)])])
  func `a capture kernel leaves one hole in the RAM of its dump`(
    holes: [(UInt64, UInt64)], expected: [(UInt64, UInt64)]
  ) {
    let found = CrashKernelHoles(holes.map { Self.range($0.0, $0.1) })
    #expect(found.crashKernel == expected.map { Self.range($0.0, $0.1) })
  }

  @Test func `a size without a place is a range of that size, or nothing`() throws {
    let low = Self.range(0x1500_0000, 0x1f00_0000)
    let high = Self.range(0x4_7000_0000, 0x4_7c00_0000)
    func ranges(
      _ texts: String..., of candidates: [Range<PhysicalAddress>]
    ) throws -> [Range<PhysicalAddress>]? {
      try CrashKernelRequest(texts.map { try CrashKernelParameter($0) }, ramByteCount: 4 << 30)
        .ranges(of: candidates)
    }
    #expect(try ranges("160M", of: [low, high]) == [low])
    #expect(try ranges("4G-:160M", of: [low, high]) == [low])
    #expect(try ranges("192M,high", "160M,low", of: [low, high]) == [low, high])
    #expect(try ranges("160M@336M", of: []) == [low])
    #expect(try ranges("128M", of: [low, high]) == nil)
    #expect(try ranges("160M", of: [low, Self.range(0x4000_0000, 0x4a00_0000)]) == nil)
    #expect(try ranges("192M,high", of: [low, high]) == nil)
  }
}
