extension VTd {
  /// A scalable-mode context entry: where a device's PASID directory lies, and what it may ask.
  ///
  /// Thirty-two bytes, 128 to a 4 KiB context table, by the lower seven bits of device and
  /// function. Specification: Intel VT-d 9.4.
  @frozen
  public struct ScalableContextEntry: WideEntry {
    public var quadwords: Quadwords<4>
    @inlinable public init(quadwords: Quadwords<4>) { self.quadwords = quadwords }
  }
}

extension VTd.ScalableContextEntry {
  public static var name: StaticString { "scalable-mode context entry" }
  public static var specification: StaticString { "Intel VT-d 9.4" }
  public static var exampleVariants: [VTd.Limits] { VTd.Limits.examples }

  @inlinable static var p: BitField { BitField(0...0, "P") }
  @inlinable static var fpd: BitField { BitField(1...1, "FPD") }
  @inlinable static var dte: BitField { BitField(2...2, "DTE") }
  @inlinable static var paside: BitField { BitField(3...3, "PASIDE") }
  @inlinable static var pre: BitField { BitField(4...4, "PRE") }
  @inlinable static var hpte: BitField { BitField(5...5, "HPTE") }
  @inlinable static var eptr: BitField { BitField(6...6, "EPTR") }
  @inlinable static var pdts: BitField { BitField(9...11, "PDTS") }
  @inlinable static var pasiddirptr: BitField { BitField(12...63, "PASIDDIRPTR", .address) }
  @inlinable static var ridPASID: BitField { BitField(64...83, "RID_PASID") }
  @inlinable static var ridPriv: BitField { BitField(84...84, "RID_PRIV") }

  public static func fields(_ limits: VTd.Limits) -> [BitField] {
    let width = limits.hostAddressWidth
    return [
      p, fpd, limits.hasDeviceTLBs ? dte : .reserved(dte.bits),
      limits.allows(.pasids, paside), limits.allows(.pageRequests, pre),
      limits.allows(.permissionTables, hpte), limits.allows(.translatedRequestPASIDs, eptr),
      .reserved(7...8), pdts, pasiddirptr.limited(toBit: width - 1),
      .reserved(width...63), limits.allows(.requesterPASID, ridPASID),
      limits.allows(.requesterPrivilege, ridPriv), .reserved(85...127), .reserved(128...191),
      .reserved(192...255),
    ]
  }

  /// A present entry.
  ///
  /// - Parameters:
  ///   - pasidDirectory: The directory's first byte.
  ///   - directorySizeCode: PDTS: the directory has 2^(code + 7) entries; 0 to 7.
  ///   - requesterPASID: RID_PASID: what requests without PASID are translated as.
  ///   - allowsDeviceTLB: DTE: translation requests and translated ones pass as well.
  ///   - allowsPASIDs: PASIDE: requests may carry a PASID.
  /// - Precondition: `pasidDirectory` is 4 KiB aligned.
  public init(
    pasidDirectory: PhysicalAddress, directorySizeCode: UInt64 = 0,
    requesterPASID: PASID = PASID(0), allowsDeviceTLB: Bool = false, allowsPASIDs: Bool = false
  ) {
    precondition(
      pasidDirectory.isAligned(to: 4096), "a PASID directory lies at a multiple of 4 KiB")
    self.init(low: pasidDirectory.rawValue, high: 0)
    self[Self.p] = 1
    self[Self.dte] = allowsDeviceTLB ? 1 : 0
    self[Self.paside] = allowsPASIDs ? 1 : 0
    self[Self.pdts] = directorySizeCode
    self[Self.ridPASID] = UInt64(requesterPASID.rawValue)
  }

  /// P: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { self[Self.p] != 0 }
  /// FPD: faults of this device are not recorded. Counts also in an entry that is not present.
  @inlinable public var suppressesFaultReports: Bool { self[Self.fpd] != 0 }
  /// DTE: the device may send translation requests and translated requests.
  @inlinable public var allowsDeviceTLB: Bool { self[Self.dte] != 0 }
  /// PASIDE: requests may carry a PASID.
  @inlinable public var allowsPASIDs: Bool { self[Self.paside] != 0 }
  /// PRE: the device may send page requests.
  @inlinable public var allowsPageRequests: Bool { self[Self.pre] != 0 }
  /// HPTE: translated requests are checked against the host permission table.
  @inlinable public var checksPermissionTable: Bool { self[Self.hpte] != 0 }
  /// EPTR: translated requests may carry a PASID.
  @inlinable public var allowsTranslatedPASIDs: Bool { self[Self.eptr] != 0 }
  /// PASIDs below this have an entry in the directory: 2^(PDTS + 13).
  @inlinable public var pasidLimit: UInt32 { 1 &<< (UInt32(self[Self.pdts]) &+ 13) }
  /// The PASID directory's first byte.
  @inlinable
  public var pasidDirectory: PhysicalAddress { PhysicalAddress(addressBits(Self.pasiddirptr)) }
  /// RID_PASID: what requests without PASID are translated as.
  @inlinable public var requesterPASID: PASID { PASID(UInt32(self[Self.ridPASID])) }
  /// RID_PRIV: requests without PASID are of supervisor privilege.
  @inlinable public var requesterIsSupervisor: Bool { self[Self.ridPriv] != 0 }

  /// Fields that are legal one by one but not together: fault 43h.
  ///
  /// PRE without DTE, RID_PASID beyond the directory, or EPTR without PASIDE.
  @inlinable
  public var isContradictory: Bool {
    allowsPageRequests && !allowsDeviceTLB || requesterPASID.rawValue >= pasidLimit
      || allowsTranslatedPASIDs && !allowsPASIDs
  }
}
