import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// A value that threads share.
final class Shared<Value>: @unchecked Sendable {
  private var value: Value
  private var mutex = pthread_mutex_t()
  init(_ value: Value) {
    self.value = value
    pthread_mutex_init(&mutex, nil)
  }
  func with<Result>(_ body: (inout Value) -> Result) -> Result {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    return body(&value)
  }
}

/// Register offsets as the manual numbers them.
enum Offset {
  static let ver: UInt64 = 0x00
  static let cap: UInt64 = 0x08
  static let gcmd: UInt64 = 0x18
  static let gsts: UInt64 = 0x1c
  static let rtaddr: UInt64 = 0x20
  static let ccmd: UInt64 = 0x28
  static let fsts: UInt64 = 0x34
  static let fectl: UInt64 = 0x38
  static let pmen: UInt64 = 0x64
  static let iqh: UInt64 = 0x80
  static let iqt: UInt64 = 0x88
  static let iqa: UInt64 = 0x90
  static let ics: UInt64 = 0x9c
  static let iectl: UInt64 = 0xa0
  static let iqercd: UInt64 = 0xb0
  static let irta: UInt64 = 0xb8
  static let pqh: UInt64 = 0xc0
  static let pqt: UInt64 = 0xc8
  static let pqa: UInt64 = 0xd0
  static let prs: UInt64 = 0xdc
  static let pectl: UInt64 = 0xe0
}

/// A unit, 64 MiB of memory and a port, programmed by plain register writes.
///
/// Tables lie as in the manual's example: root 10_0000, contexts 10_1000, L4 11_1000, L3 11_2000,
/// L2 11_3000, L1 11_4000, page 20_0000; PASID directory 12_0000, PASID table 12_1000, first-stage
/// tables 13_1000 to 13_4000; queue 40_0000, page requests 50_0000, status words 30_0000.
final class Bench {
  let memory: FlatMemory
  let unit: RemappingUnit
  let port: TranslationPort
  let messages: Shared<[InterruptMessage]>
  var queueIndex: UInt64 = 0
  var isWide = false

  static let nic = Requester(rawValue: 0x20)
  /// 1234_5678: indices 0, 0, 145, 325.
  static let iova: UInt64 = 0x1234_5678

  init(_ configuration: RemappingUnitConfiguration) throws {
    memory = try FlatMemory(byteCount: 64 << 20)
    let messages = Shared<[InterruptMessage]>([])
    self.messages = messages
    unit = try RemappingUnit(configuration, memory: memory) { message in
      messages.with { $0.append(message) }
    }
    port = unit.makePort()
  }

  /// QEMU's unit, one record, legacy tables, with these caches.
  static func legacy(_ caches: CacheConfiguration = .none) throws -> Bench {
    var configuration = RemappingUnitConfiguration.qemu
    configuration.caches = caches
    let bench = try Bench(configuration)
    bench.storeLegacyTables()
    bench.start(rootTableAddress: 0x10_0000)
    return bench
  }

  /// Today's server unit with scalable-mode tables and a queue.
  static func scalable(_ caches: CacheConfiguration = .none, pgtt: UInt64 = 2) throws -> Bench {
    var configuration = RemappingUnitConfiguration.currentServer
    configuration.caches = caches
    let bench = try Bench(configuration)
    bench.storeScalableTables(pgtt: pgtt)
    bench.start(rootTableAddress: 0x10_0400, queue: 0x40_0800)
    return bench
  }

  // MARK: Registers

  func read(_ offset: UInt64, _ width: Int = 4) -> UInt64 { unit.read(offset, byteCount: width) }
  func write(_ value: UInt64, _ offset: UInt64, _ width: Int = 4) {
    unit.write(value, at: offset, byteCount: width)
  }

  /// Sets a bit of GCMD_REG as drivers do, or clears it.
  func command(_ bit: Int, _ isOn: Bool = true) {
    let kept = read(Offset.gsts) & 0x96ff_ffff
    write(isOn ? kept | 1 << UInt64(bit) : kept & ~(1 << UInt64(bit)), Offset.gcmd)
  }

