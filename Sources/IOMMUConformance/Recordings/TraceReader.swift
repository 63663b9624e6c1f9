import FoundationEssentials
import IOMMUFormats
import IOMMUImages

/// Reads a trace line by line, and refuses what is not one.
///
/// The file is mapped; memory is that of one line. Safe: the file stays mapped as long as the reader
/// has it, and lines are copied.
@safe
struct TraceReader {
  /// Lines of more bytes than this are refused.
  static let lineByteCountLimit = 64 << 20

  /// The file's path as it was given.
  let path: String
  /// Keeps `bytes` mapped.
  private let file: FileBytes
  private let bytes: UnsafeRawBufferPointer
  private var offset = 0
  private var line = 0
  /// The number of the last event read, or of the last one before this file.
  private var sequence: UInt64?
  /// The call that has begun and not ended.
  private var openCall: TraceCall.Function?
  private let decoder = JSONDecoder()

  /// Opens a trace.
  ///
  /// - Parameter sequence: The number of the last event before this file, when it goes on with
  ///   another trace's numbers; `nil` when any number may come first.
  /// - Throws: ``ImageError`` when the file cannot be read or is empty.
  init(path: String, after sequence: UInt64? = nil) throws(ImageError) {
    self.path = path
    self.sequence = sequence
    file = try FileBytes(path: path)
    unsafe bytes = try file.bytesInPlace()
  }

  /// The next event; `nil` at the end of the file.
  ///
  /// - Throws: ``ImageError`` with file and line: no JSON object, a field that is missing or no
  ///   number, an unknown kind of event or call, a number out of order, a call inside a call.
  mutating func next() throws(ImageError) -> TraceEvent? {
    while let text = try nextLine() {
      if text.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") }) { continue }
      return try event(text)
    }
    if let problem = file.problem { throw problem }
    if let openCall {
      throw error("ends inside a call of \(openCall.rawValue)", "the file is cut short")
    }
    return nil
  }

  /// The bytes of the next line; `nil` at the end of the file.
  private mutating func nextLine() throws(ImageError) -> [UInt8]? {
    guard unsafe offset < bytes.count else { return nil }
    let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[offset...])
    let length = unsafe rest.firstIndex(of: UInt8(ascii: "\n")) ?? rest.count
    offset += length + 1
    line += 1
    guard length <= Self.lineByteCountLimit else {
      throw error("has \(length) bytes", "is this a trace at all?")
    }
    return unsafe [UInt8](rest[..<length])
  }

  private mutating func event(_ text: [UInt8]) throws(ImageError) -> TraceEvent {
    try check(text)
    let decoded: TraceLine
    do {
      decoded = try decoder.decode(TraceLine.self, from: Data(text))
    } catch let error as DecodingError {
      throw self.error(error)
    } catch {
      throw self.error("cannot be read as JSON: \(error)")
    }
    if let sequence, decoded.sequence != sequence &+ 1 {
      throw error(
        "seq \(decoded.sequence) follows \(sequence)",
        "events are numbered one by one: a line is missing, doubled or out of order")
    }
    try checkNesting(of: decoded.action)
    sequence = decoded.sequence
    return TraceEvent(sequence: decoded.sequence, line: line, action: decoded.action)
  }

  /// Calls do not nest, and each ends under its own name.
  private mutating func checkNesting(of action: TraceEvent.Action) throws(ImageError) {
    switch action {
    case .call(let call):
      if let openCall {
        throw error("a call of \(call.function.rawValue) inside one of \(openCall.rawValue)")
      }
      openCall = call.function
    case .ret(let ret):
      guard let open = openCall else { throw error("a return, and no call is open") }
      guard open.returnName == ret.function.returnName else {
        throw error("a return of \(ret.function.returnName) from a call of \(open.rawValue)")
      }
      openCall = nil
    default: break
    }
  }

  /// Refuses what the decoder would take for another encoding or follow too deeply.
  private func check(_ text: [UInt8]) throws(ImageError) {
    var openings = 0
    for byte in text {
      if byte == 0 { throw error("a zero byte", "a trace is JSON lines in UTF-8") }
      if byte == UInt8(ascii: "{") || byte == UInt8(ascii: "[") { openings += 1 }
    }
    guard openings <= MachineFile.nestingLimit else {
      throw error("more than \(MachineFile.nestingLimit) brackets", "an event is one flat object")
    }
  }

  private func error(_ found: String, _ remedy: String? = nil) -> ImageError {
    ImageError(file: path, place: "line \(line)", found: found, remedy: remedy)
  }

  private func error(_ error: DecodingError) -> ImageError {
    var located = ImageError(file: path, error)
    located.place = ["line \(line)", located.place].compactMap { $0 }.joined(separator: ": ")
    return located
  }
}
