import IOMMUFormats

/// Writes memory as a kdump-compressed dump of version 6, with the headers of x86-64.
///
/// Header, sub header with the notes, two bitmaps, descriptors, pages. All pages of zeros share
/// one page's bytes, as makedumpfile does it. Pages are packed by all processors and written in their
/// order: the file is the same whatever their number.
struct KdumpWriter<Output: DumpOutput> {
  private let layout = KdumpLayout.x86_64
  private let image: MemoryImage
  private let output: Output
  private let pageByteCount: UInt64
  /// Runs of frames that are written, ascending, not touching each other.
  private let runs: [Range<UInt64>]
  /// Those of the runs that have a stored byte; all others are zero.
  private let storedRuns: [Range<UInt64>]
  /// Runs of frames that were dumped and are lost: their descriptors say so.
  private let lostRuns: [Range<UInt64>]
  private let frameCount: UInt64
  private let notes: [UInt8]
  private let isPartial: Bool

  /// Threads that pack pages.
  private let threadCount: Int

  init(image: MemoryImage, output: Output, _ threadCount: Int) {
    self.image = image
    self.output = output
    self.threadCount = threadCount
    let kdump = image.paged as? KdumpMemory
    let pageByteCount = kdump?.pageByteCount ?? PageCount.pageByteCount
    self.pageByteCount = pageByteCount
    let backed = image.backedRanges
    runs = Self.frames(of: backed, pageByteCount)
    storedRuns = Self.frames(of: image.storedRanges, pageByteCount)
    lostRuns = Self.frames(of: image.lostRanges, pageByteCount, without: runs)
    isPartial = backed.contains {
      ($0.lowerBound.rawValue | $0.upperBound.rawValue) % pageByteCount != 0
    }
    frameCount = max(
      kdump?.frameCount ?? 0, runs.last?.upperBound ?? 0, lostRuns.last?.upperBound ?? 0)
    notes = image.notes
  }

  /// The frames that ranges touch, as runs, without those of `others`; both ascend.
  private static func frames(
    of ranges: [Range<PhysicalAddress>], _ pageByteCount: UInt64,
    without others: [Range<UInt64>] = []
  ) -> [Range<UInt64>] {
    var runs: [Range<UInt64>] = []
    func append(_ run: Range<UInt64>) {
      if let last = runs.last, last.upperBound >= run.lowerBound {
        runs[runs.count - 1] = last.lowerBound..<run.upperBound
      } else {
        runs.append(run)
      }
    }
    var next = 0
    for range in ranges {
      var start = range.lowerBound.rawValue / pageByteCount
      let end = (range.upperBound.rawValue - 1) / pageByteCount + 1
      while next < others.count, others[next].upperBound <= start { next += 1 }
      var other = next
      while other < others.count, others[other].lowerBound < end {
        if start < others[other].lowerBound { append(start..<others[other].lowerBound) }
        start = max(start, others[other].upperBound)
        other += 1
      }
      if start < end { append(start..<end) }
    }
    return runs
  }

  /// The runs of both kinds, ascending.
  private func forEachRun<Failure: Error>(
    _ body: (Range<UInt64>, _ isLost: Bool) throws(Failure) -> Void
  ) throws(Failure) {
    var next = 0
    for run in runs {
      while next < lostRuns.count, lostRuns[next].lowerBound < run.lowerBound {
        try body(lostRuns[next], true)
        next += 1
      }
      try body(run, false)
    }
    for run in lostRuns[next...] { try body(run, true) }
  }

  // MARK: Where things lie

  private var subHeaderBlocks: UInt64 {
    (layout.subHeaderByteCount + UInt64(notes.count) + pageByteCount - 1) / pageByteCount
  }
  /// Of one bitmap, in whole blocks.
  private var bitmapByteCount: UInt64 {
    ((frameCount + 7) / 8 + pageByteCount - 1) / pageByteCount * pageByteCount
  }
  private var memoryBitmap: UInt64 { (1 + subHeaderBlocks) * pageByteCount }
  private var descriptors: UInt64 { memoryBitmap + 2 * bitmapByteCount }

  // MARK: Writing

  /// Bytes that pages may take of which nothing is stored, where what is stored takes fewer: the
  /// descriptors of 4 GiB of zeros. A header may claim any number of them.
  private static var unstoredByteLimit: UInt64 { KdumpLayout.Descriptor.byteCount << 20 }

  /// Bytes of descriptors and bitmaps that say of pages that they are zero or lost.
  private var unstoredByteCount: UInt64 {
    func count(_ runs: [Range<UInt64>]) -> UInt64 { runs.reduce(0) { $0 + UInt64($1.count) } }
    // At most 2^40 frames: no product overflows.
    return (count(runs) - count(storedRuns)) * KdumpLayout.Descriptor.byteCount
      + count(lostRuns) / 4
  }

