import IOMMUFormats
import IOMMUTranslation

extension CalgaryUnit {
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
  /// A requester on none of the chip's buses is not its business: the IOVA is the physical address.
  ///
  /// - Parameter byteCount: At least 1.
  public func translate(
    _ requester: Requester, _ iova: IOVA, byteCount: UInt64 = 1, access: Access,
    in memory: some PhysicalMemory
  ) -> Translation {
    precondition(byteCount > 0, "a DMA request has at least one byte")
    guard let phb = bridge(above: requester.bus) else {
      return .mapped(PhysicalAddress(iova.rawValue), byteCount: byteCount)
    }
    let answer = answer(phb, iova.rawValue, byteCount, access, in: memory)
    if case .fault(let fault) = answer { latch(fault, phb, requester) }
    return answer
  }

  /// The same without latching: what a request would meet.
  ///
  /// - Parameter phb: 0 to 3.
  public func answer(
    _ phb: Int, _ address: UInt64, _ byteCount: UInt64, _ access: Access,
    in memory: some PhysicalMemory
  ) -> Translation {
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
  func exactAnswer(
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

  /// A device reads memory, page by page; what fails reads as all ones.
  ///
  /// - Returns: The first failure's completion, or that all went well.
  public func deviceReads(
    _ requester: Requester, _ iova: IOVA, into buffer: UnsafeMutableRawBufferPointer,
    from memory: some PhysicalMemory
  ) -> Completion {
    for index in buffer.indices { buffer[index] = 0xff }
    return transfer(requester, iova, byteCount: buffer.count, access: .read, in: memory) {
      place, offset, count in
      let part = UnsafeMutableRawBufferPointer(rebasing: buffer[offset..<(offset + count)])
      // What no memory answers to stays all ones.
      _ = memory.read(at: place, into: part)
    }
  }

  /// A device writes memory, page by page; what fails changes nothing.
  ///
  /// - Returns: The first failure's completion, or that all went well.
  public func deviceWrites(
    _ requester: Requester, _ iova: IOVA, _ bytes: UnsafeRawBufferPointer, to memory: FlatMemory
  ) -> Completion {
    transfer(requester, iova, byteCount: bytes.count, access: .write, in: memory) {
      place, offset, count in
      _ = memory.write(
        UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)]), at: place)
    }
  }

  private func transfer(
    _ requester: Requester, _ iova: IOVA, byteCount: Int, access: Access,
    in memory: some PhysicalMemory, body: (PhysicalAddress, Int, Int) -> Void
  ) -> Completion {
    var done = 0
    var completion = Completion.done
    while done < byteCount {
      let (address, overflow) = iova.rawValue.addingReportingOverflow(UInt64(done))
      guard !overflow else { break }
      // At most to the end of the page: holes and tables both end on pages.
      let wanted = min(UInt64(byteCount - done), 4096 - address & 4095)
      switch translate(
        requester, IOVA(address), byteCount: wanted, access: access, in: memory)
      {
      case .mapped(let place, let count):
        body(place, done, Int(count))
        done += Int(count)
        continue
      case .interruptMessage:
        if completion == .done { completion = .interrupt }
      case .fault(let fault):
        if completion == .done || completion == .interrupt {
          completion = options.failedRequests == .dropped ? .dropped(fault) : .aborted(fault)
        }
      }
      done += Int(wanted)
    }
    return completion
  }

  // MARK: The processor's cache

  /// The processor is about to store into the 64 bytes around `address`, and has not flushed them.
  ///
  /// Matters only where ``CalgaryOptions/tableReads`` says that the chip does not look into the
  /// processor's caches: until ``flushLine(containing:)`` it goes on reading what memory has now.
  public func holdLine(containing address: PhysicalAddress, in memory: some PhysicalMemory) {
    guard options.tableReads == .afterLineFlush else { return }
    let line = address.alignedDown(to: 64)
    guard heldLines[line.rawValue] == nil else { return }
    heldLines[line.rawValue] = (0..<8).map { index in
      memory.quadword(at: PhysicalAddress(line.rawValue + 8 * index)) ?? 0
    }
  }

  /// The processor has flushed the 64 bytes around `address`: the chip sees what was stored.
  public func flushLine(containing address: PhysicalAddress) {
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
