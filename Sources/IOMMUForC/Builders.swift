import CIOMMU
import IOMMUFormats
import IOMMUTranslation

/// Tables that C has a handle of.
final class CTables: Handled {
  static var kind: HandleKind { .tables }

  let tables: any BuiltTables
  private let memory: CMemory

  init(_ tables: any BuiltTables, in memory: CMemory) {
    self.tables = tables
    self.memory = memory
  }

  /// Asks the tables for something, and the memory whether it has taken what was stored.
  func ask<Result>(_ body: (any BuiltTables) throws -> Result) throws -> Result {
    let result = Swift.Result { try body(tables) }
    // What the memory did not take is the reason for whatever the tables say.
    try memory.check()
    return try result.get()
  }
}

/// A mapping as C asks for it.
struct MapRequest {
  var iova: IOVA
  var range: Range<PhysicalAddress>
  var permissions: Permissions
  var sizes: PageSizes
  var isOver: Bool

  init(_ iova: UInt64, _ physical: UInt64, _ size: UInt64, _ flags: UInt32) throws {
    let known = UInt32(IOMMU_READ_WRITE | IOMMU_LARGEST_PAGES | IOMMU_REMAP)
    guard flags & ~known == 0 else {
      throw CallError.unsupported(
        "flags \(hexadecimal(flags)) has bits that this version does not have")
    }
    self.iova = IOVA(iova)
    range = try Range<PhysicalAddress>(iommu_range(address: physical, size: size))
    _ = try iovas(iova, size)
    permissions = Permissions(rawValue: UInt8(flags & 3))
    sizes = flags & UInt32(IOMMU_LARGEST_PAGES) == 0 ? .smallest : .largest
    isOver = flags & UInt32(IOMMU_REMAP) != 0
  }
}

/// A range of I/O addresses.
private func iovas(_ start: UInt64, _ size: UInt64) throws -> Range<IOVA> {
  guard let range = Range(start: IOVA(start), byteCount: size) else {
    throw CallError.argument(
      "a range of \(hexadecimal(size)) bytes from IOVA \(hexadecimal(start)) on ends past all addresses"
    )
  }
  return range
}

/// What C asks of the builders of all units.
protocol BuiltTables: AnyObject {
  func map(_ device: PCI.Function, _ pasid: PASID?, _ request: MapRequest) throws
  func unmap(_ device: PCI.Function, _ pasid: PASID?, _ range: Range<IOVA>) throws
  /// What a register of a live unit wants.
  var root: UInt64 { get }
  var machine: Machine { get }
  /// The tables by domain; `nil` where the hardware has no domains.
  var domains: (any BuiltDomains)? { get }
}

/// What C asks of the builders of units that have domains.
protocol BuiltDomains: AnyObject {
  func makeDomain(_ kind: DomainKind) throws -> UInt16
  func removeDomain(_ id: UInt16) throws
  func map(in id: UInt16, _ request: MapRequest) throws
  func unmap(in id: UInt16, _ range: Range<IOVA>) throws
  func bind(_ device: PCI.Function, _ pasid: PASID?, to id: UInt16) throws
  func unbind(_ device: PCI.Function, _ pasid: PASID?) throws
  var tablePageCount: Int { get }
}

/// A kind of domain as C asks for it.
enum DomainKind {
  case host(levels: Int), process(levels: Int), nested(levels: Int, host: UInt16), passThrough
}

// MARK: VT-d and AMD-Vi

/// Tables of a unit with domains, and the domains that C has made.
private final class TablesWithDomains<Tables: DomainTables>: BuiltTables, BuiltDomains {
  private let tables: Tables
  private let kind: (DomainKind) -> Tables.Kind
  private let register: (Tables) -> UInt64
  private var known: [UInt16: Tables.Domain] = [:]

  init(
    _ tables: Tables, root: @escaping (Tables) -> UInt64,
    kind: @escaping (DomainKind) -> Tables.Kind
  ) {
    self.tables = tables
    register = root
    self.kind = kind
  }

