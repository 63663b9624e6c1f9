import IOMMUFormats

/// Units, each from its own driver's list.
extension StateReader {
  func readUnits() {
    readIntelUnits()
    readAMDUnits()
    readOtherUnits()
  }

  private func physical(_ address: UInt64) throws(KernelReadError) -> PhysicalAddress? {
    address == 0 ? nil : try memory.physicalAddress(of: address)
  }

  // MARK: VT-d

  /// `dmar_drhd_units`, whether the driver works with a unit or not.
  private func readIntelUnits() {
    guard let head = head("dmar_drhd_units") else { return }
    for drhd in elements("the list of VT-d units", at: head, of: "dmar_drhd_unit", through: "list")
    {
      var unit = KernelUnit(kind: .vtd, address: drhd.address)
      let base = attempt("a VT-d unit") { () throws(KernelReadError) in
        try drhd.unsigned("reg_base_addr")
      }
      unit.registerBase = base.map { PhysicalAddress($0) }
      let subject =
        "the VT-d unit at \(base.map { hexadecimal($0) } ?? "an address that is not known")"
      unit.segment = ifKnown(subject) { () throws(KernelReadError) in
        UInt32(truncatingIfNeeded: try drhd.unsigned("segment"))
      }
      let iommu = attempt(subject) { () throws(KernelReadError) in try drhd.objectIfAny(at: "iommu")
      }
      // A unit without a driver has registers, and no more.
      if let iommu, let iommu {
        unit.address = iommu.address
        read(iommu, into: &unit, subject)
      }
      state.units.append(unit)
    }
  }

  private func read(_ iommu: KernelObject, into unit: inout KernelUnit, _ subject: String) {
    unit.name = ifKnown(subject) { () throws(KernelReadError) in try iommu.string("name") }
    unit.capability = attempt(subject) { () throws(KernelReadError) in try iommu.unsigned("cap") }
    unit.extendedCapability = attempt(subject) { () throws(KernelReadError) in
      try iommu.unsigned("ecap")
    }
    unit.command = ifKnown(subject) { () throws(KernelReadError) in
      UInt32(truncatingIfNeeded: try iommu.unsigned("gcmd"))
    }
    unit.table = attempt("\(subject), root table") { () throws(KernelReadError) in
      try physical(try iommu.unsigned("root_entry"))
    }.flatMap { $0 }
    unit.tableByteCount = unit.table == nil ? nil : 4096
    unit.queue = ifKnown("\(subject), invalidation queue") { () throws(KernelReadError) in
      try physical(try iommu.object(at: "qi").unsigned("desc"))
    }.flatMap { $0 }
    unit.interruptTable = ifKnown("\(subject), interrupt remapping table") {
      () throws(KernelReadError) in
      try physical(try iommu.object(at: "ir_table").unsigned("base"))
    }.flatMap { $0 }
    unit.hasCopiedTables = ifKnown(subject) { () throws(KernelReadError) in
      try iommu.unsigned("copied_tables") != 0
    }
    let capability = unit.capability
    unit.domainIDs = ifKnown("\(subject), domain ids") { () throws(KernelReadError) in
      if iommu.has("domain_ids") {
        // Domains that the unit has: CAP_REG.ND, 16 and fourfold for each step.
        let count = 1 << (4 + 2 * Int((capability ?? 0) & 7))
        return try bits(at: try iommu.unsigned("domain_ids"), count: min(count, 1 << 16))
      }
      return try numbers(in: try iommu.part("domain_ida"))
    }
  }

  /// The numbers of the bits that are set.
  func bits(at address: UInt64, count: Int) throws(KernelReadError) -> [UInt32] {
    guard address != 0 else { throw .null }
    let bytes = try memory.bytes(at: address, count: (count + 7) / 8)
    return (0..<count).filter { bytes[$0 / 8] >> UInt8($0 % 8) & 1 == 1 }.map(UInt32.init)
  }

  /// Numbers of an IDA: bitmaps of 1,024 bits in an xarray, small ones as values in place of a pointer.
  ///
  /// Source: Linux `lib/idr.c`.
  private func numbers(in ida: KernelObject) throws(KernelReadError) -> [UInt32] {
    let entries = try types.entries(in: try ida.part("xa"))
    if let problem = entries.problems.first { throw problem }
    var numbers: [UInt32] = []
    for (index, entry) in entries.elements where index < 1 << 20 {
      let first = UInt32(index) << 10
      if entry & 1 == 1 {
        for bit in 0..<63 as Range<UInt32> where entry >> UInt64(bit + 1) & 1 == 1 {
          numbers.append(first + bit)
        }
      } else {
        for number in try bits(at: entry, count: 1024) { numbers.append(first + number) }
      }
    }
    return numbers
  }

  // MARK: AMD-Vi

