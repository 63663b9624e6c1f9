import CIOMMU
import IOMMUFormats

/// What is behind a handle: which class, by a number that is a part of the handle.
enum HandleKind: UInt8 {
  case memory = 1
  case machine, tables, unit, port
  // One class for each memory, so that translating asks for no dynamic type; the first has a table of
  // handles to itself: HANDLE_KIND_FLAT_TRANSLATOR.
  case flatTranslator = 6
  case calledTranslator, imageTranslator

  var text: String {
    switch self {
    case .memory: "a memory"
    case .machine: "a machine"
    case .tables: "tables"
    case .unit: "a unit"
    case .port: "a port"
    case .flatTranslator, .calledTranslator, .imageTranslator: "a translator"
    }
  }
}

/// An object that C holds by a handle.
protocol Handled: AnyObject {
  static var kind: HandleKind { get }
}

/// C's way to write a handle: a number in the shape of a pointer.
public typealias Handle = OpaquePointer

@inline(__always)
func bits(_ handle: Handle?) -> UInt64 { UInt64(UInt(bitPattern: handle)) }

/// Hands an object out.
///
/// - Throws: When there are 65,535 already.
func makeHandle<Object: Handled>(_ object: Object) throws -> Handle {
  let reference = Unmanaged.passRetained(object)
  let handle = handle_make(reference.toOpaque(), Object.kind.rawValue)
  guard handle != 0, let pointer = Handle(bitPattern: UInt(handle)) else {
    reference.release()
    throw CallError.memory("65,535 objects are the most there can be: free some")
  }
  return pointer
}

/// The object of a handle.
///
/// - Throws: When the handle is none of its kind that is valid.
func object<Object: Handled>(_ handle: Handle?, as _: Object.Type = Object.self) throws -> Object {
  let bits = bits(handle)
  guard handle_kind(bits) == Object.kind.rawValue, let reference = handle_object(bits)
  else { throw badHandle(handle, Object.kind) }
  return Unmanaged<Object>.fromOpaque(reference).takeUnretainedValue()
}

func badHandle(_ handle: Handle?, _ wanted: HandleKind) -> CallError {
  let bits = bits(handle)
  let found: String
  if bits == 0 {
    found = "the handle is null"
  } else if let kind = HandleKind(rawValue: handle_kind(bits)),
    handle_object(bits) != nil
  {
    found = "the handle is that of \(kind.text)"
  } else {
    found = "\(hexadecimal(bits)) is no handle, or one that was freed"
  }
  return CallError(
    status: iommu_status(IOMMU_ERROR_HANDLE), text: "\(found): give that of \(wanted.text)")
}

/// Gives an object back; nothing happens for null.
func free(_ handle: Handle?, _ kinds: HandleKind...) -> iommu_status {
  call {
    guard let handle else { return }
    let bits = bits(handle)
    guard kinds.contains(where: { $0.rawValue == handle_kind(bits) }),
      let reference = handle_take(bits)
    else { throw badHandle(handle, kinds[0]) }
    Unmanaged<AnyObject>.fromOpaque(reference).release()
  }
}

/// Stores the handle of an object that `make` makes.
func create<Object: Handled>(
  _ place: UnsafeMutablePointer<Handle?>?, _ name: StaticString, _ make: () throws -> Object
) -> iommu_status {
  call {
    let place = try require(place, name)
    place.pointee = try makeHandle(try make())
  }
}
