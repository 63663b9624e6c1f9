// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that nobody who uses the libraries builds the measurements.
let package = Package(
  name: "benchmarks",
  dependencies: [.package(name: "swift-iommu", path: "../")],
  targets: [
    .executableTarget(
      name: "translate-benchmark",
      dependencies: [
        .product(name: "IOMMUFormats", package: "swift-iommu"),
        .product(name: "IOMMUTranslation", package: "swift-iommu"),
      ],
      path: "Sources/TranslateBenchmark")
  ],
  swiftLanguageModes: [.v6]
)
