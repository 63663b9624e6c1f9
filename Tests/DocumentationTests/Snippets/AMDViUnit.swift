import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

extension Snippet {
  static let amdviUnit = Snippet(
    page: "docs/amdvi-unit.md", source: "AMDViUnit",
    blocks: [
      { tell in
        // docs/amdvi-unit.md 1
        let memory = try FlatMemory(byteCount: 64 << 20)
        let tables = try AMDVi.Tables(in: memory)
        let page = PhysicalAddress(0x8000)..<PhysicalAddress(0x9000)
        try tables.map("00:04.0", at: IOVA(0x1000), page, .read)

        let unit = try AMDViUnit(.current, memory: memory)
        unit.write(tables.deviceTable.rawValue, at: 0x00, byteCount: 8)  // DevTabBase
        unit.write(0x0800_0000_0014_0000, at: 0x10, byteCount: 8)  // EventLogBase
        unit.write(tables.control.rawValue | 0x4, at: 0x18, byteCount: 8)  // Control: EventLogEn

        let nic = Requester("00:04.0")!
        tell(unit.translate(AMDVi.Request(nic, IOVA(0x1040), .read), byteCount: 64).translation)
        // mapped(0x8040, byteCount: 64)
        tell(unit.translate(AMDVi.Request(nic, IOVA(0x1040), .write), byteCount: 64).translation)
        // fault(fault 0x2: a page table entry does not permit it (IR, IW))
        tell(String(unit.read(0x2018, byteCount: 8), radix: 16))  // EventLogTail
        // 10
        // end
      }
    ])
}
