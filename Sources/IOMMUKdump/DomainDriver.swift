import IOMMUFormats
import IOMMUTranslation

/// What a kernel keeps of a device that has tables of its own, or of several that share them.
protocol DeviceDomain {
  /// The numbers that it gives out.
  var iovas: TopDownAllocator { get set }
  /// Whose entries lead here.
  var devices: [Device] { get set }
  /// Ranges that the Rule has taken.
  var identity: [Range<UInt64>] { get }
}

/// The primary kernel where every device has page tables and numbers of its own: what the Rule asks is the
/// same whatever the tables' format.
protocol DomainDriver: DMADriver {
  associatedtype Domain: DeviceDomain

  /// For messages: `AMD-Vi`.
  static var hardware: String { get }
  /// What lets tables reach further, for messages.
  static var wayToReachFurther: String { get }

  var pages: PagePool { get }
  /// Devices have no tables: their requests pass.
  var passesThrough: Bool { get }
  /// Those of devices that have mapped something, or that the Rule was applied to, by
  /// ``Device/domainKey``.
  var domains: [Requester: Domain] { get set }
  /// Numbers that a kernel gives out, half-open.
  static var iovaSpace: Range<UInt64> { get }
  /// Levels of the deepest tables.
  var maximumLevels: Int { get }
  /// The first number that they do not translate.
  var reach: UInt64 { get }

  /// The page that a number is mapped to.
  func page(at iova: UInt64, in domain: Domain) -> PhysicalAddress?

  /// A domain that nobody has yet.
  func makeDomain() throws(SetUpError) -> Domain

  /// Has a device's entries lead to a domain, which others may have already.
  func join(_ device: Device, _ domain: inout Domain) throws(SetUpError)

  /// Maps the crash kernel ranges to themselves, as far as they are not.
  func install(
    _ device: Device, _ crashKernel: [Range<PhysicalAddress>], _ pageSize: PageSizePolicy
  ) throws(SetUpError) -> TableSetUp
}

extension DomainDriver {
  /// The device's domain, which its entries lead to; made when there is none yet.
  func domain(of device: Device) throws(SetUpError) -> Domain {
    var domain: Domain
    if let known = domains[device.domainKey] {
      guard !known.devices.contains(where: { $0.requester == device.requester }) else {
        return known
      }
      domain = known
    } else {
      domain = try makeDomain()
    }
    try join(device, &domain)
    domain.devices.append(device)
    domains[device.domainKey] = domain
    return domain
  }

  /// Takes a device out of its domain, which is gone with the last of them.
  ///
  /// - Returns: The domain without it, and the entries that nobody else needs; `nil` where it has none.
  func leave(_ device: Device) -> (domain: Domain, entries: [Requester])? {
    guard var domain = domains[device.domainKey],
      let place = domain.devices.firstIndex(where: { $0.requester == device.requester })
    else { return nil }
    domain.devices.remove(at: place)
    domains[device.domainKey] = domain.devices.isEmpty ? nil : domain
    let remaining = Set(domain.devices.flatMap(\.entryIDs))
    return (domain, device.entryIDs.filter { !remaining.contains($0) })
  }

  /// Takes numbers of a device out of use; its domain is made when there is none yet.
  private func keepOut(_ numbers: Range<UInt64>, of device: Device) throws(SetUpError) {
    var domain = try domain(of: device)
    domain.iovas.reserve(numbers.clamped(to: Self.iovaSpace))
    domains[device.domainKey] = domain
  }

  func reserve(
    crashKernel: [Range<PhysicalAddress>], for devices: [Device]
  ) throws(SetUpError) {
    guard !passesThrough else { return }
    for device in devices {
      for range in crashKernel {
        try keepOut(range.lowerBound.rawValue..<range.upperBound.rawValue, of: device)
      }
    }
  }

  func prepare(
    crashKernel: [Range<PhysicalAddress>], for devices: [Device], pageSize: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] {
    guard !passesThrough else { return [] }
    for device in devices { try check(device, crashKernel) }
    try reservePages(for: devices, crashKernel, pageSize)
    var reports: [TableSetUp] = []
    var places: [Requester: Int] = [:]
    for device in devices {
      if let place = places[device.domainKey] {
        _ = try domain(of: device)
        let owner = TableOwner.requester(PCI.Function(device.sourceID))
        if owner != reports[place].table, !reports[place].sharers.contains(owner) {
          reports[place].sharers.append(owner)
        }
      } else {
        places[device.domainKey] = reports.count
        reports.append(try install(device, crashKernel, pageSize))
      }
    }
    return reports
  }

  /// Finds what stands against the identity map of one device.
  private func check(
    _ device: Device, _ crashKernel: [Range<PhysicalAddress>]
  ) throws(SetUpError) {
    for range in crashKernel {
      let addresses = range.lowerBound.rawValue..<range.upperBound.rawValue
      guard range.upperBound.rawValue <= reach else {
        throw .beyondTable(
          name: "\(device.requester)", range: range, coverage: reach,
          wayOut: "\(Self.wayToReachFurther) or move the crash kernel down")
      }
      guard let domain = domains[device.domainKey], !domain.identity.contains(addresses),
        let taken = domain.iovas.firstTaken(in: addresses)
      else { continue }
      throw .conflict(
        name: "\(device.requester)", iova: IOVA(taken.lowerBound),
        mappedTo: page(at: taken.lowerBound, in: domain))
    }
  }

  /// Takes and gives back as many pages as the set-up can need at most, so that running out of
  /// memory shows before anything is changed.
  private func reservePages(
    for devices: [Device], _ crashKernel: [Range<PhysicalAddress>], _ pageSize: PageSizePolicy
  ) throws(SetUpError) {
    guard !devices.isEmpty else { return }
    let perDevice = crashKernel.reduce(UInt64(2 + maximumLevels)) { count, range in
      let regions = (range.upperBound.rawValue - 1) >> 21 - range.lowerBound.rawValue >> 21 + 1
      let ends: UInt64 = pageSize == .largest ? 2 : regions
      return count + ends + range.byteCount >> 30 + UInt64(2 * maximumLevels)
    }
    let byteCount = perDevice * UInt64(devices.count) * 4096
    guard let probe = pages.allocate(byteCount, below: 1 << 32) else {
      throw .outOfMemory(what: "\(byteCount >> 10) KiB of \(Self.hardware) page tables")
    }
    pages.free(probe..<PhysicalAddress(probe.rawValue + byteCount))
  }
}
