import ArgumentParser
import Foundation
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUKernelTestSupport
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUCommands

/// Commands on dumps whose kernel has an AMD-Vi unit: the dump is all that they are given.
@Suite struct AMDViKernelTests {
  private static func oneKernel(_ age: AMDSystem.Age) -> [UInt8] {
    let made = AMDSystem(age)
    made.makeResources(crashKernel: 0xc0_0000...0xff_ffff)
    made.system.finish()
    return made.dump()
  }

  /// The old kernel's memory, and behind it that of a capture kernel. 00:03.0 is still on the old kernel's
  /// table, by an entry in the copied device table, and 00:06.0 has a new one.
  private static func twoKernels() throws -> [UInt8] {
    let memory = try FlatMemory(byteCount: 32 << 20)
    let old = AMDSystem(.linux61, in: memory)
    old.makeResources(crashKernel: 0x100_0000...0x1ff_ffff)
    old.system.finish()
    let capture = AMDSystem(.linux61, in: memory, at: 16 << 20)
    capture.system.set("iommu_dev_data", capture.data[0], "domain", 0)
    capture.system.set(
      "amd_iommu_pci_seg", capture.segment, "old_dev_tbl_cpy", AMDSystem.deviceTable)
    capture.setEntry(0x18, AMDSystem.entry(levels: 3, root: 0x41_0000), 3)
    capture.makeResources(crashKernel: 0x100_0000...0x1ff_ffff)
    capture.system.finish()
    capture.putInfo()
    return old.dump()
  }

  private static func text(_ run: (inout String) throws -> Void) throws -> String {
    var text = ""
    try run(&text)
    return text
  }

