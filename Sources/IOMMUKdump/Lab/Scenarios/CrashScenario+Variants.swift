import IOMMUFormats
import IOMMUTranslation

extension CrashScenario {
  /// N01 to N08: questions that came after the thirty-four.
  static let variants: [CrashScenario] = [
    CrashScenario("N01", "a bus with functions from 128 on alone, scalable mode") {
      (result) throws(SetUpError) in
      for (strategy, expected) in [
        (CrashStrategy.copyContexts, "OWN"), (.copyMisplacing, "BLK-F 0x39"),
      ] {
        let devices = [
          ("NIC", Requester(bus: 0x80, device: 0x1f, function: 6)),
          ("USB controller", Requester(bus: 0x80, device: 0x14, function: 0)),
        ].map { name, requester in
          CrashDevice(
            Device(name: name, requester: requester), sources: [.receiveRing], hasDriver: false)
        }
        let setup = CrashSetup(strategy, on: .vtdScalable, machine: try .m1(devices: devices))
        let lab = try CrashLab(setup)
        lab.startDevices()
        let run = lab.play()
        result.runs.append((strategy.rawValue, run))
        for device in devices {
          let access = run.step(.waiting)?.accesses.first { $0.device == device.device }
          let reason = access?.fault?.number.map { " " + hexadecimal($0) } ?? ""
          result.expect(
            "\(strategy.rawValue): \(device.device.name), P2", expected,
            found: (access?.outcome.rawValue ?? "-") + reason)
        }
      }
    },
    CrashScenario("N02", "domain-ids of copied PASID entries handed out again") {
      (result) throws(SetUpError) in
      for (strategy, caches, expected) in [
        (CrashStrategy.copyReusingIDs, CacheLevel.everything, "ALIAS"),
        (.copyReusingIDs, .none, "OWN"), (.copyContexts, .everything, "OWN"),
      ] {
        // The GPU gets no driver, and its old tables stay in force beside the NIC's new ones.
        let devices = [
          CrashDevice(
            Device(name: "GPU", requester: Requester(bus: 2, device: 0, function: 0)),
            sources: [.statusPage], hasDriver: false),
          CrashDevice(
            Device(name: "NIC", requester: Requester(bus: 1, device: 0, function: 0)),
            sources: [.statusPage], reset: .byDriver),
        ]
        let setup = CrashSetup(
          strategy, on: .vtdScalable, machine: try .m1(devices: devices), caches: caches)
        let lab = try CrashLab(setup)
        lab.startDevices()
        let run = lab.play()
        let name = "\(strategy.rawValue), caches: \(caches.rawValue)"
        result.runs.append((name, run))
        let own = run.steps.flatMap(\.accesses).first { $0.owner == .kdump }
        result.expect(
          "\(name): the NIC's first write", expected, found: own?.outcome.rawValue ?? "-")
        let leftover = run.step(.driverless)?.accesses.first
        result.expect(
          "\(name): the GPU's leftover, P4", "OWN", found: leftover?.outcome.rawValue ?? "-")
      }
    },
    CrashScenario("N03", "a planned kexec that keeps tables and domains") {
      (result) throws(SetUpError) in
      let line = try result.matrix(
        .liveUpdate, on: .vtd, a: "OWN", b: "BLK-F", c: "OWN", f: "OWN", d: "OWN")
      let numbers = line.run.steps.flatMap(\.accesses).filter { $0.owner == .kdump }.map(\.iova)
      let old = line.run.steps.flatMap(\.accesses).filter { $0.owner == .leftover }.map(\.iova)
      result.expect(
        "numbers of the new kernel and of the old", "none in common",
        found: numbers.contains { new in old.contains { $0.overlaps(new) } }
          ? "some in common" : "none in common")
    },
    CrashScenario("N04", "reservation without the identity map") { (result) throws(SetUpError) in
      let line = try result.matrix(
        .reservation, on: .vtd, a: "OWN", b: "BLK-F", f: "OWN", d: "BLK-F")
      let own = line.run.steps.flatMap(\.accesses).filter {
        $0.owner == .kdump && $0.direction == .fromDevice
      }
      result.expect(
        "bytes of the capture kernel's buffer that its device changed", "0",
        found: "\(own.reduce(0) { $0 + $1.changedByteCount })")
    },
    CrashScenario("N05", "the Rule for the pages that do I/O alone") {
      (result) throws(SetUpError) in
      try result.matrix(.ruleForPages, on: .vtd, a: "OWN", d: "OWN")
      let setup = try CrashSetup.matrix(.ruleForPages, on: .vtd)
      let lab = try result.lab(setup)
      lab.firstPage = PhysicalAddress(0x200_0000 + 0x10_0000)
      let run = lab.play()
      result.runs.append(("a buffer outside these pages", run))
      let own = run.steps.flatMap(\.accesses).first { $0.owner == .kdump }
      result.expect("d outside these pages", "BLK-F", found: own?.outcome.rawValue ?? "-")
    },
    CrashScenario("N06", "a translation cached while the unit is off") {
      (result) throws(SetUpError) in
      // Nothing has a unit forget when it is switched off; what it remembers acts once it is on again.
      let line = try result.matrix(.anew, on: .amdvi, caches: .everything, a: "OWN/BLK-F/BLK-F")
      result.moment(line, .translationOff, .a, "MA")
      result.moment(line, .notFlushed, .a, "OWN")
    },
    CrashScenario("N07", "two devices behind one PCI bridge, one without a driver") {
      (result) throws(SetUpError) in
      // Whoever attaches the one takes the other along: they have one entry, and its old numbers then
      // mean the capture kernel's buffers. That the first was at rest does not help.
      for (strategy, unit, waiting, driverless) in [
        (CrashStrategy.rule, CrashUnit.vtd, "OWN", "OWN"), (.rule, .amdvi, "OWN", "OWN"),
        (.copyContexts, .vtd, "OWN", "KILL"), (.copyContexts, .amdvi, "OWN", "KILL"),
        (.anew, .vtd, "BLK-F", "KILL"), (.copyPageTables, .vtd, "OWN", "OWN"),
      ] {
        try result.neighbours(.behindBridge(neighbours), strategy, on: unit, [waiting, driverless])
      }
    },
    CrashScenario("N08", "functions of one card in one domain, one without a driver") {
      (result) throws(SetUpError) in
      // Each has an entry of its own, and only the one that gets a driver changes.
      for (strategy, unit, waiting, driverless) in [
        (CrashStrategy.rule, CrashUnit.vtd, "OWN", "OWN"), (.rule, .amdvi, "OWN", "OWN"),
        (.copyContexts, .vtd, "OWN", "OWN"), (.copyContexts, .amdvi, "OWN", "OWN"),
        (.adopt, .smmuv3, "OWN", "OWN"), (.anew, .vtd, "BLK-F", "BLK-F"),
        (.copyPageTables, .vtd, "OWN", "OWN"),
      ] {
        try result.neighbours(.functions(neighbours), strategy, on: unit, [waiting, driverless])
      }
    },
  ]
}

