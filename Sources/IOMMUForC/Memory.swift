import CIOMMU
import Glibc
import IOMMUFormats
import IOMMUImages

/// A memory that C has a handle of.
final class CMemory: Handled {
  static var kind: HandleKind { .memory }

  enum Content {
    case flat(FlatMemory)
    case called(CalledMemory)
    case image(MemoryImage)
  }

  let content: Content

  init(_ content: Content) { self.content = content }

  /// The memory, for what is generic over all.
  var any: any PhysicalMemory {
    switch content {
    case .flat(let memory): memory
    case .called(let memory): memory
    case .image(let memory): memory
    }
  }

  /// The memory in which live units stand.
  var flat: FlatMemory {
    get throws {
      guard case .flat(let memory) = content else {
        throw CallError.unsupported(
          "a live unit reads its memory in place: give one that iommu_memory_create() or "
            + "iommu_memory_adopt() has made")
      }
      return memory
    }
  }

  var image: MemoryImage? { if case .image(let image) = content { image } else { nil } }

  /// - Throws: When something of it was lost on the way.
  func check() throws {
    switch content {
    case .flat: break
    case .called(let memory): try memory.checkStores()
    case .image(let image):
      let problems = image.problems
      guard problems.isEmpty else {
        throw CallError(
          status: iommu_status(IOMMU_ERROR_INPUT),
          text: problems.prefix(8).map(\.description).joined(separator: "\n"))
      }
    }
  }
}

/// Tells C when adopted memory is no longer used.
private final class Release {
  private let release: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?
  private let context: UnsafeMutableRawPointer?
  var isOwned = false

  init(
    _ release: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?,
    _ context: UnsafeMutableRawPointer?
  ) {
    self.release = release
    self.context = context
  }

  deinit { if isOwned { release?(context) } }
}

@_cdecl("iommu_memory_create")
public func createMemory(_ size: UInt64, _ memory: UnsafeMutablePointer<Handle?>?) -> iommu_status {
  create(memory, "memory") { CMemory(.flat(try FlatMemory(byteCount: size))) }
}

@_cdecl("iommu_memory_adopt")
public func adoptMemory(
  _ ram: UnsafePointer<iommu_ram>?, _ count: Int,
  _ release: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?,
  _ context: UnsafeMutableRawPointer?, _ memory: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  let owner = Release(release, context)
  return call {
    let place = try require(memory, "memory")
    let pieces = try elements(ram, count, "ram").map { piece in
      guard let bytes = piece.bytes, piece.size <= UInt64(Int.max) else {
        throw CallError.argument(
          "bytes of RAM at \(hexadecimal(piece.address)) are null, or more than there can be")
      }
      return (
        address: PhysicalAddress(piece.address),
        bytes: UnsafeMutableRawBufferPointer(start: bytes, count: Int(piece.size))
      )
    }
    place.pointee = try makeHandle(
      CMemory(.flat(try FlatMemory(adopting: pieces, owner: owner))))
    owner.isOwned = true
  }
}

@_cdecl("iommu_memory_create_with_calls")
public func createCalledMemory(
  _ calls: UnsafePointer<iommu_memory_calls>?, _ memory: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  call {
    let place = try require(memory, "memory")
    let called = try CalledMemory(structure(calls, "iommu_memory_calls"))
    place.pointee = try makeHandle(CMemory(.called(called)))
    called.takeOver()
  }
}

@_cdecl("iommu_memory_open")
public func openMemory(
  _ paths: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int,
  _ memory: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  create(memory, "memory") {
    let paths = try elements(paths, count, "paths").map { try string($0, "a path") }
    guard !paths.isEmpty else { throw CallError.argument("paths is empty: name a file") }
    return CMemory(.image(try MemoryImage(paths: paths)))
  }
}

@_cdecl("iommu_memory_check")
public func checkMemory(_ memory: Handle?) -> iommu_status {
  call { try object(memory, as: CMemory.self).check() }
}

@_cdecl("iommu_memory_read")
public func readMemory(
  _ memory: Handle?, _ address: UInt64, _ bytes: UnsafeMutableRawPointer?, _ size: Int,
  _ done: UnsafeMutablePointer<Int>?
) -> iommu_status {
  call {
    let memory = try object(memory, as: CMemory.self)
    let done = try require(done, "done")
    guard size >= 0, bytes != nil || size == 0 else {
      throw CallError.argument("bytes is null, or size more than there can be")
    }
    done.pointee = memory.any.copy(
      from: PhysicalAddress(address), to: UnsafeMutableRawBufferPointer(start: bytes, count: size))
  }
}

extension PhysicalMemory {
  fileprivate func copy(
    from address: PhysicalAddress, to buffer: UnsafeMutableRawBufferPointer
  ) -> Int {
    buffer.isEmpty ? 0 : copyBytes(from: address, to: buffer)
  }
}

@_cdecl("iommu_memory_write")
public func writeMemory(
  _ memory: Handle?, _ address: UInt64, _ bytes: UnsafeRawPointer?, _ size: Int,
  _ done: UnsafeMutablePointer<Int>?
) -> iommu_status {
  call {
    let memory = try object(memory, as: CMemory.self)
    let done = try require(done, "done")
    guard size >= 0, bytes != nil || size == 0 else {
      throw CallError.argument("bytes is null, or size more than there can be")
    }
    let bytes = UnsafeRawBufferPointer(start: bytes, count: size)
    let place = PhysicalAddress(address)
    done.pointee =
      switch memory.content {
      case .flat(let memory): bytes.isEmpty ? 0 : memory.write(bytes, at: place)
      case .called(let memory): bytes.isEmpty ? 0 : memory.write(bytes, at: place)
      case .image: throw CallError.unsupported("nothing can be written to a dump")
      }
  }
}

@_cdecl("iommu_memory_ranges")
public func memoryRanges(
  _ memory: Handle?, _ ranges: UnsafeMutablePointer<iommu_range>?, _ capacity: Int,
  _ count: UnsafeMutablePointer<Int>?
) -> iommu_status {
  call {
    let memory = try object(memory, as: CMemory.self)
    let count = try require(count, "count")
    _ = try elements(UnsafePointer(ranges), capacity, "ranges")
    let backed = memory.any.backedRanges
    for (index, range) in backed.prefix(capacity).enumerated() {
      ranges?[index] = iommu_range(address: range.lowerBound.rawValue, size: range.byteCount)
    }
    count.pointee = backed.count
  }
}

@_cdecl("iommu_memory_free")
public func freeMemory(_ memory: Handle?) -> iommu_status { free(memory, .memory) }
