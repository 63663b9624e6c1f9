import FoundationEssentials
import IOMMUFormats
import IOMMUImages

/// A line of a trace as the decoder reads it: the kind first, then only that kind's fields.
struct TraceLine: Decodable {
  var sequence: UInt64
  var action: TraceEvent.Action

  init(from decoder: any Decoder) throws {
    let fields = TraceFields(container: try decoder.container(keyedBy: TraceKey.self))
    sequence = try fields.integer(.seq)
    let kind = try fields.text(.ev)
    switch kind {
    case "phase": action = .phase(try fields.text(.name))
    case "mmio": action = .register(try fields.registerAccess())
    case "pci": action = .configuration(try fields.configurationAccess())
    case "mem": action = .memory(try fields.memoryStore())
    case "call": action = .call(try fields.call())
    case "ret": action = .ret(try fields.ret())
    case "wbinvd": action = .cacheFlush
    case "bootmem_low":
      action = .tableAllocation(try fields.address(.pa), byteCount: try fields.integer(.size))
    case "alloc_pages", "ioremap", "note", "set_memory_uc", "set_memory_np", "init_memory_mapping",
      "memblock_reserve":
      action = .housekeeping(kind)
    default: throw fields.error(.ev, quoted(kind) + " is no event that is known")
    }
  }
}

/// The keys of all events; those of no use to an IOMMU are not read.
enum TraceKey: String, CodingKey {
  case seq, ev, name, op, chip, bbar, offset, reg, width, value, bdf, pa, count, bytes, fn, dev
  case len, dir, iova, bus, nents, mapped, ret, pages, size
  case processorValue = "cpu_value"
  case busBytes = "bus_bytes"
  case bigEndianValue = "be_value"
  case allZero = "all_zero"
  case fillBytes = "fill_bytes"
  case pageStart = "pg_start"
}

/// The fields of one line, with the errors that name the field.
struct TraceFields {
  let container: KeyedDecodingContainer<TraceKey>

  func error(_ key: TraceKey, _ found: String) -> DecodingError {
    .dataCorruptedError(forKey: key, in: container, debugDescription: found)
  }

  func text(_ key: TraceKey) throws -> String { try container.decode(String.self, forKey: key) }

  /// A number that traces write in decimal.
  func integer(_ key: TraceKey) throws -> UInt64 {
    try container.decode(UInt64.self, forKey: key)
  }

  /// A number that traces write as a string in hexadecimal with 0x.
  func hexadecimal(_ key: TraceKey) throws -> UInt64 {
    let text = try text(key)
    guard text.utf8.starts(with: "0x".utf8), let value = Notation.printed(text) else {
      throw error(key, quoted(text) + " is no hexadecimal number of at most 64 bits with 0x")
    }
    return value
  }

  func address(_ key: TraceKey) throws -> PhysicalAddress {
    let value = try hexadecimal(key)
    guard value < MachineFile.addressLimit else {
      throw error(key, "a physical address has at most 52 bits")
    }
    return PhysicalAddress(value)
  }

  func optionally<Value>(_ key: TraceKey, _ read: (TraceKey) throws -> Value) throws -> Value? {
    container.contains(key) ? try read(key) : nil
  }

  func requester(_ key: TraceKey) throws -> Requester {
    let text = try text(key)
    guard let requester = Requester(text) else {
      throw error(key, quoted(text) + " is not a PCI function, such as 0000:01:02.0")
    }
    return requester
  }

  /// Bytes in hexadecimal, two digits each, without 0x.
  func byteString(_ key: TraceKey, count: Int) throws -> [UInt8] {
    let digits = Array(try text(key).utf8)
    let problem = error(key, "is not \(count) bytes in hexadecimal")
    guard digits.count == 2 * count else { throw problem }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let high = hexadecimalDigit(digits[index]),
        let low = hexadecimalDigit(digits[index + 1])
      else { throw problem }
      bytes.append(UInt8(high << 4 | low))
    }
    return bytes
  }

  /// A width in bytes out of those that exist.
  func width(_ widths: [UInt64]) throws -> Int {
    let width = try integer(.width)
    guard widths.contains(width) else { throw error(.width, "\(width) bytes is no width") }
    return Int(width)
  }

  /// A value of at most `byteCount` bytes.
  func value(_ key: TraceKey, byteCount: Int) throws -> UInt64 {
    let value = try hexadecimal(key)
    guard byteCount == 8 || value >> UInt64(8 * byteCount) == 0 else {
      throw error(key, "is wider than \(byteCount) bytes")
    }
    return value
  }
}

