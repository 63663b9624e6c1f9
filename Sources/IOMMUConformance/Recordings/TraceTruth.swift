import FoundationEssentials
import IOMMUFormats
import IOMMUImages

/// What a trace is measured against: the machine, and every mapping its driver made.
struct TraceTruth: Sendable {
  /// The file's path as it was given.
  var path: String
  var scenario: String
  /// 1 for the first kernel, 2 for the kdump kernel.
  var kernel: UInt64
  /// The recorded driver, such as `Linux 4.4.60 pci-calgary_64.c`.
  var driver: String
  /// What the kernel was told of the driver on its command line; empty for nothing.
  var option: String
  /// Bytes: the end of the RAM that the kernel saw, and in a kdump kernel the end before its command
  /// line cut it; 0 where the file does not say.
  var endOfRAM: UInt64
  var savedEndOfRAM: UInt64
  /// Memory, reserved ranges included: half-open, whole pages, ascending and apart.
  var memory: [Range<PhysicalAddress>]
  /// Sorted by the place where they begin.
  var mappings: [TraceMapping]
  /// Calgary: one for each PHB that has a bus; empty elsewhere.
  var tables: [TraceTable]
  /// Calgary: the PCI functions; empty elsewhere.
  var functions: [TraceFunction]
  /// How many mappings there are, how many live on and how many were freed, by the file's own count.
  var counts: Counts

  struct Counts: Sendable, Equatable, Decodable {
    var mappings: UInt64
    var live: UInt64
    var freed: UInt64

    init(mappings: UInt64, live: UInt64, freed: UInt64) {
      self.mappings = mappings
      self.live = live
      self.freed = freed
    }
  }
}

/// One mapping that a driver made.
struct TraceMapping: Sendable, Equatable {
  var identifier: UInt64
  var device: Requester
  /// Calgary: the bus whose table translates the device; `nil` when none does.
  var tableBus: UInt8?
  /// `state`: the driver has not taken it back.
  var isLive: Bool
  /// GART: whether the number lies in the aperture.
  var isRemapped: Bool
  var iova: IOVA
  var physical: PhysicalAddress
  var byteCount: UInt64
  var pageCount: UInt64
  var direction: TraceDirection
  /// In force from the boundary after this many events,
  var firstSequence: UInt64
  /// and up to, not at, the boundary after this many.
  var endSequence: UInt64?
}

/// One TCE table at the end of a trace.
struct TraceTable: Sendable, Equatable {
  var bus: UInt8
  var chip: Int
  var phb: Int
  var isTranslated: Bool
  /// The table as the chip finds it from its TAR; 0 when nothing is translated.
  var hardwareTable: PhysicalAddress
  /// The table as the driver finds it: another address after the driver's mistake in a kdump kernel.
  var driverTable: PhysicalAddress
  var entryCount: UInt64
  /// Bytes of the table by the driver's own size.
  var byteCount: UInt64?
  /// What TAR and CONFIG_RW hold, their bits numbered as documented.
  var tableAddress: UInt64
  var configuration: UInt64
  /// The size code in TAR.
  var sizeCode: UInt64?
  /// Entries that are not zero.
  var nonzeroEntryCount: UInt64?
  /// Where the driver's next search starts.
  var hint: UInt64?
}

/// One PCI function.
struct TraceFunction: Sendable, Equatable {
  var requester: Requester
  var vendor: UInt16
  var device: UInt16
  var rootBus: UInt8?
}

extension TraceTruth {
  /// Files of more bytes than this are refused.
  static let byteCountLimit = 512 << 20

