import IOMMUFormats

/// Devices and their groups.
extension StateReader {
  /// Deeper than bridges behind bridges of any machine.
  private static let busDepthLimit = 64
  /// More functions, and groups, than any machine has: a segment has 65,536.
  private static let deviceLimit = 1 << 17

  func readDevices() {
    guard let head = head("pci_root_buses") else { return }
    var seen: Set<UInt64> = []
    for bus in elements("the list of PCI buses", at: head, of: "pci_bus", through: "node") {
      readBus(bus, depth: 0, &seen)
    }
    state.devices.sort { left, right in
      guard let first = left.function, let second = right.function else {
        return left.function != nil
      }
      return first < second
    }
  }

  private func readBus(_ bus: KernelObject, depth: Int, _ seen: inout Set<UInt64>) {
    guard depth < Self.busDepthLimit, seen.insert(bus.address).inserted else {
      note("the tree of PCI buses", .endless("a bus", address: bus.address))
      return
    }
    let number = attempt("a PCI bus") { () throws(KernelReadError) in try bus.unsigned("number") }
    let segment = ifKnown("a PCI bus") { () throws(KernelReadError) in try self.segment(of: bus) }
    let subject = "PCI bus \(number.map { hexadecimal($0, digits: 2) } ?? "of unknown number")"
    if let devices = ifKnown(
      subject, { () throws(KernelReadError) in try bus.address(of: "devices") })
    {
      for device in elements(
        "devices of \(subject)", at: devices, of: "pci_dev", through: "bus_list")
      {
        guard state.devices.count < Self.deviceLimit else {
          note("devices of \(subject)", .endless("the list", address: devices))
          break
        }
        readFunction(device, bus: number, segment: segment)
      }
    }
    if let children = ifKnown(
      subject, { () throws(KernelReadError) in try bus.address(of: "children") })
    {
      for child in elements("buses below \(subject)", at: children, of: "pci_bus", through: "node")
      {
        readBus(child, depth: depth + 1, &seen)
      }
    }
  }

  /// x86: what the bus's private data say; others: the bus itself.
  private func segment(of bus: KernelObject) throws(KernelReadError) -> UInt32 {
    if bus.has("domain_nr") { return UInt32(truncatingIfNeeded: try bus.unsigned("domain_nr")) }
    let data = try types.object("pci_sysdata", at: try bus.unsigned("sysdata"))
    return UInt32(truncatingIfNeeded: try data.unsigned("domain"))
  }

  private func readFunction(_ pci: KernelObject, bus: UInt64?, segment: UInt32?) {
    guard
      let devfn = attempt(
        "a PCI device", { () throws(KernelReadError) in try pci.unsigned("devfn") }),
      let part = attempt("a PCI device", { () throws(KernelReadError) in try pci.part("dev") })
    else { return }
    let function = bus.map { bus in
      PCI.Function(
        segment: segment ?? 0,
        Requester(rawValue: UInt16(truncatingIfNeeded: bus << 8 | devfn & 0xff)))
    }
    let name = function?.longText ?? "a PCI device"
    var device = KernelDevice(
      name: name, address: part.address, function: function, requester: function)
    device.vendor = attempt(name) { () throws(KernelReadError) in
      UInt16(truncatingIfNeeded: try pci.unsigned("vendor"))
    }
    device.device = attempt(name) { () throws(KernelReadError) in
      UInt16(truncatingIfNeeded: try pci.unsigned("device"))
    }
    device.deviceClass = attempt(name) { () throws(KernelReadError) in
      UInt32(truncatingIfNeeded: try pci.unsigned("class"))
    }
    // A bit for each function of the bus.
    let aliases = ifKnown(name) { () throws(KernelReadError) in
      try bits(at: try pci.unsigned("dma_alias_mask"), count: 256)
    }
    for alias in aliases ?? [] {
      guard let function else { break }
      add(alias: function.requester.rawValue & 0xff00 | UInt16(alias), to: &device)
    }
    read(part, into: &device)
    state.devices.append(device)
  }

  /// - Parameter alias: A number in the device's own segment.
  private func add(alias: UInt16, to device: inout KernelDevice) {
    let segment = (device.requester ?? device.function)?.segment ?? 0
    let alias = PCI.Function(segment: segment, Requester(rawValue: alias))
    guard alias != device.requester, alias != device.function, !device.aliases.contains(alias)
    else { return }
    device.aliases.append(alias)
    device.aliases.sort()
  }

  /// What every device has, whatever bus it is on.
  private func read(_ part: KernelObject, into device: inout KernelDevice) {
    let name = device.name
    device.driver = ifKnown("driver of \(name)") { () throws(KernelReadError) in
      try part.object(at: "driver").string("name")
    }
    device.dmaMask = ifKnown(name) { () throws(KernelReadError) in
      let pointer = try part.unsigned("dma_mask")
      guard pointer != 0 else { throw .null }
      return try memory.quadword(at: pointer)
    }
    device.coherentDMAMask = ifKnown(name) { () throws(KernelReadError) in
      try part.unsigned("coherent_dma_mask")
    }
    let group = ifKnown("group of \(name)") { () throws(KernelReadError) in
      try part.object(at: "iommu_group")
    }
    if let group {
      groupOfDevice[device.address] = group.address
      groupAddresses.insert(group.address)
    }
    device.group = group.flatMap { group in
      ifKnown("group of \(name)") { () throws(KernelReadError) in
        Int(truncatingIfNeeded: try group.unsigned("id"))
      }
    }
    let own = ifKnown(name) { () throws(KernelReadError) in try part.object(at: "iommu") }
    if let own { readAttachment(own, of: &device) }
  }

