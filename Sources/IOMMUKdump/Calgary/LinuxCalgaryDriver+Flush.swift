import IOMMUFormats
import IOMMUTranslation

extension LinuxCalgaryDriver {
  /// How often a split queue is looked at, over a whole flush, and a stop tried anew.
  static let patience = 100

  /// Brings a PHB to rest and drops its TCE cache.
  ///
  /// - Returns: Whether the cache was dropped: a CalIOC2 that does not stop is given up.
  @discardableResult
  package func flush(_ index: Int) -> Bool {
    switch buses[index].model {
    case .calgary:
      flushCalgary(buses[index])
      return true
    case .calioc2: return flushCalIOC2(buses[index])
    }
  }

  private func flushCalgary(_ bus: Bus) {
    let arbitration = read(.arbitration, of: bus)
    write(0, .arbitration, of: bus)
    // The read pushes the write out.
    _ = read(.plssr, of: bus)
    var looks = 0
    waitForSplitQueue(bus, looks: &looks)
    write(bus.tableAddress.rawValue, .tableAddress, of: bus)
    write(arbitration, .arbitration, of: bus)
    _ = read(.arbitration, of: bus)
  }

  private func flushCalIOC2(_ bus: Bus) -> Bool {
    var looks = 0
    for attempt in 1...Self.patience {
      var control = Calgary.PageMigrationRegister(rawValue: word(.pageMigrationControl, of: bus))
      control.softStops = true
      write(UInt64(control.rawValue), .pageMigrationControl, of: bus)
      waitForSplitQueue(bus, looks: &looks)
      let debug = Calgary.PageMigrationRegister(rawValue: word(.pageMigrationDebug, of: bus))
      guard debug.hasSoftStopFault else { break }
      if attempt == Self.patience { return false }
    }
    // Reading the control register is what stops the PHB.
    _ = read(.pageMigrationControl, of: bus)
    _ = read(.pageMigrationDebug, of: bus)
    write(bus.tableAddress.rawValue, .tableAddress, of: bus)
    _ = read(.pageMigrationControl, of: bus)
    write(0, .pageMigrationControl, of: bus)
    _ = read(.pageMigrationControl, of: bus)
    return true
  }

  /// Looks until the queue is idle or patience has run out. A stop that is tried anew does not bring
  /// new patience: later rounds look once.
  private func waitForSplitQueue(_ bus: Bus, looks: inout Int) {
    repeat {
      looks += 1
      if Calgary.SplitQueueRegister(rawValue: read(.splitQueue, of: bus)).isIdle { return }
    } while looks < Self.patience
  }

  // MARK: Watchdog

  /// Looks at every bus as the watchdog does every two seconds.
  ///
  /// - Returns: What it found; each of those buses is lost from then on.
  package func tick() -> [WatchdogFinding] { buses.indices.compactMap { tick($0) } }

  /// Looks at one bus: after an error its slots are shut, and nobody looks again.
  package func tick(_ index: Int) -> WatchdogFinding? {
    let bus = buses[index]
    guard bus.isWatched else { return nil }
    let status = Calgary.ChannelStatusRegister(rawValue: word(.channelStatus, of: bus))
    guard status.hasError else { return nil }
    var dumped: [Calgary.RegisterKind] = [.channelStatus, .plssr]
    if bus.model == .calioc2 {
      dumped += [
        .csmr, .mck, .error0, .error1, .error2, .error3, .error4, .error5, .error6,
        .rootComplexStatus,
      ]
    }
    let dump = dumped.map { word($0, of: bus) }
    write(0, .channelStatus, of: bus)
    let configuration = Calgary.ConfigurationRegister(rawValue: word(.configuration, of: bus))
    write(UInt64(configuration.disablingSlots.rawValue), .configuration, of: bus)
    _ = read(.configuration, of: bus)
    buses[index].isWatched = false
    return WatchdogFinding(bus: bus.number, channelStatus: status, dump: dump)
  }
}
