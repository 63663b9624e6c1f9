// swift-tools-version: 6.2
import PackageDescription

// `make` sets IOMMU_STRICT: the project's own builds refuse warnings, those of its users never do.
let strict: [SwiftSetting] =
  Context.environment["IOMMU_STRICT"] == nil ? [] : [.treatAllWarnings(as: .error)]
let settings: [SwiftSetting] = [.enableUpcomingFeature("ExistentialAny")] + strict

let package = Package(
  name: "swift-iommu",
  products: [
    .library(name: "IOMMUFormats", targets: ["IOMMUFormats"]),
    .library(name: "IOMMUTranslation", targets: ["IOMMUTranslation"]),
    .library(name: "IOMMUImages", targets: ["IOMMUImages"]),
    .library(name: "IOMMUHardware", targets: ["IOMMUHardware"]),
    .library(name: "IOMMULinux", targets: ["IOMMULinux"]),
    .library(name: "IOMMURule", targets: ["IOMMURule"]),
    .library(name: "IOMMUKdump", targets: ["IOMMUKdump"]),
    .library(name: "IOMMUInspection", targets: ["IOMMUInspection"]),
    .library(name: "IOMMUWorkloads", targets: ["IOMMUWorkloads"]),
    .library(name: "IOMMUTesting", targets: ["IOMMUTesting"]),
    .executable(name: "iommu", targets: ["iommu"]),
    // The objects of libiommu, which the Makefile links: `make library`.
    .library(name: "IOMMUForC", type: .static, targets: ["IOMMUForC"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    // Floor 0: every entry and register to the bit, and the flat memory they lie in.
    .target(name: "CIOMMUAtomics"),
    .target(
      name: "IOMMUFormats", dependencies: ["CIOMMUAtomics"],
      swiftSettings: settings + [.strictMemorySafety()]),
    // Floor 1: one walker and one translation call; dumps as memory.
    .target(
      name: "IOMMUTranslation", dependencies: ["IOMMUFormats"],
      swiftSettings: settings + [.strictMemorySafety()]),
    .target(
      name: "IOMMUImages", dependencies: ["IOMMUFormats", "IOMMUTranslation"],
      swiftSettings: settings + [.strictMemorySafety()]),
    // Floor 2: units with registers that are written and caches that remember; firmware tables.
    .target(
      name: "IOMMUHardware", dependencies: ["CIOMMUAtomics", "IOMMUFormats", "IOMMUTranslation"],
      swiftSettings: settings + [.strictMemorySafety()]),
    .target(
      name: "IOMMURule", dependencies: ["IOMMUFormats", "IOMMUTranslation"],
      swiftSettings: settings + [.strictMemorySafety()]),
    // What a kernel says of itself in its own memory.
    .target(
      name: "IOMMULinux", dependencies: ["IOMMUFormats", "IOMMUImages"],
      swiftSettings: settings + [.strictMemorySafety()]),
    // Floor 3: kernels and crashes; tables as words for people.
    .target(
      name: "IOMMUKdump",
      dependencies: [
        "IOMMUFormats", "IOMMUTranslation", "IOMMUHardware", "IOMMURule", "IOMMUWorkloads",
      ],
      swiftSettings: settings + [.strictMemorySafety()]),
    .target(
      name: "IOMMUInspection",
      dependencies: [
        "IOMMUFormats", "IOMMUTranslation", "IOMMUImages", "IOMMULinux", "IOMMURule",
      ],
      swiftSettings: settings + [.strictMemorySafety()]),
    // Recordings of real drivers and units, played against the modelled ones; beside Kdump, whose
    // drivers run along.
    .target(
      name: "IOMMUConformance",
      dependencies: [
        "IOMMUFormats", "IOMMUTranslation", "IOMMUImages", "IOMMUHardware", "IOMMUKdump",
      ],
      swiftSettings: settings + [.strictMemorySafety()]),
    // Tables and addresses that measurements and tests translate.
    .target(
      name: "IOMMUWorkloads",
      dependencies: ["IOMMUFormats", "IOMMUTranslation", "IOMMUHardware"],
      swiftSettings: settings + [.strictMemorySafety()]),
    // Floor 4: the command line.
    .target(
      name: "IOMMUCommands",
      dependencies: [
        "IOMMUFormats", "IOMMUTranslation", "IOMMUImages", "IOMMULinux", "IOMMUHardware",
        "IOMMURule", "IOMMUKdump", "IOMMUInspection", "IOMMUConformance", "IOMMUWorkloads",
        "IOMMUTesting", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: settings),
    .executableTarget(name: "iommu", dependencies: ["IOMMUCommands"], swiftSettings: settings),
    // The same for C, by handles. All that it does is to take C's pointers and give some: what is said of
    // each stands in iommu.h.
    .target(name: "CIOMMU"),
    .target(
      name: "IOMMUForC",
      dependencies: [
        "CIOMMU", "IOMMUFormats", "IOMMUTranslation", "IOMMUImages", "IOMMUHardware", "IOMMURule",
        "IOMMUInspection",
      ], swiftSettings: settings),
    // What other projects' tests expect of tables.
    .target(
      name: "IOMMUTesting",
      dependencies: ["IOMMUFormats", "IOMMUTranslation", "IOMMUInspection", "IOMMUWorkloads"],
      swiftSettings: settings + [.strictMemorySafety()]),

    // What several test targets need.
    .target(
      name: "IOMMUTestSupport", dependencies: ["IOMMUFormats", "IOMMUTranslation"],
      path: "Tests/IOMMUTestSupport", swiftSettings: settings),
    // Kernels in memory that tests make up.
    .target(
      name: "IOMMUKernelTestSupport",
      dependencies: ["IOMMUFormats", "IOMMUImages", "IOMMULinux", "IOMMUTestSupport"],
      path: "Tests/IOMMUKernelTestSupport", swiftSettings: settings),
    .testTarget(
      name: "IOMMUFormatsTests", dependencies: ["IOMMUFormats", "IOMMUTestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "IOMMUTranslationTests", dependencies: ["IOMMUTranslation", "IOMMUTestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "IOMMUImagesTests", dependencies: ["IOMMUImages", "IOMMUTestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "IOMMUHardwareTests", dependencies: ["IOMMUHardware", "IOMMUTestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "IOMMULinuxTests",
      dependencies: ["IOMMULinux", "IOMMUKernelTestSupport", "IOMMUTestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "IOMMURuleTests",
      dependencies: ["IOMMURule", "IOMMUKdump", "IOMMUTestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "IOMMUKdumpTests", dependencies: ["IOMMUKdump", "IOMMUTestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "IOMMUInspectionTests",
      dependencies: [
        "IOMMUInspection", "IOMMULinux", "IOMMURule", "IOMMUImages", "IOMMUTestSupport",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "IOMMUTestingTests", dependencies: ["IOMMUTesting", "IOMMUTestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "IOMMUConformanceTests",
      dependencies: ["IOMMUConformance", "IOMMUImages", "IOMMUTestSupport"],
      swiftSettings: settings),
    // What the documentation shows, run.
    .testTarget(
      name: "DocumentationTests",
      dependencies: [
        "IOMMUCommands", "IOMMUFormats", "IOMMUHardware", "IOMMUImages", "IOMMUTesting",
        "IOMMUTranslation", "IOMMUTestSupport",
      ],
      swiftSettings: settings),
    // Arbitrary input for all that reads from outside or faces a guest, and what it ever ended badly.
    .target(
      name: "FuzzHarness",
      dependencies: [
        "IOMMUFormats", "IOMMUTranslation", "IOMMUImages", "IOMMULinux", "IOMMUHardware",
        "IOMMURule", "IOMMUInspection", "IOMMUConformance", "IOMMUCommands", "IOMMUTestSupport",
      ],
      path: "Fuzz/Harness", swiftSettings: settings),
    .testTarget(
      name: "FuzzRegressionTests", dependencies: ["FuzzHarness", "IOMMUTestSupport"],
      path: "Fuzz/RegressionTests", swiftSettings: settings),
    .testTarget(
      name: "IOMMUCommandsTests",
      dependencies: [
        "IOMMUCommands", "IOMMUTesting", "IOMMUKernelTestSupport", "IOMMUTestSupport",
      ],
      swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6]
)

// `make fuzz` and `make soak`: programs of their own, for nobody else to build.
if Context.environment["IOMMU_FUZZ"] != nil {
  package.products.append(
    .library(name: "LibFuzzerTargets", type: .static, targets: ["LibFuzzerTargets"]))
  package.targets += [
    // Links with libFuzzer, whose `main` is not SwiftPM's.
    .target(
      name: "LibFuzzerTargets", dependencies: ["FuzzHarness"], path: "Fuzz/LibFuzzer",
      swiftSettings: settings),
    .executableTarget(
      name: "soak",
      dependencies: ["IOMMUFormats", "IOMMUTranslation", "IOMMUHardware", "IOMMUKdump"],
      path: "Fuzz/Soak", swiftSettings: settings),
  ]
}

// `.ci/tsan`: the tests of what threads share, and what those need.
if Context.environment["IOMMU_TSAN"] != nil {
  let isTested: Set = [
    "CIOMMUAtomics", "IOMMUFormats", "IOMMUTranslation", "IOMMUImages", "IOMMUHardware",
    "IOMMURule", "IOMMULinux", "IOMMUInspection", "IOMMUTestSupport", "IOMMUFormatsTests",
    "IOMMUTranslationTests", "IOMMUHardwareTests", "IOMMUInspectionTests",
  ]
  package.targets.removeAll { !isTested.contains($0.name) }
  package.products = []
}
