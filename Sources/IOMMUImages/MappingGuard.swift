import Glibc
import IOMMUFormats
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
  @safe
  fileprivate struct Entry: ~Copyable {
    // Safe: `next` is an entry that was there before this one, or none.
    /// The first byte's address; 0 while the entry is free.
    let start = Atomic<UInt>(0)
    let end = Atomic<UInt>(0)
    /// The lowest page that was lost, from the start of the mapping; all ones when none was.
    let loss = Atomic<UInt>(.max)
    let next: UnsafeMutablePointer<Entry>?
  }

  /// A mapping that is watched.
  @safe
  struct Token: @unchecked Sendable {
    // Safe, and Sendable: entries are never freed, and change through their atomics only.
    fileprivate let entry: UnsafeMutablePointer<Entry>
  }

  private static let pageByteCount: UInt = 4096
  // Safe: what it leads to is never freed, and the pointer itself is atomic.
  nonisolated(unsafe) private static let head = unsafe Atomic<UnsafeMutablePointer<Entry>?>(nil)
  private static let registration = Mutex<Bool>(false)
  // Safe: what handled the signal before; written once, before the handler is in place.
  nonisolated(unsafe) private static let previous: UnsafeMutablePointer<sigaction> = {
    let pointer = UnsafeMutablePointer<sigaction>.allocate(capacity: 1)
    unsafe pointer.initialize(to: sigaction())
    return unsafe pointer
  }()

  /// Watches a mapping until ``release(_:)``.
  @unsafe static func watch(_ bytes: UnsafeRawBufferPointer) -> Token {
    let start = UInt(bitPattern: bytes.baseAddress)
    let end = start + UInt(bytes.count)
    return registration.withLock { isInstalled in
      if !isInstalled {
        install()
        isInstalled = true
      }
      // Safe: links lead to entries that are initialised and stay.
      var free = unsafe head.load(ordering: .acquiring)
      while let entry = unsafe free, unsafe entry.pointee.start.load(ordering: .relaxed) != 0 {
        unsafe free = entry.pointee.next
      }
      let entry: UnsafeMutablePointer<Entry>
      if let found = unsafe free {
        unsafe entry = found
      } else {
        unsafe entry = .allocate(capacity: 1)
        unsafe entry.initialize(to: Entry(next: head.load(ordering: .relaxed)))
        unsafe head.store(entry, ordering: .releasing)
      }
      unsafe entry.pointee.loss.store(.max, ordering: .relaxed)
      unsafe entry.pointee.end.store(end, ordering: .relaxed)
      unsafe entry.pointee.start.store(start, ordering: .releasing)
      return unsafe Token(entry: entry)
    }
  }

  /// Ends the watch; call it before the bytes are unmapped.
  static func release(_ token: Token) {
    // Safe: an entry is never freed.
    registration.withLock { _ in
      unsafe token.entry.pointee.start.store(0, ordering: .releasing)
    }
  }

  /// The first byte of the lowest page that was lost, counted from the start of the mapping.
  static func loss(_ token: Token) -> UInt64? {
    // Safe: an entry is never freed.
    let loss = unsafe token.entry.pointee.loss.load(ordering: .acquiring)
    return loss == .max ? nil : UInt64(loss)
  }

  private static func install() {
    // Touches every static that the handler reads: their initialisers must not run inside it.
    _ = unsafe head.load(ordering: .relaxed)
    var action = sigaction()
    action.sa_flags = SA_SIGINFO | SA_ONSTACK
    unsafe action.__sigaction_handler.sa_sigaction = { signal, information, context in
      unsafe MappingGuard.handle(signal, information, context)
    }
    unsafe sigaction(SIGBUS, &action, previous)
  }

  /// Runs inside the signal: loads, stores and system calls only.
  @unsafe private static func handle(
    _ signal: Int32, _ information: UnsafeMutablePointer<siginfo_t>?,
    _ context: UnsafeMutableRawPointer?
  ) {
    let code = errno
    defer { errno = code }
    // Safe: of SIGBUS the system gives the address, and entries that it may lie in stay.
    let address = unsafe UInt(bitPattern: information?.pointee._sifields._sigfault.si_addr)
    let page = address & ~(pageByteCount - 1)
    var next = unsafe head.load(ordering: .acquiring)
    while let entry = unsafe next {
      let start = unsafe entry.pointee.start.load(ordering: .acquiring)
      let end = unsafe entry.pointee.end.load(ordering: .relaxed)
      if start != 0, address >= start, address < end {
        // Safe: the page is one of a mapping of ours whose bytes are gone, and nobody writes it.
        let zeros = unsafe mmap(
          UnsafeMutableRawPointer(bitPattern: page), Int(pageByteCount), PROT_READ,
          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
        guard unsafe zeros != MAP_FAILED else { break }
        unsafe entry.pointee.loss.storeLower(page - start)
        return
      }
      unsafe next = entry.pointee.next
    }
    unsafe passOn(signal, information, context)
  }

  /// What was there before has the signal's own arguments.
  @unsafe private static func passOn(
    _ signal: Int32, _ information: UnsafeMutablePointer<siginfo_t>?,
    _ context: UnsafeMutableRawPointer?
  ) {
    if unsafe previous.pointee.sa_flags & SA_SIGINFO != 0,
      let handler = unsafe previous.pointee.__sigaction_handler.sa_sigaction
    {
      unsafe handler(signal, information, context)
    } else {
      // The look is repeated on return, and ends as it would have without a guard.
      unsafe sigaction(signal, previous, nil)
    }
  }
}
