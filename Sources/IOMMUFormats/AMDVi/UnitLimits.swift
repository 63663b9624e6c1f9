extension AMDVi {
  /// What a unit allows in table entries: depths of tables, and optional bits.
  ///
  /// Read from the extended feature registers; they decide which bits of an entry are reserved.
  /// Specification: AMD IOMMU 3.4.
  public struct Limits: Sendable, Hashable {
    /// What a unit may have besides the translation of plain requests.
    @frozen
    public struct Features: OptionSet, Hashable, Sendable {
      public var rawValue: UInt16
      @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

      /// PPRSup: devices may ask for pages.
      @inlinable public static var pageRequests: Self { Self(rawValue: 1 << 0) }
      /// EPHSup: page requests are answered with more than a yes or no.
      @inlinable public static var pageRequestHandling: Self { Self(rawValue: 1 << 1) }
      /// GTSup: guest (v2) tables.
      @inlinable public static var guestTables: Self { Self(rawValue: 1 << 2) }
      /// GIoSup: requests without PASID may go through a guest table.
      @inlinable public static var guestTablesWithoutPASID: Self { Self(rawValue: 1 << 3) }
      /// vIommuSup: guests have units of their own.
      @inlinable public static var guestUnits: Self { Self(rawValue: 1 << 4) }
      /// All that there is.
      public static let all: Self = [
        .pageRequests, .pageRequestHandling, .guestTables, .guestTablesWithoutPASID, .guestUnits,
      ]
    }

    /// HATS: levels of the deepest host table, 4 to 6; 0 where the unit has no host tables.
    public var hostLevels: Int
    /// GATS: levels of the deepest guest table, 4 or 5.
    public var guestLevels: Int
    /// GLXSup: levels of the deepest GCR3 table, 1 to 3.
    public var guestRootLevels: Int
    public var features: Features

    public init(
      hostLevels: Int, guestLevels: Int = 4, guestRootLevels: Int = 1, features: Features = []
    ) {
      precondition(hostLevels == 0 || 4...6 ~= hostLevels, "host tables have at most 4 to 6 levels")
      precondition(4...5 ~= guestLevels, "guest tables have four or five levels")
      precondition(1...3 ~= guestRootLevels, "GCR3 tables have one to three levels")
      self.hostLevels = hostLevels
      self.guestLevels = guestLevels
      self.guestRootLevels = guestRootLevels
      self.features = features
    }

    /// Everything legal: for tables of a unit whose registers are not known. What any unit lets pass,
    /// these do.
    public static let permissive = Limits(
      hostLevels: 6, guestLevels: 5, guestRootLevels: 3, features: .all)

    /// Those that checks of all entries try.
    static let examples = [permissive, Limits(hostLevels: 4)]

    /// The field where the unit has the feature, else a reserved one.
    func allows(_ feature: Features, _ field: BitField) -> BitField {
      features.isDisjoint(with: feature) ? .reserved(field.bits) : field
    }
  }
}

extension AMDVi.Limits {
  /// The limits that a unit's registers state.
  ///
  /// - Parameters:
  ///   - features: EFR; `nil` where nobody knows it, so that all is legal.
  public init(_ features: AMDVi.ExtendedFeatures?) {
    guard let features else {
      self = .permissive
      return
    }
    var optional: Features = []
    if features.hasPageRequests { optional.insert(.pageRequests) }
    if features.hasEnhancedPageRequests { optional.insert(.pageRequestHandling) }
    if features.hasGuestTranslation { optional.insert(.guestTables) }
    if features.hasGuestIO { optional.insert(.guestTablesWithoutPASID) }
    if features.hasVirtualUnits { optional.insert(.guestUnits) }
    // The scale of GATS goes on to 6, and no guest table has more than 5 levels.
    self.init(
      hostLevels: features.hostLevels ?? 0, guestLevels: min(5, features.guestLevels ?? 4),
      guestRootLevels: min(3, features.guestTableLevels), features: optional)
  }
}
