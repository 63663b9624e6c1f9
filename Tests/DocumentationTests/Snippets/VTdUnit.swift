import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

extension Snippet {
  static let vtdUnit = Snippet(
    page: "docs/vtd-unit.md", source: "VTdUnit",
    blocks: [
      { tell in
        // docs/vtd-unit.md 1
        let memory = try FlatMemory(byteCount: 64 << 20)
        let tables = try VTd.Tables(in: memory)
        let page = PhysicalAddress(0x8000)..<PhysicalAddress(0x9000)
        try tables.map("00:04.0", at: IOVA(0x1000), page, .read)

        let unit = try RemappingUnit(.qemu, memory: memory)
        unit.write(tables.rootTableAddress.rawValue, at: 0x20, byteCount: 8)  // RTADDR_REG
        unit.write(0x4000_0000, at: 0x18, byteCount: 4)  // GCMD_REG: SRTP
        unit.write(0x8000_0000, at: 0x18, byteCount: 4)  // GCMD_REG: TE

        let port = unit.makePort()
        let nic = Requester("00:04.0")!
        tell(port.translate(VTd.Request(nic, IOVA(0x1040), .read), byteCount: 64))
        // mapped(0x8040, byteCount: 64)
        tell(port.translate(VTd.Request(nic, IOVA(0x1040), .write), byteCount: 64))
        // fault(fault 0x5: write without write permission, or no mapping)
        tell(String(unit.read(0x34, byteCount: 4), radix: 2))  // FSTS_REG
        // 10
        // end
      }
    ])
}
