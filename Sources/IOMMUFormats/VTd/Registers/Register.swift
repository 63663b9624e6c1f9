/// A memory-mapped register of a VT-d remapping unit. Specification: Intel VT-d 11.2.
public typealias VTdRegister = HardwareRegister

extension VTd {
  /// A field of a register and what software may do to it. Specification: Intel VT-d 11.2.
  public typealias RegisterField = IOMMUFormats.RegisterField
}

extension VTd.Capability: VTdRegister {
  public static var registerFields: [VTd.RegisterField] {
    fields(OnlyVariant()).map { .readOnly($0) }
  }
}

extension VTd.ExtendedCapability: VTdRegister {
  public static var registerFields: [VTd.RegisterField] {
    fields(OnlyVariant()).map { .readOnly($0) }
  }
}

extension VTd.GlobalStatus: VTdRegister {
  public static var registerFields: [VTd.RegisterField] {
    fields(OnlyVariant()).map { .readOnly($0) }
  }
}

extension VTd.RootTableAddress: VTdRegister {
  public static var registerFields: [VTd.RegisterField] {
    fields(OnlyVariant()).map {
      $0.use == .reserved ? .reserved($0.bits) : .readWrite($0)
    }
  }
}
