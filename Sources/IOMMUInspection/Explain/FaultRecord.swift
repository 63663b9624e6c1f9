import IOMMUFormats
import IOMMUTranslation

/// A DMA fault as a kernel has logged it.
public struct FaultRecord: Sendable, Hashable {
  /// What kind of hardware told of it, and its own words.
  public enum Source: Sendable, Hashable {
    /// Intel VT-d: DMA remapping, with the manual's reason.
    case vtd(VTd.FaultReason)
    /// Intel VT-d: interrupt remapping; the address is the index of the interrupt's entry.
    case vtdInterrupt(VTd.FaultReason)
    /// AMD-Vi: the event's name, and its flags where it has any.
    case amdvi(event: String, flags: AMDViFlags?)
    /// IBM Calgary or CalIOC2: the two registers that hold an error. No address is kept.
    case calgary(csr: UInt32, plssr: UInt32)
  }

  public var source: Source
  /// `nil` where the log does not say: a Calgary bridge names a bus only.
  public var device: PCI.Function?
  /// The PHB's bus number, for Calgary.
  public var bus: UInt8?
  public var pasid: UInt32?
  /// `nil` where hardware keeps none.
  public var iova: IOVA?
  /// `nil` where the log does not say.
  public var access: Access?

  public init(
    source: Source, device: PCI.Function? = nil, bus: UInt8? = nil, pasid: UInt32? = nil,
    iova: IOVA? = nil, access: Access? = nil
  ) {
    self.source = source
    self.device = device
    self.bus = bus
    self.pasid = pasid
    self.iova = iova
    self.access = access
  }
}

/// The flags of an AMD-Vi page fault, as the kernel prints them: event bits 59:48.
public struct AMDViFlags: OptionSet, Sendable, Hashable {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// GN: the address is a guest's, with a PASID.
  public static let isGuest = AMDViFlags(rawValue: 0x001)
  /// NX: the device wanted to execute.
  public static let isExecute = AMDViFlags(rawValue: 0x002)
  /// US: a user's request.
  public static let isUser = AMDViFlags(rawValue: 0x004)
  /// I: an interrupt, not memory.
  public static let isInterrupt = AMDViFlags(rawValue: 0x008)
  /// PR: the page was present.
  public static let isPresent = AMDViFlags(rawValue: 0x010)
  /// RW: a write.
  public static let isWrite = AMDViFlags(rawValue: 0x020)
  /// PE: permission was missing; counts with PR.
  public static let isPermission = AMDViFlags(rawValue: 0x040)
  /// RZ: a reserved bit was set; counts with PR.
  public static let isReserved = AMDViFlags(rawValue: 0x080)
  /// TR: a device asked for a translation.
  public static let isTranslation = AMDViFlags(rawValue: 0x100)

  /// Why the page was refused, in a few words.
  public var meaning: String {
    if contains(.isInterrupt) { return "interrupt that is not remapped" }
    guard contains(.isPresent) else { return "page not present" }
    if contains(.isPermission) { return "page without this permission" }
    if contains(.isReserved) { return "reserved bit set in an entry on the way" }
    return "level or page size that no entry may have"
  }
}

/// The same fault, logged once or many times.
public struct LoggedFault: Sendable {
  public var record: FaultRecord
  /// The line in the log where it appears first, from 1.
  public var line: Int
  /// How often it appears.
  public var count: Int
}
