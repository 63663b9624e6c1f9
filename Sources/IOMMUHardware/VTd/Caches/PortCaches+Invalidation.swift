import IOMMUFormats
import IOMMUTranslation

extension PortCaches {
  /// Drops what an invalidation names, and of the rest nothing. Specification: Intel VT-d 6.5.
  mutating func apply(_ invalidation: CacheInvalidation) {
    switch invalidation {
    case .contextGlobal, .contextDomain, .contextDevice: dropContexts(invalidation)
    case .pasidGlobal: pasids.invalidateAll()
    case .pasidDomain(let domain): pasids.invalidate { $1.entry.entry.domainID == domain }
    case .pasid(let domain, let pasid):
      pasids.invalidate { $1.entry.entry.domainID == domain && $1.pasid.rawValue == pasid }
    case .iotlbGlobal: dropAllTranslations()
    case .iotlbDomain(let domain):
      iotlb.invalidate { $0.space.domainID == domain }
      structures.invalidate { $0.space.domainID == domain }
    case .iotlbPages(let domain, let range): dropPages(of: domain, range)
    case .pasidIOTLB(let domain, let pasid):
      iotlb.invalidate { $0.space.domainID == domain && $0.space.pasid.rawValue == pasid }
      structures.invalidate { $0.space.domainID == domain && $0.space.pasid?.rawValue == pasid }
    case .pasidIOTLBPages(let domain, let pasid, let range):
      dropPages(of: domain, PASID(pasid), range)
    case .everything:
      contexts.invalidateAll()
      pasids.invalidateAll()
      dropAllTranslations()
    }
  }

  private mutating func dropContexts(_ invalidation: CacheInvalidation) {
    switch invalidation {
    case .contextDomain(let domain):
      contexts.invalidate { _, context in
        guard case .legacy(let entry) = context else { return false }
        return entry.domainID == domain
      }
    case .contextDevice(let requester, let ignoredBits):
      contexts.invalidate { tag, _ in
        (UInt16(truncatingIfNeeded: tag.low) ^ requester) & ~ignoredBits == 0
      }
    default: contexts.invalidateAll()
    }
  }

  private mutating func dropAllTranslations() {
    iotlb.invalidateAll()
    structures.invalidateAll()
  }

  /// Page-selective in a domain: second-stage pages of the range, and every first-stage one.
  private mutating func dropPages(of domain: UInt16, _ range: PageRange) {
    iotlb.invalidate { entry in
      entry.space.domainID == domain
        && (entry.usesFirstStage || range.overlaps(entry.address, sizeLog2: entry.sizeLog2))
    }
    structures.invalidate { entry in
      entry.space.domainID == domain
        && (entry.space.pasid != nil
          || range.includesStructures && range.overlaps(entry.address, sizeLog2: entry.sizeLog2))
    }
  }

  /// Page-selective in a PASID: first-stage and nested pages of the range.
  private mutating func dropPages(of domain: UInt16, _ pasid: PASID, _ range: PageRange) {
    iotlb.invalidate { entry in
      entry.space.domainID == domain && entry.space.pasid == pasid && entry.usesFirstStage
        && range.overlaps(entry.address, sizeLog2: entry.sizeLog2)
    }
    guard range.includesStructures else { return }
    structures.invalidate { entry in
      entry.space.domainID == domain && entry.space.pasid == pasid
        && range.overlaps(entry.address, sizeLog2: entry.sizeLog2)
    }
  }
}
