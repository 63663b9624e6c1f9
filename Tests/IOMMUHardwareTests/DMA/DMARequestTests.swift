import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUHardware

@Suite struct DMARequestTests {
  private static let disk = Requester("01:01.0")!

  /// What each piece of a request was: address, offset, length.
  private func pieces(
    _ address: UInt64, _ byteCount: UInt64, _ answer: @escaping (DMARequest) -> Translation
  ) -> [[UInt64]] {
    var pieces: [[UInt64]] = []
    DMARequest(.write, by: Self.disk, at: IOVA(address), byteCount: byteCount)
      .forEachPiece(answeredBy: answer) {
        pieces.append([$0.address.rawValue, $0.offset, $0.byteCount])
      }
    return pieces
  }

  @Test func `what faults or is a message ends with its page`() {
    for answer in [Translation.fault(.beyondDeviceMask), .interruptMessage] {
      #expect(
        pieces(0x1ffe, 4100) { _ in answer }
          == [[0x1ffe, 0, 2], [0x2000, 2, 4096], [0x3000, 4098, 2]])
    }
  }

  @Test func `a mapped piece is as long as its unit says, and the rest is asked for anew`() {
    #expect(
      pieces(0x1000, 10_000) {
        .mapped(PhysicalAddress($0.address.rawValue), byteCount: min($0.byteCount, 6000))
      } == [[0x1000, 0, 6000], [0x2770, 6000, 4000]])
  }

  @Test func `a request ends at the last address of all`() {
    #expect(
      pieces(.max - 4097, 10_000) { _ in .fault(.beyondDeviceMask) }
        == [[.max - 4097, 0, 2], [.max - 4095, 2, 4096]])
    #expect(
      pieces(0, .max) { .mapped(PhysicalAddress(0), byteCount: $0.byteCount) }
        == [[0, 0, .max]])
    let last = DMAPiece(
      address: IOVA(.max - 15), offset: 0, byteCount: 16, answer: .interruptMessage)
    #expect(last.iovas == IOVA(.max - 15)..<IOVA(.max))
  }

  /// A page of RAM at 0x45000 behind page 0x20, nothing behind 0x21.
  @Test func `a chip answers its own buses and leaves others alone`() throws {
    let machine = try SmallMachine()
    machine.store(0x4_5003, page: 0x20)
    let port: any DMAPort = machine.unit
    func ask(_ requester: Requester) -> Translation? {
      port.translate(
        DMARequest(.read, by: requester, at: IOVA(0x2_0ffc), byteCount: 16), in: machine.memory)
    }
    #expect(ask(SmallMachine.device) == .mapped(PhysicalAddress(0x4_5ffc), byteCount: 4))
    #expect(ask(Requester("09:00.0")!) == nil)
  }

  @Test func `a remapping unit's port answers for every requester, and records its faults`() throws
  {
    let bench = try Bench.legacy()
    let port: any DMAPort = bench.port
    func ask(_ requester: Requester, _ iova: UInt64, _ access: Access = .read) -> Translation? {
      port.translate(
        DMARequest(access, by: requester, at: IOVA(iova), byteCount: 0x2000), in: bench.memory)
    }
    #expect(ask(Bench.nic, 0x1234_5678) == .mapped(PhysicalAddress(0x20_0678), byteCount: 0x988))
    #expect(ask(Requester("09:00.0")!, 0x1234_5678)?.reason == 1)
    #expect(bench.record.1 >> 63 == 1)
  }

  @Test func `the PASID of a request is the port's`() throws {
    let bench = try Bench.scalable(pgtt: 1)
    func ask(_ pasid: PASID?) -> Translation? {
      bench.port.translate(
        DMARequest(.read, by: Bench.nic, pasid: pasid, at: IOVA(0x1234_5678)), in: bench.memory)
    }
    #expect(ask(PASID(5)) == .mapped(PhysicalAddress(0x20_0678), byteCount: 1))
    // No entry in the PASID table.
    #expect(ask(PASID(6))?.reason == 0x59)
  }

  @Test func `a port asked with another machine's memory stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let bench = try Bench.legacy()
      _ = bench.port.translate(
        DMARequest(.read, by: Bench.nic, at: IOVA(0)), in: try FlatMemory(byteCount: 4096))
    }
  }
}
