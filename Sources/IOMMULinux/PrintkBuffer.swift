import IOMMUFormats
import IOMMUImages

/// The log of Linux 3.5 to 5.9: records with a header each, in a buffer that begins again at 0.
///
/// Source: Linux 5.9 `kernel/printk/printk.c`; before 3.11 the header was called `log`. *Assumed*: the
/// facility follows the length of the dictionary, and a byte with the level in its upper three bits behind
/// it. No dump with this log was at hand.
struct PrintkBuffer {
  private let memory: KernelMemory
  private let buffer: UInt64
  private let byteCount: UInt64
  private let first: UInt64
  private let next: UInt64
  private let headerByteCount: UInt64
  private let nanoseconds: Int
  private let length: Int
  private let textLength: Int
  private let dictionaryLength: Int

  init(_ info: VMCoreInfo, in memory: KernelMemory) throws(KernelReadError) {
    func symbol(_ name: String) throws(KernelReadError) -> UInt64 {
      guard let address = info.symbol(name) else { throw .noKey("SYMBOL(\(name))") }
      return address
    }
    let structure = info.size("printk_log") != nil ? "printk_log" : "log"
    func offset(_ member: String) throws(KernelReadError) -> Int {
      guard let value = info.offset("\(structure).\(member)"), value < 256 else {
        throw .noKey("OFFSET(\(structure).\(member))")
      }
      return Int(value)
    }
    self.memory = memory
    guard let size = info.size(structure), 16...256 ~= size else {
      throw .noKey("SIZE(\(structure))")
    }
    headerByteCount = size
    nanoseconds = try offset("ts_nsec")
    length = try offset("len")
    textLength = try offset("text_len")
    dictionaryLength =
      info.offset("\(structure).dict_len") == nil ? textLength + 2 : try offset("dict_len")
    guard max(nanoseconds + 8, length + 2, textLength + 2, dictionaryLength + 4) <= Int(size)
    else {
      throw .damaged("VMCOREINFO puts members of \(structure) behind its end")
    }
    buffer = try memory.quadword(at: try symbol("log_buf"))
    byteCount = UInt64(try memory.doubleword(at: try symbol("log_buf_len")))
    first = UInt64(try memory.doubleword(at: try symbol("log_first_idx")))
    next = UInt64(try memory.doubleword(at: try symbol("log_next_idx")))
    guard buffer != 0, headerByteCount...PrintkLog.byteCountLimit ~= byteCount, first < byteCount,
      next <= byteCount
    else {
      throw .damaged("a log of \(byteCount) bytes, from \(first) to \(next)")
    }
  }

  /// The messages from the oldest on.
  func log() -> PrintkLog {
    var log = PrintkLog(kind: .records)
    var place = first
    var isWrapped = false
    var room = PrintkLog.letterLimit(memory)
    while place != next || !isWrapped && next < first {
      guard let header = read(place, headerByteCount, &log) else { break }
      let count = UInt64(header.span.integer(UInt16.self, at: length))
      // Not enough room behind the last one: the next begins at 0, once.
      if count == 0 {
        guard !isWrapped, place != 0, next < first else {
          log.problems.append("the log has a record without length at \(place), where none can be")
          break
        }
        isWrapped = true
        place = 0
        continue
      }
      let text = UInt64(header.span.integer(UInt16.self, at: textLength))
      let dictionary = UInt64(header.span.integer(UInt16.self, at: dictionaryLength))
      guard headerByteCount + text + dictionary <= count, count <= byteCount - place else {
        log.problems.append("the log has a record of \(count) bytes at \(place), which cannot be")
        break
      }
      guard count <= room else {
        log.problems.append(PrintkLog.tooMany)
        break
      }
      room -= count
      if let body = read(place + headerByteCount, text + dictionary, &log) {
        let about = Self.about(body.dropFirst(Int(text)))
        log.records.append(
          PrintkRecord(
            nanoseconds: header.span.integer(UInt64.self, at: nanoseconds),
            facility: header[dictionaryLength + 2], level: header[dictionaryLength + 3] >> 5,
            text: String(decoding: body.prefix(Int(text)), as: UTF8.self),
            subsystem: about["SUBSYSTEM"], device: about["DEVICE"]))
      }
      place += count
      if place == byteCount, next < first, !isWrapped {
        isWrapped = true
        place = 0
      }
      guard place <= next || !isWrapped && next < first || next == first else {
        log.problems.append("the log goes on behind its newest record")
        break
      }
    }
    return log
  }