  /// - Throws: ``ImageError`` when zlib is not installed, when more memory is there than 32-bit
  ///   counts of bitmap blocks reach, when most of it is zeros that the dump does not store, or as
  ///   the reader and the output do.
  func write(
    _ reader: ConversionReader, _ report: inout ImageConverter.Report
  ) throws(ImageError) {
    guard let zlib = PageCodec.zlib.loaded else {
      throw ImageError(
        file: image.path, found: "pages are packed with zlib, which is not installed",
        remedy: "install it: apt-get install \(PageCodec.zlib.package)")
    }
    guard frameCount <= KdumpHeader.frameLimit else {
      throw ImageError(
        file: image.path, found: "has memory beyond 52 address bits",
        remedy: "write an ELF core instead")
    }
    let storedByteCount = storedRuns.reduce(0) { $0 + UInt64($1.count) } * pageByteCount
    guard unstoredByteCount <= max(Self.unstoredByteLimit, storedByteCount) else {
      throw ImageError(
        file: image.path,
        found: "counts more memory that is zero or lost than can be listed page by page",
        remedy: "write an ELF core instead, which says it in a line")
    }
    try writeHeaders()
    try writeBitmaps()
    try writePages(reader, zlib)
    if isPartial {
      report.warnings.append("pages that the dump holds in part are whole, filled with zeros")
    }
  }

  private func writeHeaders() throws(ImageError) {
    let stream = DumpStream(output, at: 0)
    let information = image.vmcoreInfo
    var header = ByteWriter(byteCount: pageByteCount)
    for (index, byte) in KdumpLayout.kdumpMagic.enumerated() {
      header.put(byte, at: UInt64(index))
    }
    header.put(KdumpLayout.currentVersion, at: KdumpLayout.version)
    let names = image.systemNames.filled()
    for (index, field) in SystemNames.fields.enumerated() {
      // VMCOREINFO may have a longer release than there is room for.
      let name = String(decoding: names[keyPath: field].utf8.prefix(64), as: UTF8.self)
      header.put(name, at: KdumpLayout.systemNames + UInt64(index) * SystemNames.nameByteCount)
    }
    header.put(
      PageCodec.zlib.rawValue | (image.incompleteness.isEmpty ? 0 : KdumpLayout.incomplete),
      at: layout.status)
    header.put(UInt32(pageByteCount), at: layout.blockSize)
    header.put(UInt32(subHeaderBlocks), at: layout.subHeaderBlocks)
    header.put(UInt32(2 * bitmapByteCount / pageByteCount), at: layout.bitmapBlocks)
    header.put(UInt32(clamping: frameCount), at: layout.maxMapNumber)
    // Readers take a machine without processors for damage.
    header.put(UInt32(max(1, ELFNotes(bytes: notes).processorCount)), at: layout.processorCount)
    try stream.append(header.bytes)
    try stream.append(subHeader(information))
    try stream.flush()
  }

  private func subHeader(_ information: VMCoreInfo?) -> [UInt8] {
    var sub = ByteWriter(byteCount: subHeaderBlocks * pageByteCount)
    if let base = information?["NUMBER(phys_base)"].flatMap({ Int64($0) }) {
      sub.put(base, at: layout.physicalBase)
    }
    if let kdump = image.paged as? KdumpMemory, let level = kdump.files[0].header.dumpLevel {
      sub.put(level, at: layout.dumpLevel)
    }
    sub.put(frameCount, at: layout.maxMapNumber64)
    guard !notes.isEmpty else { return sub.bytes }
    let start = pageByteCount + layout.subHeaderByteCount
    sub.put(start, at: layout.notes)
    sub.put(UInt64(notes.count), at: layout.notes + 8)
    if let content = ELFNotes(bytes: notes).content(named: VMCoreInfo.noteName) {
      sub.put(start + UInt64(content.startIndex), at: layout.vmcoreInfo)
      sub.put(UInt64(content.count), at: layout.vmcoreInfo + 8)
    }
    return sub.bytes.prefix(Int(layout.subHeaderByteCount)) + notes
      + [UInt8](
        repeating: 0,
        count: sub.bytes.count - Int(layout.subHeaderByteCount) - notes.count)
  }

  /// Memory, and memory that was dumped; blocks without a bit are left out.
  private func writeBitmaps() throws(ImageError) {
    var memory = BitmapWriter(output: output, offset: memoryBitmap)
    if let kdump = image.paged as? KdumpMemory {
      var failure: ImageError?
      kdump.memoryBitmap.forEachRun(in: 0..<frameCount) { run in
        guard failure == nil else { return }
        do throws(ImageError) { try memory.set(run) } catch { failure = error }
      }
      if let failure { throw failure }
    } else {
      try forEachRun { (run, _) throws(ImageError) in try memory.set(run) }
    }
    try memory.flush()
    var dumped = BitmapWriter(output: output, offset: memoryBitmap + bitmapByteCount)
    try forEachRun { (run, _) throws(ImageError) in try dumped.set(run) }
    try dumped.flush()
  }

