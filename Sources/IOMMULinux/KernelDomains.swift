import IOMMUFormats

/// Domains, each in the structure of the driver that it belongs to.
extension StateReader {
  func readDomains() {
    for (address, kind) in domainKinds.sorted(by: { $0.key < $1.key }) {
      var domain = KernelDomain(address: address)
      let subject = "domain \(hexadecimal(address))"
      guard
        let object = attempt(
          subject,
          { () throws(KernelReadError) in
            try types.object("iommu_domain", at: address)
          })
      else { continue }
      domain.type = attempt(subject) { () throws(KernelReadError) in
        UInt32(truncatingIfNeeded: try object.unsigned("type"))
      }
      // What passes or blocks everything is in no structure of the driver's; but for AMD-Vi what passes is.
      if domain.isPaging == true || kind == .amdvi && domain.type == 4 {
        switch kind {
        case .vtd: readIntel(&domain, object, subject)
        case .amdvi: readAMD(&domain, object, subject)
        case .smmuv3: readSMMU(&domain, object, subject)
        case .other: break
        }
      }
      let iova = attempt("\(subject), IOVAs") { () throws(KernelReadError) in
        try IOVAAllocator(object, kernel)
      }
      domain.iova = iova.flatMap { $0 }
      domain.iova?.problems.forEach { note("\(subject), IOVAs", $0) }
      state.domains.append(domain)
    }
  }

  /// Tables of the kernel's common code (7.x): the level of the top one in bits 11:0, 0 for the lowest, and
  /// its address.
  private func commonTable(
    _ object: KernelObject, _ path: String
  ) throws(KernelReadError) -> (root: PhysicalAddress, levels: Int) {
    let word = try object.unsigned("\(path).common.top_of_table")
    let level = word & 0xfff
    guard level < 6 else { throw .damaged("a top table of level \(level)") }
    return (try memory.physicalAddress(of: word & ~0xfff), Int(level) + 1)
  }

  private func readIntel(
    _ domain: inout KernelDomain, _ object: KernelObject, _ subject: String
  ) {
    guard
      let own = attempt(
        subject,
        { () throws(KernelReadError) in
          try types.container("dmar_domain", of: "domain", at: object.address)
        })
    else { return }
    if own.has("pgd") {
      domain.root = attempt("\(subject), page table") { () throws(KernelReadError) in
        let table = try own.unsigned("pgd")
        return table == 0 ? nil : try memory.physicalAddress(of: table)
      }.flatMap { $0 }
      // An adjusted width of 30 bits and nine for each step: two levels, and one for each.
      domain.levels = attempt(subject) { () throws(KernelReadError) in
        let levels = try own.signed("agaw") + 2
        guard 1...6 ~= levels else { throw .damaged("page tables of \(levels) levels") }
        return Int(levels)
      }
      domain.isFirstStage = ifKnown(subject) { () throws(KernelReadError) in
        own.has("use_first_level")
          // Before that it was bit 1 of the flags.
          ? try own.unsigned("use_first_level") != 0 : try own.unsigned("flags") & 2 != 0
      }
    } else {
      let table = attempt("\(subject), page table") { () throws(KernelReadError) in
        try commonTable(own, "sspt.vtdss_pt")
      }
      domain.root = table?.root
      domain.levels = table?.levels
      let operations = try? object.unsigned("ops")
      let first = try? kernel.address(of: "intel_fs_paging_domain_ops")
      let second = try? kernel.address(of: "intel_ss_paging_domain_ops")
      if let operations, operations == first || operations == second {
        domain.isFirstStage = operations == first
      }
    }
    let ids = ifKnown("\(subject), ids") { () throws(KernelReadError) in
      try types.pointers(in: try own.part("iommu_array"))
    }
    ids?.problems.forEach { note("\(subject), ids", $0) }
    for (_, pointer) in ids?.elements ?? [] {
      let id = attempt("\(subject), ids") { () throws(KernelReadError) in
        let info = try types.object("iommu_domain_info", at: pointer)
        return KernelDomain.ID(
          unit: try info.unsigned("iommu"), id: UInt32(truncatingIfNeeded: try info.unsigned("did"))
        )
      }
      if let id { domain.ids.append(id) }
    }
  }

