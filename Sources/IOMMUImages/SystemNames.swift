import IOMMUFormats

/// Which kernel a dump is of: the six names of `uname`.
struct SystemNames: Equatable, Sendable {
  var system = ""
  var node = ""
  var release = ""
  var version = ""
  /// `x86_64`, `aarch64`.
  var machine = ""
  var domain = ""

  /// In the order of the kernel's structure and of a kdump-compressed header.
  static let fields: [any WritableKeyPath<SystemNames, String> & Sendable] = [
    \.system, \.node, \.release, \.version, \.machine, \.domain,
  ]
  /// Bytes of a name, the zero behind it among them.
  static let nameByteCount: UInt64 = 65

  /// What machines are called, by their number in an ELF header.
  ///
  /// Source: System V application binary interface, "e_machine"; the names are Linux's.
  private static let machines: [(number: UInt16, name: String)] = [
    (3, "i686"), (21, "ppc64le"), (62, "x86_64"), (183, "aarch64"), (243, "riscv64"),
    (258, "loongarch64"),
  ]

  /// The machine's number in an ELF header, that of x86-64 where the name says none.
  var elfMachine: UInt16 {
    Self.machines.first { $0.name == machine }?.number ?? ELF64.machineX86_64
  }

  static func machine(_ number: UInt16) -> String? {
    machines.first { $0.number == number }?.name
  }

  /// Letters up to a zero; `nil` for anything else.
  static func name(_ bytes: [UInt8]) -> String? {
    let letters = bytes.prefix { $0 != 0 }
    guard letters.count < bytes.count, letters.allSatisfy({ 0x20..<0x7f ~= $0 }) else { return nil }
    return String(decoding: letters, as: UTF8.self)
  }

  /// The same with words where nothing is known: readers take a header without a name for none. What a
  /// kernel itself says where nobody has set a name is `(none)`.
  func filled() -> SystemNames {
    var names = self
    if names.system.isEmpty { names.system = "Linux" }
    if names.machine.isEmpty { names.machine = "x86_64" }
    if names.release.isEmpty { names.release = "(unknown)" }
    if names.version.isEmpty { names.version = "(unknown)" }
    if names.node.isEmpty { names.node = "(none)" }
    if names.domain.isEmpty { names.domain = "(none)" }
    return names
  }
}

extension MemoryImage {
  /// What the dump says of its kernel: its header, or the kernel's own structure in memory. Names that
  /// neither has are empty.
  var systemNames: SystemNames {
    if let kdump = paged as? KdumpMemory { return kdump.files[0].header.names }
    let information = vmcoreInfo
    var names = namesInMemory(information) ?? SystemNames()
    names.release = names.release.isEmpty ? information?["OSRELEASE"] ?? "" : names.release
    if format == .elfCore, let number = files[0].integer(UInt16.self, at: ELF64.Header.machine) {
      names.machine = SystemNames.machine(number) ?? names.machine
    }
    return names
  }

  /// The structure `init_uts_ns` of the kernel, where VMCOREINFO says how its addresses are mapped and
  /// the release there is the one that VMCOREINFO has.
  ///
  /// Source: Linux `Documentation/admin-guide/kdump/vmcoreinfo.rst`: `SYMBOL(init_uts_ns)`,
  /// `OFFSET(uts_namespace.name)`, `NUMBER(phys_base)` of x86-64, `NUMBER(kimage_voffset)` of arm64.
  private func namesInMemory(_ information: VMCoreInfo?) -> SystemNames? {
    func hexadecimal(_ key: String) -> UInt64? {
      information?[key].flatMap { text in
        Notation.hexadecimal(utf8: text.utf8)
      }
    }
    guard let symbol = hexadecimal("SYMBOL(init_uts_ns)"),
      let offset = information?["OFFSET(uts_namespace.name)"].flatMap({ UInt64($0) }),
      let release = information?["OSRELEASE"]
    else { return nil }
    // Differences of virtual addresses, which may be less than zero.
    let base: UInt64
    if let start = information?["NUMBER(phys_base)"].flatMap({ Int64($0) }) {
      base = symbol &- 0xffff_ffff_8000_0000 &+ UInt64(bitPattern: start)
    } else if let start = hexadecimal("NUMBER(kimage_voffset)") {
      base = symbol &- start
    } else {
      return nil
    }
    var names = SystemNames()
    var place = base &+ offset
    for field in SystemNames.fields {
      let bytes = self.bytes(
        at: PhysicalAddress(place), count: Int(SystemNames.nameByteCount))
      guard let name = bytes.flatMap(SystemNames.name) else { return nil }
      names[keyPath: field] = name
      place &+= SystemNames.nameByteCount
    }
    return names.release == release ? names : nil
  }
}
