import Glibc
import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct ThreadTests {
  /// What each of several threads does; the last one to end wakes the test.
  final class Work: @unchecked Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  /// Runs every closure on a thread of its own and waits for all of them.
  static func onThreads(_ bodies: [@Sendable () -> Void]) {
    var threads: [pthread_t] = []
    for body in bodies {
      var thread = pthread_t()
      let work = Unmanaged.passRetained(Work(body))
      let code = pthread_create(
        &thread, nil,
        { argument in
          Unmanaged<Work>.fromOpaque(argument!).takeRetainedValue().run()
          return nil
        }, work.toOpaque())
      precondition(code == 0, "a thread starts")
      threads.append(thread)
    }
    for thread in threads { pthread_join(thread, nil) }
  }

  /// Counts outcomes of one thread; read after the thread has ended.
  final class Counts: @unchecked Sendable {
    var old = 0
    var new = 0
    var faults = 0
    var others = 0
  }

  @Test func `walks beside a thread that maps and unmaps see old, new or nothing`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    var builder = TableBuilder(in: memory, root: 0x1000, levels: 3)
    // Two leaf tables for one region; the other thread hangs up one, the other, or none.
    builder.set(0x1_0000_0003, for: 0x5000, level: 1)
    builder.set(0x2_0000_0003, for: 0x20_5000, level: 1)
    let directory = memory.quadword(at: PhysicalAddress(0x1000))! & ~0xfff
    let tables = [0, 8].map { memory.quadword(at: PhysicalAddress(directory + $0))! } + [0]
    let translator = Translator(TranslatorTests.threeLevels(), in: memory)
    let counts = (0..<2).map { _ in Counts() }
    let rounds = 20_000
    var bodies: [@Sendable () -> Void] = counts.map { count in
      {
        let addresses = [IOVA](repeating: IOVA(0x5678), count: 16)
        var answers = [PackedTranslation](repeating: PackedTranslation(rawValue: 0), count: 16)
        for round in 0..<rounds {
          if round % 2 == 0 {
            answers[0] = translator.translate(IOVA(0x5678), .read)
          } else {
            var span = answers.mutableSpan
            translator.translate(addresses.span, .read, into: &span)
          }
          for answer in answers.prefix(round % 2 == 0 ? 1 : 16) {
            let translation = answer.translation
            if translation == .to(0x1_0000_0678) {
              count.old += 1
            } else if translation == .to(0x2_0000_0678) {
              count.new += 1
            } else if translation == .fault(.vtd(.readNotPermitted, isRecorded: true)) {
              count.faults += 1
            } else {
              count.others += 1
            }
          }
        }
      }
    }
    bodies.append {
      for round in 0..<rounds { memory.store(tables[round % 3], at: PhysicalAddress(directory)) }
    }
    Self.onThreads(bodies)
    #expect(counts.allSatisfy { $0.others == 0 })
    #expect(counts.allSatisfy { $0.old + $0.new + $0.faults == rounds / 2 * 17 })
  }
}
