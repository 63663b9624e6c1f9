import IOMMUFormats

/// The kernel's map of physical addresses: what `/proc/iomem` shows.
public struct KernelResources: Sendable {
  /// A line of the map.
  public struct Line: Hashable, Sendable {
    /// Closed, as the kernel has it.
    public var addresses: ClosedRange<UInt64>
    public var name: String
    /// 0 for a line that lies in no other.
    public var depth: Int
  }

  public private(set) var lines: [Line] = []
  /// What could not be read.
  public private(set) var problems: [KernelReadError] = []

  /// Deeper than the map of any machine.
  private static let depthLimit = 32
  /// More lines than any machine has.
  private static let lineLimit = 1 << 18

  init(lines: [Line]) { self.lines = lines }

  /// Reads the tree behind `iomem_resource`.
  public init(_ kernel: LinuxKernel) throws(KernelReadError) {
    let types = try kernel.types
    let root = try types.object("resource", at: try kernel.address(of: "iomem_resource"))
    // What is to be read next is last.
    var waiting: [(address: UInt64, depth: Int)] = [(try root.unsigned("child"), 0)]
    var seen: Set<UInt64> = [root.address]
    while let (address, depth) = waiting.popLast() {
      guard address != 0 else { continue }
      guard seen.insert(address).inserted, seen.count <= Self.lineLimit, depth < Self.depthLimit
      else {
        problems.append(.endless("the map of resources", address: address))
        continue
      }
      do throws(KernelReadError) {
        let line = try types.object("resource", at: address)
        let start = try line.unsigned("start")
        let end = try line.unsigned("end")
        waiting.append((try line.unsigned("sibling"), depth))
        waiting.append((try line.unsigned("child"), depth + 1))
        guard start <= end else {
          throw .damaged("a resource from \(hexadecimal(start)) to \(hexadecimal(end))")
        }
        var name = "<BAD>"
        do throws(KernelReadError) {
          name = try line.string("name")
        } catch {
          if error != .null { problems.append(error) }
        }
        lines.append(Line(addresses: start...end, name: name, depth: depth))
      } catch {
        problems.append(error)
      }
    }
  }

  /// The lines of a name, half-open.
  public func ranges(named name: String) -> [Range<PhysicalAddress>] {
    lines.filter { $0.name == name }.compactMap { line in
      let (end, overflow) = line.addresses.upperBound.addingReportingOverflow(1)
      return overflow ? nil : PhysicalAddress(line.addresses.lowerBound)..<PhysicalAddress(end)
    }
  }
}

extension KernelResources.Line {
  /// As `/proc/iomem` prints it.
  public var text: String {
    let digits = addresses.upperBound >> 32 == 0 ? 8 : 0
    let indent = String(repeating: "  ", count: depth)
    let start = hexadecimal(addresses.lowerBound, digits: max(digits, 8))
    return
      "\(indent)\(start)-\(hexadecimal(addresses.upperBound, digits: max(digits, 8))) : \(name)"
  }
}