  var root: UInt64 { register(tables) }
  var machine: Machine { tables.machine }
  var domains: (any BuiltDomains)? { self }
  var tablePageCount: Int { tables.tablePageCount }

  func map(_ device: PCI.Function, _ pasid: PASID?, _ request: MapRequest) throws {
    try request.isOver
      ? tables.remap(
        device, pasid: pasid, at: request.iova, request.range, request.permissions,
        attributes: nil, sizes: request.sizes)
      : tables.map(
        device, pasid: pasid, at: request.iova, request.range, request.permissions,
        attributes: nil, sizes: request.sizes)
  }

  func unmap(_ device: PCI.Function, _ pasid: PASID?, _ range: Range<IOVA>) throws {
    try tables.unmap(device, pasid: pasid, range, partly: .split)
  }

  private func domain(_ id: UInt16) throws -> Tables.Domain {
    guard let domain = known[id] else {
      throw CallError(
        status: iommu_status(IOMMU_ERROR_TABLES),
        text: "domain \(id) was not made by iommu_tables_create_domain(), or is gone")
    }
    return domain
  }

  func makeDomain(_ kind: DomainKind) throws -> UInt16 {
    let domain = try tables.makeDomain(self.kind(kind), id: nil, guestTables: nil)
    let id = tables.id(of: domain)
    known[id] = domain
    return id
  }

  func removeDomain(_ id: UInt16) throws {
    try tables.remove(try domain(id))
    known[id] = nil
  }

  func map(in id: UInt16, _ request: MapRequest) throws {
    try request.isOver
      ? tables.remap(
        in: try domain(id), at: request.iova, request.range, request.permissions, attributes: nil,
        sizes: request.sizes)
      : tables.map(
        in: try domain(id), at: request.iova, request.range, request.permissions, attributes: nil,
        sizes: request.sizes)
  }

  func unmap(in id: UInt16, _ range: Range<IOVA>) throws {
    try tables.unmap(in: try domain(id), range, partly: .split)
  }

  func bind(_ device: PCI.Function, _ pasid: PASID?, to id: UInt16) throws {
    try tables.bind(device, pasid: pasid, to: try domain(id))
  }

  func unbind(_ device: PCI.Function, _ pasid: PASID?) throws {
    try tables.unbind(device, pasid: pasid)
  }
}

/// Levels of page tables as C gives them.
private func levels(_ given: Int32, default usual: Int = 4) throws -> Int {
  guard 0...6 ~= given else { throw CallError.argument("\(given) levels: 0 to 6 are possible") }
  return given == 0 ? usual : Int(given)
}

/// The pages that tables lie in; `nil` for the whole memory's.
private func pool(_ range: iommu_range) throws -> TablePool? {
  range.size == 0 ? nil : TablePool([try Range<PhysicalAddress>(range)])
}

/// Makes tables in a memory that can be written.
private func createTables(
  _ memory: Handle?, _ tables: UnsafeMutablePointer<Handle?>?,
  flat: (FlatMemory) throws -> any BuiltTables, called: (CalledMemory) throws -> any BuiltTables
) -> iommu_status {
  create(tables, "tables") {
    let memory = try object(memory, as: CMemory.self)
    let made: any BuiltTables
    switch memory.content {
    case .flat(let content): made = try flat(content)
    case .called(let content):
      guard content.takesStores else {
        throw CallError.unsupported("the memory has no write: nothing can be stored in it")
      }
      made = try called(content)
      try content.checkStores()
    case .image: throw CallError.unsupported("nothing can be stored in a dump")
    }
    return CTables(made, in: memory)
  }
}