  @Test(arguments: AMDSystem.Age.allCases)
  func `a screen of the kernel`(_ age: AMDSystem.Age) throws {
    let directory = TemporaryDirectory()
    let path = directory.file("dump", Self.oneKernel(age))
    let text = try Self.text { _ = try Vmcore.parse([path]).report(to: &$0) }
    #expect(text.split(separator: "\n").allSatisfy { $0.count <= 80 })
    #expect(
      text.contains(
        """

        unit        ivhd0 at 0xfed80000, amd-vi, device table at 0x400000, 8 KiB, queue
                    at 0x430000

        device   driver      group domain      id       table  pages  live cached  wait
        00:00.2  -           -     -            -           -      -     -      -     -
        00:03.0  e1000e      1     DMA          3    0x410000      1     1      0     0
        00:04.0  nvme        2     identity     2      passes      -     -      -     -
        00:05.0  ahci        3     none         -           -      -     -      -     -
        00:06.0  e1000       4     DMA          4    0x420000      1     -      -     -

        """), "\(text)")
    #expect(!text.contains("findings") && !text.contains("not walked"))
    let json = try Self.text { _ = try Vmcore.parse([path, "--format", "json"]).report(to: &$0) }
    let kernels = try #require(
      JSONSerialization.jsonObject(with: Data(json.utf8)) as? [[String: Any]])
    let unit = try #require((kernels[0]["units"] as? [[String: Any]])?.first)
    #expect(unit["table_bytes"] as? String == "0x2000" && unit["requester"] as? String == "00:00.2")
    #expect(unit["extended_capability"] as? String == "0x29d3")
    let devices = try #require(kernels[0]["devices"] as? [[String: Any]])
    let tables = try #require(devices[1]["tables"] as? [String: Any])
    #expect(tables["levels"] as? Int == 3 && tables["domain_id"] as? Int == 3)
    #expect(devices[4]["aliases"] as? [String] == ["00:06.1"])
  }

  @Test(arguments: AMDSystem.Age.allCases)
  func `no command needs more than the dump`(_ age: AMDSystem.Age) throws {
    let directory = TemporaryDirectory()
    let path = directory.file("dump", Self.oneKernel(age))
    let memory = try MemoryImage(path: path)
    let knowledge = try #require(KernelKnowledge(of: memory, path: path))
    let unit = try #require(knowledge.machine.units.first?.as(AMDVi.Unit.self))
    #expect(unit.base == PhysicalAddress(0xfed8_0000) && unit.segment == 0)
    #expect(unit.deviceTable.address == PhysicalAddress(0x40_0000))
    #expect(unit.deviceTable.byteCount == 0x2000 && unit.features?.rawValue == 0x29d3)
    #expect(knowledge.machine.crashKernel.map(\.text) == ["0xc00000..<0x1000000"])
    #expect(
      knowledge.notices == [
        "no machine file: taking the device table at 0x400000, as the kernel says of ivhd0 at 0xfed80000"
      ])
    #expect(
      knowledge.devices?.map(\.name) == [
        "00:03.0 e1000e", "00:04.0 nvme", "00:05.0 ahci", "00:06.0 e1000",
      ])
    let maps = try Self.text {
      _ = try Maps.parse([path, "--format", "tsv"]).report(to: &$0)
    }
    #expect(maps.contains("00:03.0\t0x80000\t0x1000\t0x410000\trw\n"), "\(maps)")
    let walk = try Self.text { _ = try Walk.parse([path, "00:03.0", "80010"]).report(to: &$0) }
    #expect(walk.hasPrefix("00:03.0 e1000e reads IOVA 0x80010: ") && walk.contains("0x410010"))
    let verdicts = try Self.text { _ = try Verify.parse([path]).report(to: &$0) }
    #expect(
      verdicts.contains(
        "R6  holds: the crash kernel's addresses fit the devices' masks\n"
          + "  looked at: the 4 devices that the kernel lists\n"), "\(verdicts)")
    // 00:05.0 has no table, and may be one that is needed.
    #expect(verdicts.contains("R8  unknown: "))
    #expect(verdicts.contains("looked at: the device tables of the kernel's drivers\n"))
    #expect(!verdicts.contains("written to registers"))
    // 00:04.0 reaches all of memory.
    #expect(verdicts.contains("00:04.0 nvme"))
  }

  @Test func `a device table is told whose it is`() throws {
    let directory = TemporaryDirectory()
    let one = directory.file("one", Self.oneKernel(.linux612))
    let found = try Self.text { _ = try Find.parse([one]).report(to: &$0) }
    #expect(found.contains("0x400000  AMD-Vi device table, 8 KiB"), "\(found)")
    #expect(found.contains("\n  device table of ivhd0, by the kernel\n"))
    let two = directory.file("two", try Self.twoKernels())
    let json = try Self.text { _ = try Find.parse([two, "--format", "json"]).report(to: &$0) }
    let all = try #require(JSONSerialization.jsonObject(with: Data(json.utf8)) as? [[String: Any]])
    func claim(_ address: String) throws -> [String: Any] {
      let candidate = try #require(all.first { $0["address"] as? String == address }, "\(json)")
      return try #require(candidate["kernel"] as? [String: Any])
    }
    let old = try claim("0x400000")
    #expect(old["state"] as? String == "unit" && old["kernel"] as? String == "old")
    let capture = try claim("0x1400000")
    #expect(capture["state"] as? String == "unit" && capture["kernel"] as? String == "capture")
  }

  @Test func `a capture kernel with a copied device table`() throws {
    let directory = TemporaryDirectory()
    let path = directory.file("dump", try Self.twoKernels())
    let text = try Self.text { _ = try Vmcore.parse([path]).report(to: &$0) }
    for part in [
      "device table at 0x400000, 8 KiB", "device table at 0x1400000, 8 KiB",
      "has taken over an earlier kernel's tables",
      "\n00:03.0  e1000e      1     DMA          3    0x410000      1     1      0     0\n",
      "\n00:03.0  e1000e      1     old          -    0x410000      1     -      -     -\n",
      "\n00:06.0  e1000       4     DMA          4   0x1420000      1     -      -     -\n",
    ] {
      #expect(text.contains(part), "\(part)\n\(text)")
    }
    #expect(
      text.contains(
        "\nfindings    on the old kernel's tables, since no driver has attached them:\n            00:03.0\n"
      ))
    let memory = try MemoryImage(path: path)
    let knowledge = try #require(KernelKnowledge(of: memory, path: path))
    let unit = try #require(knowledge.machine.units.first?.as(AMDVi.Unit.self))
    #expect(unit.deviceTable.address == PhysicalAddress(0x140_0000))
    #expect(knowledge.machine.crashKernel.map(\.text) == ["0x1000000..<0x2000000"])
    #expect(
      knowledge.notices == [
        "no machine file: taking the device table at 0x1400000, as the capture kernel says of "
          + "ivhd0 at 0xfed80000"
      ])
    let maps = try Self.text { _ = try Maps.parse([path, "--format", "tsv"]).report(to: &$0) }
    #expect(maps.contains("00:03.0\t0x80000\t0x1000\t0x410000\trw\n"), "\(maps)")
    #expect(maps.contains("00:06.0\t0x80000\t0x1000\t0x1420000\trw\n"))
  }

  /// A device table that the dump lacks is not one that says nothing.
  @Test func `a unit whose table is not known is not left out`() throws {
    let directory = TemporaryDirectory()
    let made = AMDSystem(.linux61)
    made.makeResources(crashKernel: 0xc0_0000...0xff_ffff)
    made.system.set("amd_iommu_pci_seg", made.segment, "dev_table", 0xffff_8880_0000_0000)
    made.system.finish()
    let path = directory.file("dump", made.dump())
    let knowledge = try #require(KernelKnowledge(of: MemoryImage(path: path), path: path))
    #expect(knowledge.machine.units.isEmpty && knowledge.notices.isEmpty)
    let text = try Self.text { _ = try Vmcore.parse([path]).report(to: &$0) }
    #expect(text.contains("where its device table is, is not known"), "\(text)")
  }
}
