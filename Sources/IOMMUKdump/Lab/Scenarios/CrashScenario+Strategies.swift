import IOMMUFormats
import IOMMUTranslation

extension CrashScenario {
  /// K01 to K10: hardware untouched, off, set up anew, or its table reused.
  static let strategies: [CrashScenario] = [
    CrashScenario("K01", "no translation hardware") { (result) throws(SetUpError) in
      let line = try result.matrix(
        .untranslated, on: .nommu, a: "OWN", b: "SMEAR", d: "OWN")
      let changed = line.run.steps.flatMap(\.accesses).filter {
        $0.row == .b && $0.changedByteCount > 0
      }
      result.expect(
        "bytes at 0x70000000", "changed",
        found: changed.contains { $0.reached.contains { $0.lowerBound.rawValue == 0x7000_0000 } }
          ? "changed" : "as they were")
    },
    CrashScenario("K02", "hardware on, capture kernel blind, no identity map") {
      (result) throws(SetUpError) in
      let line = try result.matrix(
        .blind, on: .vtd, a: "OWN", b: "BLK-F", c: "OWN", d: "BLK-F")
      let fault = line.run.steps.flatMap(\.accesses).first {
        $0.owner == .kdump && $0.direction == .fromDevice
      }?.fault
      result.expect(
        "the reason of d", "0x5", found: fault?.number.map { hexadecimal($0) } ?? "none")
      let setup = try CrashSetup.matrix(.blind, on: .vtd)
      let lab = try result.lab(setup)
      let page = PhysicalAddress(0x400_0000)
      _ = try? lab.primary.map(
        page: PhysicalAddress(0x1_7000_0000), at: IOVA(page.rawValue),
        for: setup.anyDevice, direction: .bidirectional)
      lab.firstPage = page
      let run = lab.play()
      result.runs.append(("with the number of d mapped to old memory", run))
      let own = run.steps.flatMap(\.accesses).first {
        $0.owner == .kdump && $0.iova.lowerBound.rawValue == page.rawValue
      }
      result.expect(
        "d, its number mapped by the old kernel", "ALIAS",
        found: own?.outcome.rawValue ?? "-")
    },
    CrashScenario("K03", "off in the crash path, capture kernel blind") {
      (result) throws(SetUpError) in
      let line = try result.matrix(
        .offAndBlind, on: .vtd, a: "MA", b: "SMEAR", c: "KILL")
      let changed = line.run.steps.flatMap(\.accesses).filter {
        $0.row == .c && $0.changedByteCount > 0
      }
      result.expect(
        "bytes at 0x2000000", "changed",
        found: changed.contains { $0.reached.contains { $0.lowerBound.rawValue == 0x200_0000 } }
          ? "changed" : "as they were")
    },
    CrashScenario("K04", "off in the crash path, set up anew") { (result) throws(SetUpError) in
      try result.matrix(
        .offAndAnew, on: .vtd, a: "MA/BLK-F/BLK-F", b: "SMEAR/BLK-F/BLK-F",
        c: "KILL/BLK-F/BLK-F", f: "MA/BLK-F/KILL")
      let line = try result.matrix(
        .offAndAnew, on: .amdvi, a: "MA/BLK-F/BLK-F", b: "SMEAR/BLK-F/BLK-F",
        c: "KILL/BLK-F/BLK-F", f: "MA/BLK-F/KILL")
      result.moment(line, .translationOff, .c, "KILL")
    },
    CrashScenario("K05", "set up anew, with and without a flush") { (result) throws(SetUpError) in
      for unit in [CrashUnit.vtd, .amdvi] {
        let line = try result.matrix(
          .anew, on: unit, a: "OWN/BLK-F/BLK-F", b: "BLK-F", c: "OWN/BLK-F/BLK-F",
          f: "OWN/BLK-F/KILL", d: "OWN")
        let fault = line.run.step(.waiting)?.accesses.first { $0.row == .a }?.fault
        guard unit == .vtd else { continue }
        result.expect(
          "the reason of a in P2", "0x1 or 0x2",
          found: fault?.number.map { hexadecimal($0) } ?? "none",
          agrees: fault?.number == 1 || fault?.number == 2)
      }
      // What is remembered of the old tables goes on acting.
      try result.matrix(
        .anew, on: .vtd, caches: .everything, omitsFlushes: true, a: "OWN", b: "BLK-F", c: "OWN")
    },
    CrashScenario("K06", "switched off by the capture kernel") { (result) throws(SetUpError) in
      for unit in [CrashUnit.vtd, .amdvi] {
        try result.matrix(
          .offInCapture, on: unit, a: "OWN/MA/MA", b: "BLK-F/SMEAR/SMEAR", c: "OWN/KILL/KILL",
          f: "OWN/MA/MA", d: "OWN")
      }
    },
    CrashScenario("K07", "Calgary's tables reused") { (result) throws(SetUpError) in
      try result.matrix(
        .reuseTables, on: .calgary, a: "OWN", b: "BLK-F", c: "OWN", d: "OWN")
      let devices = (1...3).map {
        CrashDevice(
          Device(name: "disk \($0)", requester: Requester(bus: UInt8($0), device: 1, function: 0)),
          sources: [.storageCommand])
      }
      let setup = CrashSetup(
        .reuseTables, on: .calgary, machine: try .m1(devices: devices), tableSize: .mib8)
      let lab = try CrashLab(setup)
      lab.startDevices()
      let capture = try CalgaryHardware().captureKernel(setup, after: lab.primary)
      try capture.takeOver { _ in }
      guard let capture = capture as? CalgaryCaptureKernel,
        let old = lab.primary.driver as? CalgaryDriver
      else { return }
      result.expect("tables", "3", found: "\(capture.kernel.buses.count)")
      // What is taken beside entries in use was taken by the old kernel as well.
      let isSame = zip(capture.kernel.buses, old.kernel.buses).allSatisfy { new, old in
        new.bitmap.takesTheSame(as: old.bitmap)
      }
      result.expect(
        "the bitmaps and the entries in use", "the same", found: isSame ? "the same" : "differ")
      let run = lab.play()
      result.runs.append(("three PHBs", run))
      result.expect("three PHBs: d", "OWN", found: result.ownIO(run))
    },
    CrashScenario("K08", "a freed number comes round") { (result) throws(SetUpError) in
      try result.matrix(
        .reuseTablesFreeing, on: .calgary, a: "OWN", b: "BLK-F/BLK-F/KILL", d: "OWN")
      try result.matrix(
        .reuseWithFloorFreeing, on: .pseries, a: "OWN", b: "BLK-F/BLK-F/KILL", d: "OWN")
    },
    CrashScenario("K09", "a table without a free entry") { (result) throws(SetUpError) in
      var setup = try CrashSetup.matrix(.reuseTables, on: .calgary)
      setup.tableSize = .kib64
      let lab = try CrashLab(setup)
      let device = setup.anyDevice
      var count = 0
      while (try? lab.primary.map(
        .page(0x1_4000_0000), for: device, direction: .bidirectional)) != nil
      { count += 1 }
      guard let driver = lab.primary.driver as? CalgaryDriver,
        let index = driver.kernel.busIndex(of: device.requester)
      else { return }
      let table = driver.kernel.buses[index].table
      let byteCount = Int(driver.kernel.buses[index].size.byteCount)
      var before: [UInt8]?
      lab.afterTakeOver = { before = lab.primary.memory.bytes(at: table, count: byteCount) }
      let run = lab.play()
      result.runs.append(("a full table of 8,192 entries", run))
      result.expect("d", "NOMAP", found: result.ownIO(run))
      result.expect(
        "the table", "not written",
        found: lab.primary.memory.bytes(at: table, count: byteCount) == before
          ? "not written" : "written")
    },
    CrashScenario("K10", "the floor of 2,048 entries") { (result) throws(SetUpError) in
      for used in [1700, 2047] {
        let setup = try CrashSetup.matrix(.reuseWithFloorFreeing, on: .pseries)
        let lab = try CrashLab(setup, hardware: ModelHardware(kind: .smallPSeries))
        let device = setup.anyDevice
        for number in 0..<used {
          let page = PhysicalAddress(0x1_4000_0000 + UInt64(number) * 4096)
          guard
            let buffer = try? lab.primary.map(
              page..<PhysicalAddress(page.rawValue + 4096), for: device, direction: .bidirectional)
          else { break }
          guard number == 0 else { continue }
          lab.add(
            LeftoverStream(
              device: device, source: .statusPage,
              iova: buffer.iova..<IOVA(buffer.iova.rawValue + 64),
              target: page..<PhysicalAddress(page.rawValue + 64), row: .a))
        }
        let run = lab.play()
        result.runs.append(("\(used) of 2,048 in use", run))
        result.expect(
          "\(used) of 2,048 used: a live entry that was cleared, P2", "BLK-F",
          found: result.word(run, .a, .waiting))
        result.expect(
          "\(used) of 2,048 used: the same, handed out again", "KILL",
          found: result.word(run, .a, .driven))
      }
    },
  ]
}
