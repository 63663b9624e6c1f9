import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// Whatever lies in memory and whatever software writes, a unit answers.
@Suite struct RobustnessTests {
  static let configurations: [RemappingUnitConfiguration] = [.qemu, .unit2008, .currentServer]

  @Test(arguments: configurations, seeds)
  func `random register writes, random memory, random requests`(
    configuration: RemappingUnitConfiguration, seed: UInt64
  ) throws {
    var configuration = configuration
    configuration.caches = [.none, .hardware, .everything][Int(seed % 3)]
    let bench = try Bench(configuration)
    var generator = SeededGenerator(seed: seed)
    // Pointers that mostly stay in memory, so that walks get somewhere.
    func pointer() -> UInt64 {
      generator.next() & 0x3ff_f000 | generator.next()
        & (Bool.random(using: &generator) ? 7 : 0xfff)
    }
    for _ in 0..<400 {
      switch generator.next() % 6 {
      case 0:
        for _ in 0..<64 { bench.store(pointer(), generator.next() & 0x3ff_fff8) }
      case 1:
        let offset = generator.next() % (bench.unit.windowByteCount + 64)
        let width = [4, 8, 4, 8, 1, 2][Int(generator.next() % 6)]
        bench.write(generator.next(), offset & ~(generator.next() & 7), width)
      case 2:
        bench.write(pointer() & ~0xff | generator.next() & 0xc00, Offset.rtaddr, 8)
        bench.write(generator.next(), Offset.gcmd)
      case 3:
        bench.write(pointer() & ~0x7f8 | generator.next() & 0x807, Offset.iqa, 8)
        for _ in 0..<8 {
          bench.store(generator.next() & 0x0fff_ffff_ffff_e3ff, (generator.next() & 0x3ff_fff8))
        }
        bench.write(generator.next() & 0xffff, Offset.iqt, 8)
      default:
        let request = VTd.Request(
          Requester(rawValue: UInt16(truncatingIfNeeded: generator.next() & 0x1ff)),
          IOVA(generator.next() >> (generator.next() & 63)),
          VTd.Request.Operation.allCases[Int(generator.next() & 3)],
          pasid: generator.next() & 1 == 0
            ? nil : PASID(UInt32(truncatingIfNeeded: generator.next() >> (generator.next() & 63))),
          isPrivileged: generator.next() & 1 == 0, isExecute: generator.next() & 7 == 0)
        switch bench.port.translate(request, byteCount: generator.next() % 10_000 + 1) {
        case .mapped(_, let byteCount): #expect(1...10_000 ~= byteCount)
        case .interruptMessage, .fault: break
        }
        if generator.next() & 7 == 0 {
          _ = bench.port.submitPageRequest(
            PageRequest(request.requester, pasid: request.pasid, address: IOVA(request.address)))
        }
      }
    }
  }

  @Test(arguments: [3, 4, 5])
  func `tables that point to themselves end after their levels`(levels: Int) throws {
    var configuration = RemappingUnitConfiguration.currentServer
    configuration.caches = .everything
    let bench = try Bench(configuration)
    // Every table is the page at 10_0000, in legacy mode.
    for place in stride(from: UInt64(0x10_0000), to: 0x10_1000, by: 16) {
      bench.store(0x10_0001, place)
      bench.store(0, place + 8)
    }
    bench.store(0x10_0001, 0x10_0200)
    bench.store(UInt64(levels - 2), 0x10_0208)
    bench.start(rootTableAddress: 0x10_0000)
    let answer = bench.translate(0)
    #expect(answer.reason != nil || answer.address == 0x10_0000)
    #expect(bench.port.counters.entriesRead.total <= UInt64(levels) + 2)
  }

  @Test func `a queue that its own wait descriptors overwrite comes to an end`() throws {
    let bench = try Bench.legacy()
    bench.write(0x40_0000, Offset.iqa, 8)
    bench.command(26)
    // Each wait turns the type of the next descriptor into nothing.
    for index in 0..<256 as Range<UInt64> {
      bench.store(0x25, 0x40_0000 + index * 16)
      bench.store(0x40_0000 + (index + 1) % 256 * 16, 0x40_0008 + index * 16)
    }
    bench.write(0xff0, Offset.iqt, 8)
    #expect(bench.read(Offset.fsts) == 0x10 && bench.read(Offset.iqh, 8) == 0x10)
  }
}
