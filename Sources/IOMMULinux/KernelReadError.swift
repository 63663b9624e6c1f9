import IOMMUFormats

/// Why something of a kernel cannot be read.
public enum KernelReadError: Error, Hashable, Sendable {
  /// A pointer that leads nowhere.
  case null
  /// The kernel's page tables map nothing there.
  case unmapped(UInt64)
  /// The dump does not have it.
  ///
  /// - Parameters:
  ///   - address: The kernel's address, or 0 for a page table.
  ///   - physical: Where it would be.
  case absent(address: UInt64, physical: PhysicalAddress, Presence)
  /// VMCOREINFO lacks a line.
  case noKey(String)
  /// The kernel has no symbol of this name.
  case noSymbol(String)
  /// The kernel has no structure of this name.
  case noType(String)
  case noMember(String, of: String)
  /// A list, a tree or a chain that has no end, or more elements than anything of its kind.
  case endless(String, address: UInt64)
  /// What was read cannot be.
  case damaged(String)
}

extension KernelReadError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .null: "a null pointer"
    case .unmapped(let address): "the kernel maps nothing at \(hexadecimal(address))"
    case .absent(0, let physical, let presence):
      "physical \(physical) is \(presence.whereabouts)"
    case .absent(let address, let physical, let presence):
      "\(hexadecimal(address)), physical \(physical), is \(presence.whereabouts)"
    case .noKey(let key): "VMCOREINFO has no \(key)"
    case .noSymbol(let name): "the kernel has no symbol \(name)"
    case .noType(let name): "the kernel has no struct \(name)"
    case .noMember(let path, let type): "struct \(type) has no \(path)"
    case .endless(let what, let address): "\(what) at \(hexadecimal(address)) has no end"
    case .damaged(let what): what
    }
  }
}

extension KernelReadError {
  /// What the dump lacks, and not what is wrong with the kernel or strange to this reader.
  public var isAbsence: Bool {
    if case .absent = self { true } else { false }
  }
}
