import IOMMUFormats
import Synchronization

/// A kdump-compressed dump as memory: one file, or the files that `makedumpfile --split` made of it.
final class KdumpMemory: PagedMemory {
  /// Ascending by their frames, which do not overlap.
  let files: [KdumpFile]
  let pageByteCount: UInt64
  private let pageShift: UInt64
  private let cache: PageCache
  private let failures = Mutex(Failures())
  private let survey = Mutex<Survey?>(nil)

  /// - Throws: ``ImageError`` when one of the files is damaged, or when they are not parts of one
  ///   dump.
  init(_ dumps: [DumpFile]) throws(ImageError) {
    var files: [KdumpFile] = []
    for dump in dumps { files.append(try KdumpFile(dump)) }
    files.sort { $0.header.frames.lowerBound < $1.header.frames.lowerBound }
    for (file, next) in zip(files, files.dropFirst()) {
      guard next.header.pageByteCount == file.header.pageByteCount,
        next.header.frameCount == file.header.frameCount, file.header.isSplit, next.header.isSplit
      else {
        throw ImageError(
          file: next.file.path, found: "is not of the same split dump as \(file.file.path)",
          remedy: "name the files of one dump only")
      }
      guard file.header.frames.upperBound <= next.header.frames.lowerBound else {
        throw ImageError(
          file: next.file.path,
          found: "holds page frames that \(file.file.path) holds too",
          remedy: "name each file of the dump once")
      }
    }
    self.files = files
    pageByteCount = files[0].header.pageByteCount
    pageShift = UInt64(pageByteCount.trailingZeroBitCount)
    cache = PageCache(pageByteCount: Int(pageByteCount))
  }

  /// One past the machine's last page frame.
  var frameCount: UInt64 { files[0].header.frameCount }

  /// What is strange about the files and no error; ``incompleteness`` tells what they lack.
  var warnings: [String] {
    var warnings = files.flatMap(\.warnings)
    var expected: UInt64 = 0
    for range in files.map(\.header.frames) + [frameCount..<frameCount] {
      if range.lowerBound > expected {
        let start = hexadecimal(expected << pageShift)
        let end = hexadecimal(range.lowerBound << pageShift)
        warnings.append(
          "\(files[0].file.path): the dump was split, and no file named here holds \(start)..<\(end)"
        )
      }
      expected = max(expected, range.upperBound)
    }
    return warnings
  }

  /// The notes; where VMCOREINFO lies apart from them, as in files of version 3, a note of it.
  var notes: [UInt8] {
    func bytes(_ range: Range<UInt64>) -> [UInt8] {
      files[0].file.bytes(at: range.lowerBound, count: range.count) ?? []
    }
    let notes = bytes(files[0].header.notes)
    guard ELFNotes(bytes: notes).content(named: VMCoreInfo.noteName) == nil else { return notes }
    let information = bytes(files[0].header.vmcoreInfo)
    return information.isEmpty
      ? notes : notes + ELFNotes.note(name: VMCoreInfo.noteName, content: information)
  }

  /// The bitmap of the machine's memory, of the file that has most of it.
  ///
  /// - Complexity: O(*n*) in its bytes.
  var memoryBitmap: FrameBitmap {
    let file = files.max {
      $0.file.knownByteCount(from: $0.header.memoryBitmap)
        < $1.file.knownByteCount(from: $1.header.memoryBitmap)
    }!
    return FrameBitmap(
      file: file.file, offset: file.header.memoryBitmap, frameCount: file.header.frameCount)
  }

  /// Pages of the machine that were not dumped into any file; `nil` when the bitmaps are cut off.
  var excludedPageCount: UInt64? {
    let memory = memoryBitmap
    guard memory.knownFrameCount == frameCount,
      let dumped = files.map(\.dumped).first(where: { $0.knownFrameCount == frameCount })
    else { return nil }
    return memory.count - min(memory.count, dumped.count)
  }

  /// What there is and what should be there.
  private struct Survey {
    var backed: [Range<PhysicalAddress>] = []
    var lost: [Range<PhysicalAddress>] = []
    var incompleteness: [Incompleteness] = []
  }

