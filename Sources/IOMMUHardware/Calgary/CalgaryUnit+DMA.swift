import IOMMUFormats
import IOMMUTranslation

extension CalgaryUnit: DMAPort {
  /// What a device sees of a request.
  public enum Completion: Sendable, Equatable {
    /// It went where the table sent it.
    case done
    /// It was a message, not memory.
    case interrupt
    /// It failed and the device was told nothing: a read got all ones, a write vanished.
    case dropped(Fault)
    /// It failed and the device saw a target abort.
    case aborted(Fault)
  }

  /// Translates the first page's worth of a request, and latches the error when there is one.
  ///
  /// - Returns: `nil` for a requester on none of the chip's buses.
  public func translate(_ request: DMARequest, in memory: some PhysicalMemory) -> Translation? {
    guard let phb = bridge(above: request.requester.bus) else { return nil }
    let answer = answer(
      below: phb, to: request.address, byteCount: request.byteCount, access: request.access,
      in: memory)
    if case .fault(let fault) = answer { latch(fault, phb, request.requester) }
    return answer
  }

  /// What a request below a PHB would meet: the same without latching.
  ///
  /// - Parameters:
  ///   - phb: 0 to 3.
  ///   - byteCount: At least 1.
  package func answer(
    below phb: Int, to iova: IOVA, byteCount: UInt64 = 1, access: Access,
    in memory: some PhysicalMemory
  ) -> Translation {
    let address = iova.rawValue
    if options.interruptWrites == .untranslated, bridges[phb].configuration.translates,
      VTd.interruptAddresses ~= address, !isBlocked(phb)
    {
      return access == .write ? .interruptMessage : .fault(.calgary(.untranslatedHole))
    }
    guard bridges[phb].isPlain else {
      return exactAnswer(phb, address, byteCount, access, in: memory)
    }
    var observer = Unobserved()
    return bridges[phb].table.translate(
      address, byteCount: byteCount, access: access, in: memory, observer: &observer)
  }

  /// Every step on its own, with all options looked at.
  private func exactAnswer(
    _ phb: Int, _ address: UInt64, _ byteCount: UInt64, _ access: Access,
    in memory: some PhysicalMemory
  ) -> Translation {
    // Not the whole bridge: a copy of it would make the cache copy itself at the next change.
    let (configuration, table) = (bridges[phb].configuration, bridges[phb].table)
    // 1. Is the PHB alive, and does it translate at all?
    if isBlocked(phb) {
      return .fault(.calgary(isStopped(phb) ? .bridgeStopped : .slotsDisabled))
    }
    guard configuration.translates else {
      return options.translationOff == .identity
        ? .mapped(PhysicalAddress(address), byteCount: byteCount)
        : .fault(.calgary(.translationDisabled))
    }
    // 2. Addresses that no table has.
    guard address >> 32 == 0 else {
      return configuration.refusesDualAddressCycles || options.dualAddressCycles == .blocked
        ? .fault(.calgary(.dualAddressCycle))
        : .mapped(PhysicalAddress(address), byteCount: byteCount)
    }
    let inPage = min(byteCount, 4096 - address & 4095)
    if options.holes != .translated, bridges[phb].holes.contains(address) {
      return options.holes == .blocked
        ? .fault(.calgary(.untranslatedHole))
        : .mapped(PhysicalAddress(address), byteCount: inPage)
    }
    var page = address >> 12
    let entryCount = table.size.entryCount
    if page >= entryCount {
      switch options.beyondTable {
      case .fault: return .fault(.calgary(.beyondTable))
      case .untranslated: return .mapped(PhysicalAddress(address), byteCount: inPage)
      case .wraps: page %= entryCount
      }
    }
    // 3. The entry, from the cache or from memory; 4. what it allows.
    switch entry(phb, page, in: memory) {
    case .failure(let fault): return .fault(.calgary(fault))
    case .success(let entry):
      if let fault = judge(entry, access) { return .fault(.calgary(fault)) }
      return .mapped(
        PhysicalAddress(entry.page.rawValue | address & 4095), byteCount: inPage)
    }
  }

  private enum Fetch {
    case success(Calgary.TranslationControlEntry)
    case failure(Calgary.FaultReason)
  }

  private func entry(_ phb: Int, _ page: UInt64, in memory: some PhysicalMemory) -> Fetch {
    if let kept = bridges[phb].cache?.lookUp(page) { return .success(kept) }
    let table = bridges[phb].table
    var root = table.table
    if !root.isAligned(to: table.size.byteCount) {
      switch options.misalignedTable {
      case .added: break
      case .fault: return .failure(.misalignedTable)
      // Where the walker adds the offset, the address is the one that OR gives.
      case .combined: root = PhysicalAddress((root.rawValue | page * 8) - page * 8)
      }
    }
    var observer = Unobserved()
    let walk = table.format.walk(page << 12, from: root, in: memory, observer: &observer)
    guard walk.end != .unreadable else { return .failure(.tableUnreadable) }
    let entry = Calgary.TranslationControlEntry(
      rawValue: heldWord(at: walk.entryAddress)?.byteSwapped ?? walk.entry)
    bridges[phb].cache?.keep(entry, for: page)
    return .success(entry)
  }

