import IOMMUFormats
import IOMMUTranslation

/// Places where an ACPI table's signature stands, and what of them is one.
struct FirmwareTableSearch {
  private var places: [PhysicalAddress] = []
  private var isFull = false
  /// Bytes of tables that may still be added up: real ones have a few hundred, and a page may hold
  /// hundreds of headers that each claim 64 KiB.
  private var bytesLeft = 1 << 22

  var isExhausted: Bool { isFull || bytesLeft <= 0 }

  mutating func add(_ address: PhysicalAddress) {
    if places.count < KeptPages.limit { places.append(address) } else { isFull = true }
  }

  /// The places with a header of a length that can be, and all its bytes in memory, as far as the budget
  /// goes; with a score for what every table has in common.
  mutating func candidates(
    of kind: TableCandidate.Kind, signature: String, headerByteCount: Int,
    in memory: some PhysicalMemory, _ judge: (inout TableCandidate, [UInt8]) -> Void
  ) -> [TableCandidate] {
    memory.forgetting(places).compactMap { address in
      guard !isExhausted,
        let length = ACPI.TableHeader.statedByteCount(at: address, in: memory),
        headerByteCount...65_536 ~= length, let bytes = memory.bytes(at: address, count: length)
      else { return nil }
      bytesLeft -= length
      var candidate = TableCandidate(
        kind: kind, address: address, byteCount: UInt64(length), score: 20,
        reasons: ["signature \(signature), \(countText(length, "byte"))"])
      if bytes.reduce(0, { $0 &+ $1 }) == 0 {
        candidate.score += 50
        candidate.reasons.append("its bytes add up to zero")
      }
      judge(&candidate, bytes)
      return candidate
    }
  }
}

/// Reads the tables of firmware that a search found: all have to say the same.
///
/// - Parameters:
///   - name: What people call it: `DMAR table`.
///   - parse: The table; an error's words say why not.
///   - listsUnits: Whether there is anything in it.
/// - Returns: The one table with its place; without one, what is to be said.
func agreeing<Firmware: Equatable>(
  on tables: [TableCandidate], _ name: String, in memory: some PhysicalMemory,
  parse: ([UInt8]) throws -> Firmware, listsUnits: (Firmware) -> Bool
) -> (found: (address: PhysicalAddress, table: Firmware)?, remarks: [String]) {
  var found: [(address: PhysicalAddress, table: Firmware)] = []
  var refused: [String] = []
  for candidate in tables {
    guard let bytes = memory.bytes(at: candidate.address, count: Int(candidate.byteCount)) else {
      continue
    }
    do {
      let table = try parse(bytes)
      if listsUnits(table), !found.contains(where: { $0.table == table }) {
        found.append((candidate.address, table))
      }
    } catch {
      refused.append("not taking the \(name) at \(candidate.address): \(error)")
    }
  }
  guard found.count > 1 else { return (found.first, found.isEmpty ? refused : []) }
  let places = listText(found.map { "\($0.address)" })
  return (nil, ["not taking the \(name)s at \(places): they differ"])
}
