// swift-tools-version: 6.2
import PackageDescription

// A client of the library, as anybody could write one.
let formats = Target.Dependency.product(name: "IOMMUFormats", package: "swift-iommu")
let package = Package(
  name: "acpi-tables",
  dependencies: [.package(name: "swift-iommu", path: "../..")],
  targets: [
    .target(name: "Random"),
    .executableTarget(name: "dmar", dependencies: [formats, "Random"]),
    .executableTarget(name: "ivrs", dependencies: [formats, "Random"]),
  ])
