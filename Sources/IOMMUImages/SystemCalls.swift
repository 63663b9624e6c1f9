import Glibc

// Calls that take a path or fill in a structure. Safe, all of them: what they are given lasts for the
// call, and they keep none of it.

/// What the system says of a file, symbolic links followed; `nil` with an errno when nothing is there.
func fileStatus(at path: String) -> stat? {
  var status = stat()
  return unsafe stat(path, &status) == 0 ? status : nil
}

/// The names in a directory, without those of itself and its parent; `nil` when it is none or cannot be
/// read.
func directoryEntries(_ path: String) -> [String]? {
  guard let stream = unsafe opendir(path) else { return nil }
  defer { unsafe closedir(stream) }
  var names: [String] = []
  while let entry = unsafe readdir(stream) {
    // The name ends with a zero, and lasts until the next is read.
    let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
      unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
    }
    if name != ".", name != ".." { names.append(name) }
  }
  return names
}

/// What the system says of an open file; `nil` with an errno.
func fileStatus(of descriptor: Int32) -> stat? {
  var status = stat()
  return unsafe fstat(descriptor, &status) == 0 ? status : nil
}

/// A descriptor; less than 0 with an errno.
func openFile(_ path: String, _ flags: Int32, mode: mode_t = 0) -> Int32 {
  unsafe open(path, flags, mode)
}

/// Whether a file has taken another's name; not with an errno.
func renameFile(_ path: String, to other: String) -> Bool { unsafe rename(path, other) == 0 }

/// Whether an open file without a name has got one; not with an errno, such as EEXIST.
func nameFile(_ descriptor: Int32, as path: String) -> Bool {
  unsafe linkat(AT_FDCWD, "/proc/self/fd/\(descriptor)", AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0
}

/// Whether ``nameFile(_:as:)`` can work at all: it needs `/proc`.
var canNameOpenFiles: Bool { unsafe access("/proc/self/fd", X_OK) == 0 }

/// The flag that opens a directory as a new file without a name in it. Linux has the same bits on all
/// machines that Swift runs on, beside those of a directory.
var unnamedFile: Int32 { 0o20_000_000 | O_DIRECTORY }

func removeFile(_ path: String) { _ = unsafe unlink(path) }

/// The path with symbolic links followed; `nil` when nothing is there.
func resolvedPath(_ path: String) -> String? {
  // What realpath allocates ends with a zero, and is this function's to free.
  guard let resolved = unsafe realpath(path, nil) else { return nil }
  defer { unsafe free(resolved) }
  return unsafe String(cString: resolved)
}

/// The system's words for an errno.
func systemText(_ code: Int32) -> String {
  // The text ends with a zero, and lasts until this thread asks for another.
  unsafe String(cString: strerror(code))
}
