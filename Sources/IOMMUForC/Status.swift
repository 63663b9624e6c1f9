import CIOMMU
import IOMMUFormats
import IOMMUImages
import IOMMUTranslation

/// Why a call from C does not do what it was asked for: what `iommu_last_error()` tells.
struct CallError: Error {
  let status: iommu_status
  let text: String

  static func argument(_ text: String) -> Self {
    Self(status: iommu_status(IOMMU_ERROR_ARGUMENT), text: text)
  }
  static func unsupported(_ text: String) -> Self {
    Self(status: iommu_status(IOMMU_ERROR_UNSUPPORTED), text: text)
  }
  static func memory(_ text: String) -> Self {
    Self(status: iommu_status(IOMMU_ERROR_MEMORY), text: text)
  }
  static func notFound(_ text: String) -> Self {
    Self(status: iommu_status(IOMMU_ERROR_NOT_FOUND), text: text)
  }
  /// A callback asked to stop.
  static var stopped: Self {
    Self(status: iommu_status(IOMMU_STOPPED), text: "a callback has asked to stop")
  }

  /// What the libraries below throw, as a status.
  init(_ error: any Error) {
    switch error {
    case let error as CallError: self = error
    case let error as MemoryError: self = .memory("\(error)")
    case let error as TablesError:
      self.init(
        status: iommu_status(
          error.isUnsupported ? IOMMU_ERROR_UNSUPPORTED : IOMMU_ERROR_TABLES), text: "\(error)")
    case let error as ImageError:
      self.init(status: iommu_status(IOMMU_ERROR_INPUT), text: "\(error)")
    case let error as UnservedSegment: self = .notFound("\(error)")
    // Registers that contradict each other, and text that names nothing.
    default: self = .argument("\(error)")
    }
  }

  init(status: iommu_status, text: String) {
    self.status = status
    self.text = text
  }
}

extension TablesError {
  fileprivate var isUnsupported: Bool { if case .notSupported = self { true } else { false } }
}

/// Runs a call from C; what it throws becomes a status and the thread's last error.
func call(_ body: () throws -> Void) -> iommu_status {
  do {
    try body()
    return iommu_status(IOMMU_OK)
  } catch {
    let error = CallError(error)
    error.text.withCString(handle_note)
    return error.status
  }
}

// MARK: Arguments

/// - Throws: When the pointer is null.
func require<Pointee>(
  _ pointer: UnsafeMutablePointer<Pointee>?, _ name: StaticString
) throws -> UnsafeMutablePointer<Pointee> {
  guard let pointer else {
    throw CallError.argument("\(name) is null: give a place for the result")
  }
  return pointer
}

/// The string behind a pointer.
func string(_ pointer: UnsafePointer<CChar>?, _ name: StaticString) throws -> String {
  guard let pointer else { throw CallError.argument("\(name) is null: give a text") }
  guard let text = String(validatingCString: pointer) else {
    throw CallError.argument("\(name) is no UTF-8")
  }
  return text
}

/// The elements of an array that C passes as a pointer and a count.
func elements<Element>(
  _ pointer: UnsafePointer<Element>?, _ count: Int, _ name: StaticString
) throws -> UnsafeBufferPointer<Element> {
  // C's counts are unsigned: those of half the address space and more arrive as negative ones.
  guard count >= 0, count <= Int.max / max(1, MemoryLayout<Element>.stride) else {
    throw CallError.argument("there cannot be so many of \(name)")
  }
  guard pointer != nil || count == 0 else {
    throw CallError.argument("\(name) is null, and not empty")
  }
  return UnsafeBufferPointer(start: pointer, count: count)
}

/// A structure that a caller has filled, whose first member is its size. Members that a later version may
/// have must be zero: they would ask for what is not here.
///
/// - Parameters:
///   - pointer: May be null, which is a structure of zeros.
///   - name: What the structure is called.
func structure<Value>(_ pointer: UnsafePointer<Value>?, _ name: StaticString) throws -> Value {
  let size = MemoryLayout<Value>.size
  return try withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { copy in
    let raw = UnsafeMutableRawBufferPointer(copy)
    raw.initializeMemory(as: UInt8.self, repeating: 0)
    guard let pointer else { return copy[0] }
    let given = UnsafeRawPointer(pointer).loadUnaligned(as: Int.self)
    guard given >= size, given <= 1 << 16 else {
      throw CallError.argument(
        "\(name) has size \(UInt(bitPattern: given)), and is \(size) bytes long: set its size to sizeof"
      )
    }
    let bytes = UnsafeRawBufferPointer(start: pointer, count: given)
    guard bytes[size...].allSatisfy({ $0 == 0 }) else {
      throw CallError.unsupported(
        "\(name) asks for something that this version does not have: bytes from \(size) on are not zero"
      )
    }
    raw.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<size]))
    return copy[0]
  }
}

