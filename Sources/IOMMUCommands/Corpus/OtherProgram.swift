import Glibc
import IOMMUFormats

/// Somebody else's program, run with a limit on its time and on what it may say.
struct OtherProgram {
  /// A line of shell; its arguments are put behind it.
  let command: String
  let timeLimit: Duration

  /// How it came to its end.
  enum End: Hashable {
    case exited(Int32)
    case signalled(Int32)
    /// It was ended: its time was up.
    case timedOut
    /// It was ended: it said more than could be of use.
    case tooMuch
  }

  struct Run {
    var end: End
    var output: [UInt8] = []
    /// The beginning of what it said on standard error.
    var errors: [UInt8] = []
  }

  private static let errorLimit = 4096

  /// Runs the program, and waits for its end or brings it about, with that of whatever it has started.
  ///
  /// - Parameters:
  ///   - arguments: What is put behind the command.
  ///   - input: All of its standard input.
  ///   - outputLimit: Bytes of standard output; at more it is ended.
  ///   - signals: One that waits ends the program too.
  /// - Throws: ``InputError`` where the system starts no programs, ``HeldSignals/Interruption``.
  func run(
    _ arguments: [String], input: [UInt8], outputLimit: Int, _ signals: HeldSignals
  ) throws -> Run {
    let requests = try Self.file(of: input)
    defer { fclose(requests) }
    var (output, errors) = (Channel(), Channel())
    guard output.open(), errors.open() else { throw Self.failure(errno) }
    defer {
      output.close()
      errors.close()
    }
    let process = try start(arguments, fileno(requests), output.writer, errors.writer)
    output.closeWriter()
    errors.closeWriter()
    var run = Run(end: .exited(0))
    let clock = ContinuousClock()
    let deadline = clock.now + timeLimit
    var end: End?
    while end == nil {
      Self.wait(for: [output.reader, errors.reader])
      output.drain(into: &run.output, atMost: outputLimit + 1)
      errors.drain(into: &run.errors, atMost: Self.errorLimit)
      if Self.hasEnded(process) {
        // What it has said at its end.
        output.drain(into: &run.output, atMost: outputLimit + 1)
        errors.drain(into: &run.errors, atMost: Self.errorLimit)
        break
      }
      if signals.isPending {
        _ = Self.finish(process)
        throw HeldSignals.Interruption()
      }
      if run.output.count > outputLimit { end = .tooMuch }
      if clock.now >= deadline { end = .timedOut }
    }
    let status = Self.finish(process)
    run.end = end ?? (run.output.count > outputLimit ? .tooMuch : status)
    return run
  }

  private func start(
    _ arguments: [String], _ input: Int32, _ output: Int32, _ errors: Int32
  ) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
    posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A group of its own, so that all of it can be ended; signals as a shell gives them.
    var nothing = sigset_t()
    sigemptyset(&nothing)
    var usual = sigset_t()
    sigemptyset(&usual)
    sigaddset(&usual, SIGXFSZ)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setsigmask(&attributes, &nothing)
    posix_spawnattr_setsigdefault(&attributes, &usual)
    posix_spawnattr_setflags(
      &attributes,
      Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    let words = ["/bin/sh", "-c", "\(command) \"$@\"", "iommu"] + arguments
    let pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    var process: pid_t = 0
    let code = posix_spawn(&process, "/bin/sh", &actions, &attributes, pointers, environ)
    guard code == 0 else { throw Self.failure(code) }
    return process
  }

  private static func failure(_ code: Int32) -> InputError {
    InputError("a program cannot be started: \(String(cString: strerror(code)))")
  }

  /// A file without a name, so that the program may read when it likes.
  private static func file(of bytes: [UInt8]) throws -> UnsafeMutablePointer<FILE> {
    guard let file = tmpfile() else { throw failure(errno) }
    _ = fcntl(fileno(file), F_SETFD, FD_CLOEXEC)
    guard fwrite(bytes, 1, bytes.count, file) == bytes.count, fflush(file) == 0 else {
      let code = errno
      fclose(file)
      throw failure(code)
    }
    rewind(file)
    return file
  }

  /// A moment, or until one of these has something to say.
  private static func wait(for readers: [Int32]) {
    var polled = readers.filter { $0 >= 0 }.map {
      pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
    }
    // Without any, the end is near: it is looked for more often.
    poll(&polled, nfds_t(polled.count), polled.isEmpty ? 1 : 20)
  }

  private static func hasEnded(_ process: pid_t) -> Bool {
    var information = siginfo_t()
    // Its number stays taken until `finish` asks for its status.
    return waitid(P_PID, id_t(process), &information, WEXITED | WNOHANG | WNOWAIT) == 0
      && information.si_signo == SIGCHLD
  }

  /// Ends what is left of the program and its group.
  private static func finish(_ process: pid_t) -> End {
    kill(-process, SIGKILL)
    var status: Int32 = 0
    // Nothing outlives SIGKILL but what waits for broken hardware: that is left alone.
    for _ in 0..<5000 {
      let answer = waitpid(process, &status, WNOHANG)
      if answer == process || answer < 0 && errno != EINTR { break }
      usleep(1000)
    }
    return status & 0x7f == 0 ? .exited(status >> 8 & 0xff) : .signalled(status & 0x7f)
  }
}

/// What a program says, read as it comes.
private struct Channel {
  private(set) var reader: Int32 = -1
  private(set) var writer: Int32 = -1

  mutating func open() -> Bool {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return false }
    (reader, writer) = (ends[0], ends[1])
    _ = fcntl(reader, F_SETFD, FD_CLOEXEC)
    _ = fcntl(writer, F_SETFD, FD_CLOEXEC)
    return fcntl(reader, F_SETFL, O_NONBLOCK) == 0
  }

  mutating func closeWriter() {
    if writer >= 0 { Glibc.close(writer) }
    writer = -1
  }

  mutating func close() {
    closeWriter()
    if reader >= 0 { Glibc.close(reader) }
    reader = -1
  }

  /// Takes what is there; bytes beyond `limit` are dropped.
  mutating func drain(into bytes: inout [UInt8], atMost limit: Int) {
    var chunk = [UInt8](repeating: 0, count: 65_536)
    // So that one who never stops does not keep us here.
    for _ in 0..<64 where reader >= 0 {
      let count = read(reader, &chunk, chunk.count)
      if count > 0 {
        bytes += chunk.prefix(min(count, limit - bytes.count))
      } else if count == 0 {
        Glibc.close(reader)
        reader = -1
      } else if errno != EINTR {
        return
      }
    }
  }
}
