// swift-tools-version: 6.3
import PackageDescription

// `make` sets IOMMU_STRICT: the project's own builds refuse warnings.
let strict: [SwiftSetting] =
  Context.environment["IOMMU_STRICT"] == nil ? [] : [.treatAllWarnings(as: .error)]
let settings: [SwiftSetting] = [.enableUpcomingFeature("ExistentialAny")] + strict

/// Each is a target of ordo-one's benchmark plugin, which looks for them directly in `Benchmarks`.
let subjects = [
  "Walk", "Batch", "IOTLB", "Port", "Growth", "AMDVi", "TCE", "GART", "Mapping", "Invalidate",
  "Maps", "Dumps", "Unit", "Crash", "Threads", "Library",
]

// A package of its own, so that nobody who uses the libraries builds the measurements. Older toolchains
// than 6.3 get an ordo-one package that wants another swift-argument-parser than the tool does.
let package = Package(
  name: "benchmarks",
  dependencies: [
    .package(name: "swift-iommu", path: "../"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    // Without its traits: nothing takes the place of malloc while times are taken.
    .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
  ],
  targets: [
    // What plain C reaches on the same tables.
    .target(name: "CReference", cSettings: [.unsafeFlags(["-O3"])]),
    // Other people's libraries, found when the program runs, and never linked.
    .target(name: "CPeers", cSettings: [.unsafeFlags(["-O3"])]),
    // Every subject's contenders, workloads and goals.
    .target(
      name: "BenchmarkSupport",
      dependencies: [
        "CReference", "CPeers",
        .product(name: "IOMMUFormats", package: "swift-iommu"),
        .product(name: "IOMMUTranslation", package: "swift-iommu"),
        .product(name: "IOMMUImages", package: "swift-iommu"),
        .product(name: "IOMMUInspection", package: "swift-iommu"),
        .product(name: "IOMMUHardware", package: "swift-iommu"),
        .product(name: "IOMMUKdump", package: "swift-iommu"),
        .product(name: "IOMMUWorkloads", package: "swift-iommu"),
      ],
      swiftSettings: settings),
    // The subjects as benchmarks of ordo-one's package.
    .target(
      name: "BenchmarkRegistration",
      dependencies: ["BenchmarkSupport", .product(name: "Benchmark", package: "benchmark")],
      swiftSettings: settings),
    // The subjects as one table of times and goals.
    .executableTarget(
      name: "goals",
      dependencies: [
        "BenchmarkSupport",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/Goals", swiftSettings: settings),
    // Every hot function, for check.py to count its instructions and calls. Linked without debug
    // information: valgrind does not read all that Swift writes.
    .executableTarget(
      name: "counts", dependencies: ["BenchmarkSupport"], path: "Sources/Counts",
      swiftSettings: settings,
      linkerSettings: [.unsafeFlags(["-Xlinker", "--strip-debug"])]),
  ]
    + subjects.map { subject in
      .executableTarget(
        name: subject,
        dependencies: [
          "BenchmarkRegistration", .product(name: "Benchmark", package: "benchmark"),
        ],
        path: subject, swiftSettings: settings,
        plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")])
    },
  swiftLanguageModes: [.v6]
)
