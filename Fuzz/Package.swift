// swift-tools-version: 6.2
import PackageDescription

// A package of its own: everything in it, the libraries too, is built with the sanitizers' counters.
// `make fuzz` builds the archive and links it with libFuzzer, whose `main` is not SwiftPM's.
let package = Package(
  name: "fuzz",
  products: [.library(name: "FuzzTargets", type: .static, targets: ["FuzzTargets"])],
  dependencies: [.package(name: "swift-iommu", path: "../")],
  targets: [
    .target(
      name: "Harness",
      dependencies: [
        .product(name: "IOMMUFormats", package: "swift-iommu"),
        .product(name: "IOMMUTranslation", package: "swift-iommu"),
        .product(name: "IOMMUImages", package: "swift-iommu"),
      ],
      path: "Shared/Harness"),
    .target(name: "FuzzTargets", dependencies: ["Harness"]),
  ],
  swiftLanguageModes: [.v6]
)