  /// What stands against the access in the entry.
  private func judge(
    _ entry: Calgary.TranslationControlEntry, _ access: Access
  ) -> Calgary.FaultReason? {
    var permissions = entry.permissions
    if permissions == .write {
      switch options.entryPermissions {
      case .independent: break
      case .writeIncludesRead: permissions = .readWrite
      case .writeAloneIsEmpty: permissions = []
      }
    }
    guard !permissions.isEmpty else { return .emptyEntry }
    if options.hubIdentifier == .fault, entry.hubIdentifier != 0 { return .unusedBitsSet }
    if options.unusedEntryBits == .fault, entry.hasUnusedBits { return .unusedBitsSet }
    guard permissions.contains(access.permission) else {
      return access == .read ? .readNotPermitted : .writeNotPermitted
    }
    return nil
  }

  // MARK: Errors

  /// Shows a failure in CSR and PLSSR, where the chip keeps one of its kind.
  private func latch(_ fault: Fault, _ phb: Int, _ requester: Requester) {
    guard fault.isRecorded else { return }
    let old = Calgary.ChannelStatusRegister(
      rawValue: UInt32(value(of: .channelStatus, phb)))
    guard !old.hasError || options.errorLatch == .last else { return }
    var status = Calgary.ChannelStatusRegister(rawValue: options.errorRecord.channelStatus)
    status.agent = options.agent == .deviceNumber ? requester.device : 0
    set(.init(.channelStatus, phb), to: UInt64(status.rawValue))
    set(.init(.plssr, phb), to: UInt64(options.errorRecord.plssr))
  }

  // MARK: Transfers

  /// A device reads memory; what fails reads as all ones.
  ///
  /// - Returns: The bytes, and the first failure's completion or that all went well.
  public func read(
    _ request: DMARequest, from memory: FlatMemory
  ) -> (bytes: [UInt8], completion: Completion) {
    precondition(request.access == .read, "memory is read by a read")
    var bytes = [UInt8](repeating: 0xff, count: Int(request.byteCount))
    let completion = transfer(request, in: memory) { place, piece in
      // What no memory answers to stays all ones.
      guard let read = memory.bytes(at: place, count: Int(piece.byteCount)) else { return }
      bytes.replaceSubrange(Int(piece.offset)..<(Int(piece.offset) + read.count), with: read)
    }
    return (bytes, completion)
  }

  /// A device writes memory; what fails changes nothing.
  ///
  /// - Parameters:
  ///   - bytes: As many as the request has.
  ///   - request: A write: where the bytes go, and who sends them.
  ///   - memory: The memory that is written, where the tables are too.
  /// - Returns: The first failure's completion, or that all went well.
  public func write(
    _ bytes: [UInt8], _ request: DMARequest, to memory: FlatMemory
  ) -> Completion {
    precondition(request.access == .write, "memory is written by a write")
    precondition(UInt64(bytes.count) == request.byteCount, "as many bytes as the request has")
    return transfer(request, in: memory) { place, piece in
      let first = Int(piece.offset)
      memory.write(Array(bytes[first..<(first + Int(piece.byteCount))]), at: place)
    }
  }

  private func transfer(
    _ request: DMARequest, in memory: FlatMemory, body: (PhysicalAddress, DMAPiece) -> Void
  ) -> Completion {
    var completion = Completion.done
    request.forEachPiece(answeredBy: {
      translate($0, in: memory)
        ?? .mapped(PhysicalAddress($0.address.rawValue), byteCount: $0.byteCount)
    }) { piece in
      switch piece.answer {
      case .mapped(let place, _):
        body(place, piece)
      case .interruptMessage:
        if completion == .done { completion = .interrupt }
      case .fault(let fault):
        if completion == .done || completion == .interrupt {
          completion = options.failedRequests == .dropped ? .dropped(fault) : .aborted(fault)
        }
      }
    }
    return completion
  }

  // MARK: The processor's cache

  /// The processor is about to store into the 64 bytes around `address`, and has not flushed them.
  ///
  /// Matters only where ``CalgaryOptions/tableReads`` says that the chip does not look into the
  /// processor's caches: until ``flushLine(containing:)`` it goes on reading what memory has now.
  package func holdLine(containing address: PhysicalAddress, in memory: some PhysicalMemory) {
    guard options.tableReads == .afterLineFlush else { return }
    let line = address.alignedDown(to: 64)
    guard heldLines[line.rawValue] == nil else { return }
    heldLines[line.rawValue] = (0..<8).map { index in
      memory.quadword(at: PhysicalAddress(line.rawValue + 8 * index)) ?? 0
    }
  }

  /// The processor has flushed the 64 bytes around `address`: the chip sees what was stored.
  package func flushLine(containing address: PhysicalAddress) {
    heldLines[address.alignedDown(to: 64).rawValue] = nil
  }

  /// The quadword that memory still has while the processor's cache holds a newer one.
  private func heldWord(at address: PhysicalAddress) -> UInt64? {
    guard !heldLines.isEmpty, address.isAligned(to: 8),
      let line = heldLines[address.alignedDown(to: 64).rawValue]
    else { return nil }
    return line[Int(address.rawValue & 63) / 8]
  }
}
