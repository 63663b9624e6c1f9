import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

// What a request costs through a VT-d unit, against the bare walk of the same tables: thread CPU
// time, contenders take turns, the median of same-round ratios.

func threadNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

let memory = try FlatMemory(byteCount: 1 << 30)
func store(_ value: UInt64, _ address: UInt64) {
  memory.store(value, at: PhysicalAddress(address))
}
// 00:04.0, domain 5, four levels: 64 MiB of IOVA in pages of 4 KiB.
store(0x10_1001, 0x10_0000)
store(0x11_1001, 0x10_1200)
store(0x0502, 0x10_1208)
store(0x11_2003, 0x11_1000)
store(0x11_3003, 0x11_2000)
for table in 0..<32 as Range<UInt64> {
  store(0x20_0003 + table << 12, 0x11_3000 + table * 8)
  for entry in 0..<512 as Range<UInt64> {
    store(0x1000_0003 + (table << 9 | entry) << 12, 0x20_0000 + table << 12 + entry * 8)
  }
}

func unit(_ caches: CacheConfiguration) throws -> TranslationPort {
  var configuration = RemappingUnitConfiguration.qemu
  configuration.caches = caches
  let unit = try RemappingUnit(configuration, memory: memory)
  unit.write(0x10_0000, at: 0x20, byteCount: 8)
  unit.write(0xc000_0000, at: 0x18, byteCount: 4)
  return unit.makePort()
}

let requester = Requester(rawValue: 0x20)
let status = VTd.GlobalStatus(translates: true)
let resolver = VTdResolver(
  VTdUnit(
    base: PhysicalAddress(0), rootTableAddress: VTd.RootTableAddress(rawValue: 0x10_0000),
    status: status,
    limits: VTd.Limits(
      capability: RemappingUnitConfiguration.qemu.capability,
      extendedCapability: RemappingUnitConfiguration.qemu.extendedCapability)))
var observer = Unobserved()
let handle = DeviceHandle(
  requester: requester,
  route: resolver.route(of: VTdRequest(requester, IOVA(0)), in: memory, observer: &observer))

@inline(never)
func walk(_ addresses: [UInt64]) -> UInt64 {
  var sum: UInt64 = 0
  for address in addresses {
    if case .mapped(let physical, _) = handle.translate(
      IOVA(address), byteCount: 1, access: .read, in: memory)
    {
      sum &+= physical.rawValue
    }
  }
  return sum
}

@inline(never)
func ask(_ port: TranslationPort, _ addresses: [UInt64]) -> UInt64 {
  var sum: UInt64 = 0
  for address in addresses {
    if case .mapped(let physical, _) = port.translate(VTdRequest(requester, IOVA(address))) {
      sum &+= physical.rawValue
    }
  }
  return sum
}

let withCaches = try unit(.hardware)
let without = try unit(.none)
let contenders: [(name: String, run: ([UInt64]) -> UInt64)] = [
  ("bare walk", walk), ("unit, caches as hardware", { ask(withCaches, $0) }),
  ("unit, no caches", { ask(without, $0) }),
]
let count = 1 << 16
let rounds = 21
var generator = SystemRandomNumberGenerator()
var sink: UInt64 = 0
print("ns per translation, and against the bare walk: medians of \(rounds) rounds of \(count)")
for (title, span) in [("hot page", 4096), ("256 KiB", 1 << 18), ("64 MiB", 1 << 26)]
  as [(String, UInt64)]
{
  var times = [[Double]](repeating: [], count: contenders.count)
  for _ in 0...rounds {
    let addresses = (0..<count).map { _ in UInt64.random(in: 0..<span, using: &generator) }
    for (index, contender) in contenders.enumerated() {
      sink &+= contender.run(addresses)
      let start = threadNanoseconds()
      sink &+= contender.run(addresses)
      times[index].append(Double(threadNanoseconds() - start) / Double(count))
    }
  }
  func median(_ values: [Double]) -> Double { values.dropFirst().sorted()[rounds / 2] }
  func tenths(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
  print(title)
  for (index, contender) in contenders.enumerated() {
    let ratio = median(zip(times[index], times[0]).map { $0 / $1 })
    print("  \(contender.name): \(tenths(median(times[index]))) ns, \(tenths(ratio)) times")
  }
}
let counters = withCaches.counters
print("IOTLB: \(counters.iotlb.hits) hits, \(counters.iotlb.misses) misses")
precondition(sink != 1, "the answers are used, so that the calls are made")
