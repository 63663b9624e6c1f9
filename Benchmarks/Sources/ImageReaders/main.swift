import Glibc
import IOMMUFormats
import IOMMUImages

// image-readers DUMP...: what opening and reading each of them costs.

/// Resident bytes of this process that are no pages of files.
func anonymousByteCount() -> Int {
  guard let file = fopen("/proc/self/status", "r") else { return 0 }
  defer { fclose(file) }
  var line = [CChar](repeating: 0, count: 256)
  while fgets(&line, Int32(line.count), file) != nil {
    let text = String(
      decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    if text.hasPrefix("RssAnon:") {
      return 1024 * (Int(text.filter { "0"..."9" ~= $0 }) ?? 0)
    }
  }
  return 0
}

/// Seconds of this process on its processor, which other processes do not take away.
func seconds(_ body: () throws -> Void) rethrows -> Double {
  func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
  let start = now()
  try body()
  return now() - start
}

/// Three digits that count, and the unit: `46.1 million`.
func rate(_ count: Int, _ seconds: Double) -> String {
  let value = Double(count) / seconds
  return value >= 1e6
    ? "\((value / 1e5).rounded() / 10) million/s" : "\(Int(value / 100) * 100)/s"
}

func measure(_ path: String) throws {
  let before = anonymousByteCount()
  var image = try MemoryImage(path: path)
  let memory = anonymousByteCount() - before
  let opening = try (0..<5).map { _ in try seconds { image = try MemoryImage(path: path) } }.min()!
  let pages = image.backedRanges.flatMap { range in
    // At most a gigabyte of each range: enough to time, and not all of a vast dump.
    stride(
      from: range.lowerBound.rawValue,
      to: range.lowerBound.rawValue + min(range.byteCount, 1 << 30),
      by: 4096)
  }
  var buffer = [UInt8](repeating: 0, count: 4096)
  var sum: UInt64 = 0
  let whole = seconds {
    for page in pages {
      let count = buffer.withUnsafeMutableBytes {
        image.read(at: PhysicalAddress(page), into: $0)
      }
      sum &+= UInt64(count)
    }
  }
  // Numbers that jump about and come again in every run.
  var state: UInt64 = 1
  func next(_ count: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int(truncatingIfNeeded: state >> 33) % count
  }
  let far = (0..<200_000).map { _ in pages[next(pages.count)] }
  let missing = seconds {
    for page in far { sum &+= image.quadword(at: PhysicalAddress(page)) ?? 0 }
  }
  let near = (0..<2_000_000).map { _ in pages[next(min(512, pages.count))] + 8 * UInt64(next(512)) }
  for place in near { sum &+= image.quadword(at: PhysicalAddress(place)) ?? 0 }
  let hitting = seconds {
    for place in near { sum &+= image.quadword(at: PhysicalAddress(place)) ?? 0 }
  }
  let open = Double(Int(opening * 1e6)) / 1e3
  print(
    "\(path)\n  open \(open) ms, \(memory >> 10) KiB; \(pages.count) pages; "
      + "in a row \(rate(pages.count, whole)), at random \(rate(far.count, missing)), "
      + "words of 512 pages \(rate(near.count, hitting))")
  if let problem = image.problem { print("  \(problem)") }
  if sum == 0 { print("  all zero") }
}

for path in CommandLine.arguments.dropFirst() { try measure(path) }
