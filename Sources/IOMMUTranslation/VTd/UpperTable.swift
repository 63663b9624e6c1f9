import IOMMUFormats

extension VTd {
  /// A table above the page tables: root, contexts, PASID directory or PASIDs.
  package struct UpperTable: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
      case root
      /// The contexts of a bus, from a device and function on: half of them in scalable mode.
      case contexts(bus: UInt8, firstDeviceFunction: UInt8)
      case pasidDirectory(Requester)
      /// 64 address spaces of a device.
      case pasids(Requester, first: PASID)
    }

    package var kind: Kind
    package var start: PhysicalAddress
    package var byteCount: UInt64
    package var isScalable: Bool

    /// The place that walk observers see for its entries.
    package var place: UpperTableKind {
      switch kind {
      case .root: VTd.rootTable
      case .contexts: VTd.contextTable
      case .pasidDirectory: VTd.pasidDirectory
      case .pasids: VTd.pasidTable
      }
    }
  }
}