@_cdecl("iommu_tables_create_vtd")
public func createVTdTables(
  _ memory: Handle?, _ options: UnsafePointer<iommu_vtd_options>?,
  _ tables: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  func make<Memory: WritableMemory>(_ memory: Memory) throws -> any BuiltTables {
    let options = try structure(options, "iommu_vtd_options")
    try requireZero(options.reserved)
    guard options.pasid_bits == 0 || 13...20 ~= options.pasid_bits else {
      throw CallError.argument("pasid_bits is \(options.pasid_bits): 13 to 20 are possible")
    }
    let made = try VTd.Tables(
      in: memory, mode: options.is_scalable == 0 ? .legacy : .scalable,
      limits: try VTd.Limits(
        capability: options.capability, extendedCapability: options.extended_capability,
        hostAddressWidth: options.host_address_width),
      levels: options.levels == 0 ? nil : try levels(options.levels),
      pasidBits: options.pasid_bits == 0 ? 15 : Int(options.pasid_bits),
      segment: try segment(options.segment), allocator: try pool(options.table_range))
    return TablesWithDomains(made, root: { $0.rootTableAddress.rawValue }) { kind in
      switch kind {
      case .host(let levels): .secondStage(levels: levels)
      case .process(let levels): .firstStage(levels: levels)
      case .nested(let levels, let host): .nested(levels: levels, host: host)
      case .passThrough: .passThrough
      }
    }
  }
  return createTables(memory, tables, flat: { try make($0) }, called: { try make($0) })
}

@_cdecl("iommu_tables_create_amdvi")
public func createAMDViTables(
  _ memory: Handle?, _ options: UnsafePointer<iommu_amdvi_options>?,
  _ tables: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  func make<Memory: WritableMemory>(_ memory: Memory) throws -> any BuiltTables {
    let options = try structure(options, "iommu_amdvi_options")
    try requireZero(options.reserved)
    guard options.pasid_bits == 0 || 1...20 ~= options.pasid_bits else {
      throw CallError.argument("pasid_bits is \(options.pasid_bits): 1 to 20 are possible")
    }
    guard options.last_bus <= 255 else {
      throw CallError.argument("last_bus is \(options.last_bus): a segment has buses 0 to 255")
    }
    let made = try AMDVi.Tables(
      in: memory,
      features: options.extended_features == 0
        ? nil : AMDVi.ExtendedFeatures(rawValue: options.extended_features),
      lastBus: options.last_bus == 0 ? 255 : UInt8(options.last_bus),
      pasidBits: options.pasid_bits == 0 ? 9 : Int(options.pasid_bits),
      segment: try segment(options.segment), allocator: try pool(options.table_range))
    return TablesWithDomains(made, root: { $0.unit.deviceTable.rawValue }) { kind in
      switch kind {
      case .host(let levels): .host(levels: levels)
      case .process(let levels): .guest(levels: levels)
      case .nested(let levels, let host): .nested(levels: levels, host: host)
      case .passThrough: .passThrough
      }
    }
  }
  return createTables(memory, tables, flat: { try make($0) }, called: { try make($0) })
}

// MARK: Calgary and GART

/// - Throws: For a request with PASID, which the hardware is older than.
private func refusePASID(_ pasid: PASID?) throws {
  guard pasid == nil else {
    throw CallError.unsupported("requests carry no PASID here: give IOMMU_NO_PASID")
  }
}

private final class CalgaryTables<Memory: WritableMemory>: BuiltTables {
  private let tables: Calgary.Tables<Memory>
  init(_ tables: Calgary.Tables<Memory>) { self.tables = tables }

  var root: UInt64 { tables.chip.hostBridges.first??.tableAddress.rawValue ?? 0 }
  var machine: Machine { tables.machine }
  var domains: (any BuiltDomains)? { nil }

  func map(_ device: PCI.Function, _ pasid: PASID?, _ request: MapRequest) throws {
    try refusePASID(pasid)
    try request.isOver
      ? tables.remap(device, at: request.iova, request.range, request.permissions)
      : tables.map(device, at: request.iova, request.range, request.permissions)
  }

  func unmap(_ device: PCI.Function, _ pasid: PASID?, _ range: Range<IOVA>) throws {
    try refusePASID(pasid)
    try tables.unmap(device, range)
  }
}

