import IOMMUFormats

/// A module that the kernel had loaded.
public struct KernelModule: Hashable, Sendable {
  public var name: String
  /// Where its code begins, and how many bytes its code and what lies beside it take.
  public var address: UInt64?
  public var byteCount: UInt64?
  /// Where its BTF is, in bytes; `nil` where it has none.
  public var types: Range<UInt64>?
}

extension LinuxKernel {
  /// The modules from the one that was loaded last, and what of them could not be read.
  public func modules() throws(KernelReadError) -> (
    modules: [KernelModule], problems: [KernelReadError]
  ) {
    let types = try self.types
    let list = try types.list(at: try address(of: "modules"), of: "module", through: "list")
    var problems = list.problems
    var modules: [KernelModule] = []
    let btf = typesOfModules(&problems)
    for module in list.elements {
      do throws(KernelReadError) {
        // A kernel that is loading one may not have named it yet.
        var found = KernelModule(name: try module.string("name"))
        // Since 6.4 there is an array of areas, code first.
        let area = module.has("core_layout") ? "core_layout" : nil
        if let area {
          found.address = try module.unsigned("\(area).base")
          found.byteCount = try module.unsigned("\(area).size")
        } else {
          let first = try types.memory.quadword(at: try module.address(of: "mem"))
          found.address = first
          if let element = types.btf.element(of: try types.field("mem", of: module.type).type) {
            let part = KernelObject(
              types: types, address: try module.address(of: "mem"), type: element)
            found.address = try part.unsigned("base")
            found.byteCount = try part.unsigned("size")
          }
        }
        found.types = btf[module.address]
        modules.append(found)
      } catch {
        problems.append(error)
      }
    }
    return (modules, problems)
  }

  /// Where modules' types are, by the address of the module: the kernel keeps a copy of its own.
  private func typesOfModules(_ problems: inout [KernelReadError]) -> [UInt64: Range<UInt64>] {
    var found: [UInt64: Range<UInt64>] = [:]
    do throws(KernelReadError) {
      let types = try self.types
      let list = try types.list(
        at: try address(of: "btf_modules"), of: "btf_module", through: "list")
      problems += list.problems
      for entry in list.elements {
        let module = try entry.unsigned("module")
        let btf = try entry.object(at: "btf")
        let start = try btf.unsigned("data")
        let size = try btf.unsigned("data_size")
        let (end, overflow) = start.addingReportingOverflow(size)
        if !overflow, size <= UInt64(BTF.byteCountLimit) { found[module] = start..<end }
      }
    } catch {
      switch error {
      // A kernel without BTF of modules.
      case .noSymbol, .noType: break
      default: problems.append(error)
      }
    }
    return found
  }

  /// The types of a module: its own, behind the kernel's.
  ///
  /// - Returns: `nil` for a module that has none.
  public func types(of module: KernelModule) throws(KernelReadError) -> KernelTypes? {
    guard let place = module.types else { return nil }
    let bytes = try memory.bytes(at: place.lowerBound, count: place.count)
    return KernelTypes(memory, btf: try BTF(bytes, of: try types.btf))
  }
}