  /// Made when it is first asked for: a dump may hold a million runs of pages.
  private var surveyed: Survey {
    survey.withLock { known in
      if let known { return known }
      var survey = Survey()
      for file in files {
        var lostCount: UInt64 = 0
        var firstLost: UInt64?
        file.forEachRun { run, isLost in
          guard isLost else { return append(run, to: &survey.backed) }
          append(run, to: &survey.lost)
          lostCount += UInt64(run.count)
          firstLost = firstLost ?? run.lowerBound
        }
        guard file.isIncomplete else { continue }
        let unknown = file.unknownFrames
        survey.incompleteness.append(
          Incompleteness(
            path: file.file.path, isMarked: file.header.isIncomplete,
            endOfFile: file.file.file.byteCount,
            missingByteCount: lostCount << pageShift,
            claimedByteCount: file.descriptorCount << pageShift, pageByteCount: pageByteCount,
            firstMissing: firstLost.map { PhysicalAddress($0 << pageShift) },
            unknownFrom: unknown.isEmpty ? nil : PhysicalAddress(unknown.lowerBound << pageShift)))
      }
      known = survey
      return survey
    }
  }

  private func append(_ run: Range<UInt64>, to ranges: inout [Range<PhysicalAddress>]) {
    let start = PhysicalAddress(run.lowerBound << pageShift)
    let end = PhysicalAddress(run.upperBound << pageShift)
    if let last = ranges.last, last.upperBound == start {
      ranges[ranges.count - 1] = last.lowerBound..<end
    } else {
      ranges.append(start..<end)
    }
  }

  var backedRanges: [Range<PhysicalAddress>] { surveyed.backed }

  /// Memory that the files should hold and do not; without what a bitmap that is cut off would say.
  var lostRanges: [Range<PhysicalAddress>] { isIncomplete ? surveyed.lost : [] }

  private var isIncomplete: Bool { files.contains(where: \.isIncomplete) }

  /// What files lack that are incomplete.
  var incompleteness: [Incompleteness] { isIncomplete ? surveyed.incompleteness : [] }

  /// Pages of 4 KiB for which there is a descriptor.
  var storedPageCount: UInt64 {
    files.reduce(0) { $0 + $1.storedDescriptorCount } << pageShift / PageCount.pageByteCount
  }

  // MARK: What could not be given

  /// What went wrong with pages that were asked for: for each reason the first page of memory, whatever
  /// order threads come to them in.
  private struct Failures {
    var locked: [PageCodec: PlacedError?] = [:]
    var damage: PlacedError?
  }

  var problems: [ImageError] { problems(before: .max) }

  func problems(before address: UInt64) -> [ImageError] {
    func counts(_ placed: PlacedError) -> Bool { placed.place << pageShift < address }
    let (all, damage) = failures.withLock { ($0.locked, $0.damage) }
    let locked = all.compactMap { codec, placed in placed.map { (codec, $0) } }
      .filter { counts($0.1) }.sorted { $0.1.place < $1.1.place }
    let missing = locked.first.map { Self.missing(locked.map(\.0), at: $0.1.error) }
    return [missing, damage.flatMap { counts($0) ? $0.error : nil }].compactMap(\.self)
  }

  /// One error for all libraries that are missing; `place` is that of the first page.
  static func missing(_ codecs: [PageCodec], at place: ImageError) -> ImageError {
    func list(_ words: [String]) -> String {
      guard let last = words.last, words.count > 1 else { return words.joined() }
      return words.dropLast().joined(separator: ", ") + " and " + last
    }
    var error = place
    let (verb, them) = codecs.count == 1 ? ("is", "it") : ("are", "them")
    error.found =
      "packed with \(list(codecs.map { "\($0)" })), and \(list(codecs.map(\.library))) \(verb) "
      + "not installed"
    error.remedy =
      "install \(them): apt-get install \(codecs.map(\.package).joined(separator: " "))"
    return error
  }

  private func note(_ failure: KdumpPageFailure, of frame: UInt64, in file: KdumpFile) {
    func placed(_ error: ImageError) -> ImageError {
      var error = error
      error.place = "page \(hexadecimal(frame << pageShift)), descriptor"
      return error
    }
    switch failure {
    // That the file ends early has been said when it was opened, if that was seen.
    case .lost where file.isIncomplete: return
    case .locked(let codec, let error):
      failures.withLock { $0.locked[codec, default: nil].note(placed(error), at: frame) }
    case .lost(let error), .damaged(let error):
      // When the file shrank meanwhile, that is the reason, and its own problem.
      guard file.file.file.problem == nil else { return }
      failures.withLock { $0.damage.note(placed(error), at: frame) }
    }
  }

