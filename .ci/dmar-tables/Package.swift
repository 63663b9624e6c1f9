// swift-tools-version: 6.2
import PackageDescription

// A client of the library, as anybody could write one.
let package = Package(
  name: "dmar-tables",
  dependencies: [.package(name: "swift-iommu", path: "../..")],
  targets: [
    .executableTarget(
      name: "tables", dependencies: [.product(name: "IOMMUFormats", package: "swift-iommu")])
  ])
