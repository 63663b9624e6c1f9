import Glibc
import Synchronization

/// Watches over mapped files whose bytes may go away while they are looked at.
///
/// Looking at a mapped page beyond the end of a file that has shrunk, or on a disk that fails, ends
/// a program with SIGBUS. The handler here puts a page of zeros in its place, notes the loss, and
/// lets the program go on; who reads the file asks for the loss when it is done. Signals at other
/// addresses go on to the handler that was there before.
///
/// Reading with `pread` instead would need no handler, and a system call or a copy for each look;
/// tables in a mapped file are read in place.
enum MappingGuard {
  /// One mapping. Entries are never freed, so that the handler can always go through them; those
  /// of closed files are used again.
  struct Entry: ~Copyable {
    /// The first byte's address; 0 while the entry is free.
    let start = Atomic<UInt>(0)
    let end = Atomic<UInt>(0)
    /// The lowest page that was lost, from the start of the mapping; all ones when none was.
    let loss = Atomic<UInt>(.max)
    let next: UnsafeMutablePointer<Entry>?
  }

  typealias Token = UnsafeMutablePointer<Entry>

  private static let pageByteCount: UInt = 4096
  // unsafe: entries are never freed, and their fields are atomic.
  nonisolated(unsafe) private static let head = Atomic<Token?>(nil)
  private static let registration = Mutex<Bool>(false)
  /// What handled the signal before; written once, before the handler is in place.
  nonisolated(unsafe) private static let previous: UnsafeMutablePointer<sigaction> = {
    let pointer = UnsafeMutablePointer<sigaction>.allocate(capacity: 1)
    pointer.initialize(to: sigaction())
    return pointer
  }()

  /// Watches a mapping until ``release(_:)``.
  static func watch(_ bytes: UnsafeRawBufferPointer) -> Token {
    let start = UInt(bitPattern: bytes.baseAddress)
    return registration.withLock { isInstalled in
      if !isInstalled {
        install()
        isInstalled = true
      }
      var entry = head.load(ordering: .acquiring)
      while let candidate = entry, candidate.pointee.start.load(ordering: .relaxed) != 0 {
        entry = candidate.pointee.next
      }
      let token: Token
      if let entry {
        token = entry
      } else {
        token = .allocate(capacity: 1)
        token.initialize(to: Entry(next: head.load(ordering: .relaxed)))
        head.store(token, ordering: .releasing)
      }
      token.pointee.loss.store(.max, ordering: .relaxed)
      token.pointee.end.store(start + UInt(bytes.count), ordering: .relaxed)
      token.pointee.start.store(start, ordering: .releasing)
      return token
    }
  }

  /// Ends the watch; call it before the bytes are unmapped.
  static func release(_ token: Token) {
    registration.withLock { _ in token.pointee.start.store(0, ordering: .releasing) }
  }

  /// The first byte of the lowest page that was lost, counted from the start of the mapping.
  static func loss(_ token: Token) -> UInt64? {
    let loss = token.pointee.loss.load(ordering: .acquiring)
    return loss == .max ? nil : UInt64(loss)
  }

  private static func install() {
    // Touches every static that the handler reads: their initialisers must not run inside it.
    _ = head.load(ordering: .relaxed)
    var action = sigaction()
    action.sa_flags = SA_SIGINFO | SA_ONSTACK
    action.__sigaction_handler.sa_sigaction = { signal, information, context in
      MappingGuard.handle(signal, information, context)
    }
    sigaction(SIGBUS, &action, previous)
  }

  /// Runs inside the signal: loads, stores and system calls only.
  private static func handle(
    _ signal: Int32, _ information: UnsafeMutablePointer<siginfo_t>?,
    _ context: UnsafeMutableRawPointer?
  ) {
    let code = errno
    defer { errno = code }
    let address = UInt(bitPattern: information?.pointee._sifields._sigfault.si_addr)
    let page = address & ~(pageByteCount - 1)
    var entry = head.load(ordering: .acquiring)
    while let candidate = entry {
      let start = candidate.pointee.start.load(ordering: .acquiring)
      if start != 0, address >= start, address < candidate.pointee.end.load(ordering: .relaxed) {
        let zeros = mmap(
          UnsafeMutableRawPointer(bitPattern: page), Int(pageByteCount), PROT_READ,
          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
        guard zeros != MAP_FAILED else { break }
        candidate.pointee.loss.min(page - start, ordering: .releasing)
        return
      }
      entry = candidate.pointee.next
    }
    passOn(signal, information, context)
  }

  private static func passOn(
    _ signal: Int32, _ information: UnsafeMutablePointer<siginfo_t>?,
    _ context: UnsafeMutableRawPointer?
  ) {
    if previous.pointee.sa_flags & SA_SIGINFO != 0,
      let handler = previous.pointee.__sigaction_handler.sa_sigaction
    {
      handler(signal, information, context)
    } else {
      // The look is repeated on return, and ends as it would have without a guard.
      sigaction(signal, previous, nil)
    }
  }
}