  // MARK: Attachment

  /// - Parameter own: The `struct dev_iommu`, whose `priv` is the driver's.
  private func readAttachment(_ own: KernelObject, of device: inout KernelDevice) {
    let name = device.name
    guard
      let data = attempt(
        "IOMMU of \(name)", { () throws(KernelReadError) in try own.unsigned("priv") })
    else { return }
    // Whose: what the device's own unit is, or where the kernel does not say, the only kind there is.
    let unit = ifKnown("IOMMU of \(name)") { () throws(KernelReadError) in
      try own.object(at: "iommu_dev")
    }
    guard let kind = kind(of: unit) else { return }
    guard data != 0 else {
      device.attachment = .none
      return
    }
    switch kind {
    case .vtd: readIntel(data, of: &device)
    case .amdvi: readAMD(data, unit, of: &device)
    case .smmuv3: readSMMU(data, own, of: &device)
    case .other: break
    }
    if case .domain(let domain) = device.attachment { domainKinds[domain] = kind }
    for address in group(at: groupOfDevice[device.address]) where address != 0 {
      domainKinds[address] = domainKinds[address] ?? kind
    }
  }

  /// The domains of a group.
  private func group(at address: UInt64?) -> [UInt64] {
    guard let address, let group = try? types.object("iommu_group", at: address) else { return [] }
    return ["default_domain", "domain"].compactMap { try? group.unsigned($0) }
  }

  private func kind(of unit: KernelObject?) -> KernelUnit.Kind? {
    if let unit, let operations = try? unit.unsigned("ops") {
      if (try? kernel.address(of: "intel_iommu_ops")) == operations { return .vtd }
      if (try? kernel.address(of: "amd_iommu_ops")) == operations { return .amdvi }
    }
    let kinds = Set(state.units.map(\.kind))
    return kinds.count == 1 ? kinds.first : nil
  }

  private func readIntel(_ data: UInt64, of device: inout KernelDevice) {
    let name = device.name
    guard
      let info = attempt(
        name,
        { () throws(KernelReadError) in
          try types.object("device_domain_info", at: data)
        })
    else { return }
    device.requester = attempt(name) { () throws(KernelReadError) in
      PCI.Function(
        segment: info.has("segment")
          ? UInt32(truncatingIfNeeded: try info.unsigned("segment"))
          : device.function?.segment ?? 0,
        Requester(
          rawValue: UInt16(
            truncatingIfNeeded: try info.unsigned("bus") << 8 | info.unsigned("devfn"))))
    }
    device.unit = attempt(name) { () throws(KernelReadError) in try info.unsigned("iommu") }
    let domain = attempt(name) { () throws(KernelReadError) in
      try info.objectIfAny(at: "domain").map { domain throws(KernelReadError) in
        try domain.address(of: "domain")
      }
    }
    if let domain { device.attachment = domain.map { .domain($0) } ?? .none }
  }

  private func readAMD(
    _ data: UInt64, _ unit: KernelObject?, of device: inout KernelDevice
  ) {
    let name = device.name
    guard
      let info = attempt(
        name,
        { () throws(KernelReadError) in
          try types.object("iommu_dev_data", at: data)
        })
    else { return }
    let own = unit.flatMap { unit in
      ifKnown(name) { () throws(KernelReadError) in
        try types.container("amd_iommu", of: "iommu", at: unit.address)
      }
    }
    device.unit = own?.address
    let segment = state.units.first { $0.address == own?.address }?.segment
    device.requester = attempt(name) { () throws(KernelReadError) in
      PCI.Function(
        segment: device.function?.segment ?? segment ?? 0,
        Requester(rawValue: UInt16(truncatingIfNeeded: try info.unsigned("devid"))))
    }
    if let own, let number = device.requester?.requester.rawValue {
      let alias = ifKnown("alias of \(name)") { () throws(KernelReadError) in
        try self.alias(of: number, own)
      }
      if let alias { add(alias: alias, to: &device) }
    }
    // With tables of version 2 the numbers of processes' address spaces are told apart by device.
    device.ownDomainID = ifKnown(name) { () throws(KernelReadError) in
      guard try info.unsigned("gcr3_info.gcr3_tbl") != 0 else { throw .null }
      return UInt32(truncatingIfNeeded: try info.unsigned("gcr3_info.domid"))
    }
    let domain = attempt(name) { () throws(KernelReadError) in
      try info.objectIfAny(at: "domain").map { domain throws(KernelReadError) in
        try domain.address(of: "domain")
      }
    }
    if let domain { device.attachment = domain.map { .domain($0) } ?? .none }
  }

