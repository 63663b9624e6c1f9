import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUKdump
import IOMMUTranslation

/// Builds tables without a crash.
package struct Build: ParsableCommand {
  package enum ImageFormat: String, ExpressibleByArgument, CaseIterable { case elf, raw }

  package static let configuration = CommandConfiguration(
    commandName: "build",
    abstract: "Build the tables of one case without a crash: an image and its machine file.",
    discussion: """
      Example: iommu build --mode vtd --map 01:01.0=0x12345000+64K:r --output out

      writes out/vtd.elf (or vtd.raw) and out/vtd.json.
      """)

  @OptionGroup package var machine: MachineOptions

  @Option(help: "The case: nommu, swiotlb, gart, calgary, vtd or amdvi.")
  package var mode: TranslationMode

  @Option(
    name: .customLong("map"),
    help: ArgumentHelp(
      "Map memory for a device: DEVICE=RANGE[:r|w|rw]. May be repeated.",
      valueName: "mapping"),
    transform: { try MappingArgument($0) })
  package var mappings: [MappingArgument] = []

  @Flag(inversion: .prefixedNo, help: "Do what the Rule demands.")
  package var rule = true

  @Option(help: "The image: elf, or raw from physical address 0.")
  package var image = ImageFormat.elf

  @Option(
    help: ArgumentHelp("Where to write both files.", valueName: "dir"), completion: .directory)
  package var output: String

  @Option(help: "How to print what was done: text or json.")
  package var format = ReportFormat.text

  package init() {}

  package func validate() throws { try machine.refuseForeignOptions(mode) }

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen)
  }

  package func report(to out: inout some TextOutputStream) throws {
    try readingInput {
      var configuration = try machine.configuration(mode)
      for mapping in mappings
      where !configuration.devices.contains(where: { $0.requester == mapping.requester }) {
        configuration.devices.append(
          Device(name: "\(mapping.requester)", requester: mapping.requester))
      }
      let primary = try PrimaryKernel(configuration)
      let setUp = rule ? try primary.applyRule() : nil
      var buffers: [MappedBuffer] = []
      for mapping in mappings {
        guard primary.memory.isBacked(mapping.range.lowerBound, byteCount: mapping.range.byteCount)
        else {
          throw InputError(
            "--map \(mapping.text): \(mapping.range.text) is not in RAM; choose addresses in RAM")
        }
        let device = configuration.devices.first { $0.requester == mapping.requester }!
        do {
          buffers.append(
            try primary.map(mapping.range, for: device, direction: mapping.direction))
        } catch {
          throw InputError("--map \(mapping.text): \(error)")
        }
      }
      let written = try OutputDirectory(output).write(
        primary, name: mode.rawValue, isRaw: image == .raw)
      let result = BuildJSON(
        image: written.image, machine: written.machine,
        identityEntries: setUp?.identityEntryCount ?? 0,
        mappings: buffers.map {
          BuildJSON.Mapping(
            requester: "\($0.device.requester)", iova: "\($0.iova)",
            bytes: hexadecimal($0.byteCount), physical: "\($0.target.lowerBound)")
        })
      switch format {
      case .text: result.write(to: &out)
      case .json: try writeJSON(result, to: &out)
      }
    }
  }
}

/// `DEVICE=RANGE[:r|w|rw]`.
package struct MappingArgument {
  package var text: String
  package var requester: Requester
  package var range: Range<PhysicalAddress>
  package var direction: DMADirection

  package init(_ text: String) throws(NotationError) {
    guard let (device, mapping) = Notation.halves(text, "=") else {
      throw NotationError("a mapping is DEVICE=RANGE, such as 01:01.0=0x12345000+64K:r")
    }
    let function = try Notation.device(device)
    guard function.segment == 0 else {
      throw NotationError("the machines that are built have one PCI segment, number 0")
    }
    var range = mapping
    direction = .bidirectional
    if let (memory, access) = Notation.halves(mapping, ":") {
      switch access {
      case "r": direction = .toDevice
      case "w": direction = .fromDevice
      case "rw": direction = .bidirectional
      default: throw NotationError("'\(access)' is no access; it is r, w or rw")
      }
      range = memory
    }
    self.range = try Notation.range(range)
    self.text = text
    requester = function.requester
  }
}

/// What `iommu build` did.
private struct BuildJSON: Encodable {
  struct Mapping: Encodable {
    var requester: String
    var iova: String
    var bytes: String
    var physical: String
  }

  var image: String
  var machine: String
  var identityEntries: UInt64
  var mappings: [Mapping]

  enum CodingKeys: String, CodingKey {
    case image, machine, mappings
    case identityEntries = "identity_entries"
  }

  func write(to out: inout some TextOutputStream) {
    print("image    \(image)", to: &out)
    print("machine  \(machine)", to: &out)
    print("identity entries of the crash kernel: \(grouped(identityEntries))", to: &out)
    for mapping in mappings {
      print(
        "\(mapping.requester)  IOVA \(mapping.iova)  \(mapping.bytes) bytes  "
          + "-> \(mapping.physical)",
        to: &out)
    }
  }
}
