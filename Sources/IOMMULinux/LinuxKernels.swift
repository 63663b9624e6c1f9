import IOMMUFormats
import IOMMUImages

/// The kernels in a dump: the one that died and, where its memory is there, the one that was started to dump
/// it.
public struct LinuxKernels {
  /// What a kernel is to the crash.
  public enum Role: String, Sendable, CaseIterable {
    /// The only one, or the one that was there first.
    case old
    /// The one in the memory that the other had kept for it.
    case capture
  }

  public private(set) var all: [(role: Role, kernel: LinuxKernel)] = []
  /// What of the search is to be known.
  public private(set) var notices: [String] = []

  /// Pages that are looked at where nothing says where a second kernel would be: 1 GiB.
  static let pageLimit: UInt64 = 1 << 18

  /// The kernel of the notes; all memory is looked through for one where they have none. A second one is
  /// looked for in what the first has kept for it.
  ///
  /// - Parameters:
  ///   - image: The dump: its notes, and all memory that it has.
  ///   - known: The kernel of the notes, where somebody has made it already; its symbols and types are
  ///     read once then.
  ///   - progress: Hears of a search: how many bytes of how many are done.
  /// - Throws: ``KernelReadError`` when there is none that can be read.
  public init(
    in image: MemoryImage, known: LinuxKernel? = nil,
    progress: (_ done: UInt64, _ of: UInt64) -> Void = { _, _ in }
  ) throws(KernelReadError) {
    try self.init(notes: image.vmcoreInfo, known: known, in: image, progress: progress)
  }

  /// - Parameter notes: What the dump's notes have.
  init(
    notes: VMCoreInfo?, known: LinuxKernel? = nil, in memory: any PhysicalMemory,
    progress: (_ done: UInt64, _ of: UInt64) -> Void = { _, _ in }
  ) throws(KernelReadError) {
    var kernels: [LinuxKernel] = []
    var failure: KernelReadError?
    func add(_ info: VMCoreInfo, _ origin: LinuxKernel.Origin) {
      do throws(KernelReadError) {
        let kernel = try LinuxKernel(info, from: origin, in: memory)
        if kernels.contains(where: { $0.isSame(as: kernel) }) { return }
        // What an earlier kernel has left in memory that is used again is no kernel.
        if origin == .notes || kernel.isBorneOut { kernels.append(kernel) }
      } catch {
        failure = failure ?? error
      }
    }
    if let known {
      kernels.append(known)
    } else if let notes {
      add(notes, .notes)
    }
    var searched: [Range<PhysicalAddress>]?
    if let first = kernels.first {
      let reserved = (try? KernelResources(first))?.ranges(named: "Crash kernel")
      if let reserved {
        searched = reserved
      } else if memory.storedPageCount > Self.pageLimit {
        searched = []
        notices.append("nothing says where a capture kernel would be: none was looked for")
      }
    } else {
      notices.append("no VMCOREINFO in the notes: memory was looked through for it")
    }
    if searched != [] {
      for found in VMCoreInfoSearch(in: memory, ranges: searched, progress: progress).found {
        add(found.info, .memory(found.address))
      }
    }
    guard !kernels.isEmpty else {
      throw failure ?? .damaged("no VMCOREINFO in the notes, and none in the memory that is there")
    }
    for kernel in kernels { all.append((.old, kernel)) }
    mark()
  }

  /// Which kernel lives in another's crash range.
  private mutating func mark() {
    guard all.count > 1 else { return }
    let reserved = all.map {
      (try? KernelResources($0.kernel))?.ranges(named: "Crash kernel") ?? []
    }
    for index in all.indices {
      let root = all[index].kernel.memory.tables.root
      let isInside = reserved.indices.contains { other in
        other != index && reserved[other].contains { $0.contains(root) }
      }
      if isInside { all[index].role = .capture }
    }
    all.sort { $0.role == .old && $1.role == .capture }
  }

  /// The kernel of a role.
  public subscript(role: Role) -> LinuxKernel? { all.first { $0.role == role }?.kernel }
}
