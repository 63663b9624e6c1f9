import IOMMUFormats
import IOMMUTranslation

/// What keeps a device doing DMA after the primary kernel has stopped.
public enum TrafficSource: String, Sendable, CaseIterable, Codable {
  case receiveRing = "receive ring"
  case transmitRing = "transmit ring"
  case storageCommand = "storage command"
  case statusPage = "status page"
  case usbController = "USB controller"
  case graphics = "graphics"
  case mailbox = "mailbox"
  case translatedRequests = "ATS"
  /// An address that the primary kernel never handed to the device.
  case wild = "wild"

  /// Which way its data moves.
  public var direction: DMADirection {
    switch self {
    case .transmitRing, .graphics: .toDevice
    case .usbController, .mailbox, .storageCommand: .bidirectional
    case .receiveRing, .statusPage, .translatedRequests, .wild: .fromDevice
    }
  }

  /// Bytes of one access.
  public var byteCount: UInt64 {
    switch self {
    case .receiveRing, .transmitRing: 1536
    case .storageCommand: 4096
    case .statusPage, .mailbox: 64
    case .usbController, .graphics, .translatedRequests, .wild: 64
    }
  }

  /// Milliseconds from one access to the next. *Assumed*: an idle server's order of magnitude.
  public var period: Double {
    switch self {
    case .receiveRing: 1
    case .transmitRing: 0.1
    case .storageCommand: 0.5
    case .statusPage: 100
    case .usbController: 1
    case .graphics: 0.1
    case .mailbox: 1000
    case .translatedRequests: 1
    case .wild: 1000
    }
  }

  /// Milliseconds after the crash when it ends by itself; `nil` when it does not.
  public var lasts: Double? {
    switch self {
    case .transmitRing: 5
    case .storageCommand: 3000
    case .receiveRing, .statusPage, .usbController, .graphics, .mailbox, .translatedRequests,
      .wild:
      nil
    }
  }
}

/// One stream of accesses of a device that goes on after the crash.
public struct LeftoverStream: Sendable {
  /// Letters of the matrix: what kind of number the stream uses.
  public enum Row: String, Sendable, CaseIterable, Codable {
    /// Mapped by the old kernel.
    case a
    /// Not mapped.
    case b
    /// Inside the crash kernel's range.
    case c
    /// The first that the old kernel has handed out.
    case f

    /// In a few words.
    public var meaning: String {
      switch self {
      case .a: "leftover, mapped"
      case .b: "leftover, not mapped"
      case .c: "leftover, number in crash range"
      case .f: "leftover, first number handed out"
      }
    }
  }

  public var device: Device
  public var source: TrafficSource
  /// The numbers of one access, half-open.
  public var iova: Range<IOVA>
  public var direction: DMADirection
  /// Where the accesses are meant to end; `nil` where nobody handed the number out.
  public var target: Range<PhysicalAddress>?
  /// In the matrix, the row; `nil` for streams of whole machines.
  public var row: Row?
  /// Milliseconds from one access to the next.
  public var period: Double
  /// Milliseconds after the crash when it ends by itself; `nil` when it does not.
  public var lasts: Double?
  /// The physical address that the device holds from before the crash (ATS), where it asks no unit any
  /// more.
  public var translated: PhysicalAddress?

  public init(
    device: Device, source: TrafficSource, iova: Range<IOVA>, direction: DMADirection? = nil,
    target: Range<PhysicalAddress>?, row: Row? = nil
  ) {
    self.device = device
    self.source = source
    self.iova = iova
    self.direction = direction ?? source.direction
    self.target = target
    self.row = row
    period = source.period
    lasts = source.lasts
  }
}
