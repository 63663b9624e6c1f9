import IOMMUFormats
import IOMMUTranslation

/// Tables that a seed decides, and requests through them whose answers are known without a walk: what an
/// emulator, a driver's own translation or a new format is held against.
///
///     let tables = TableCase(.vtdSecondStage, seed: 7, isDamaged: true)
///     try tables.check { myEmulator.translate($0, in: tables.memory) }
///
/// Answers follow from what was mapped and from the one entry that was damaged, by the manuals' tables of
/// faults; no entry is read for them.
public struct TableCase: TranslatingTables, Sendable {
  /// Which tables.
  public enum Kind: String, CaseIterable, Sendable {
    /// VT-d, legacy mode: root, context and second-stage tables of three or four levels.
    case vtdSecondStage = "vtd-second-stage"
    /// VT-d, scalable mode: first-stage tables of four levels.
    case vtdFirstStage = "vtd-first-stage"
    /// VT-d, scalable mode: a guest's first-stage tables in a host's second stage.
    case vtdNested = "vtd-nested"
    /// VT-d, scalable mode: several PASIDs of a device, of first and of second stage.
    case vtdPASIDs = "vtd-pasids"
    /// AMD-Vi: device table and host tables of three to five levels, pages of every size.
    case amdviHost = "amdvi-host"
    /// AMD-Vi: guest tables of four or five levels, through GCR3 tables of one or two.
    case amdviGuest = "amdvi-guest"
    /// AMD-Vi: a guest's tables in a host's.
    case amdviNested = "amdvi-nested"
    /// IBM Calgary: one TCE table.
    case calgary
    /// AMD GART: one GATT.
    case gart

    /// What the tables are, in a few words.
    public var summary: String {
      switch self {
      case .vtdSecondStage: "VT-d, legacy mode: root, context and second-stage tables"
      case .vtdFirstStage: "VT-d, scalable mode: first-stage tables"
      case .vtdNested: "VT-d, scalable mode: a guest's first stage in a host's second"
      case .vtdPASIDs: "VT-d, scalable mode: several PASIDs of a device"
      case .amdviHost: "AMD-Vi: host tables, pages of every size"
      case .amdviGuest: "AMD-Vi: guest tables behind GCR3 tables"
      case .amdviNested: "AMD-Vi: a guest's tables in a host's"
      case .calgary: "IBM Calgary: a TCE table"
      case .gart: "AMD GART: a GATT"
      }
    }

    /// Where the manual numbers the faults; `nil` for hardware that does not number them.
    public var faultSource: String? {
      switch self {
      case .vtdSecondStage, .vtdFirstStage, .vtdNested, .vtdPASIDs:
        "Intel VT-d 7.1.3, fault reasons"
      case .amdviHost, .amdviGuest, .amdviNested: "AMD IOMMU 2.5, event codes"
      case .calgary, .gart: nil
      }
    }
  }

  /// One request, and what must become of it.
  public struct Probe: Hashable, Sendable, CustomStringConvertible {
    public var device: PCI.Function
    /// What the request carries; `nil` for one without PASID.
    public var pasid: PASID?
    public var iova: IOVA
    public var access: Access
    public var expected: Answer

    /// `00:03.0 writes 0x1000`, with a PASID `00:03.0/5 writes 0x1000`.
    public var description: String {
      "\(device)\(pasid.map { "/\($0)" } ?? "") \(access)s \(iova)"
    }
  }

  /// What becomes of a request.
  public enum Answer: Hashable, Sendable, CustomStringConvertible {
    /// It goes to memory.
    case memory(PhysicalAddress)
    /// It is blocked, with the manual's number; `nil` where the hardware has none.
    case fault(UInt8?)

    public var description: String {
      switch self {
      case .memory(let address): "\(address)"
      case .fault(let number): number.map { "fault \(hexadecimal($0))" } ?? "fault"
      }
    }

    public init(_ translation: Translation) {
      switch translation {
      case .mapped(let address, _): self = .memory(address)
      case .fault(let fault): self = .fault(fault.number)
      // No request of a case is in the range of interrupts.
      case .interruptMessage: self = .fault(nil)
      }
    }
  }

  public let kind: Kind
  public let seed: UInt64
  public let machine: Machine
  public let memory: FlatMemory
  /// What is wrong with the tables, in words; `nil` where nothing is.
  public let damage: String?
  /// Where the manual, or who is known to read the hardware right, describes what is damaged.
  public let damageSource: String?
  /// Requests to mapped pages, beside them, without permission, beyond the tables, by devices without
  /// tables; and to what is damaged.
  public let probes: [Probe]

  /// Makes the tables; the same for the same arguments, in every version that writes no other entries.
  ///
  /// - Parameters:
  ///   - kind: Which tables.
  ///   - seed: Decides everything else.
  ///   - isDamaged: Whether something is wrong with one entry or register.
  /// - Complexity: O(pages mapped), a few thousand.
  public init(_ kind: Kind, seed: UInt64, isDamaged: Bool) {
    var draft = CaseDraft(seed: seed, isDamaged: isDamaged)
    do {
      switch kind {
      case .vtdSecondStage: try draft.makeSecondStage()
      case .vtdFirstStage: try draft.makeFirstStage()
      case .vtdNested: try draft.makeNested()
      case .vtdPASIDs: try draft.makePASIDs()
      case .amdviHost: try draft.makeHostTables()
      case .amdviGuest: try draft.makeGuestTables()
      case .amdviNested: try draft.makeNestedGuest()
      case .calgary: try draft.makeTCEs()
      case .gart: try draft.makeGATT()
      }
    } catch {
      // The memory is the case's own, and has room for what a seed can ask for.
      preconditionFailure("\(kind.rawValue), seed \(seed): \(error)")
    }
    self.kind = kind
    self.seed = seed
    machine = draft.machine!
    memory = draft.memory
    damage = draft.damage
    damageSource = draft.damageSource
    probes = draft.probes
  }

  /// Asks somebody for every answer.
  ///
  /// - Parameter answer: What the one who is tested says of a request.
  /// - Throws: `TableMismatch` that names the first wrong answer, and how many there are besides.
  public func check(_ answer: (Probe) throws -> Answer) throws {
    var wrong: (text: String, count: Int)?
    for probe in probes {
      let found = try answer(probe)
      guard found != probe.expected else { continue }
      let text =
        "\(kind.rawValue), seed \(seed)\(damage.map { ", \($0)" } ?? ""): \(probe) is answered "
        + "\(found), expected \(probe.expected)"
      wrong = (wrong?.text ?? text, (wrong?.count ?? 0) + 1)
    }
    guard let wrong else { return }
    throw TableMismatch(summary: wrong.text, entry: nil, otherCount: wrong.count - 1)
  }
}
