import IOMMUFormats
import IOMMUHardware
import IOMMURule
import IOMMUTranslation

extension CrashScenario {
  /// K11 to K18: the Rule on every kind of hardware, and where it breaks.
  static let rule: [CrashScenario] = [
    CrashScenario("K11", "the Rule on a GART") { (result) throws(SetUpError) in
      try result.matrix(.rule, on: .gart, a: "OWN", c: "KILL", d: "OWN")
      var setup = try CrashSetup.matrix(.rule, on: .gart)
      setup.apertureOverRAM = true
      let lab = try result.lab(setup)
      guard let driver = lab.primary.driver as? GARTDriver else { return }
      let mapped = lab.streams.first { $0.row == .a }
      let run = lab.play()
      result.runs.append(("the aperture over RAM", run))
      result.expect(
        "aperture over RAM: a, P3", "OWN", found: result.word(run, .a, .driven))
      result.expect("aperture over RAM: d", "OWN", found: result.ownIO(run))
      guard let mapped else { return }
      func processorReads() -> String {
        let answer = driver.hardware.translate(
          mapped.iova.lowerBound, byteCount: 4, access: .read, by: .cpu, in: lab.primary.memory)
        return answer
          == .mapped(PhysicalAddress(mapped.iova.lowerBound.rawValue), byteCount: 4)
          ? "as it stands" : "translated"
      }
      result.expect("a read of the CPU in the aperture", "translated", found: processorReads())
      for function in driver.functions {
        // DisGartCpu, as proposed in October 2008.
        let offset = Int(GART.RegisterOffset.apertureControl)
        var control = GART.ApertureControl(
          rawValue: UInt32(
            truncatingIfNeeded: driver.hardware.readConfiguration(function, at: offset)))
        control.blocksCPU = true
        driver.hardware.writeConfiguration(UInt64(control.rawValue), to: function, at: offset)
      }
      result.expect("the same with DisGartCpu", "as it stands", found: processorReads())
    },
    CrashScenario("K12", "the Rule in Calgary's tables of every size") {
      (result) throws(SetUpError) in
      for (code, size, fits) in [
        (7, Calgary.TableSize.mib8, true), (4, .mib1, true), (3, .kib512, true),
        (2, .kib256, false),
      ] {
        var setup = try CrashSetup.matrix(.rule, on: .calgary)
        setup.tableSize = size
        let lab: CrashLab
        do throws(SetUpError) {
          lab = try result.lab(setup)
        } catch .beyondTable {
          result.expect("code \(code): R1", fits ? "holds" : "fails", found: "fails")
          continue
        }
        let last = CrashMachine.crashRange.upperBound.rawValue - 4096
        let device = setup.anyDevice
        for (name, page, expected) in [
          ("first page of the range", CrashMachine.crashRange.lowerBound.rawValue, "OWN"),
          ("last page of the range", last, "OWN"),
          ("the page after it", last + 4096, "BLK-F"),
        ] {
          var bus = lab.primary.makeBus()
          let bytes: [UInt8] = [1, 2, 3, 4]
          let record = bus.write(bytes, by: device, at: IOVA(page))
          let arrived = lab.primary.memory.bytes(at: PhysicalAddress(page), count: bytes.count)
          let outcome = Outcome(
            of: record, target: .page(page), isDelivered: arrived == bytes,
            map: setup.machine.map, isKdump: true)
          result.expect("code \(code): d, \(name)", expected, found: outcome.rawValue)
        }
        result.expect(
          "code \(code): R1", fits ? "holds" : "fails",
          found: lab.verdict(.identity) == .holds ? "holds" : "fails")
      }
    },
    CrashScenario("K13", "a device that the primary kernel never used") {
      (result) throws(SetUpError) in
      let devices = (1...3).map { number in
        CrashDevice(
          Device(
            name: "NIC \(number)",
            requester: Requester(bus: UInt8(number), device: 0, function: 0),
            isUsedByPrimary: number < 3),
          sources: number < 3 ? [.receiveRing] : [])
      }
      let setup = CrashSetup(.ruleForDevices, on: .vtd, machine: try .m1(devices: devices))
      var without = setup
      // The primary kernel does not know that the third will be needed.
      without.machine.devices[2].device.isNeededByKdump = false
      let lab = try CrashLab(without)
      lab.startDevices()
      let run = lab.play()
      result.runs.append(("the Rule for two of three devices", run))
      for (number, expected) in ["OWN", "OWN", "BLK-F"].enumerated() {
        result.expect(
          "d of device \(number + 1)", expected,
          found: result.ownIO(run, of: without.machine.devices[number].device))
      }
      var evidence = lab.primary.evidence()
      evidence.devices = RuleEvidence.Device.all(setup.machine.devices.map(\.device))
      let broken = RuleCheck(evidence: evidence, memory: lab.primary.memory).all()
        .first { $0.rule == .deviceHasTable }
      result.expect(
        "R8", "broken for 03:00.0",
        found: broken?.outcome == .broken
          ? "broken for \(broken?.findings.first?.device.map { "\($0)" } ?? "?")" : "holds")
    },
    CrashScenario("K14", "AMD-Vi with 64 MiB of numbers, and with 4 GiB") {
      (result) throws(SetUpError) in
      let setup = try CrashSetup.matrix(.rule, on: .amdvi)
      do throws(SetUpError) {
        _ = try CrashLab(
          setup, hardware: AMDViHardware(kernel: .linux2_6_27(apertureByteCount: 64 << 20)))
        result.expect("64 MiB: R1", "fails", found: "holds")
      } catch .beyondTable {
        result.expect("64 MiB: R1", "fails", found: "fails")
      }
      try result.matrix(.rule, on: .amdvi, a: "OWN", d: "OWN")
    },
    CrashScenario("K15", "the Rule applied after a number in the range was handed out") {
      (result) throws(SetUpError) in
      let setup = try CrashSetup.matrix(.blind, on: .vtd)
      let lab = try CrashLab(setup)
      let page = PhysicalAddress(0x200_0000)
      _ = try? lab.primary.map(
        page: PhysicalAddress(0x1_5000_0000), at: IOVA(page.rawValue), for: setup.anyDevice,
        direction: .bidirectional)
      do throws(SetUpError) {
        try lab.primary.applyRule()
        result.expect("the set-up", "refused", found: "made")
      } catch .conflict {
        result.expect("the set-up", "refused", found: "refused")
      }
      // A kernel that does not look maps the rest all the same.
      try lab.primary.applyRule(to: [
        CrashMachine.crashRange.lowerBound..<page,
        PhysicalAddress(page.rawValue + 4096)..<CrashMachine.crashRange.upperBound,
      ])
      lab.firstPage = page
      let run = lab.play()
      result.runs.append(("the rest mapped all the same", run))
      let own = run.steps.flatMap(\.accesses).first {
        $0.owner == .kdump && $0.iova.lowerBound.rawValue == page.rawValue
      }
      result.expect("d at that number", "ALIAS", found: own?.outcome.rawValue ?? "-")
      result.expect(
        "R3", "broken", found: lab.verdict(.reservedFirst)?.rawValue ?? "-")
    },
    CrashScenario("K16", "a crash kernel above 4 GiB and a 32-bit device") {
      (result) throws(SetUpError) in
      let high = [CrashMachine.highCrashRange]
      let both = [CrashMachine.highCrashRange, CrashMachine.lowCrashRange]
      for (name, strategy, unit, ranges, expected) in [
        ("S0, no low part", CrashStrategy.untranslated, CrashUnit.nommu, high, "NOMAP"),
        ("S0, low part", .untranslated, .swiotlb, both, "OWN"),
        ("S1, no low part", .blind, .vtd, high, "BLK-F"),
        ("S2a, no low part", .offAndBlind, .vtd, high, "NOMAP"),
        ("S3, no low part", .anew, .vtd, high, "OWN"),
        ("S3x, no low part", .offInCapture, .vtd, high, "NOMAP"),
        ("S10, no low part", .copyPageTables, .vtd, high, "OWN"),
        ("S11, no low part", .copyContexts, .vtd, high, "OWN"),
        ("S11 on AMD-Vi, no low part", .copyContexts, .amdvi, high, "OWN"),
        ("S7, no low part", .rule, .vtd, high, "NOMAP"),
        ("S7, low part mapped too", .rule, .vtd, both, "OWN"),
        ("a GART set up anew, no low part", .anew, .gart, high, "OWN"),
      ] {
        let setup = try CrashSetup.matrix(
          strategy, on: unit, crashKernel: ranges, mask: 0xffff_ffff)
        let run = try CrashLab(setup).play()
        result.runs.append((name, run))
        let remark: String? =
          switch unit {
          case .amdvi:
            "the device table must lie below 4 GiB, where this kernel has no memory: it gives up"
          case _ where strategy == .blind:
            "a kernel without a driver refuses the buffer before any hardware can"
          default: nil
          }
        result.expect(
          "\(name): d", expected, found: run.failure == nil ? result.ownIO(run) : "none",
          remark: remark)
      }
    },
    CrashScenario("K17", "crash memory that programs used before (,cma)") {
      (result) throws(SetUpError) in
      let setup = try CrashSetup.matrix(.rule, on: .vtd)
      let lab = try CrashLab(setup)
      // Direct I/O of a program whose page is the crash kernel's from now on.
      let page: Range<PhysicalAddress> = .page(0x500_0000)
      if let buffer = try? lab.primary.map(
        page, for: setup.anyDevice, direction: .bidirectional)
      {
        lab.add(
          LeftoverStream(
            device: setup.anyDevice, source: .storageCommand,
            iova: buffer.iova..<IOVA(buffer.iova.rawValue + 64),
            target: page.lowerBound..<PhysicalAddress(page.lowerBound.rawValue + 64), row: .a))
      }
      let run = lab.play()
      result.runs.append(("direct I/O into crash memory", run))
      result.expect("a, P1", "KILL", found: result.word(run, .a, .panicked))
      result.expect(
        "R4", "broken", found: lab.verdict(.leftoverDisjoint)?.rawValue ?? "-")
    },
    CrashScenario("K18", "interrupts under the Rule, remapping left on") {
      (result) throws(SetUpError) in
      let machine = try InterruptLab()
      let own = VTd.InterruptRequest(
        address: VTd.InterruptAddress(rawValue: 0xfee0_0000),
        data: VTd.InterruptData(rawValue: 0x31))
      result.expect(
        "an interrupt in compatibility format", "blocked", found: machine.word(own))
      result.expect(
        "a leftover one that names the old entry", "delivered to vector 0x41",
        found: machine.word(machine.leftover))
    },
  ]