  private func readAMDUnits() {
    guard let head = head("amd_iommu_list") else { return }
    for iommu in elements("the list of AMD-Vi units", at: head, of: "amd_iommu", through: "list") {
      var unit = KernelUnit(kind: .amdvi, address: iommu.address)
      let base = attempt("an AMD-Vi unit") { () throws(KernelReadError) in
        try iommu.unsigned("mmio_phys")
      }
      unit.registerBase = base.map { PhysicalAddress($0) }
      let subject =
        "the AMD-Vi unit at \(base.map { hexadecimal($0) } ?? "an address that is not known")"
      unit.name = ifKnown(subject) { () throws(KernelReadError) in
        "ivhd\(try iommu.unsigned("index"))"
      }
      unit.requester = attempt(subject) { () throws(KernelReadError) in
        Requester(rawValue: UInt16(truncatingIfNeeded: try iommu.unsigned("devid")))
      }
      unit.extendedCapability = ifKnown(subject) { () throws(KernelReadError) in
        try iommu.unsigned("features")
      }
      unit.queue = ifKnown("\(subject), command buffer") { () throws(KernelReadError) in
        try physical(try iommu.unsigned("cmd_buf"))
      }.flatMap { $0 }
      if iommu.has("pci_seg") {
        let segment = attempt(subject) { () throws(KernelReadError) in
          try iommu.object(at: "pci_seg")
        }
        if let segment { readSegment(segment, into: &unit, subject) }
      } else {
        readOnlyDeviceTable(into: &unit, subject)
      }
      state.units.append(unit)
    }
  }

  /// The device table that all units of a PCI segment have.
  private func readSegment(
    _ segment: KernelObject, into unit: inout KernelUnit, _ subject: String
  ) {
    unit.segment = attempt(subject) { () throws(KernelReadError) in
      UInt32(truncatingIfNeeded: try segment.unsigned("id"))
    }
    unit.table = attempt("\(subject), device table") { () throws(KernelReadError) in
      try physical(try segment.unsigned("dev_table"))
    }.flatMap { $0 }
    unit.tableByteCount = attempt("\(subject), device table") { () throws(KernelReadError) in
      try segment.unsigned("dev_table_size")
    }
    unit.hasCopiedTables = ifKnown(subject) { () throws(KernelReadError) in
      try segment.unsigned("old_dev_tbl_cpy") != 0
    }
  }

  /// Before 6.0 there is one segment, whose tables are variables.
  private func readOnlyDeviceTable(into unit: inout KernelUnit, _ subject: String) {
    unit.segment = 0
    unit.table = attempt("\(subject), device table") { () throws(KernelReadError) in
      try physical(try kernel.value(of: "amd_iommu_dev_table"))
    }.flatMap { $0 }
    // Its length is in a static variable, whose name others may have, and follows from the last number: a
    // power of two of pages.
    unit.tableByteCount = attempt("\(subject), device table") { () throws(KernelReadError) in
      var byteCount: UInt64 = 4096
      while byteCount < (try amdLastRequester() + 1) * 32 { byteCount *= 2 }
      return byteCount
    }
    unit.hasCopiedTables = ifKnown(subject) { () throws(KernelReadError) in
      try kernel.value(of: "old_dev_tbl_cpy") != 0
    }
  }

  /// The last number that tables have an entry for, of a kernel before 6.0.
  func amdLastRequester() throws(KernelReadError) -> UInt64 {
    try memory.unsigned(at: try kernel.address(of: "amd_iommu_last_bdf"), byteCount: 2)
  }

  // MARK: Arm SMMUv3 and others

  /// `iommu_device_list`, which every driver's units are in.
  private func readOtherUnits() {
    guard let head = head("iommu_device_list") else { return }
    for device in elements("the list of IOMMUs", at: head, of: "iommu_device", through: "list") {
      let operations = ifKnown("an IOMMU") { () throws(KernelReadError) in
        try device.unsigned("ops")
      }
      let isOwn = ["intel_iommu_ops", "amd_iommu_ops"].contains { name in
        operations != nil && (try? kernel.address(of: name)) == operations
      }
      if isOwn { continue }
      let parent = ifKnown("an IOMMU") { () throws(KernelReadError) in try device.object(at: "dev")
      }
      let name = parent.flatMap { parent in
        ifKnown("an IOMMU") { () throws(KernelReadError) in try parent.string("kobj.name") }
      }
      let smmu = ifKnown("an SMMU") { () throws(KernelReadError) in
        try types.container(
          "arm_smmu_device", of: "iommu", at: device.address, having: ["strtab_cfg"])
      }
      // Both drivers of Arm's units have a structure of this name; the device behind it has been bound by
      // one of them.
      let owner = smmu.flatMap { smmu in
        ifKnown("an SMMU") { () throws(KernelReadError) in
          try smmu.object(at: "dev").object(at: "driver").string("name")
        }
      }
      guard let smmu, owner == "arm-smmu-v3" else {
        state.units.append(KernelUnit(kind: .other, address: device.address, name: name))
        continue
      }
      state.units.append(readSMMU(smmu, name: name))
    }
  }

  private func readSMMU(_ smmu: KernelObject, name: String?) -> KernelUnit {
    var unit = KernelUnit(kind: .smmuv3, address: smmu.address, name: name)
    let subject = "the SMMU \(name ?? "at \(hexadecimal(smmu.address))")"
    // Registers are mapped like everything else of the kernel's.
    unit.registerBase = attempt(subject) { () throws(KernelReadError) in
      try physical(try smmu.unsigned("base"))
    }.flatMap { $0 }
    unit.queue = ifKnown(subject) { () throws(KernelReadError) in
      PhysicalAddress(try smmu.unsigned("cmdq.q.base_dma"))
    }
    unit.table = attempt("\(subject), stream table") { () throws(KernelReadError) in
      if smmu.has("strtab_cfg.strtab_dma") {
        return PhysicalAddress(try smmu.unsigned("strtab_cfg.strtab_dma"))
      }
      // Bit 0 of the features: a table of two levels.
      let path = try smmu.unsigned("features") & 1 != 0 ? "l2.l1_dma" : "linear.ste_dma"
      return PhysicalAddress(try smmu.unsigned("strtab_cfg.\(path)"))
    }
    return unit
  }
}
