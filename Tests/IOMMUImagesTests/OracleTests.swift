import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUTranslation
import Testing

private let oracle = getenv("IOMMU_ORACLE").map { String(cString: $0) }

/// Real files, in the directory that the environment variable IOMMU_ORACLE names.
@Suite(.enabled(if: oracle != nil)) struct OracleTests {
  /// The files whose names end so, two directories down.
  static func files(_ suffix: String) -> [String] {
    guard let oracle else { return [] }
    var matches = glob_t()
    defer { globfree(&matches) }
    guard glob("\(oracle)/*/*/*\(suffix)", 0, nil, &matches) == 0 else { return [] }
    return (0..<Int(matches.gl_pathc)).map { String(cString: matches.gl_pathv[$0]!) }
  }

  @Test(arguments: files("machine.json") + files("machine-kdump.json"))
  func `every machine file loads and comes back equal`(path: String) throws {
    let file = try MachineFile(path: path)
    #expect(!file.imagePaths.isEmpty)
    #expect(file.warnings.isEmpty)
    do throws(ImageError) {
      let machine = try file.machine()
      #expect(try MachineFile(machine: machine, images: []).machine().units == machine.units)
    } catch {
      #expect(error.found.contains("scalable mode"))
    }
  }

  @Test(arguments: files(".elf"))
  func `every ELF core opens and every page of it is there`(path: String) throws {
    let image = try MemoryImage(path: path)
    #expect(image.format == .elfCore)
    #expect(!image.backedRanges.isEmpty)
    for range in image.backedRanges {
      #expect(image.quadword(at: range.lowerBound) != nil)
      #expect(image.quadword(at: PhysicalAddress(range.upperBound.rawValue - 8)) != nil)
      #expect(image.quadword(at: PhysicalAddress(range.upperBound.rawValue - 7)) == nil)
    }
  }
}
