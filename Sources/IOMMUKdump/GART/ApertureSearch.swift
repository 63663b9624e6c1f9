import IOMMUFormats
import IOMMUHardware

/// The early part of Linux's GART support: is there an aperture, is it sound, and if not, where can
/// one be laid.
///
/// Acts on the northbridges by configuration accesses alone, before anything is mapped. Source:
/// Linux `aperture_64.c`.
struct ApertureSearch {
  /// What there is to work with.
  struct Aperture: Equatable {
    var base: UInt64
    var order: Int
    /// The kernel wrote the registers itself, and has to do so again after suspend.
    var isFixed: Bool
    /// Laid over RAM, which is lost to the kernel.
    var isOverRAM: Bool

    var byteCount: UInt64 { 0x200_0000 << UInt64(order) }
    var range: Range<UInt64> { base..<(base + byteCount) }
  }

  enum Outcome: Equatable {
    case aperture(Aperture)
    /// No northbridge, or none that is needed.
    case none
    /// There is no room for an aperture over RAM: the kernel stops.
    case panic
  }

  /// What an AGP bridge says of its aperture.
  struct AGPAperture: Equatable {
    /// 0 when the bridge's aperture is not usable.
    var base: UInt64
    var order: Int
  }

  /// Places where northbridges are looked for: bus, devices.
  static let places: [(bus: UInt8, devices: ClosedRange<UInt8>)] = [
    (0x00, 0x18...0x1f), (0xff, 0x00...0x1f), (0xfe, 0x00...0x1f),
  ]
  /// An IOMMU needs 64 MiB; AGP is content with 32.
  static let minimumByteCount: UInt64 = 64 << 20
  static let minimumAGPByteCount: UInt64 = 32 << 20
  /// The largest order laid over RAM, 1 GiB.
  static let maximumOrderOverRAM = 5
  /// No aperture over RAM below this: a large kernel started by kexec must not land in one.
  static let lowestOverRAM: UInt64 = 512 << 20

  let hardware: Northbridges
  let map: MemoryMap
  let options: GARTOptions
  /// RAM that is in use already, besides the crash kernel.
  let pages: any GARTPages

  // MARK: Looking

  /// Function 3 of every northbridge whose ID the kernel knows.
  func northbridges() -> [Requester] {
    Self.places.flatMap { bus, devices in
      devices.map { Requester(bus: bus, device: $0, function: GART.function) }
    }.filter { function in
      let identity = PCI.Identity(rawValue: read(function, PCI.RegisterOffset.identity))
      return GART.northbridgeIDs.contains {
        $0.vendor == identity.vendorID && $0.device == identity.deviceID
      }
    }
  }

  /// The first AGP bridge on any bus; `nil` where there is none.
  ///
  /// - Parameter order: What the northbridges say, trusted where the bridge claims too much.
  func agpBridge(trusting order: Int) -> AGPAperture? {
    guard !options.ignoresAGP else { return nil }
    for bus in 0...UInt8.max {
      for device in 0..<UInt8(32) {
        for number in 0..<UInt8(8) {
          let function = Requester(bus: bus, device: device, function: number)
          guard read(function, PCI.RegisterOffset.classRevision) != .max else { break }
          if let capability = agpCapability(of: function) {
            return aperture(of: function, capability: capability, trusting: order)
          }
          let header = PCI.HeaderType(rawValue: read(function, PCI.RegisterOffset.headerType))
          guard header.isMultiFunction else { break }
        }
      }
    }
    return nil
  }

  /// Where a host bridge's AGP capability lies. A list that runs in a circle ends after 48.
  private func agpCapability(of function: Requester) -> Int? {
    let kind = PCI.ClassRevision(rawValue: read(function, PCI.RegisterOffset.classRevision))
    let status = PCI.CommandStatus(rawValue: read(function, PCI.RegisterOffset.commandStatus))
    guard kind.classCode >> 8 == 0x0600, status.hasCapabilities else { return nil }
    var offset = Int(read(function, PCI.RegisterOffset.capabilitiesPointer) & 0xfc)
    for _ in 0..<48 where offset >= PCI.RegisterOffset.firstCapability {
      let header = PCI.CapabilityHeader(rawValue: read(function, offset))
      if header.id == .agp { return offset }
      offset = header.next
    }
    return nil
  }

  private func aperture(
    of bridge: Requester, capability: Int, trusting order: Int
  ) -> AGPAperture {
    let size = AGP.ApertureSize(rawValue: read(bridge, capability + AGP.apertureSizeOffset))
    let low = read(bridge, AGP.apertureBaseOffset)
    let high = read(bridge, AGP.apertureBaseOffset + 4)
    let base = AGP.ApertureBase(rawValue: UInt64(high) << 32 | UInt64(low)).address
    // A bridge whose APSIZE is 0 claims 4 GiB: then the northbridges are believed.
    let claimed = size.order
    let isBelievable = base <= 1 << 32 && base + 0x200_0000 << UInt64(claimed) <= 1 << 32
    let order = isBelievable ? claimed : order
    let isValid = isValid(base, order: order, atLeast: Self.minimumAGPByteCount)
    return AGPAperture(base: isValid ? base : 0, order: order)
  }

  /// The rules for an aperture: it has a base, ends at or below 4 GiB, is large enough, and does
  /// not lie over RAM of this kernel.
  func isValid(_ base: UInt64, order: Int, atLeast minimum: UInt64) -> Bool {
    let control = GART.ApertureControl(isEnabled: false, order: order)
    guard let size = control.apertureByteCount, base != 0, base + size <= 1 << 32,
      size >= minimum
    else { return false }
    return !overlapsRAM(base..<(base + size))
  }

