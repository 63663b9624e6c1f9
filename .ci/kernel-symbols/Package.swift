// swift-tools-version: 6.2
import PackageDescription

// A client of the library, as anybody could write one.
let package = Package(
  name: "kernel-symbols",
  dependencies: [.package(name: "swift-iommu", path: "../..")],
  targets: [
    .executableTarget(
      name: "symbols",
      dependencies: [
        .product(name: "IOMMUImages", package: "swift-iommu"),
        .product(name: "IOMMULinux", package: "swift-iommu"),
      ])
  ])
