import IOMMUFormats
import IOMMULinux
import IOMMURule
import IOMMUTranslation

extension IOMMUState {
  /// What each allocator holds whose numbers a device uses: those of domains that devices are attached to.
  public var allocators: [RuleEvidence.Allocator] {
    domains.compactMap { domain in
      guard let iova = domain.iova else { return nil }
      var users: [PCI.Function] = []
      for device in devices where device.attachment == .domain(domain.address) {
        if let requester = device.requester, !users.contains(requester) { users.append(requester) }
      }
      guard !users.isEmpty else { return nil }
      let held = iova.states.compactMap { pages, state in
        iova.bytes(pages).map { bytes in
          let numbers = IOVA(bytes.lowerBound)..<IOVA(bytes.upperBound)
          return switch state {
          case .taken: RuleEvidence.Allocator.Held(numbers, .taken)
          case .cached: RuleEvidence.Allocator.Held(numbers, .cached)
          case .waiting: RuleEvidence.Allocator.Held(numbers, .waiting)
          }
        }
      }
      return RuleEvidence.Allocator(
        devices: users, root: domain.root, held: held, isWhole: iova.problems.isEmpty)
    }
  }
}

extension RuleEvidence.TablePages {
  /// More pages of tables than any machine has.
  private static let pageLimit = 1 << 20

  /// Asks the page allocators of a dump's kernels for each page that a table in force lies in.
  ///
  /// - Parameters:
  ///   - machine: Whose tables, and the memory that was kept for the capture kernel.
  ///   - memory: Memory that holds the tables.
  ///   - primary: The kernel that died.
  ///   - capture: The one that was started to dump it; its own memory is all that it knows.
  /// - Complexity: O(entries of all tables in force).
  public init(
    of machine: Machine, in memory: some PhysicalMemory, primary: LinuxKernel,
    capture: LinuxKernel?
  ) {
    self.init(uses: [:])
    var known: [Bool: Result<KernelPages, KernelReadError>] = [:]
    func pages(isCapture: Bool) throws(KernelReadError) -> KernelPages {
      if let known = known[isCapture] { return try known.get() }
      let result: Result<KernelPages, KernelReadError>
      do throws(KernelReadError) {
        guard let kernel = isCapture ? capture : primary else {
          throw .damaged("the memory of the capture kernel, which is not in the dump")
        }
        result = .success(try KernelPages(kernel))
      } catch {
        result = .failure(error)
      }
      known[isCapture] = result
      return try result.get()
    }
    var lookCount = 0
    for region in Annotator(machine, in: memory).regions where region.range.byteCount > 0 {
      let first = region.range.lowerBound.rawValue >> 12
      let last = (region.range.upperBound.rawValue - 1) >> 12
      for page in first...last where uses[page] == nil {
        lookCount += 1
        guard lookCount <= Self.pageLimit else {
          unknown = unknown ?? "there are more of them than are looked at"
          return
        }
        let address = PhysicalAddress(page << 12)
        let isCapture = machine.crashKernel.contains { $0.contains(address) }
        do throws(KernelReadError) {
          let use = try pages(isCapture: isCapture).use(of: address)
          if let known = RuleEvidence.PageUse(use) {
            uses[page] = known
          } else if uses[first] == .allocated {
            // A table of several pages was given out as one.
            uses[page] = .allocated
          } else {
            unknown =
              unknown ?? "nobody holds the page at \(address), and it is in no free block of pages"
          }
        } catch {
          unknown = unknown ?? "of the kernel's array of struct page: \(error)"
        }
      }
    }
  }
}

extension RuleEvidence.PageUse {
  /// - Returns: `nil` for a page of which it is not known whether it is in use.
  fileprivate init?(_ use: KernelPages.Use) {
    switch use {
    case .free: self = .free
    case .slab: self = .slab
    case .user: self = .user
    case .offline: self = .offline
    case .allocated: self = .allocated
    case .uncounted: return nil
    }
  }
}
