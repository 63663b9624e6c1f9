import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUWorkloads

extension Subject {
  /// Opening dumps and reading them.
  ///
  /// - Parameter paths: Dumps that take part beside those that the benchmark makes.
  public static func dumps(_ paths: [String] = []) -> Subject {
    Subject(
      "Dumps", "dumps of 32 MiB in each format, opened and read, against flat memory; searched"
    ) {
      let made = try TemporaryImages()
      let images = try (made.images + paths.map { ($0, $0) }).map { try Image($0, $1) }
      for image in images.prefix(made.images.count) { try image.check(made.memory) }
      let sink = Sink()
      let memory = Pages("memory", made.memory, sink)
      let dumps = images.map { DumpPeers.Dump(name: $0.name, path: $0.path, image: $0.image) }
      return try [opening(images, sink)]
        + reading([memory] + images.map { Pages($0.name, $0.image, sink) })
        + DumpPeers(sink).comparisons(
          raw: dumps[0], packed: dumps.filter { $0.image.format == .kdumpCompressed },
          named: Array(dumps.dropFirst(made.images.count)))
    }
  }
}

/// A dump that takes part.
private struct Image {
  let name: String
  let path: String
  let image: MemoryImage
  /// Bytes that opening has taken, files' pages left out.
  let residentByteCount: Int

  init(_ name: String, _ path: String) throws {
    self.name = name
    self.path = path
    let before = anonymousByteCount()
    image = try MemoryImage(path: path)
    residentByteCount = anonymousByteCount() - before
    guard !image.backedRanges.isEmpty else {
      throw ImageError(
        file: path, found: "holds no memory", remedy: "name a dump that holds some")
    }
  }

  /// - Throws: ``WrongAnswer`` when the dump does not hold what memory holds.
  func check(_ memory: FlatMemory) throws {
    var page = [UInt8](repeating: 0, count: 4096)
    for address in stride(from: 0, to: TemporaryImages.byteCount, by: 4096) {
      let isSame = page.withUnsafeMutableBytes {
        image.read(at: PhysicalAddress(address), into: $0) == $0.count
          && memcmp($0.baseAddress!, memory.start + Int(address), $0.count) == 0
      }
      guard isSame else { throw WrongAnswer(name, "the page at \(PhysicalAddress(address))") }
    }
    if let problem = image.problems.first { throw problem }
  }
}

/// Resident bytes of this process that are no pages of files.
private func anonymousByteCount() -> Int {
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

private func opening(_ images: [Image], _ sink: Sink) -> Comparison {
  let count = 8
  let resident = images.map { "\($0.name) \($0.residentByteCount >> 10) KiB" }
  return Comparison(
    "opening", unit: "file", units: count,
    contenders: images.map { image in
      Contender(image.name) {
        for _ in 0..<count {
          do {
            sink.add(try MemoryImage(path: image.path).storedPageCount)
          } catch {
            preconditionFailure("the dump could be opened before: \(error)")
          }
        }
      }
    },
    ratios: images.dropFirst().map { Ratio($0.name, to: images[0].name) },
    notes: ["resident when first opened: " + resident.joined(separator: ", ")])
}

/// Memory that is read, and the ways to read it; made where the kind of memory is known, so that no
/// look-up of methods is measured.
private struct Pages {
  let name: String
  /// Reads so many pages, the first after the last.
  let readPages: (Int) -> Void
  /// Reads a word for each number, which tells page and word, of so many pages.
  let readWords: (_ numbers: [UInt64], _ pageCount: Int) -> Void

  /// Takes at most a gigabyte of each range: enough to time, and not all of a vast dump.
  init(_ name: String, _ memory: some PhysicalMemory, _ sink: Sink) {
    self.name = name
    let addresses = memory.backedRanges.flatMap { range in
      stride(
        from: range.lowerBound.rawValue,
        to: range.lowerBound.rawValue + min(range.byteCount, 1 << 30), by: 4096)
    }
    readPages = { count in
      withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
        for index in 0..<count {
          let address = PhysicalAddress(addresses[index % addresses.count])
          sink.add(UInt64(memory.read(at: address, into: buffer)))
        }
      }
    }
    readWords = { numbers, pageCount in
      let pageCount = UInt64(min(pageCount, addresses.count))
      for number in numbers {
        let page = addresses[Int(number >> 9 % pageCount)]
        sink.add(memory.quadword(at: PhysicalAddress(page + (number & 511) * 8)) ?? 0)
      }
    }
  }
}

private func reading(_ all: [Pages]) -> [Comparison] {
  let pageCount = 1 << 13
  var generator = SeededGenerator(seed: 2)
  let far = (0..<1 << 13).map { _ in generator.next() }
  let near = (0..<1 << 16).map { _ in generator.next() }
  func comparison(
    _ title: String, unit: String, units: Int, _ run: @escaping (Pages) -> Void
  ) -> Comparison {
    Comparison(
      title, unit: unit, units: units,
      contenders: all.map { pages in Contender(pages.name) { run(pages) } },
      ratios: all.dropFirst().map { Ratio($0.name, to: all[0].name) })
  }
  return [
    comparison("pages in a row", unit: "page", units: pageCount) { $0.readPages(pageCount) },
    comparison("words of any page", unit: "word", units: far.count) { $0.readWords(far, .max) },
    comparison("words of 512 pages", unit: "word", units: near.count) { $0.readWords(near, 512) },
  ]
}
