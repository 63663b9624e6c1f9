@_exported import IOMMUTestSupport
