import Glibc
import IOMMUFormats
import Testing

@testable import IOMMUImages

@Suite struct FileBytesTests {
  let scratch = TemporaryDirectory()

  @Test(arguments: [true, false])
  func `a file reads the same whether it can be mapped or not`(isMapped: Bool) throws {
    let elf = TinyELF([
      .init(physical: 0x1000, data: [1, 2, 3, 4, 5, 6, 7, 8, 9], memorySize: 0x20),
      .init(physical: 0x8000, data: [0xcc]),
    ]).bytes
    for bytes in [elf, KdumpMemoryTests.three.bytes, Array(repeating: 7, count: 9000)] {
      let path = scratch.file("file", bytes)
      let plain = try MemoryImage(path: path)
      let image = try MemoryImage([DumpFile(FileBytes(path: path, isMapped: isMapped))])
      #expect(image.format == plain.format)
      #expect(image.backedRanges == plain.backedRanges)
      for address: UInt64 in [0, 0xfff, 0x1000, 0x1001, 0x1018, 0x1019, 0x2000, 0x5000, 0x5ffc] {
        let place = PhysicalAddress(address)
        #expect(image.quadword(at: place) == plain.quadword(at: place))
        #expect(image.presence(of: place) == plain.presence(of: place))
        #expect(image.bytes(at: place, count: 9) == plain.bytes(at: place, count: 9))
      }
      #expect(image.problems.isEmpty)
    }
  }

  /// A look beyond the new end of a mapped file would be SIGBUS.
  @Test(arguments: [true, false])
  func `a file that shrinks is a problem and no signal`(isMapped: Bool) throws {
    let path = scratch.file("raw", [UInt8](repeating: 7, count: 64 << 10))
    let image = try MemoryImage([DumpFile(FileBytes(path: path, isMapped: isMapped))])
    #expect(image.quadword(at: PhysicalAddress(0x8000)) == 0x0707_0707_0707_0707)
    #expect(image.problems.isEmpty)
    truncate(path, 0x1800)
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == 0x0707_0707_0707_0707)
    let beyond = image.quadword(at: PhysicalAddress(0x8000))
    #expect(beyond == (isMapped ? 0 : nil))
    #expect(image.quadword(at: PhysicalAddress(0xf000)) == beyond)
    let problem = try #require(image.problems.first)
    #expect(problem.found.contains(isMapped ? "shrank while it was read" : "the file ends here"))
    #expect(problem.remedy!.contains("copy it"))
    // Another file is none the worse.
    let other = try MemoryImage(path: scratch.file("other", [1, 2, 3, 4, 5, 6, 7, 8]))
    #expect(other.problems.isEmpty)
  }

  /// Whoever copies over a file makes it empty first.
  @Test func `a file that shrank and has grown again has given zeros`() throws {
    let path = scratch.file("raw", [UInt8](repeating: 7, count: 64 << 10))
    let image = try MemoryImage(path: path)
    truncate(path, 0x1000)
    #expect(image.quadword(at: PhysicalAddress(0x9000)) == 0)
    #expect(image.quadword(at: PhysicalAddress(0x4000)) == 0)
    truncate(path, 64 << 10)
    let problem = try #require(image.problems.first)
    #expect(problem.found == "the system could not read these bytes")
    #expect(problem.offset == 0x4000)
  }

  @Test func `a file that shrinks within a page is noticed too`() throws {
    let path = scratch.file("raw", [UInt8](repeating: 7, count: 100))
    let image = try MemoryImage(path: path)
    truncate(path, 50)
    #expect(image.quadword(at: PhysicalAddress(0)) == 0x0707_0707_0707_0707)
    #expect("\(try #require(image.problems.first))".contains("from 0x64 to 0x32 bytes"))
  }

  @Test func `many mappings are watched at once`() throws {
    var images: [MemoryImage] = []
    for index in 0..<20 {
      let path = scratch.file("raw\(index)", [UInt8](repeating: UInt8(index), count: 8192))
      images.append(try MemoryImage(path: path))
    }
    truncate(scratch.path("raw7"), 4096)
    truncate(scratch.path("raw19"), 0)
    for image in images { _ = image.quadword(at: PhysicalAddress(4096)) }
    #expect(images.indices.filter { !images[$0].problems.isEmpty } == [7, 19])
  }

  @Test func `RAM is what the kernel lists at the top level`() throws {
    let text = """
      00000000-00000fff : Reserved
      00001000-0009fbff : System RAM
      00100000-1fffffff : System RAM
        02000000-02e0ffff : Kernel code
      fed00000-fed003ff : HPET 0
      """
    let pieces = try SystemRAM.pieces(text, path: "/proc/iomem")
    #expect(pieces.map(\.start) == [0x1000, 0x10_0000])
    #expect(pieces.map(\.end) == [0x9_fc00, 0x2000_0000])
    #expect(pieces.map(\.source) == [.file(0x1000), .file(0x10_0000)])
    for hidden in ["00000000-00000000 : System RAM", "", "zz-1 : System RAM", "5-4 : System RAM"] {
      do throws(ImageError) {
        _ = try SystemRAM.pieces(hidden, path: "/proc/iomem")
        Issue.record("\(hidden) was read")
      } catch {
        #expect("\(error)" == "/proc/iomem: shows no addresses of System RAM; read it as root")
      }
    }
  }
}
