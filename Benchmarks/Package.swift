// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that nobody who uses the libraries builds the measurements.
let package = Package(
  name: "benchmarks",
  dependencies: [
    .package(name: "swift-iommu", path: "../")
  ],
  targets: [
    // What plain C reaches on the same tables.
    .target(name: "CReference", cSettings: [.unsafeFlags(["-O3"])]),
    .target(
      name: "BenchmarkSupport",
      dependencies: [
        "CReference",
        .product(name: "IOMMUFormats", package: "swift-iommu"),
        .product(name: "IOMMUTranslation", package: "swift-iommu"),
        .product(name: "IOMMUHardware", package: "swift-iommu"),
        .product(name: "IOMMUWorkloads", package: "swift-iommu"),
      ]),
    .executableTarget(name: "goals", dependencies: ["BenchmarkSupport"], path: "Sources/Goals"),
    // Every hot function, for check.py to count its instructions and calls. Linked without debug
    // information: valgrind does not read all that Swift writes.
    .executableTarget(
      name: "counts", dependencies: ["BenchmarkSupport"], path: "Sources/Counts",
      linkerSettings: [.unsafeFlags(["-Xlinker", "--strip-debug"])]),
    .executableTarget(
      name: "unit",
      dependencies: [
        .product(name: "IOMMUFormats", package: "swift-iommu"),
        .product(name: "IOMMUTranslation", package: "swift-iommu"),
        .product(name: "IOMMUHardware", package: "swift-iommu"),
      ], path: "Sources/Unit"),
    // What opening and reading dumps costs: `image-readers DUMP...`.
    .executableTarget(
      name: "image-readers",
      dependencies: [
        .product(name: "IOMMUFormats", package: "swift-iommu"),
        .product(name: "IOMMUImages", package: "swift-iommu"),
      ],
      path: "Sources/ImageReaders"),
  ],
  swiftLanguageModes: [.v6]
)
