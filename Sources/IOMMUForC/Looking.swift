import CIOMMU
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMURule
import IOMMUTranslation

/// - Throws: When a callback wants no more.
private func goOn(_ answer: Int32) throws {
  if answer != 0 { throw CallError.stopped }
}

// MARK: Walks

@_cdecl("iommu_walk")
public func walk(
  _ machine: Handle?, _ memory: Handle?, _ device: iommu_device, _ pasid: UInt32, _ iova: UInt64,
  _ access: iommu_access,
  _ step: (@convention(c) (UnsafePointer<iommu_walk_step>?, UnsafeMutableRawPointer?) -> Int32)?,
  _ context: UnsafeMutableRawPointer?, _ translation: UnsafeMutablePointer<iommu_translation>?
) -> iommu_status {
  call {
    let machine = try object(machine, as: CMachine.self).machine
    let memory = try object(memory, as: CMemory.self)
    let device = try PCI.Function(device)
    let pasid = try PASID.given(pasid)
    let access = try Access(access)
    if let translation { try checkSize(of: translation, "iommu_translation") }
    func told(_ memory: some PhysicalMemory) throws -> ToldWalk {
      try ToldWalk(device, pasid: pasid, IOVA(iova), access: access, machine: machine, in: memory)
    }
    let walk = try told(memory.any)
    try memory.check()
    if let step { for entry in walk.steps { try goOn(entry.withC { step($0, context) }) } }
    if let translation { try store(iommu_translation(walk.end), into: translation) }
  }
}

extension iommu_translation {
  fileprivate init(_ end: ToldWalk.End) {
    switch end {
    case .memory(let address, let byteCount):
      self.init(Translation.mapped(address, byteCount: byteCount))
    case .interruptMessage: self.init(Translation.interruptMessage)
    case .fault(let fault):
      self.init(Translation.fault(fault))
      // Whoever watched the walk has seen what is there: whatever else the number may mean, it is a fault.
      is_unanswered = 0
    case .notInDump(_, let fault, _):
      self.init(Translation.fault(fault))
      is_unanswered = 1
    case .unitUnseen: self.init(Translation.fault(.unitUnseen))
    }
  }
}

extension WalkStep {
  fileprivate func withC(_ body: (UnsafePointer<iommu_walk_step>) -> Int32) -> Int32 {
    entry.name.withCString { name in
      fieldsText.withCString { fields in
        entry.meaning.withCString { meaning in
          entry.specification.withCString { specification in
            var step = iommu_walk_step()
            step.size = MemoryLayout<iommu_walk_step>.size
            step.name = name
            step.fields = fields
            step.meaning = meaning
            step.specification = specification
            step.address = address.rawValue
            step.index = index
            if case .level(let level) = place { step.level = Int32(level) }
            withUnsafeMutableBytes(of: &step.words) { bytes in
              let words = bytes.bindMemory(to: UInt64.self)
              step.word_count = UInt32(min(words.count, entry.words.count))
              for (index, word) in entry.words.prefix(words.count).enumerated() {
                words[index] = word
              }
            }
            return body(&step)
          }
        }
      }
    }
  }
}

// MARK: Mappings

@_cdecl("iommu_maps")
public func maps(
  _ machine: Handle?, _ memory: Handle?,
  _ mapping: (@convention(c) (UnsafePointer<iommu_mapping>?, UnsafeMutableRawPointer?) -> Int32)?,
  _ unknown: (@convention(c) (UnsafePointer<CChar>?, UnsafeMutableRawPointer?) -> Int32)?,
  _ context: UnsafeMutableRawPointer?
) -> iommu_status {
  call {
    let machine = try object(machine, as: CMachine.self).machine
    let memory = try object(memory, as: CMemory.self)
    guard let mapping else { throw CallError.argument("mapping is null: give a function") }
    func report(_ content: some PhysicalMemory) throws {
      let report = MapsReport(all: machine, in: content)
      var texts = report.gaps.map(\.text) + report.wrong
      var failure: (any Error)?
      report.forEachTable(in: content) { table in
        guard failure == nil else { return }
        do {
          try table.forEach { try goOn(mapping($0, context)) }
          if table.sharedWith == nil { texts += table.gaps.map(\.text) }
        } catch { failure = error }
      }
      if let failure { throw failure }
      try memory.check()
      if let unknown { for text in texts { try goOn(text.withCString { unknown($0, context) }) } }
    }
    try report(memory.any)
  }
}

extension TableMaps {
  /// Calls `body` for each run, or once where another table or none stands for them.
  fileprivate func forEach(_ body: (UnsafePointer<iommu_mapping>) throws -> Void) throws {
    try table.name.withCString { owner in
      var mapping = iommu_mapping()
      mapping.size = MemoryLayout<iommu_mapping>.size
      mapping.owner = owner
      if isPassThrough {
        mapping.is_pass_through = 1
        mapping.setAccess(table.permissions)
        return try body(&mapping)
      }
      if let sharedWith {
        return try sharedWith.withCString { first in
          mapping.same_as = first
          try body(&mapping)
        }
      }
      for run in runs {
        mapping.iova = run.iova.lowerBound.rawValue
        mapping.physical = run.physical.rawValue
        mapping.byte_count = run.byteCount
        mapping.setAccess(run.permissions)
        try body(&mapping)
      }
    }
  }
}