private final class GARTTables<Memory: WritableMemory>: BuiltTables {
  private let tables: GART.Tables<Memory>
  init(_ tables: GART.Tables<Memory>) { self.tables = tables }

  var root: UInt64 { UInt64(tables.node.tableBase.rawValue) }
  var machine: Machine { tables.machine }
  var domains: (any BuiltDomains)? { nil }

  func map(_: PCI.Function, _ pasid: PASID?, _ request: MapRequest) throws {
    try refusePASID(pasid)
    guard request.permissions == .readWrite else {
      throw CallError.unsupported(
        "a GATT entry lets devices read and write, and nothing less: give IOMMU_READ_WRITE")
    }
    try request.isOver
      ? tables.remap(at: request.iova, request.range) : tables.map(at: request.iova, request.range)
  }

  func unmap(_: PCI.Function, _ pasid: PASID?, _ range: Range<IOVA>) throws {
    try refusePASID(pasid)
    try tables.unmap(range)
  }
}

@_cdecl("iommu_tables_create_calgary")
public func createCalgaryTables(
  _ memory: Handle?, _ options: UnsafePointer<iommu_calgary_options>?,
  _ tables: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  func make<Memory: WritableMemory>(_ memory: Memory) throws -> any BuiltTables {
    let options = try structure(options, "iommu_calgary_options")
    try requireZero(options.reserved)
    let size = options.table_size == 0 ? 1 << 20 : options.table_size
    guard let size = Calgary.TableSize.allCases.first(where: { $0.byteCount == size }) else {
      throw CallError.argument(
        "table_size is \(hexadecimal(size)): a TCE table has 64 KiB to 8 MiB, a power of two")
    }
    return CalgaryTables(
      try Calgary.Tables(
        in: memory, model: options.is_calioc2 == 0 ? .calgary : .calioc2,
        bridges: options.bridges == nil
          ? [0...255] : try bridges(options.bridges, options.bridge_count).map(buses),
        size: size, allocator: try pool(options.table_range)))
  }
  return createTables(memory, tables, flat: { try make($0) }, called: { try make($0) })
}

@_cdecl("iommu_tables_create_gart")
public func createGARTTables(
  _ memory: Handle?, _ options: UnsafePointer<iommu_gart_options>?,
  _ tables: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  func make<Memory: WritableMemory>(_ memory: Memory) throws -> any BuiltTables {
    let options = try structure(options, "iommu_gart_options")
    try requireZero(options.reserved)
    return GARTTables(
      try GART.Tables(
        in: memory, base: options.base == 0 ? IOVA(0x8000_0000) : IOVA(options.base),
        order: Int(options.order), allocator: try pool(options.table_range)))
  }
  return createTables(memory, tables, flat: { try make($0) }, called: { try make($0) })
}

@_cdecl("iommu_tables_free")
public func freeTables(_ tables: Handle?) -> iommu_status { free(tables, .tables) }

// MARK: Mapping

@_cdecl("iommu_tables_map")
public func mapTables(
  _ tables: Handle?, _ device: iommu_device, _ pasid: UInt32, _ iova: UInt64, _ physical: UInt64,
  _ size: UInt64, _ flags: UInt32
) -> iommu_status {
  call {
    let tables = try object(tables, as: CTables.self)
    let device = try PCI.Function(device)
    let pasid = try PASID.given(pasid)
    let request = try MapRequest(iova, physical, size, flags)
    try tables.ask { try $0.map(device, pasid, request) }
  }
}

@_cdecl("iommu_tables_map_identity")
public func mapIdentity(
  _ tables: Handle?, _ device: iommu_device, _ pasid: UInt32, _ physical: UInt64, _ size: UInt64,
  _ flags: UInt32
) -> iommu_status {
  mapTables(tables, device, pasid, physical, physical, size, flags)
}