  /// Reads a truth file.
  ///
  /// - Throws: ``ImageError`` that names the file and the JSON path of what is wrong.
  init(path: String) throws(ImageError) {
    let document = try decodeJSON(
      TruthDocument.self, path: path, atMost: Self.byteCountLimit, kind: "a truth file")
    self.init(
      path: path, scenario: document.scenario, kernel: document.kernel, driver: document.driver,
      option: document.option ?? "", endOfRAM: document.endPage.map { $0.value &* 4096 } ?? 0,
      savedEndOfRAM: document.savedEndPage.map { $0.value &* 4096 } ?? 0,
      memory: Self.wholePages(document.ram.map(\.range)),
      mappings: document.mappings.map(\.value).sorted { $0.firstSequence < $1.firstSequence },
      tables: document.tables?.map(\.value) ?? [],
      functions: document.devices?.map(\.value) ?? [], counts: document.counts)
  }

  /// The ranges cut to whole pages and joined where they touch.
  static func wholePages(_ ranges: [Range<UInt64>]) -> [Range<PhysicalAddress>] {
    var joined: [Range<UInt64>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      let start = max(range.lowerBound / 4096 * 4096, joined.last?.upperBound ?? 0)
      let end = range.upperBound / 4096 * 4096
      guard start < end else { continue }
      if let last = joined.last, last.upperBound == start {
        joined[joined.count - 1] = last.lowerBound..<end
      } else {
        joined.append(start..<end)
      }
    }
    return joined.map { PhysicalAddress($0.lowerBound)..<PhysicalAddress($0.upperBound) }
  }
}

// MARK: The JSON as it stands

/// The keys of a truth file that are used.
private struct TruthDocument: Decodable {
  var scenario: String
  var kernel: UInt64
  var driver: String
  var option: String?
  var endPage: Number?
  var savedEndPage: Number?
  var ram: [MemoryRange]
  var mappings: [Mapping]
  var tables: [Table]?
  var devices: [Function]?
  var counts: TraceTruth.Counts

  enum CodingKeys: String, CodingKey {
    case scenario, kernel, driver, ram, mappings, tables, devices, counts
    case option = "calgary_option"
    case endPage = "max_pfn"
    case savedEndPage = "saved_max_pfn"
  }

  /// `["0x0", "0x9f000", "ram"]`.
  struct MemoryRange: Decodable {
    var range: Range<UInt64>

    init(from decoder: any Decoder) throws {
      var container = try decoder.unkeyedContainer()
      let start = try container.decode(Number.self).value
      let end = try container.decode(Number.self).value
      guard start <= end, end < MachineFile.addressLimit else {
        throw DecodingError.dataCorruptedError(
          in: container, debugDescription: "is no range below 2^52")
      }
      range = start..<end
    }
  }

  struct Mapping: Decodable {
    var value: TraceMapping

