import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMURule
import IOMMUTestSupport
import IOMMUTranslation
import Synchronization
import Testing

@testable import IOMMUInspection

/// Work follows what a dump stores, not what it claims: with the same pages stored, the same words and
/// bytes are read for 1 GiB and for 1 EiB.
@Suite struct FlatnessTests {
  static let claims: [UInt64] = [30, 40, 50, 60]

  /// Loads asked of a memory.
  struct Work: Equatable {
    var words = 0
    var reads = 0
    var bytes = 0
  }

  /// An image that counts.
  final class CountedImage: PhysicalMemory {
    let image: MemoryImage
    private let work = Mutex(Work())

    init(_ image: MemoryImage) { self.image = image }

    /// What `body` asks for.
    func work(of body: () -> Void) -> Work {
      work.withLock { $0 = Work() }
      body()
      return work.withLock { $0 }
    }

    func quadword(at address: PhysicalAddress) -> UInt64? {
      work.withLock { $0.words += 1 }
      return image.quadword(at: address)
    }
    func doubleword(at address: PhysicalAddress) -> UInt32? {
      work.withLock { $0.words += 1 }
      return image.doubleword(at: address)
    }
    func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
      let count = image.read(at: address, into: buffer)
      work.withLock {
        $0.reads += 1
        $0.bytes += count
      }
      return count
    }
    func presence(of address: PhysicalAddress) -> Presence { image.presence(of: address) }
    func isAbsent(at address: PhysicalAddress) -> Bool { image.isAbsent(at: address) }
    var backedRanges: [Range<PhysicalAddress>] { image.backedRanges }
    var storedRanges: [Range<PhysicalAddress>] { image.storedRanges }
    var storedPageCount: UInt64 { image.storedPageCount }
  }

  /// How a dump claims what it does not store.
  enum Container: CaseIterable {
    /// An ELF core whose last PT_LOAD has 4 KiB in the file and all else as zero fill.
    case zeroFill
    /// A flattened stream of raw bytes, the last record far behind the others.
    case gap
    /// A raw file, the last page far behind a hole.
    case hole

    /// Claims that the container can make; the file system has none for files of 2^50 bytes.
    var claims: [UInt64] { self == .hole ? [30, 36, 42] : FlatnessTests.claims }
  }

  /// The pages of an example with tables, and one page of nothing at the end of the claim.
  static func image(
    _ container: Container, claim: UInt64, in scratch: TemporaryDirectory
  ) throws -> MemoryImage {
    let example = try MemoryImage(path: "\(Repository.path)/Examples/vtd-crash/image.elf")
    let parts = try example.backedRanges.map { range in
      (
        range.lowerBound.rawValue,
        try #require(example.bytes(at: range.lowerBound, count: Int(range.byteCount)))
      )
    }
    let page = [UInt8](repeating: 0xff, count: 4096)
    let end: UInt64 = 1 << claim
    switch container {
    case .zeroFill:
      var loads = parts.map { TinyELF.Load(physical: $0.0, data: $0.1) }
      loads.append(.init(physical: 1 << 40, data: page, memorySize: end))
      return try MemoryImage(path: scratch.file("core", TinyELF(loads).bytes))
    case .gap:
      func big(_ value: UInt64) -> [UInt8] { TinyELF.little(value, 8).reversed() }
      var bytes = Array("makedumpfile\0\0\0\0".utf8) + big(1) + big(1)
      bytes += [UInt8](repeating: 0, count: 4096 - bytes.count)
      for (start, data) in parts + [(end, page)] {
        bytes += big(start) + big(UInt64(data.count)) + data
      }
      bytes += big(.max) + big(.max)
      return try MemoryImage(path: scratch.file("stream", bytes))
    case .hole:
      let path = scratch.file("raw", [])
      let descriptor = Glibc.open(path, O_WRONLY)
      for (start, data) in parts + [(end, page)] {
        #expect(pwrite(descriptor, data, data.count, off_t(start)) == data.count)
      }
      close(descriptor)
      return try MemoryImage(path: path)
    }
  }

  static let machine: Result<Machine, any Error> = Result {
    var machine = try MachineFile(
      path: "\(Repository.path)/Examples/vtd-crash/machine.json"
    ).machine()
    machine.crashKernel = [addresses(0x100_0000..<0x200_0000)]
    return machine
  }

  @Test(arguments: Container.allCases)
  func `the same is read whatever a dump claims`(container: Container) throws {
    let scratch = TemporaryDirectory()
    let machine = try Self.machine.get()
    var first: [String: Work] = [:]
    for claim in container.claims {
      let image = try Self.image(container, claim: claim, in: scratch)
      let memory = CountedImage(image)
      let whole =
        try #require(image.backedRanges.first)
        .lowerBound..<(try #require(image.backedRanges.last)).upperBound
      let evidence = try #require(RuleEvidence(dump: machine))
      var lines = ""
      let work = [
        "find": memory.work { _ = TableSearch(in: memory) },
        "maps": memory.work {
          MapsReport(all: machine, in: memory).writeTSV(of: memory, to: &lines)
        },
        "who": memory.work { _ = ReachReport(whole, machine: machine, in: memory) },
        "verify": memory.work { _ = RuleCheck(evidence: evidence, memory: memory).all() },
        "hexdump": memory.work { Hexdump.write(whole, of: memory, to: &lines) },
        "hexdump --annotate": memory.work {
          Annotator(machine, in: memory).writeHexdump(whole, of: memory, to: &lines)
        },
      ]
      if first.isEmpty { first = work }
      for (command, work) in work {
        #expect(work == first[command], "\(command), 2^\(claim) bytes")
      }
      // 97 pages of the example and the one at the end.
      #expect(image.storedPageCount == 98, "2^\(claim) bytes")
    }
    #expect(first["find"].map { $0.bytes >= 98 * 4096 } == true)
    #expect(first["hexdump"].map { $0.bytes < 1 << 21 } == true)
  }

  @Test(arguments: Container.allCases)
  func `the same is written whatever a dump claims`(container: Container) throws {
    let scratch = TemporaryDirectory()
    for claim in container.claims {
      let image = try Self.image(container, claim: claim, in: scratch)
      let report = try ImageConverter.write(image, to: scratch.path("elf"), as: .elf)
      #expect(report.byteCount == 98 * 4096, "2^\(claim) bytes")
      // Headers, and segments that begin at pages of the file.
      #expect(report.fileByteCount < 1 << 19, "2^\(claim) bytes")
      let elf = try MemoryImage(path: scratch.path("elf"))
      #expect(elf.backedRanges == image.backedRanges)
      // Four pages of the example are zero, and become holes.
      #expect(elf.storedPageCount == 94)
      #expect(elf.summary().storedByteCount == 98 * 4096)
      // 4 GiB of zeros have descriptors of 24 MiB; more are not written.
      let kdump = scratch.path("kdump")
      if claim == 30 {
        #expect(
          try ImageConverter.write(image, to: kdump, as: .kdump).byteCount == 98 * 4096)
      } else {
        #expect(throws: ImageError.self) { try ImageConverter.write(image, to: kdump, as: .kdump) }
      }
    }
  }

  @Test func `a hexdump tells what lies behind zeros that nobody stores`() throws {
    let scratch = TemporaryDirectory()
    let path = scratch.file(
      "core",
      TinyELF([
        .init(physical: 0x1008, data: [1, 2, 3, 4], memorySize: 1 << 50),
        .init(physical: 0x1008 + 1 << 50, data: [5, 6]),
      ]).bytes)
    var text = ""
    let image = try MemoryImage(path: path)
    Hexdump.write(addresses(0x1008..<0x4_0000_0000_1100), of: image, to: &text)
    #expect(
      text == """
        00001008  01 02 03 04 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        00001018  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        4000000001008  05 06                                             |..|
        (0x400000000100a..<0x4000000001100 is not in this image)
        4000000001100

        """)
  }
}
