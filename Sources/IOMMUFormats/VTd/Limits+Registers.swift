extension VTd.Limits {
  /// CAP_REG that states these limits, all its other bits zero; for writing a machine down.
  ///
  /// The host address width and the version are not in it: those come from the DMAR table and
  /// VER_REG.
  ///
  /// - Precondition: the register can say them: a guest width of 1 to 64 bits, widths in five bits,
  ///   an even number of domain-id bits, 4 to 16.
  public var capability: VTd.Capability {
    precondition(
      1...64 ~= maximumGuestAddressWidth && 4...16 ~= domainIDBits && domainIDBits % 2 == 0,
      "limits that a capability register can state")
    var register = VTd.Capability(rawValue: 0)
    register[VTd.Capability.nd] = UInt64(domainIDBits - 4) / 2
    register[VTd.Capability.sagaw] = UInt64(supportedWidths)
    register[VTd.Capability.mgaw] = UInt64(maximumGuestAddressWidth - 1)
    register[VTd.Capability.sslps] = (has2MiBPages ? 1 : 0) | (has1GiBPages ? 2 : 0)
    for (feature, field) in VTd.Features.inCapability where features.contains(feature) {
      register[field] = 1
    }
    return register
  }

  /// ECAP_REG that states these limits, all its other bits zero.
  public var extendedCapability: VTd.ExtendedCapability {
    var register = VTd.ExtendedCapability(rawValue: 0)
    register[VTd.ExtendedCapability.dt] = hasDeviceTLBs ? 1 : 0
    register[VTd.ExtendedCapability.pt] = hasPassThrough ? 1 : 0
    register[VTd.ExtendedCapability.sc] = hasSnoopControl ? 1 : 0
    register[VTd.ExtendedCapability.pss] = UInt64(pasidBits - 1)
    for (feature, field) in VTd.Features.inExtendedCapability where features.contains(feature) {
      register[field] = 1
    }
    return register
  }
}
