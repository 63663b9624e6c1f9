import IOMMUFormats

extension RegisterPage {
  /// The window of a VT-d unit, from ``VTd/registerMap`` and the capability registers.
  init(_ configuration: RemappingUnitConfiguration) {
    let values: [UInt64: UInt64] = [
      VTd.RegisterOffset.version: UInt64(configuration.version.rawValue),
      VTd.RegisterOffset.capability: configuration.capability.rawValue,
      VTd.RegisterOffset.extendedCapability: configuration.extendedCapability.rawValue,
    ]
    self.init(
      VTd.registerMap.filter { configuration.has($0.requirement) }.flatMap { register in
        configuration.places(of: register).map { place in
          // Three registers say what the unit is.
          Placed(
            register.format, at: place, reset: register.place == .at(place) ? values[place] : nil)
        }
      })
  }

  /// Whether an access is one that the manual defines, inside the window.
  ///
  /// Accesses of 4 bytes at multiples of 4 and of 8 bytes at multiples of 8 are; any other reads as
  /// zero and writes nothing (*assumed*: the manual leaves it undefined).
  func allows(_ offset: UInt64, byteCount width: Int) -> Bool {
    (width == 4 || width == 8) && offset % UInt64(width) == 0 && offset < byteCount
  }
}