@_cdecl("iommu_tables_unmap")
public func unmapTables(
  _ tables: Handle?, _ device: iommu_device, _ pasid: UInt32, _ iova: UInt64, _ size: UInt64
) -> iommu_status {
  call {
    let tables = try object(tables, as: CTables.self)
    let device = try PCI.Function(device)
    let pasid = try PASID.given(pasid)
    let range = try iovas(iova, size)
    try tables.ask { try $0.unmap(device, pasid, range) }
  }
}

// MARK: Domains

private func withDomains(
  _ tables: Handle?, _ body: (any BuiltDomains) throws -> Void
) -> iommu_status {
  call {
    try object(tables, as: CTables.self).ask { tables in
      guard let domains = tables.domains else {
        throw CallError.unsupported("this hardware has no domains: map for a device")
      }
      try body(domains)
    }
  }
}

@_cdecl("iommu_tables_create_domain")
public func createDomain(
  _ tables: Handle?, _ kind: iommu_domain_kind, _ levels: Int32, _ host: UInt16,
  _ domain: UnsafeMutablePointer<UInt16>?
) -> iommu_status {
  withDomains(tables) { domains in
    let domain = try require(domain, "domain")
    let levels = try IOMMUForC.levels(levels)
    let asked: DomainKind
    switch Int(kind) {
    case IOMMU_DOMAIN_HOST: asked = .host(levels: levels)
    case IOMMU_DOMAIN_PROCESS: asked = .process(levels: levels)
    case IOMMU_DOMAIN_NESTED: asked = .nested(levels: levels, host: host)
    case IOMMU_DOMAIN_PASS_THROUGH: asked = .passThrough
    default: throw CallError.argument("kind is \(kind): there is no such domain")
    }
    domain.pointee = try domains.makeDomain(asked)
  }
}

@_cdecl("iommu_tables_remove_domain")
public func removeDomain(_ tables: Handle?, _ domain: UInt16) -> iommu_status {
  withDomains(tables) { try $0.removeDomain(domain) }
}

@_cdecl("iommu_tables_map_domain")
public func mapDomain(
  _ tables: Handle?, _ domain: UInt16, _ iova: UInt64, _ physical: UInt64, _ size: UInt64,
  _ flags: UInt32
) -> iommu_status {
  withDomains(tables) {
    try $0.map(in: domain, try MapRequest(iova, physical, size, flags))
  }
}

@_cdecl("iommu_tables_unmap_domain")
public func unmapDomain(
  _ tables: Handle?, _ domain: UInt16, _ iova: UInt64, _ size: UInt64
) -> iommu_status {
  withDomains(tables) { try $0.unmap(in: domain, try iovas(iova, size)) }
}

@_cdecl("iommu_tables_bind")
public func bindDevice(
  _ tables: Handle?, _ device: iommu_device, _ pasid: UInt32, _ domain: UInt16
) -> iommu_status {
  withDomains(tables) {
    try $0.bind(try PCI.Function(device), try PASID.given(pasid), to: domain)
  }
}

@_cdecl("iommu_tables_unbind")
public func unbindDevice(_ tables: Handle?, _ device: iommu_device, _ pasid: UInt32) -> iommu_status
{
  withDomains(tables) { try $0.unbind(try PCI.Function(device), try PASID.given(pasid)) }
}

// MARK: What they make

@_cdecl("iommu_tables_root")
public func tablesRoot(_ tables: Handle?, _ value: UnsafeMutablePointer<UInt64>?) -> iommu_status {
  call {
    let tables = try object(tables, as: CTables.self)
    try require(value, "value").pointee = tables.tables.root
  }
}

@_cdecl("iommu_tables_machine")
public func tablesMachine(_ tables: Handle?, _ machine: UnsafeMutablePointer<Handle?>?)
  -> iommu_status
{
  create(machine, "machine") {
    CMachine(try object(tables, as: CTables.self).tables.machine)
  }
}

@_cdecl("iommu_tables_page_count")
public func tablesPageCount(_ tables: Handle?, _ count: UnsafeMutablePointer<Int>?) -> iommu_status
{
  withDomains(tables) { try require(count, "count").pointee = $0.tablePageCount }
}