  func start(rootTableAddress: UInt64, queue: UInt64? = nil) {
    write(rootTableAddress, Offset.rtaddr, 8)
    command(30)
    if let queue {
      write(queue, Offset.iqa, 8)
      isWide = queue & 0x800 != 0
      command(26)
    }
    command(31)
  }

  /// Puts descriptors in the queue and tells the unit.
  func queue(_ descriptors: [UInt64]...) {
    for descriptor in descriptors {
      let width: UInt64 = isWide ? 32 : 16
      for word in 0..<(width / 8) {
        let value = word < descriptor.count ? descriptor[Int(word)] : 0
        memory.store(
          value, at: PhysicalAddress(0x40_0000 + queueIndex * width + word * 8))
      }
      queueIndex = (queueIndex + 1) % (4096 / width)
    }
    write(queueIndex * (isWide ? 32 : 16), Offset.iqt, 8)
  }

  /// Record 0 as its two quadwords.
  var record: (UInt64, UInt64) {
    let place = unit.read(Offset.cap, byteCount: 8) >> 24 & 0x3ff
    return (read(place * 16, 8), read(place * 16 + 8, 8))
  }

  func clearFaults() {
    let place = (read(Offset.cap, 8) >> 24 & 0x3ff) * 16
    for index in 0...(read(Offset.cap, 8) >> 40 & 0xff) {
      write(1 << 31, place + index * 16 + 12)
    }
    write(0x73, Offset.fsts)
  }

  // MARK: Tables

  func store(_ value: UInt64, _ address: UInt64) {
    memory.store(value, at: PhysicalAddress(address))
  }

  func storeLegacyTables() {
    store(0x10_1001, 0x10_0000)
    store(0x11_1001, 0x10_1200)
    store(0x0502, 0x10_1208)
    storeSecondStage()
  }

  func storeSecondStage() {
    store(0x11_2003, 0x11_1000)
    store(0x11_3003, 0x11_2000)
    store(0x11_4003, 0x11_3000 + 145 * 8)
    store(0x20_0003, 0x11_4000 + 325 * 8)
  }

  /// PGTT 1 first stage, 2 second stage, 3 nested, 4 pass-through; PASIDs 0 and 5, domain 7.
  func storeScalableTables(pgtt: UInt64) {
    store(0x10_1001, 0x10_0000)
    // DTE, PASIDE, PRE; RID_PASID 0.
    store(0x12_001d, 0x10_1400)
    store(0x12_1001, 0x12_0000)
    for pasid: UInt64 in [0, 5] {
      let entry = 0x12_1000 + pasid * 64
      store(0x11_1009 | pgtt << 6, entry)
      // DID 7, PWSNP.
      store(0x80_0007, entry + 8)
      store(0x13_1000, entry + 16)
    }
    storeSecondStage()
    store(0x13_2007, 0x13_1000)
    store(0x13_3007, 0x13_2000)
    store(0x13_4007, 0x13_3000 + 145 * 8)
    store(0x20_0007, 0x13_4000 + 325 * 8)
    if pgtt == 3 {
      // The second stage maps the guest's first GiB to itself, with one page of 1 GiB.
      store(0x83, 0x11_2000)
    }
  }

  // MARK: Requests

  func translate(
    _ iova: UInt64 = Bench.iova, _ operation: VTd.Request.Operation = .read,
    from requester: Requester = Bench.nic, pasid: UInt32? = nil
  ) -> Translation {
    port.translate(
      VTd.Request(requester, IOVA(iova), operation, pasid: pasid.map { PASID($0) }))
  }
}

extension Translation {
  /// The VT-d fault number, when this is one.
  var reason: UInt8? {
    if case .fault(let fault) = self { fault.number } else { nil }
  }

  /// Where it goes, when it does.
  var address: UInt64? {
    if case .mapped(let address, _) = self { address.rawValue } else { nil }
  }
}
