import IOMMUFormats

/// Builders of units whose devices are in domains, for what works on those of any such unit. What each does,
/// the builders say.
package protocol DomainTables: AnyObject {
  associatedtype Domain
  associatedtype Kind

  var machine: Machine { get }
  var tablePageCount: Int { get }

  func makeDomain(
    _ kind: Kind, id: UInt16?, guestTables: PhysicalAddress?
  ) throws(TablesError) -> Domain
  func id(of domain: Domain) -> UInt16
  func remove(_ domain: Domain) throws(TablesError)
  func bind(_ device: PCI.Function, pasid: PASID?, to domain: Domain) throws(TablesError)
  func unbind(_ device: PCI.Function, pasid: PASID?) throws(TablesError)
  func map(
    _ device: PCI.Function, pasid: PASID?, at iova: IOVA, _ range: Range<PhysicalAddress>,
    _ permissions: Permissions, attributes: PageAttributes?, sizes: PageSizes
  ) throws(TablesError)
  func map(
    in domain: Domain, at iova: IOVA, _ range: Range<PhysicalAddress>, _ permissions: Permissions,
    attributes: PageAttributes?, sizes: PageSizes
  ) throws(TablesError)
  func remap(
    _ device: PCI.Function, pasid: PASID?, at iova: IOVA, _ range: Range<PhysicalAddress>,
    _ permissions: Permissions, attributes: PageAttributes?, sizes: PageSizes
  ) throws(TablesError)
  func remap(
    in domain: Domain, at iova: IOVA, _ range: Range<PhysicalAddress>, _ permissions: Permissions,
    attributes: PageAttributes?, sizes: PageSizes
  ) throws(TablesError)
  func unmap(
    _ device: PCI.Function, pasid: PASID?, _ range: Range<IOVA>, partly: PartlyChangedPage
  ) throws(TablesError)
  func unmap(
    in domain: Domain, _ range: Range<IOVA>, partly: PartlyChangedPage
  ) throws(TablesError)
}

extension VTd.Tables: DomainTables {
  package typealias Kind = VTd.Domain.Kind
  package func id(of domain: VTd.Domain) -> UInt16 { domain.id }
}

extension AMDVi.Tables: DomainTables {
  package typealias Kind = AMDVi.Domain.Kind
  package func id(of domain: AMDVi.Domain) -> UInt16 { domain.id }
}
