import IOMMUFormats
import IOMMUTranslation

/// Where DMA requests of devices enter a live unit: its registers and caches as they are now, its
/// tables as they lie in memory.
///
/// A remapping unit has any number of ports; a Calgary chip and the northbridges of a machine are
/// their own.
public protocol DMAPort: AnyObject {
  /// What becomes of the first piece of a request; `nil` when the unit does not stand above the
  /// requester, whose requests then pass it by.
  ///
  /// A mapped piece is as long as the answer says, an interrupt message or a fault lasts to the end
  /// of its 4 KiB page. A fault that hardware records is recorded when the call returns.
  ///
  /// - Parameters:
  ///   - request: Who asks, for which bytes, to read or to write.
  ///   - memory: The machine's memory, where the unit's tables are.
  func translate(_ request: DMARequest, in memory: FlatMemory) -> Translation?

  /// What keeps a request from passing whose address the device has translated before (PCIe ATS); `nil`
  /// when nothing does. A fault that hardware records is recorded when the call returns.
  ///
  /// - Parameters:
  ///   - request: Who asks, and for which physical address.
  ///   - memory: The machine's memory, where the unit's tables are.
  func refuses(translated request: DMARequest, in memory: FlatMemory) -> Fault?
}

extension DMAPort {
  /// Nothing: the hardware does not tell such requests from others that it lets pass.
  public func refuses(translated _: DMARequest, in _: FlatMemory) -> Fault? { nil }
}
