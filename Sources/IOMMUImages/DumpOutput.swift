/// Where a dump's parts are written, each at its offset, in any order.
protocol DumpOutput: AnyObject {
  /// - Throws: ``ImageError`` when the system does not take the bytes.
  /// - Precondition: the bytes end before 2^63.
  func write(_ bytes: Span<UInt8>, at offset: UInt64) throws(ImageError)

  /// Makes the file as long as its last byte, which may be one that was left out.
  func finish(byteCount: UInt64) throws(ImageError)
}

/// The dump itself.
final class PlainDumpOutput: DumpOutput {
  private let file: OutputFile

  init(file: OutputFile) { self.file = file }

  func write(_ bytes: Span<UInt8>, at offset: UInt64) throws(ImageError) {
    try file.write(bytes, at: offset)
  }

  func finish(byteCount: UInt64) throws(ImageError) {
    if byteCount > file.byteCount { try file.skip(byteCount: byteCount - file.byteCount) }
  }
}

/// A flattened stream of it.
final class FlattenedDumpOutput: DumpOutput {
  private let file: OutputFile

  init(file: OutputFile) { self.file = file }

  func write(_ bytes: Span<UInt8>, at offset: UInt64) throws(ImageError) {
    guard !bytes.isEmpty else { return }
    try start()
    try file.write(record(Int64(offset), Int64(bytes.count)))
    try file.write(bytes)
  }

  func finish(byteCount: UInt64) throws(ImageError) {
    try start()
    try file.write(record(-1, -1))
  }

  private func start() throws(ImageError) {
    guard file.byteCount == 0 else { return }
    var header = ByteWriter(byteCount: FlattenedStream.headerByteCount)
    for (index, byte) in FlattenedStream.magic.enumerated() { header.put(byte, at: UInt64(index)) }
    header.put(UInt64(1).byteSwapped, at: FlattenedStream.typeOffset)
    header.put(UInt64(1).byteSwapped, at: FlattenedStream.versionOffset)
    try file.write(header.bytes)
  }

  private func record(_ offset: Int64, _ byteCount: Int64) -> [UInt8] {
    var record = ByteWriter(byteCount: FlattenedStream.recordByteCount)
    record.put(offset.byteSwapped, at: 0)
    record.put(byteCount.byteSwapped, at: 8)
    return record.bytes
  }
}

/// Bytes that follow each other in a dump, collected into large writes.
final class DumpStream {
  private let output: any DumpOutput
  private var buffer: [UInt8] = []
  private var start: UInt64
  /// Where the next byte goes.
  var offset: UInt64 { start + UInt64(buffer.count) }

  init(_ output: any DumpOutput, at offset: UInt64) {
    self.output = output
    start = offset
    buffer.reserveCapacity(Self.limit + (1 << 16))
  }

  private static let limit = 1 << 18

  func append(_ bytes: Span<UInt8>) throws(ImageError) {
    if bytes.count >= Self.limit {
      try flush()
      try output.write(bytes, at: start)
      start += UInt64(bytes.count)
      return
    }
    buffer.append(copying: bytes)
    if buffer.count >= Self.limit { try flush() }
  }

  func append(_ bytes: [UInt8]) throws(ImageError) { try append(bytes.span) }

  func flush() throws(ImageError) {
    var pending: [UInt8] = []
    swap(&pending, &buffer)
    try output.write(pending.span, at: start)
    start += UInt64(pending.count)
    // Its room is used again.
    pending.removeAll(keepingCapacity: true)
    swap(&pending, &buffer)
  }
}
