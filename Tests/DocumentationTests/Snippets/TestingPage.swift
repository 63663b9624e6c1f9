import IOMMUFormats
import IOMMUTesting
import IOMMUTranslation

extension Snippet {
  static let testing = Snippet(
    page: "docs/testing.md", source: "TestingPage",
    blocks: [
      { tell in
        let page = PhysicalAddress(0x8000)..<PhysicalAddress(0x9000)
        let mine = try VTd.Tables(in: FlatMemory(byteCount: 1 << 20))
        try mine.map("00:03.0", at: IOVA(0x1000), page, .readWrite)
        let (machine, memory) = (mine.machine, mine.memory)
        do {
          // docs/testing.md 1
          let expected = try VTd.Tables(in: FlatMemory(byteCount: 2 << 20))
          try expected.map("00:03.0", at: IOVA(0x1000), page, .read)
          try requireSameMappings(MachineInMemory(machine, in: memory), expected)
          // end
        } catch { tell(error) }
      }
    ])
}
