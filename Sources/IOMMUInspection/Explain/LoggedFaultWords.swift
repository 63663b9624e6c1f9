import IOMMUFormats
import IOMMUTranslation

/// What is said of a logged fault before anybody has looked at a table.
struct LoggedFaultWords {
  /// What was tried, in a line: `00:03.0 wrote IOVA 0x1000`.
  var attempt: String
  /// What the unit says to it, with its own number.
  var meaning: String
  /// Flags one by one, and what else the log's numbers say.
  var details: [String] = []
  /// What most faults of this kind come from.
  var causes: String?
  /// Where to look next.
  var lookAt: String?
}

extension FaultRecord {
  /// What is said of the record; the words are those of its unit.
  var words: LoggedFaultWords {
    switch source {
    case .vtd(let reason): VTd.words(for: reason, in: self)
    case .vtdInterrupt(let reason): VTd.interruptWords(for: reason, in: self)
    case .vtdStatus(let status): VTd.words(for: status)
    case .vtdQueue(let trouble): VTd.words(for: trouble, in: self)
    case .amdvi(let event, let hasFlags): AMDVi.words(for: event, hasFlags: hasFlags, in: self)
    case .amdviPageRequest(let entry): AMDVi.words(for: entry, in: self)
    case .smmuv3(let event): SMMUv3.words(for: event, in: self)
    case .calgary(let csr, let plssr): Calgary.words(csr: csr, plssr: plssr, in: self)
    }
  }

  /// `VT-d`, `AMD-Vi`: the unit that told of the fault.
  var unit: String {
    switch source {
    case .vtd, .vtdInterrupt, .vtdStatus, .vtdQueue: "VT-d"
    case .amdvi, .amdviPageRequest: "AMD-Vi"
    case .smmuv3: "SMMUv3"
    case .calgary: "Calgary"
    }
  }

  /// The number or name by which the unit's manual knows the fault; `nil` where the log lacks it.
  var reasonText: String? {
    switch source {
    case .vtd(let reason), .vtdInterrupt(let reason): reason.map { hexadecimal($0.rawValue) }
    case .vtdStatus(let status): hexadecimal(status.rawValue)
    case .vtdQueue, .amdviPageRequest: nil
    case .amdvi(let event, _): hexadecimal(event.code.rawValue)
    case .smmuv3(let event): hexadecimal(event.number.rawValue)
    case .calgary: nil
    }
  }

  /// Who sent the request.
  var sender: String { device.map { "\($0)" } ?? "a device" }

  /// A request for memory, in a line.
  var requestText: String {
    let verb = access.map { $0 == .read ? "read" : "wrote" } ?? "reached for"
    let place = address.map { "\(addressKind.rawValue) \(hexadecimal($0))" } ?? "something"
    let space = pasid.map { " with PASID \(hexadecimal($0))" } ?? ""
    return "\(sender) \(verb) \(place)\(space)"
  }
}

/// What most requests come from that no table allows, whatever unit stops them.
let unmappedCauses = requestCauses("never made it, made it for the other direction")

/// The same where hardware says that nothing is mapped there at all.
let absentCauses = requestCauses("never made it")

private func requestCauses(_ middle: String) -> String {
  "the driver took the mapping back while the device still used it, \(middle), or gave the device a "
    + "physical address; after a crash, the device goes on with what the dead kernel told it"
}

/// Where such requests are looked for.
let unmappedPlaces =
  "maps and unmaps of this number before the fault (trace events iommu and dma, --trace), "
  + "CONFIG_DMA_API_DEBUG, and whether the number is a physical address (--iomem)"
