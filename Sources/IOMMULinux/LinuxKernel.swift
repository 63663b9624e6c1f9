import IOMMUFormats
import IOMMUImages

/// A Linux kernel in a dump, read by nothing but what is there: VMCOREINFO leads to its page tables, to its
/// symbols and so to its types.
///
/// Symbols and types are read when they are first asked for. Not for several threads at once.
public final class LinuxKernel {
  /// Where its VMCOREINFO was found.
  public enum Origin: Hashable, Sendable {
    case notes
    case memory(PhysicalAddress)
  }

  public let info: VMCoreInfo
  public let origin: Origin
  public let memory: KernelMemory
  /// What the kernel calls itself, as `uname` says it; `nil` when its memory does not hold that.
  public let names: Names?

  /// The names of `uname` that tell kernels apart.
  public struct Names: Hashable, Sendable {
    public var node: String
    public var release: String
    public var version: String
    public var machine: String
  }

  private var knownSymbols: Result<KernelSymbols, KernelReadError>?
  private var knownTypes: Result<KernelTypes, KernelReadError>?
  private var knownOffsets: [(processor: Int, offset: UInt64)]?

  /// Opens the kernel of a VMCOREINFO.
  ///
  /// - Throws: ``KernelReadError`` when it does not say how the kernel's addresses are mapped.
  public init(
    _ info: VMCoreInfo, from origin: Origin = .notes, in memory: any PhysicalMemory
  ) throws(KernelReadError) {
    self.info = info
    self.origin = origin
    self.memory = KernelMemory(memory, tables: try KernelPageTables(info))
    names = Self.names(info, in: self.memory)
  }

  /// Source: `struct new_utsname`: six names of 65 bytes.
  private static func names(_ info: VMCoreInfo, in memory: KernelMemory) -> Names? {
    guard let symbol = info.symbol("init_uts_ns") else { return nil }
    let start = symbol &+ (info.offset("uts_namespace.name") ?? 0)
    func name(_ number: UInt64) -> String? {
      try? memory.string(at: start &+ 65 &* number, limit: 65)
    }
    guard let node = name(1), let release = name(2), let version = name(3), let machine = name(4)
    else {
      return nil
    }
    return Names(node: node, release: release, version: version, machine: machine)
  }

  /// Its memory says the release that its VMCOREINFO has: the two belong together.
  public var isBorneOut: Bool { names != nil && names?.release == info.release }

  /// Whether two are one kernel, however much of its VMCOREINFO each has: when a kernel dies, it adds the
  /// time to it.
  public func isSame(as other: LinuxKernel) -> Bool {
    memory.tables == other.memory.tables && info.symbol("_stext") == other.info.symbol("_stext")
  }

  // MARK: Symbols and types

  public var symbols: KernelSymbols {
    get throws(KernelReadError) {
      if let knownSymbols { return try knownSymbols.get() }
      let result: Result<KernelSymbols, KernelReadError>
      do throws(KernelReadError) {
        result = .success(try KernelSymbols(info, in: memory))
      } catch {
        result = .failure(error)
      }
      knownSymbols = result
      return try result.get()
    }
  }

  public var types: KernelTypes {
    get throws(KernelReadError) {
      if let knownTypes { return try knownTypes.get() }
      let result: Result<KernelTypes, KernelReadError>
      do throws(KernelReadError) {
        let start = try address(of: "__start_BTF")
        let end = try address(of: "__stop_BTF")
        guard start < end, end - start <= UInt64(BTF.byteCountLimit) else {
          throw .damaged("BTF from \(hexadecimal(start)) to \(hexadecimal(end))")
        }
        let bytes = try memory.bytes(at: start, count: Int(end - start))
        result = .success(KernelTypes(memory, btf: try BTF(bytes)))
      } catch {
        result = .failure(error)
      }
      knownTypes = result
      return try result.get()
    }
  }

  /// The address of a symbol.
  public func address(of symbol: String) throws(KernelReadError) -> UInt64 {
    guard let address = try symbols.address(of: symbol) else { throw .noSymbol(symbol) }
    return address
  }

  /// The pointer or number of 64 bits in a variable.
  public func value(of symbol: String) throws(KernelReadError) -> UInt64 {
    try memory.quadword(at: try address(of: symbol))
  }

  // MARK: What a machine has

  /// The command line that the kernel was started with.
  public func commandLine() throws(KernelReadError) -> String {
    try memory.string(at: try value(of: "saved_command_line"))
  }

  /// The processors that there may be.
  public func possibleProcessors() throws(KernelReadError) -> [Int] {
    let count = min(
      Int(clamping: (try? memory.doubleword(at: address(of: "nr_cpu_ids"))) ?? 8192), 8192)
    let words = (count + 63) / 64
    let mask = try memory.bytes(
      at: try address(of: "__cpu_possible_mask"), count: 8 * max(words, 1))
    return (0..<count).filter { mask[$0 / 8] >> UInt8($0 % 8) & 1 == 1 }
  }

  /// What has to be added to a per-cpu pointer to reach each processor's own.
  public func processorOffsets() throws(KernelReadError) -> [(processor: Int, offset: UInt64)] {
    if let knownOffsets { return knownOffsets }
    let start = try address(of: "__per_cpu_offset")
    var offsets: [(processor: Int, offset: UInt64)] = []
    for processor in try possibleProcessors() {
      offsets.append((processor, try memory.quadword(at: start &+ 8 &* UInt64(processor))))
    }
    knownOffsets = offsets
    return offsets
  }
}