extension iommu_mapping {
  fileprivate mutating func setAccess(_ permissions: Permissions) {
    can_read = permissions.contains(.read) ? 1 : 0
    can_write = permissions.contains(.write) ? 1 : 0
  }
}

// MARK: Searching

@_cdecl("iommu_find")
public func find(
  _ memory: Handle?,
  _ candidate: (
    @convention(c) (UnsafePointer<iommu_candidate>?, UnsafeMutableRawPointer?) -> Int32
  )?,
  _ context: UnsafeMutableRawPointer?
) -> iommu_status {
  call {
    let memory = try object(memory, as: CMemory.self)
    guard let candidate else { throw CallError.argument("candidate is null: give a function") }
    func search(_ content: some PhysicalMemory) -> TableSearch { TableSearch(in: content) }
    let found = search(memory.any)
    try memory.check()
    for table in found.candidates {
      try table.kind.name.withCString { kind in
        try table.reasons.joined(separator: "\n").withCString { reasons in
          var entry = iommu_candidate()
          entry.size = MemoryLayout<iommu_candidate>.size
          entry.kind = kind
          entry.reasons = reasons
          entry.address = table.address.rawValue
          entry.byte_count = table.byteCount
          entry.score = Int32(table.score)
          entry.is_certain = table.isCertain ? 1 : 0
          try goOn(candidate(&entry, context))
        }
      }
    }
  }
}

// MARK: The Rule

@_cdecl("iommu_verify")
public func verify(
  _ machine: Handle?, _ memory: Handle?, _ devices: UnsafePointer<iommu_device>?, _ count: Int,
  _ verdict: (@convention(c) (UnsafePointer<iommu_verdict>?, UnsafeMutableRawPointer?) -> Int32)?,
  _ context: UnsafeMutableRawPointer?, _ conclusion: UnsafeMutablePointer<iommu_outcome>?
) -> iommu_status {
  call {
    let described = try object(machine, as: CMachine.self)
    let memory = try object(memory, as: CMemory.self)
    let conclusion = try require(conclusion, "conclusion")
    let devices = try elements(devices, count, "devices").map { try PCI.Function($0) }
    var machine = described.machine
    for device in devices { _ = try machine.serving(device) }
    let kernel = memory.image.flatMap { KernelKnowledge(of: $0, path: $0.path) }
    if machine.crashKernel.isEmpty { machine.crashKernel = kernel?.machine.crashKernel ?? [] }
    func judge(_ content: some PhysicalMemory) throws -> RuleReport {
      guard
        let evidence = RuleEvidence(
          dump: machine, devices: devices, in: content, kernel: kernel,
          isUnitsSource: described.isFromKernel)
      else {
        throw CallError.notFound(
          "nothing says where the crash kernel is: tell iommu_machine_set_crash_kernel()")
      }
      return RuleReport(evidence, in: content)
    }
    let report = try judge(memory.any)
    try memory.check()
    if let verdict {
      for judged in report.verdicts { try goOn(judged.withC { verdict($0, context) }) }
    }
    conclusion.pointee = iommu_outcome(report.conclusion)
  }
}

extension iommu_outcome {
  fileprivate init(_ outcome: RuleVerdict.Outcome) {
    self =
      switch outcome {
      case .holds: Self(IOMMU_HOLDS)
      case .broken: Self(IOMMU_BROKEN)
      case .unknown: Self(IOMMU_UNKNOWN)
      case .notApplicable: Self(IOMMU_NOT_APPLICABLE)
      }
  }

  fileprivate init(_ conclusion: RuleConclusion) {
    switch conclusion {
    case .holds: self.init(RuleVerdict.Outcome.holds)
    case .broken: self.init(RuleVerdict.Outcome.broken)
    case .unknown: self.init(RuleVerdict.Outcome.unknown)
    }
  }
}

extension RuleReport.Verdict {
  fileprivate func withC(_ body: (UnsafePointer<iommu_verdict>) -> Int32) -> Int32 {
    let lines = findings.map { finding in
      [finding.subjects, finding.text, finding.entry].compactMap(\.self).joined(separator: ": ")
    }
    return rule.statement.withCString { statement in
      (lines + grounds).joined(separator: "\n").withCString { findings in
        var verdict = iommu_verdict()
        verdict.size = MemoryLayout<iommu_verdict>.size
        verdict.rule = Int32(rule.rawValue)
        verdict.outcome = iommu_outcome(outcome)
        verdict.statement = statement
        verdict.findings = findings
        return body(&verdict)
      }
    }
  }
}
