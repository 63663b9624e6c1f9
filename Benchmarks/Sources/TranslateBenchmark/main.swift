import Glibc
import IOMMUFormats
import IOMMUTranslation

// Nanoseconds of thread CPU time per translation, one call each, addresses independent of answers.
// Contenders take turns; the median of the rounds is printed. Machines are noisy: compare columns of
// one run, not runs.

/// A generator that is cheap enough not to be measured.
struct Xorshift: RandomNumberGenerator {
  var state: UInt64 = 0x9e37_79b9_7f4a_7c15
  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }
}

func threadNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Translates every address once.
@inline(never)
func translateAll(_ handle: DeviceHandle, _ addresses: [UInt64], _ memory: FlatMemory) -> UInt64 {
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

struct Contender {
  var name: String
  var handle: DeviceHandle
  /// Bytes of IOVA that are mapped, from `base`.
  var span: UInt64
  var base: UInt64
}

let requester = Requester(bus: 0, device: 3, function: 0)
let memory = try FlatMemory(byteCount: 4 << 30)
var contenders: [Contender] = []

// Calgary: 8 MiB of TCEs, identity over 1 MiB..<4 GiB.
let tces = PhysicalAddress(0x1000_0000)
for page in UInt64(0x100)..<0x10_0000 {
  Calgary.TranslationControlEntry(page: PhysicalAddress(page << 12), permissions: .readWrite)
    .store(to: memory, at: PhysicalAddress(tces.rawValue + page * 8))
}
let holes = TCETable.Holes(legacy: 0xa0000..<0x100000, memory1: 0..<0, memory2: 0..<0)
contenders.append(
  Contender(
    name: "TCE, 4 KiB",
    handle: DeviceHandle(
      requester: requester,
      route: .calgary(
        TCETable(table: tces, size: .mib8, refusesDualAddressCycles: true, holes: holes))),
    span: 2 << 30, base: 1 << 30))

// GART: the largest aperture, 2 GiB.
let gatt = PhysicalAddress(0x2000_0000)
for page in UInt64(0)..<0x8_0000 {
  GART.GATTEntry(page: PhysicalAddress(page << 12))
    .store(to: memory, at: PhysicalAddress(gatt.rawValue + page * 4))
}
contenders.append(
  Contender(
    name: "GATT, 4 KiB",
    handle: DeviceHandle(
      requester: requester,
      route: .gart(GARTWindow(base: 0x4000_0000, byteCount: 2 << 30, table: gatt))),
    span: 2 << 30, base: 0x4000_0000))

// VT-d, four levels: 2 GiB of 4 KiB, of 2 MiB and of 1 GiB pages.
for (level, name) in [(1, "VT-d, 4 KiB"), (2, "VT-d, 2 MiB"), (3, "VT-d, 1 GiB")] {
  let start = 0x3000_0000 + UInt64(level - 1) << 27
  var next = start
  func page() -> PhysicalAddress {
    next += 4096
    return PhysicalAddress(next - 4096)
  }
  let root = page()
  let upper = page()
  VTd.SecondStageEntry(table: upper).store(to: memory, at: root)
  for gigabyte in UInt64(0)..<2 {
    let place = PhysicalAddress(upper.rawValue + gigabyte * 8)
    guard level < 3 else {
      VTd.SecondStageEntry(
        page: PhysicalAddress(gigabyte << 30), level: 3, permissions: .readWrite
      ).store(to: memory, at: place)
      continue
    }
    let middle = page()
    VTd.SecondStageEntry(table: middle).store(to: memory, at: place)
    for region in UInt64(0)..<512 {
      let place = PhysicalAddress(middle.rawValue + region * 8)
      let address = gigabyte << 30 | region << 21
      guard level < 2 else {
        VTd.SecondStageEntry(page: PhysicalAddress(address), level: 2, permissions: .readWrite)
          .store(to: memory, at: place)
        continue
      }
      let leaves = page()
      VTd.SecondStageEntry(table: leaves).store(to: memory, at: place)
      for index in UInt64(0)..<512 {
        VTd.SecondStageEntry(
          page: PhysicalAddress(address | index << 12), level: 1, permissions: .readWrite
        ).store(to: memory, at: PhysicalAddress(leaves.rawValue + index * 8))
      }
    }
  }
  contenders.append(
    Contender(
      name: name,
      handle: DeviceHandle(
        requester: requester,
        route: .secondStage(
          SecondStageTable(
            root: root, format: SecondStageFormat(levels: 4, limits: .permissive),
            addressWidth: 48, isReported: true))),
      span: 2 << 30, base: 0))
}

let count = 1 << 18
let rounds = 15
print("ns per translation, median of \(rounds) rounds of \(count) (thread CPU time)")
print("table          hot page   random 2 GiB")
var generator = Xorshift()
var times: [[[UInt64]]] = contenders.map { _ in [[], []] }
var sink: UInt64 = 0
for _ in 0...rounds {
  for (number, contender) in contenders.enumerated() {
    for (kind, span) in [UInt64(4096), contender.span].enumerated() {
      let addresses = (0..<count).map { _ in
        contender.base + UInt64.random(in: 0..<span, using: &generator)
      }
      sink &+= translateAll(contender.handle, addresses, memory)
      let start = threadNanoseconds()
      sink &+= translateAll(contender.handle, addresses, memory)
      times[number][kind].append(threadNanoseconds() - start)
    }
  }
}
func tenths(_ samples: [UInt64]) -> String {
  // The first round warms up.
  let median = samples.dropFirst().sorted()[rounds / 2]
  let value = median * 10 / UInt64(count)
  return "\(value / 10).\(value % 10)"
}
for (number, contender) in contenders.enumerated() {
  let name = contender.name + String(repeating: " ", count: 14 - contender.name.count)
  let hot = tenths(times[number][0])
  let random = tenths(times[number][1])
  print(
    name + String(repeating: " ", count: 9 - hot.count) + hot
      + String(repeating: " ", count: 15 - random.count) + random)
}
precondition(sink != 1, "the answers are used, so that the calls are made")
