import BenchmarkRegistration
import BenchmarkSupport

let benchmarks: @Sendable () -> Void = { register(.library) }