// MARK: Events

extension TraceFields {
  func registerAccess() throws -> RegisterAccess {
    let operation = try text(.op)
    let widths = ["b": 1, "w": 2, "l": 4, "q": 8]
    let byteCount = try width([1, 2, 4, 8])
    guard operation.hasPrefix("read") || operation.hasPrefix("write"),
      widths[String(operation.suffix(1))] == byteCount
    else {
      throw error(.op, quoted(operation) + " is no access of \(byteCount) bytes")
    }
    let chip = try integer(.chip)
    guard chip < 32 else { throw error(.chip, "\(chip) is no number of a chip") }
    let bytes = try byteString(.busBytes, count: byteCount)
    return RegisterAccess(
      isWrite: operation.hasPrefix("write"), byteCount: byteCount, chip: Int(chip),
      base: try address(.bbar), offset: try hexadecimal(.offset), name: try text(.reg),
      processorValue: try value(.processorValue, byteCount: byteCount),
      busValue: bytes.reduce(0) { $0 << 8 | UInt64($1) },
      value: try value(.bigEndianValue, byteCount: byteCount))
  }

  func configurationAccess() throws -> ConfigurationAccess {
    let operation = try text(.op)
    guard operation == "read" || operation == "write" else {
      throw error(.op, quoted(operation) + " is neither read nor write")
    }
    let byteCount = try width([1, 2, 4])
    let offset = try hexadecimal(.offset)
    guard offset < 4096 else { throw error(.offset, "lies outside configuration space") }
    let bytes = try optionally(.busBytes) { try byteString($0, count: byteCount) }
    return ConfigurationAccess(
      isWrite: operation == "write", function: try requester(.bdf), offset: offset,
      byteCount: byteCount, value: try value(.value, byteCount: byteCount),
      busValue: bytes.map { $0.reversed().reduce(0) { $0 << 8 | UInt64($1) } })
  }

  func memoryStore() throws -> MemoryStore {
    let address = try address(.pa)
    let wordByteCount = try width([4, 8])
    let wordCount = try integer(.count)
    guard 1...(1 << 26) ~= wordCount else { throw error(.count, "\(wordCount) words") }
    let content: MemoryStore.Content
    if try optionally(.allZero, { try container.decode(Bool.self, forKey: $0) }) == true {
      content = .zeros
    } else if container.contains(.fillBytes) {
      content = .fill(try byteString(.fillBytes, count: wordByteCount))
    } else {
      content = .bytes(try byteString(.bytes, count: wordByteCount * Int(wordCount)))
    }
    return MemoryStore(
      address: address, wordByteCount: wordByteCount, wordCount: Int(wordCount), content: content)
  }

  func call() throws -> TraceCall {
    let name = try text(.fn)
    guard let function = TraceCall.Function(rawValue: name) else {
      throw error(.fn, quoted(name) + " is no call that is known")
    }
    var call = TraceCall(function: function)
    if function == .bindAGP || function == .unbindAGP {
      call.number = try integer(.pageStart)
      call.count = try integer(.pages)
      return call
    }
    call.device = try requester(.dev)
    switch function {
    case .mapPage:
      call.physical = try address(.pa)
      call.count = try integer(.len)
      call.direction = try direction()
    case .mapSegments:
      call.number = try integer(.nents)
      call.direction = try direction()
    case .allocateCoherent:
      call.count = try integer(.len)
    default:
      call.iova = try iova()
      call.count = try integer(.len)
      call.direction = try container.contains(.dir) ? direction() : nil
    }
    return call
  }

  func ret() throws -> TraceReturn {
    let name = try text(.fn)
    guard let function = TraceCall.Function.allCases.first(where: { $0.returnName == name }) else {
      throw error(.fn, quoted(name) + " is no call that is known")
    }
    var ret = TraceReturn(function: function)
    switch function {
    case .mapPage:
      ret.iova = try iova()
    case .allocateCoherent:
      ret.iova = try iova()
      ret.physical = try address(.pa)
    case .mapSegments:
      ret.result = try container.decode(Int64.self, forKey: .mapped)
    case .bindAGP:
      ret.result = try container.decode(Int64.self, forKey: .ret)
    default: break
    }
    return ret
  }

  private func direction() throws -> TraceDirection {
    let name = try text(.dir)
    guard let direction = TraceDirection(rawValue: name) else {
      throw error(.dir, quoted(name) + " is no direction")
    }
    return direction
  }

  private func iova() throws -> IOVA {
    IOVA(try hexadecimal(container.contains(.bus) ? .bus : .iova))
  }
}
