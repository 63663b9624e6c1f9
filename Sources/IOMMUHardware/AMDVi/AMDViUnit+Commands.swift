import IOMMUFormats
import IOMMUTranslation

extension AMDViUnit {
  /// Why a command is not done.
  private enum CommandError: Error {
    /// There is no such command, the unit does not have it, or a reserved bit is set.
    case illegal
    /// No memory answers at an address.
    case unanswered(PhysicalAddress)
  }

  /// Fetches and executes commands up to the tail. Specification: AMD IOMMU 2.4.
  ///
  /// The head goes on when a command is fetched. In order, each done before the next: that satisfies
  /// every rule about order. Of head and tail only the bits inside the ring count (*assumed*).
  /// - Complexity: At most the commands of one ring.
  func runCommands() {
    typealias Offset = AMDVi.RegisterOffset
    let base = page[AMDVi.CommandBufferBase.self, Offset.commandBufferBase]
    guard status.fetchesCommands, let byteCount = base.byteCount else { return }
    let tail = page[AMDVi.RingPointer.self, Offset.commandTail].byteOffset & (byteCount - 1)
    var head = page[AMDVi.RingPointer.self, Offset.commandHead].byteOffset & (byteCount - 1)
    while head != tail {
      let place = PhysicalAddress(base.address.rawValue + head)
      do throws(CommandError) {
        guard let low = memory.quadword(at: place),
          let high = memory.quadword(at: PhysicalAddress(place.rawValue + 8))
        else { throw .unanswered(place) }
        head = (head + 16) & (byteCount - 1)
        page[AMDVi.RingPointer.self, Offset.commandHead] = AMDVi.RingPointer(byteOffset: head)
        try execute(low, high, at: place)
      } catch {
        status.fetchesCommands = false
        switch error {
        case .illegal: log(AMDVi.Event(.illegalCommand, address: place.rawValue))
        case .unanswered(let address):
          // Type 2, target abort.
          log(AMDVi.Event(.commandHardwareError, flags: 0x400, address: address.rawValue))
        }
        return
      }
    }
  }

  private func execute(
    _ low: UInt64, _ high: UInt64, at place: PhysicalAddress
  ) throws(CommandError) {
    let features = configuration.features
    func has(_ isThere: Bool) throws(CommandError) { if !isThere { throw .illegal } }
    switch AMDVi.CommandCode(command: low) {
    case .completionWait: try execute(checked(AMDVi.CompletionWaitCommand(low: low, high: high)))
    case .invalidateDeviceEntry:
      let command = try checked(AMDVi.InvalidateDeviceEntryCommand(low: low, high: high))
      caches.invalidateDeviceEntry(of: command.device)
      reportedDevices.remove(command.device.rawValue)
    case .invalidatePages:
      let command = try checked(AMDVi.InvalidatePagesCommand(low: low, high: high))
      caches.invalidate(
        command.addresses, of: AMDViSpace(domainID: command.domainID, pasid: command.pasid),
        includesTables: command.dropsUpperLevels)
    case .invalidateDeviceTLB:
      try has(configuration.capability.hasIOTLB)
      execute(try checked(AMDVi.InvalidateDeviceTLBCommand(low: low, high: high)), at: place)
    case .invalidateInterruptTable:
      let command = try checked(AMDVi.InvalidateInterruptTableCommand(low: low, high: high))
      caches.invalidateInterruptEntries(of: command.device)
    case .prefetchPages:
      try has(features.hasPrefetch)
      prefetch(try checked(AMDVi.PrefetchPagesCommand(low: low, high: high)))
    case .completePageRequest:
      try has(features.hasPageRequests)
      let command = try checked(AMDVi.CompletePageRequestCommand(low: low, high: high))
      deviceTLBs[command.device.rawValue]?.receive(
        AMDViPageResponse(pasid: command.pasid, tag: command.tag, code: command.response))
    case .invalidateAll:
      try has(features.hasInvalidateAll)
      _ = try checked(AMDVi.InvalidateAllCommand(low: low, high: high))
      caches.invalidateAll()
      reportedDevices = []
    default: throw .illegal
    }
  }

  /// The command, when none of its reserved bits is set.
  private func checked<Command: AMDViCommand>(
    _ command: Command
  ) throws(CommandError) -> Command {
    guard
      !command.overlaps(Command.reservedMasks(AMDVi.CommandRules(configuration.features)))
    else { throw .illegal }
    return command
  }

  private func execute(_ command: AMDVi.CompletionWaitCommand) throws(CommandError) {
    if command.stores {
      guard memory.isBacked(command.storeAddress, byteCount: 8) else {
        throw .unanswered(command.storeAddress)
      }
      memory.store(command.storeData, at: command.storeAddress)
    }
    guard command.interrupts else { return }
    status.hasCompletion = true
    if control.interruptsOnCompletion { raise(.general) }
  }

  /// Asks the device. One that is not there does not answer; without a time-out, or with the reserved
  /// one, nothing is logged, and the command counts as done (*assumed*).
  private func execute(_ command: AMDVi.InvalidateDeviceTLBCommand, at place: PhysicalAddress) {
    let isAnswered = deviceTLBs[command.device.rawValue]?.invalidate(command) ?? false
    guard !isAnswered, control.invalidationTimeout ?? 0 > 0 else { return }
    log(AMDVi.Event(.invalidationTimeout, device: command.device, address: place.rawValue))
  }

  /// Translates pages ahead: `count` of them from the first on (*assumed*). What stops a request stops
  /// the prefetch without an event.
  private func prefetch(_ command: AMDVi.PrefetchPagesCommand) {
    var request = AMDVi.Request(
      command.device, command.addresses.lowerBound, .zeroLengthRead, pasid: command.pasid)
    guard control.isEnabled, case .success(let entry) = deviceEntry(of: command.device) else {
      return
    }
    for _ in 0..<command.count {
      if command.invalidates {
        caches.invalidate(
          IOVA(request.address)...IOVA(request.address | 0xfff),
          of: AMDViSpace(domainID: entry.domainID, pasid: command.pasid), includesTables: false)
      }
      _ = answer(request, byteCount: 1)
      let (next, overflow) = request.address.addingReportingOverflow(4096)
      guard !overflow else { return }
      request.address = next
    }
  }
}
