import IOMMUFormats

extension LinuxCalgaryDriver {
  /// Versions of Linux between which the driver changed.
  public enum Version: String, Sendable, CaseIterable, Comparable {
    case linux2_6_19 = "2.6.19"
    case linux2_6_23 = "2.6.23"
    case linux2_6_26 = "2.6.26"
    case linux2_6_27 = "2.6.27"
    case linux3_6 = "3.6"
    case linux4_4 = "4.4"
    case linux5_4 = "5.4"

    public static func < (left: Self, right: Self) -> Bool {
      allCases.firstIndex(of: left)! < allCases.firstIndex(of: right)!
    }

    /// The newest version here that is not newer than a kernel's release, such as `4.4.60`; `nil`
    /// for anything older than the first.
    package init?(release: String) {
      let numbers = release.split(separator: ".").prefix(3).map { Int($0) ?? 0 }
      func isNewer(_ version: Self) -> Bool {
        let own = version.rawValue.split(separator: ".").map { Int($0)! }
        return numbers.lexicographicallyPrecedes(own)
      }
      guard let version = Self.allCases.last(where: { !isNewer($0) }) else { return nil }
      self = version
    }

    /// Chips and PHBs are worked out from bus numbers, and not asked.
    package var findsChipsByFormula: Bool { self < .linux2_6_23 }
    /// A kdump kernel keeps the tables that it finds.
    package var takesOverTables: Bool { self >= .linux2_6_27 }
    /// 8 MiB without being asked, but for a kdump kernel that knows where RAM ended.
    package var alwaysTakesLargestTable: Bool { self >= .linux4_4 }
    /// IO pages 0 to 31 are kept free, and page 0 means "failed".
    package var hasEmergencyPages: Bool { self < .linux5_4 }
    /// Buses that are looked at, from 0.
    package var busLimit: Int { self <= .linux2_6_23 ? 128 : 256 }
    /// Pages from 0 that are kept free on a CalIOC2.
    package var calIOC2ReservedPageCount: Int { self <= .linux2_6_23 ? 0x200 : 0x100 }

    /// Pages that are kept free for a bridge's window: one more than it has, since 3.6 (*assumed*
    /// to be the first here that counts so).
    package func pageCount(ofBridgeWindow window: Range<UInt64>) -> Int {
      let last = window.upperBound - 1
      let span = self >= .linux3_6 ? last - window.lowerBound + 1 : last - window.lowerBound
      return Int(span >> 12) + 1
    }
  }
}

extension LinuxCalgaryDriver {
  /// BBAR of the chip above a root bus, as kernels before 2.6.20 worked it out.
  ///
  /// Real machines were found whose firmware had put the chips elsewhere; a read then hung. Since
  /// then the Rio table is asked. Source: the driver as first posted, and its authors' mails.
  package static func registerBaseByFormula(bus: UInt8) -> PhysicalAddress {
    let (chassis, place) = UInt64(bus).quotientAndRemainder(dividingBy: 15)
    let node: UInt64 = place > 4 ? 3 : 2
    return PhysicalAddress(0xfe00_0000 - 0x80_0000 * (1 + chassis) + 0x10_0000 * node)
  }
}