  private func read(_ offset: UInt64, _ count: UInt64, _ log: inout PrintkLog) -> [UInt8]? {
    guard offset <= byteCount, count <= byteCount - offset else {
      log.problems.append("the log goes on behind the end of its buffer")
      return nil
    }
    do throws(KernelReadError) {
      return try memory.bytes(at: buffer &+ offset, count: Int(count))
    } catch {
      if log.problems.count < PrintkLog.problemLimit {
        log.problems.append("a message cannot be read: \(error)")
      }
      return nil
    }
  }

  /// Pairs `NAME=value`, a zero between two.
  private static func about(_ dictionary: ArraySlice<UInt8>) -> [String: String] {
    var pairs: [String: String] = [:]
    for pair in dictionary.split(separator: 0) {
      let halves = pair.split(separator: UInt8(ascii: "="), maxSplits: 1)
      guard halves.count == 2 else { continue }
      pairs[String(decoding: halves[0], as: UTF8.self)] = String(decoding: halves[1], as: UTF8.self)
    }
    return pairs
  }
}

/// The log before Linux 3.5: a ring of characters, with the level and the time as text.
///
/// Source: Linux 3.4 `kernel/printk.c`. *Assumed* from there; no dump with this log was at hand.
struct PrintkCharacters {
  private let memory: KernelMemory
  private let buffer: UInt64
  private let byteCount: UInt64
  private let end: UInt64
  private let count: UInt64

  init(_ info: VMCoreInfo, in memory: KernelMemory) throws(KernelReadError) {
    func value(_ name: String) throws(KernelReadError) -> UInt64 {
      guard let address = info.symbol(name) else { throw .noKey("SYMBOL(\(name))") }
      return UInt64(try memory.doubleword(at: address))
    }
    guard let pointer = info.symbol("log_buf") else { throw .noKey("SYMBOL(log_buf)") }
    self.memory = memory
    buffer = try memory.quadword(at: pointer)
    byteCount = try value("log_buf_len")
    end = try value("log_end")
    // Kernels that do not say it have filled the buffer, or hold zeros where they have not.
    count =
      info.symbol("logged_chars") == nil ? byteCount : min(try value("logged_chars"), byteCount)
    guard buffer != 0, 1...PrintkLog.byteCountLimit ~= byteCount, byteCount.nonzeroBitCount == 1
    else {
      throw .damaged("a log of \(byteCount) characters")
    }
  }

  /// The lines from the oldest on.
  func log() -> PrintkLog {
    var log = PrintkLog(kind: .characters)
    var letters: [UInt8] = []
    var place = (end &- count) & (byteCount - 1)
    var left = min(count, PrintkLog.letterLimit(memory))
    if left < count { log.problems.append(PrintkLog.tooMany) }
    while left > 0 {
      let run = min(left, byteCount - place)
      let (part, error) = memory.prefix(at: buffer &+ place, count: Int(run))
      letters += part
      if let error {
        log.problems.append("the log cannot be read to its end: \(error)")
        break
      }
      place = 0
      left -= run
    }
    for line in letters.split(separator: UInt8(ascii: "\n")) {
      let line = line.drop { $0 == 0 }
      if !line.isEmpty { log.records.append(Self.record(line)) }
    }
    return log
  }

  /// `<6>[    1.234567] text`; either may be missing.
  private static func record(_ line: ArraySlice<UInt8>) -> PrintkRecord {
    var rest = line
    var record = PrintkRecord(facility: 0, text: "")
    if rest.first == UInt8(ascii: "<"), let end = rest.prefix(5).firstIndex(of: UInt8(ascii: ">")),
      let priority = Notation.decimal(utf8: rest[(rest.startIndex + 1)..<end]), priority < 1 << 11
    {
      record.level = UInt8(priority & 7)
      record.facility = UInt8(priority >> 3)
      rest = rest[(end + 1)...]
    }
    if rest.first == UInt8(ascii: "["), let end = rest.prefix(32).firstIndex(of: UInt8(ascii: "]"))
    {
      let parts = rest[(rest.startIndex + 1)..<end].drop { $0 == UInt8(ascii: " ") }
        .split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
      if parts.count == 2, parts[1].count == 6, let seconds = Notation.decimal(utf8: parts[0]),
        seconds < 1 << 32, let microseconds = Notation.decimal(utf8: parts[1])
      {
        record.nanoseconds = seconds * 1_000_000_000 + microseconds * 1000
        rest = rest[(end + 1)...]
        if rest.first == UInt8(ascii: " ") { rest = rest.dropFirst() }
      }
    }
    record.text = String(decoding: rest, as: UTF8.self)
    return record
  }
}
