import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct DeviceHandleTests {
  static let plain = Machine(name: "nommu", units: [])

  @Test func `a machine without units translates nothing`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    #expect(
      Self.plain.translate(device, IOVA(0x1234_5678), byteCount: 9000, access: .write, in: memory)
        == .to(0x1234_5678, 9000))
  }

  @Test func `a device reaches its mask and no further`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    let handle = Self.plain.resolve(device, dmaMask: 0xffff_ffff, in: memory)
    func translate(_ iova: UInt64, _ byteCount: UInt64) -> Translation {
      handle.translate(IOVA(iova), byteCount: byteCount, access: .read, in: memory)
    }
    #expect(translate(0xffff_ffff, 1) == .to(0xffff_ffff, 1))
    #expect(translate(0x1_0000_0000, 1) == .fault(.beyondDeviceMask))
    #expect(translate(.max, 1) == .fault(.beyondDeviceMask))
    #expect(translate(0xffff_fff0, 0x10) == .to(0xffff_fff0, 0x10))
    #expect(translate(0xffff_fff0, 0x11) == .to(0xffff_fff0, 0x10))
    #expect(translate(0, .max) == .to(0, 0x1_0000_0000))
    #expect(Fault.beyondDeviceMask.isRecorded == false)
    #expect(Fault.beyondDeviceMask.number == nil)
  }

  @Test func `no request runs past the last address`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    let handle = Self.plain.resolve(device, in: memory)
    func translate(_ iova: UInt64, _ byteCount: UInt64) -> Translation {
      handle.translate(IOVA(iova), byteCount: byteCount, access: .read, in: memory)
    }
    #expect(translate(.max, 1) == .to(.max, 1))
    #expect(translate(.max, 2) == .to(.max, 1))
    #expect(translate(.max, .max) == .to(.max, 1))
    #expect(translate(0, .max) == .to(0, .max))
    #expect(translate(1, .max) == .to(1, .max))
    #expect(translate(2, .max) == .to(2, .max - 1))
  }

  @Test func `a device of 24 bits is stopped before its table is`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    builder.set(0x4000_0083, for: 0, level: 3)
    let handle = vtdMachine(.unit()).resolve(device, dmaMask: 0xff_ffff, in: memory)
    #expect(
      handle.translate(IOVA(0xff_fff0), byteCount: 64, access: .read, in: memory)
        == .to(0x40ff_fff0, 16))
    #expect(
      handle.translate(IOVA(0x100_0000), byteCount: 64, access: .read, in: memory)
        == .fault(.beyondDeviceMask))
  }

  @Test(arguments: seeds)
  func `a request never leaves its page`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    for page: UInt64 in 0..<512 { builder.set(page << 13 | 3, for: page << 12, level: 1) }
    let handle = vtdMachine(.unit()).resolve(device, in: memory)
    for _ in 0..<1000 {
      let iova = generator.next() % 0x20_0000
      let byteCount = 1 + generator.next() % 0x4000
      let answer = handle.translate(
        IOVA(iova), byteCount: byteCount, access: .write, in: memory)
      #expect(
        answer == .to((iova >> 12) << 13 | iova & 0xfff, min(byteCount, 4096 - iova & 0xfff)))
    }
  }

  @Test func `a handle keeps the context entry and reads the page tables anew`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    builder.set(0x20_0003, for: 0, level: 1)
    let handle = vtdMachine(.unit()).resolve(device, in: memory)
    memory.store(0, at: 0x10_1200)
    #expect(handle.translate(IOVA(0), byteCount: 1, access: .read, in: memory) == .to(0x20_0000))
    builder.set(0x30_0003, for: 0, level: 1)
    #expect(handle.translate(IOVA(0), byteCount: 1, access: .read, in: memory) == .to(0x30_0000))
    #expect(
      vtdMachine(.unit()).translate(device, IOVA(0), access: .read, in: memory).reason == 0x02)
  }

  @Test func `a request of no bytes stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let memory = try FlatMemory(byteCount: 4096)
      _ = Machine(name: "nommu", units: [])
        .translate(
          Requester(rawValue: 0), IOVA(0), byteCount: 0, access: .read, in: memory)
    }
  }
}