  // MARK: Pages

  /// The number of the file that may hold a frame.
  private func fileNumber(of frame: UInt64) -> Int? {
    let number = files.partitioningIndex { $0.header.frames.upperBound > frame }
    guard number < files.count, files[number].header.frames.contains(frame) else { return nil }
    return number
  }

  /// The file that may hold a frame.
  private func file(of frame: UInt64) -> KdumpFile? { fileNumber(of: frame).map { files[$0] } }

  /// A page that was found: the descriptor of the next one, if it was dumped, follows its own.
  private struct Place {
    var file: Int
    var frame: UInt64
    var index: UInt64
  }

  /// Where a frame's descriptor is; `nil` when it was not dumped.
  ///
  /// - Parameter last: The page found before, which saves counting when it is the one before.
  private func place(of frame: UInt64, after last: Place?) -> Place? {
    if let last, last.frame &+ 1 == frame, files[last.file].header.frames.contains(frame) {
      guard files[last.file].dumped.contains(frame) else { return nil }
      return Place(file: last.file, frame: frame, index: last.index + 1)
    }
    guard let file = fileNumber(of: frame), files[file].dumped.contains(frame) else { return nil }
    return Place(file: file, frame: frame, index: files[file].descriptorIndex(of: frame))
  }

  /// Unpacks a page into room for one; whether it is there and whole.
  private func unpack(
    _ frame: UInt64, after last: inout Place?, into output: inout OutputSpan<UInt8>
  ) -> Bool {
    last = place(of: frame, after: last)
    guard let place = last else { return false }
    do throws(KdumpPageFailure) {
      try files[place.file].unpack(at: place.index, into: &output)
      return true
    } catch {
      note(error, of: frame, in: files[place.file])
      return false
    }
  }

  func read(at address: UInt64, into output: inout OutputSpan<UInt8>) {
    var place = address
    var last: Place?
    while !output.isFull, place >> pageShift < frameCount {
      let frame = place >> pageShift
      let offset = Int(place & (pageByteCount - 1))
      let count = min(output.freeCapacity, Int(pageByteCount) - offset)
      let isThere = cache.copy(page: frame, offset: offset, count: count, into: &output) {
        unpack(frame, after: &last, into: &$0)
      }
      guard isThere else { return }
      // At most the end of the last frame of 2^40.
      place += UInt64(count)
    }
  }

  func presence(of address: UInt64) -> Presence {
    let frame = address >> pageShift
    guard frame < frameCount else { return .absent }
    // The file that a read asks counts; others may have been written later, and say otherwise.
    if let file = file(of: frame), file.dumped.contains(frame) {
      return presence(of: frame, in: file)
    }
    switch isDumped(frame) {
    case nil: return isMemory(frame) == false ? .absent : .cutOff
    case false?:
      switch isMemory(frame) {
      case nil: return .cutOff
      case false?: return .absent
      case true?: return .excluded
      }
    case true?: return file(of: frame) == nil ? .elsewhere : .cutOff
    }
  }

  /// Of a page that was dumped; unpacks it.
  private func presence(of frame: UInt64, in file: KdumpFile) -> Presence {
    [UInt8].filled(capacity: Int(pageByteCount)) { page in
      do throws(KdumpPageFailure) {
        try file.unpack(frame: frame, into: &page)
        return .stored
      } catch {
        switch error {
        case .lost: return .cutOff
        case .locked(let codec, _): return .locked(package: codec.package)
        case .damaged: return .damaged
        }
      }
    }.result
  }

  /// Whether a page was dumped, into any part of a split dump; `nil` when no file here knows.
  private func isDumped(_ frame: UInt64) -> Bool? {
    files.first { frame < $0.dumped.knownFrameCount }?.dumped.contains(frame)
  }

  /// Whether the machine has memory there; `nil` when no file here knows.
  private func isMemory(_ frame: UInt64) -> Bool? {
    for file in files {
      if let byte = file.file.integer(UInt8.self, at: file.header.memoryBitmap + frame / 8) {
        return byte >> (frame % 8) & 1 != 0
      }
    }
    return nil
  }
}
