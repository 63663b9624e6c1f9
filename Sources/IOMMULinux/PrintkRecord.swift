import IOMMUImages

/// A message of the kernel's log.
public struct PrintkRecord: Hashable, Sendable {
  /// The number of the message since the kernel began, if the buffer has one.
  public var sequence: UInt64?
  /// Since the kernel began; `nil` where the buffer has none.
  public var nanoseconds: UInt64?
  /// 0 is the kernel's own.
  public var facility: UInt8
  /// 0, an emergency, to 7, debugging; `nil` where the buffer has none.
  public var level: UInt8?
  /// The text without a newline at its end; it may have several lines.
  public var text: String
  /// The thread (bit 31 clear) or the processor (set) that wrote it; `nil` where the kernel keeps none.
  public var caller: UInt32?
  /// What the message is about, as the driver core says it: `pci` and `+pci:0000:00:03.0`.
  public var subsystem: String?
  public var device: String?

  public init(
    sequence: UInt64? = nil, nanoseconds: UInt64? = nil, facility: UInt8 = 0, level: UInt8? = nil,
    text: String, caller: UInt32? = nil, subsystem: String? = nil, device: String? = nil
  ) {
    self.sequence = sequence
    self.nanoseconds = nanoseconds
    self.facility = facility
    self.level = level
    self.text = text
    self.caller = caller
    self.subsystem = subsystem
    self.device = device
  }
}

extension PrintkRecord {
  /// Seconds with six digits behind the point, in 12 columns at least; `nil` when the message has no time.
  package var stamp: String? {
    guard let nanoseconds else { return nil }
    let seconds = String(nanoseconds / 1_000_000_000)
    let microseconds = String(nanoseconds % 1_000_000_000 / 1000)
    return String(repeating: " ", count: max(0, 5 - seconds.count)) + seconds + "."
      + String(repeating: "0", count: 6 - microseconds.count) + microseconds
  }
}

/// A kernel's log as its memory has it.
public struct PrintkLog: Sendable {
  /// The kinds of buffer that kernels have had.
  public enum Kind: String, Sendable {
    /// Descriptors and text apart: 5.10 and later.
    case ring
    /// Records with headers: 3.5 to 5.9.
    case records
    /// Characters: before 3.5.
    case characters
  }

  public var kind: Kind
  /// From the oldest on.
  public var records: [PrintkRecord] = []
  /// Messages that are there without their text: it has been written over.
  public var lostCount = 0
  /// What could not be read, each with the reason.
  public var problems: [String] = []

  /// Reads the log that VMCOREINFO leads to.
  ///
  /// - Throws: ``KernelReadError`` when there is none, or its head cannot be read.
  /// - Complexity: O(*n*) in the messages that the buffer has room for.
  public init(_ info: VMCoreInfo, in memory: KernelMemory) throws(KernelReadError) {
    if info.symbol("prb") != nil {
      self = try PrintkRing(info, in: memory).log()
    } else if info.symbol("log_first_idx") != nil {
      self = try PrintkBuffer(info, in: memory).log()
    } else if info.symbol("log_buf") != nil {
      self = try PrintkCharacters(info, in: memory).log()
    } else {
      throw .noKey("SYMBOL(prb) or SYMBOL(log_buf)")
    }
  }

  init(kind: Kind) { self.kind = kind }

  /// More than any buffer of the kernel has: `log_buf_len=` takes 2 GiB at most.
  static let byteCountLimit: UInt64 = 1 << 31
  /// Letters that all messages together may have: no more than the dump has room for, however often its
  /// page tables lead to the same page.
  static func letterLimit(_ memory: KernelMemory) -> UInt64 {
    let (count, overflow) = memory.memory.storedPageCount.multipliedReportingOverflow(by: 4096)
    return overflow ? byteCountLimit : max(1 << 20, min(count, byteCountLimit))
  }

  /// What is said where there are more.
  static let tooMany = "the log has more text than the dump has pages for: the rest is left out"

  /// Problems of one kind that are told singly.
  static let problemLimit = 8
}

extension LinuxKernel {
  /// The kernel's log.
  ///
  /// - Throws: as ``PrintkLog/init(_:in:)``.
  public func log() throws(KernelReadError) -> PrintkLog { try PrintkLog(info, in: memory) }
}