  private func readAMD(
    _ domain: inout KernelDomain, _ object: KernelObject, _ subject: String
  ) {
    guard
      let own = attempt(
        subject,
        { () throws(KernelReadError) in
          try types.container("protection_domain", of: "domain", at: object.address)
        })
    else { return }
    // The id is one for all units.
    let id = attempt(subject) { () throws(KernelReadError) in
      UInt32(truncatingIfNeeded: try own.unsigned("id"))
    }
    if let id {
      domain.ids = state.units.filter { $0.kind == .amdvi }.map { .init(unit: $0.address, id: id) }
    }
    guard domain.isPaging == true else { return }
    domain.isFirstStage = ifKnown(subject) { () throws(KernelReadError) in
      own.has("pd_mode")
        // Before that it was bit 3 of the flags.
        ? try own.unsigned("pd_mode") == 2 : try own.unsigned("flags") & 8 != 0
    }
    if domain.isFirstStage == true, own.has("iop.pgd") {
      domain.root = attempt("\(subject), page table") { () throws(KernelReadError) in
        let table = try own.unsigned("iop.pgd")
        return table == 0 ? nil : try memory.physicalAddress(of: table)
      }.flatMap { $0 }
      // All of them have as many levels as the processor's own.
      domain.levels = ifKnown(subject) { () throws(KernelReadError) in
        let levels = try memory.doubleword(at: try kernel.address(of: "amd_iommu_gpt_level"))
        guard 4...5 ~= levels else { throw .damaged("guest page tables of \(levels) levels") }
        return Int(levels)
      }
    } else if own.has("iop.root") {
      domain.levels = attempt(subject) { () throws(KernelReadError) in
        let levels = try own.unsigned("iop.mode")
        guard levels <= 6 else { throw .damaged("page tables of \(levels) levels") }
        return Int(levels)
      }
      domain.root = attempt("\(subject), page table") { () throws(KernelReadError) in
        let table = try own.unsigned("iop.root")
        return table == 0 ? nil : try memory.physicalAddress(of: table)
      }.flatMap { $0 }
    } else {
      let table = attempt("\(subject), page table") { () throws(KernelReadError) in
        try commonTable(
          own, domain.isFirstStage == true ? "amdv2.x86_64_pt" : "amdv1.amdpt")
      }
      domain.root = table?.root
      domain.levels = table?.levels
    }
  }

  private func readSMMU(
    _ domain: inout KernelDomain, _ object: KernelObject, _ subject: String
  ) {
    guard
      let own = attempt(
        subject,
        { () throws(KernelReadError) in
          try types.container(
            "arm_smmu_domain", of: "domain", at: object.address, having: ["nr_ats_masters"])
        }),
      let operations = attempt(
        subject, { () throws(KernelReadError) in try own.unsigned("pgtbl_ops") }),
      operations != 0
    else { return }
    let table = attempt("\(subject), page table") { () throws(KernelReadError) in
      // The structure with the table begins with the one that holds the operations.
      let common = try types.container("io_pgtable", of: "ops", at: operations)
      let table = try types.object("arm_lpae_io_pgtable", at: common.address)
      let start = try table.unsigned("start_level")
      guard start < 4 else { throw .damaged("page tables that begin at level \(start)") }
      return (
        root: try memory.physicalAddress(of: try table.unsigned("pgd")), levels: 4 - Int(start)
      )
    }
    domain.root = table?.root
    domain.levels = table?.levels
    let path = own.has("cd.asid") ? "cd.asid" : "s1_cfg.cd.asid"
    let stage = ifKnown(subject) { () throws(KernelReadError) in try own.unsigned("stage") }
    domain.isFirstStage = stage.map { $0 == 0 }
    let id = ifKnown(subject) { () throws(KernelReadError) in
      UInt32(truncatingIfNeeded: try own.unsigned(stage == 0 ? path : "s2_cfg.vmid"))
    }
    let unit = ifKnown(subject) { () throws(KernelReadError) in try own.unsigned("smmu") }
    if let id, let unit { domain.ids = [.init(unit: unit, id: id)] }
  }
}
