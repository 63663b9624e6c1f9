import IOMMUFormats
import IOMMUTranslation

/// Memory that remembers where it did not answer: tells a fault of the machine from a page that a
/// dump does not hold.
///
/// The walker asks for one word after the other and ends at the first that is missing, so the last
/// silent address is the one that stopped it.
package struct ReadWitness<Base: PhysicalMemory>: PhysicalMemory {
  /// What a witness has seen; shared by its copies.
  private final class Record {
    var silentAddress: PhysicalAddress?
  }

  package let base: Base
  private let record = Record()

  /// Watches over `base`.
  package init(_ base: Base) { self.base = base }

  /// The last address asked for where nothing answered; `nil` while all did.
  package var silentAddress: PhysicalAddress? { record.silentAddress }

  package func quadword(at address: PhysicalAddress) -> UInt64? {
    noting(base.quadword(at: address), at: address)
  }

  package func doubleword(at address: PhysicalAddress) -> UInt32? {
    noting(base.doubleword(at: address), at: address)
  }

  package func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int
  {
    // Safe: the caller's buffer goes on as it came.
    let count = unsafe base.copyBytes(from: address, to: buffer)
    if count == 0, buffer.count > 0 { record.silentAddress = address }
    return count
  }

  package func presence(of address: PhysicalAddress) -> Presence { base.presence(of: address) }
  package func isAbsent(at address: PhysicalAddress) -> Bool { base.isAbsent(at: address) }
  package var backedRanges: [Range<PhysicalAddress>] { base.backedRanges }
  package var storedRanges: [Range<PhysicalAddress>] { base.storedRanges }
  package var storedPageCount: UInt64 { base.storedPageCount }

  private func noting<Word>(_ word: Word?, at address: PhysicalAddress) -> Word? {
    if word == nil { record.silentAddress = address }
    return word
  }
}

extension ReadWitness {
  /// What a machine's memory would have to say before anybody knew whether a request faults: an
  /// address that the dump does not hold; `nil` where the fault is the machine's own.
  ///
  /// - Parameter fault: How the request ended that this witness has watched.
  package func absentAddress(behind fault: Fault, on machine: Machine) -> PhysicalAddress? {
    guard fault.isUnanswered, let silentAddress, machine.isAbsent(silentAddress, in: base) else {
      return nil
    }
    return base.firstSilentByte(from: silentAddress)
  }
}

extension Machine {
  /// The address that a dump does not hold and that decides about a request; `nil` where the
  /// request's answer rests on none.
  package func absentAddress(
    behind requester: Requester, pasid: PASID?, _ iova: IOVA, access: Access,
    in memory: some PhysicalMemory
  ) -> PhysicalAddress? {
    let witness = ReadWitness(memory)
    guard
      case .fault(let fault) = resolve(requester, pasid: pasid, in: witness)
        .translate(iova, byteCount: 1, access: access, in: witness)
    else { return nil }
    return witness.absentAddress(behind: fault, on: self)
  }
}