  /// The number that an AMD-Vi unit sees in place of a device's, as firmware says: the number itself for
  /// most.
  private func alias(
    of number: UInt16, _ iommu: KernelObject
  ) throws(KernelReadError) -> UInt16 {
    let table: UInt64
    if iommu.has("pci_seg") {
      let segment = try iommu.object(at: "pci_seg")
      guard UInt64(number) <= (try segment.unsigned("last_bdf")) else { return number }
      table = try segment.unsigned("alias_table")
    } else {
      guard UInt64(number) <= (try amdLastRequester()) else { return number }
      table = try kernel.value(of: "amd_iommu_alias_table")
    }
    guard table != 0 else { throw .null }
    return UInt16(
      truncatingIfNeeded: try memory.unsigned(at: table &+ 2 &* UInt64(number), byteCount: 2))
  }

  private func readSMMU(
    _ data: UInt64, _ own: KernelObject, of device: inout KernelDevice
  ) {
    let name = device.name
    device.streams =
      ifKnown("streams of \(name)") { () throws(KernelReadError) in try streams(of: own) } ?? []
    guard
      let master = ifKnown(
        name,
        { () throws(KernelReadError) in
          try types.object("arm_smmu_master", at: data, having: ["smmu"])
        })
    else { return }
    device.unit = attempt(name) { () throws(KernelReadError) in try master.unsigned("smmu") }
    if master.has("domain") {
      let domain = attempt(name) { () throws(KernelReadError) in
        try master.objectIfAny(at: "domain").map { domain throws(KernelReadError) in
          try domain.address(of: "domain")
        }
      }
      if let domain { device.attachment = domain.map { .domain($0) } ?? .none }
    } else if let domain = group(at: groupOfDevice[device.address]).last {
      device.attachment = domain == 0 ? .none : .domain(domain)
    }
  }

  private func streams(of own: KernelObject) throws(KernelReadError) -> [UInt32] {
    let specification = try own.object(at: "fwspec")
    let count = min(try specification.unsigned("num_ids"), 256)
    let start = try specification.address(of: "ids")
    var streams: [UInt32] = []
    for number in 0..<count { streams.append(try memory.doubleword(at: start &+ 4 &* number)) }
    return streams
  }

  // MARK: Groups

  func readGroups() {
    // Groups of devices that are on no PCI bus are in the set that sysfs shows.
    if let place = head("iommu_group_kset"),
      let set = ifKnown(
        "the set of groups",
        { () throws(KernelReadError) in
          try types.object("kset", at: try memory.quadword(at: place))
        }),
      let list = ifKnown(
        "the set of groups", { () throws(KernelReadError) in try set.address(of: "list") })
    {
      for object in elements("the set of groups", at: list, of: "kobject", through: "entry") {
        let group = ifKnown("the set of groups") { () throws(KernelReadError) in
          try types.container("iommu_group", of: "kobj", at: object.address)
        }
        // Devices in the set have a directory as well; a group's number says that it is one.
        if let group, (try? group.unsigned("id")) ?? .max < 1 << 24 {
          groupAddresses.insert(group.address)
        }
      }
    }
    for address in groupAddresses.sorted().prefix(Self.deviceLimit) { readGroup(at: address) }
    state.groups.sort { $0.number < $1.number }
  }

  private func readGroup(at address: UInt64) {
    guard
      let object = attempt(
        "a group",
        { () throws(KernelReadError) in
          try types.object("iommu_group", at: address)
        }),
      let number = attempt("a group", { () throws(KernelReadError) in try object.unsigned("id") })
    else { return }
    let subject = "group \(number)"
    var group = KernelGroup(number: Int(truncatingIfNeeded: number), address: address, devices: [])
    group.defaultDomain = attempt(subject) { () throws(KernelReadError) in
      try object.unsigned("default_domain")
    }
    group.domain = attempt(subject) { () throws(KernelReadError) in try object.unsigned("domain") }
    if let list = attempt(
      subject, { () throws(KernelReadError) in try object.address(of: "devices") })
    {
      for member in elements("devices of \(subject)", at: list, of: "group_device", through: "list")
      {
        guard
          let part = attempt(
            "a device of \(subject)",
            { () throws(KernelReadError) in
              try member.object(at: "dev")
            })
        else { continue }
        let known = state.devices.first { $0.address == part.address }
        let name =
          known?.name
          ?? attempt("a device of \(subject)") { () throws(KernelReadError) in
            try part.string("kobj.name")
          }
        guard let name else { continue }
        group.devices.append(name)
        guard known == nil, state.devices.count < Self.deviceLimit else { continue }
        var device = KernelDevice(name: name, address: part.address)
        read(part, into: &device)
        state.devices.append(device)
      }
    }
    let kind = domainKinds[group.domain ?? 0] ?? domainKinds[group.defaultDomain ?? 0]
    for domain in [group.defaultDomain, group.domain] {
      guard let domain, domain != 0 else { continue }
      domainKinds[domain] = domainKinds[domain] ?? kind ?? .other
    }
    state.groups.append(group)
  }
}
