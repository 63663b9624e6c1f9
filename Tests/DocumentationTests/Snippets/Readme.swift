import IOMMUFormats
import IOMMUTranslation

extension Snippet {
  static let readme = Snippet(
    page: "README.md", source: "Readme",
    blocks: [
      { tell in
        // README.md 1

        // 1 MiB of RAM with VT-d tables: the device 00:03.0 reaches 0x8000 by the number 0xfffff000.
        let memory = try FlatMemory(byteCount: 1 << 20)
        let tables = try VTd.Tables(in: memory)
        let page = PhysicalAddress(0x8000)..<PhysicalAddress(0x9000)
        try tables.map("00:03.0", at: IOVA(0xffff_f000), page, .readWrite)

        let device = tables.machine.resolve(Requester("00:03.0")!, in: memory)
        switch device.translate(IOVA(0xffff_f040), byteCount: 64, access: .write, in: memory) {
        case .mapped(let physical, let byteCount): tell("\(byteCount) bytes at \(physical)")
        case .interruptMessage: tell("an interrupt")
        case .fault(let fault): tell(fault)
        }
        // 64 bytes at 0x8040
        // end
      }
    ])
}
