import Glibc
import IOMMUFormats

/// Why a file could not be read as memory or as a machine, or could not be written.
///
/// Reads as `vmcore.elf: ELF program header 3 at byte 0x1a8: file size 0x9000 runs past the end of
/// the file (0x8000 bytes); the file is truncated, copy it again`.
public struct ImageError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file's path as it was given.
  public var file: String
  /// Which part of the file is meant: a header, or a JSON path such as
  /// `units[1].registers["0x90"]`.
  public var place: String?
  /// The first byte of that part, from the start of the file.
  public var offset: UInt64?
  /// What was found there.
  public var found: String
  /// The way out.
  public var remedy: String?

  /// An error about a file; the parts that are not known are left out of its text.
  public init(
    file: String, place: String? = nil, offset: UInt64? = nil, found: String,
    remedy: String? = nil
  ) {
    self.file = file
    self.place = place
    self.offset = offset
    self.found = found
    self.remedy = remedy
  }

  /// File, place, finding and way out, in one line.
  public var description: String {
    let at = offset.map { "at byte " + hexadecimal($0) }
    let whereabouts = [place, at].compactMap { $0 }.joined(separator: " ")
    let start = whereabouts.isEmpty ? file : file + ": " + whereabouts
    return (start + ": " + found + (remedy.map { "; " + $0 } ?? "")).visible
  }
}

extension ImageError {
  /// A system call failed; `code` is its errno.
  static func system(_ file: String, _ action: String, _ code: Int32, remedy: String? = nil)
    -> ImageError
  {
    ImageError(file: file, found: "\(action): \(systemText(code))", remedy: remedy)
  }
}

/// An error about a place. Of several the one at the lowest place counts, whatever order threads come to
/// them in.
struct PlacedError: Sendable {
  let place: UInt64
  let error: ImageError
}

extension PlacedError? {
  mutating func note(_ error: @autoclosure () -> ImageError, at place: UInt64) {
    if let self, self.place <= place { return }
    self = PlacedError(place: place, error: error())
  }
}
