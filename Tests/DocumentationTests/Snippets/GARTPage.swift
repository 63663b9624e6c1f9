import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

extension Snippet {
  static let gart = Snippet(
    page: "docs/gart.md", source: "GARTPage",
    blocks: [
      { tell in
        // docs/gart.md 1
        let memory = try FlatMemory(byteCount: 64 << 20)
        let entry = GART.GATTEntry(page: PhysicalAddress(0x8000))
        entry.store(to: memory, at: PhysicalAddress(0x01a4_0000 + 4 * 0x3))

        let hardware = Northbridges(nodeCount: 2)
        for node in hardware.nodes.map(\.function) {
          hardware.writeConfiguration(0x68, to: node, at: 0x94)  // aperture at 0xd0000000
          hardware.writeConfiguration(0x0001_a400, to: node, at: 0x98)  // table at 0x01a40000
          hardware.writeConfiguration(0x03, to: node, at: 0x90)  // on, 64 MiB
        }
        tell(hardware.translate(IOVA(0xd000_3abc), byteCount: 64, access: .read, in: memory))
        // mapped(0x8abc, byteCount: 64)
        tell(hardware.translate(IOVA(0xd000_4abc), byteCount: 64, access: .read, in: memory))
        // fault(fault: GATT entry without valid bit)
        // end
      }
    ])
}
