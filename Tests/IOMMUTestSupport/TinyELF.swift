/// An ELF core, byte by byte; it knows nothing of the writer that it helps to test.
public struct TinyELF {
  public struct Load {
    public var physical: UInt64
    public var data: [UInt8]
    public var memorySize: UInt64?
    public var fileSize: UInt64?
    public var offset: UInt64?
    /// Linux's direct map without KASLR where nothing else is said.
    public var virtual: UInt64?
    /// 1 for memory, 4 for notes.
    public var type: UInt32

    public init(
      physical: UInt64, data: [UInt8] = [], memorySize: UInt64? = nil, fileSize: UInt64? = nil,
      offset: UInt64? = nil, virtual: UInt64? = nil, type: UInt32 = 1
    ) {
      self.virtual = virtual
      self.physical = physical
      self.data = data
      self.memorySize = memorySize
      self.fileSize = fileSize
      self.offset = offset
      self.type = type
    }

    /// A note, such as VMCOREINFO.
    public static func note(_ name: String, _ content: String) -> Load {
      var bytes = little(UInt64(name.utf8.count + 1), 4) + little(UInt64(content.utf8.count), 4)
      bytes += little(0, 4)
      for text in [Array(name.utf8) + [0], Array(content.utf8)] {
        bytes += text + [UInt8](repeating: 0, count: (4 - text.count % 4) % 4)
      }
      return Load(physical: 0, data: bytes, type: 4)
    }
  }

  public var loads: [Load]
  public var type: UInt16 = 4
  public var machine: UInt16 = 62
  public var headerSize: UInt16 = 56
  public var isExtended = false

  public init(_ loads: [Load] = []) { self.loads = loads }

  public static func little(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }

  public var bytes: [UInt8] {
    let tableEnd = 64 + 56 * loads.count
    var bytes: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    bytes += Self.little(UInt64(type), 2) + Self.little(UInt64(machine), 2) + [1, 0, 0, 0]
    bytes += Self.little(0, 8)
    bytes += Self.little(64, 8)
    bytes += Self.little(isExtended ? UInt64(tableEnd) : 0, 8)
    bytes += [0, 0, 0, 0] + [64, 0] + Self.little(UInt64(headerSize), 2)
    bytes += isExtended ? [0xff, 0xff] : Self.little(UInt64(loads.count), 2)
    bytes += isExtended ? [64, 0, 1, 0, 0, 0] : [0, 0, 0, 0, 0, 0]
    var offset = UInt64(tableEnd + (isExtended ? 64 : 0))
    for load in loads {
      let count = UInt64(load.data.count)
      bytes += Self.little(UInt64(load.type), 4) + [7, 0, 0, 0]
      bytes += Self.little(load.offset ?? offset, 8)
      bytes += Self.little(load.virtual ?? 0xffff_8880_0000_0000 &+ load.physical, 8)
      bytes += Self.little(load.physical, 8)
      bytes += Self.little(load.fileSize ?? count, 8)
      bytes += Self.little(load.memorySize ?? count, 8)
      bytes += Self.little(0, 8)
      offset += count
    }
    if isExtended {
      var section = [UInt8](repeating: 0, count: 64)
      section.replaceSubrange(44..<48, with: Self.little(UInt64(loads.count), 4))
      bytes += section
    }
    for load in loads { bytes += load.data }
    return bytes
  }
}
