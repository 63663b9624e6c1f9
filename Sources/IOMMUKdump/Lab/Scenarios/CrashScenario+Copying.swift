import IOMMUFormats
import IOMMUTranslation

extension CrashScenario {
  /// K19 to K28: resets, copies, and what goes wrong with them.
  static let copying: [CrashScenario] = [
    CrashScenario("K19", "links reset early, one device is part of the root complex") {
      (result) throws(SetUpError) in
      try result.matrix(
        .resetLinks, on: .vtd, a: "OWN/-/-", b: "BLK-F/-/-", c: "OWN/-/-", d: "OWN")
      var setup = try CrashSetup.matrix(.resetLinks, on: .vtd)
      setup.machine.devices[0].isIntegrated = true
      let run = try result.lab(setup).play()
      result.runs.append(("a device that is not reset", run))
      for (phase, expected) in [
        (CrashPhase.panicked, "OWN"), (.waiting, "BLK-F"), (.driven, "BLK-F"),
      ] {
        result.expect(
          "the integrated one: a, \(phase.rawValue)", expected,
          found: result.word(run, .a, phase))
      }
    },
    CrashScenario("K20", "page tables copied, the old ones damaged afterwards") {
      (result) throws(SetUpError) in
      let setup = try CrashSetup.matrix(.copyPageTables, on: .vtd)
      let lab = try result.lab(setup)
      let leaf = lab.leafOfRowA
      lab.afterTakeOver = { leaf.map { lab.primary.memory.store(UInt64(0x7000_0003), at: $0) } }
      let run = lab.play()
      result.runs.append(("copied, then damaged", run))
      for phase in [CrashPhase.waiting, .driven] {
        result.expect("a, \(phase.rawValue)", "OWN", found: result.word(run, .a, phase))
      }
    },
    CrashScenario("K21", "contexts copied, reset before and after the first mapping") {
      (result) throws(SetUpError) in
      for unit in [CrashUnit.vtd, .amdvi] {
        try result.matrix(
          .copyContexts, on: unit, a: "OWN/OWN/BLK-F", b: "BLK-F", c: "OWN/OWN/BLK-F",
          f: "OWN/OWN/KILL", d: "OWN")
      }
      try result.matrix(
        .copyContexts, on: .vtd, reset: .byDriver, f: "OWN/OWN/-", d: "OWN")
    },
    CrashScenario("K22", "contexts copied, a leaf of the old kernel damaged") {
      (result) throws(SetUpError) in
      for (value, expected) in [(UInt64(0x7000_0003), "SMEAR"), (0x300_0003, "KILL")] {
        let setup = try CrashSetup.matrix(.copyContexts, on: .vtd, caches: .none)
        let lab = try result.lab(setup)
        if let leaf = lab.leafOfRowA { lab.primary.memory.store(value, at: leaf) }
        let run = lab.play()
        result.runs.append(("the leaf holds \(hexadecimal(value))", run))
        result.expect(
          "a, P2, the leaf holds \(hexadecimal(value))", expected,
          found: result.word(run, .a, .waiting))
      }
    },
    CrashScenario("K23", "the kernels differ in table mode") { (result) throws(SetUpError) in
      let line = try result.matrix(
        .copyFails, on: .vtd, a: "OWN/BLK-F/BLK-F", b: "BLK-F", c: "OWN/BLK-F/BLK-F",
        f: "OWN/BLK-F/KILL", d: "OWN")
      for (row, expected) in [(LeftoverStream.Row.a, "MA"), (.b, "SMEAR"), (.c, "KILL")] {
        result.moment(line, .translationOff, row, expected)
      }
    },
    CrashScenario("K24", "a cached translation outlives the copied context") {
      (result) throws(SetUpError) in
      for (omits, expected) in [(true, "BLK-F 0x5"), (false, "OWN")] {
        var setup = try CrashSetup.matrix(
          .copyContexts, on: .vtd, caches: .everything, reset: .byDriver)
        setup.omitsFlushes = omits
        let lab = try CrashLab(setup)
        // Number f was for reading alone, and the device has read it.
        if let buffer = try? lab.primary.map(
          .page(0x1_5000_1000), for: setup.anyDevice, direction: .toDevice)
        {
          lab.add(
            LeftoverStream(
              device: setup.anyDevice, source: .graphics,
              iova: buffer.iova..<IOVA(buffer.iova.rawValue + 64),
              target: buffer.target
                .lowerBound..<PhysicalAddress(
                  buffer.target.lowerBound.rawValue + 64), row: .f))
        }
        let run = lab.play()
        result.runs.append((omits ? "no flush" : "flushed", run))
        let own = run.steps.flatMap(\.accesses).first {
          $0.owner == .kdump && $0.direction == .fromDevice
        }
        let reason = own?.fault?.number.map { " " + hexadecimal($0) } ?? ""
        result.expect(
          "\(omits ? "no flush" : "flushed"): a write to f", expected,
          found: (own?.outcome.rawValue ?? "-") + reason)
      }
    },
    CrashScenario("K25", "one bus cannot be copied") { (result) throws(SetUpError) in
      let setup = try CrashSetup.matrix(.copyContexts, on: .vtd)
      let lab = try result.lab(setup)
      lab.beforeTakeOver = {
        guard let unit = lab.primary.machine.units.first?.as(VTd.Unit.self) else { return }
        // A context table where no memory is.
        lab.primary.memory.store(
          UInt64(0x70_0000_0001),
          at: unit.rootEntryAddress(bus: setup.anyDevice.requester.bus))
      }
      let run = lab.play()
      result.runs.append(("the bus stays empty", run))
      let access = run.step(.waiting)?.accesses.first { $0.row == .a }
      result.expect("a, P2", "BLK-F", found: access?.outcome.rawValue ?? "-")
      result.expect(
        "its reason", "0x2", found: access?.fault?.number.map { hexadecimal($0) } ?? "none",
        remark: "what is not present is the root entry, and that is reason 0x1 (VT-d 7.1.3); "
          + "0x2 needs a context table")
    },
    CrashScenario("K26", "the device table reused in place") { (result) throws(SetUpError) in
      let setup = try CrashSetup.matrix(.reuseInPlace, on: .amdvi)
      let lab = try result.lab(setup)
      guard let platform = lab.primary.amdviPlatform,
        let registers = platform.registers(at: AMDViPlatform.base)
      else { return }
      let base = AMDVi.CommandBufferBase(
        rawValue: registers.read(AMDVi.RegisterOffset.commandBufferBase, byteCount: 8))
      func commands() -> [UInt8]? { lab.primary.memory.bytes(at: base.address, count: 4096) }
      var before: [UInt8]?
      lab.beforeTakeOver = { before = commands() }
      let run = lab.play()
      result.runs.append(("reused in place", run))
      result.expect(
        "the old kernel's command buffer, in the dump", "changed",
        found: commands() == before ? "as it was" : "changed")
      try result.matrix(
        .reuseInPlace, on: .amdvi, a: "OWN/OWN/BLK-F", b: "BLK-F", f: "OWN/OWN/KILL", d: "OWN")
    },
    CrashScenario("K27", "iommu=pt in both kernels") { (result) throws(SetUpError) in
      for unit in [CrashUnit.vtd, .amdvi] {
        try result.matrix(.passThrough, on: unit, a: "OWN", b: "SMEAR", d: "OWN")
      }
    },
    CrashScenario("K28", "SMMUv3: abort, bypass, adopt") { (result) throws(SetUpError) in
      let quiet =
        "a crash kernel leaves the event queue off (CR0 = 9 in Linux 6.1 to 7.x): what its tables "
        + "stop is not recorded either"
      try result.matrix(
        .abort, on: .smmuv3, a: "OWN/BLK-S/BLK-F", b: "BLK-F/BLK-S/BLK-F", c: "OWN/BLK-S/BLK-F",
        f: "OWN/BLK-S/KILL", d: "OWN", remark: quiet)
      try result.matrix(
        .bypass, on: .smmuv3, a: "OWN/MA/BLK-F", b: "BLK-F/SMEAR/BLK-F", c: "OWN/KILL/BLK-F",
        f: "OWN/MA/KILL", d: "OWN")
      try result.matrix(
        .adopt, on: .smmuv3, a: "OWN/OWN/BLK-F", b: "BLK-F", c: "OWN/OWN/BLK-F",
        f: "OWN/OWN/KILL", d: "OWN", remark: quiet)
    },
  ]
}

extension CrashLab {
  /// Where the old kernel's last-level entry for number a lies, in second-stage tables.
  var leafOfRowA: PhysicalAddress? {
    guard let stream = streams.first(where: { $0.row == .a }) else { return nil }
    let handle = primary.machine.resolve(stream.device.requester, in: primary.memory)
    guard case .table(.secondStage(let table)) = handle.route else { return nil }
    var observer = Unobserved()
    return table.format.walk(
      stream.iova.lowerBound.rawValue, from: table.root, in: primary.memory, observer: &observer
    ).entryAddress
  }
}