  private func overlapsRAM(_ range: Range<UInt64>) -> Bool {
    map.ram.contains {
      $0.lowerBound.rawValue < range.upperBound && range.lowerBound < $0.upperBound.rawValue
    }
  }

  // MARK: Steps of the boot

  /// Very early in every boot: what did the kernel before this one leave?
  ///
  /// 2.6.27 clears GartEn on all nodes when they disagree, or when they are on with an impossible
  /// aperture; an aperture over this kernel's RAM is taken out of use instead, so that the second
  /// kernel can use it again. Later versions always clear a GartEn that is set, unless there is an
  /// AGP bridge.
  func clearInheritedGART() {
    let functions = northbridges()
    let nodes = functions.map { (control: control(of: $0), base: base(of: $0)) }
    guard let first = nodes.first else { return }
    let agree = nodes.allSatisfy {
      $0.base == first.base && $0.control.order == first.control.order
        && $0.control.isEnabled == first.control.isEnabled
    }
    guard !agree || first.control.isEnabled else { return }
    if options.version.disablesInheritedGART {
      guard agpBridge(trusting: first.control.order) == nil else { return }
    } else if agree, isPossible(first.base, order: first.control.order) {
      let size = first.control.apertureByteCount ?? 0
      pages.reserve(PhysicalAddress(first.base)..<PhysicalAddress(first.base + size))
      return
    }
    for function in functions { disable(function) }
  }

  /// As ``isValid(_:order:atLeast:)``, but over RAM is allowed.
  private func isPossible(_ base: UInt64, order: Int) -> Bool {
    let size = GART.ApertureControl(isEnabled: false, order: order).apertureByteCount
    return size.map { base != 0 && base + $0 <= 1 << 32 } ?? false
  }

  /// Finds the aperture that firmware has left, or makes one.
  func findAperture() -> Outcome {
    let functions = northbridges()
    guard let first = functions.first else { return .none }
    let agp = agpBridge(trusting: control(of: first).order)
    // Later versions look at the registers with the GART off.
    if options.version.disablesInheritedGART { functions.forEach(disable) }
    let base = base(of: first)
    let order = control(of: first).order
    let agree = functions.allSatisfy {
      self.base(of: $0) == base && control(of: $0).order == order
    }
    let isGood =
      isValid(base, order: order, atLeast: Self.minimumByteCount)
      || agp.map { $0.base != 0 && $0.base == base && $0.order == order } ?? false
    if agree, isGood, options.apertureOrder == nil {
      return .aperture(Aperture(base: base, order: order, isFixed: false, isOverRAM: false))
    }
    return makeAperture(functions, agp: agp)
  }

  /// Writes an aperture to all northbridges: the AGP bridge's, or one over RAM where the GART is
  /// needed.
  private func makeAperture(_ functions: [Requester], agp: AGPAperture?) -> Outcome {
    let aperture: Aperture
    if let agp, agp.base != 0, options.apertureOrder == nil {
      aperture = Aperture(base: agp.base, order: agp.order, isFixed: true, isOverRAM: false)
    } else {
      let isNeeded =
        (!options.isOff && map.endOfRAM.rawValue > 1 << 32) || options.isForced || agp != nil
        || options.apertureOrder != nil
      guard isNeeded else { return .none }
      let order = min(options.apertureOrder ?? 1, Self.maximumOrderOverRAM)
      guard let base = placeOverRAM(byteCount: 0x200_0000 << UInt64(order)) else { return .panic }
      aperture = Aperture(base: base, order: order, isFixed: true, isOverRAM: true)
    }
    Self.write(aperture, to: functions, of: hardware)
    return .aperture(aperture)
  }

  /// Takes RAM below 4 GiB out of use, aligned to its size and clear of the crash kernel.
  private func placeOverRAM(byteCount: UInt64) -> UInt64? {
    let first = (Self.lowestOverRAM + byteCount - 1) / byteCount * byteCount
    let bases = Array(stride(from: first, through: 1 << 32 - byteCount, by: Int(byteCount)))
    for base in options.version.placesApertureLow ? bases : bases.reversed() {
      let range = PhysicalAddress(base)..<PhysicalAddress(base + byteCount)
      if pages.take(range) { return base }
    }
    return nil
  }

  // MARK: Registers

  /// Size and place, with the GART off; also after suspend.
  static func write(_ aperture: Aperture, to functions: [Requester], of hardware: Northbridges) {
    let control = GART.ApertureControl(isEnabled: false, order: aperture.order)
    let base = GART.ApertureBase(address: aperture.base)
    for function in functions {
      hardware.writeConfiguration(
        UInt64(control.rawValue), to: function, at: Int(GART.RegisterOffset.apertureControl))
      hardware.writeConfiguration(
        UInt64(base.rawValue), to: function, at: Int(GART.RegisterOffset.apertureBase))
    }
  }

  private func read(_ function: Requester, _ offset: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: hardware.readConfiguration(function, at: offset))
  }

  private func control(of function: Requester) -> GART.ApertureControl {
    GART.ApertureControl(rawValue: read(function, Int(GART.RegisterOffset.apertureControl)))
  }

  private func base(of function: Requester) -> UInt64 {
    GART.ApertureBase(rawValue: read(function, Int(GART.RegisterOffset.apertureBase))).address
  }

  private func disable(_ function: Requester) {
    var control = control(of: function)
    control.isEnabled = false
    hardware.writeConfiguration(
      UInt64(control.rawValue), to: function, at: Int(GART.RegisterOffset.apertureControl))
  }
}