  private func writePages(_ reader: ConversionReader, _ zlib: LoadedCodec) throws(ImageError) {
    let image = image
    let ranges = image.backedRanges
    let pageByteCount = pageByteCount
    let count = (runs + lostRuns).reduce(UInt64(0)) { $0 + UInt64($1.count) }
    var table = DumpStream(output, at: descriptors)
    let zeroPage = descriptors + count * KdumpLayout.Descriptor.byteCount
    let data = DumpStream(output, at: zeroPage)
    try data.append([UInt8](repeating: 0, count: Int(pageByteCount)))

    func put(_ descriptor: Int, size: UInt32, at offset: UInt64, in list: inout ByteWriter) {
      let start = UInt64(descriptor) * KdumpLayout.Descriptor.byteCount
      list.put(offset, at: start + KdumpLayout.Descriptor.offset)
      list.put(size, at: start + KdumpLayout.Descriptor.size)
      let flags = size < pageByteCount ? PageCodec.zlib.rawValue : 0
      list.put(flags, at: start + KdumpLayout.Descriptor.flags)
    }

    func store(_ pages: PackedPages) throws(ImageError) {
      try reader.note(pages.piece)
      var list = ByteWriter(
        byteCount: UInt64(pages.sizes.count) * KdumpLayout.Descriptor.byteCount)
      var offset = data.offset
      for (number, size) in pages.sizes.enumerated() {
        if let size {
          put(number, size: size, at: offset, in: &list)
          offset += UInt64(size)
        } else {
          put(number, size: UInt32(pageByteCount), at: zeroPage, in: &list)
        }
      }
      try table.append(list.bytes)
      try data.append(pages.bytes)
    }

    var zeros = ByteWriter(byteCount: KdumpLayout.Descriptor.byteCount)
    put(0, size: UInt32(pageByteCount), at: zeroPage, in: &zeros)
    let zeroPages = [[UInt8]](repeating: zeros.bytes, count: 4096).flatMap { $0 }
    func storeZeros(_ count: UInt64) throws(ImageError) {
      var left = count * KdumpLayout.Descriptor.byteCount
      while left > 0 {
        let step = min(left, UInt64(zeroPages.count))
        try table.append(zeroPages.span.extracting(0..<Int(step)))
        left -= step
      }
    }

    try inOrder(threadCount: threadCount, PageSteps(steps, pageByteCount)) {
      step -> PageSteps.Outcome in
      guard case .stored(let frames) = step else { return .plain(step) }
      return .packed(PackedPages(frames, pageByteCount, of: image, ranges, zlib))
    } take: { (outcome) throws(ImageError) in
      switch outcome {
      case .packed(let pages): try store(pages)
      case .plain(.stored): break
      case .plain(.zero(let count)): try storeZeros(count)
      case .plain(.lost(let count)):
        // Descriptors of zeros, which need not be written.
        try table.flush()
        table = DumpStream(
          output, at: table.offset + count * KdumpLayout.Descriptor.byteCount)
      }
    }
    try table.flush()
    try data.flush()
    try output.finish(byteCount: data.offset)
  }

  /// What the descriptors say, in the order of frames.
  private var steps: [PageSteps.Step] {
    var steps: [PageSteps.Step] = []
    var next = 0
    func append(_ run: Range<UInt64>, _ isLost: Bool) {
      if isLost { return steps.append(.lost(UInt64(run.count))) }
      var frame = run.lowerBound
      while next < storedRuns.count, storedRuns[next].lowerBound < run.upperBound {
        let stored = storedRuns[next]
        if frame < stored.lowerBound { steps.append(.zero(stored.lowerBound - frame)) }
        steps.append(.stored(stored))
        frame = stored.upperBound
        next += 1
      }
      if frame < run.upperBound { steps.append(.zero(run.upperBound - frame)) }
    }
    forEachRun(append)
    return steps
  }
}

/// Pages of a dump one after the other, stored ones in runs that are packed in one go.
private struct PageSteps: Sequence, IteratorProtocol {
  enum Step: Sendable {
    /// Frames with a stored byte.
    case stored(Range<UInt64>)
    /// So many pages that are zero and not stored.
    case zero(UInt64)
    /// So many pages that are lost.
    case lost(UInt64)
  }

  enum Outcome: Sendable {
    case packed(PackedPages)
    case plain(Step)
  }

  private let steps: [Step]
  private let frameLimit: UInt64
  private var index = 0
  /// Of the step at hand, frames that were handed out.
  private var done: UInt64 = 0

