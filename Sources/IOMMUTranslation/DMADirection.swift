/// Which way data moves in a mapping, seen from the device as the DMA API sees it.
public enum DMADirection: Sendable, CaseIterable, Hashable {
  /// The device reads memory.
  case toDevice
  /// The device writes memory.
  case fromDevice
  /// Both.
  case bidirectional
}
