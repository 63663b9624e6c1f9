import CPeers
import IOMMUFormats

/// The peer: libkdumpfile's walk of the same tables, one call each.
final class AddrxlatPeer {
  static let name = "libkdumpfile"
  /// What the table says where the peer is missing.
  static let absence = "libkdumpfile 0.5 is not installed and left out"

  private let peer: OpaquePointer
  private let memory: FlatMemory

  /// `nil` when the program was built without the library's header, or the library is not there.
  init?(_ memory: FlatMemory, root: PhysicalAddress) {
    guard let peer = addrxlat_peer_make(memory.start, memory.byteCount, root.rawValue) else {
      return nil
    }
    self.peer = peer
    self.memory = memory
  }

  deinit { addrxlat_peer_free(peer) }

  var walks: Run {
    { [self] addresses, answers in
      addrxlat_peer_walk(peer, addresses.words, answers.words, addresses.count)
    }
  }
}
