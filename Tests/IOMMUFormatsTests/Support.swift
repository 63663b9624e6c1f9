import IOMMUFormats
@_exported import IOMMUTestSupport

/// Reads an entry from its bytes the way hardware does: out of memory.
func entry<Entry: TableEntry>(_: Entry.Type, from bytes: [UInt8]) throws -> Entry {
  let memory = try FlatMemory(byteCount: 4096)
  bytes.withUnsafeBytes { _ = memory.write($0, at: PhysicalAddress(0x40)) }
  return Entry(from: memory, at: PhysicalAddress(0x40))!
}

/// What lies in memory after the entry was stored.
func stored<Entry: TableEntry>(_ entry: Entry) throws -> [UInt8] {
  let memory = try FlatMemory(byteCount: 4096)
  entry.store(to: memory, at: PhysicalAddress(0x40))
  return memory.bytes(at: PhysicalAddress(0x40), count: Entry.byteCount)!
}

extension TableEntry {
  /// The field that the manual calls `name`, by the entry's own list.
  static func field(_ name: String, _ variant: Variant) -> BitField {
    fields(variant).first { $0.name.description == name }!
  }
}
