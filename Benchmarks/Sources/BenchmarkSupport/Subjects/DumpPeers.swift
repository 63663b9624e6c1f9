import CPeers
import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUWorkloads

/// Searches and conversions of dumps, beside what other people's programs do with the same files where
/// those are installed.
///
/// By the clock on the wall: a search uses all processors, and `cat` and makedumpfile are processes of
/// their own, whose start counts.
struct DumpPeers {
  /// A dump, and a path that opens it.
  struct Dump {
    let name: String
    let path: String
    let image: MemoryImage

    /// The addresses of its pages of 4 KiB.
    var pages: [UInt64] {
      image.backedRanges.flatMap { range in
        stride(from: range.lowerBound.rawValue, to: range.upperBound.rawValue, by: 4096)
      }
    }
  }

  private let sink: Sink

  init(_ sink: Sink) { self.sink = sink }

  /// - Parameters:
  ///   - raw: All of memory, byte for byte.
  ///   - packed: Dumps that are kdump-compressed.
  ///   - named: Those that somebody named.
  /// - Throws: ``WrongAnswer`` when libkdumpfile reads something else.
  func comparisons(raw: Dump, packed: [Dump], named: [Dump]) throws -> [Comparison] {
    try [cat(raw)] + packed.map(libkdumpfile)
      + named.filter { $0.image.vmcoreInfo != nil }.map(makedumpfile)
  }

  private func search(_ dump: Dump) -> Contender {
    Contender("search") { sink.add(TableSearch(in: dump.image).byteCount) }
  }

  /// GNU cat of a file whose pages are all looked at.
  private func cat(_ dump: Dump) -> Comparison {
    comparison(
      "\(dump.name), cat", of: dump, [search(dump)],
      Child("cat", [dump.path]).contender(), absence: Child.absence("cat"))
  }

  /// libkdumpfile, which unpacks pages one after the other.
  private func libkdumpfile(_ dump: Dump) throws -> Comparison {
    let title = "\(dump.name), libkdumpfile"
    guard let peer = KdumpfilePeer(dump.path) else {
      return comparison(title, of: dump, [search(dump)], nil, absence: KdumpfilePeer.absence)
    }
    let pages = dump.pages
    try peer.check(dump)
    return comparison(
      title, of: dump, [search(dump)],
      Contender("libkdumpfile") { for page in pages { sink.add(UInt64(peer.read(at: page))) } },
      absence: KdumpfilePeer.absence)
  }

  /// makedumpfile, which packs the same ELF core. It wants a kernel's VMCOREINFO, which only real dumps
  /// have.
  private func makedumpfile(_ dump: Dump) throws -> Comparison {
    let core = try TemporaryImages.nameless {
      _ = try ImageConverter.write(dump.image, to: $0, as: .elf)
    }
    let image = try MemoryImage(path: core)
    let output = try TemporaryOutput()
    let conversion = Contender("conversion", reset: output.clear) {
      do {
        _ = try ImageConverter.write(image, to: output.path, as: .kdump)
      } catch {
        preconditionFailure("the core is whole: \(error)")
      }
    }
    return comparison(
      "\(dump.name) packed again, makedumpfile", of: dump, [conversion],
      Child("makedumpfile", ["-c", "-d", "0", core, output.path]).contender(reset: output.clear),
      absence: Child.absence("makedumpfile"))
  }

  private func comparison(
    _ title: String, of dump: Dump, _ own: [Contender], _ peer: Contender?, absence: String
  ) -> Comparison {
    Comparison(
      title, unit: "page", units: dump.pages.count, contenders: own + (peer.map { [$0] } ?? []),
      ratios: peer.map { peer in own.map { Ratio($0.name, to: peer.name) } } ?? [],
      clock: .wall, notes: peer == nil ? [absence] : [])
  }
}

/// A dump that libkdumpfile reads.
private final class KdumpfilePeer {
  static let absence = "libkdumpfile 0.5 is not installed, or does not open this, and is left out"

  private let peer: OpaquePointer
  private let page = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)

  /// `nil` when the program was built without the library's header, when the library is not there, or
  /// when it does not open the file.
  init?(_ path: String) {
    guard let peer = kdumpfile_peer_make(path) else { return nil }
    self.peer = peer
  }

  deinit {
    kdumpfile_peer_free(peer)
    page.deallocate()
  }

  /// Reads a page; how many bytes of it there are.
  func read(at address: UInt64) -> Int { kdumpfile_peer_read(peer, address, page, 4096) }

  /// - Throws: ``WrongAnswer`` for a page that is another one than ours.
  func check(_ dump: DumpPeers.Dump) throws {
    var own = [UInt8](repeating: 0, count: 4096)
    for address in dump.pages {
      let isSame = own.withUnsafeMutableBytes {
        let count = dump.image.read(at: PhysicalAddress(address), into: $0)
        return read(at: address) == count && memcmp($0.baseAddress!, page, count) == 0
      }
      guard isSame else {
        throw WrongAnswer("libkdumpfile", "the page at \(PhysicalAddress(address)) of \(dump.name)")
      }
    }
  }
}

/// Another program, run with its output thrown away.
private struct Child {
  private let arguments: [String]

  init(_ program: String, _ arguments: [String]) {
    // A descriptor of this process's is none of the child's.
    let own = "/proc/self/"
    self.arguments =
      [program]
      + arguments.map {
        $0.hasPrefix(own) ? "/proc/\(getpid())/" + $0.dropFirst(own.count) : $0
      }
  }

  static func absence(_ program: String) -> String {
    "\(program) is not installed, or refuses this, and is left out"
  }

  /// The program under its own name; `nil` where it cannot be run, or ends with an error.
  func contender(reset: @escaping () -> Void = {}) -> Contender? {
    reset()
    guard run() else { return nil }
    return Contender(arguments[0], reset: reset) { [self] in
      precondition(run(), "\(arguments[0]) has done the same before")
    }
  }

  private func run() -> Bool {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for stream in [STDOUT_FILENO, STDERR_FILENO] {
      posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", O_WRONLY, 0)
    }
    var words = arguments.map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var child = pid_t()
    guard posix_spawnp(&child, arguments[0], &actions, nil, &words, environ) == 0 else {
      return false
    }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 { guard errno == EINTR else { return false } }
    return status == 0
  }
}

/// A file that conversions write; it goes with this.
private final class TemporaryOutput {
  private let directory: String
  var path: String { directory + "/output" }

  init() throws { directory = try TemporaryImages.makeDirectory() }

  deinit {
    clear()
    rmdir(directory)
  }

  func clear() { unlink(path) }
}
