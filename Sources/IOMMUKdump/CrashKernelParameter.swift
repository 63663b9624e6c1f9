import IOMMUFormats

/// Where the crash kernel's memory is to be, as `crashkernel=` or `/proc/iomem` says it.
///
/// Source: Linux `Documentation/admin-guide/kdump/kdump.rst`, "crashkernel syntax".
package struct CrashKernelParameter: Hashable, Sendable {
  /// A size for machines with so much RAM.
  package struct Step: Hashable, Sendable {
    /// Bytes of RAM of the machine, half-open; the last may be open.
    var ram: Range<UInt64>
    var byteCount: UInt64
  }

  package enum Form: Hashable, Sendable {
    /// A place: whole pages.
    case range(Range<PhysicalAddress>)
    /// A size, and the kernel finds the place: `128M`.
    case size(UInt64)
    /// The size follows from the machine's RAM: `1G-4G:192M,4G-64G:256M`, perhaps with a place.
    case steps([Step], start: PhysicalAddress?)
    /// Above 4 GiB: `192M,high`.
    case high(UInt64)
    /// Below 4 GiB beside one above: `72M,low`; 0 for none.
    case low(UInt64)
  }

  package var form: Form
  /// As it was written.
  package var text: String

  package init(_ form: Form, text: String) {
    self.form = form
    self.text = text
  }

  /// Reads a parameter, with `crashkernel=` in front or without.
  package init(_ text: String) throws(NotationError) {
    self.text = text
    let prefix = "crashkernel="
    form = try Self.form(text.hasPrefix(prefix) ? text.dropFirst(prefix.count) : text[...])
  }

  private static func form(_ text: Substring) throws(NotationError) -> Form {
    guard !text.hasPrefix("auto") else {
      throw NotationError(
        "with auto the distribution chose the size; give it in bytes, such as 256M, or the line of "
          + "/proc/iomem")
    }
    if let (size, option) = Notation.halves(text, ",") {
      switch option {
      case "high": return .high(try wholePages(try Notation.size(size)))
      case "low":
        let byteCount = try Notation.size(size)
        return .low(byteCount == 0 ? 0 : try wholePages(byteCount))
      case "cma":
        throw NotationError(
          "cma pages belong to programs until the crash, and nothing says where they are; leave "
            + "them out and give the other part")
      case _ where !text.contains(":"):
        throw NotationError("'\(option)' is none of high, low and cma")
      default: break
      }
    }
    // The name behind a line of /proc/iomem has a colon too, after a blank.
    if text.contains(":"), Notation.halves(text, " : ") == nil {
      guard let (list, start) = Notation.halves(text, "@") else {
        return .steps(try steps(text), start: nil)
      }
      return .steps(try steps(list), start: PhysicalAddress(try Notation.address(start)))
    }
    if ["@", "+", "-", "..<"].contains(where: { Notation.halves(text, $0) != nil }) {
      let range = try Notation.range(text, of: PhysicalAddress.self)
      guard range.lowerBound.isAligned(to: 4096), range.upperBound.isAligned(to: 4096) else {
        throw NotationError(
          "\(range.text) is not a multiple of 4 KiB, and crash kernels have whole pages; addresses "
            + "are hexadecimal, decimal behind 0n")
      }
      return .range(range)
    }
    return .size(try wholePages(try Notation.size(text)))
  }

  private static func wholePages(_ byteCount: UInt64) throws(NotationError) -> UInt64 {
    guard byteCount > 0, byteCount % 4096 == 0 else {
      throw NotationError(
        "\(byteCount) bytes are no whole pages; give a size such as 128M, a multiple of 4K")
    }
    return byteCount
  }

  /// Reads `START-[END]:SIZE`, several with commas between them.
  private static func steps(_ text: Substring) throws(NotationError) -> [Step] {
    var steps: [Step] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      guard let (ram, size) = Notation.halves(part, ":"),
        let (first, last) = Notation.halves(ram, "-")
      else {
        throw NotationError(
          "'\(part)' is no size for a machine's RAM, such as 1G-4G:192M or 4G-:256M")
      }
      let start = try Notation.size(first)
      let end = last.isEmpty ? .max : try Notation.size(last)
      guard start < end else { throw NotationError("'\(ram)' ends before it starts") }
      steps.append(Step(ram: start..<end, byteCount: try wholePages(try Notation.size(size))))
    }
    return steps
  }

  /// Whether the machine's RAM decides what it means.
  package var needsRAM: Bool {
    if case .steps = form { return true }
    return false
  }

  /// The parameter without the machine's RAM in it: a list becomes the size, or the range, for
  /// `byteCount` bytes of RAM.
  ///
  /// The kernel rounds what firmware leaves it up to 128 MiB first, so that a machine of 4 GiB has
  /// 4 GiB. Source: Linux `kernel/crash_reserve.c`.
  func resolved(ramByteCount byteCount: UInt64) throws(SetUpError) -> Form {
    guard case .steps(let steps, let start) = form else { return form }
    let unit: UInt64 = 128 << 20
    let (rounded, overflow) = byteCount.addingReportingOverflow(unit - 1)
    let ram = overflow ? byteCount : rounded / unit * unit
    guard let step = steps.first(where: { $0.ram.contains(ram) }) else {
      throw .noCrashKernelForRAM(text, byteCount: ram)
    }
    guard let start else { return .size(step.byteCount) }
    guard let range = Range(start: start, byteCount: step.byteCount) else {
      throw .crashKernelOutsideRAM(start..<PhysicalAddress(.max), ram: [])
    }
    return .range(range)
  }
}