/// The controller that gets no driver, and the NIC.
private let neighbours: [DeviceProfile] = [.usb, .igb]

extension ScenarioResult {
  /// Plays a NIC that its driver resets first, beside a controller that gets no driver and has the first
  /// number; both in one slot.
  ///
  /// - Parameters:
  ///   - slot: The two, and what they share.
  ///   - strategy: One of the unit's.
  ///   - unit: What stands between them and memory.
  ///   - words: What the controller's DMA comes to in P2 and P4.
  fileprivate mutating func neighbours(
    _ slot: DeviceSlot, _ strategy: CrashStrategy, on unit: CrashUnit,
    _ words: [String]
  ) throws(SetUpError) {
    var devices = slot.devices(number: 0)
    devices[0].hasDriver = false
    let lab = try CrashLab(CrashSetup(strategy, on: unit, machine: try .m1(devices: devices)))
    lab.startDevices()
    let run = lab.play()
    let name = "\(strategy.rawValue) on \(unit.title)"
    runs.append((name, run))
    for (phase, word) in zip([CrashPhase.waiting, .driverless], words) {
      let access = run.step(phase)?.accesses.first { $0.device == devices[0].device }
      expect(
        "\(name): the USB controller, \(phase.rawValue)", word,
        found: access?.outcome.rawValue ?? "-")
    }
    expect("\(name): the NIC's own I/O", "OWN", found: ownIO(run, of: devices[1].device))
  }
}