/// - Throws: When a member that later versions may give a meaning to is not zero.
func requireZero(_ reserved: some FixedWidthInteger) throws {
  guard reserved == 0 else {
    throw CallError.unsupported(
      "a reserved member is \(hexadecimal(UInt64(truncatingIfNeeded: reserved))): set it to 0")
  }
}

/// - Throws: When the caller's structure, whose first member says how long it is, is shorter than it has to be.
func checkSize<Value>(of pointer: UnsafeMutablePointer<Value>, _ name: StaticString) throws {
  let size = MemoryLayout<Value>.size
  let given = UnsafeRawPointer(pointer).loadUnaligned(as: Int.self)
  guard given >= size else {
    throw CallError.argument(
      "\(name) has size \(UInt(bitPattern: given)), and is \(size) bytes long: set its size to sizeof"
    )
  }
}

/// Stores a structure for the caller.
func store<Value>(
  _ value: Value, to pointer: UnsafeMutablePointer<Value>?, _ name: StaticString
) throws {
  let pointer = try require(pointer, name)
  try checkSize(of: pointer, name)
  pointer.pointee = value
}

extension Access {
  init(_ access: iommu_access) throws {
    switch Int(access) {
    case IOMMU_READ: self = .read
    case IOMMU_WRITE: self = .write
    default:
      throw CallError.argument("access is \(access): IOMMU_READ and IOMMU_WRITE are possible")
    }
  }
}

extension PCI.Function {
  init(_ device: iommu_device) throws {
    guard device >> 48 == 0 else {
      throw CallError.argument(
        "\(hexadecimal(device)) is no device: iommu_pci() makes one of segment, bus, device and function"
      )
    }
    self.init(
      segment: UInt32(device >> 16), Requester(rawValue: UInt16(truncatingIfNeeded: device)))
  }

  var number: iommu_device { UInt64(segment) << 16 | UInt64(requester.rawValue) }
}

extension PASID {
  /// - Returns: `nil` for `IOMMU_NO_PASID`.
  static func given(_ pasid: UInt32) throws -> PASID? {
    guard pasid != .max else { return nil }
    guard pasid >> 20 == 0 else {
      throw CallError.argument("PASID \(pasid) has more than 20 bits: IOMMU_NO_PASID is for none")
    }
    return PASID(pasid)
  }
}

extension Range<PhysicalAddress> {
  init(_ range: iommu_range) throws {
    guard let made = Range(start: PhysicalAddress(range.address), byteCount: range.size) else {
      throw CallError.argument(
        "a range of \(hexadecimal(range.size)) bytes from \(hexadecimal(range.address)) on ends past all "
          + "addresses")
    }
    self = made
  }
}

// MARK: Version

@_cdecl("iommu_abi_version")
public func abiVersion() -> UInt32 { UInt32(IOMMU_ABI_VERSION) }

@_cdecl("iommu_version")
public func version() -> UnsafePointer<CChar> { constantText(Release.version) }

@_cdecl("iommu_last_error")
public func lastError() -> UnsafePointer<CChar>? { handle_noted() }

@_cdecl("iommu_status_text")
public func statusText(_ status: iommu_status) -> UnsafePointer<CChar> {
  let text: StaticString =
    switch Int(status) {
    case IOMMU_OK: "done"
    case IOMMU_ERROR_ARGUMENT: "wrong argument"
    case IOMMU_ERROR_HANDLE: "no such handle"
    case IOMMU_ERROR_MEMORY: "memory is not to be had"
    case IOMMU_ERROR_INPUT: "input cannot be read"
    case IOMMU_ERROR_TABLES: "refused by the tables"
    case IOMMU_ERROR_UNSUPPORTED: "not supported"
    case IOMMU_ERROR_NOT_FOUND: "not found"
    case IOMMU_STOPPED: "stopped by a callback"
    default: "unknown status"
    }
  return constantText(text)
}

/// The bytes of a literal.
func constantText(_ text: StaticString) -> UnsafePointer<CChar> {
  UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}