/// All parameters of one command line.
package struct CrashKernelRequest: Hashable, Sendable {
  /// What has a place.
  package private(set) var ranges: [Range<PhysicalAddress>] = []
  /// What has none: bytes that the kernel finds a place for.
  private(set) var byteCount: UInt64?
  /// Bytes above 4 GiB.
  private(set) var high: UInt64?
  /// Bytes below 4 GiB beside those above; `nil` for as many as the kernel chooses.
  private(set) var low: UInt64?

  /// - Throws: ``SetUpError`` when the parameters do not go together, or name no size for a machine
  ///   with `ramByteCount` bytes of RAM.
  package init(
    _ parameters: [CrashKernelParameter], ramByteCount: UInt64
  ) throws(SetUpError) {
    for parameter in parameters {
      switch try parameter.resolved(ramByteCount: ramByteCount) {
      case .range(let range): ranges.append(range)
      case .size(let size): try Self.set(&byteCount, size, parameter)
      case .high(let size): try Self.set(&high, size, parameter)
      case .low(let size): try Self.set(&low, size, parameter)
      case .steps: preconditionFailure("a resolved parameter has no list")
      }
    }
    if high == nil, low != nil { throw .lowCrashKernelAlone }
    // The kernel passes over ",high" beside any other size.
    if high != nil, byteCount != nil || !ranges.isEmpty { throw .highCrashKernelBesideOthers }
  }

  private static func set(
    _ value: inout UInt64?, _ size: UInt64, _ parameter: CrashKernelParameter
  ) throws(SetUpError) {
    guard value == nil else { throw .crashKernelTwice(parameter.text) }
    value = size
  }

  /// The ranges on a machine with this RAM, those without a place where Linux would put them; the
  /// first is where the capture kernel runs.
  package func ranges(
    in ram: [Range<PhysicalAddress>]
  ) throws(SetUpError) -> [Range<PhysicalAddress>] {
    var result = ranges
    if let byteCount { result.append(try MemoryMap.place(crashKernelOf: byteCount, in: ram)) }
    if let high {
      let range = try MemoryMap.place(highCrashKernelOf: high, in: ram)
      result.append(range)
      let low = low ?? MemoryMap.automaticLowCrashKernel(bouncePool: 64 << 20)
      if range.upperBound > MemoryMap.pciHole.upperBound, low > 0 {
        result.append(try MemoryMap.place(crashKernelOf: low, in: ram))
      }
    }
    return result
  }

  /// The ranges on the machine of a dump, ascending. Nothing is placed there, since nobody knows
  /// where its kernel found room: what has no place is the one range of its size among `candidates`.
  ///
  /// - Returns: `nil` when no candidate, or more than one, has the size.
  package func ranges(of candidates: [Range<PhysicalAddress>]) -> [Range<PhysicalAddress>]? {
    // The kernel's own choice of a low part is no size that could be looked for.
    guard high == nil || low != nil else { return nil }
    var result = ranges
    for size in [byteCount, high, low] {
      guard let size, size > 0 else { continue }
      let fitting = candidates.filter { $0.byteCount == size }
      guard fitting.count == 1 else { return nil }
      result.append(fitting[0])
    }
    return result.sorted { $0.lowerBound < $1.lowerBound }
  }
}

/// The holes in the RAM that a dump lists.
///
/// A capture kernel writes all RAM of the dead kernel into its dump, and leaves out the range that
/// it lives in itself.
package struct CrashKernelHoles: Hashable, Sendable {
  /// Between two pieces of RAM; half-open, ascending.
  package let all: [Range<PhysicalAddress>]

  package init(_ all: [Range<PhysicalAddress>]) { self.all = all }

  /// Those that look like a crash kernel's: multiples of 2 MiB, as kernels of all architectures
  /// place them, and not the hole for PCI devices, in which I/O APICs are.
  package var likely: [Range<PhysicalAddress>] {
    all.filter {
      $0.lowerBound.isAligned(to: 2 << 20) && $0.upperBound.isAligned(to: 2 << 20)
        && !$0.contains(PhysicalAddress(0xfec0_0000))
    }
  }

  /// The crash kernel's ranges, where nothing else can be meant: one likely hole below 4 GiB, or one
  /// above, or one on each side. Empty when there is none, or more than that.
  package var crashKernel: [Range<PhysicalAddress>] {
    let (low, high) = (
      likely.filter { $0.lowerBound < MemoryMap.pciHole.upperBound },
      likely.filter { $0.lowerBound >= MemoryMap.pciHole.upperBound }
    )
    return low.count <= 1 && high.count <= 1 ? low + high : []
  }
}
