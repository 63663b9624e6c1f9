import IOMMUFormats
import IOMMUTranslation

extension Snippet {
  static let benchmark = Snippet(
    page: "docs/tutorials/benchmark.md", source: "BenchmarkTutorial",
    blocks: [
      { tell in
        // docs/tutorials/benchmark.md 1
        let memory = try FlatMemory(byteCount: 128 << 20)
        let tables = try VTd.Tables(in: memory)
        let buffer = PhysicalAddress(0)..<PhysicalAddress(64 << 20)
        try tables.map("00:04.0", at: IOVA(0x4000_0000), buffer, .readWrite)

        var state: UInt64 = 1
        let addresses = (0..<8_192).map { _ in
          state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          return IOVA(0x4000_0000 + (state >> 33) % (64 << 20))
        }

        let device = tables.machine.resolve(Requester("00:04.0")!, in: memory)
        let translator = Translator(device, in: memory)
        let failed = PackedTranslation(rawValue: .max)
        var alone = [PackedTranslation](repeating: failed, count: addresses.count)
        var batch = alone

        /// Prints what one of `count` lookups takes in `body`.
        func measure(_ name: String, _ count: Int, _ body: () -> Void) {
          body()  // Once to bring the tables into the processor's caches.
          let time = ContinuousClock().measure { for _ in 0..<20 { body() } }
          let each = (time / Double(20 * count)).components.attoseconds
          tell("\(name): \(Double(each / 10_000_000) / 100) ns")
        }
        measure("a call each", addresses.count) {
          for index in addresses.indices {
            alone[index] = translator.translate(addresses[index], .read)
          }
        }
        measure("a batch", addresses.count) {
          var answers = batch.mutableSpan
          translator.translate(addresses.span, .read, into: &answers)
        }
        tell("both agree: \(alone == batch), all mapped: \(alone.allSatisfy(\.isMapped))")
        // end
      }
    ])
}
