import IOMMUFormats
import IOMMUTranslation

extension Snippet {
  static let builders = Snippet(
    page: "docs/builders.md", source: "Builders",
    blocks: [
      { tell in
        let memory = try FlatMemory(byteCount: 16 << 20)
        let buffer = PhysicalAddress(0x8000)..<PhysicalAddress(0xa000)
        // docs/builders.md 1
        let tables = try VTd.Tables(in: memory)
        try tables.map("00:03.0", at: IOVA(0xffff_e000), buffer, .readWrite)
        tell(tables.translate("00:03.0", IOVA(0xffff_f040), byteCount: 64, access: .write))
        // mapped(0x9040, byteCount: 64)
        tell(tables.rootTable)
        // 0xfff000
        // end
      },
      { tell in
        let memory = try FlatMemory(byteCount: 16 << 20)
        let buffer = PhysicalAddress(0x8000)..<PhysicalAddress(0xa000)
        // docs/builders.md 2
        let tables = try VTd.Tables(in: memory, mode: .scalable)
        let process = try tables.makeDomain(.firstStage(levels: 4))
        try tables.bind("00:04.0", pasid: PASID(5), to: process)
        try tables.map("00:04.0", pasid: PASID(5), at: IOVA(0x7fff_0000_0000), buffer, .read)

        let host = try tables.makeDomain(.secondStage(levels: 4))
        try tables.map(in: host, at: IOVA(0x5000), buffer, .readWrite)
        let guest = try tables.makeDomain(.nested(levels: 4, host: host.id))
        try tables.bind("00:05.0", to: guest)
        let guestPage = PhysicalAddress(0x5000)..<PhysicalAddress(0x6000)
        try tables.map("00:05.0", at: IOVA(0x1000), guestPage, .readWrite)
        tell(tables.translate("00:05.0", IOVA(0x1234), access: .write))
        // mapped(0x8234, byteCount: 1)
        // end
      },
      { tell in
        let memory = try FlatMemory(byteCount: 16 << 20)
        let buffer = PhysicalAddress(0x8000)..<PhysicalAddress(0xa000)
        // docs/builders.md 3
        let tables = try VTd.Tables(in: memory)
        let large = PhysicalAddress(0x4000_0000)..<PhysicalAddress(0x8000_0000)
        try tables.map("00:03.0", at: IOVA(0x4000_0000), large, .readWrite, sizes: .largest)
        try tables.remap("00:03.0", at: IOVA(0x4000_2000), buffer, .read)
        try tables.unmap("00:03.0", IOVA(0x4010_0000)..<IOVA(0x4010_1000))
        tell(tables.tablePageCount)
        // 6
        // end
      },
      { tell in
        let memory = try FlatMemory(byteCount: 16 << 20)
        let buffer = PhysicalAddress(0x8000)..<PhysicalAddress(0xa000)
        // docs/builders.md 4
        let tables = try AMDVi.Tables(in: memory)
        try tables.map("00:03.0", at: IOVA(0xffff_e000), buffer, .readWrite, sizes: .largest)
        try tables.map("00:04.0", pasid: PASID(5), at: IOVA(0x1000), buffer, .read)
        tell(tables.translate("00:04.0", pasid: PASID(5), IOVA(0x1000), access: .read))
        // mapped(0x8000, byteCount: 1)
        // end
      },
      { tell in
        let memory = try FlatMemory(byteCount: 16 << 20)
        let buffer = PhysicalAddress(0x8000)..<PhysicalAddress(0xa000)
        // docs/builders.md 5
        let tables = try Calgary.Tables(in: memory, bridges: [0...0, 1...1])
        try tables.map("01:01.0", at: IOVA(0x10_0000), buffer, .readWrite)
        tell(tables.translate("01:01.0", IOVA(0x10_0000), access: .read))
        // mapped(0x8000, byteCount: 1)
        // end
      },
      { tell in
        let memory = try FlatMemory(byteCount: 16 << 20)
        let buffer = PhysicalAddress(0x8000)..<PhysicalAddress(0xa000)
        // docs/builders.md 6
        let tables = try GART.Tables(in: memory)
        try tables.map(at: tables.aperture.lowerBound, buffer)
        tell(tables.translate(IOVA(0x8000_1000), access: .read))
        // mapped(0x9000, byteCount: 1)
        // end
      },
    ])
}