  init(_ steps: [Step], _ pageByteCount: UInt64) {
    self.steps = steps
    frameLimit = UInt64(ConversionReader.chunkByteCount) / pageByteCount
  }

  mutating func next() -> Step? {
    guard index < steps.count else { return nil }
    guard case .stored(let frames) = steps[index], UInt64(frames.count) - done > frameLimit else {
      let step = steps[index]
      defer { (index, done) = (index + 1, 0) }
      guard case .stored(let frames) = step else { return step }
      return .stored(frames.lowerBound + done..<frames.upperBound)
    }
    let start = frames.lowerBound + done
    done += frameLimit
    return .stored(start..<start + frameLimit)
  }
}

/// Pages as they are written, packed where that makes them smaller.
private struct PackedPages: Sendable {
  /// What was read; without its bytes.
  private(set) var piece = MemoryPiece()
  /// Bytes of each page, fewer than a page has where it is packed; `nil` for zeros. None where not all
  /// could be read.
  private(set) var sizes: [UInt32?] = []
  /// The pages that are not zero, one after the other.
  private(set) var bytes: [UInt8] = []

  init(
    _ frames: Range<UInt64>, _ pageByteCount: UInt64, of image: MemoryImage,
    _ ranges: [Range<PhysicalAddress>], _ zlib: LoadedCodec
  ) {
    sizes.reserveCapacity(frames.count)
    bytes.reserveCapacity(frames.count * Int(pageByteCount))
    // A part stays in the processor's cache until it is packed, and its room is used again.
    let partFrameCount = Self.partByteCount / Int(pageByteCount)
    var part = MemoryPiece()
    for start in stride(from: 0, to: frames.count, by: partFrameCount) {
      let count = min(partFrameCount, frames.count - start) * Int(pageByteCount)
      part.readPages(
        count, at: (frames.lowerBound + UInt64(start)) * pageByteCount, of: image, ranges)
      piece.count(part)
      guard piece.failure == nil else {
        (sizes, bytes) = ([], [])
        return
      }
      pack(part.bytes.span, Int(pageByteCount), zlib)
    }
  }

  /// At least a page of any size.
  private static let partByteCount = 1 << 16

  private mutating func pack(_ plain: Span<UInt8>, _ pageByteCount: Int, _ zlib: LoadedCodec) {
    for offset in stride(from: 0, to: plain.count, by: pageByteCount) {
      let page = plain.extracting(offset..<offset + pageByteCount)
      guard !page.isAllZero else {
        sizes.append(nil)
        continue
      }
      let start = bytes.count
      zlib.pack(page, into: &bytes)
      if bytes.count == start { bytes.append(copying: page) }
      sizes.append(UInt32(bytes.count - start))
    }
  }
}

/// A bitmap that is written part by part, in ascending order; parts without a bit are left out.
private struct BitmapWriter<Output: DumpOutput> {
  private static var partByteCount: Int { 4096 }

  let output: Output
  /// Of the bitmap.
  let offset: UInt64
  private var part: UInt64 = 0
  private var bytes = [UInt8](repeating: 0, count: partByteCount)
  private var isEmpty = true
  /// Parts of which every bit is set; empty until they are needed.
  private var full: [UInt8] = []
  private static var fullPartCount: UInt64 { 64 }

  init(output: Output, offset: UInt64) {
    self.output = output
    self.offset = offset
  }

  /// - Precondition: runs ascend from call to call.
  mutating func set(_ run: Range<UInt64>) throws(ImageError) {
    let frames = UInt64(8 * Self.partByteCount)
    var frame = run.lowerBound
    while frame < run.upperBound {
      let index = frame / frames
      if index != part { try flush() }
      part = index
      // A dump may lack terabytes: whole parts are not looked at bit by bit.
      guard frame % frames != 0 || run.upperBound - frame < frames else {
        if full.isEmpty {
          full = [UInt8](repeating: 0xff, count: Self.partByteCount * Int(Self.fullPartCount))
        }
        let count = min(Self.fullPartCount, (run.upperBound - frame) / frames)
        try write(full.span.extracting(first: Self.partByteCount * Int(count)))
        frame += count * frames
        continue
      }
      isEmpty = false
      let byte = Int(frame / 8 - index * UInt64(Self.partByteCount))
      if frame % 8 == 0, run.upperBound - frame >= 8 {
        bytes[byte] = 0xff
        frame += 8
      } else {
        bytes[byte] |= 1 << UInt8(frame % 8)
        frame += 1
      }
    }
  }

  mutating func flush() throws(ImageError) {
    guard !isEmpty else { return }
    try write(bytes.span)
    bytes = [UInt8](repeating: 0, count: Self.partByteCount)
    isEmpty = true
  }

  private func write(_ bytes: Span<UInt8>) throws(ImageError) {
    try output.write(bytes, at: offset + part * UInt64(Self.partByteCount))
  }
}