    enum CodingKeys: String, CodingKey {
      case id, dev, iova, pa, len, pages, dir, state
      case tableBus = "table_bus"
      case busAddress = "bus_addr"
      case isRemapped = "through_gart"
      case firstSequence = "seq_map"
      case endSequence = "seq_unmap"
    }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      func hexadecimal(_ key: CodingKeys, bits: UInt64) throws -> UInt64 {
        let value = try container.decode(Number.self, forKey: key).value
        guard bits == 64 || value >> bits == 0 else {
          throw DecodingError.dataCorruptedError(
            forKey: key, in: container, debugDescription: "has more than \(bits) bits")
        }
        return value
      }
      let name = try container.decode(String.self, forKey: .dev)
      guard let device = Requester(name) else {
        throw DecodingError.dataCorruptedError(
          forKey: .dev, in: container, debugDescription: quoted(name) + " is not a PCI function")
      }
      let directionName = try container.decode(String.self, forKey: .dir)
      guard let direction = TraceDirection(rawValue: directionName) else {
        throw DecodingError.dataCorruptedError(
          forKey: .dir, in: container, debugDescription: quoted(directionName) + " is no direction")
      }
      let pages = try container.decode(UInt64.self, forKey: .pages)
      guard pages <= 1 << 20 else {
        throw DecodingError.dataCorruptedError(
          forKey: .pages, in: container, debugDescription: "\(pages) pages")
      }
      let bus = try container.decodeIfPresent(Int.self, forKey: .tableBus)
      value = TraceMapping(
        identifier: try container.decode(UInt64.self, forKey: .id), device: device,
        tableBus: bus.flatMap { UInt8(exactly: $0) },
        isLive: try container.decode(String.self, forKey: .state) == "live",
        isRemapped: try container.decodeIfPresent(Bool.self, forKey: .isRemapped) ?? true,
        iova: IOVA(
          try hexadecimal(container.contains(.busAddress) ? .busAddress : .iova, bits: 52)),
        physical: PhysicalAddress(try hexadecimal(.pa, bits: 52)),
        byteCount: try container.decode(UInt64.self, forKey: .len), pageCount: pages,
        direction: direction,
        firstSequence: try container.decode(UInt64.self, forKey: .firstSequence),
        endSequence: try container.decodeIfPresent(UInt64.self, forKey: .endSequence))
    }
  }

  struct Table: Decodable {
    var value: TraceTable

    enum CodingKeys: String, CodingKey {
      case bus, chip, phb, translated, entries
      case driverTable = "kernel_table_pa"
      case hardwareTable = "hw_table_pa"
      case nonzeroEntries = "nonzero_tces"
      case hint = "it_hint"
      case byteCount = "table_bytes"
      case tableAddress = "tar_be_value"
      case configuration = "config_rw_be"
      case sizeCode = "size_code"
    }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      let hardware = try container.decodeIfPresent(Number.self, forKey: .hardwareTable)?.value ?? 0
      let driver =
        try container.decodeIfPresent(Number.self, forKey: .driverTable)?.value ?? hardware
      let phb = Int(try container.decode(UInt8.self, forKey: .phb))
      guard phb < Calgary.hostBridgeCount else {
        throw DecodingError.dataCorruptedError(
          forKey: .phb, in: container, debugDescription: "\(phb): a chip has four PHBs")
      }
      value = TraceTable(
        bus: try container.decode(UInt8.self, forKey: .bus),
        chip: Int(try container.decode(UInt8.self, forKey: .chip)),
        phb: phb,
        isTranslated: try container.decode(Bool.self, forKey: .translated),
        hardwareTable: PhysicalAddress(hardware), driverTable: PhysicalAddress(driver),
        entryCount: try container.decodeIfPresent(UInt64.self, forKey: .entries) ?? 0,
        byteCount: try container.decodeIfPresent(UInt64.self, forKey: .byteCount),
        tableAddress: try container.decode(Number.self, forKey: .tableAddress).value,
        configuration: try container.decode(Number.self, forKey: .configuration).value,
        sizeCode: try container.decodeIfPresent(UInt64.self, forKey: .sizeCode),
        nonzeroEntryCount: try container.decodeIfPresent(UInt64.self, forKey: .nonzeroEntries),
        hint: try container.decodeIfPresent(UInt64.self, forKey: .hint))
    }
  }

  struct Function: Decodable {
    var value: TraceFunction

    enum CodingKeys: String, CodingKey {
      case bdf, vendor, device
      case rootBus = "root_bus"
    }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      func identifier(_ key: CodingKeys) throws -> UInt16 {
        let text = try container.decode(String.self, forKey: key)
        guard let value = Notation.hexadecimal(utf8: text.utf8).flatMap({ UInt16(exactly: $0) })
        else {
          throw DecodingError.dataCorruptedError(
            forKey: key, in: container, debugDescription: quoted(text) + " is no PCI identifier")
        }
        return value
      }
      let name = try container.decode(String.self, forKey: .bdf)
      guard let requester = Requester(name) else {
        throw DecodingError.dataCorruptedError(
          forKey: .bdf, in: container, debugDescription: quoted(name) + " is not a PCI function")
      }
      value = TraceFunction(
        requester: requester, vendor: try identifier(.vendor), device: try identifier(.device),
        rootBus: try container.decodeIfPresent(Int.self, forKey: .rootBus)
          .flatMap { UInt8(exactly: $0) })
    }
  }
}
