import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// What holds between a driver's thread and devices' threads; to be run under ThreadSanitizer too.
@Suite struct TransactionTests {
  /// Runs each closure on a thread of its own and waits for all.
  static func concurrently(_ bodies: [@Sendable () -> Void]) {
    var threads: [pthread_t] = []
    for body in bodies {
      let box = Unmanaged.passRetained(Shared(body))
      var thread: pthread_t = 0
      pthread_create(
        &thread, nil,
        { argument in
          let body = Unmanaged<Shared<@Sendable () -> Void>>.fromOpaque(argument!)
            .takeRetainedValue().with { $0 }
          body()
          return nil
        }, box.toOpaque())
      threads.append(thread)
    }
    for thread in threads { pthread_join(thread, nil) }
  }

  /// The driver moves a page between two frames; after each wait it takes the old frame back and
  /// writes to it. No device's write may land in a frame that is the driver's.
  @Test(arguments: [
    CacheConfiguration.none, .hardware, .everything, PackedAnswerTests.withIOTLB(.unbounded),
  ])
  func `after a wait no device writes through the old entry`(caches: CacheConfiguration) throws {
    let bench = try Bench.scalable(caches)
    let (memory, unit) = (bench.memory, bench.unit)
    let isDone = Shared(false)
    let failures = Shared<[String]>([])
    let frames: [UInt64] = [0x60_0000, 0x61_0000]
    bench.store(frames[0] | 3, 0x11_4000 + 325 * 8)
    let bodies: [@Sendable () -> Void] = (0..<3).map { device in
      {
        let port = unit.makePort()
        let request = VTd.Request(
          Bench.nic, IOVA(0x1234_5000 + UInt64(device) * 8), .write,
          pasid: device == 1 ? PASID(5) : nil)
        let addresses = [IOVA](repeating: IOVA(request.address), count: 300)
        var answers = [PackedTranslation](repeating: .addressTooWide, count: 300)
        while !isDone.with({ $0 }) {
          port.transaction {
            // One device asks in batches.
            if device == 2 {
              var span = answers.mutableSpan
              port.translate(addresses.span, .write, of: Bench.nic, into: &span)
              for answer in answers {
                if let address = answer.physical {
                  memory.store(UInt64(0xd0), at: address)
                } else {
                  failures.with { $0.append("batch: the page is always mapped") }
                }
              }
              return
            }
            switch port.translate(request, byteCount: 8) {
            case .mapped(let address, _): memory.store(UInt64(0xd0), at: address)
            case .interruptMessage, .fault:
              failures.with { $0.append("\(device): the page is always mapped") }
            }
          }
        }
      }
    }
    // The bench itself belongs to the driver's thread.
    let driver = Shared(bench)
    let drive: @Sendable () -> Void = {
      driver.with { bench in
        for round in 0..<60 {
          let (old, new) = (frames[round % 2], frames[(round + 1) % 2])
          bench.store(new | 3, 0x11_4000 + 325 * 8)
          bench.queue([0x7_0022, 0], [UInt64(round + 1) << 32 | 0x65, 0x30_0000])
          if memory.doubleword(at: PhysicalAddress(0x30_0000)) != UInt32(round + 1) {
            failures.with { $0.append("round \(round): the wait has not completed") }
          }
          for device in 0..<3 as Range<UInt64> {
            memory.store(UInt64(0xab), at: PhysicalAddress(old + device * 8))
          }
          for _ in 0..<20 {
            for device in 0..<3 as Range<UInt64>
            where memory.quadword(at: PhysicalAddress(old + device * 8)) != 0xab {
              failures.with { $0.append("round \(round): device \(device) wrote") }
            }
            sched_yield()
          }
        }
      }
      isDone.with { $0 = true }
    }
    Self.concurrently(bodies + [drive])
    #expect(failures.with { $0 } == [])
  }

  @Test func `a port is handed to another thread, and is no longer here then`() async throws {
    let bench = try Bench.legacy(.none)
    let port = bench.unit.makePort()
    let answer = await Task.detached {
      port.translate(VTd.Request(Bench.nic, IOVA(Bench.iova)))
    }.value
    #expect(answer.address == 0x20_0678)
  }

