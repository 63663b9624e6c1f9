import IOMMUFormats
import IOMMUImages

/// The four GART registers of every northbridge, as a trace leaves them.
struct NorthbridgeStates: Sendable {
  /// One northbridge.
  struct State: Sendable, Equatable {
    var function: Requester
    var vendorID: UInt16
    var deviceID: UInt16
    var control: UInt32
    var base: UInt32
    var table: UInt32
    var cache: UInt32
    /// What the registers mean, by whoever wrote the file.
    var meaning: Meaning
  }

  /// Registers taken apart.
  struct Meaning: Sendable, Equatable {
    var isEnabled: Bool
    var blocksCPU: Bool
    var blocksIO: Bool
    var walksWithoutProbes: Bool
    var order: UInt64
    var apertureBase: UInt64
    var apertureByteCount: UInt64
    var table: PhysicalAddress

    init(control: GART.ApertureControl, base: GART.ApertureBase, table: GART.TableBase) {
      isEnabled = control.isEnabled
      blocksCPU = control.blocksCPU
      blocksIO = control.blocksIO
      walksWithoutProbes = control.walksWithoutProbes
      order = UInt64(control.order)
      apertureBase = base.address
      apertureByteCount = control.apertureByteCount ?? 0
      self.table = table.table
    }
  }

  /// The file's path as it was given.
  var path: String
  /// In the file's order.
  var nodes: [State]

  /// Files of more bytes than this are refused.
  static let byteCountLimit = 1 << 20

  /// Reads `northbridges.json`.
  ///
  /// - Throws: ``ImageError`` that names the file and the JSON path of what is wrong.
  init(path: String) throws(ImageError) {
    let document = try decodeJSON(
      StatesDocument.self, path: path, atMost: Self.byteCountLimit, kind: "a register file")
    self.path = path
    nodes = []
    for node in document.northbridges {
      guard let state = node.value else {
        throw ImageError(
          file: path, place: "northbridges",
          found: quoted(node.bdf) + " is no PCI function, or a number of it has too many bits")
      }
      guard !nodes.contains(where: { $0.function == state.function }) else {
        throw ImageError(file: path, place: "northbridges", found: "\(state.function) comes twice")
      }
      nodes.append(state)
    }
    guard !nodes.isEmpty, nodes.count <= 64 else {
      throw ImageError(file: path, place: "northbridges", found: "\(nodes.count) northbridges")
    }
  }
}

// MARK: The JSON as it stands

private struct StatesDocument: Decodable {
  var northbridges: [Node]

  struct Node: Decodable {
    var bdf, vendor, device: String
    var control, base, table, cache: Number
    var decoded: Meaning

    enum CodingKeys: String, CodingKey {
      case bdf, vendor, device, decoded
      case control = "0x90_aperture_ctl"
      case base = "0x94_aperture_base"
      case table = "0x98_table_base"
      case cache = "0x9c_cache_ctl"
    }

    /// `nil` when something is no identifier or does not fit its register.
    var value: NorthbridgeStates.State? {
      guard let function = Requester(bdf),
        let vendorID = Notation.hexadecimal(utf8: vendor.utf8).flatMap({ UInt16(exactly: $0) }),
        let deviceID = Notation.hexadecimal(utf8: device.utf8).flatMap({ UInt16(exactly: $0) }),
        let control = UInt32(exactly: control.value),
        let base = UInt32(exactly: base.value), let table = UInt32(exactly: table.value),
        let cache = UInt32(exactly: cache.value)
      else { return nil }
      return NorthbridgeStates.State(
        function: function, vendorID: vendorID, deviceID: deviceID, control: control, base: base,
        table: table, cache: cache, meaning: decoded.value)
    }
  }

  struct Meaning: Decodable {
    var enabled: Bool
    var dis_cpu, dis_io, dis_table_walk_probe, order: UInt64
    var aperture_base, aperture_size, gatt_pa: Number

    var value: NorthbridgeStates.Meaning {
      var meaning = NorthbridgeStates.Meaning(
        control: .init(rawValue: 0), base: .init(rawValue: 0), table: .init(rawValue: 0))
      meaning.isEnabled = enabled
      meaning.blocksCPU = dis_cpu != 0
      meaning.blocksIO = dis_io != 0
      meaning.walksWithoutProbes = dis_table_walk_probe != 0
      meaning.order = order
      meaning.apertureBase = aperture_base.value
      meaning.apertureByteCount = aperture_size.value
      meaning.table = PhysicalAddress(gatt_pa.value)
      return meaning
    }
  }
}
