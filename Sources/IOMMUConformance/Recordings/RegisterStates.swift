import FoundationEssentials
import IOMMUFormats
import IOMMUImages

/// The registers of a trace's chips at its end, as the file beside the trace has them.
struct RegisterStates: Sendable {
  struct State: Sendable, Equatable {
    var chip: Int
    var base: PhysicalAddress
    var offset: UInt64
    /// For messages.
    var name: String
    var byteCount: Int
    /// The bits numbered as documented.
    var value: UInt64
    /// The bytes on the bus, the first one most significant.
    var busValue: UInt64
    var wasAccessed: Bool
  }

  /// The file's path as it was given.
  var path: String
  var states: [State]

  /// Reads a file of register states.
  ///
  /// - Throws: ``ImageError`` that names the file and the JSON path of what is wrong.
  init(path: String) throws(ImageError) {
    let document = try decodeJSON(
      Document.self, path: path, atMost: MachineFile.byteCountLimit,
      kind: "a file of register states")
    self.path = path
    states = document.chips.flatMap { chip in
      chip.regs.map { register in
        State(
          chip: Int(chip.chip), base: PhysicalAddress(chip.bbar.value),
          offset: register.offset.value, name: register.reg, byteCount: Int(register.width),
          value: register.value.value,
          busValue: Notation.hexadecimal(utf8: register.busBytes.utf8) ?? 0,
          wasAccessed: register.wasRead || register.wasWritten)
      }
    }
  }

  /// The JSON as it stands.
  private struct Document: Decodable {
    var chips: [Chip]

    struct Chip: Decodable {
      var chip: UInt8
      var bbar: Number
      var regs: [Register]
    }

    struct Register: Decodable {
      var offset: Number
      var reg: String
      var width: UInt8
      var busBytes: String
      var value: Number
      var wasRead: Bool
      var wasWritten: Bool

      enum CodingKeys: String, CodingKey {
        case offset, reg, width
        case busBytes = "bus_bytes"
        case value = "be_value"
        case wasRead = "driver_read"
        case wasWritten = "driver_wrote"
      }
    }
  }
}