  /// Entries change between two values while devices walk: each answer is one of the two.
  @Test func `an entry is never seen half written`() throws {
    let bench = try Bench.legacy(.none)
    let (unit, memory) = (bench.unit, bench.memory)
    let isDone = Shared(false)
    let failures = Shared<Set<UInt64>>([])
    let bodies: [@Sendable () -> Void] = (0..<2).map { _ in
      {
        let port = unit.makePort()
        while !isDone.with({ $0 }) {
          let address = port.translate(VTd.Request(Bench.nic, IOVA(Bench.iova))).address
          if address != 0x20_0678, address != 0x31f_f678 {
            failures.with { _ = $0.insert(address ?? ~0) }
          }
        }
      }
    }
    let drive: @Sendable () -> Void = {
      for round in 0..<3000 {
        memory.store(
          round % 2 == 0 ? UInt64(0x31f_f003) : 0x20_0003,
          at: PhysicalAddress(0x11_4000 + 325 * 8))
      }
      isDone.with { $0 = true }
    }
    Self.concurrently(bodies + [drive])
    #expect(failures.with { $0 } == [])
  }

  /// Faults of many threads fill the records of one unit, while software reads and clears them.
  @Test func `faults of many devices and a driver that clears them`() throws {
    var configuration = RemappingUnitConfiguration.qemu
    configuration.capability.rawValue |= 7 << 40
    configuration.compressesFaults = false
    let bench = try Bench(configuration)
    bench.start(rootTableAddress: 0x10_0000)
    bench.write(0, Offset.fectl)
    let (unit, messages) = (bench.unit, bench.messages)
    let left = Shared(3)
    let bodies: [@Sendable () -> Void] = (0..<3).map { device in
      {
        let port = unit.makePort()
        for page in 0..<200 as Range<UInt64> {
          _ = port.transaction {
            port.translate(
              VTd.Request(Requester(rawValue: UInt16(device)), IOVA(page << 12), .write))
          }
        }
        left.with { $0 -= 1 }
      }
    }
    let seen = Shared<[VTd.FaultRecord]>([])
    let drive: @Sendable () -> Void = {
      var isLast = false
      while !isLast {
        isLast = left.with { $0 == 0 }
        for index in 0..<8 as Range<UInt64> {
          let place = 0x220 + index * 16 + 12
          guard unit.read(place, byteCount: 4) >> 31 == 1 else { continue }
          let record = VTd.FaultRecord(
            low: unit.read(place - 12, byteCount: 8), high: unit.read(place - 4, byteCount: 8))
          unit.write(1 << 31, at: place, byteCount: 4)
          seen.with { $0.append(record) }
        }
        unit.write(1, at: Offset.fsts, byteCount: 4)
      }
    }
    Self.concurrently(bodies + [drive])
    // A record is whole and is of a fault that there was: a write without a root entry, from one of
    // three devices to one of 200 pages, and none twice. The first eight found room.
    let records = seen.with { $0 }
    for record in records {
      #expect(record.low & 0xfff == 0 && record.low >> 12 < 200, "\(record)")
      #expect(record.high & ~3 == 0x8000_0001_0000_0000 && record.high & 3 < 3, "\(record)")
    }
    #expect(Set(records).count == records.count)
    #expect(records.count >= 8)
    // An event for each time that FSTS_REG went from nothing to something, at least the first.
    let messageCount = messages.with { $0.count }
    #expect(1...records.count ~= messageCount)
    #expect(unit.read(Offset.fsts, byteCount: 4) & 2 == 0)
  }

  @Test func `a callback that calls its unit's registers stops the program`() async {
    await #expect(processExitsWith: .failure) {
      final class Caller: DeviceTLB {
        let unit: RemappingUnit
        init(_ unit: RemappingUnit) { self.unit = unit }
        func invalidate(
          _: VTd.DeviceTLBRange, of _: DeviceTLBTarget
        ) -> DeviceTLBInvalidationResult {
          _ = unit.read(0, byteCount: 4)
          return .completed
        }
        func receive(_: PageGroupResponse) {}
      }
      let bench = try Bench.scalable()
      bench.unit.attach(Caller(bench.unit), to: Requester("03:00.0")!)
      bench.queue([0x0300_0000_0003, 0])
    }
  }
}
