import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@Suite struct RegionCacheTests {
  /// Four levels: root 0x1000, 0x2000, 0x3000; leaf tables from 0x4000 on, one for each 2 MiB.
  static func machine() throws -> (memory: FlatMemory, translator: Translator<FlatMemory>) {
    let memory = try FlatMemory(byteCount: 1 << 20)
    Self.store(0x2003, at: 0x1000, in: memory)
    Self.store(0x3003, at: 0x2000, in: memory)
    for region in UInt64(0)..<16 {
      Self.store(0x4003 + region << 12, at: 0x3000 + region * 8, in: memory)
      for page in UInt64(0)..<512 {
        Self.store(
          1 << 32 | region << 21 | page << 12 | 3, at: 0x4000 + region << 12 + page * 8, in: memory)
      }
    }
    let handle = DeviceHandle(
      requester: Requester(rawValue: 0x18),
      route: .table(
        .secondStage(
          VTd.SecondStageTable(
            root: PhysicalAddress(0x1000),
            format: VTd.SecondStageFormat(levels: 4, limits: .permissive), addressWidth: 48,
            isReported: true))))
    return (memory, Translator(handle, in: memory))
  }

  static func store(_ entry: UInt64, at place: UInt64, in memory: FlatMemory) {
    memory.store(entry, at: PhysicalAddress(place))
  }

  static func translate(
    _ translator: Translator<FlatMemory>, _ addresses: [UInt64], _ access: Access = .read,
    through cache: RegionCache
  ) -> [PackedTranslation] {
    let iovas = addresses.map { IOVA($0) }
    var answers = [PackedTranslation](repeating: PackedTranslation(rawValue: 9), count: iovas.count)
    var span = answers.mutableSpan
    translator.translate(iovas.span, access, into: &span, through: cache)
    return answers
  }

  @Test func `a region stays known until it is invalidated`() throws {
    let (memory, translator) = try Self.machine()
    let cache = RegionCache()
    let addresses: [UInt64] = [0x1000, 0x20_1000, 0x40_1000]
    let old = Self.translate(translator, addresses, through: cache)
    #expect(old.map(\.rawValue) == addresses.map { 1 << 32 | $0 })
    // The first two regions change their tables: each takes the third's.
    Self.store(0x6003, at: 0x3000, in: memory)
    Self.store(0x6003, at: 0x3008, in: memory)
    #expect(Self.translate(translator, addresses, through: cache) == old)
    cache.invalidate(IOVA(0x10_0000)..<IOVA(0x10_1000))
    #expect(
      Self.translate(translator, addresses, through: cache).map(\.rawValue) == [
        0x1_0040_1000, 0x1_0020_1000, 0x1_0040_1000,
      ])
    cache.flush()
    #expect(
      Self.translate(translator, addresses, through: cache).map(\.rawValue) == [
        0x1_0040_1000, 0x1_0040_1000, 0x1_0040_1000,
      ])
  }

  @Test func `leaves are read anew by every batch`() throws {
    let (memory, translator) = try Self.machine()
    let cache = RegionCache()
    _ = Self.translate(translator, [0x1000], through: cache)
    Self.store(0x7777_7003, at: 0x4008, in: memory)
    #expect(
      Self.translate(translator, [0x1123], through: cache).map(\.rawValue) == [0x7777_7123])
    Self.store(0, at: 0x4008, in: memory)
    #expect(
      Self.translate(translator, [0x1123], through: cache).map(\.translation) == [
        .fault(.vtd(.readNotPermitted, isRecorded: true))
      ])
  }

  @Test func `twenty flushes forget twenty times`() throws {
    let (memory, translator) = try Self.machine()
    let cache = RegionCache()
    for number in UInt64(0)..<20 {
      let table = 0x4000 + (number % 16) << 12
      Self.store(table | 3, at: 0x3000, in: memory)
      cache.flush()
      #expect(
        Self.translate(translator, [0x5000], through: cache).map(\.rawValue) == [
          1 << 32 | (number % 16) << 21 | 0x5000
        ])
    }
  }

  @Test func `what reads may do says nothing about writes`() throws {
    let (memory, translator) = try Self.machine()
    Self.store(0x4001, at: 0x3000, in: memory)
    let cache = RegionCache()
    #expect(Self.translate(translator, [0x1000], .read, through: cache).map(\.isMapped) == [true])
    #expect(
      Self.translate(translator, [0x1000], .write, through: cache).map(\.translation) == [
        .fault(.vtd(.writeNotPermitted, isRecorded: true))
      ])
  }

  @Test func `another table does not see the regions of the first`() throws {
    let (memory, translator) = try Self.machine()
    let cache = RegionCache()
    _ = Self.translate(translator, [0x1000], through: cache)
    // The other table starts at 0x2000 with three levels: its first GiB is at 0x3000.
    Self.store(0x5003, at: 0x3000, in: memory)
    let other = Translator(
      DeviceHandle(
        requester: Requester(rawValue: 0x18),
        route: .table(
          .secondStage(
            VTd.SecondStageTable(
              root: PhysicalAddress(0x2000),
              format: VTd.SecondStageFormat(levels: 3, limits: .permissive), addressWidth: 39,
              isReported: true)))), in: memory)
    #expect(
      Self.translate(other, [0x1000], through: cache).map(\.rawValue) == [0x1_0020_1000])
  }

  @Test func `a smaller memory with a table at the same root is not read beyond its end`() throws {
    let (_, translator) = try Self.machine()
    let cache = RegionCache()
    // The leaf table of the last region lies at 0x13000.
    #expect(
      Self.translate(translator, [0x1e0_1000], through: cache).map(\.rawValue) == [0x1_01e0_1000])
    let small = try FlatMemory(byteCount: 0x8000)
    Self.store(0x2003, at: 0x1000, in: small)
    Self.store(0x3003, at: 0x2000, in: small)
    Self.store(0x4003, at: 0x3078, in: small)
    Self.store(0x7003, at: 0x4008, in: small)
    let other = Translator(translator.handle, in: small)
    #expect(Self.translate(other, [0x1e0_1000], through: cache).map(\.rawValue) == [0x7000])
  }

  @Test func `threads share a cache that another one flushes`() throws {
    let (_, translator) = try Self.machine()
    let cache = RegionCache()
    // 512 pages, one after the other in another of 16 regions.
    let addresses = (0..<512 as Range<UInt64>).map { $0 % 16 << 21 | $0 << 12 }
    let (wrong, left) = (Shared(0), Shared(2))
    let read: @Sendable () -> Void = {
      for _ in 0..<200 {
        let answers = Self.translate(translator, addresses, through: cache)
        if answers.map(\.rawValue) != addresses.map({ 1 << 32 | $0 }) { wrong.with { $0 += 1 } }
      }
      left.with { $0 -= 1 }
    }
    let flush: @Sendable () -> Void = {
      while left.with({ $0 > 0 }) {
        cache.flush()
        cache.invalidate(IOVA(0)..<IOVA(0x200_0000))
      }
    }
    TransactionTests.concurrently([read, read, flush])
    #expect(wrong.with { $0 } == 0)
  }

  @Test func `the ends of the address space are no region`() throws {
    let (_, translator) = try Self.machine()
    let cache = RegionCache()
    let addresses: [UInt64] = [0x1000, 1 << 48 | 0x1000, 1 << 61 | 0x1000, .max, 0xfee0_1000]
    for _ in 0..<3 {
      let answers = Self.translate(translator, addresses, through: cache)
      #expect(answers == addresses.map { translator.translate(IOVA($0), .read) })
      cache.invalidate(IOVA(0)..<IOVA(.max))
    }
  }
}
