import IOMMUFormats
import IOMMULinux

/// How lines of a kernel's log are printed.
enum KernelLogStyle {
  /// `[    1.234567] text`, as `dmesg` prints it.
  case plain
  /// `<6>[    1.234567] text`, as `dmesg --raw` prints it.
  case raw
  /// `kern  :info  : [    1.234567] text`, as `dmesg --decode` prints it.
  case decoded
}

extension PrintkRecord {
  /// The lines of the message, each with what stands in front of the first.
  func lines(_ style: KernelLogStyle = .plain) -> [String] {
    let prefix = front(style) + (stamp.map { "[\($0)] " } ?? "")
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { prefix + $0 }
  }

  private func front(_ style: KernelLogStyle) -> String {
    guard style != .plain, let level else { return "" }
    if style == .raw { return "<\(Int(facility) << 3 | Int(level))>" }
    func padded(_ word: String) -> String {
      word + String(repeating: " ", count: max(0, 6 - word.count))
    }
    return "\(padded(facilityName)):\(padded(Self.levelNames[Int(level & 7)])): "
  }

  /// What levels are called, from the most urgent.
  ///
  /// Source: `syslog.h`; `dmesg` calls 0 `emerg`, 3 `err` and 4 `warn`.
  static let levelNames = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"]

  private static let facilityNames = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp",
  ]

  var facilityName: String {
    facility < Self.facilityNames.count ? Self.facilityNames[Int(facility)] : "\(facility)"
  }
}