  /// K31 and K34: numbers that a guest has chosen, and a range that shrinks.
  static let exposure: [CrashScenario] = [
    CrashScenario("K31", "a guest's device with a number in the range") {
      (result) throws(SetUpError) in
      let number = IOVA(0x200_0000)
      let setup = try CrashSetup.matrix(.rule, on: .vtd)
      let lab = try CrashLab(setup)
      let isRefused =
        (try? lab.primary.map(
          page: PhysicalAddress(0x1_5000_0000), at: number, for: setup.anyDevice,
          direction: .bidirectional)) == nil
      result.expect(
        "S7: the number", "refused", found: isRefused ? "refused" : "handed out")
      try result.matrix(.copyContexts, on: .vtd, c: "OWN/OWN/BLK-F")
    }
  ]

  static let shrinking: [CrashScenario] = [
    CrashScenario("K34", "a crash kernel that shrinks after the set-up") {
      (result) throws(SetUpError) in
      let setup = try CrashSetup.matrix(.rule, on: .vtd)
      let lab = try CrashLab(setup)
      // Half of the range goes back to the primary kernel; the identity map stays.
      let middle = PhysicalAddress(0x500_0000)
      let smaller = try MemoryMap(
        ram: setup.machine.map.ram, crashKernel: [CrashMachine.crashRange.lowerBound..<middle])
      var bus = lab.primary.makeBus()
      let record = bus.write(
        [1, 2, 3, 4], by: setup.anyDevice, at: IOVA(0x600_0000))
      let outcome = Outcome(
        of: record, target: PhysicalAddress(0)..<PhysicalAddress(0), isDelivered: true,
        map: smaller, isKdump: false)
      result.expect("a wild write to a released page", "SMEAR", found: outcome.rawValue)
      var evidence = lab.primary.evidence()
      evidence.machine.crashKernel = smaller.crashKernel
      let exposed = RuleCheck(evidence: evidence, memory: lab.primary.memory).all()
        .first { $0.rule == .exposure }
      result.expect("R13", "broken", found: exposed?.outcome.rawValue ?? "-")
    }
  ]
}

extension CrashLab {
  /// What a check says of the machine as the primary kernel has left it.
  func verdict(_ rule: RuleID) -> RuleVerdict.Outcome? {
    RuleCheck(evidence: primary.evidence(), memory: primary.memory).all()
      .first { $0.rule == rule }?.outcome
  }
}
